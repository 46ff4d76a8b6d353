//! The one program, once more, for the tests that start it: cargo builds it freshly with them, under a name of its own, with the
//! switches that break single rules.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    tanist::main()
}
