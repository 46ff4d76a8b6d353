//! The nouns of tanist, and the records that are stored.
//!
//! Every other room speaks in these types: the protocol decides over them, the store keeps them, the API shows them, so no
//! noun is defined twice. Nothing here does I/O; nothing here reads a clock.

#![forbid(unsafe_code)]

pub mod agent;
pub mod api;
pub mod application;
pub mod byte_range;
pub mod change;
pub mod drill;
pub mod enrolment;
pub mod event;
pub mod excerpt;
pub mod hierarchy;
pub mod history;
pub mod id;
pub mod pairs;
pub mod policy;
pub mod quantity;
pub mod recovery_point;
pub mod removal;
pub mod replication;
pub mod retention;
pub mod run;
pub mod schedule;
pub mod spelling;
pub mod stage;
pub mod state;
pub mod takeover;
pub mod time;
pub mod volume;
pub mod work;
