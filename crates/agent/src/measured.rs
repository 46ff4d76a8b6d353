//! What is told of an attempt while it goes on: how fast it is, and where its time goes.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tanist_datapath::Progress;
use tanist_model::stage::{StageUse, limit_of};
use tanist_model::work::RunWork;
use tanist_protocol::message::RunProgress;

/// How often it is measured.
pub(crate) const PROGRESS_INTERVAL: Duration = Duration::from_millis(250);

/// The stages are told of the last five seconds: a few checkpoints, however seldom one is made.
const READINGS: usize = 20;

/// The readings of one attempt.
pub(crate) struct Measured {
    /// Never empty.
    readings: VecDeque<Progress>,
    read_at: Instant,
    rate: u64,
    stages: Vec<StageUse>,
}

impl Measured {
    /// `from`: the counters as they begin.
    pub(crate) fn starting_at(from: Progress) -> Self {
        Self { readings: VecDeque::from([from]), read_at: Instant::now(), rate: 0, stages: Vec::new() }
    }

    /// Whether the last reading is old enough to measure another against.
    pub(crate) fn is_due(&self) -> bool {
        self.read_at.elapsed() >= PROGRESS_INTERVAL
    }

    /// Takes a reading; `moved` is what its rate is of.
    pub(crate) fn note(&mut self, now: Progress, moved: fn(&Progress) -> u64) {
        let before = self.readings.back().map_or(0, moved);
        let elapsed = self.read_at.elapsed();
        self.read_at = Instant::now();
        let rate = (moved(&now).saturating_sub(before) as f64 / elapsed.as_secs_f64()) as u64;
        // Half old, half new: steady enough to read, quick enough to show a stall.
        self.rate = if self.rate == 0 { rate } else { self.rate / 2 + rate / 2 };
        self.stages = self.readings.front().map(|oldest| now.stages_since(oldest)).unwrap_or_default();
        if self.readings.len() == READINGS {
            self.readings.pop_front();
        }
        self.readings.push_back(now);
    }

    pub(crate) fn rate(&self) -> u64 {
        self.rate
    }

    /// As it is told.
    pub(crate) fn progress(&self, passed_bytes: u64, work: RunWork) -> RunProgress {
        let limit = limit_of(&self.stages).map_or_else(String::new, |stage| stage.to_string());
        RunProgress { passed_bytes, rate_bytes_per_second: self.rate, limit, work, stages: self.stages.clone() }
    }
}

#[cfg(test)]
mod tests {
    use tanist_datapath::Stage;

    use super::*;

    /// A reading after so many quarters of a second, of which the source worked so many.
    fn reading(quarters: u32, worked: u32) -> Progress {
        let mut progress = Progress { elapsed: PROGRESS_INTERVAL * quarters, ..Progress::default() };
        progress.stages[Stage::Source as usize].time.worked = PROGRESS_INTERVAL * worked;
        progress
    }

    #[test]
    fn stages_are_told_of_the_last_seconds_only() {
        let mut measured = Measured::starting_at(Progress::default());
        (1..=20).for_each(|quarter| measured.note(reading(quarter, quarter), |now| now.read_bytes));
        let told = measured.progress(7, RunWork::default());
        assert_eq!((told.stages[0].worked_permille, told.limit.as_str(), told.passed_bytes), (1000, "source", 7));
        (21..=50).for_each(|quarter| measured.note(reading(quarter, 20), |now| now.read_bytes));
        let told = measured.progress(7, RunWork::default());
        assert_eq!((told.stages[0].worked_permille, told.limit.as_str()), (0, ""));
    }

    #[test]
    fn a_rate_is_of_what_moved_since_the_last_reading() {
        let mut measured = Measured::starting_at(Progress { written_seq: 1 << 40, ..Progress::default() });
        assert!(!measured.is_due());
        measured.note(Progress { written_seq: 1 << 40, ..Progress::default() }, |now| now.written_seq);
        assert_eq!(measured.rate(), 0, "what an earlier attempt has done is no speed of this one");
        measured.note(Progress { written_seq: 2 << 40, ..Progress::default() }, |now| now.written_seq);
        assert!(measured.rate() > 0);
    }
}
