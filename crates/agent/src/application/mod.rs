//! Host applications: quiesced by the host's own scripts for the moment in which the source snapshot is made, and thawed again
//! whatever happens.
//!
//! The scripts of one attempt are run by a *guard* ([`guard`]), a process of its own that outlives the agent; it leaves a mark on
//! disk ([`mark`]) before it begins. What neither of them has thawed, the *keeper* ([`keeper`]) of a later agent process does.

mod attempt;
mod config;
#[cfg(feature = "decoders")]
pub(crate) mod decoders;
mod guard;
mod keeper;
mod mark;
#[cfg(test)]
mod samples;
mod script;

pub use config::{ApplicationConfig, QuiesceLimit};
pub use guard::{GUARD_COMMAND, guard};

pub(crate) use attempt::{Applications, Attempt, Moment};
pub(crate) use config::ApplicationError;
pub(crate) use keeper::{Keeper, MarkOrder};
