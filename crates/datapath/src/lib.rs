//! The block engine: brings the bytes of one device to another, durably, verified, and restartable.
//!
//! It knows devices, blocks, frames and checkpoints; it knows nothing of agents, servers or sockets. Its stages stand on threads
//! of their own, joined by bounded queues. In the *direct* form all of them are in one process, and a [`Transfer`] is one
//! attempt to copy:
//!
//! ```text
//! reader -> encoder -> writer -> checkpoint (flush, verify, chain) -> event Durable -> the caller commits -> committed()
//! ```
//!
//! In the *networked* form one to four streams stand between encoder and writer, and two processes make one attempt:
//!
//! ```text
//! Sender (source agent)                         Receiver (target agent)
//! reader -> encoder -> dealer -> lanes ==Link==> lanes -> the gate -> writer -> checkpoint -> event Durable
//!                                      <==Link==  Durable(seq)    <-    committed()   <-   the caller commits
//! ```
//!
//! [`frame`] is what goes over a [`Link`], [`gate`] decides what a target lets in; how the order is kept over several streams is
//! told in `lanes`. A target accepts streams one by one ([`Arrival`]), because the grant that a stream brings is to be checked
//! by the caller before there is a receiver for it.

#![deny(unsafe_code)]

pub mod arrival;
pub mod bench;
pub mod changes;
#[cfg(feature = "decoders")]
pub mod decoders;
pub mod digest;
pub mod error;
pub mod frame;
pub mod gate;
pub mod io;
pub mod late;
pub mod limit;
pub mod link;
pub mod pages;
pub mod pool;
pub mod progress;
pub mod receiver;
pub mod sender;
pub mod stored;
pub mod transfer;
pub mod verify;

mod checkpoint;
mod compared;
mod control;
mod dealer;
mod differ;
mod encoder;
mod framed;
mod handover;
mod intake;
mod knowledge;
mod lanes;
mod matcher;
mod meter;
mod outbound;
mod reader;
mod sampler;
mod scanner;
mod stages;
mod teller;
mod window;
mod writer;

pub use arrival::Arrival;
pub use changes::Changes;
pub use digest::BLOCK_BYTES;
pub use error::TransferError;
pub use io::{BlockDevice, Extent, ExtentKind};
pub use late::{LateStreams, RefusedFrames};
pub use link::{Link, LinkError, Shutdown};
pub use progress::{Progress, Stage};
pub use receiver::{Receiver, ReceiverConfig};
pub use sender::{Sender, SenderConfig, SenderEvent};
pub use stored::{Digests, StoredDigests};
pub use transfer::{Transfer, TransferConfig, TransferEvent};
