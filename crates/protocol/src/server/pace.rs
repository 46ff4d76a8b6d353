//! How fast a run commits, and when that is too slow: the gray failure, and the run that stands still.
//!
//! The server measures what it commits, and whether others could do better is what the peers' reads of the same volumes say. What
//! an agent says of itself decides nothing here.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tanist_model::id::RunId;
use tanist_model::time::Monotonic;

/// Rates are measured over this time, one after the other.
const MEASURE: Duration = Duration::from_secs(5);
/// So many rates are remembered, over the runs of a replication: ten minutes of moving.
const REMEMBERED: usize = 120;
/// Fewer say nothing of what is usual.
const ENOUGH: usize = 12;
/// Slow is a fifth of what is usual.
const SLOW_SHARE: u64 = 5;

/// The committed progress of a replication's runs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Pace {
    run: Option<RunId>,
    /// Where the measurement in progress began.
    from: Option<(Monotonic, u64)>,
    /// The latest rates that were not slow, in bytes per second.
    rates: VecDeque<u64>,
    slow_since: Option<Monotonic>,
    /// The furthest sign of movement, and when it was seen.
    moved: Option<(Monotonic, (u64, u64))>,
}

impl Pace {
    /// Notes where a run is: the committed offset, and how far its agent says that it has looked. Rates under `floor`, or under a
    /// fifth of what is usual, are slow.
    pub fn note(&mut self, now: Monotonic, run: RunId, committed: u64, looked: u64, floor: u64) {
        if self.run != Some(run) {
            *self = Self { run: Some(run), rates: std::mem::take(&mut self.rates), ..Self::default() };
        }
        if self.moved.is_none_or(|(_, mark)| mark != (committed, looked)) {
            self.moved = Some((now, (committed, looked)));
        }
        let Some((since, from)) = self.from else { return self.from = Some((now, committed)) };
        let took = now.since(since);
        if took < MEASURE {
            return;
        }
        self.from = Some((now, committed));
        let rate = u64::try_from(u128::from(committed.saturating_sub(from)) * 1000 / took.as_millis().max(1));
        self.judge(since, rate.unwrap_or(u64::MAX), floor);
    }

    fn judge(&mut self, since: Monotonic, rate: u64, floor: u64) {
        if rate < floor.max(self.usual() / SLOW_SHARE) {
            self.slow_since.get_or_insert(since);
            return;
        }
        self.slow_since = None;
        self.rates.push_back(rate);
        if self.rates.len() > REMEMBERED {
            self.rates.pop_front();
        }
    }

    /// What is usual: the lower quartile, so that the holes of a volume, which pass in no time, are not its measure.
    #[must_use]
    pub fn usual(&self) -> u64 {
        if self.rates.len() < ENOUGH {
            return 0;
        }
        let mut sorted: Vec<u64> = self.rates.iter().copied().collect();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 4).copied().unwrap_or_default()
    }

    /// For how long it has been slow without a break.
    #[must_use]
    pub fn slow_for(&self, now: Monotonic) -> Duration {
        self.slow_since.map_or(Duration::ZERO, |since| now.since(since))
    }

    /// For how long nothing has moved at all.
    #[must_use]
    pub fn still_for(&self, now: Monotonic) -> Duration {
        self.moved.map_or(Duration::ZERO, |(at, _)| now.since(at))
    }

    /// The run waits for something that is nobody's slowness: nothing is measured over it.
    pub fn rest(&mut self) {
        (self.from, self.slow_since, self.moved) = (None, None, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const RUN: RunId = RunId(1);

    fn second(s: u64) -> Monotonic {
        Monotonic(s * 1_000_000)
    }

    /// Moves at so many MiB a second.
    fn drive(pace: &mut Pace, from_s: u64, seconds: u64, at: &mut u64, rate: u64) {
        for s in from_s..from_s + seconds {
            pace.note(second(s), RUN, *at, *at, MIB);
            *at += rate * MIB;
        }
    }

    #[test]
    fn a_fifth_of_what_is_usual_is_slow_and_a_quarter_is_not() {
        let (mut pace, mut at) = (Pace::default(), 0);
        drive(&mut pace, 0, 120, &mut at, 100);
        assert_eq!(pace.usual(), 100 * MIB);
        drive(&mut pace, 120, 60, &mut at, 25);
        assert_eq!(pace.slow_for(second(180)), Duration::ZERO);
        drive(&mut pace, 180, 40, &mut at, 4);
        assert!(pace.slow_for(second(220)) >= Duration::from_secs(30), "{:?}", pace.slow_for(second(220)));
        drive(&mut pace, 220, 12, &mut at, 100);
        assert_eq!(pace.slow_for(second(232)), Duration::ZERO);
    }

    #[test]
    fn holes_do_not_make_data_slow() {
        let (mut pace, mut at) = (Pace::default(), 0);
        // Two thirds of the time holes fly by at 50 GiB a second, one third is data.
        for round in 0..20 {
            drive(&mut pace, round * 15, 10, &mut at, 50 * 1024);
            drive(&mut pace, round * 15 + 10, 5, &mut at, 100);
        }
        drive(&mut pace, 300, 60, &mut at, 100);
        assert_eq!(pace.slow_for(second(360)), Duration::ZERO);
    }

    #[test]
    fn under_the_floor_is_slow_though_nothing_is_known() {
        let (mut pace, mut at) = (Pace::default(), 0);
        drive(&mut pace, 0, 40, &mut at, 0);
        assert!(pace.slow_for(second(40)) >= Duration::from_secs(30));
        assert!(pace.still_for(second(40)) >= Duration::from_secs(39));
        pace.rest();
        assert_eq!((pace.slow_for(second(50)), pace.still_for(second(50))), (Duration::ZERO, Duration::ZERO));
        pace.note(second(60), RunId(2), 0, 0, MIB);
        assert_eq!(pace.still_for(second(60)), Duration::ZERO);
    }
}
