//! What the operator wants of a replication.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::drill::{DrillPolicy, HIGHEST_LIMIT_MS};
use crate::id::ApplicationName;
use crate::retention::Retention;
use crate::schedule::{Interval, Schedule, TimeZone};

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
    /// The storage holds it as a snapshot already: a recovery point that is restored. Not an operator's choice; a restore sets it.
    RecoveryPoint,
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

/// How many encrypted connections a reader opens to the holder: 1 to 4, at first 2. More than one lets several cores encrypt, and one slow
/// path of several hold up less. Text and JSON: the number.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(value_type = u8, minimum = 1, maximum = 4))]
#[serde(try_from = "u8", into = "u8")]
pub struct StreamCount(u8);

/// It is not 1, 2, 3 or 4.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a run in the networked form uses 1 to 4 streams")]
pub struct StreamCountError;

impl Default for StreamCount {
    fn default() -> Self {
        Self(2)
    }
}

impl TryFrom<u8> for StreamCount {
    type Error = StreamCountError;
    fn try_from(count: u8) -> Result<Self, Self::Error> {
        if (1..=4).contains(&count) { Ok(Self(count)) } else { Err(StreamCountError) }
    }
}

impl From<StreamCount> for u8 {
    fn from(count: StreamCount) -> Self {
        count.0
    }
}

impl FromStr for StreamCount {
    type Err = StreamCountError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map_err(|_| StreamCountError).and_then(|count: u8| Self::try_from(count))
    }
}

impl fmt::Display for StreamCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The operator's wishes for one replication.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Policy {
    pub source_mode: SourceMode,
    pub verify: VerifyMode,
    /// How old the last recovery point may become before `status` complains.
    pub rpo_seconds: Option<u64>,
    /// Upper limit of what a run reads from the source per second; zero is refused.
    pub bandwidth_bytes_per_second: Option<u64>,
    /// For runs in the networked form.
    pub streams: StreamCount,
    /// What did not change since the last recovery point is not read of the target, but for a sample: whoever reads the source has
    /// stored what it was.
    pub stored_digests: bool,
    /// When runs are made by themselves; without one, on an operator's word only.
    pub schedule: Option<Schedule>,
    /// When the whole target is read again by itself, and repaired if it differs from what was published.
    pub verify_schedule: Option<Schedule>,
    /// Which recovery points are kept, where the target's storage makes snapshots.
    pub retention: Retention,
    /// Work goes back by itself to the agent of the smallest rank, between two runs, once it has been well for a quarter of an hour.
    pub automatic_handback: bool,
    /// The host application that is quiesced while the source snapshot is made.
    pub application: Option<ApplicationName>,
    /// Takeovers on purpose.
    pub drill: DrillPolicy,
}

/// The lowest limit, in bytes per second: a block in 16 seconds. After a minute without one a run counts as standing still.
pub const LEAST_BANDWIDTH: u64 = 64 << 10;

/// The shortest interval of a schedule, in seconds: as dense as `cron` can be.
pub const SHORTEST_INTERVAL_SECONDS: u64 = 60;

/// The shortest interval of drills, in seconds. `cron` can be denser, for whoever insists.
pub const SHORTEST_DRILL_INTERVAL_SECONDS: u64 = 3600;

/// Why a policy cannot be had.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PolicyError {
    #[error("a bandwidth limit of zero would never finish")]
    NoBandwidth,
    #[error(
        "a limit of {0} bytes per second is too low: a run moves whole blocks of 1 MiB, and below {least} bytes (64 KiB) per second it \
         would look like one that stands still",
        least = LEAST_BANDWIDTH
    )]
    TooSlow(u64),
    #[error(
        "a schedule of {0} is too dense: each run makes a snapshot and looks through both volumes, and one a minute is the most that \
         is possible"
    )]
    TooOften(Interval),
    #[error("an RPO of zero cannot be met: every copy is older than its source")]
    NoRpo,
    #[error("a host application is quiesced for the moment of a snapshot, not for a whole run")]
    NotFrozen,
    #[error("a limit of {0} ms for a drill is not possible: 1 to {HIGHEST_LIMIT_MS} ms are")]
    DrillLimit(u32),
    #[error(
        "drills on a schedule of '{0}' are too dense: each moves the work to another agent, and one an hour is the most that is possible"
    )]
    DrillsTooOften(Schedule),
}

impl PolicyError {
    /// What to do instead.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NoBandwidth => "to stop a replication: tanist replication pause NAME",
            Self::TooSlow(_) => "give at least 64KiB/s, or none; to stop a replication: tanist replication pause NAME",
            Self::TooOften(_) => "give an interval of 1m or more",
            Self::NoRpo => "give a time span such as 15m, or none",
            Self::DrillLimit(_) => "give a limit such as 500ms or 2s, or none for 2.5 s",
            Self::DrillsTooOften(_) => "give an interval of 1h or more; 'every 7d' is a good one",
            Self::NotFrozen => "--application needs --source-mode snapshot; around a sealed run, quiesce it yourself",
        }
    }
}

impl Default for Policy {
    /// Runs on an operator's word, the seven newest recovery points.
    fn default() -> Self {
        Self {
            source_mode: SourceMode::default(),
            verify: VerifyMode::default(),
            rpo_seconds: None,
            bandwidth_bytes_per_second: None,
            streams: StreamCount::default(),
            stored_digests: true,
            schedule: None,
            verify_schedule: None,
            retention: Retention { keep_last: KEPT_BY_DEFAULT, ..Retention::default() },
            automatic_handback: false,
            application: None,
            drill: DrillPolicy::default(),
        }
    }
}

/// A week of daily runs.
const KEPT_BY_DEFAULT: NonZeroU32 = NonZeroU32::new(7).unwrap();

impl Policy {
    /// # Errors
    /// [`PolicyError`] if no replication could live by it.
    pub fn check(&self) -> Result<(), PolicyError> {
        if let Some(dense) = self.too_dense() {
            return Err(PolicyError::TooOften(dense));
        }
        self.check_drills()?;
        match (self.bandwidth_bytes_per_second, self.rpo_seconds) {
            (Some(0), _) => Err(PolicyError::NoBandwidth),
            (Some(limit), _) if limit < LEAST_BANDWIDTH => Err(PolicyError::TooSlow(limit)),
            (_, Some(0)) => Err(PolicyError::NoRpo),
            _ if self.application.is_some() && self.source_mode != SourceMode::Snapshot => Err(PolicyError::NotFrozen),
            _ => Ok(()),
        }
    }

    fn check_drills(&self) -> Result<(), PolicyError> {
        let dense = |schedule: &&Schedule| schedule.is_denser_than(SHORTEST_DRILL_INTERVAL_SECONDS);
        if let Some(schedule) = self.drill.schedule.as_ref().filter(dense) {
            return Err(PolicyError::DrillsTooOften(schedule.clone()));
        }
        let impossible = |limit: &u32| *limit == 0 || *limit > HIGHEST_LIMIT_MS;
        self.drill.limit_ms.filter(impossible).map_or(Ok(()), |limit| Err(PolicyError::DrillLimit(limit)))
    }

    fn too_dense(&self) -> Option<Interval> {
        let schedules = [&self.schedule, &self.verify_schedule].into_iter().flatten();
        let mut intervals = schedules.filter_map(|schedule| match schedule {
            Schedule::Interval(interval) => Some(*interval),
            Schedule::Cron(_) => None,
        });
        intervals.find(|interval| interval.seconds() < SHORTEST_INTERVAL_SECONDS)
    }

    /// Whose days and weeks the retention counts: those of the schedule.
    #[must_use]
    pub fn time_zone(&self) -> TimeZone {
        match &self.schedule {
            Some(Schedule::Cron(cron)) => cron.time_zone().clone(),
            Some(Schedule::Interval(_)) | None => TimeZone::UTC,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_lets_blocks_pass_and_a_schedule_lets_runs_end() {
        let limit = |bytes| Policy { bandwidth_bytes_per_second: Some(bytes), ..Policy::default() }.check();
        assert_eq!(limit(0), Err(PolicyError::NoBandwidth));
        assert_eq!(limit(1), Err(PolicyError::TooSlow(1)));
        assert_eq!(limit(LEAST_BANDWIDTH - 1), Err(PolicyError::TooSlow(65_535)));
        assert_eq!(limit(LEAST_BANDWIDTH), Ok(()));
        let every = |text: &str| text.parse::<Schedule>().ok();
        for text in ["every 59s", "every 1m", "cron * * * * *"] {
            let policies = [
                Policy { schedule: every(text), ..Policy::default() },
                Policy { verify_schedule: every(text), ..Policy::default() },
            ];
            for policy in policies {
                let refused = matches!(policy.check(), Err(PolicyError::TooOften(_)));
                assert_eq!(refused, text == "every 59s", "{policy:?}");
            }
        }
        let drill = |schedule: &str, limit_ms| {
            let drill = DrillPolicy { schedule: every(schedule), limit_ms, hand_back: false };
            Policy { drill, ..Policy::default() }.check()
        };
        assert!(matches!(drill("every 59m", None), Err(PolicyError::DrillsTooOften(_))));
        assert_eq!(drill("every 1h", Some(0)), Err(PolicyError::DrillLimit(0)));
        assert_eq!(drill("every 1h", Some(60_001)), Err(PolicyError::DrillLimit(60_001)));
        assert!(matches!(drill("cron * * * * *", Some(1)), Err(PolicyError::DrillsTooOften(_))));
        assert!(matches!(drill("cron 0,30 3 * * *", Some(1)), Err(PolicyError::DrillsTooOften(_))));
        assert_eq!(drill("cron 0 * * * *", Some(1)), Ok(()));
        assert_eq!(drill("cron 30 2 * * TUE Europe/Berlin", Some(1)), Ok(()));
        let words = PolicyError::TooOften("1s".parse().unwrap()).to_string();
        assert!(words.starts_with("a schedule of 1s is too dense"), "{words}");
    }
}
