//! What the agent's machine asks of the block engine, and what the engine answers. One engine a replication and epochs.

use serde::{Deserialize, Serialize};
use tanist_model::id::{AgentName, ApplicationName, CommandId, RunId, SnapshotId};
use tanist_model::policy::SourceMode;
use tanist_model::run::{BoundSnapshot, Checkpoint, RunMethod};
use tanist_model::time::Timestamp;

use crate::message::{
    Assignment, CopyOrder, FenceReport, LateFrames, PeerAddress, ReadAssignment, Release, RunFailureKind, RunProgress,
    StreamKey,
};

/// A command to the engine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum EngineCommand {
    /// Open both volumes, check their identities, take the kernel lock on the target's I/O descriptor if it is free.
    Open { assignment: Box<Assignment> },
    /// Try the kernel lock once more.
    TryLock,
    /// Ask the target's storage for copies that earlier epochs ordered, until none is going on.
    AskArray { question: CommandId },
    /// Make the target snapshot that keeps the last recovery point, then the source snapshot, a host application being quiesced.
    Prepare {
        run: RunId,
        attempt: SnapshotId,
        mode: SourceMode,
        keep: Option<SnapshotId>,
        application: Option<ApplicationName>,
    },
    /// Copy from a checkpoint; everything after it is written again, whatever the target holds.
    Copy { copy: Box<CopyOrder>, source: EngineSource },
    /// Read the whole target and compare it with the digest of `copy.from`.
    Verify { copy: Box<CopyOrder> },
    /// Make the target snapshot that keeps the last recovery point, and nothing else.
    Keep { run: RunId, keep: Option<SnapshotId> },
    /// The server has committed a checkpoint.
    Committed { run: RunId, seq: u64 },
    /// Stop at a checkpoint; volumes stay open.
    Halt { run: RunId },
    /// The run stands as a recovery point: digests that were stored of it are valid from here on.
    Published { run: RunId },
    /// Remove source snapshots that nobody needs.
    Release { snapshots: Vec<SnapshotId> },
    /// Remove target snapshots of expired recovery points, and look for those to keep.
    Expire { snapshots: Vec<SnapshotId>, keep: Vec<SnapshotId> },
    /// Stop, end all I/O, close. `graceful`: with a last checkpoint. `release`: remove these snapshots before closing.
    Close { graceful: bool, release: Option<Release> },
}

/// Where the engine of a holder gets the source's bytes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum EngineSource {
    /// The volume itself.
    Local,
    /// What this process sends, admitted only with exactly this key.
    Stream { stream: StreamKey, reader: AgentName },
}

impl EngineSource {
    /// The stream that is waited for, in the networked form.
    #[must_use]
    pub fn stream(&self) -> Option<StreamKey> {
        match self {
            Self::Local => None,
            Self::Stream { stream, .. } => Some(*stream),
        }
    }
}

/// A command to the engine of a reader. One engine a replication and source epoch; it begins with its first command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ReaderCommand {
    Prepare {
        assignment: Box<ReadAssignment>,
        run: RunId,
        attempt: SnapshotId,
        mode: SourceMode,
        application: Option<ApplicationName>,
    },
    /// Send; an earlier sending is ended first.
    Send {
        assignment: Box<ReadAssignment>,
        run: RunId,
        snapshot: BoundSnapshot,
        method: RunMethod,
        holder: PeerAddress,
        stream: StreamKey,
        grant: String,
    },
    /// Stop sending.
    Rest,
    /// The run stands as a recovery point: digests that were stored of it are valid from here on.
    Published {
        run: RunId,
    },
    Release {
        assignment: Box<ReadAssignment>,
        snapshots: Vec<SnapshotId>,
    },
    Close,
}

/// A report of the engine of a reader.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ReaderEvent {
    SnapshotMade {
        run: RunId,
        snapshot: BoundSnapshot,
    },
    Failed {
        run: RunId,
        kind: RunFailureKind,
        reason: String,
    },
    Progress {
        run: RunId,
        progress: RunProgress,
    },
    /// All is released and closed.
    Closed,
}

/// A report of the engine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum EngineEvent {
    Opened {
        fence: FenceReport,
    },
    OpenFailed {
        reason: String,
    },
    /// The lock was obtained after the opening.
    Locked {
        fence: FenceReport,
    },
    /// No copy that an earlier epoch ordered is going on at the target.
    ArrayQuiet {
        question: CommandId,
    },
    SnapshotMade {
        run: RunId,
        snapshot: BoundSnapshot,
        kept: Option<String>,
    },
    /// Everything below the checkpoint is written, flushed, and verified if the policy wants it.
    Durable {
        run: RunId,
        checkpoint: Checkpoint,
        at: Timestamp,
    },
    CopyDone {
        run: RunId,
        checkpoint: Checkpoint,
        verified: bool,
    },
    RunFailed {
        run: RunId,
        kind: RunFailureKind,
        reason: String,
    },
    Halted {
        run: RunId,
    },
    Kept {
        run: RunId,
        uid: Option<String>,
    },
    /// Of the target snapshots that were named these are not there.
    SnapshotsGone {
        snapshots: Vec<SnapshotId>,
    },
    Progress {
        run: RunId,
        progress: RunProgress,
    },
    /// Frames came when their reception was over.
    Late(LateFrames),
    /// The storage path is gone; nothing can be done here any more.
    Unfit {
        reason: String,
    },
    /// All I/O has ended and the descriptors are closed.
    Closed,
}
