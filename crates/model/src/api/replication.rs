//! Replications as an operator sees them.

use serde::{Deserialize, Serialize};

use super::RankedAgent;
use crate::application::Quiescence;
use crate::drill::DrillResult;
use crate::event::Event;
use crate::id::{
    AgentName, ApplicationName, Epoch, Epochs, HostIdentity, ReplicationName, RunId, SnapshotId, VolumeAddress,
};
use crate::policy::Policy;
use crate::recovery_point::RecoveryPointPlace;
use crate::removal::Remnant;
use crate::replication::{FencingTier, Intent, Side};
use crate::run::{ChainDigest, RunState};
use crate::stage::StageUse;
use crate::takeover::TakeoverRecord;
use crate::time::Timestamp;
use crate::work::RunWork;

/// One side, as `replication show` lists it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct SideView {
    pub side: Side,
    pub volume: VolumeAddress,
    pub epoch: Epoch,
    /// Who acts for this side: for the source the reader if there is one, otherwise the acting agent where it stands here.
    #[serde(default)]
    pub acting: Option<AgentName>,
    pub agents: Vec<RankedAgent>,
}

/// A run in progress or just ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct RunView {
    pub id: RunId,
    pub state: RunState,
    pub agent: Option<AgentName>,
    pub done_bytes: u64,
    pub size_bytes: u64,
    pub rate_bytes_per_second: u64,
    pub seconds_left: Option<u64>,
    /// Which stage is the limit now.
    pub limit: Option<String>,
    /// Where the time of the last few seconds went, in the order in which a block passes the stages; of both sides, in the networked form.
    #[serde(default)]
    pub stages: Vec<StageUse>,
    pub takeovers: u32,
    pub repairs: u32,
    /// What it may leave unwritten, and unread: `full`, `compare`, `delta` or `changes`; not yet decided before its snapshot is bound.
    #[serde(default)]
    pub method: Option<String>,
    /// What it reads, once that is bound: the id by which a storage system may be asked what changed since.
    #[serde(default)]
    pub snapshot: Option<SnapshotId>,
    /// What its attempts have done, by the agents' word.
    #[serde(default)]
    pub work: RunWork,
    /// Of that, passed again after takeovers and failures.
    #[serde(default)]
    pub copied_again_bytes: u64,
    pub requested_at: Timestamp,
    pub finished_at: Option<Timestamp>,
    pub failure: Option<String>,
    /// What keeps it from going on now, or from beginning.
    #[serde(default)]
    pub waiting: Option<RunWaiting>,
}

/// What a run waits for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct RunWaiting {
    /// Goes on after "waits for".
    pub what: String,
    pub since: Timestamp,
}

/// A recovery point.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct RecoveryPointView {
    pub run: RunId,
    pub place: RecoveryPointPlace,
    pub size_bytes: u64,
    pub digest: ChainDigest,
    pub source_time: Timestamp,
    pub published_at: Timestamp,
    pub fuzzy: bool,
    /// What was written for it was read back.
    pub verified: bool,
    /// What was neither written nor read for it: it did not change since the recovery point before.
    #[serde(default)]
    pub assumed_bytes: u64,
    /// Of its source no more need have been read than what the storage system named as changed, and a sample of the rest.
    #[serde(default)]
    pub by_changes: bool,
    /// When the whole target was read again last, and equalled it.
    #[serde(default)]
    pub verified_at: Option<Timestamp>,
    /// When it was read and turned out to be other bytes than were published: do not rely on it.
    #[serde(default)]
    pub damaged_at: Option<Timestamp>,
    /// When the target that this snapshot was taken of was found to be other bytes, maybe already then: read it before you rely on it.
    #[serde(default)]
    pub doubtful_since: Option<Timestamp>,
    /// Kept by an operator's word.
    #[serde(default)]
    pub pinned: bool,
    /// The retention keeps it no longer; it is being removed.
    #[serde(default)]
    pub expired: bool,
    /// The host application that was quiesced for it.
    #[serde(default)]
    pub application: Option<ApplicationName>,
}

/// How a replication is, in one word.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    Ok,
    /// It works or could, but less well than the operator wants: look at `waits_for` and `next`.
    Degraded,
    /// No run can go on, or nothing can be restored and nothing is being done about it.
    Stopped,
}

/// An epoch that is waited for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct AwaitedProof {
    pub epoch: Epoch,
    pub agent: AgentName,
    pub host: HostIdentity,
    pub since: Timestamp,
}

/// What is left to do of a removal.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct RemovalView {
    /// What no agent can clean up is left behind, by an operator's word.
    pub leave_behind: bool,
    /// What tanist made and removes.
    pub snapshots: Vec<Remnant>,
}

/// `GET /replications/{name}`: is my data safe, what happened, what do I do.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ReplicationView {
    pub name: ReplicationName,
    pub health: Health,
    /// The health in one sentence.
    pub summary: String,
    pub intent: Intent,
    /// While it is being removed.
    #[serde(default)]
    pub removal: Option<RemovalView>,
    /// A transfer or a restore: it removes itself after its one run.
    #[serde(default)]
    pub once: bool,
    /// The state of the server's machine: `stable`, `suspect`, `probing`, `granted`, `active`, `await-proof`, `handing-over`, `exhausted`.
    pub state: String,
    pub size_bytes: u64,
    pub policy: Policy,
    /// `direct` or `networked`, as in a plan.
    pub form: String,
    pub tier: FencingTier,
    pub promise: String,
    pub epochs: Epochs,
    /// Who acts for the target's side; who reads the source stands there.
    pub acting: Option<AgentName>,
    pub sides: Vec<SideView>,
    pub lag_seconds: Option<u64>,
    /// Whether the last recovery point, or without one the replication itself, is older than its RPO allows.
    #[serde(default)]
    pub rpo_missed: bool,
    pub last_recovery_point: Option<RecoveryPointView>,
    /// The newest one whose bytes are there now: the last, or an older one that a snapshot of the target keeps.
    #[serde(default)]
    pub restorable_point: Option<RecoveryPointView>,
    /// When the next run is made by itself, if one is.
    #[serde(default)]
    pub next_run_at: Option<Timestamp>,
    /// Whether the target equals a recovery point now.
    pub target_dirty: bool,
    /// Since when the storage system of the source is not asked any more what changed, because it left out a change.
    #[serde(default)]
    pub changes_disbelieved_at: Option<Timestamp>,
    pub run: Option<RunView>,
    pub last_run: Option<RunView>,
    /// What is waited for, in plain words, if anything.
    pub waits_for: Option<String>,
    pub awaited: Vec<AwaitedProof>,
    pub last_takeover: Option<TakeoverRecord>,
    /// Host applications that may be quiesced for it now.
    #[serde(default)]
    pub quiesced: Vec<Quiescence>,
    /// Frames that came too late and were refused, since the replication was created.
    #[serde(default)]
    pub refused_frames: u64,
    /// What takeovers on purpose showed.
    #[serde(default)]
    pub drills: DrillsView,
    /// The command to type next.
    pub next: Option<String>,
}

/// The drills of a replication.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct DrillsView {
    /// The last good one: how long a takeover took when it was proven last.
    pub last_good: Option<DrillResult>,
    /// The last of them, the newest first.
    pub results: Vec<DrillResult>,
    /// When the next is made by itself, if one is.
    pub next_at: Option<Timestamp>,
    /// Why the one that is due is not made now.
    pub waits_for: Option<String>,
    /// The last good one is older than twice the schedule.
    pub overdue: bool,
}

/// `GET /replications/{name}/why`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct WhyView {
    pub name: ReplicationName,
    /// Newest first; only the one asked for when a time was given.
    pub takeovers: Vec<TakeoverRecord>,
    /// What happened to the reading of the source, oldest first: readers granted, suspected, and none left (T419 to T421). The latest,
    /// or those around the time asked for.
    #[serde(default)]
    pub readers: Vec<Event>,
}
