//! Host applications: what an agent can quiesce for the moment in which a source snapshot is made, what may be quiesced now, and
//! how it was thawed.
//!
//! The scripts themselves stand in the configuration of each host and never travel; here are their names and what became of them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::{AgentName, ApplicationName, HostIdentity, Incarnation, ReplicationId, RunId, SnapshotId};
use crate::time::Timestamp;

/// A host application that an agent has scripts for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ApplicationReport {
    pub name: ApplicationName,
    /// The longest that it is quiesced before its guard thaws it, in milliseconds.
    pub limit_ms: u64,
    /// Why its scripts cannot be run, if they cannot.
    #[serde(default)]
    pub problem: Option<String>,
}

/// A host application that an agent was told to quiesce and has not said to be thawed: on record before the order goes out.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Quiescence {
    pub application: ApplicationName,
    pub agent: AgentName,
    pub incarnation: Incarnation,
    pub host: HostIdentity,
    pub run: RunId,
    /// The attempt at a snapshot that it is quiesced for. Each attempt quiesces at most once.
    pub attempt: SnapshotId,
    pub since: Timestamp,
    pub limit_ms: u64,
    /// Its `after` script failed, and how.
    #[serde(default)]
    pub failure: Option<String>,
    /// The alarm was raised.
    #[serde(default)]
    pub alarmed: bool,
}

impl Quiescence {
    /// Beyond its limit and as long again for `after`, a guard needs no more than this to be heard of.
    const GRACE: Duration = Duration::from_secs(5);

    #[must_use]
    pub fn limit(&self) -> Duration {
        Duration::from_millis(self.limit_ms)
    }

    /// When a thaw that nobody has heard of becomes an alarm.
    #[must_use]
    pub fn overdue_at(&self) -> Timestamp {
        self.since.plus(self.limit() * 2 + Self::GRACE)
    }
}

/// Why `after` was run.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum ThawCause {
    /// The snapshot is made, or could not be made.
    SnapshotDone,
    /// The attempt was given up: the agent stepped down, the run was ended, another attempt began.
    GivenUp,
    /// `before` failed.
    BeforeFailed,
    /// The limit had passed.
    LimitPassed,
    /// The agent's process ended while it was quiesced.
    AgentGone,
    /// The guard was told to stop, as when the host shuts down.
    HostStops,
    /// Neither agent nor guard had run it: a later process of the agent found the mark.
    FoundLater,
    /// The agent has no mark of it: it was never quiesced, or is thawed.
    NothingFound,
}

impl ThawCause {
    /// In words, after "thawed".
    #[must_use]
    pub fn in_words(self) -> &'static str {
        match self {
            Self::SnapshotDone => "after the snapshot",
            Self::GivenUp => "because the attempt was given up",
            Self::BeforeFailed => "because its before script failed",
            Self::LimitPassed => "by its guard, because the limit had passed",
            Self::AgentGone => "by its guard, because the agent's process was gone",
            Self::HostStops => "by its guard, which was told to stop",
            Self::FoundLater => "by a later process of the agent, which found it quiesced",
            Self::NothingFound => "as far as the agent knows: it has no mark of it",
        }
    }

    /// As it goes when nothing fails.
    #[must_use]
    pub fn is_ordinary(self) -> bool {
        matches!(self, Self::SnapshotDone | Self::GivenUp | Self::BeforeFailed | Self::NothingFound)
    }
}

/// What an agent says of a host application that was to be quiesced.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ThawReport {
    pub replication: ReplicationId,
    pub attempt: SnapshotId,
    pub application: ApplicationName,
    pub cause: ThawCause,
    /// From the start of `before` to the end of `after`, in milliseconds, where that is known.
    pub quiesced_ms: Option<u64>,
    /// `after` failed, and how: it may still be quiesced. It is tried again.
    pub failure: Option<String>,
}
