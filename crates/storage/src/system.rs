//! What every storage system can be asked.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use tanist_datapath::BlockDevice;
use tanist_model::byte_range::ByteRange;
use tanist_model::id::{SnapshotId, VolumeAddress};
use tanist_model::volume::{StorageReport, VolumeReport};

use crate::error::StorageError;

/// A place where volumes live. All calls block and may hang with the storage they ask: they belong on threads that the
/// caller can do without, under a time limit of the caller's.
pub trait StorageSystem: Send + Sync {
    /// What it is and can do. Never fails: what is wrong stands in `error`.
    fn report(&self) -> StorageReport;

    /// Every volume it holds, in order of name.
    ///
    /// # Errors
    /// If the storage system itself cannot be read; what is wrong with one volume stands in that volume's report.
    fn volumes(&self) -> Result<Vec<VolumeReport>, StorageError>;

    /// One volume: its identity, size, users and content.
    ///
    /// # Errors
    /// [`StorageError::NotFound`], [`StorageError::NotAVolume`], or that it cannot be opened.
    fn inspect(&self, volume: &VolumeAddress) -> Result<VolumeReport, StorageError>;

    /// A small real read, each time at another place, that shows that the volume can be read now.
    ///
    /// # Errors
    /// Why it cannot.
    fn canary(&self, volume: &VolumeAddress) -> Result<CanaryReading, StorageError>;

    /// Opens what a run reads. A uid that is not the expected one is an error: the bytes would be others.
    ///
    /// # Errors
    /// [`StorageError::SnapshotMismatch`], [`StorageError::SourceChanged`], or that it cannot be opened.
    fn open_source(&self, volume: &VolumeAddress, view: &SourceView) -> Result<SourceHandle, StorageError>;

    /// Opens a volume for reading and writing.
    ///
    /// # Errors
    /// That it cannot be opened for writing.
    fn open_target(&self, volume: &VolumeAddress) -> Result<TargetHandle, StorageError>;

    /// Makes an immutable copy as of now, durably. An id is used once, ever.
    ///
    /// # Errors
    /// [`StorageError::SnapshotsUnsupported`], [`StorageError::SnapshotExists`], or that it cannot be made.
    fn create_snapshot(&self, volume: &VolumeAddress, id: SnapshotId) -> Result<SnapshotIdentity, StorageError>;

    /// Where what a run is to read may differ from what the volume was when the snapshot `base` was made: what lies outside is the same,
    /// byte for byte. `None` if the storage system cannot tell, as most cannot.
    ///
    /// It is the storage system's word alone. Who leaves something out because of it takes a sample, and has digests of what he left out
    /// (docs/decisions/0034).
    ///
    /// # Errors
    /// That it cannot be asked.
    fn changed_since(
        &self,
        volume: &VolumeAddress,
        base: SnapshotId,
        now: &SourceView,
    ) -> Result<Option<Vec<ByteRange>>, StorageError> {
        let _ = (volume, base, now);
        Ok(None)
    }

    /// Removes a snapshot; one that is not there is removed already.
    ///
    /// # Errors
    /// That it cannot be removed.
    fn delete_snapshot(&self, volume: &VolumeAddress, id: SnapshotId) -> Result<(), StorageError>;

    /// The snapshots that tanist made of this volume, even if the volume itself is gone.
    ///
    /// # Errors
    /// That they cannot be listed.
    fn list_snapshots(&self, volume: &VolumeAddress) -> Result<Vec<SnapshotIdentity>, StorageError>;

    /// Writes down what the volume looks like, for a source that nobody is to write to during a run
    /// ([`SourceMode::Sealed`](tanist_model::policy::SourceMode::Sealed)).
    ///
    /// # Errors
    /// That it cannot be looked at.
    fn seal(&self, volume: &VolumeAddress) -> Result<SealedIdentity, StorageError>;

    /// Looks again.
    ///
    /// # Errors
    /// [`StorageError::SourceChanged`] if the volume does not look as it did when it was sealed.
    fn check_sealed(&self, volume: &VolumeAddress, uid: &str) -> Result<(), StorageError> {
        let now = self.seal(volume)?.uid;
        if now == uid { Ok(()) } else { Err(StorageError::changed(volume, uid, &now)) }
    }
}

/// A storage system whose volumes have paths on this host, for programs that are to work on them.
pub trait OnHost: StorageSystem {
    /// # Errors
    /// That there is no such volume now.
    fn path_of(&self, volume: &VolumeAddress) -> Result<PathBuf, StorageError>;
}

/// What a run reads.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SourceView {
    /// An immutable snapshot, by id and by the identity the storage system gave it.
    Snapshot { id: SnapshotId, uid: String },
    /// The volume itself, as long as it looks as it did when it was sealed.
    Sealed { uid: String },
    /// The volume itself, whatever happens to it.
    Live,
}

/// A snapshot as its storage system knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SnapshotIdentity {
    pub id: SnapshotId,
    /// Never the same for two snapshots, even if one replaces the other under the same name.
    pub uid: String,
    pub size_bytes: u64,
}

/// What a sealed volume looked like.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SealedIdentity {
    pub uid: String,
    pub size_bytes: u64,
}

/// Where a canary looked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CanaryReading {
    pub offset: u64,
    /// Zero for an empty volume.
    pub length_bytes: u64,
}

/// A source that is open.
#[derive(Clone)]
pub struct SourceHandle {
    pub device: Arc<dyn BlockDevice>,
    /// The identity of what was opened: of the snapshot (its uid), else of the volume.
    pub identity: String,
}

/// A target that is open. Its lock, once obtained, is held until the handle and every clone of its device are dropped and
/// all their I/O has ended: it lies on the very description that does the I/O.
pub struct TargetHandle {
    device: Arc<dyn BlockDevice>,
    identity: String,
    lock: Box<dyn VolumeLock>,
}

impl TargetHandle {
    pub(crate) fn new(device: Arc<dyn BlockDevice>, identity: String, lock: Box<dyn VolumeLock>) -> Self {
        Self { device, identity, lock }
    }

    #[must_use]
    pub fn device(&self) -> Arc<dyn BlockDevice> {
        Arc::clone(&self.device)
    }

    /// The identity of the volume that was opened, taken from the open descriptor.
    #[must_use]
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Which device the lock lies on, where one volume may be reached as several: the lock on one of them says nothing of what is in
    /// flight on another. None where the identity says it all.
    #[must_use]
    pub fn lock_place(&self) -> Option<&str> {
        self.lock.place()
    }

    /// Tries to obtain the exclusive kernel lock; may be called again later, and again once it is held.
    ///
    /// # Errors
    /// If locks do not work here at all.
    pub fn try_lock(&self) -> Result<LockAttempt, StorageError> {
        self.lock.try_lock()
    }
}

/// How an attempt to lock ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LockAttempt {
    Held,
    /// Another description holds it: its I/O may still be in flight.
    HeldByAnother,
}

/// The lock of an open target. It shares the description with the device.
pub(crate) trait VolumeLock: Send + Sync {
    fn try_lock(&self) -> Result<LockAttempt, StorageError>;

    /// See [`TargetHandle::lock_place`].
    fn place(&self) -> Option<&str> {
        None
    }
}

impl fmt::Debug for SourceHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceHandle").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl fmt::Debug for TargetHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TargetHandle").field("identity", &self.identity).finish_non_exhaustive()
    }
}
