//! The agent: one loop around the protocol's machine, an engine for each role, links to the server and to the peers.
//!
//! The machine decides; this crate carries out. Blocking work (storage, block engine) has threads of its own, so that a storage
//! system that hangs never keeps the agent from saying so.

#![forbid(unsafe_code)]

mod acquaintances;
mod application;
mod bench;
pub mod clock;
mod config;
mod core;
#[cfg(feature = "decoders")]
pub mod decoders;
mod digests;
mod engine;
mod export;
mod host;
mod ledger;
mod link;
mod measured;
mod peers;
mod reader;
mod reads;
mod relay;
mod renewal;
#[cfg(feature = "mutations")]
mod resume;
mod run;
mod source;
mod storages;
mod streams;
mod watch;

pub use application::{ApplicationConfig, GUARD_COMMAND, QuiesceLimit, guard};
pub use bench::{BenchError, BenchLink, BenchOrder, BenchReport, BenchStage, InUse, bench, sink};
pub use config::{AgentConfig, ConfigError, DEFAULT_RECORDING, StorageConfig};
pub use export::{ExportError, ExportOrder, export};
/// How an agent reaches its server, for agents that are nothing but that (`tanist-crowd`).
pub use link::{Dialler, Link, LinkEvent};
pub use run::{AgentError, run};
