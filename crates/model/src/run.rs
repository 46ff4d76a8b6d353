//! A run: one source snapshot brought to the target, through however many agents it takes.

use serde::{Deserialize, Serialize};

use crate::id::{AgentName, ApplicationName, Epochs, ReplicationId, RunId, SnapshotId};
use crate::policy::{SourceMode, VerifyMode};
use crate::time::Timestamp;
use crate::work::WorkLog;

/// Where a run stands.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum RunState {
    /// Asked for; no snapshot of it exists for the protocol yet.
    SnapshotPending,
    /// Its snapshot's identity is committed; no byte of it is on the target.
    Bound,
    /// Bytes are moving.
    Copying,
    /// Everything is on the target; the whole target is being read once more.
    Verifying,
    /// The whole snapshot is flushed and verified; the publication is being committed.
    Flushed,
    /// A recovery point stands for it.
    Published,
    /// Given up. What it wrote makes the target dirty.
    Abandoned,
}

impl RunState {
    #[must_use]
    pub fn is_finished(self) -> bool {
        matches!(self, Self::Published | Self::Abandoned)
    }
}

/// Who asked for a run.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum RunTrigger {
    /// An operator, by name.
    Operator(String),
    /// The schedule; this is the due time it is made for.
    Schedule(Timestamp),
    /// A scheduled run was abandoned: so many in a row.
    Retry(u32),
}

/// Of a run that reads the target once more instead of bringing a new snapshot.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Verification {
    /// The run whose recovery point the target should hold.
    pub of: RunId,
    /// What differs is written again from the snapshot of that run.
    pub repair: bool,
}

/// A source snapshot bound to a run: from here on, its bytes are what the target must become.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct BoundSnapshot {
    pub id: SnapshotId,
    /// The storage system's own identity of it. Whoever opens it checks this.
    pub uid: String,
    pub mode: SourceMode,
    pub size_bytes: u64,
    /// The host application that was quiesced while it was made.
    #[serde(default)]
    pub application: Option<ApplicationName>,
}

/// Durable progress, not restorable: everything below `seq` equals the snapshot, flushed and verified.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Checkpoint {
    /// Byte offset into the volume: a multiple of the digest block, or the volume's size.
    pub seq: u64,
    /// Chained BLAKE3 over the digests of the source blocks in `[0, seq)`.
    pub chain: ChainDigest,
}

impl Checkpoint {
    /// The checkpoint of a run that has not written yet.
    pub const START: Self = Self { seq: 0, chain: ChainDigest([0; 32]) };
}

/// How far, in bytes of the volume, a writer may be past its last committed checkpoint.
pub const STALL_WINDOW_BYTES: u64 = 256 << 20;

/// What a run may leave unwritten because the target holds it already.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum RunMethod {
    /// Nothing: everything is written.
    #[default]
    Full,
    /// What source and target are read to hold alike.
    Compare,
    /// What did not change since this recovery point, which the target holds: by the digests that whoever encodes has stored of exactly
    /// it, or, without any, what is read alike on both sides.
    Delta {
        base: RunId,
        chain: ChainDigest,
        /// What it was copied from, if the source's storage system may be asked what changed since: with digests, the rest is not read.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        snapshot: Option<SnapshotId>,
    },
}

impl RunMethod {
    /// Whether anything is compared at all.
    #[must_use]
    pub fn compares(self) -> bool {
        self != Self::Full
    }

    /// Whether the storage system of the source is asked what changed.
    #[must_use]
    pub fn asks_for_changes(self) -> bool {
        matches!(self, Self::Delta { snapshot: Some(_), .. })
    }

    /// The name that operators read.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Compare => "compare",
            Self::Delta { snapshot: None, .. } => "delta",
            Self::Delta { snapshot: Some(_), .. } => "changes",
        }
    }
}

/// BLAKE3 over (previous chain value, digest of the next block), 32 bytes; hexadecimal in text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(value_type = String))]
pub struct ChainDigest(pub [u8; 32]);

impl std::fmt::Display for ChainDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl std::fmt::Debug for ChainDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

impl Serialize for ChainDigest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ChainDigest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let bad = || serde::de::Error::custom("a digest is 64 hexadecimal digits");
        if text.len() != 64 || !text.is_ascii() {
            return Err(bad());
        }
        let mut bytes = [0; 32];
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).map_err(|_| bad())?;
        }
        Ok(Self(bytes))
    }
}

/// One run, as stored.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct RunRecord {
    pub id: RunId,
    pub replication: ReplicationId,
    pub state: RunState,
    pub trigger: RunTrigger,
    /// What is read back before a checkpoint counts: the policy's wish when the run was asked for.
    #[serde(default)]
    pub verify: VerifyMode,
    /// The operator asked for everything to be written.
    #[serde(default)]
    pub full: bool,
    /// Decided when its snapshot was bound, and kept by every successor; `None` before, and of runs bound by a server that knew no methods.
    #[serde(default)]
    pub method: Option<RunMethod>,
    /// Somebody was ordered to copy it: the window past its checkpoint may have been written and not be durable.
    #[serde(default)]
    pub copy_ordered: bool,
    /// The snapshot attempt in force; replaced when an attempt dies unbound.
    pub attempt: SnapshotId,
    /// Attempts that died unbound; what they left behind is removed with the next release.
    #[serde(default)]
    pub dead_attempts: Vec<SnapshotId>,
    pub snapshot: Option<BoundSnapshot>,
    pub checkpoint: Checkpoint,
    /// The epochs under which the checkpoint was committed.
    pub checkpoint_epochs: Epochs,
    /// How many takeovers and handovers the run lived through.
    pub takeovers: u32,
    /// Failures of the run itself (a flush, a verification), each followed by a repair from the checkpoint.
    pub repairs: u32,
    /// How often what was read back differed. The second time quarantines the replication.
    #[serde(default)]
    pub mismatches: u32,
    /// The agent that works on it, or did last.
    pub agent: Option<AgentName>,
    pub requested_at: Timestamp,
    pub bound_at: Option<Timestamp>,
    pub checkpoint_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    #[serde(default)]
    pub verification: Option<Verification>,
    /// What its attempts have done.
    #[serde(default)]
    pub work: WorkLog,
    /// Why it was abandoned; of a run that goes on, what it failed at since its last checkpoint.
    pub failure: Option<String>,
}
