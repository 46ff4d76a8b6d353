//! Measures the program beside other tools on the same work: [`cases`] says which work, [`rounds`] does it in turns, [`page`] tells what came
//! out. It knows the program as an operator does: by its commands, their JSON, its processes and its files.

#![forbid(unsafe_code)]

pub mod aligned;
pub mod cases;
pub mod chart;
pub mod failures;
pub mod goals;
pub mod kernel;
pub mod measured;
pub mod memory;
pub mod ours;
pub mod page;
pub mod peers;
pub mod place;
pub mod probe;
pub mod probed;
pub mod process;
pub mod random;
pub mod ratio;
pub mod record;
pub mod replication;
pub mod rounds;
pub mod volume;
pub mod wait;
pub mod watch;
pub mod wire;
