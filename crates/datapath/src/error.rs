//! Why a transfer failed: what was being done, where, and whether another attempt can help.

use std::fmt;
use std::io;

use tanist_model::replication::Side;

use crate::link::LinkError;
use crate::progress::Stage;

/// What was asked of a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    Read,
    Write,
    Zero,
    /// Asking which parts are allocated.
    MapExtents,
    /// Reading back what was written.
    ReadBack,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Zero => "zero",
            Self::MapExtents => "map the extents of",
            Self::ReadBack => "read back",
        })
    }
}

/// Why a transfer ended without its goal.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The device refused an operation.
    #[error("cannot {operation} {length} bytes at {offset} of the {side}: {cause}")]
    Io {
        side: Side,
        operation: Operation,
        offset: u64,
        length: u64,
        #[source]
        cause: io::Error,
    },
    /// Nothing written since the checkpoint can be relied on: the next attempt starts there and rewrites everything,
    /// whatever a read-back shows.
    #[error("cannot flush the target; everything past the checkpoint at {checkpoint_seq} is written again: {cause}")]
    Flush {
        checkpoint_seq: u64,
        #[source]
        cause: io::Error,
    },
    /// The target holds other bytes than were written to it.
    #[error("the target does not hold what was written: {length} bytes at {offset} differ")]
    Mismatch { offset: u64, length: u64 },
    /// The whole target was read and its chained digest is not the run's. `compare` finds the place.
    #[error("the target's bytes below {seq} do not have the run's digest")]
    ChainMismatch { seq: u64 },
    /// What stored digests show to be unchanged since the recovery point before, the target does not hold.
    #[error(
        "the target does not hold its recovery point any more: {length} bytes at {offset} were changed by something else than this replication"
    )]
    NotTheBase { offset: u64, length: u64 },
    /// A sample of what the source's storage system did not name as changed has changed.
    #[error(
        "the storage system did not name a change of the source: {length} bytes at {offset} are not those of the last recovery point"
    )]
    Untold { offset: u64, length: u64 },
    /// The stored digest of a block that was to stand for it, unread.
    #[error("the stored digest of the block at {offset} cannot be read any more")]
    DigestLost { offset: u64 },
    /// The devices and the transfer do not fit.
    #[error(transparent)]
    Geometry(#[from] GeometryError),
    /// The streams between the two sides are of no more use.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// A defect of the program.
    #[error("the {0} stage panicked; this is a defect of tanist, please report it")]
    Panicked(Stage),
}

/// Why a transfer cannot even start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum GeometryError {
    #[error("the {side} has {actual_bytes} bytes and {needed_bytes} are to be copied")]
    TooSmall { side: Side, actual_bytes: u64, needed_bytes: u64 },
    #[error("a checkpoint at {seq} is neither on a block boundary nor at the end ({size_bytes})")]
    BadCheckpoint { seq: u64, size_bytes: u64 },
}

impl TransferError {
    /// True if a new attempt from the last committed checkpoint can succeed without anything being repaired by hand.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Io { cause, .. } => is_transient(cause),
            Self::Flush { .. } | Self::Link(_) | Self::DigestLost { .. } => true,
            Self::Mismatch { .. }
            | Self::ChainMismatch { .. }
            | Self::NotTheBase { .. }
            | Self::Untold { .. }
            | Self::Geometry(_)
            | Self::Panicked(_) => false,
        }
    }

    pub(crate) fn io(side: Side, operation: Operation, offset: u64, length: u64) -> impl Fn(io::Error) -> Self {
        move |cause| Self::Io { side, operation, offset, length, cause }
    }
}

fn is_transient(cause: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    !matches!(
        cause.kind(),
        Kind::PermissionDenied
            | Kind::ReadOnlyFilesystem
            | Kind::InvalidInput
            | Kind::Unsupported
            | Kind::UnexpectedEof
            | Kind::NotFound
    )
}
