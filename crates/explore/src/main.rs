//! `tanist-explore`: explores the worlds and says how many states each has. `--full` for the large ones, which take up to an hour.

#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::time::Duration;

use tanist_explore::{Explored, Limits, explore, explore_within, takeover, worlds};

/// For each of the worlds of whole takeovers: of the large ones there are six, and those by reservation need a quarter of an hour. So many
/// steps are kept in less than 16 GiB.
const LIMITS: Limits = Limits { longest: Duration::from_secs(420), steps: 1_500_000 };

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let full = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => false,
        ["--full"] => true,
        _ => {
            eprintln!("usage: tanist-explore [--full]");
            return ExitCode::from(2);
        }
    };
    let large = |worlds: Vec<takeover::worlds::TakeoverWorld>| worlds.into_iter().filter(|_| full);
    let mut reservations = worlds::bounded().into_iter().chain(worlds::full().into_iter().filter(|_| full));
    let sound = reservations.all(|world| said(world.name, explore(world.bounds)));
    let mut whole = takeover::worlds::bounded().into_iter().chain(large(takeover::worlds::full()));
    let sound = sound && whole.all(|world| said(world.name, explore_within(world.bounds, LIMITS)));
    if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Says what was found; whether nothing is violated.
fn said(name: &str, explored: Explored) -> bool {
    let end = if explored.closed { "" } else { ", and there are more" };
    println!("{:>9} states in {:>5.1} s  {name}{end}", explored.states, explored.took.as_secs_f64());
    if let Some(violation) = &explored.violation {
        println!("{violation}");
    }
    explored.violation.is_none()
}
