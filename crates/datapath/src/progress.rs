//! How far a transfer is, and which stage holds it up; counters that any thread may read at any time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tanist_model::stage::{StageUse, limit_of};

pub use crate::meter::{Fill, StageTime};
pub use tanist_model::stage::Stage;

use crate::meter::{Doing, Gauge, Meter};

/// A reading of a transfer's counters. Bytes count from the start of this attempt, positions from the start of the volume.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Progress {
    pub read_bytes: u64,
    /// Left unread at the source, because its storage system does not name it as changed.
    pub unread_bytes: u64,
    pub written_bytes: u64,
    /// Zeroed without being written.
    pub zeroed_bytes: u64,
    /// Zeros that the target was found to hold already.
    pub skipped_bytes: u64,
    /// Read from the target to be compared.
    pub compared_bytes: u64,
    /// Left as it is because the target holds it already, zeros included.
    pub same_bytes: u64,
    /// Of these, what only stored digests say, and nobody has looked at.
    pub assumed_bytes: u64,
    /// Read back from the target and found equal.
    pub verified_bytes: u64,
    /// Sent to or received from the other side, headers included; nothing in the direct form.
    pub wire_bytes: u64,
    /// Frames that the gate did not let in.
    pub refused_frames: u64,
    /// Everything below is written.
    pub written_seq: u64,
    /// Everything below is flushed and verified.
    pub durable_seq: u64,
    /// Everything below is committed by the caller.
    pub committed_seq: u64,
    /// Since the attempt began.
    pub elapsed: Duration,
    /// What each stage did meanwhile, in [`Stage::ALL`]'s order.
    pub stages: [StageReading; 7],
}

/// A reading of one stage.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StageReading {
    pub time: StageTime,
    /// The queue in front of it.
    pub queue: Fill,
}

impl Progress {
    /// The stage for which the others waited since `earlier`; `None` if none did much.
    #[must_use]
    pub fn limiting_stage(&self, earlier: &Self) -> Option<Stage> {
        limit_of(&self.stages_since(earlier))
    }

    /// What the stages of this side did since `earlier`, in their order; those that never did anything are left out.
    #[must_use]
    pub fn stages_since(&self, earlier: &Self) -> Vec<StageUse> {
        let passed = self.elapsed.saturating_sub(earlier.elapsed);
        let readings = Stage::ALL.into_iter().zip(self.stages.iter().zip(&earlier.stages));
        let present = readings.filter(|(_, (now, _))| !now.time.is_zero());
        present.map(|(stage, (now, earlier))| now.since(stage, earlier, passed)).collect()
    }
}

impl StageReading {
    fn since(&self, stage: Stage, earlier: &Self, passed: Duration) -> StageUse {
        let share = |now: Duration, earlier: Duration| permille(now.saturating_sub(earlier), passed);
        StageUse {
            stage,
            worked_permille: share(self.time.worked, earlier.time.worked),
            input_permille: share(self.time.input, earlier.time.input),
            output_permille: share(self.time.output, earlier.time.output),
            queued_bytes: self.queue.mean_since(&earlier.queue),
            queue_limit_bytes: self.queue.limit_bytes,
        }
    }
}

fn permille(part: Duration, whole: Duration) -> u16 {
    let share = (part.as_nanos() * 1000).checked_div(whole.as_nanos()).unwrap_or(0);
    u16::try_from(share.min(1000)).unwrap_or(1000)
}

/// The counters behind [`Progress`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) read_bytes: Counter,
    pub(crate) unread_bytes: Counter,
    pub(crate) written_bytes: Counter,
    pub(crate) zeroed_bytes: Counter,
    pub(crate) skipped_bytes: Counter,
    pub(crate) compared_bytes: Counter,
    pub(crate) same_bytes: Counter,
    pub(crate) assumed_bytes: Counter,
    pub(crate) verified_bytes: Counter,
    pub(crate) wire_bytes: Counter,
    pub(crate) refused_frames: Counter,
    pub(crate) written_seq: Counter,
    pub(crate) durable_seq: Counter,
    pub(crate) committed_seq: Counter,
    began: Began,
    meters: [Meter; 7],
    queues: [Gauge; 7],
}

#[derive(Debug)]
struct Began(Instant);

impl Default for Began {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Counters {
    /// Counts from a checkpoint that is already committed.
    pub(crate) fn starting_at(seq: u64) -> Self {
        let counters = Self::default();
        counters.written_seq.raise(seq);
        counters.durable_seq.raise(seq);
        counters.committed_seq.raise(seq);
        counters
    }

    /// Does `work`, and books its time on `stage`.
    pub(crate) fn timed<T>(&self, stage: Stage, work: impl FnOnce() -> T) -> T {
        self.during(stage, Doing::Work, work)
    }

    /// The same for what is no work.
    pub(crate) fn during<T>(&self, stage: Stage, doing: Doing, what: impl FnOnce() -> T) -> T {
        self.meters[stage as usize].during(doing, what)
    }

    /// How much waits for a stage.
    pub(crate) fn queue(&self, stage: Stage) -> &Gauge {
        &self.queues[stage as usize]
    }

    pub(crate) fn snapshot(&self) -> Progress {
        Progress {
            read_bytes: self.read_bytes.get(),
            unread_bytes: self.unread_bytes.get(),
            written_bytes: self.written_bytes.get(),
            zeroed_bytes: self.zeroed_bytes.get(),
            skipped_bytes: self.skipped_bytes.get(),
            compared_bytes: self.compared_bytes.get(),
            same_bytes: self.same_bytes.get(),
            assumed_bytes: self.assumed_bytes.get(),
            verified_bytes: self.verified_bytes.get(),
            wire_bytes: self.wire_bytes.get(),
            refused_frames: self.refused_frames.get(),
            written_seq: self.written_seq.get(),
            durable_seq: self.durable_seq.get(),
            committed_seq: self.committed_seq.get(),
            elapsed: self.began.0.elapsed(),
            stages: std::array::from_fn(|i| StageReading { time: self.meters[i].read(), queue: self.queues[i].read() }),
        }
    }
}

/// A number that only grows. Relaxed: it informs, nothing is decided by it.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    pub(crate) fn raise(&self, to: u64) {
        self.0.fetch_max(to, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(amount: u64) -> Duration {
        Duration::from_secs(amount)
    }

    #[test]
    fn shares_are_of_the_time_since_the_last_look() {
        let mut before = Progress { elapsed: seconds(10), ..Progress::default() };
        before.stages[Stage::Source as usize].time.worked = seconds(9);
        let mut now = Progress { elapsed: seconds(20), ..before };
        now.stages[Stage::Source as usize].time.worked = seconds(11);
        now.stages[Stage::Target as usize].time =
            StageTime { worked: seconds(8), input: seconds(1), output: seconds(0) };
        let shares = |stage: &StageUse| (stage.stage, stage.worked_permille, stage.input_permille);
        let since: Vec<_> = now.stages_since(&before).iter().map(shares).collect();
        assert_eq!(since, [(Stage::Source, 200, 0), (Stage::Target, 800, 100)]);
        assert_eq!(now.limiting_stage(&before), Some(Stage::Target));
        assert_eq!(now.limiting_stage(&Progress::default()), Some(Stage::Source));
        assert_eq!(now.limiting_stage(&now), None);
    }
}
