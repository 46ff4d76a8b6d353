//! Small worlds, explored whole: every order in which things can happen, where the simulator draws one.
//!
//! The machines are the product's. What a world leaves out, and why that does no harm, stands at its head; how large the worlds are, and
//! why that is enough, in [`worlds`]. What cannot go wrong here goes wrong in no order of these steps; what is left out, the simulator has.

#![forbid(unsafe_code)]

pub mod reservation;
pub mod takeover;
pub mod worlds;

use std::time::{Duration, Instant};

use stateright::{Checker, Expectation, Model};
use tanist_protocol::invariants::Violation;

/// In which order states are looked at. Every one is, either way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Search {
    /// The nearest first: a violation comes with the fewest steps there are, and all states of one distance are kept at once.
    Breadth,
    /// The latest first: kept are those beside one path alone, whatever the size of the world.
    Depth,
}

/// What an exploration found.
#[derive(Debug)]
pub struct Explored {
    pub states: usize,
    pub took: Duration,
    /// Every state was looked at before the time was over, or the search ended with what it found.
    pub closed: bool,
    /// What went wrong, as the steps that lead there, one a line.
    pub violation: Option<String>,
    /// What should be possible and never happened: the world is too small, or a rule forbids too much.
    pub unseen: Vec<String>,
}

/// A model of a world whose states know what went wrong on the way to them.
pub trait Explorable: Model<State: Clone + std::fmt::Debug + std::hash::Hash + PartialEq + Send + Sync> {
    /// The property that no state violates.
    const SAFE: &'static str;

    fn violation(state: &Self::State) -> Option<&Violation>;

    /// What was to be seen beside the properties, and was not.
    fn missed(&self) -> Vec<String> {
        Vec::new()
    }
}

impl Explorable for reservation::Bounds {
    const SAFE: &'static str = reservation::SAFE;

    fn violation(state: &Self::State) -> Option<&Violation> {
        state.violation()
    }
}

impl Explorable for takeover::Bounds {
    const SAFE: &'static str = takeover::SAFE;

    fn violation(state: &Self::State) -> Option<&Violation> {
        state.violation()
    }

    fn missed(&self) -> Vec<String> {
        let unseen = self.unseen().into_iter().map(|sight| format!("{sight:?}"));
        let rests_on_it = self.reduced && self.sights.saw(takeover::Sight::EndedOnTheLiving);
        let wrong =
            rests_on_it.then(|| "a world in which no server ends the connection of a living process".to_owned());
        unseen.chain(wrong).collect()
    }
}

/// Explores a world whole, breadth first: a violation comes with the fewest steps there are.
#[must_use]
pub fn explore<M>(bounds: M) -> Explored
where
    M: Explorable<Action: std::fmt::Debug + Clone + PartialEq + Send + Sync> + Send + Sync + 'static,
    M::State: 'static,
{
    explore_within(bounds, Search::Breadth, Duration::MAX)
}

/// The same in this order, and no longer than this: what is left then is not explored, and the result says so.
#[must_use]
pub fn explore_within<M>(bounds: M, search: Search, longest: Duration) -> Explored
where
    M: Explorable<Action: std::fmt::Debug + Clone + PartialEq + Send + Sync> + Send + Sync + 'static,
    M::State: 'static,
{
    let begun = Instant::now();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let builder = bounds.checker().threads(threads);
    let builder = if longest == Duration::MAX { builder } else { builder.timeout(longest) };
    let in_time = || begun.elapsed() < longest;
    match search {
        Search::Breadth => found(&builder.spawn_bfs().join(), begun, in_time),
        Search::Depth => found(&builder.spawn_dfs().join(), begun, in_time),
    }
}

fn found<M>(checker: &impl Checker<M>, begun: Instant, in_time: impl Fn() -> bool) -> Explored
where
    M: Explorable<Action: std::fmt::Debug + Clone + PartialEq>,
{
    let (took, closed) = (begun.elapsed(), in_time());
    let violation = checker.discovery(M::SAFE).map(|path| {
        let what = M::violation(path.last_state()).map(ToString::to_string).unwrap_or_default();
        let steps: Vec<String> = path.into_actions().into_iter().map(|action| format!("{action:?}")).collect();
        format!("{what}\n{}", steps.join("\n"))
    });
    let wanted = checker.model().properties().into_iter().filter(|p| p.expectation == Expectation::Sometimes);
    let mut unseen: Vec<String> =
        wanted.map(|p| p.name).filter(|name| checker.discovery(name).is_none()).map(str::to_owned).collect();
    unseen.extend(checker.model().missed());
    Explored { states: checker.unique_state_count(), took, closed, violation, unseen }
}
