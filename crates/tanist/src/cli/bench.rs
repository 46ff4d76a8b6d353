//! `tanist bench`: what can be measured.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::values::WaitLimit;

/// More agents than the server lets in at once, operators included, are none.
const MOST_AGENTS: u64 = 16_000;

#[derive(Subcommand, Debug)]
pub enum BenchCommand {
    /// Try a server with thousands of simulated agents: memory and CPU, a thousand takeovers at once, a restart of the server.
    ///
    /// Starts a server of its own on a free port of this host, with a store in a new directory, and has agents join it that live in this
    /// process: with certificates, TLS and messages of their own, and without storage. No installation is touched, and nothing is left
    /// behind.
    Server(BenchServerArgs),
}

#[derive(Args, Debug)]
pub struct BenchServerArgs {
    /// How many agents: one measurement for each number, each with a new server.
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "100,1000,10000")]
    #[arg(value_parser = clap::value_parser!(u64).range(2..=MOST_AGENTS))]
    pub agents: Vec<u64>,
    /// How many replications, two agents each. Without it: one for every ten agents.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=MOST_AGENTS / 2))]
    pub replications: Option<u64>,
    /// For so long the server is watched with all agents connected and none of them with a role.
    #[arg(long, value_name = "TIME", default_value = "20s")]
    pub idle: WaitLimit,
    /// A new directory for the server and its store, removed at the end. Without it: one below the system's temporary one.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}
