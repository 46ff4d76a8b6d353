//! A copy in progress: the transfer's events become the machine's, with the checks that only the agent can make.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::thread::{self, JoinHandle};

use tanist_datapath::limit::BytesPerSecond;
use tanist_datapath::verify::{Verified, VerifyControl, verify_full};
use tanist_datapath::{
    Arrival, Progress, Receiver as Reception, ReceiverConfig, Transfer, TransferConfig, TransferError, TransferEvent,
};
use tanist_model::id::RunId;
use tanist_model::policy::{SourceMode, VerifyMode};
use tanist_model::replication::Side;
use tanist_model::run::Checkpoint;
use tanist_model::work::RunWork;
use tanist_protocol::agent::{EngineEvent, EngineSource};
use tanist_protocol::message::{CopyOrder, RunFailureKind, RunProgress, StreamKey};
use tanist_storage::StorageError;

use super::{Engine, Message};
use crate::clock;
use crate::measured::Measured;
use crate::source::{changes_of, kind_of_opening, same_volume, view_of};
use crate::streams::key_of;

pub(super) type VerifyOutcome = Result<Verified, TransferError>;

/// One attempt to copy, and what follows it.
pub(super) struct Copying {
    number: u64,
    order: CopyOrder,
    stage: Stage,
    halting: bool,
    measured: Measured,
    /// What this engine had done for the run before.
    before: RunWork,
}

enum Stage {
    Transfer(Transfer),
    /// Waiting for the reader's streams.
    Streams {
        config: Box<ReceiverConfig>,
        committed: u64,
        arrivals: Vec<Arrival>,
    },
    Reception(Reception),
    /// Reading the whole target once more.
    Verify {
        checkpoint: Checkpoint,
        control: Arc<VerifyControl>,
        thread: JoinHandle<()>,
    },
}

impl Engine {
    pub(super) fn copy(&mut self, order: CopyOrder, source: &EngineSource) {
        (self.finished, self.quiescing) = (None, None);
        let run = order.run;
        let begun = match source {
            EngineSource::Local => self.start_copy(order),
            EngineSource::Stream { stream, .. } => {
                self.await_streams(order, stream);
                Ok(())
            }
        };
        if let Err((kind, reason)) = begun {
            self.report(EngineEvent::RunFailed { run, kind, reason });
        }
    }

    fn start_copy(&mut self, order: CopyOrder) -> Result<(), (RunFailureKind, String)> {
        let Some(open) = &self.open else { return Err((RunFailureKind::Io, "the volumes are not open".to_owned())) };
        let (volume, target) = (open.assignment.source.clone(), open.target.device());
        let limit = order.bandwidth_bytes_per_second.and_then(BytesPerSecond::new);
        self.check_source().map_err(|reason| (RunFailureKind::Io, reason))?;
        self.check_target()?;
        let system = self.storages.of(&volume).map_err(|reason| (RunFailureKind::Io, reason))?;
        let source = system
            .open_source(&volume, &view_of(&order.snapshot))
            .map_err(|error| (kind_of_opening(&error), error.to_string()))?;
        let mut digests = self.digests.of_copy(order.run, order.method, order.snapshot.size_bytes);
        digests.changes = changes_of(&*system, &volume, &order.snapshot, order.method, &digests);
        let config = TransferConfig { limit, digests, ..self.transfer_config(&order) };
        let events = self.events();
        let transfer = Transfer::start(source.device, target, config, events);
        transfer.committed(order.committed);
        self.begin(order, Stage::Transfer(transfer));
        Ok(())
    }

    pub(super) fn check_source(&self) -> Result<(), String> {
        let Some(assignment) = self.open.as_ref().map(|open| &open.assignment) else { return Ok(()) };
        let seen = self.storages.of(&assignment.source)?.inspect(&assignment.source).map_err(|e| e.to_string())?;
        same_volume("source", &assignment.source_identity, &seen.identity)
    }

    fn transfer_config(&mut self, order: &CopyOrder) -> TransferConfig {
        let mut config = TransferConfig::new(order.from, order.snapshot.size_bytes);
        config.verify = order.verify;
        config.compare = order.method.compares();
        config.unconditional = order.unconditional.clone();
        // Only before anything of this run can have been written is a hole on the target known to be one.
        config.skip_target_holes = self.prepared.take() == Some(order.run)
            && order.from == Checkpoint::START
            && order.unconditional.is_empty();
        config
    }

    /// The events of the attempt that begins now.
    fn events(&mut self) -> impl Fn(TransferEvent) + Send + 'static {
        self.attempts += 1;
        let (number, own) = (self.attempts, self.own.clone());
        move |event| {
            let _ = own.send(Message::Transfer(number, event));
        }
    }

    fn begin(&mut self, order: CopyOrder, stage: Stage) {
        self.note_work();
        let before = self.work_for(order.run);
        let measured = Measured::starting_at(Progress { written_seq: order.from.seq, ..Progress::default() });
        self.copying = Some(Copying { number: self.attempts, order, stage, halting: false, measured, before });
    }

    /// The networked form: a reader opens the streams; the desk was told before the server could hear that we wait.
    fn await_streams(&mut self, order: CopyOrder, stream: &StreamKey) {
        let (transfer, committed) = (self.transfer_config(&order), order.committed);
        let config =
            ReceiverConfig { key: key_of(order.run, stream), transfer, rules: self.rules, late: self.late.clone() };
        self.begin(order, Stage::Streams { config: Box::new(config), committed, arrivals: Vec::new() });
    }

    /// A stream of the reader, let through by the desk. With the last of them the reception begins.
    pub(super) fn on_arrival(&mut self, arrival: Arrival) {
        let Some(target) = self.open.as_ref().map(|open| open.target.device()) else { return };
        let Some(copying) = self.copying.as_mut() else { return };
        let Stage::Streams { config, committed, arrivals } = &mut copying.stage else { return };
        if arrival.key() != config.key {
            return arrival.refuse("another stream is expected by now");
        }
        let streams = usize::from(arrival.place().1);
        arrivals.push(arrival);
        if arrivals.len() < streams {
            return;
        }
        let (config, committed, arrivals) = ((**config).clone(), *committed, std::mem::take(arrivals));
        let events = self.events();
        let receiver = Reception::start(target, config, arrivals, events);
        receiver.committed(committed);
        let number = self.attempts;
        if let Some(copying) = self.copying.as_mut() {
            (copying.number, copying.stage) = (number, Stage::Reception(receiver));
        }
    }

    pub(super) fn committed(&mut self, run: RunId, seq: u64) {
        match &self.copying {
            Some(Copying { stage: Stage::Transfer(transfer), order, .. }) if order.run == run => {
                transfer.committed(seq);
            }
            Some(Copying { stage: Stage::Reception(receiver), order, .. }) if order.run == run => {
                receiver.committed(seq);
            }
            _ => self.tell_finished(run, seq),
        }
    }

    /// The reader waits for the word that its last byte is committed.
    fn tell_finished(&mut self, run: RunId, seq: u64) {
        let Some((_, size_bytes, receiver)) = self.finished.as_ref().filter(|(of, ..)| *of == run) else { return };
        receiver.committed(seq);
        if seq >= *size_bytes {
            self.finished = None;
        }
    }

    pub(super) fn on_transfer(&mut self, number: u64, event: TransferEvent) {
        if self.copying.as_ref().is_none_or(|copying| copying.number != number) {
            return;
        }
        self.tell_work();
        let Some(copying) = self.copying.as_ref() else { return };
        let run = copying.order.run;
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
        match self.why_changed() {
            None => self.report(EngineEvent::Durable { run, checkpoint, at: clock::wall() }),
            Some((kind, reason)) => self.give_up(run, kind, reason),
        }
    }

    fn why_changed(&self) -> Option<(RunFailureKind, String)> {
        let source = self.why_source_changed().map(|reason| (RunFailureKind::SourceChanged, reason));
        source.or_else(|| self.check_target().err())
    }

    fn why_source_changed(&self) -> Option<String> {
        let (open, copying) = (self.open.as_ref()?, self.copying.as_ref()?);
        // In the networked form the reader looks, at every block.
        if copying.order.snapshot.mode != SourceMode::Sealed || !matches!(copying.stage, Stage::Transfer(_)) {
            return None;
        }
        let system = self.storages.of(&open.assignment.source).ok()?;
        match system.check_sealed(&open.assignment.source, &copying.order.snapshot.uid) {
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
        let (kind, reason) = self.why_changed().unwrap_or_else(|| (kind_of_failure(error), error.to_string()));
        self.give_up(run, kind, reason);
        self.leave_unresolved_target();
    }

    /// A target that takes no more writes is of no use to this role; another one, under an epoch of its own, opens it anew.
    fn leave_unresolved_target(&self) {
        let unresolved = self.open.as_ref().and_then(|open| open.target.device().unresolved());
        if let Some(reason) = unresolved {
            self.report(EngineEvent::Unfit { reason });
        }
    }

    fn on_finished(&mut self, run: RunId, checkpoint: Checkpoint) {
        if let Some((kind, reason)) = self.why_changed() {
            return self.give_up(run, kind, reason);
        }
        let Some(verify) = self.copying.as_ref().map(|copying| copying.order.verify) else { return };
        if verify == VerifyMode::Full {
            if self.copying.as_ref().is_some_and(|c| !c.halting) {
                return self.start_verification(run, checkpoint);
            }
            // Paused just before the whole target was read: it is read when the run goes on.
            self.copying = None;
            return self.report(EngineEvent::Halted { run });
        }
        if let Some(Copying { stage: Stage::Reception(receiver), order, .. }) = self.copying.take() {
            self.finished = Some((run, order.snapshot.size_bytes, receiver));
        }
        self.report(EngineEvent::CopyDone { run, checkpoint, verified: verify != VerifyMode::Off });
    }

    fn start_verification(&mut self, run: RunId, checkpoint: Checkpoint) {
        let Some(number) = self.copying.as_ref().map(|copying| copying.number) else { return };
        match self.verification(number, checkpoint) {
            Ok(stage) => {
                if let Some(copying) = self.copying.as_mut() {
                    copying.stage = stage;
                }
            }
            Err(reason) => self.give_up(run, RunFailureKind::Io, reason),
        }
    }

    /// Reads the whole target and nothing else: for a run that was published before.
    pub(super) fn verify(&mut self, order: CopyOrder) {
        self.finished = None;
        self.attempts += 1;
        match self.verification(self.attempts, order.from) {
            Ok(stage) => self.begin(order, stage),
            Err(reason) => {
                self.report(EngineEvent::RunFailed { run: order.run, kind: RunFailureKind::Io, reason });
            }
        }
    }

    /// The reading of the whole target, on a thread of its own.
    fn verification(&self, number: u64, checkpoint: Checkpoint) -> Result<Stage, String> {
        let Some(open) = &self.open else { return Err("the volumes are not open".to_owned()) };
        let control = Arc::new(VerifyControl::default());
        let (device, theirs, own) = (open.target.device(), Arc::clone(&control), self.own.clone());
        let body = move || {
            let outcome = verify_full(&*device, checkpoint, &theirs);
            drop(device);
            let _ = own.send(Message::Verified(number, outcome));
        };
        let thread = thread::Builder::new().name("verify".to_owned()).spawn(body);
        let thread = thread.map_err(|error| format!("start the verification: {error}"))?;
        Ok(Stage::Verify { checkpoint, control, thread })
    }

    pub(super) fn on_verified(&mut self, number: u64, outcome: VerifyOutcome) {
        let Some(copying) = self.copying.take_if(|c| c.number == number) else { return };
        let Stage::Verify { checkpoint, thread, .. } = copying.stage else { return };
        let _ = thread.join();
        let run = copying.order.run;
        match outcome {
            Ok(Verified::Equal) => self.report(match self.check_target() {
                Ok(()) => EngineEvent::CopyDone { run, checkpoint, verified: true },
                Err((kind, reason)) => EngineEvent::RunFailed { run, kind, reason },
            }),
            Ok(Verified::Stopped) => self.report(EngineEvent::Halted { run }),
            Err(error) => {
                let (kind, reason) = (kind_of_verification(&error), error.to_string());
                self.report(EngineEvent::RunFailed { run, kind, reason });
            }
        }
    }

    pub(super) fn halt(&mut self, run: RunId) {
        self.quiescing = None;
        let Some(copying) = self.copying.as_mut().filter(|c| c.order.run == run) else {
            return self.report(EngineEvent::Halted { run });
        };
        copying.halting = true;
        if !copying.stop() {
            self.copying = None;
            self.report(EngineEvent::Halted { run });
        }
    }

    /// Ends the copy; when this returns, no I/O of it is in flight. A graceful end tells its last checkpoint first.
    pub(super) fn end_copy(&mut self, graceful: bool, queue: &Receiver<Message>) {
        let Some(copying) = self.copying.take() else { return };
        let run = copying.order.run;
        match copying.stage {
            Stage::Transfer(transfer) => {
                if graceful {
                    transfer.stop()
                } else {
                    transfer.abort()
                }
                transfer.join();
            }
            Stage::Reception(receiver) => {
                if graceful {
                    receiver.stop()
                } else {
                    receiver.abort()
                }
                receiver.join();
            }
            Stage::Streams { .. } => {}
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
        self.note_work();
        let Some(copying) = self.copying.as_mut() else { return };
        let (run, Some(progress)) = (copying.order.run, copying.progress()) else { return };
        let work = self.work_for(run);
        self.report(EngineEvent::Progress { run, progress: RunProgress { work, ..progress } });
    }

    /// Before a word that the server commits: what was done up to it.
    fn tell_work(&mut self) {
        self.note_work();
        let Some(copying) = &self.copying else { return };
        let (run, Some(now)) = (copying.order.run, copying.reading()) else { return };
        let progress = copying.measured.progress(now.written_seq, self.work_for(run));
        self.report(EngineEvent::Progress { run, progress });
    }

    fn note_work(&mut self) {
        let Some(copying) = &self.copying else { return };
        if let Some(now) = copying.reading() {
            let done = work_of(&now, copying.order.from.seq);
            self.work = Some((copying.order.run, copying.before.plus(done)));
        }
    }

    fn work_for(&self, run: RunId) -> RunWork {
        self.work.filter(|(of, _)| *of == run).map(|(_, work)| work).unwrap_or_default()
    }
}

/// What an attempt that began at `from` has done.
fn work_of(progress: &Progress, from: u64) -> RunWork {
    RunWork {
        scanned_bytes: progress.written_seq.saturating_sub(from),
        same_bytes: progress.same_bytes,
        assumed_bytes: progress.assumed_bytes,
        unread_bytes: progress.unread_bytes,
        compared_bytes: progress.compared_bytes,
        written_bytes: progress.written_bytes,
        zeroed_bytes: progress.zeroed_bytes,
        sent_bytes: progress.wire_bytes,
    }
}

impl Copying {
    /// Asks it to end; `false` if there is nothing yet that could.
    fn stop(&self) -> bool {
        match &self.stage {
            Stage::Transfer(transfer) => transfer.stop(),
            Stage::Reception(receiver) => receiver.stop(),
            Stage::Verify { control, .. } => control.stop(),
            Stage::Streams { .. } => return false,
        }
        true
    }

    /// The counters of what moves bytes now.
    fn reading(&self) -> Option<Progress> {
        match &self.stage {
            Stage::Transfer(transfer) => Some(transfer.progress()),
            Stage::Reception(receiver) => Some(receiver.progress()),
            Stage::Streams { .. } | Stage::Verify { .. } => None,
        }
    }

    /// A reading, if the last one is old enough to measure a rate against.
    fn progress(&mut self) -> Option<RunProgress> {
        if !self.measured.is_due() {
            return None;
        }
        if let Stage::Verify { control, .. } = &self.stage {
            let (passed_bytes, rate_bytes_per_second) = (control.verified_seq(), self.measured.rate());
            let limit = "verify".to_owned();
            return Some(RunProgress { passed_bytes, rate_bytes_per_second, limit, ..RunProgress::default() });
        }
        let now = self.reading()?;
        self.measured.note(now, |progress| progress.written_seq);
        Some(self.measured.progress(now.written_seq, RunWork::default()))
    }
}

fn kind_of_failure(error: &TransferError) -> RunFailureKind {
    match error {
        // It was cut off, and may have its old size again by now: what lay behind the cut is gone.
        TransferError::Io { side: Side::Target, cause, .. } if cause.kind() == ErrorKind::UnexpectedEof => {
            RunFailureKind::TargetChanged
        }
        TransferError::NotTheBase { .. } => RunFailureKind::TargetChanged,
        TransferError::Untold { .. } => RunFailureKind::ChangesUntold,
        TransferError::Flush { .. } => RunFailureKind::Flush,
        TransferError::Link(_) => RunFailureKind::Link,
        TransferError::Mismatch { .. } => RunFailureKind::Mismatch,
        TransferError::ChainMismatch { .. } => RunFailureKind::FullMismatch,
        TransferError::Io { .. }
        | TransferError::DigestLost { .. }
        | TransferError::Geometry(_)
        | TransferError::Panicked(_) => RunFailureKind::Io,
    }
}

fn kind_of_verification(error: &TransferError) -> RunFailureKind {
    match kind_of_failure(error) {
        RunFailureKind::Mismatch => RunFailureKind::FullMismatch,
        other => other,
    }
}
