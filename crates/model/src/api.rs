//! Bodies of the HTTP API (`/api/v1`), as the server sends them and the operator's commands print them.
//!
//! Views answer an operator's questions; they are computed from records and never stored.

use serde::{Deserialize, Serialize};

use crate::application::Quiescence;
use crate::drill::DrillResult;
use crate::event::Event;
use crate::hierarchy::Rank;
use crate::id::{
    AgentName, AlarmName, ApplicationName, CommandId, Epoch, Epochs, EventSeq, HostIdentity, Incarnation,
    ReplicationName, RunId, StorageName, Term, VolumeAddress,
};
use crate::policy::Policy;
use crate::recovery_point::RecoveryPointPlace;
use crate::removal::Remnant;
use crate::replication::{FencingTier, Intent, Side};
use crate::run::{ChainDigest, RunState};
use crate::takeover::TakeoverRecord;
use crate::time::Timestamp;
use crate::volume::{StorageReport, VolumeReport};
use crate::work::RunWork;

/// A refusal: what is wrong, why, and what to do.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[error("{error}")]
pub struct Refusal {
    pub code: RefusalCode,
    /// What was refused, in one sentence.
    pub error: String,
    pub cause: Option<String>,
    /// What to do, preferably the command to type.
    pub hint: Option<String>,
}

impl Refusal {
    #[must_use]
    pub fn new(code: RefusalCode, error: impl Into<String>) -> Self {
        Self { code, error: error.into(), cause: None, hint: None }
    }

    #[must_use]
    pub fn cause(mut self, cause: impl Into<String>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// The kind of a refusal, for programs. The HTTP status follows from it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum RefusalCode {
    /// 400: the request is not valid.
    Invalid,
    /// 401: no or a wrong credential.
    Unauthorized,
    /// 403: the identity may not do this.
    Forbidden,
    /// 404: no such thing.
    NotFound,
    /// 409: the present state does not allow it.
    Conflict,
    /// 412: a guard protects data.
    Guarded,
    /// 503: the store or the agents needed are not there now; the same request may succeed later.
    Unavailable,
    /// 500: a fault of tanist.
    Internal,
}

/// `POST /replications` and `POST /replications/check`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct CreateReplication {
    pub name: ReplicationName,
    pub source: VolumeAddress,
    pub target: VolumeAddress,
    /// By rank; this order is each side's hierarchy as far as each agent reaches that side.
    pub agents: Vec<AgentName>,
    #[serde(default)]
    pub policy: Policy,
    /// The operator knows that the target holds data and wants it overwritten.
    #[serde(default)]
    pub overwrite_target: bool,
    /// Removed by itself after its one run (`tanist transfer`).
    #[serde(default)]
    pub once: bool,
    /// A restore of this recovery point (`tanist restore`): the source and how it is read follow from it.
    #[serde(default)]
    pub restore: Option<RestoreFrom>,
}

/// The recovery point that a restore brings back.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct RestoreFrom {
    pub replication: ReplicationName,
    pub run: RunId,
}

/// `POST /replications/{name}/hierarchy`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct SetHierarchy {
    pub side: Side,
    pub agents: Vec<AgentName>,
}

/// `POST /replications/{name}/verify`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct VerifyTarget {
    /// Write again what differs, from the snapshot of the published run.
    pub repair: bool,
}

/// `PUT /replications/{name}/policy`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct SetPolicy {
    pub policy: Policy,
    /// What the policy was when the change was thought of. Is it another one by now, the change is refused.
    #[serde(default)]
    pub expected: Option<Policy>,
}

/// `POST /replications/{name}/drill`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct DrillHow {
    /// The work goes back afterwards, as a planned handover.
    pub hand_back: bool,
}

/// `POST /replications/{name}/handover`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct HandoverTo {
    /// The next eligible agent if absent.
    pub to: Option<AgentName>,
}

/// The answer to a command that changes something.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Done {
    pub command: CommandId,
    /// What was done, in one sentence.
    pub message: String,
    /// The run that the command started, if it did.
    pub run: Option<RunId>,
    /// The epoch of the target that the command granted, if it did: a drill's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<Epoch>,
    /// What to type next.
    pub next: Option<String>,
}

/// One cell of the check matrix: a real round trip or read, with its age.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct CheckCell {
    /// `server`, `source`, `target`, or a peer's name.
    pub to: String,
    pub ok: bool,
    /// How long ago it was shown, in milliseconds; `None` if never.
    pub age_ms: Option<u64>,
    /// How long the round trip or read took, in microseconds, where measured.
    pub took_us: Option<u64>,
    /// Why it is missing.
    pub reason: Option<String>,
}

/// One agent's row of the check matrix.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct CheckRow {
    pub agent: AgentName,
    pub rank: Rank,
    pub cells: Vec<CheckCell>,
    /// Why the agent can act for no side, if that is so.
    pub ineligible: Option<String>,
    /// Each side in whose hierarchy it stands and for which it cannot act: it may write the target and not read the source.
    #[serde(default)]
    pub ineligible_for: Vec<Ineligibility>,
}

/// A side that an agent cannot act for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Ineligibility {
    pub side: Side,
    pub reason: String,
}

/// The plan of a replication: what will be done, and what it promises.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Plan {
    pub name: ReplicationName,
    pub source: VolumeAddress,
    pub target: VolumeAddress,
    pub size_bytes: u64,
    pub target_size_bytes: u64,
    pub policy: Policy,
    /// `direct`: one agent reads the source and writes the target. `networked`: another one reads and sends.
    pub form: String,
    pub tier: FencingTier,
    pub promise: String,
    pub source_hierarchy: Vec<AgentName>,
    pub target_hierarchy: Vec<AgentName>,
    /// What stands on the target now and will be overwritten.
    pub overwrites: String,
    /// What the operator should know: no recovery point during a run, a fuzzy replica, an agent that cannot act.
    pub remarks: Vec<String>,
    pub matrix: Vec<CheckRow>,
}

/// One agent of a side, as `replication show` lists it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct RankedAgent {
    pub rank: Rank,
    pub agent: AgentName,
    /// `acting` (reads and writes), `reader` (reads the source and sends), `holder` (writes the target), `being activated`, `ready`,
    /// or why it would be passed over.
    pub role: String,
    pub eligible: bool,
}

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
    pub takeovers: u32,
    pub repairs: u32,
    /// What it may leave unwritten: `full`, `compare` or `delta`; not yet decided before its snapshot is bound.
    #[serde(default)]
    pub method: Option<String>,
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
    /// When the whole target was read again last, and equalled it.
    #[serde(default)]
    pub verified_at: Option<Timestamp>,
    /// When it was read and turned out to be other bytes than were published: do not rely on it.
    #[serde(default)]
    pub damaged_at: Option<Timestamp>,
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

/// `GET /agents`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct AgentView {
    pub name: AgentName,
    pub connected: bool,
    pub incarnation: Option<Incarnation>,
    pub last_beat_age_ms: Option<u64>,
    /// Connected, and yet without a beat for longer than a healthy agent: stopped, hung, or cut off.
    #[serde(default)]
    pub silent: bool,
    /// The peer that carries its connection, because it does not reach the server itself.
    #[serde(default)]
    pub through: Option<AgentName>,
    pub address: Option<String>,
    pub drained: bool,
    pub removed: bool,
    pub damped: bool,
    pub penalty: f64,
    /// Replications it acts for.
    pub acting_for: Vec<ReplicationName>,
    /// Replications whose source it reads for another agent.
    #[serde(default)]
    pub reading_for: Vec<ReplicationName>,
    /// Replications it is a failover agent of.
    pub failover_for: Vec<ReplicationName>,
    pub certificate_expires_at: Timestamp,
    pub version: Option<String>,
}

/// `GET /storage`: one storage system and the agents that reach it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct StorageView {
    pub name: StorageName,
    pub agents: Vec<StorageAgentView>,
}

/// A storage system as one agent reports it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct StorageAgentView {
    pub agent: AgentName,
    pub report: StorageReport,
}

/// `GET /volumes`: one volume and the agents that reach it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct VolumeView {
    pub report: VolumeReport,
    pub agents: Vec<AgentName>,
    pub used_by: Option<VolumeUse>,
}

/// The replication that uses a volume, and as which of its sides.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct VolumeUse {
    pub replication: ReplicationName,
    pub side: Side,
}

/// `GET /status`: only what needs a human.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct StatusView {
    pub term: Term,
    pub ok: u32,
    pub degraded: u32,
    pub stopped: u32,
    pub concerns: Vec<Concern>,
}

/// One thing that needs a human.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Concern {
    /// A replication, an agent, or `server`.
    pub subject: String,
    pub health: Health,
    pub summary: String,
    pub next: Option<String>,
}

/// An entry of `GET /alarms`: a configured way to tell somebody, and how its deliveries get on. Numbers are since the server started.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct AlarmView {
    pub name: AlarmName,
    /// `webhook`, `mail` or `script`.
    pub way: String,
    /// Since when it cannot be delivered, told after several failures in a row.
    pub failing_since: Option<Timestamp>,
    /// Why the last attempt failed.
    pub reason: Option<String>,
    /// When that happened which is tried to be delivered now; what happened later waits behind it.
    pub waiting_since: Option<Timestamp>,
    pub delivered_at: Option<Timestamp>,
    pub delivered: u64,
    pub failed_attempts: u64,
}

/// `POST /tokens`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct CreateToken {
    pub agent: AgentName,
}

/// The answer to `POST /tokens`. The secret is shown once and stored only as a hash.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct TokenCreated {
    pub agent: AgentName,
    pub token: String,
    pub expires_at: Timestamp,
    pub ca_hash: String,
    /// Where the server listens, as it knows itself.
    pub address: String,
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

/// `GET /events`: after a position, waiting for new ones if asked to.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct EventPage {
    pub events: Vec<Event>,
    /// Ask again after this.
    pub last: EventSeq,
}

/// `GET /whoami`: what `login` checks.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct WhoAmI {
    pub operator: String,
    pub cluster: String,
    pub version: String,
}

/// A piece of the server's recording.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct RecordedSegment {
    pub number: u64,
    /// As it lies there.
    pub bytes: u64,
    /// Nothing is added to it any more.
    pub closed: bool,
}

/// `POST /backup`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct BackupTo {
    /// An absolute path on the server's host; the file must not exist.
    pub path: String,
}
