//! Drills, takeovers on purpose: what the operator wants of them, what they showed, and when a figure is a bad one.

use serde::{Deserialize, Serialize};

use crate::id::{AgentName, Epoch};
use crate::quantity::count;
use crate::schedule::Schedule;
use crate::time::Timestamp;

/// What a takeover may take from the moment at which it is decided, if the operator does not say: as for a dead host or a partition.
pub const USUAL_LIMIT_MS: u32 = 2500;

/// The highest limit: a takeover that takes longer has been given up before.
pub const HIGHEST_LIMIT_MS: u32 = 60_000;

/// Results that are kept of a replication.
pub const KEPT_RESULTS: usize = 10;

/// How many earlier figures a new one is compared with, and without how many nothing is said.
const COMPARED: usize = 5;
const COMPARED_AT_LEAST: usize = 3;
/// A figure that is worse by less than this is noise, however many times the usual it is.
const NOISE_MS: u64 = 250;

/// What the operator wants of the drills of a replication.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct DrillPolicy {
    /// When drills are made by themselves; without one, on an operator's word only.
    pub schedule: Option<Schedule>,
    /// How long one may take, if not [`USUAL_LIMIT_MS`].
    pub limit_ms: Option<u32>,
    /// After a drill of the schedule the work goes back to the agent that had it.
    pub hand_back: bool,
}

impl DrillPolicy {
    #[must_use]
    pub fn limit_in_force_ms(&self) -> u32 {
        self.limit_ms.unwrap_or(USUAL_LIMIT_MS)
    }
}

/// What a drill was measured up to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Milestone {
    FirstDurableWrite,
    /// No run was in progress, or it had nothing to write any more.
    Activation,
}

impl Milestone {
    #[must_use]
    pub fn in_words(self) -> &'static str {
        match self {
            Self::FirstDurableWrite => "first durable write",
            Self::Activation => "activation (no run was in progress)",
        }
    }
}

/// What one drill showed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct DrillResult {
    /// The epoch of the target that it granted.
    pub epoch: Epoch,
    /// When it was decided.
    pub at: Timestamp,
    pub by: String,
    pub to: AgentName,
    pub until: Milestone,
    /// From the decision; `None` if the successor never came so far.
    pub took_ms: Option<u64>,
    /// Why it is no good result.
    pub fault: Option<String>,
}

impl DrillResult {
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.fault.is_none()
    }
}

/// The drills of a replication, as stored with it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct DrillLog {
    /// Since when the schedule of drills stands: intervals count from here.
    pub since: Timestamp,
    /// The due time of the last drill that the schedule made, or up to which none is wanted.
    pub last_due: Timestamp,
    /// A drill of the schedule waits for a better moment since then, and that has been said.
    pub postponed: Option<Timestamp>,
    /// The last good one is too old for the schedule, and that has been said.
    pub overdue: bool,
    /// The last good one.
    pub last_good: Option<DrillResult>,
    /// The last of them, the newest at the end.
    pub results: Vec<DrillResult>,
}

impl DrillLog {
    /// A schedule that begins now: its first drill is due when the time comes.
    #[must_use]
    pub fn starting(&self, now: Timestamp) -> Self {
        Self { since: now, last_due: now, postponed: None, ..self.clone() }
    }

    #[must_use]
    pub fn of(&self, epoch: Epoch) -> Option<&DrillResult> {
        self.results.iter().find(|result| result.epoch == epoch)
    }

    #[must_use]
    pub fn last(&self) -> Option<&DrillResult> {
        self.results.last()
    }

    /// What is wrong with a figure, if anything is: it is beyond the limit, or clearly worse than the earlier ones of its kind. A figure that
    /// is worse for good becomes the usual one after three drills that said so; the limit stays.
    #[must_use]
    pub fn fault_of(&self, until: Milestone, took_ms: u64, limit_ms: u32) -> Option<String> {
        if took_ms > u64::from(limit_ms) {
            return Some(format!("more than the limit of {limit_ms} ms"));
        }
        let alike = self.results.iter().rev().filter(|earlier| earlier.until == until);
        let mut figures: Vec<u64> = alike.filter_map(|earlier| earlier.took_ms).take(COMPARED).collect();
        figures.sort_unstable();
        let median = *figures.get(figures.len() / 2).filter(|_| figures.len() >= COMPARED_AT_LEAST)?;
        let is_worse = took_ms > median.saturating_mul(2) && took_ms > median.saturating_add(NOISE_MS);
        let drills = count(figures.len() as u64, "drill");
        is_worse
            .then(|| format!("more than twice the {median} ms that are the median of the last {drills} of its kind"))
    }

    /// The log with one more result.
    #[must_use]
    pub fn with(&self, result: DrillResult) -> Self {
        let mut next = self.clone();
        if result.is_good() {
            next.last_good = Some(result.clone());
            next.overdue = false;
        }
        next.results.push(result);
        let surplus = next.results.len().saturating_sub(KEPT_RESULTS);
        next.results.drain(..surplus);
        next
    }

    /// From when on the last good drill is too old: older than twice the time between the due times that follow it.
    #[must_use]
    pub fn overdue_from(&self, schedule: &Schedule) -> Option<Timestamp> {
        let proven = self.proven_at();
        let first = schedule.next_after(proven, self.since)?;
        let second = schedule.next_after(first, self.since)?;
        let third = schedule.next_after(second, self.since)?;
        Some(proven.plus(third.since(first)))
    }

    /// When a takeover was proven last; since the schedule stands nobody could ask for more.
    #[must_use]
    pub fn proven_at(&self) -> Timestamp {
        self.last_good.as_ref().map_or(self.since, |good| good.at.max(self.since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(epoch: u32, until: Milestone, took_ms: Option<u64>, fault: Option<&str>) -> DrillResult {
        DrillResult {
            epoch: Epoch(epoch),
            at: Timestamp(i64::from(epoch) * 1_000_000),
            by: "anna".to_owned(),
            to: AgentName::new("h2").unwrap(),
            until,
            took_ms,
            fault: fault.map(str::to_owned),
        }
    }

    fn log(figures: &[u64]) -> DrillLog {
        let write =
            |(epoch, took): (usize, &u64)| result(epoch as u32, Milestone::FirstDurableWrite, Some(*took), None);
        figures.iter().enumerate().map(write).fold(DrillLog::default(), |log, result| log.with(result))
    }

    #[test]
    fn a_figure_is_bad_beyond_the_limit_or_far_from_the_usual() {
        let fault = |log: &DrillLog, took| log.fault_of(Milestone::FirstDurableWrite, took, 2500);
        let usual = log(&[900, 400, 390, 410, 420, 380]);
        assert_eq!((fault(&usual, 800), fault(&usual, 651)), (None, None));
        let worse = fault(&usual, 801).expect("more than twice 400 ms");
        assert!(worse.contains("400 ms") && worse.contains("5 drills"), "{worse}");
        assert!(fault(&usual, 2501).is_some_and(|fault| fault.contains("limit of 2500 ms")));
        assert_eq!(usual.fault_of(Milestone::Activation, 801, 2500), None, "another kind of figure");
        assert_eq!(fault(&log(&[100; 5]), 350), None, "no more than noise");
        assert!(fault(&log(&[100; 5]), 351).is_some());
        assert_eq!(fault(&log(&[100, 100]), 2000), None, "two are too few to know what is usual");
        // Told three times, it is the usual.
        assert!(fault(&log(&[100, 100, 100, 900, 900]), 900).is_some());
        assert_eq!(fault(&log(&[100, 100, 900, 900, 900]), 900), None);
    }

    #[test]
    fn the_last_good_one_outlasts_many_bad_ones() {
        let mut log = log(&[410]);
        log.overdue = true;
        for epoch in 1..=20 {
            log = log.with(result(epoch, Milestone::Activation, None, Some("it was replaced")));
        }
        assert_eq!((log.results.len(), log.overdue), (KEPT_RESULTS, true));
        assert_eq!(log.last_good.as_ref().and_then(|good| good.took_ms), Some(410));
        let good = log.with(result(30, Milestone::Activation, Some(80), None));
        assert_eq!((good.overdue, good.last_good.map(|good| good.epoch)), (false, Some(Epoch(30))));
    }

    #[test]
    fn what_was_proven_is_too_old_after_twice_the_schedule() {
        let hour = 3_600_000_000;
        let mut log = DrillLog::default().starting(Timestamp(hour));
        let hourly = "every 1h".parse().unwrap();
        assert_eq!(log.overdue_from(&hourly), Some(Timestamp(3 * hour)));
        log.last_good =
            Some(DrillResult { at: Timestamp(hour * 7 / 2), ..result(9, Milestone::Activation, Some(1), None) });
        assert_eq!(
            log.overdue_from(&hourly),
            Some(Timestamp(hour * 11 / 2)),
            "counted from the drill and not from a due time"
        );
    }
}
