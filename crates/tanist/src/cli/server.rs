//! `tanist server` and `tanist demo`: what starts a server.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use tanist_model::api::{Refusal, RefusalCode};
use tanist_model::id::AlarmName;

use super::values;
use super::values::Bandwidth;

use crate::paths::Environment;

#[derive(Subcommand, Debug)]
pub enum ServerCommand {
    /// Make a certificate authority, a store and an operator's credential, and print the next line to type.
    Init(ServerInitArgs),
    /// Run the server.
    Run(ServerRunArgs),
    /// Have the running server write a backup of its store.
    Backup {
        /// An absolute path on the server's host; the file must not exist.
        #[arg(value_parser = values::absolute_path)]
        file: String,
    },
    /// Who is told of what happens, as server.toml has it.
    #[command(subcommand)]
    Alarm(AlarmCommand),
    /// Put a backup in place of a stopped server's store.
    ///
    /// No agent is granted anything until every known agent has shown its highest epochs.
    Restore(ServerRestoreArgs),
}

#[derive(Subcommand, Debug)]
pub enum AlarmCommand {
    /// List the configured alarms, and how their deliveries get on.
    List,
    /// Deliver a test now, and say whether it arrived.
    Test {
        /// The alarm.
        name: AlarmName,
    },
}

#[derive(Args, Debug)]
pub struct ServerInitArgs {
    #[command(flatten)]
    pub place: ServerPlace,
    /// Where the server will listen.
    #[arg(long, value_name = "ADDR:PORT", default_value = "0.0.0.0:7420")]
    pub listen: SocketAddr,
    /// Where agents and operators reach it, if not where it listens. May be given more than once.
    #[arg(long, value_name = "HOST:PORT", value_parser = values::host_port)]
    pub advertise: Vec<String>,
}

#[derive(Args, Debug)]
pub struct ServerRunArgs {
    #[command(flatten)]
    pub place: ServerPlace,
}

#[derive(Args, Debug)]
pub struct ServerRestoreArgs {
    #[command(flatten)]
    pub place: ServerPlace,
    /// What `tanist server backup` wrote.
    pub file: PathBuf,
}

/// Where a server keeps what it must not lose.
#[derive(Args, Debug)]
pub struct ServerPlace {
    /// The server's directory. Without it: /var/lib/tanist/server for root, else $XDG_DATA_HOME/tanist/server.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub struct DemoArgs {
    /// Copy this file instead of a made one.
    #[arg(long, value_name = "FILE")]
    pub source: Option<PathBuf>,
    /// Copy to this file instead of a made one.
    #[arg(long, value_name = "FILE")]
    pub target: Option<PathBuf>,
    /// Size of the made volumes.
    #[arg(long, value_name = "SIZE", default_value = "512MiB", value_parser = values::size, conflicts_with = "source")]
    pub size: u64,
    /// Rate limit that makes the takeover visible.
    #[arg(long, value_name = "RATE")]
    pub limit: Option<Bandwidth>,
    /// Where the demonstration keeps its files. Without it: a new directory below the system's temporary one.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Leave server and agents running at the end.
    #[arg(long)]
    pub keep: bool,
}

impl ServerPlace {
    /// The directory named, or the usual one.
    ///
    /// # Errors
    /// If there is no usual one, because the process has no home.
    pub fn folder(&self) -> Result<PathBuf, Refusal> {
        let usual = || Environment::of_process().server_dir();
        let none =
            || Refusal::new(RefusalCode::Invalid, "there is no home directory").hint("name a directory: --dir DIR");
        self.dir.clone().or_else(usual).ok_or_else(none)
    }
}
