//! Volumes and the storage systems that hold them, as agents report them.

use serde::{Deserialize, Serialize};

use crate::id::{StorageName, VolumeAddress};

/// What kind of storage system an agent reaches.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum StorageKind {
    /// Raw image files in a mounted directory.
    Image,
    /// Volumes in the memory of one process; for tests and the simulator.
    Memory,
}

/// What a storage system can do for tanist, found out by trying and never assumed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct StorageCapabilities {
    /// Immutable point-in-time copies in constant time (reflink for image files).
    pub snapshots: bool,
    /// A lock on the I/O descriptor proves quiet between processes of one boot of one host: the file system is local.
    pub kernel_lock: bool,
}

/// A storage system as one agent sees it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct StorageReport {
    pub name: StorageName,
    pub kind: StorageKind,
    /// Where it is, in its own words: the directory of image files.
    pub location: String,
    /// Equal on two agents only if both reach the same storage.
    pub identity: String,
    pub capabilities: StorageCapabilities,
    /// Why it cannot be used now, if it cannot.
    pub error: Option<String>,
}

/// What was found at the beginning of a volume: a reason to ask before overwriting it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum VolumeContent {
    /// No allocated data, or only zeros where signatures live.
    Blank,
    /// A known signature: a file system, partition table, LVM member, encrypted container.
    Signature(String),
    /// Data without a signature that tanist knows.
    Data,
}

/// A volume as one agent sees it, with the result of its last canary read.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct VolumeReport {
    pub address: VolumeAddress,
    /// Equal for two addresses only if they are one volume (file system and inode for an image file).
    pub identity: String,
    pub size_bytes: u64,
    pub read_only: bool,
    /// Where it is mounted or what else of the host uses it; empty if nothing does.
    pub in_use_by: Option<String>,
    pub content: VolumeContent,
    /// Why the last canary read failed, if it did.
    pub error: Option<String>,
}
