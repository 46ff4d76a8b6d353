//! Storage systems: where volumes live, how they are found, opened, locked and frozen.
//!
//! One trait, [`StorageSystem`], and one conformance suite over all implementations. A storage system hands out
//! [`BlockDevice`](tanist_datapath::BlockDevice)s; it copies nothing itself and decides nothing about who may write.

#![forbid(unsafe_code)]

pub mod block;
pub mod command;
pub mod content;
#[cfg(feature = "decoders")]
pub mod decoders;
pub mod error;
pub mod image;
pub mod lvm;
pub mod memory;
pub mod nbd;
pub mod signature;
pub mod system;

mod canary;
mod sealed;

pub use block::{BlockDevices, DeviceSelector, SelectorError};
pub use command::{CommandSnapshots, SnapshotCommand};
pub use error::StorageError;
pub use image::ImageDirectory;
pub use lvm::{LvmNameError, LvmThin, ThinPool};
pub use memory::MemoryStorage;
pub use nbd::{NbdExports, NbdPlace, NbdServer, NbdTls, PlaceError};
pub use system::{
    CanaryReading, LockAttempt, OnHost, SealedIdentity, SnapshotIdentity, SourceHandle, SourceView, StorageSystem,
    TargetHandle,
};
