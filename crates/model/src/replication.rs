//! A replication, as the store keeps it: what the operator declared, and who may act for it.

use serde::{Deserialize, Serialize};

use crate::application::Quiescence;
use crate::byte_range::ByteRanges;
use crate::drill::DrillLog;
use crate::hierarchy::Hierarchy;
use crate::id::{
    AgentName, CommandId, Epoch, Epochs, HostIdentity, Incarnation, ReplicationId, ReplicationName, RunId,
    VolumeAddress,
};
use crate::policy::Policy;
use crate::run::{ChainDigest, RunMethod};
use crate::takeover::Vacancy;
use crate::time::Timestamp;

/// Source or target.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    Source,
    Target,
}

impl std::fmt::Display for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Source => "source",
            Self::Target => "target",
        })
    }
}

/// One side of a replication: its volume and the order of its agents.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct SideRecord {
    pub volume: VolumeAddress,
    /// The volume's identity when the replication was created. Another volume at the same address is refused.
    pub identity: String,
    pub hierarchy: Hierarchy,
}

/// What the operator wants a replication to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Intent {
    /// Runs are made.
    Enabled,
    /// No run starts, and a run in progress waits at its checkpoint.
    Paused,
    /// It is being removed: released once every epoch is proven quiet.
    Deleting,
}

/// The agent process that may act: one (agent, incarnation) per epoch.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Holder {
    pub agent: AgentName,
    pub incarnation: Incarnation,
    pub host: HostIdentity,
    /// The command that activates it, sent again until it is answered.
    pub command: CommandId,
    pub granted_at: Timestamp,
    /// When its activation was committed; `None` until it answered with what its fence proved.
    pub activated_at: Option<Timestamp>,
}

/// The process that reads the source for a holder that does not: the networked form, under the source's epoch. It writes nothing,
/// so it needs no fence; what it sends is admitted by the gate at the target.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Reader {
    pub agent: AgentName,
    pub incarnation: Incarnation,
    pub granted_at: Timestamp,
}

/// A planned change of the acting agent, wanted and not yet done.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Handover {
    /// Who is to act next; named at the start, because once the holder has drained it is as eligible as any.
    pub to: Option<AgentName>,
    pub by: String,
    pub started_at: Timestamp,
}

/// An epoch that has been granted on the target and not been proven quiet.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct UnprovenEpoch {
    pub epoch: Epoch,
    pub agent: AgentName,
    pub incarnation: Incarnation,
    pub host: HostIdentity,
    /// It said that it holds the kernel lock on its I/O descriptor. Only then does the lock, obtained by another, prove it quiet.
    pub held_kernel_lock: bool,
    /// Which of the volume's devices that lock lies on, where a volume may be reached as several of them. Another device's lock
    /// proves nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock_place: Option<String>,
    #[serde(default)]
    pub reservation: Standing,
    #[serde(default)]
    pub array_copies: ArrayCopies,
    /// Its writes are in the hands of a server (NBD) and may land when its host is gone: a new boot of the host does not prove it quiet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub outlives_host: bool,
    /// Its process, and its host, are proven quiet so; what it has ordered the storage to copy may not be over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiet: Option<ProofKind>,
    pub granted_at: Timestamp,
}

impl UnprovenEpoch {
    /// Nothing of it reaches the target while the reservation stands: enough for the next snapshot (tier F1).
    #[must_use]
    pub fn is_fenced(&self) -> bool {
        self.reservation == Standing::Fenced && self.array_copies != ArrayCopies::Possible
    }

    /// Of itself it can order nothing more; whether what it has ordered is over, the storage alone can tell.
    #[must_use]
    pub fn awaits_array(&self) -> bool {
        let orders_no_more = self.quiet.is_some() || self.reservation == Standing::Fenced;
        orders_no_more && self.array_copies == ArrayCopies::Possible
    }
}

/// What an epoch has ordered the storage to copy by itself (SPC-5, third-party copies; NVMe Copy). Such a copy goes on when the process,
/// its host and its path are gone: no lock, no new boot and no preemption ends it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum ArrayCopies {
    /// Its grant lets it order none.
    #[default]
    None,
    /// Some may be going on, or be ordered.
    Possible,
    /// The storage said that none is going on, when the epoch could order no more: it was fenced.
    Over,
}

/// What the target's reservation says about an epoch that is not proven quiet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// Its grant lets it write without one: its agent cannot reserve.
    #[default]
    NotNeeded,
    /// Its grant lets it write only while the reservation is its own.
    Needed,
    /// A standing reservation keeps its writes out, and none of them is left at the device (tier F1).
    Fenced,
}

/// How an epoch was proven quiet (tier F2).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum ProofKind {
    /// The agent said so itself, finally: all I/O ended, descriptors closed.
    Drained,
    /// The successor obtained the exclusive lock that the epoch held on its I/O descriptor, in the same boot of the same host.
    KernelLock,
    /// The agent's host has booted anew since.
    NewBoot,
    /// An operator said so.
    OperatorConfirmed,
}

/// The fencing tier in force and, with it, the promise made to the operator.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum FencingTier {
    /// A reservation at the target.
    F1,
    /// Proof of quiet.
    F2,
    /// Neither reservation nor proof: the same immutable snapshot goes on, everything else waits.
    F3,
}

impl FencingTier {
    /// What the tier promises, in one sentence for `create`, `show` and the API.
    #[must_use]
    pub fn promise(self) -> &'static str {
        match self {
            Self::F1 => {
                "a successor shuts its predecessor out at the target itself and goes on without waiting; giving the target up waits for proof"
            }
            Self::F2 => {
                "a successor on this host proves its predecessor quiet by the kernel lock on the target and goes on without waiting; \
                 across hosts the next snapshot waits for proof"
            }
            Self::F3 => {
                "a successor finishes the same snapshot at once; the next snapshot waits until its predecessor is proven quiet \
                 (it drains, its host boots anew, or an operator confirms it dead)"
            }
        }
    }
}

/// One replication, as stored.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ReplicationRecord {
    pub id: ReplicationId,
    pub name: ReplicationName,
    pub source: SideRecord,
    pub target: SideRecord,
    pub policy: Policy,
    pub intent: Intent,
    /// Being removed, it need not clean up what no agent can: an operator said so.
    #[serde(default)]
    pub leave_behind: bool,
    pub size_bytes: u64,
    pub created_at: Timestamp,
    /// The highest epochs ever granted.
    pub epochs: Epochs,
    pub holder: Option<Holder>,
    /// Who reads the source for the holder; `None` in the direct form, in which it reads for itself.
    pub reader: Option<Reader>,
    /// Why nobody holds it, if somebody did.
    pub vacancy: Option<Vacancy>,
    /// The holder is to hand over.
    pub handover: Option<Handover>,
    /// Every epoch of the target granted and not proven quiet, the holder's own included.
    pub unproven: Vec<UnprovenEpoch>,
    /// The latest epoch that has held the target's reservation: it stands until another takes it, or somebody clears it.
    #[serde(default)]
    pub reserved: Option<Epoch>,
    /// The run that first wrote to the target since the last publication: the target equals no recovery point.
    pub target_dirty: Option<RunId>,
    /// What abandoned runs may have written on the target without making it durable: written whole by the next run, whatever a read shows.
    #[serde(default)]
    pub doubtful: ByteRanges,
    /// Whether the storage system of the source is asked what changed.
    #[serde(default)]
    pub changes: ChangesTrust,
    /// The run in progress or waiting to start.
    pub run: Option<RunId>,
    /// The run of the last published recovery point.
    pub published: Option<RunId>,
    /// Why acting is refused until an operator looks: a mismatch found twice, an agent quarantined.
    pub quarantine: Option<String>,
    /// A `transfer`: removed by itself once its one run has ended.
    pub once: bool,
    /// It restores a recovery point of another replication.
    #[serde(default)]
    pub origin: Option<Origin>,
    /// How far its schedule is worked off.
    #[serde(default)]
    pub agenda: Agenda,
    /// Its last recovery point is older than the RPO allows, and that has been said.
    #[serde(default)]
    pub rpo_missed: bool,
    /// Host applications that may be quiesced for it now.
    #[serde(default)]
    pub quiesced: Vec<Quiescence>,
    /// Frames that its holders refused.
    #[serde(default)]
    pub refused: RefusedFrames,
    /// Takeovers on purpose: what they showed, and how far their schedule is worked off.
    #[serde(default)]
    pub drills: DrillLog,
}

/// How far the word of the source's storage system about what changed is believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct ChangesTrust {
    /// Recovery points in a row whose source was not read whole.
    pub in_a_row: u32,
    /// When it was found to have left out a change; not asked any more, until everything was written anew.
    pub disbelieved_at: Option<Timestamp>,
}

impl ChangesTrust {
    /// After so many recovery points the source is read whole, whatever is said of it: with hourly runs, once a day.
    pub const MOST_IN_A_ROW: u32 = 23;

    #[must_use]
    pub fn may_ask(self) -> bool {
        self.disbelieved_at.is_none() && self.in_a_row < Self::MOST_IN_A_ROW
    }

    /// After a run of this method was published.
    #[must_use]
    pub fn after(self, method: RunMethod) -> Self {
        match method {
            RunMethod::Full => Self::default(),
            RunMethod::Delta { snapshot: Some(_), .. } => Self { in_a_row: self.in_a_row.saturating_add(1), ..self },
            RunMethod::Compare | RunMethod::Delta { snapshot: None, .. } => Self { in_a_row: 0, ..self },
        }
    }
}

/// Frames that came too late for a target and were refused at the gate.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct RefusedFrames {
    pub total: u64,
    /// Under which epoch of the target, and how many of the total its holder has reported: it counts from its beginning.
    pub epoch: Epoch,
    pub reported: u64,
}

impl RefusedFrames {
    /// What this becomes when the holder of an epoch reports so many; `None` if that is no news.
    #[must_use]
    pub fn with(self, epoch: Epoch, reported: u64) -> Option<Self> {
        let known = if epoch == self.epoch { self.reported } else { 0 };
        let total = self.total.saturating_add(reported.checked_sub(known).filter(|more| *more > 0)?);
        (epoch >= self.epoch).then_some(Self { total, epoch, reported })
    }
}

/// Which recovery point a restore brings back.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Origin {
    pub replication: ReplicationId,
    pub name: ReplicationName,
    pub run: RunId,
    /// The digest under which it was published: what is restored must have the same.
    pub chain: ChainDigest,
}

/// How far a schedule is worked off: stored with the run it asks for, so that no crash loses or doubles one.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Agenda {
    /// Since when the schedule stands: intervals count from here.
    pub since: Timestamp,
    /// The due time of the last run that was asked for by the schedule, or up to which none is wanted.
    pub last_due: Option<Timestamp>,
    /// The due time of the last verification that the schedule asked for.
    #[serde(default)]
    pub last_verification: Option<Timestamp>,
    /// Runs abandoned in a row, but for those that an operator gave up.
    pub failures: u32,
    /// When the next attempt is made after these.
    pub retry_at: Option<Timestamp>,
}

impl Agenda {
    /// A schedule that begins now. `due_at_once`: an interval's first run is made now and not one interval later.
    #[must_use]
    pub fn starting(since: Timestamp, due_at_once: bool) -> Self {
        Self {
            since,
            last_due: (!due_at_once).then_some(since),
            last_verification: Some(since),
            failures: 0,
            retry_at: None,
        }
    }
}

impl ReplicationRecord {
    /// Epochs that hold up an advance: all unproven ones but the current holder's.
    pub fn awaited(&self) -> impl Iterator<Item = &UnprovenEpoch> {
        let current = self.holder.as_ref().map(|_| self.epochs.target);
        self.unproven.iter().filter(move |u| Some(u.epoch) != current)
    }

    /// Epochs that hold up the next snapshot: those that are awaited and not fenced by a reservation.
    pub fn unfenced(&self) -> impl Iterator<Item = &UnprovenEpoch> {
        self.awaited().filter(|epoch| !epoch.is_fenced())
    }

    #[must_use]
    pub fn side(&self, side: Side) -> &SideRecord {
        match side {
            Side::Source => &self.source,
            Side::Target => &self.target,
        }
    }
}
