//! The management server: one loop around the server's machine, the connections of its agents, and the API of its operators.
//!
//! [`init()`] makes an installation, [`run()`] serves it, [`restore()`] takes it back to a backup. Inside, [`core`] owns the
//! machine and is the only one that decides; [`connections`] carries messages to and from it; [`api`] asks it and shows its
//! answers through [`view`]. The server moves no blocks: it commands, and remembers.

#![forbid(unsafe_code)]

mod alarms;
mod api;
mod authority;
mod clock;
pub mod config;
mod connections;
mod core;
#[cfg(feature = "decoders")]
pub mod decoders;
pub mod error;
mod init;
mod metrics;
mod ownership;
mod random;
mod restore;
mod run;
mod view;

pub use api::document as openapi_document;
pub use error::ServerError;
pub use init::{InitOptions, Initialised, init};
pub use restore::restore;
pub use run::{Server, run};
