//! Chaos: faults on real processes, one after another and several at once, while runs go on.
//!
//! A [`Schedule`] says everything: what the cluster is, what its volumes hold, and which fault strikes when. It is
//! written by hand or drawn from a seed, and it is JSON, so that what failed can be kept and played again. The
//! [`runner`] plays it, writes down what it did and when, compares every block after each fault, and in the end asks [`matching`]
//! whether the cluster told the truth: each fault has its one trace in the records, and nothing there lacks a fault.
//!
//! What a schedule cannot repeat is the order in which an operating system does things. The same schedule again is the same faults at the
//! same progress, and not the same interleaving.

pub mod chance;
pub mod injector;
pub mod matching;
pub mod outcome;
pub mod runner;
pub mod schedule;
pub mod stage;

pub use outcome::Outcome;
pub use runner::play;
pub use schedule::Schedule;
