//! What can be typed: the command tree, frozen by a test. Nothing here acts.

pub mod agent;
pub mod bench;
pub mod moment;
pub mod policy;
pub mod replication;
pub mod server;
pub mod support;
pub mod values;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use tanist_model::event::EventCode;
use tanist_model::id::{AgentName, ReplicationName};

use agent::{AgentCommand, AgentPlace};
use bench::BenchCommand;
use replication::{ReplicationCommand, RestoreArgs, TransferArgs};
use server::{DemoArgs, ServerCommand};
use support::SupportCommand;
use values::Bandwidth;

const EXIT_STATUS: &str = "\
Exit status:
  0  done
  1  refused or failed; the reason and what to do are on standard error
  2  the command line is wrong

`tanist status` answers like a monitoring plugin instead:
  0 all is well, 1 something is degraded, 2 something is stopped, 3 the server cannot be asked or the command line is wrong";

/// Replicates data between storage systems, and goes on when the agent that moves it fails.
#[derive(Parser, Debug)]
#[command(name = "tanist", version, propagate_version = true, arg_required_else_help = true)]
#[command(after_help = EXIT_STATUS, max_term_width = 110)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Options that every command takes.
#[derive(Args, Debug)]
pub struct Global {
    /// A table for people, or the API's own body as JSON (pretty on a terminal, compact otherwise).
    #[arg(long, short = 'o', global = true, value_enum, value_name = "FORM", default_value_t = Format::Table)]
    #[arg(help_heading = "Options of every command")]
    pub output: Format,
    /// The context that `tanist login` wrote, if not ~/.config/tanist/context.toml: which server to ask, and as whom.
    /// The variable TANIST_CONTEXT says the same.
    #[arg(long, global = true, value_name = "FILE")]
    #[arg(help_heading = "Options of every command")]
    pub context: Option<PathBuf>,
}

/// How answers look.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    Table,
    Json,
}

#[derive(Subcommand, Debug)]
pub enum Command {
    /// Start and keep a replication management server.
    #[command(subcommand)]
    Server(ServerCommand),
    /// Join and run agents, and see how they are.
    #[command(subcommand)]
    Agent(AgentCommand),
    /// Permissions to join.
    #[command(subcommand)]
    Token(TokenCommand),
    /// Trust a server and store a credential for it.
    Login(LoginArgs),
    /// Storage systems, as the agents reach them.
    #[command(subcommand)]
    Storage(StorageCommand),
    /// Volumes, as the agents reach them.
    #[command(subcommand)]
    Volume(VolumeCommand),
    /// Replications: what is copied where, and who may act for it.
    #[command(subcommand)]
    Replication(ReplicationCommand),
    /// Bring about what a file declares: replications with their policies, on storage that is expected to be reached.
    ///
    /// Shows first what differs, asks, and does it; applied again, it does nothing. What is there and not declared is left alone
    /// without --prune. Exits 1 if with --check something differs, or if something declared is impossible.
    Apply(ApplyArgs),
    /// Copy a volume once: one run of the same protocol, without a replication that stays.
    Transfer(TransferArgs),
    /// Bring a recovery point back, to any volume: one run in the other direction, by the same protocol.
    Restore(RestoreArgs),
    /// States of a source that a target holds.
    #[command(subcommand)]
    RecoveryPoint(RecoveryPointCommand),
    /// Check the signed record of a takeover offline: who signed it, that nothing in it was altered, and that all of it can be true.
    ///
    /// Asks no server. Exits 0 only if everything holds; what was checked is said, and what cannot be.
    VerifyRecord(VerifyRecordArgs),
    /// The audit log.
    Events(EventsArgs),
    /// Only what needs a human; exits 0, 1, 2 or 3 like a monitoring plugin.
    Status,
    /// Help from somebody who is not here.
    #[command(subcommand)]
    Support(SupportCommand),
    /// Print the page of an event's code, or the list of all codes.
    Explain(ExplainArgs),
    /// Print a completion script for a shell.
    Completions(CompletionsArgs),
    /// Print the manual page, or write one for every command.
    Man(ManArgs),
    /// Measure what tanist can do here.
    #[command(subcommand)]
    Bench(BenchCommand),
    /// Show takeovers at work on this machine: a server, three agents, two file-backed storage systems.
    Demo(DemoArgs),
}

#[derive(Subcommand, Debug)]
pub enum TokenCommand {
    /// Permit one host to join under a name, once, within 15 minutes; prints the line to type there.
    Create {
        /// The name that the agent will have.
        agent: AgentName,
    },
}

#[derive(Args, Debug)]
pub struct ApplyArgs {
    /// The declaration, TOML; config/valid/replications.toml is a commented sample (of the package: /etc/tanist/samples).
    #[arg(long, short, value_name = "FILE")]
    pub file: PathBuf,
    /// Only show what differs.
    #[arg(long, conflicts_with = "yes")]
    pub check: bool,
    /// Remove what is there and not declared.
    #[arg(long)]
    pub prune: bool,
    /// Do not ask. Needed where there is no terminal to ask on.
    #[arg(long, short)]
    pub yes: bool,
}

#[derive(Args, Debug)]
pub struct LoginArgs {
    /// Where the server listens.
    #[arg(value_name = "HOST:PORT", value_parser = values::host_port)]
    pub server: String,
    /// The hash of the server's certificate authority, as `tanist server init` printed it.
    #[arg(long, value_name = "HASH")]
    pub ca_hash: String,
    /// Read the credential from this file; otherwise it is asked for, or read from standard input.
    #[arg(long, value_name = "FILE")]
    pub credential_file: Option<PathBuf>,
}

#[derive(Subcommand, Debug)]
pub enum StorageCommand {
    /// List the storage systems and which agents reach them.
    List,
}

#[derive(Subcommand, Debug)]
pub enum VolumeCommand {
    /// List the volumes, what stands on them, and which replication uses them.
    List {
        /// Only those of this storage system.
        #[arg(long, value_name = "NAME")]
        storage: Option<tanist_model::id::StorageName>,
    },
}

#[derive(Subcommand, Debug)]
pub enum RecoveryPointCommand {
    /// List the recovery points of a replication that are there, newest first.
    List {
        /// The replication.
        name: ReplicationName,
        /// Also those that are gone: overwritten by a later run, or removed. (With --output json all are told, each with its place.)
        #[arg(long, short)]
        all: bool,
    },
    /// Write a recovery point into a file of this host, which has to be one whose agent reaches the target.
    ///
    /// The file has the exact size and the holes of the volume. It gets its name when it is durable and has the digest that was published;
    /// until then it is FILE.partial, which a killed export leaves and the next one begins anew. Agents and the server may die
    /// meanwhile. Run it as the user of the agent, who may read the storage.
    Export(ExportArgs),
    /// Keep a recovery point whatever the retention says.
    Pin(PointArgs),
    /// Leave a recovery point to the retention again.
    Unpin(PointArgs),
}

#[derive(Args, Debug)]
pub struct PointArgs {
    /// The replication.
    pub name: ReplicationName,
    /// The recovery point: the run that made it, as `list` shows it (its beginning is enough), or `last`.
    #[arg(value_name = "RUN")]
    pub point: String,
}

#[derive(Args, Debug)]
pub struct ExportArgs {
    /// The replication.
    pub name: ReplicationName,
    /// The recovery point: the run that made it, as `list` shows it (its beginning is enough), or `last`.
    #[arg(value_name = "RUN")]
    pub point: String,
    /// The file to write.
    pub file: PathBuf,
    /// Replace a file of that name, once the new one is whole.
    #[arg(long)]
    pub force: bool,
    /// Upper limit of what the export reads a second, as in 100MiB/s.
    #[arg(long, value_name = "RATE")]
    pub limit: Option<Bandwidth>,
    #[command(flatten)]
    pub place: AgentPlace,
}

#[derive(Args, Debug)]
pub struct VerifyRecordArgs {
    /// The file that `tanist replication record` printed; `-` for standard input.
    pub file: PathBuf,
    /// The certificate of the authority that is trusted, PEM; otherwise that of the context.
    #[arg(long, value_name = "FILE")]
    pub authority: Option<PathBuf>,
    /// The hash of that certificate, as `tanist server init` printed it.
    #[arg(long, value_name = "HASH", conflicts_with = "authority")]
    pub ca_hash: Option<String>,
}

#[derive(Args, Debug)]
pub struct EventsArgs {
    /// Go on with new events as they happen. As JSON: one event a line.
    #[arg(long, short)]
    pub follow: bool,
    /// Only events of this replication.
    #[arg(long, value_name = "NAME")]
    pub replication: Option<ReplicationName>,
    /// Events after this position instead of the latest ones.
    #[arg(long, value_name = "N")]
    pub since_seq: Option<u64>,
    /// At most so many.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: u32,
}

#[derive(Args, Debug)]
pub struct ExplainArgs {
    /// For example T409.
    #[arg(value_name = "CODE")]
    pub code: Option<EventCode>,
}

#[derive(Args, Debug)]
pub struct CompletionsArgs {
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

#[derive(Args, Debug)]
pub struct ManArgs {
    /// Write a page for every command into this directory.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}
