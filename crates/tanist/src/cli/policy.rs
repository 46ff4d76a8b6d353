//! The options of a policy, the same at `create` and at `set`: what is not given stays as it is.

use std::str::FromStr;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use tanist_model::drill::DrillPolicy;
use tanist_model::id::ApplicationName;
use tanist_model::policy::{Policy, StreamCount, VerifyMode};
use tanist_model::retention::Retention;
use tanist_model::schedule::Schedule;

use super::values::{Bandwidth, DrillLimit, Rpo};

/// A value, or the word `none`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OrNone<T> {
    None,
    Some(T),
}

impl<T> OrNone<T> {
    fn into_option(self) -> Option<T> {
        match self {
            Self::None => None,
            Self::Some(value) => Some(value),
        }
    }
}

impl<T: FromStr> FromStr for OrNone<T> {
    type Err = T::Err;
    fn from_str(text: &str) -> Result<Self, T::Err> {
        if text == "none" { Ok(Self::None) } else { text.parse().map(Self::Some) }
    }
}

#[derive(Args, Debug, Clone, Default)]
pub struct PolicyArgs {
    /// What is read back from the target: nothing (off), what a run wrote (written, the default), or besides the whole target at
    /// the end (full).
    #[arg(long, value_name = "WHAT",
          value_parser = PossibleValuesParser::new(["off", "written", "full"]).map(|text| verify_mode(&text)))]
    pub verify: Option<VerifyMode>,
    /// How old the last recovery point may become before an alarm is raised, as in 15m; or none.
    #[arg(long, value_name = "TIME|none")]
    pub rpo: Option<OrNone<Rpo>>,
    /// Upper limit of what a run reads a second, as in 100MiB/s, at least 64KiB/s; or none.
    #[arg(long, value_name = "RATE|none")]
    pub limit: Option<OrNone<Bandwidth>>,
    /// Encrypted connections of a run between two agents, 1 to 4; at first 2.
    #[arg(long, value_name = "NUMBER")]
    pub streams: Option<StreamCount>,
    /// Whether what did not change since the last recovery point is left out without reading the target, but for a sample (yes, the
    /// default), or the whole target is read and compared (no).
    #[arg(long, value_name = "yes|no", num_args = 0..=1, default_missing_value = "yes", require_equals = true,
          value_parser = PossibleValuesParser::new(["yes", "no"]).map(|text| text == "yes"))]
    pub stored_digests: Option<bool>,
    /// When runs are made by themselves: 'every 15m' (at most every 1m), 'cron 0 2 * * * Europe/Berlin' (minute, hour, day, month,
    /// weekday, time zone); or none.
    #[arg(long, value_name = "SCHEDULE|none")]
    pub schedule: Option<OrNone<Schedule>>,
    /// When the whole target is read again by itself and repaired if it differs from what was published, as a schedule; or none.
    #[arg(long, value_name = "SCHEDULE|none")]
    pub verify_schedule: Option<OrNone<Schedule>>,
    /// Which recovery points are kept, where the target's storage makes snapshots: the newest, and one for each of so many hours,
    /// days, weeks and months; at first last=7.
    #[arg(long, value_name = "last=N,daily=N,...")]
    pub keep: Option<Retention>,
    /// Whether work goes back by itself to the agent of the smallest rank, between two runs, once it has been well for 15 minutes.
    #[arg(long, value_name = "yes|no", num_args = 0..=1, default_missing_value = "yes", require_equals = true,
          value_parser = PossibleValuesParser::new(["yes", "no"]).map(|text| text == "yes"))]
    pub automatic_handback: Option<bool>,
    /// When a takeover is made on purpose to see that it works and how fast, as a schedule, every 1h at most; or none. One that is due waits
    /// until nothing speaks against it.
    #[arg(long, value_name = "SCHEDULE|none")]
    pub drill_schedule: Option<OrNone<Schedule>>,
    /// How long a drill may take before an alarm is raised, as in 500ms or 2s; or none, which is 2.5 s.
    #[arg(long, value_name = "TIME|none")]
    pub drill_limit: Option<OrNone<DrillLimit>>,
    /// Whether the work goes back, after a drill of the schedule, to the agent that had it.
    #[arg(long, value_name = "yes|no", num_args = 0..=1, default_missing_value = "yes", require_equals = true,
          value_parser = PossibleValuesParser::new(["yes", "no"]).map(|text| text == "yes"))]
    pub drill_hand_back: Option<bool>,
    /// Quiesce this host application while the source snapshot is made, by the scripts in agent.toml of whoever makes it; or none.
    #[arg(long, value_name = "NAME|none")]
    pub application: Option<OrNone<ApplicationName>>,
}

impl PolicyArgs {
    /// The policy with what was given in place of what it says.
    #[must_use]
    pub fn over(&self, policy: Policy) -> Policy {
        let given = self.clone();
        Policy {
            verify: given.verify.unwrap_or(policy.verify),
            rpo_seconds: given.rpo.map_or(policy.rpo_seconds, |rpo| rpo.into_option().map(|rpo| rpo.seconds)),
            bandwidth_bytes_per_second: given
                .limit
                .map_or(policy.bandwidth_bytes_per_second, |limit| limit.into_option().map(|l| l.bytes_per_second)),
            streams: given.streams.unwrap_or(policy.streams),
            stored_digests: given.stored_digests.unwrap_or(policy.stored_digests),
            schedule: given.schedule.map_or(policy.schedule, OrNone::into_option),
            verify_schedule: given.verify_schedule.map_or(policy.verify_schedule, OrNone::into_option),
            retention: given.keep.unwrap_or(policy.retention),
            automatic_handback: given.automatic_handback.unwrap_or(policy.automatic_handback),
            application: given.application.map_or(policy.application, OrNone::into_option),
            drill: DrillPolicy {
                schedule: given.drill_schedule.map_or(policy.drill.schedule, OrNone::into_option),
                limit_ms: given
                    .drill_limit
                    .map_or(policy.drill.limit_ms, |limit| limit.into_option().map(|limit| limit.millis)),
                hand_back: given.drill_hand_back.unwrap_or(policy.drill.hand_back),
            },
            source_mode: policy.source_mode,
        }
    }
}

fn verify_mode(text: &str) -> VerifyMode {
    match text {
        "off" => VerifyMode::Off,
        "full" => VerifyMode::Full,
        _ => VerifyMode::Written,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_given_stays() {
        let policy = Policy { rpo_seconds: Some(900), schedule: "every 1h".parse().ok(), ..Policy::default() };
        assert_eq!(PolicyArgs::default().over(policy.clone()), policy);
        let args = PolicyArgs {
            rpo: "none".parse().ok(),
            schedule: "every 15m".parse().ok(),
            keep: "last=3,daily=7".parse().ok(),
            ..PolicyArgs::default()
        };
        let changed = args.over(policy);
        assert_eq!((changed.rpo_seconds, changed.retention.daily), (None, 7));
        assert_eq!(changed.schedule.map(|s| s.to_string()).as_deref(), Some("every 15m"));
    }
}
