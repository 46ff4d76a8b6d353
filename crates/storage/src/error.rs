//! Why a storage system could not do what it was asked: what was being done, to which volume, and what helps.

use std::io;

use tanist_model::id::{SnapshotId, StorageName, VolumeAddress};

/// Why a storage system refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    #[error("{volume} does not exist")]
    NotFound { volume: VolumeAddress },
    #[error("{volume} is not a regular file; links, directories and devices are not followed")]
    NotAVolume { volume: VolumeAddress },
    #[error("{volume} was asked of storage system {system}; this is a defect of tanist, please report it")]
    WrongSystem { volume: VolumeAddress, system: StorageName },
    #[error("{volume} is not there: {reason}")]
    Absent { volume: VolumeAddress, reason: String },
    #[error("{volume} is refused: {reason}")]
    Refused { volume: VolumeAddress, reason: String },
    #[error("{system} cannot make snapshots: {how}, or choose --source-mode sealed or live")]
    SnapshotsUnsupported {
        system: StorageName,
        /// What is missing, and how it could be had.
        how: &'static str,
    },
    #[error("snapshot command {program} {verb}: {why}")]
    Command { program: String, verb: &'static str, why: String },
    #[error("{verb} of {of}: {why}")]
    Lvm {
        /// The command of LVM.
        verb: &'static str,
        of: String,
        why: String,
    },
    #[error(
        "there is no thin pool {pool} on this host: lvs shows what there is, and vgchange --activate y activates a group"
    )]
    NoPool { pool: String },
    #[error(
        "no snapshot is made in thin pool {pool}: {reason}; make room first: lvextend --size +10G {pool} (--poolmetadatasize for \
         its metadata), fewer recovery points (tanist replication set NAME --keep ...), or remove volumes"
    )]
    PoolFull { pool: String, reason: String },
    #[error("snapshot {id} of {volume} exists already; an attempt's id is never used again")]
    SnapshotExists { volume: VolumeAddress, id: SnapshotId },
    #[error("storage system {system}: {cause}")]
    Nbd {
        system: StorageName,
        #[source]
        cause: io::Error,
    },
    #[error("there is no snapshot {id} of {volume}")]
    SnapshotNotFound { volume: VolumeAddress, id: SnapshotId },
    #[error("snapshot {id} of {volume} is not the one that was bound: expected {expected}, found {found}")]
    SnapshotMismatch { volume: VolumeAddress, id: SnapshotId, expected: String, found: String },
    #[error(
        "sealed source {volume} changed: {what}; a copy could mix two states: stop what touches it, then sync again"
    )]
    SourceChanged { volume: VolumeAddress, what: String },
    #[error("cannot {doing} {subject}: {cause}")]
    Io {
        /// What was being done, as a verb: `open`, `lock`.
        doing: &'static str,
        /// To what: a volume's address or a path.
        subject: String,
        #[source]
        cause: io::Error,
    },
}

impl StorageError {
    /// True if the same call may succeed later without anybody's help.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        use io::ErrorKind as Kind;
        match self {
            Self::Io { cause, .. } => {
                !matches!(cause.kind(), Kind::PermissionDenied | Kind::ReadOnlyFilesystem | Kind::Unsupported)
            }
            Self::Absent { .. } | Self::PoolFull { .. } | Self::Nbd { .. } => true,
            _ => false,
        }
    }

    pub(crate) fn io<E: Into<io::Error>>(doing: &'static str, subject: impl ToString) -> impl FnOnce(E) -> Self {
        let subject = subject.to_string();
        move |cause| Self::Io { doing, subject, cause: cause.into() }
    }

    pub(crate) fn changed(volume: &VolumeAddress, sealed: &str, found: &str) -> Self {
        Self::SourceChanged { volume: volume.clone(), what: crate::sealed::what_changed(sealed, found) }
    }
}
