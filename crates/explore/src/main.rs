//! `tanist-explore`: explores the worlds and says how many states each has. `--full` for the large ones, which take a quarter of an hour.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use tanist_explore::explore;
use tanist_explore::worlds::{bounded, full};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut worlds = bounded();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => {}
        ["--full"] => worlds.extend(full()),
        _ => {
            eprintln!("usage: tanist-explore [--full]");
            return ExitCode::from(2);
        }
    }
    for world in worlds {
        let explored = explore(world.bounds);
        println!("{:>9} states in {:>5.1} s  {}", explored.states, explored.took.as_secs_f64(), world.name);
        if let Some(violation) = explored.violation {
            println!("{violation}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
