//! A recovery point: a state of the source that the target holds and that can be restored.

use serde::{Deserialize, Serialize};

use crate::id::{ApplicationName, Epochs, ReplicationId, RunId};
use crate::run::ChainDigest;
use crate::time::Timestamp;

/// Where the bytes of a recovery point are.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case", tag = "kind", content = "uid")]
pub enum RecoveryPointPlace {
    /// The target volume itself, until the next run begins to write.
    Target,
    /// A snapshot that the target's storage system keeps, by its own identity.
    Snapshot(String),
    /// Nowhere any more: the next run overwrote it, and the target's storage makes no snapshots; or it was removed.
    Gone,
}

/// One published recovery point, as stored.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct RecoveryPoint {
    pub run: RunId,
    pub replication: ReplicationId,
    pub place: RecoveryPointPlace,
    pub size_bytes: u64,
    /// The chained digest of the whole volume.
    pub chain: ChainDigest,
    pub epochs: Epochs,
    /// When the source looked like this: the time the snapshot was bound.
    pub source_time: Timestamp,
    pub published_at: Timestamp,
    /// The source may have changed while it was read (source mode `live`).
    pub fuzzy: bool,
    /// What was written for it was read back from the target before it was published.
    pub verified: bool,
    /// What was not written for it and not read either, in bytes: it did not change since the recovery point before, and equals the
    /// source as long as nothing else wrote to the target. Nothing, once the whole target was read.
    #[serde(default)]
    pub assumed_bytes: u64,
    /// Of its source no more need have been read than what the storage system named as changed, and a sample of the rest.
    #[serde(default)]
    pub by_changes: bool,
    /// When the whole target was read again last, and equalled it.
    #[serde(default)]
    pub verified_at: Option<Timestamp>,
    /// When it was read and turned out to be other bytes than were published.
    #[serde(default)]
    pub damaged_at: Option<Timestamp>,
    /// When the target that this snapshot was taken of was found to be other bytes, maybe already then. Until it is read whole.
    #[serde(default)]
    pub doubtful_since: Option<Timestamp>,
    /// Kept by an operator's word, whatever the retention says.
    #[serde(default)]
    pub pinned: bool,
    /// The retention keeps it no longer: its target snapshot is being removed. Final.
    #[serde(default)]
    pub expired: bool,
    /// The host application that was quiesced for it.
    #[serde(default)]
    pub application: Option<ApplicationName>,
}
