//! The operator's side of tanist: what can be typed ([`cli`]), how the server is asked ([`client`]), what each command does
//! ([`commands`]), what can be declared in a file ([`declared`]) and how its answer looks ([`output`]).
//!
//! Rendering is pure: a view and a style go in, text comes out. Only [`commands`] and [`client`] do I/O.

#![forbid(unsafe_code)]

mod bench;
pub mod cli;
pub mod client;
pub mod commands;
pub mod declared;
mod demo;
pub mod failure;
pub mod output;
mod own_process;
pub mod paths;

use std::process::ExitCode;

use clap::Parser as _;

/// Parses the command line, does what it says and returns the exit status that `tanist --help` documents.
#[must_use]
pub fn main() -> ExitCode {
    // Not a command: an agent starts its own program as the guard of an application that it quiesces.
    if std::env::args_os().nth(1).is_some_and(|argument| argument == tanist_agent::GUARD_COMMAND) {
        return tanist_agent::guard();
    }
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return misunderstood(&error),
    };
    let screen = output::Screen::new(cli.global.output);
    match commands::run(cli, &screen) {
        Ok(exit) => exit,
        Err(failure) if failure.is_closed_pipe() => ExitCode::SUCCESS,
        Err(failure) => {
            screen.failure(&failure);
            failure.exit_code()
        }
    }
}

/// Help and version are no errors. Of `status` a 2 says that something is stopped, to whoever watches: a wrong command line is a 3 there.
fn misunderstood(error: &clap::Error) -> ExitCode {
    // Where standard error is closed there is nobody to tell.
    let _ = error.print();
    let asks_status = std::env::args_os().skip(1).any(|argument| argument == "status");
    match error.exit_code() {
        0 => ExitCode::SUCCESS,
        _ if asks_status => ExitCode::from(3),
        _ => ExitCode::from(2),
    }
}
