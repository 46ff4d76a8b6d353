//! What an operator sees: pure functions over the machine between two decisions. Views answer questions (is my data safe, what
//! happened, what do I do) and are never stored.

pub mod agents;
mod drills;
mod findings;
pub mod gauges;
pub mod history;
mod misfit;
pub mod replication;
mod run;
mod seats;
pub mod status;
pub mod storage;
#[cfg(test)]
mod tests;
mod waiting;
