//! `tanist-explore`: explores the worlds and says how many states each has. `--full` for the large ones, which take up to an hour and a quarter.

#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use tanist_explore::{Explored, Search, explore, explore_within, takeover, worlds};

/// For all large worlds of whole takeovers together, and the rules that are broken in them.
const LONGEST: Duration = Duration::from_secs(3600);

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
    let mut reservations = worlds::bounded().into_iter().chain(worlds::full().into_iter().filter(|_| full));
    let sound = reservations.all(|world| said(world.name, &explore(world.bounds)))
        && takeover::worlds::bounded().into_iter().all(|world| seen(world.name, &explore(world.bounds)))
        && (!full || large_takeovers());
    if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The large worlds of whole takeovers, and the rules that are broken in them.
fn large_takeovers() -> bool {
    let begun = Instant::now();
    let left = || LONGEST.saturating_sub(begun.elapsed());
    let noticed = takeover::worlds::broken_at_large().into_iter().all(|(rule, bounds)| {
        let explored = explore_within(bounds, Search::Breadth, left());
        let name = format!("{rule:?} is broken");
        let noticed = explored.violation.as_deref().and_then(|violation| violation.lines().next());
        said_of(&name, &explored, noticed.unwrap_or("and it is not noticed"));
        noticed.is_some()
    });
    noticed
        && takeover::worlds::full()
            .into_iter()
            .all(|world| seen(world.name, &explore_within(world.bounds, Search::Depth, left())))
}

/// Of a world that was walked through whole, also what should have been seen there.
fn seen(name: &str, explored: &Explored) -> bool {
    let sound = said(name, explored);
    let missed = explored.closed && sound && !explored.unseen.is_empty();
    if missed {
        println!("never seen: {}", explored.unseen.join(", "));
    }
    sound && !missed
}

/// Says what was found; whether nothing is violated.
fn said(name: &str, explored: &Explored) -> bool {
    said_of(name, explored, if explored.closed { "" } else { "and there are more" });
    if let Some(violation) = &explored.violation {
        println!("{violation}");
    }
    explored.violation.is_none()
}

fn said_of(name: &str, explored: &Explored, end: &str) {
    let comma = if end.is_empty() { "" } else { ", " };
    println!("{:>9} states in {:>6.1} s  {name}{comma}{end}", explored.states, explored.took.as_secs_f64());
}
