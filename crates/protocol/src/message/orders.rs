//! What agents are ordered to do: for a run, as its holder or as its reader.

use serde::{Deserialize, Serialize};
use tanist_model::byte_range::ByteRanges;
use tanist_model::id::{AgentName, ApplicationName, Epochs, ReplicationName, RunId, SnapshotId, VolumeAddress};
use tanist_model::policy::{SourceMode, StreamCount, VerifyMode};
use tanist_model::run::{BoundSnapshot, Checkpoint, RunMethod};

use super::{PeerAddress, StreamKey};
use crate::fence::key::ReservationKey;

/// What an activated agent is to work on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Assignment {
    pub name: ReplicationName,
    pub source: VolumeAddress,
    pub source_identity: String,
    pub target: VolumeAddress,
    pub target_identity: String,
    pub size_bytes: u64,
    /// An earlier epoch that is not proven quiet may still hold the kernel lock on the target. Otherwise whoever holds it is a stranger,
    /// and nothing may be written.
    pub lock_may_be_held: bool,
    /// The target is reserved with this key before the first byte is written, and nothing is written without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserve: Option<ReservationKey>,
    /// The storage may be ordered to copy by itself: it is known of this epoch that it may be, and asked for before the target moves on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub array_copies: bool,
}

/// What to do for a run.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunOrder {
    /// Make a source snapshot under this id (and first a target snapshot of the last recovery point where the target can), and have
    /// it bound before a byte is copied. A host application is quiesced while the source snapshot is made.
    Prepare {
        run: RunId,
        attempt: SnapshotId,
        mode: SourceMode,
        keep: Option<SnapshotId>,
        #[serde(default)]
        application: Option<ApplicationName>,
    },
    /// Copy the bound snapshot. It is the word that the snapshot is bound, too.
    Copy { copy: Box<CopyOrder>, source: SourceAccess },
    /// Read the whole target and compare it with the digest of `copy.from`; nothing is read of the source, nothing is written.
    Verify { copy: Box<CopyOrder> },
    /// Only make the target snapshot of the last recovery point: a reader makes the source's.
    Keep { run: RunId, keep: Option<SnapshotId> },
}

/// Which bytes are to be copied, from where on, and how.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CopyOrder {
    pub run: RunId,
    pub snapshot: BoundSnapshot,
    /// The last committed checkpoint: what lies after it is written again.
    pub from: Checkpoint,
    /// Byte offset below which everything is committed; beyond `from` only while the target is read once more.
    pub committed: u64,
    pub verify: VerifyMode,
    pub bandwidth_bytes_per_second: Option<u64>,
    #[serde(default)]
    pub method: RunMethod,
    /// Written whole, unless digests stored of the method's base say that it did not change: a read of the target proves nothing there.
    #[serde(default)]
    pub unconditional: ByteRanges,
}

/// How a holder gets at the bytes of the source.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SourceAccess {
    /// It reads the source itself: the direct form.
    Local,
    /// A reader sends them: the networked form.
    Remote { reader: AgentName, epochs: Epochs },
}

/// What a reader needs to know of a replication. It has no grant of its own: what it sends is admitted at the gate.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ReadAssignment {
    pub name: ReplicationName,
    pub source: VolumeAddress,
    pub source_identity: String,
    pub size_bytes: u64,
    pub bandwidth_bytes_per_second: Option<u64>,
    #[serde(default)]
    pub streams: StreamCount,
}

/// What a reader is to do.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReadOrder {
    /// Make the source snapshot under this id, and have it bound. A host application is quiesced while it is made.
    Prepare {
        run: RunId,
        attempt: SnapshotId,
        mode: SourceMode,
        #[serde(default)]
        application: Option<ApplicationName>,
    },
    /// Send the bound snapshot to the holder.
    ///
    /// `grant`: the server's signed permission, for the holder; put in by the shell, opaque here.
    Send {
        run: RunId,
        snapshot: BoundSnapshot,
        #[serde(default)]
        method: RunMethod,
        holder: PeerAddress,
        stream: StreamKey,
        #[serde(default)]
        grant: String,
    },
    /// Stop sending; remove what nobody needs. `published`: this run stands as a recovery point.
    Rest {
        release: Vec<SnapshotId>,
        #[serde(default)]
        published: Option<RunId>,
    },
    /// The replication ends, or another reader takes its place: stop, remove these, and say [`ReadEnded`](super::AgentMessage::ReadEnded).
    End { release: Vec<SnapshotId> },
}

impl RunOrder {
    #[must_use]
    pub fn run(&self) -> RunId {
        match self {
            Self::Prepare { run, .. } | Self::Keep { run, .. } => *run,
            Self::Copy { copy, .. } | Self::Verify { copy } => copy.run,
        }
    }

    /// Whether something is written for it.
    #[must_use]
    pub fn copies(&self) -> bool {
        matches!(self, Self::Copy { .. })
    }
}

/// What tanist made for a replication and removes with it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Release {
    pub source_snapshots: Vec<SnapshotId>,
    /// Target snapshots, by the run whose recovery point they keep.
    pub target_snapshots: Vec<SnapshotId>,
}

/// How a run ended for its agent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunEnd {
    Published,
    Abandoned,
    /// Paused: it goes on later from its checkpoint.
    Halted,
}
