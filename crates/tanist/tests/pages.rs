//! What the pages of the events tell an operator to type at 3 a.m. has to be there.

use clap::Parser as _;
use clap::error::ErrorKind;
use tanist::cli::Cli;
use tanist::output::explain::page;
use tanist_model::event::EventCode;

#[test]
fn every_command_of_a_page_can_be_typed() {
    for code in EventCode::ALL {
        for line in page(*code).unwrap().lines().filter_map(|line| line.strip_prefix("    tanist ")) {
            let typed = line.split(" #").next().unwrap().trim();
            assert!(is_understood(typed), "{code}: tanist {typed}");
        }
    }
}

/// Placeholders stand for values that the command would take.
fn is_understood(typed: &str) -> bool {
    let filled = typed.replace("HOST:PORT", "h:1").replace("NAME", "n").replace("AGENT", "a");
    match Cli::try_parse_from(std::iter::once("tanist").chain(filled.split_whitespace())) {
        Ok(_) => true,
        Err(error) => error.kind() == ErrorKind::DisplayVersion,
    }
}
