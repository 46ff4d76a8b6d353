//! What the threads of a stage do with their time, and how full the queue in front of it is. Read at any moment, also in the middle of a
//! long write: what goes on counts up to now.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What a thread does for a stage.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Doing {
    Work,
    /// Waits for what the stage before is to hand on.
    Input,
    /// Waits until the stage after takes something.
    Output,
}

/// How a stage spent its time since the attempt began.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StageTime {
    pub worked: Duration,
    pub input: Duration,
    pub output: Duration,
}

impl StageTime {
    pub(crate) fn is_zero(&self) -> bool {
        *self == Self::default()
    }
}

/// The clock of a stage. A stage of several threads works when one of them does, unless another one cannot hand on; it waits for input when
/// all of them do. So the shares never add up to more than the time that passed.
#[derive(Debug, Default)]
pub(crate) struct Meter(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    working: u32,
    starving: u32,
    blocked: u32,
    /// Up to when the time is booked; `None` before the first.
    booked: Option<Instant>,
    spent: StageTime,
}

impl Meter {
    /// Does it, and books its time.
    pub(crate) fn during<T>(&self, doing: Doing, what: impl FnOnce() -> T) -> T {
        self.lock().change(doing, Instant::now(), 1);
        let result = what();
        self.lock().change(doing, Instant::now(), -1);
        result
    }

    pub(crate) fn read(&self) -> StageTime {
        let mut state = self.lock();
        state.book(Instant::now());
        state.spent
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn change(&mut self, doing: Doing, now: Instant, by: i32) {
        self.book(now);
        let threads = match doing {
            Doing::Work => &mut self.working,
            Doing::Input => &mut self.starving,
            Doing::Output => &mut self.blocked,
        };
        *threads = threads.saturating_add_signed(by);
    }

    fn book(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.booked.unwrap_or(now));
        self.booked = Some(now);
        match self.doing() {
            Some(Doing::Work) => self.spent.worked += passed,
            Some(Doing::Input) => self.spent.input += passed,
            Some(Doing::Output) => self.spent.output += passed,
            None => {}
        }
    }

    fn doing(&self) -> Option<Doing> {
        match self {
            Self { blocked: 1.., .. } => Some(Doing::Output),
            Self { working: 1.., .. } => Some(Doing::Work),
            Self { starving: 1.., .. } => Some(Doing::Input),
            _ => None,
        }
    }
}

/// A reading of a queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Fill {
    /// What is in it now.
    pub bytes: u64,
    /// What was in it at each taking, all together; and how often something was taken.
    pub found_bytes: u64,
    pub takings: u64,
    /// How much can be in it; 0 where there is none.
    pub limit_bytes: u64,
}

impl Fill {
    /// What was in it on average since `earlier`: as whoever took from it found it, or else what is in it now.
    pub(crate) fn mean_since(&self, earlier: &Self) -> u64 {
        let (found, takings) = (self.found_bytes - earlier.found_bytes, self.takings - earlier.takings);
        // What is being handed on is counted already, and is not in it yet.
        found.checked_div(takings).unwrap_or(self.bytes).min(self.limit_bytes)
    }
}

/// How much waits for a stage. Relaxed: it informs, nothing is decided by it.
#[derive(Debug, Default)]
pub(crate) struct Gauge {
    bytes: AtomicU64,
    found_bytes: AtomicU64,
    takings: AtomicU64,
    limit_bytes: AtomicU64,
}

impl Gauge {
    pub(crate) fn set_limit(&self, bytes: u64) {
        self.limit_bytes.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn put(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Of what was put.
    pub(crate) fn take(&self, bytes: u64) {
        let found = self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.found_bytes.fetch_add(found, Ordering::Relaxed);
        self.takings.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Fill {
        Fill {
            bytes: self.bytes.load(Ordering::Relaxed),
            found_bytes: self.found_bytes.load(Ordering::Relaxed),
            takings: self.takings.load(Ordering::Relaxed),
            limit_bytes: self.limit_bytes.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn two_threads_at_once_count_once_and_what_cannot_go_on_counts_first() {
        let (begin, mut state) = (Instant::now(), State::default());
        let changes = [
            (0, Doing::Input, 1),
            (1, Doing::Work, 1),
            (2, Doing::Work, 1),
            (4, Doing::Work, -1),
            (5, Doing::Output, 1),
            (8, Doing::Output, -1),
            (8, Doing::Work, -1),
            (9, Doing::Input, -1),
        ];
        for (at, doing, by) in changes {
            state.change(doing, begin + SECOND * at, by);
        }
        state.book(begin + SECOND * 20);
        let StageTime { worked, input, output } = state.spent;
        assert_eq!((worked, input, output), (SECOND * 4, SECOND * 2, SECOND * 3));
    }

    #[test]
    fn what_goes_on_counts_up_to_the_reading() {
        let meter = Meter::default();
        meter.during(Doing::Work, || {
            let before = meter.read().worked;
            while meter.read().worked == before {}
        });
        assert!(meter.read().input.is_zero());
    }

    #[test]
    fn a_queue_is_as_full_as_it_was_found() {
        let gauge = Gauge::default();
        gauge.set_limit(100);
        (0..3).for_each(|_| gauge.put(30));
        gauge.take(30);
        let first = gauge.read();
        assert_eq!((first.bytes, first.mean_since(&Fill::default())), (60, 90));
        assert_eq!(gauge.read().mean_since(&first), 60, "nobody took anything: what is in it now");
        gauge.take(30);
        gauge.take(30);
        assert_eq!(gauge.read().mean_since(&first), 45);
        gauge.put(500);
        assert_eq!(gauge.read().mean_since(&gauge.read()), 100, "never more than can be in it");
    }
}
