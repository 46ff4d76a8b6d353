//! What the project demands of its own text, as programs: `cargo run -p xtask -- imports`, `-- style`, `-- links`; the builder of its
//! package, `-- deb`; and the writer of its measured figures, `-- figures`.
//!
//! A rule that nobody runs is a wish. The same checks are tests of this crate, so `make test` fails where a rule is broken, and
//! each rule has a test in which a planted offence is found.

#![forbid(unsafe_code)]

mod deb;
mod figures;
mod finding;
mod imports;
mod links;
mod manifest;
mod rule;
mod stage;
mod style;
mod table;
mod workspace;

use std::process::ExitCode;

use anyhow::Context as _;

use finding::Finding;
use workspace::Workspace;

const USAGE: &str = "usage: cargo run -p xtask -- imports | style | links | figures | deb [--quick] PROGRAM DIR
  imports  no crate imports beyond its row of the table in ARCHITECTURE.md
  style    every source file keeps the rules of CONTRIBUTING.md that a program can check
  links    the links between the project's pages lead somewhere
  figures  writes docs/figures.md and its charts from what was measured
  deb      builds the Debian package of a compiled PROGRAM in DIR; --quick compresses little";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let names: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let found = match names.as_slice() {
        ["imports"] => look(imports::check),
        ["style"] => look(style::check),
        ["links"] => look(links::check),
        ["figures"] => return write_figures(),
        ["deb", program, output] => return package(program, output, false),
        ["deb", "--quick", program, output] => return package(program, output, true),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    report(found)
}

fn write_figures() -> ExitCode {
    match figures::write(&Workspace::of_this_checkout()) {
        Ok(pages) => {
            pages.iter().for_each(|page| println!("{page}"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn package(program: &str, output: &str, quick: bool) -> ExitCode {
    let order = deb::Order { program: program.into(), output: output.into(), quick };
    match deb::build(&Workspace::of_this_checkout(), &order) {
        Ok(package) => {
            println!("{}", package.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
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
