//! What an operator asks for, and the answer to it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::id::{AgentName, CommandId, Epoch, Incarnation, ReplicationName, RunId, Term, VolumeAddress};
use crate::policy::Policy;
use crate::recovery_point::RecoveryPointPlace;
use crate::replication::Side;
use crate::run::ChainDigest;

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

/// `POST /agents/{name}/confirm-dead`: what was seen when the host was looked at, so that a word that comes late covers nothing that
/// began since.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ConfirmDead {
    /// As in `GET /status`: the word counts for this server alone.
    pub term: Term,
    /// As `unproven` in `GET /agents`: the processes that are gone.
    pub processes: BTreeSet<Incarnation>,
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

/// A recovery point was read whole: where, and what its bytes are.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PointReading {
    pub place: RecoveryPointPlace,
    /// The chained digest of the whole volume.
    pub digest: ChainDigest,
}
