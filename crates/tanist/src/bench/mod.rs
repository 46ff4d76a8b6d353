//! `tanist bench`: a module for each thing that can be measured.

mod server;

use crate::cli::bench::BenchCommand;
use crate::commands::Outcome;
use crate::output::Screen;

/// Measures what was asked for.
///
/// # Errors
/// [`Failure`](crate::failure::Failure) if it could not be measured; what was started is then stopped.
pub fn run(command: &BenchCommand, screen: &Screen) -> Outcome {
    match command {
        BenchCommand::Server(args) => server::run(args, screen),
    }
}
