//! What the project demands of its own text, as programs: `cargo run -p xtask -- imports`, `-- style`, `-- links`.
//!
//! A rule that nobody runs is a wish. The same checks are tests of this crate, so `make test` fails where a rule is broken, and
//! each rule has a test in which a planted offence is found.

#![forbid(unsafe_code)]

mod finding;
mod imports;
mod links;
mod manifest;
mod rule;
mod style;
mod table;
mod workspace;

use std::process::ExitCode;

use anyhow::Context as _;

use finding::Finding;
use workspace::Workspace;

const USAGE: &str = "usage: cargo run -p xtask -- imports | style | links
  imports  no crate imports beyond its row of the table in ARCHITECTURE.md
  style    every source file keeps the rules of CONTRIBUTING.md that a program can check
  links    the links between the project's pages lead somewhere";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let names: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let found = match names.as_slice() {
        ["imports"] => look(imports::check),
        ["style"] => look(style::check),
        ["links"] => look(links::check),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    report(found)
}

fn look(check: fn(&Workspace) -> anyhow::Result<Vec<Finding>>) -> anyhow::Result<Vec<Finding>> {
    check(&Workspace::of_this_checkout())
}

fn report(found: anyhow::Result<Vec<Finding>>) -> ExitCode {
    match found.context("the check itself failed") {
        Ok(findings) if findings.is_empty() => {
            println!("no findings");
            ExitCode::SUCCESS
        }
        Ok(findings) => {
            findings.iter().for_each(|finding| println!("{finding}"));
            println!("{} findings", findings.len());
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
