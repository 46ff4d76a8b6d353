//! How the processes of an installation find out who is speaking, and exchange messages in safety.
//!
//! From the ground up: [`ca`] and [`certificate`] say who somebody is, [`identity`] keeps that on disk, [`tls`] and [`verify`]
//! turn it into TLS 1.3 configurations, [`socket`] sets the TCP options, [`frame`] carries messages, [`handshake`] decides who
//! is let in, and [`connect`] puts all of it together. [`stream`] carries blocks from one agent to another, for whoever shows a
//! [`grant`]; [`record`] is what a server signs of a takeover; [`relay`] carries an agent's connection to the server through a peer. [`token`] is how somebody new comes to be
//! trusted. [`service_manager`] is told that a service lives. Nothing here knows what the messages mean.

#![forbid(unsafe_code)]

pub mod ca;
pub mod certificate;
pub mod connect;
#[cfg(feature = "decoders")]
pub mod decoders;
pub mod file;
pub mod frame;
pub mod grant;
pub mod handshake;
pub mod identity;
pub mod record;
pub mod refusal;
pub mod relay;
pub mod service_manager;
pub mod socket;
pub mod stream;
mod stream_halves;
pub mod tls;
pub mod tls_failure;
pub mod token;
pub mod verify;
