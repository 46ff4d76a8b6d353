//! A world in which everything fails, from a seed: the same machines as the product through the same interpreter, in virtual time.
//!
//! [`world::World`] is one queue of events. Agents and a server live in it as processes that can be stopped or killed between
//! any two of their effects; writes land late, connections lose their tail, power loss empties caches. After every step the
//! [`checker`] asks the protocol's own predicates. The same seed always gives the same history.

#![forbid(unsafe_code)]

pub mod agent_shell;
pub mod array;
pub mod checker;
pub mod clocks;
pub mod coverage;
mod delta;
pub mod disk;
pub mod engine;
pub mod faults;
pub mod figures;
pub mod injection;
pub mod links;
pub mod liveness;
pub mod lun;
pub mod network;
mod opening;
pub mod operator;
pub mod pairs;
pub mod process;
mod reader;
pub mod reserving;
pub mod rng;
mod rough;
pub mod scenario;
pub mod server_shell;
pub mod shrink;
mod snapshots;
mod storage;
pub mod trace;
mod ways;
pub mod world;

use std::collections::BTreeSet;

use tanist_protocol::mutation::Mutation;

use injection::{Injection, Selection};
use scenario::Scenario;

pub use world::{Report, World};

/// In what kind of world a seed is run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Weather {
    /// Everything fails.
    #[default]
    Storm,
    /// Nothing fails but the network around one agent, and some peer always reaches it and the server.
    Cut,
    /// Nothing fails.
    Calm,
}

/// One run: the same values always give the same history.
#[derive(Clone, Debug, Default)]
pub struct Run {
    pub seed: u64,
    pub weather: Weather,
    pub broken: Option<Mutation>,
    /// Only these injections, or all.
    pub only: Selection,
    /// Keeps a readable log.
    pub verbose: bool,
}

impl Run {
    #[must_use]
    pub fn of(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    #[must_use]
    pub fn report(&self) -> Report {
        self.report_shaped(|scenario| scenario)
    }

    /// The run in worlds of one shape, for a rule that matters nowhere else.
    #[must_use]
    pub fn report_shaped(&self, shape: impl FnOnce(Scenario) -> Scenario) -> Report {
        let shape = |scenario| match self.weather {
            Weather::Storm => shape(scenario),
            Weather::Cut => shape(scenario).cut(),
            Weather::Calm => shape(scenario).calm(),
        };
        World::new(self, shape).run()
    }

    /// The injections that the violation needs; `None` if there is none.
    #[must_use]
    pub fn shortened(&self) -> Option<BTreeSet<Injection>> {
        let whole = self.report();
        let property = whole.property()?.to_owned();
        let violates = |only: &BTreeSet<Injection>| {
            let run = Self { only: Some(only.clone()), verbose: false, ..self.clone() };
            run.report().property() == Some(&property)
        };
        Some(shrink::shrink(&whole.injections, violates))
    }
}

/// Runs one seed.
#[must_use]
pub fn run(seed: u64, broken: Option<Mutation>, verbose: bool) -> Report {
    Run { broken, verbose, ..Run::of(seed) }.report()
}

/// Runs one seed of a broken rule in the worlds in which that rule matters.
#[must_use]
pub fn run_where_it_matters(seed: u64, broken: Mutation, shape: impl FnOnce(Scenario) -> Scenario) -> Report {
    Run { broken: Some(broken), ..Run::of(seed) }.report_shaped(shape)
}

/// Runs one seed in which nothing fails but the network around one agent, and some peer always reaches it and the server.
#[must_use]
pub fn run_cut(seed: u64, broken: Option<Mutation>, verbose: bool) -> Report {
    Run { weather: Weather::Cut, broken, verbose, ..Run::of(seed) }.report()
}

/// Runs one seed without faults.
#[must_use]
pub fn run_calm(seed: u64, verbose: bool) -> Report {
    Run { weather: Weather::Calm, verbose, ..Run::of(seed) }.report()
}
