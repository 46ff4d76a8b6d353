//! `tanist bench`.

mod data;

use super::Outcome;
use super::session::Session;
use crate::cli::bench::BenchCommand;

pub fn run(command: BenchCommand, session: &Session<'_>) -> Outcome {
    match command {
        BenchCommand::Data(args) => data::run(&args, session),
        BenchCommand::Sink(args) => data::sink(&args, session),
        BenchCommand::Server(args) => crate::bench::server::run(&args, session.screen),
    }
}
