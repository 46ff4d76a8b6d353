//! The decisions of tanist: pure state machines for the server and the agent.
//!
//! Nothing here reads a clock, opens a socket or touches a disk. Inputs carry the time and the entropy; outputs say what to
//! make durable and what to do afterwards ([`driver`]). The server, the agent and the simulator run the same machines
//! through the same interpreter, so what the simulator proves is what runs at night.

#![forbid(unsafe_code)]

pub mod agent;
pub mod driver;
pub mod fence;
pub mod invariants;
pub mod limits;
pub mod message;
pub mod mutation;
pub mod random;
pub mod server;
pub mod timers;
