//! The block engine: brings the bytes of one device to another, durably, verified, and restartable.
//!
//! It knows devices, blocks and checkpoints; it knows nothing of agents, servers or networks. A [`Transfer`] is one attempt
//! to copy. Its stages stand on threads of their own, joined by bounded queues, so that later a network can stand between
//! any two of them:
//!
//! ```text
//! reader -> encoder -> writer -> checkpoint (flush, verify, chain) -> event Durable -> the caller commits -> committed()
//! ```

#![forbid(unsafe_code)]

pub mod digest;
pub mod error;
pub mod io;
pub mod limit;
pub mod pool;
pub mod progress;
pub mod transfer;
pub mod verify;

mod checkpoint;
mod control;
mod encoder;
mod reader;
mod window;
mod writer;

pub use digest::BLOCK_BYTES;
pub use error::TransferError;
pub use io::{BlockDevice, Extent, ExtentKind};
pub use progress::{Progress, Stage};
pub use transfer::{Transfer, TransferConfig, TransferEvent};
