//! `tanist agent`: what runs on each host, and what the operator does with it.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use tanist_model::api::{Refusal, RefusalCode};
use tanist_model::id::AgentName;

use super::values;
use super::values::StorageDirectory;

use crate::paths::Environment;

#[derive(Subcommand, Debug)]
pub enum AgentCommand {
    /// Join this host to a server with the line that `tanist token create` printed.
    Join(AgentJoinArgs),
    /// Run the agent of this host.
    Run(AgentRunArgs),
    /// List the agents.
    List,
    /// Hand over everything that the agent acts for and give it nothing until it is undrained.
    Drain(AgentNameArgs),
    /// End a maintenance: the agent is available again.
    Undrain(AgentNameArgs),
    /// Revoke the agent's certificate at once. What it may still write stays unproven until it is proven quiet.
    Remove {
        /// The agent.
        name: AgentName,
        /// Do not ask. Only somebody at a terminal is asked; a script's command is carried out.
        #[arg(long, short)]
        yes: bool,
    },
    /// Vouch that nothing of the agent can write any more: its process is gone, or its host is powered off.
    ///
    /// It counts as proof of quiet, and the server cannot check it: a process that is only stopped, hung or cut off from
    /// the network looks just as dead, and writes when it wakes. If it writes after this, the target is corrupted. Look at
    /// the host itself first. What you say is recorded under your name, and refused while the server or a peer still
    /// reaches the agent.
    ConfirmDead {
        /// The agent.
        name: AgentName,
        /// Do not ask. Needed where there is no terminal to ask on.
        #[arg(long, short)]
        yes: bool,
    },
}

#[derive(Args, Debug)]
pub struct AgentNameArgs {
    /// The agent.
    pub name: AgentName,
}

#[derive(Args, Debug)]
pub struct AgentJoinArgs {
    /// Where the server listens.
    #[arg(value_name = "HOST:PORT", value_parser = values::host_port)]
    pub server: String,
    /// The one-time token.
    #[arg(long, value_name = "TOKEN")]
    pub token: String,
    /// The hash of the server's certificate authority.
    #[arg(long, value_name = "HASH")]
    pub ca_hash: String,
    #[command(flatten)]
    pub place: AgentPlace,
    /// A storage system that this host reaches: a directory with raw image files. May be given more than once.
    #[arg(long, value_name = "NAME=DIRECTORY")]
    pub storage: Vec<StorageDirectory>,
    /// Where the agent listens for its peers.
    #[arg(long, value_name = "ADDR:PORT", default_value = "0.0.0.0:7421")]
    pub listen: SocketAddr,
}

#[derive(Args, Debug)]
pub struct AgentRunArgs {
    #[command(flatten)]
    pub place: AgentPlace,
}

/// Where an agent keeps its identity.
#[derive(Args, Debug)]
pub struct AgentPlace {
    /// The agent's directory. Without it: /var/lib/tanist/agent for root, else $XDG_DATA_HOME/tanist/agent.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

impl AgentPlace {
    /// The directory named, or the usual one.
    ///
    /// # Errors
    /// If there is no usual one, because the process has no home.
    pub fn folder(&self) -> Result<PathBuf, Refusal> {
        let usual = || Environment::of_process().agent_dir();
        let none =
            || Refusal::new(RefusalCode::Invalid, "there is no home directory").hint("name a directory: --dir DIR");
        self.dir.clone().or_else(usual).ok_or_else(none)
    }
}
