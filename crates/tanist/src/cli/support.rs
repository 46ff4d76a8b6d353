//! `tanist support`: help from somebody who is not here.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::agent::AgentPlace;

#[derive(Subcommand, Debug)]
pub enum SupportCommand {
    /// Put into one file what somebody needs who looks from afar: every input and decision that was recorded, status, events.
    ///
    /// Keys, tokens, passwords and the arguments of scripts are not in it; the names of hosts, volumes and operators are. Its decisions
    /// can be made again: tanist-sim --replay FILE.
    Bundle(BundleArgs),
}

#[derive(Args, Debug)]
pub struct BundleArgs {
    /// The file to write. Without it: tanist-server-TIME.tar.gz (or -agent-) here.
    pub file: Option<PathBuf>,
    /// Of the agent of this host, from its directory; otherwise of the server, which is asked for it.
    #[arg(long)]
    pub agent: bool,
    #[command(flatten)]
    pub place: AgentPlace,
}
