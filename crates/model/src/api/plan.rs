//! What a check finds and what a replication would be like.

use serde::{Deserialize, Serialize};

use crate::hierarchy::Rank;
use crate::id::{AgentName, ReplicationName, VolumeAddress};
use crate::policy::Policy;
use crate::replication::{FencingTier, Side};

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
