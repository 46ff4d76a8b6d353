//! A world in which everything fails, from a seed: the same machines as the product through the same interpreter, in virtual time.
//!
//! [`world::World`] is one queue of events. Agents and a server live in it as processes that can be stopped or killed between
//! any two of their effects; writes land late, connections lose their tail, power loss empties caches. After every step the
//! [`checker`] asks the protocol's own predicates. The same seed always gives the same history.

#![forbid(unsafe_code)]

pub mod agent_shell;
pub mod checker;
pub mod coverage;
mod delta;
pub mod disk;
pub mod engine;
pub mod faults;
pub mod links;
pub mod liveness;
pub mod network;
pub mod operator;
pub mod process;
mod reader;
pub mod rng;
pub mod scenario;
pub mod server_shell;
mod snapshots;
pub mod trace;
mod ways;
pub mod world;

use tanist_protocol::mutation::Mutation;

pub use world::{Report, World};

/// Runs one seed.
#[must_use]
pub fn run(seed: u64, broken: Option<Mutation>, verbose: bool) -> Report {
    World::new(seed, broken, verbose, |scenario| scenario).run()
}

/// Runs one seed of a broken rule in the worlds in which that rule matters.
#[must_use]
pub fn run_where_it_matters(
    seed: u64,
    broken: Mutation,
    shape: impl FnOnce(scenario::Scenario) -> scenario::Scenario,
) -> Report {
    World::new(seed, Some(broken), false, shape).run()
}

/// Runs one seed in which nothing fails but the network around one agent, and some peer always reaches it and the server.
#[must_use]
pub fn run_cut(seed: u64, broken: Option<Mutation>, verbose: bool) -> Report {
    World::new(seed, broken, verbose, scenario::Scenario::cut).run()
}

/// Runs one seed without faults.
#[must_use]
pub fn run_calm(seed: u64, verbose: bool) -> Report {
    World::new(seed, None, verbose, scenario::Scenario::calm).run()
}
