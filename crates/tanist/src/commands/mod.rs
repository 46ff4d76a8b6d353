//! What each command does: a file per noun. A command asks the server and hands the answer to the screen; how it looks is decided
//! in [`output`](crate::output).

mod agent;
mod apply;
mod confirm;
mod drill;
mod events;
mod explain;
mod export;
mod join;
mod login;
mod paperwork;
mod record;
mod recovery_point;
mod replication;
mod restore;
mod server;
mod service;
mod session;
mod status;
mod storage;
mod support;
mod token;
mod transfer;
mod volume;
mod wait;

use std::future::Future;
use std::process::ExitCode;

use crate::cli::{Cli, Command};
use crate::failure::Failure;
use crate::output::Screen;

/// What a command ends with.
pub type Outcome = Result<ExitCode, Failure>;

/// Does what was typed.
///
/// # Errors
/// [`Failure`], which the caller shows.
pub fn run(cli: Cli, screen: &Screen) -> Outcome {
    let session = session::Session::new(cli.global.context, screen);
    match cli.command {
        Command::Server(command) => server::run(command, &session),
        Command::Agent(command) => agent::run(command, &session),
        Command::Bench(command) => crate::bench::run(&command, screen),
        Command::Demo(args) => ask(crate::demo::run(&args, session.screen)),
        Command::Token(command) => ask(token::run(command, &session)),
        Command::Login(args) => ask(login::run(args, &session)),
        Command::Storage(command) => ask(storage::run(command, &session)),
        Command::Volume(command) => ask(volume::run(command, &session)),
        Command::Replication(command) => ask(replication::run(command, &session)),
        Command::Apply(args) => ask(apply::run(args, &session)),
        Command::Transfer(args) => ask(transfer::run(args, &session)),
        Command::Restore(args) => ask(restore::run(args, &session)),
        Command::RecoveryPoint(command) => ask(recovery_point::run(command, &session)),
        Command::VerifyRecord(args) => record::verify(&args, &session),
        Command::Events(args) => ask(events::run(args, &session)),
        Command::Support(command) => ask(support::run(command, &session)),
        Command::Status => ask(status::run(&session)),
        Command::Explain(args) => explain::run(&args, &session),
        Command::Completions(args) => paperwork::completions(&args, screen),
        Command::Man(args) => paperwork::man(&args, screen),
    }
}

/// Runs a command that asks the server: one thread is plenty.
fn ask(command: impl Future<Output = Outcome>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|source| Failure::io("start the runtime", source))?.block_on(command)
}
