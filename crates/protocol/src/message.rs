//! What server and agents say to each other. These types are the wire format (JSON in length-delimited frames).
//!
//! Every command carries its term, replication, epochs and incarnation, so that a stale one shows.

mod orders;

use serde::{Deserialize, Serialize};
use tanist_model::application::{ApplicationReport, ThawReport};
use tanist_model::id::{
    AgentName, ApplicationName, ClusterId, CommandId, Epochs, HostIdentity, Incarnation, Nonce, ReplicationId, RunId,
    SnapshotId, Term, VolumeAddress,
};
use tanist_model::replication::Side;
use tanist_model::run::{BoundSnapshot, Checkpoint};
use tanist_model::stage::StageUse;
use tanist_model::takeover::PeerVerdict;
use tanist_model::time::Timestamp;
use tanist_model::volume::{StorageReport, VolumeReport};
use tanist_model::work::RunWork;

use crate::fence::Taken;

pub use orders::{Assignment, CopyOrder, ReadAssignment, ReadOrder, Release, RunEnd, RunOrder, SourceAccess};

/// Where an agent's peers reach it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PeerAddress {
    pub agent: AgentName,
    pub address: String,
}

/// A canary read, or the answer of a survey, for one volume.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CanaryReport {
    pub address: VolumeAddress,
    /// `Err` says why the volume cannot be read.
    pub result: Result<VolumeReport, String>,
    pub took_us: u64,
    /// How old the result was when it was sent, in milliseconds.
    pub age_ms: u64,
}

/// What a ping of a peer gave.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PeerReport {
    pub peer: AgentName,
    pub verdict: PeerVerdict,
    pub took_us: u64,
    pub age_ms: u64,
}

/// The states of the agent's machine, per replication.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RoleState {
    Idle,
    AwaitGrant,
    Draining,
    Fencing,
    Active,
    DrainingOut,
    Fenced,
    Quarantined,
}

/// How far a run is, measured by the engine; for people, not for decisions.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct RunProgress {
    /// Bytes of the volume passed, holes included.
    pub passed_bytes: u64,
    pub rate_bytes_per_second: u64,
    /// The stage that the others wait for.
    pub limit: String,
    /// What this holder has done for the run, all its attempts together.
    #[serde(default)]
    pub work: RunWork,
    /// Where its time goes: the stages on this side.
    #[serde(default)]
    pub stages: Vec<StageUse>,
}

/// Frames that came when their reception was over, and why the last of them was not let in.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct LateFrames {
    /// Since the role began.
    pub refused: u64,
    pub why: String,
}

/// One role of an agent, as it reports it with each beat. The server compares it with what it wants and sends again what is missing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RoleReport {
    pub replication: ReplicationId,
    /// The source's side is reported by a reader of the networked form.
    pub side: Side,
    pub epochs: Epochs,
    pub state: RoleState,
    /// What its fence holds now.
    pub fence: FenceReport,
    /// The run it works on.
    pub run: Option<RunId>,
    /// The stream that it waits for or works on.
    pub stream: Option<StreamKey>,
    pub progress: Option<RunProgress>,
    #[serde(default)]
    pub late: LateFrames,
}

/// One stream of blocks from a reader to a holder. The gate admits what carries exactly this and the open run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct StreamKey {
    pub epochs: Epochs,
    /// Drawn by the holder for each opening.
    pub generation: u64,
    /// Byte offset at which the stream begins: the checkpoint that the holder resumes from.
    pub from: u64,
}

/// The first message of an agent on a connection.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Hello {
    pub incarnation: Incarnation,
    pub host: HostIdentity,
    /// The program's version, for people.
    pub version: String,
    /// How it reads and writes volumes, for people: `io_uring`, or why not.
    #[serde(default)]
    pub io: Option<String>,
    pub listen_address: Option<String>,
    /// The highest term it has obeyed: a server with a lower one is deposed.
    pub highest_term: Term,
    pub storage: Vec<StorageReport>,
    pub volumes: Vec<VolumeReport>,
    pub roles: Vec<RoleReport>,
    /// The host applications that it has scripts for.
    #[serde(default)]
    pub applications: Vec<ApplicationReport>,
    /// The epochs it remembers having been granted, over its restarts; they count after a restore of the store.
    pub granted: Vec<(ReplicationId, Epochs)>,
    /// Those among them that this very process was granted: of these it can still say that they are over.
    #[serde(default)]
    pub granted_here: Vec<(ReplicationId, Epochs)>,
    /// The peer that carries this connection, if the agent did not come directly. For people: nothing is decided by it.
    #[serde(default)]
    pub through: Option<AgentName>,
    /// Counts the connections of this process: of two, the one with the higher number is the later one, whichever arrives first.
    #[serde(default)]
    pub connection: u64,
}

/// A beat: I live, this is what I do, this is what I can reach.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Heartbeat {
    pub roles: Vec<RoleReport>,
    pub canaries: Vec<CanaryReport>,
    pub peers: Vec<PeerReport>,
    /// The assignment that it watches by: the server repeats one that was lost.
    #[serde(default)]
    pub watching: OrderNumber,
    /// Counts the beats of this process; the server answers with it. 0 wants no answer.
    #[serde(default)]
    pub number: u64,
    /// It has been told to stop and wants its roles handed over.
    pub leaving: bool,
}

/// Why a run cannot go on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunFailureKind {
    /// A flush of the target failed: everything since the checkpoint is written again.
    Flush,
    /// A read or write failed.
    Io,
    /// What was read back differs from what was written.
    Mismatch,
    /// The whole-target verification at the end found a difference.
    FullMismatch,
    /// The source changed where it must not, or grew.
    SourceChanged,
    /// The source's storage system did not name all that changed: what was left unread certifies nothing.
    ChangesUntold,
    /// The target is another volume by now, or lost bytes that were written: what was copied certifies nothing.
    TargetChanged,
    /// The snapshot could not be made.
    Snapshot,
    /// The host application could not be quiesced, or did not stay so until the snapshot was made.
    Quiesce,
    /// The bound snapshot is gone or is another one.
    SnapshotGone,
    /// The streams between reader and holder broke.
    Link,
}

/// What an agent's fence found, as it reports it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct FenceReport {
    /// The identity of the volume whose I/O descriptor it holds the exclusive kernel lock on, if it obtained it.
    pub locked: Option<String>,
    /// Which of the volume's devices the lock lies on, where it may be reached as several of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock_place: Option<String>,
    /// How it got the target's reservation, if its assignment asked for it. Without the reservation it does not act.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reservation: Option<Taken>,
}

/// From an agent to the server.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AgentMessage {
    Hello(Box<Hello>),
    Heartbeat(Heartbeat),
    /// All volumes it can see, when they changed or were asked for.
    Inventory {
        storage: Vec<StorageReport>,
        volumes: Vec<VolumeReport>,
        #[serde(default)]
        applications: Vec<ApplicationReport>,
    },
    /// A host application that was to be quiesced is thawed, or could not be. Said again until [`ServerMessage::ThawNoted`].
    Thawed(Box<ThawReport>),
    /// The answer to a [`ServerMessage::Survey`].
    Surveyed {
        survey: u64,
        canaries: Vec<CanaryReport>,
        peers: Vec<PeerReport>,
    },
    /// It cannot go on with a role; its I/O is being ended.
    Unfit {
        replication: ReplicationId,
        epochs: Epochs,
        reason: String,
    },
    GrantRequest {
        replication: ReplicationId,
        epochs: Epochs,
        nonce: Nonce,
    },
    Activated {
        replication: ReplicationId,
        epochs: Epochs,
        fence: FenceReport,
    },
    /// It declines an activation. Final for these epochs: nothing was and nothing will be written under them.
    NotEligible {
        replication: ReplicationId,
        epochs: Epochs,
        reason: String,
    },
    /// It obtained the kernel lock after its activation.
    ProofOfQuiet {
        replication: ReplicationId,
        epochs: Epochs,
        fence: FenceReport,
    },
    /// The answer to [`ServerMessage::AskArray`]: no copy that an earlier epoch has ordered is going on at the target.
    ArrayQuiet {
        replication: ReplicationId,
        epochs: Epochs,
        question: CommandId,
    },
    BindSnapshot {
        replication: ReplicationId,
        epochs: Epochs,
        run: RunId,
        snapshot: BoundSnapshot,
        /// The target snapshot that keeps the last recovery point, by its storage's identity, where the target makes snapshots.
        kept: Option<String>,
    },
    /// The holder of the networked form has kept the last recovery point; the identity of the target snapshot, if there was anything
    /// to keep and the target makes snapshots.
    Kept {
        replication: ReplicationId,
        epochs: Epochs,
        run: RunId,
        uid: Option<String>,
    },
    /// The answer to [`ServerMessage::Expire`]: these target snapshots are not there, or not any more.
    SnapshotsGone {
        replication: ReplicationId,
        epochs: Epochs,
        snapshots: Vec<SnapshotId>,
    },
    /// A reader cannot go on with a run.
    ReadFailed {
        replication: ReplicationId,
        epochs: Epochs,
        run: RunId,
        kind: RunFailureKind,
        reason: String,
    },
    /// A reader has ended and removed what it was to release.
    ReadEnded {
        replication: ReplicationId,
        epochs: Epochs,
    },
    Checkpoint {
        replication: ReplicationId,
        epochs: Epochs,
        run: RunId,
        checkpoint: Checkpoint,
        durable_at: Timestamp,
        #[serde(default)]
        work: RunWork,
    },
    RunComplete {
        replication: ReplicationId,
        epochs: Epochs,
        run: RunId,
        checkpoint: Checkpoint,
        verified: bool,
        #[serde(default)]
        work: RunWork,
    },
    RunFailed {
        replication: ReplicationId,
        epochs: Epochs,
        run: RunId,
        kind: RunFailureKind,
        reason: String,
    },
    /// All I/O of these epochs has ended and its descriptors are closed. Final: they never write again.
    Drained {
        replication: ReplicationId,
        epochs: Epochs,
    },
    /// It was sent something older than it has seen.
    NewerEpochSeen {
        replication: ReplicationId,
        epochs: Epochs,
        term: Term,
    },
    /// It received the same epochs with other content and does nothing any more for this replication.
    Quarantined {
        replication: ReplicationId,
        epochs: Epochs,
        reason: String,
    },
    /// A signing request for the key that the agent has, from two thirds of its certificate's life on.
    RenewCertificate {
        csr_pem: String,
    },
}

impl AgentMessage {
    /// The replication that a message is about.
    #[must_use]
    pub fn replication(&self) -> Option<ReplicationId> {
        match self {
            Self::Unfit { replication, .. }
            | Self::GrantRequest { replication, .. }
            | Self::Activated { replication, .. }
            | Self::NotEligible { replication, .. }
            | Self::ProofOfQuiet { replication, .. }
            | Self::ArrayQuiet { replication, .. }
            | Self::BindSnapshot { replication, .. }
            | Self::Kept { replication, .. }
            | Self::SnapshotsGone { replication, .. }
            | Self::ReadFailed { replication, .. }
            | Self::ReadEnded { replication, .. }
            | Self::Checkpoint { replication, .. }
            | Self::RunComplete { replication, .. }
            | Self::RunFailed { replication, .. }
            | Self::Drained { replication, .. }
            | Self::NewerEpochSeen { replication, .. }
            | Self::Quarantined { replication, .. } => Some(*replication),
            Self::Hello(_)
            | Self::Heartbeat(_)
            | Self::Inventory { .. }
            // It may be about a replication that the agent has nothing to do with any more.
            | Self::Thawed(_)
            | Self::Surveyed { .. }
            | Self::RenewCertificate { .. } => None,
        }
    }
}

/// What a command is about. Compared with what the agent has seen before anything else.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Stamp {
    pub term: Term,
    pub replication: ReplicationId,
    pub epochs: Epochs,
    pub incarnation: Incarnation,
}

/// Orders of one term are numbered, so that a delayed one is not obeyed after a later one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub struct OrderNumber {
    pub term: Term,
    pub number: u64,
}

/// From the server to an agent.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServerMessage {
    Welcome {
        term: Term,
        cluster: ClusterId,
        /// This server says [`ServerMessage::Heard`] to every numbered beat: silence means something.
        #[serde(default)]
        answers_beats: bool,
    },
    /// The answer to the beat of this number: the way is open in both directions. Said by the connection, not by the machine.
    Heard {
        number: u64,
    },
    /// The connection is refused and will be closed.
    Refused {
        reason: String,
    },
    /// Which peers to ping and which volumes to read for the canary; replaces what was assigned before, unless it is older.
    Watch {
        number: OrderNumber,
        peers: Vec<PeerAddress>,
        volumes: Vec<VolumeAddress>,
        failover: bool,
    },
    /// Look at these now, and answer.
    Survey {
        term: Term,
        survey: u64,
        peers: Vec<PeerAddress>,
        volumes: Vec<VolumeAddress>,
        inventory: bool,
    },
    Activate {
        stamp: Stamp,
        command: CommandId,
    },
    Grant {
        stamp: Stamp,
        nonce: Nonce,
        assignment: Box<Assignment>,
    },
    OpenRun {
        stamp: Stamp,
        number: OrderNumber,
        order: Box<RunOrder>,
    },
    /// To a reader, under the source's epoch.
    Read {
        stamp: Stamp,
        number: OrderNumber,
        assignment: Box<ReadAssignment>,
        order: Box<ReadOrder>,
    },
    CheckpointAck {
        stamp: Stamp,
        run: RunId,
        seq: u64,
    },
    /// The run is over for this agent; `release` names source snapshots that tanist made and nobody needs any more.
    CloseRun {
        stamp: Stamp,
        number: OrderNumber,
        run: RunId,
        end: RunEnd,
        release: Vec<SnapshotId>,
    },
    /// Ask the target's storage whether anything that an earlier epoch ordered it to copy is going on there, and say so when nothing is.
    AskArray {
        stamp: Stamp,
        question: CommandId,
    },
    /// Remove these target snapshots of expired recovery points, and say which are gone; also of those to keep.
    Expire {
        stamp: Stamp,
        number: OrderNumber,
        snapshots: Vec<SnapshotId>,
        keep: Vec<SnapshotId>,
    },
    /// End in order: stop at a checkpoint, close, say [`AgentMessage::Drained`]. With `release` the replication ends: its snapshots
    /// are removed first.
    Drain {
        stamp: Stamp,
        number: OrderNumber,
        release: Option<Release>,
    },
    /// These epochs are superseded: stop writing at once, close, say [`AgentMessage::Drained`].
    StepDown {
        stamp: Stamp,
    },
    /// This reading is nobody's wish any more: stop and close.
    EndRead {
        stamp: Stamp,
    },
    /// [`AgentMessage::Drained`] is on record and need not be said again.
    DrainedNoted {
        stamp: Stamp,
    },
    CertificateIssued {
        certificate_pem: String,
    },
    /// What the agent said of this attempt is on record. `thawed`: and need not be said again.
    ThawNoted {
        term: Term,
        attempt: SnapshotId,
        thawed: bool,
    },
    /// Say what became of the host application that was to be quiesced for this attempt.
    AskThawed {
        term: Term,
        replication: ReplicationId,
        attempt: SnapshotId,
        application: ApplicationName,
    },
}
