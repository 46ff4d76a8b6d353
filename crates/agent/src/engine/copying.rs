//! A copy in progress: the transfer's events become the machine's, with the checks that only the agent can make.

use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use tanist_datapath::limit::BytesPerSecond;
use tanist_datapath::verify::{Verified, VerifyControl, verify_full};
use tanist_datapath::{Progress, Transfer, TransferConfig, TransferError, TransferEvent};
use tanist_model::id::RunId;
use tanist_model::policy::{SourceMode, VerifyMode};
use tanist_model::run::{BoundSnapshot, Checkpoint};
use tanist_protocol::agent::EngineEvent;
use tanist_protocol::message::{RunFailureKind, RunProgress};
use tanist_storage::StorageError;

use super::snapshots::view_of;
use super::{Engine, Message};
use crate::clock;

pub(super) type VerifyOutcome = Result<Verified, TransferError>;

/// One attempt to copy, and what follows it.
pub(super) struct Copying {
    number: u64,
    run: RunId,
    snapshot: BoundSnapshot,
    stage: Stage,
    halting: bool,
    last_progress: (Instant, Progress),
    rate: u64,
}

enum Stage {
    Transfer(Transfer),
    /// Reading the whole target once more.
    Verify {
        checkpoint: Checkpoint,
        control: Arc<VerifyControl>,
        thread: JoinHandle<()>,
    },
}

impl Engine {
    pub(super) fn copy(&mut self, run: RunId, snapshot: BoundSnapshot, from: Checkpoint, committed: u64) {
        if let Err((kind, reason)) = self.start_copy(run, snapshot, from, committed) {
            self.report(EngineEvent::RunFailed { run, kind, reason });
        }
    }

    fn start_copy(
        &mut self,
        run: RunId,
        snapshot: BoundSnapshot,
        from: Checkpoint,
        committed: u64,
    ) -> Result<(), (RunFailureKind, String)> {
        let Some(open) = &self.open else { return Err((RunFailureKind::Io, "the volumes are not open".to_owned())) };
        let system = self.storages.of(&open.assignment.source).map_err(|reason| (RunFailureKind::Io, reason))?;
        let source = system
            .open_source(&open.assignment.source, &view_of(&snapshot))
            .map_err(|error| (kind_of_opening(&error), error.to_string()))?;
        let mut config = TransferConfig::new(from, snapshot.size_bytes);
        config.verify = open.assignment.verify;
        config.limit = open.assignment.bandwidth_bytes_per_second.and_then(BytesPerSecond::new);
        // Only before anything of this run can have been written is a hole on the target known to be one.
        config.skip_target_holes = self.prepared.take() == Some(run) && from == Checkpoint::START;
        self.attempts += 1;
        let number = self.attempts;
        let own = self.own.clone();
        let events = move |event| {
            let _ = own.send(Message::Transfer(number, event));
        };
        let transfer = Transfer::start(source.device, open.target.device(), config, events);
        transfer.committed(committed);
        self.copying = Some(Copying {
            number,
            run,
            snapshot,
            stage: Stage::Transfer(transfer),
            halting: false,
            last_progress: (Instant::now(), Progress::default()),
            rate: 0,
        });
        Ok(())
    }

    pub(super) fn committed(&self, run: RunId, seq: u64) {
        if let Some(Copying { stage: Stage::Transfer(transfer), run: copying, .. }) = &self.copying
            && *copying == run
        {
            transfer.committed(seq);
        }
    }

    pub(super) fn on_transfer(&mut self, number: u64, event: TransferEvent) {
        let Some(copying) = self.copying.as_ref().filter(|c| c.number == number) else { return };
        let run = copying.run;
        match event {
            TransferEvent::Durable { checkpoint, .. } => self.on_durable(run, checkpoint),
            TransferEvent::Finished { checkpoint, .. } => self.on_finished(run, checkpoint),
            TransferEvent::Stopped { .. } | TransferEvent::Aborted => {
                let halting = copying.halting;
                self.copying = None;
                if halting {
                    self.report(EngineEvent::Halted { run });
                }
            }
            TransferEvent::Failed(error) => self.fail(run, &error),
        }
    }

    /// A checkpoint of a source that changed would certify bytes that no state of the source ever had.
    fn on_durable(&mut self, run: RunId, checkpoint: Checkpoint) {
        match self.why_source_changed() {
            None => self.report(EngineEvent::Durable { run, checkpoint, at: clock::wall() }),
            Some(reason) => self.give_up(run, RunFailureKind::SourceChanged, reason),
        }
    }

    fn why_source_changed(&self) -> Option<String> {
        let (open, copying) = (self.open.as_ref()?, self.copying.as_ref()?);
        if copying.snapshot.mode != SourceMode::Sealed {
            return None;
        }
        let system = self.storages.of(&open.assignment.source).ok()?;
        match system.check_sealed(&open.assignment.source, &copying.snapshot.uid) {
            Err(error @ StorageError::SourceChanged { .. }) => Some(error.to_string()),
            _ => None,
        }
    }

    fn give_up(&mut self, run: RunId, kind: RunFailureKind, reason: String) {
        self.copying = None;
        self.report(EngineEvent::RunFailed { run, kind, reason });
    }

    fn fail(&mut self, run: RunId, error: &TransferError) {
        tracing::warn!(%error, %run, "the copy failed");
        match self.why_source_changed() {
            Some(reason) => self.give_up(run, RunFailureKind::SourceChanged, reason),
            None => self.give_up(run, kind_of_failure(error), error.to_string()),
        }
    }

    fn on_finished(&mut self, run: RunId, checkpoint: Checkpoint) {
        if let Some(reason) = self.why_source_changed() {
            return self.give_up(run, RunFailureKind::SourceChanged, reason);
        }
        let Some(verify) = self.open.as_ref().map(|open| open.assignment.verify) else { return };
        if verify == VerifyMode::Full {
            if self.copying.as_ref().is_some_and(|c| !c.halting) {
                return self.start_verification(run, checkpoint);
            }
            // Paused just before the whole target was read: it is read when the run goes on.
            self.copying = None;
            return self.report(EngineEvent::Halted { run });
        }
        self.copying = None;
        self.report(EngineEvent::CopyDone { run, checkpoint, verified: verify != VerifyMode::Off });
    }

    fn start_verification(&mut self, run: RunId, checkpoint: Checkpoint) {
        let (Some(open), Some(copying)) = (&self.open, &mut self.copying) else { return };
        let control = Arc::new(VerifyControl::default());
        let (device, theirs, own, number) =
            (open.target.device(), Arc::clone(&control), self.own.clone(), copying.number);
        let body = move || {
            let outcome = verify_full(&*device, checkpoint, &theirs);
            drop(device);
            let _ = own.send(Message::Verified(number, outcome));
        };
        match thread::Builder::new().name("verify".to_owned()).spawn(body) {
            Ok(thread) => copying.stage = Stage::Verify { checkpoint, control, thread },
            Err(error) => {
                let reason = format!("start the verification: {error}");
                self.give_up(run, RunFailureKind::Io, reason);
            }
        }
    }

    pub(super) fn on_verified(&mut self, number: u64, outcome: VerifyOutcome) {
        let Some(copying) = self.copying.take_if(|c| c.number == number) else { return };
        let Stage::Verify { checkpoint, thread, .. } = copying.stage else { return };
        let _ = thread.join();
        let run = copying.run;
        match outcome {
            Ok(Verified::Equal) => self.report(EngineEvent::CopyDone { run, checkpoint, verified: true }),
            Ok(Verified::Stopped) => self.report(EngineEvent::Halted { run }),
            Err(error) => {
                let (kind, reason) = (kind_of_verification(&error), error.to_string());
                self.report(EngineEvent::RunFailed { run, kind, reason });
            }
        }
    }

    pub(super) fn halt(&mut self, run: RunId) {
        let Some(copying) = self.copying.as_mut().filter(|c| c.run == run) else {
            return self.report(EngineEvent::Halted { run });
        };
        copying.halting = true;
        copying.stop();
    }

    /// Ends the copy; when this returns, no I/O of it is in flight. A graceful end tells its last checkpoint first.
    pub(super) fn end_copy(&mut self, graceful: bool, queue: &Receiver<Message>) {
        let Some(copying) = self.copying.take() else { return };
        let run = copying.run;
        match copying.stage {
            Stage::Transfer(transfer) => {
                if graceful {
                    transfer.stop()
                } else {
                    transfer.abort()
                }
                transfer.join();
            }
            Stage::Verify { control, thread, .. } => {
                control.stop();
                let _ = thread.join();
            }
        }
        if !graceful {
            return;
        }
        while let Ok(message) = queue.try_recv() {
            if let Message::Transfer(_, TransferEvent::Durable { checkpoint, .. }) = message {
                self.report(EngineEvent::Durable { run, checkpoint, at: clock::wall() });
            }
        }
    }

    pub(super) fn report_progress(&mut self) {
        let Some(copying) = self.copying.as_mut() else { return };
        let Some(progress) = copying.progress() else { return };
        let run = copying.run;
        self.report(EngineEvent::Progress { run, progress });
    }
}

impl Copying {
    fn stop(&self) {
        match &self.stage {
            Stage::Transfer(transfer) => transfer.stop(),
            Stage::Verify { control, .. } => control.stop(),
        }
    }

    /// A reading, if the last one is old enough to measure a rate against.
    fn progress(&mut self) -> Option<RunProgress> {
        let elapsed = self.last_progress.0.elapsed();
        if elapsed < super::PROGRESS_INTERVAL {
            return None;
        }
        let transfer = match &self.stage {
            Stage::Transfer(transfer) => transfer,
            Stage::Verify { control, .. } => {
                let passed_bytes = control.verified_seq();
                return Some(RunProgress {
                    passed_bytes,
                    rate_bytes_per_second: self.rate,
                    limit: "verify".to_owned(),
                });
            }
        };
        let now = transfer.progress();
        let moved = now.written_seq.saturating_sub(self.last_progress.1.written_seq);
        let rate = (moved as f64 / elapsed.as_secs_f64()) as u64;
        // Half old, half new: steady enough to read, quick enough to show a stall.
        self.rate = if self.rate == 0 { rate } else { self.rate / 2 + rate / 2 };
        let limit = now.limiting_stage(&self.last_progress.1).map_or_else(String::new, |stage| stage.to_string());
        self.last_progress = (Instant::now(), now);
        Some(RunProgress { passed_bytes: now.written_seq, rate_bytes_per_second: self.rate, limit })
    }
}

fn kind_of_opening(error: &StorageError) -> RunFailureKind {
    match error {
        StorageError::SourceChanged { .. } => RunFailureKind::SourceChanged,
        StorageError::SnapshotNotFound { .. } | StorageError::SnapshotMismatch { .. } => RunFailureKind::SnapshotGone,
        _ => RunFailureKind::Io,
    }
}

fn kind_of_failure(error: &TransferError) -> RunFailureKind {
    match error {
        TransferError::Flush { .. } => RunFailureKind::Flush,
        TransferError::Mismatch { .. } => RunFailureKind::Mismatch,
        TransferError::ChainMismatch { .. } => RunFailureKind::FullMismatch,
        TransferError::Io { .. } | TransferError::Link(_) | TransferError::Geometry(_) | TransferError::Panicked(_) => {
            RunFailureKind::Io
        }
    }
}

fn kind_of_verification(error: &TransferError) -> RunFailureKind {
    match kind_of_failure(error) {
        RunFailureKind::Mismatch => RunFailureKind::FullMismatch,
        other => other,
    }
}
