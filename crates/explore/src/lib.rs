//! Small worlds, explored whole: every order in which things can happen, where the simulator draws one.
//!
//! The machines are the product's. What a world leaves out, and why that does no harm, stands at its head; how large the worlds are, and
//! why that is enough, in [`worlds`]. What cannot go wrong here goes wrong in no order of these steps; what is left out, the simulator has.

#![forbid(unsafe_code)]

pub mod reservation;
pub mod worlds;

use std::time::{Duration, Instant};

use stateright::{Checker, Expectation, Model};

use reservation::Bounds;

/// What an exploration found.
#[derive(Debug)]
pub struct Explored {
    pub states: usize,
    pub took: Duration,
    /// What went wrong, as the steps that lead there, one a line.
    pub violation: Option<String>,
    /// What should be possible and never happened: the world is too small, or a rule forbids too much.
    pub unseen: Vec<&'static str>,
}

/// Explores a world whole, breadth first: a violation comes with the fewest steps there are.
#[must_use]
pub fn explore(bounds: Bounds) -> Explored {
    let begun = Instant::now();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let checker = bounds.checker().threads(threads).spawn_bfs().join();
    let violation = checker.discovery(reservation::SAFE).map(|path| {
        let what = path.last_state().violation().map(ToString::to_string).unwrap_or_default();
        let steps: Vec<String> = path.into_actions().into_iter().map(|action| format!("{action:?}")).collect();
        format!("{what}\n{}", steps.join("\n"))
    });
    let wanted = checker.model().properties().into_iter().filter(|p| p.expectation == Expectation::Sometimes);
    let unseen = wanted.map(|p| p.name).filter(|name| checker.discovery(name).is_none()).collect();
    Explored { states: checker.unique_state_count(), took: begun.elapsed(), violation, unseen }
}
