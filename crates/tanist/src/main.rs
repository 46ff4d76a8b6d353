//! The one binary: it starts the server, an agent, or asks a server on the operator's behalf.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    tanist::main()
}
