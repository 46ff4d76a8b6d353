//! How far a transfer is, and which stage holds it up; counters that any thread may read at any time.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A part of the pipeline that can be the slowest.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Stage {
    /// Reading the source.
    Source,
    /// Finding zeros and hashing.
    Encode,
    /// Writing the target.
    Target,
    /// Flushing, reading back, and waiting for the checkpoint to be committed.
    Commit,
    /// The bandwidth limit.
    Limit,
    /// The streams between the two sides.
    Network,
    /// Reading the target and comparing.
    Compare,
}

impl Stage {
    pub const ALL: [Self; 7] =
        [Self::Source, Self::Encode, Self::Target, Self::Commit, Self::Limit, Self::Network, Self::Compare];
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Source => "source",
            Self::Encode => "encode",
            Self::Target => "target",
            Self::Commit => "commit",
            Self::Limit => "the rate that was set",
            Self::Network => "network",
            Self::Compare => "comparison",
        })
    }
}

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
    /// Time each stage was the one that worked, in [`Stage::ALL`]'s order.
    pub busy: [Duration; 7],
}

impl Progress {
    /// The stage that was busiest since `earlier`; `None` if nothing has moved.
    #[must_use]
    pub fn limiting_stage(&self, earlier: &Self) -> Option<Stage> {
        let busy = |stage: &Stage| self.busy[*stage as usize].saturating_sub(earlier.busy[*stage as usize]);
        Stage::ALL.into_iter().max_by_key(busy).filter(|stage| !busy(stage).is_zero())
    }
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
    busy_nanos: [Counter; 7],
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

    /// Does `work` and books its time on `stage`.
    pub(crate) fn timed<T>(&self, stage: Stage, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = work();
        self.busy_nanos[stage as usize].add(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX));
        result
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
            busy: std::array::from_fn(|i| Duration::from_nanos(self.busy_nanos[i].get())),
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

    #[test]
    fn the_busiest_stage_since_the_last_look_is_the_limit() {
        let counters = Counters::default();
        counters.busy_nanos[Stage::Source as usize].add(1_000);
        let before = counters.snapshot();
        counters.busy_nanos[Stage::Source as usize].add(10);
        counters.busy_nanos[Stage::Commit as usize].add(20);
        assert_eq!(counters.snapshot().limiting_stage(&before), Some(Stage::Commit));
        assert_eq!(counters.snapshot().limiting_stage(&Progress::default()), Some(Stage::Source));
        assert_eq!(before.limiting_stage(&before), None);
    }
}
