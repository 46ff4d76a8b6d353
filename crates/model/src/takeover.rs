//! The record of a change of the acting agent: what was seen, who was considered, what the fence proved, what it cost.

mod contradiction;
mod statement;

pub use contradiction::Contradiction;
pub use statement::{Ending, SignedRecord, TakeoverStatement};

use serde::{Deserialize, Serialize};

use crate::hierarchy::Rank;
use crate::id::{AgentName, Epoch, Epochs, Incarnation, ReplicationId, RunId};
use crate::replication::{FencingTier, ProofKind};
use crate::time::Timestamp;

/// Why the acting agent was replaced. Evidence decides how fast the server acts, never what is safe.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Evidence {
    /// No one acted before: the first activation, or the first one after a clean stop.
    FirstActivation,
    /// Its connection to the server ended.
    ConnectionEnded { reason: String },
    /// It said itself that it cannot go on.
    ReportedUnfit { reason: String },
    /// It missed its beats.
    BeatsMissed { silent_ms: u64 },
    /// Another process of the same agent introduced itself: the old one is gone.
    Restarted,
    /// It was granted an epoch and did not activate in time.
    ActivationTimeout,
    /// It was granted an epoch and declined.
    Declined { reason: String },
    /// A planned handover.
    Handover { by: String },
    /// A planned handover that took too long.
    HandoverOverdue,
    /// A drill: nothing is wrong with it.
    Drill { by: String, hand_back: bool },
    /// The agent was removed, or its role was taken from it.
    Removed,
}

impl Evidence {
    /// The evidence in words, of the agent that was replaced: "its connection ended: ...".
    #[must_use]
    pub fn in_words(&self) -> String {
        match self {
            Self::FirstActivation => "nobody acted before".to_owned(),
            Self::ConnectionEnded { reason } => format!("its connection ended: {reason}"),
            Self::ReportedUnfit { reason } => format!("it reported itself unfit: {reason}"),
            Self::BeatsMissed { silent_ms } => format!("it was silent for {silent_ms} ms"),
            Self::Restarted => "its process was restarted".to_owned(),
            Self::ActivationTimeout => "it did not activate in time".to_owned(),
            Self::Declined { reason } => format!("it declined: {reason}"),
            Self::Handover { by } => format!("handover wanted by {by}"),
            Self::HandoverOverdue => "the handover took too long".to_owned(),
            Self::Drill { by, .. } => format!("a drill wanted by {by}: nothing was wrong with it"),
            Self::Removed => "the agent was removed".to_owned(),
        }
    }
}

/// Why the place of the acting agent is vacant: stored until it is filled, so that the successor's record tells the truth whatever
/// happens to the server meanwhile.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Vacancy {
    pub evidence: Evidence,
    pub since: Timestamp,
    pub left_by: Option<AgentName>,
    /// The process of that agent which left it: one that was started since has handed nothing over.
    #[serde(default)]
    pub left_process: Option<Incarnation>,
    /// Who is to act next, if the handover named one.
    pub successor: Option<AgentName>,
}

/// What a peer found when it probed the suspect directly.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case", tag = "verdict")]
pub enum PeerVerdict {
    /// The suspect answered; as which process.
    Reached { incarnation: Incarnation },
    /// Its host answered that nobody listens: the process is gone. Not a proof of quiet.
    Refused,
    /// No answer in time.
    Unreachable,
}

/// A peer's verdict with its time.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ProbeVerdict {
    pub peer: AgentName,
    pub verdict: PeerVerdict,
    pub at: Timestamp,
}

/// An agent of the hierarchy as it was considered.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Candidate {
    pub agent: AgentName,
    pub rank: Rank,
    pub damped: bool,
    /// Why it was passed over; `None` for an eligible one.
    pub passed_over: Option<String>,
}

/// An epoch and how it was proven quiet.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ProvenEpoch {
    pub epoch: Epoch,
    pub agent: AgentName,
    pub proof: ProofKind,
    pub at: Timestamp,
}

/// One takeover, handover or first activation, as stored; complete once `first_durable_write_at` is known or no run waited.
///
/// Its moments follow each other as what they tell of did. A clock that is behind (the agent's, or the server's that was set back) cannot
/// turn them round: each is at least as late as the one it rests on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct TakeoverRecord {
    pub replication: ReplicationId,
    pub epochs: Epochs,
    pub evidence: Evidence,
    /// The agent that was replaced.
    pub from: Option<AgentName>,
    pub to: AgentName,
    /// When the server first had reason to suspect.
    pub suspected_at: Timestamp,
    pub verdicts: Vec<ProbeVerdict>,
    pub candidates: Vec<Candidate>,
    /// Who was to succeed by somebody's wish: if it was eligible, it goes before the order of ranks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub named: Option<AgentName>,
    pub committed_at: Timestamp,
    pub granted_at: Option<Timestamp>,
    /// When the successor said that its fence stands.
    pub activated_at: Option<Timestamp>,
    pub tier: Option<FencingTier>,
    pub held_kernel_lock: bool,
    /// The earlier epochs that were not proven quiet when this one was committed: each is to be found in `proven` or in `unproven`.
    #[serde(default)]
    pub awaited: Vec<Epoch>,
    pub proven: Vec<ProvenEpoch>,
    /// Epochs that were still unproven when the successor began to act.
    pub unproven: Vec<Epoch>,
    /// The run that was in progress, if any, and where the successor took it up.
    pub run: Option<RunId>,
    pub resumed_seq: u64,
    /// How far the predecessor had written by its last word, if it gave one: what lies between is certainly copied again.
    pub reported_seq: Option<u64>,
    pub first_durable_write_at: Option<Timestamp>,
    /// What the predecessor may have written past the checkpoint and the successor copied again, at most: the window in which a
    /// writer stalls, or the rest of the volume.
    pub copied_again_bytes: Option<u64>,
}
