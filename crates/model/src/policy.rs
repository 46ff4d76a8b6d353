//! What the operator wants of a replication.

use serde::{Deserialize, Serialize};

/// How a run gets an unchanging source.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum SourceMode {
    /// The storage system makes an immutable snapshot for each run.
    #[default]
    Snapshot,
    /// The operator states that nobody writes to the source during a run. A change that shows (size, time of last write) stops the run.
    Sealed,
    /// The source may change while it is read: the replica is fuzzy, is marked so, and is never continued without proof of quiet.
    Live,
}

impl SourceMode {
    /// Two agents that copy from an immutable source can only write the same bytes; that is what lets a successor go on
    /// before its predecessor is proven quiet (tier F3).
    #[must_use]
    pub fn is_immutable(self) -> bool {
        !matches!(self, Self::Live)
    }
}

/// What is read back from the target before a checkpoint counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum VerifyMode {
    /// Nothing: the flush of the storage system is trusted.
    Off,
    /// What the run wrote.
    #[default]
    Written,
    /// What the run wrote, and the whole target once more at the end.
    Full,
}

/// The operator's wishes for one replication.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Policy {
    pub source_mode: SourceMode,
    pub verify: VerifyMode,
    /// How old the last recovery point may become before `status` complains.
    pub rpo_seconds: Option<u64>,
    /// Upper limit of what a run reads from the source per second; zero is refused.
    pub bandwidth_bytes_per_second: Option<u64>,
}
