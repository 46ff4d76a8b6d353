//! The operator's side of tanist: what can be typed ([`cli`]), how the server is asked ([`client`]), what each command does
//! ([`commands`]), what can be declared in a file ([`declared`]) and how its answer looks ([`output`]).
//!
//! Rendering is pure: a view and a style go in, text comes out. Only [`commands`] and [`client`] do I/O.

#![forbid(unsafe_code)]

pub mod cli;
pub mod client;
pub mod commands;
pub mod declared;
mod demo;
pub mod failure;
pub mod output;
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
    let cli = cli::Cli::parse();
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
