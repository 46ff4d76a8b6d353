//! Alarms: telling somebody who is not looking. [`judge`] decides which events are told, [`notice`] is what is told, and a [`Sink`]
//! carries it: by webhook, by mail, or to a script. [`bookmark`] is how far a sink has come in the log of events, so that nothing is
//! lost over a restart.
//!
//! Nothing here knows the server: it asks for a delivery, and is told whether it succeeded.

#![forbid(unsafe_code)]

pub mod bookmark;
pub mod config;
mod error;
pub mod judge;
mod mail;
pub mod notice;
mod script;
mod sink;
mod trust;
mod webhook;

pub use config::{AlarmConfig, AlarmConfigError};
pub use error::DeliveryError;
pub use notice::{Notice, NoticeKind};
pub use sink::Sink;
