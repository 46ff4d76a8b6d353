//! Reading for a holder elsewhere: the source's side of the networked form.
//!
//! A reader writes nothing but snapshots under ids of their own, so it asks for no grant and leaves nothing to prove: orders under a
//! higher source epoch, or with a higher number, replace what it does, and what it sends is admitted by the holder's gate.

use serde::{Deserialize, Serialize};
use tanist_model::id::{Epochs, ReplicationId, RunId, SnapshotId};
use tanist_model::replication::Side;
use tanist_model::run::BoundSnapshot;
use tanist_model::time::Monotonic;

use super::{AgentMachine, Effect, ReaderCommand, ReaderEvent};
use crate::message::{
    AgentMessage, FenceReport, LateFrames, OrderNumber, ReadAssignment, ReadOrder, RoleReport, RoleState,
    RunFailureKind, RunProgress, Stamp, StreamKey,
};

/// What a reader is busy with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ReadWork {
    Idle,
    Preparing {
        run: RunId,
    },
    /// The snapshot exists at the storage and the server has not said that it is bound.
    AwaitBound {
        run: RunId,
        snapshot: BoundSnapshot,
        sent: Monotonic,
    },
    Sending {
        run: RunId,
        stream: StreamKey,
    },
    /// Told to end; gone once everything is closed.
    Ending,
}

/// The reading of one replication by this process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    pub epochs: Epochs,
    pub work: ReadWork,
    pub assignment: ReadAssignment,
    orders: OrderNumber,
    progress: Option<(RunId, RunProgress)>,
}

impl Reading {
    fn new(epochs: Epochs, assignment: ReadAssignment) -> Self {
        Self { epochs, work: ReadWork::Idle, assignment, orders: OrderNumber::default(), progress: None }
    }

    fn run(&self) -> Option<RunId> {
        match &self.work {
            ReadWork::Preparing { run } | ReadWork::AwaitBound { run, .. } | ReadWork::Sending { run, .. } => {
                Some(*run)
            }
            ReadWork::Idle | ReadWork::Ending => None,
        }
    }

    pub(super) fn report(&self, replication: ReplicationId) -> RoleReport {
        let (run, ends) = (self.run(), self.work == ReadWork::Ending);
        let stream = if let ReadWork::Sending { stream, .. } = self.work { Some(stream) } else { None };
        RoleReport {
            replication,
            side: Side::Source,
            epochs: self.epochs,
            state: if ends { RoleState::DrainingOut } else { RoleState::Active },
            fence: FenceReport::default(),
            run,
            stream,
            progress: self.progress.as_ref().filter(|(of, _)| Some(*of) == run).map(|(_, p)| p.clone()),
            late: LateFrames::default(),
        }
    }
}

impl AgentMachine {
    pub(super) fn handle_read(
        &mut self,
        stamp: &Stamp,
        number: OrderNumber,
        assignment: ReadAssignment,
        order: ReadOrder,
    ) {
        let id = stamp.replication;
        let known = self.readings.get(&id);
        let older = known.is_some_and(|r| stamp.epochs.source < r.epochs.source || number <= r.orders);
        if stamp.incarnation != self.identity.incarnation || older {
            return;
        }
        if known.is_none_or(|r| r.epochs.source != stamp.epochs.source) {
            self.begin_reading(id, stamp.epochs, assignment.clone());
        }
        let Some(reading) = self.readings.get_mut(&id) else { return };
        (reading.orders, reading.assignment) = (number, assignment);
        self.obey(id, order);
        self.beat.hurry();
    }

    fn begin_reading(&mut self, id: ReplicationId, epochs: Epochs, assignment: ReadAssignment) {
        if let Some(old) = self.readings.insert(id, Reading::new(epochs, assignment)) {
            self.reader(id, old.epochs, ReaderCommand::Close);
        }
    }

    fn reader(&mut self, replication: ReplicationId, epochs: Epochs, command: ReaderCommand) {
        self.out.perform(Effect::Reader { replication, epochs, command });
    }

    fn obey(&mut self, id: ReplicationId, order: ReadOrder) {
        let Some(reading) = self.readings.get_mut(&id).filter(|r| r.work != ReadWork::Ending) else { return };
        let (epochs, assignment) = (reading.epochs, Box::new(reading.assignment.clone()));
        match order {
            ReadOrder::Prepare { run, attempt, mode, application } => {
                if reading.run() != Some(run) {
                    reading.work = ReadWork::Preparing { run };
                    self.reader(id, epochs, ReaderCommand::Prepare { assignment, run, attempt, mode, application });
                }
            }
            ReadOrder::Send { run, snapshot, method, holder, stream, grant } => {
                let work = ReadWork::Sending { run, stream };
                if reading.work != work {
                    reading.work = work;
                    let send = ReaderCommand::Send { assignment, run, snapshot, method, holder, stream, grant };
                    self.reader(id, epochs, send);
                }
            }
            ReadOrder::Rest { release, published } => {
                reading.work = ReadWork::Idle;
                self.reader(id, epochs, ReaderCommand::Rest);
                published.into_iter().for_each(|run| self.reader(id, epochs, ReaderCommand::Published { run }));
                self.release(id, epochs, assignment, release);
            }
            ReadOrder::End { release } => {
                reading.work = ReadWork::Ending;
                self.release(id, epochs, assignment, release);
                self.reader(id, epochs, ReaderCommand::Close);
            }
        }
    }

    fn release(
        &mut self,
        id: ReplicationId,
        epochs: Epochs,
        assignment: Box<ReadAssignment>,
        snapshots: Vec<SnapshotId>,
    ) {
        if !snapshots.is_empty() {
            self.reader(id, epochs, ReaderCommand::Release { assignment, snapshots });
        }
    }

    pub(super) fn handle_reader(&mut self, id: ReplicationId, epochs: Epochs, event: ReaderEvent) {
        let now = self.now.monotonic;
        let Some(reading) = self.readings.get_mut(&id).filter(|r| r.epochs == epochs) else { return };
        let concerns = |run: &RunId, reading: &Reading| reading.run() == Some(*run);
        match event {
            ReaderEvent::SnapshotMade { run, snapshot } if concerns(&run, reading) => {
                reading.work = ReadWork::AwaitBound { run, snapshot: snapshot.clone(), sent: now };
                self.send(AgentMessage::BindSnapshot { replication: id, epochs, run, snapshot, kept: None });
            }
            ReaderEvent::Failed { run, kind, reason } if concerns(&run, reading) => {
                self.say_read_failed(id, run, kind, reason);
                self.look_after(kind);
            }
            ReaderEvent::Progress { run, progress } => reading.progress = Some((run, progress)),
            ReaderEvent::Closed => {
                self.readings.remove(&id);
                self.send(AgentMessage::ReadEnded { replication: id, epochs });
                self.beat.hurry();
            }
            ReaderEvent::SnapshotMade { .. } | ReaderEvent::Failed { .. } => {}
        }
    }

    fn say_read_failed(&mut self, id: ReplicationId, run: RunId, kind: RunFailureKind, reason: String) {
        let Some(reading) = self.readings.get_mut(&id) else { return };
        reading.work = ReadWork::Idle;
        let epochs = reading.epochs;
        self.send(AgentMessage::ReadFailed { replication: id, epochs, run, kind, reason });
        self.beat.hurry();
    }

    /// The path to a source is lost: say so for the run that is read from it.
    pub(super) fn fail_reading(&mut self, id: ReplicationId, why: String) {
        let Some(reading) = self.readings.get(&id) else { return };
        let (epochs, Some(run)) = (reading.epochs, reading.run()) else { return };
        self.reader(id, epochs, ReaderCommand::Rest);
        self.say_read_failed(id, run, RunFailureKind::Io, why);
    }

    /// Says again what has not been answered.
    pub(super) fn resend_readings(&mut self) {
        let (now, pause) = (self.now.monotonic, self.timers.resend);
        let mut words = Vec::new();
        for (id, reading) in &mut self.readings {
            if let ReadWork::AwaitBound { run, snapshot, sent } = &mut reading.work
                && now.since(*sent) >= pause
            {
                *sent = now;
                let (replication, epochs, run, snapshot) = (*id, reading.epochs, *run, snapshot.clone());
                words.push(AgentMessage::BindSnapshot { replication, epochs, run, snapshot, kept: None });
            }
        }
        words.into_iter().for_each(|word| self.send(word));
    }

    pub(super) fn end_reading(&mut self, stamp: &Stamp) {
        let (id, own) = (stamp.replication, self.identity.incarnation);
        let Some(reading) = self.readings.get_mut(&id).filter(|r| r.epochs == stamp.epochs && stamp.incarnation == own)
        else {
            return;
        };
        if reading.work != ReadWork::Ending {
            reading.work = ReadWork::Ending;
            self.reader(id, stamp.epochs, ReaderCommand::Close);
        }
    }

    /// The process ends, or is not wanted any more.
    pub(super) fn end_readings(&mut self) {
        let live: Vec<_> = self.readings.iter_mut().filter(|(_, r)| r.work != ReadWork::Ending).collect();
        let mut ended = Vec::new();
        for (id, reading) in live {
            reading.work = ReadWork::Ending;
            ended.push((*id, reading.epochs));
        }
        ended.into_iter().for_each(|(id, epochs)| self.reader(id, epochs, ReaderCommand::Close));
    }
}
