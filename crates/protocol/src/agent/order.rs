//! Orders to an acting agent, and what its engine makes of them.

use tanist_model::byte_range::ByteRanges;
use tanist_model::id::{Epochs, ReplicationId, RunId, SnapshotId};
use tanist_model::policy::VerifyMode;
use tanist_model::run::{BoundSnapshot, Checkpoint, RunMethod};

use super::role::{Phase, Role, Work};
use super::{AgentMachine, EngineCommand, EngineEvent, EngineSource};
use crate::message::{
    AgentMessage, CopyOrder, OrderNumber, RunEnd, RunOrder, ServerMessage, SourceAccess, Stamp, StreamKey,
};
use crate::mutation::Mutation;

impl AgentMachine {
    pub(super) fn handle_order(&mut self, message: ServerMessage) {
        if number_of(&message).is_some_and(|(stamp, number)| !self.accept(stamp, number)) {
            return;
        }
        match message {
            ServerMessage::OpenRun { stamp, order, .. } => self.open_run(&stamp, *order),
            ServerMessage::CheckpointAck { stamp, run, seq } => self.handle_ack(&stamp, run, seq),
            ServerMessage::CloseRun { stamp, run, end, release, .. } => self.close_run(&stamp, run, end, release),
            ServerMessage::Expire { stamp, snapshots, keep, .. } if self.active(&stamp).is_some() => {
                self.engine(stamp.replication, stamp.epochs, EngineCommand::Expire { snapshots, keep });
            }
            ServerMessage::AskArray { stamp, question } if self.active(&stamp).is_some() => {
                self.engine(stamp.replication, stamp.epochs, EngineCommand::AskArray { question });
            }
            ServerMessage::Drain { stamp, release, .. } => {
                self.end_role(stamp.replication, stamp.epochs, release, true);
            }
            _ => {}
        }
    }

    /// An order for exactly the present epochs, and later than the last one obeyed.
    fn accept(&mut self, stamp: &Stamp, number: OrderNumber) -> bool {
        let Some(role) = self.roles.get_mut(&stamp.replication).filter(|r| r.epochs == stamp.epochs) else {
            return false;
        };
        let later = number > role.orders;
        role.orders = role.orders.max(number);
        later
    }

    fn active(&mut self, stamp: &Stamp) -> Option<&mut Work> {
        self.roles.get_mut(&stamp.replication).filter(|r| r.epochs == stamp.epochs)?.work_mut()
    }

    fn open_run(&mut self, stamp: &Stamp, order: RunOrder) {
        let now = self.now.monotonic;
        let (id, epochs) = (stamp.replication, stamp.epochs);
        let Some(work) = self.active(stamp) else { return };
        let idle = *work == Work::Idle;
        match order {
            RunOrder::Prepare { run, attempt, mode, keep, application } if idle => {
                *work = Work::Preparing { run };
                self.engine(id, epochs, EngineCommand::Prepare { run, attempt, mode, keep, application });
            }
            // A snapshot that it has made itself, before there was a reader, is nobody's any more.
            RunOrder::Keep { run, keep } if idle || matches!(work, Work::AwaitBound { .. }) => {
                *work = Work::Keeping { run };
                self.engine(id, epochs, EngineCommand::Keep { run, keep });
            }
            RunOrder::Copy { copy, source } => {
                let run = copy.run;
                let waits = matches!(work, Work::AwaitBound { run: waiting, .. } | Work::Keeping { run: waiting } if *waiting == run);
                if idle || waits {
                    let source = self.open_source(source, copy.from.seq);
                    self.begin_copy(
                        stamp,
                        Work::Copying { run, stream: source.stream(), unacknowledged: None, sent: now },
                    );
                    self.engine(id, epochs, EngineCommand::Copy { copy, source });
                }
            }
            RunOrder::Verify { copy } if idle => {
                *work = Work::Copying { run: copy.run, stream: None, unacknowledged: None, sent: now };
                self.engine(id, epochs, EngineCommand::Verify { copy });
            }
            RunOrder::Prepare { .. } | RunOrder::Keep { .. } | RunOrder::Verify { .. } => {}
        }
        self.beat.hurry();
    }

    fn begin_copy(&mut self, stamp: &Stamp, copying: Work) {
        if let Some(work) = self.active(stamp) {
            *work = copying;
        }
    }

    /// Each opening has a generation of its own: frames of an earlier one are not admitted.
    fn open_source(&mut self, source: SourceAccess, from: u64) -> EngineSource {
        match source {
            SourceAccess::Local => EngineSource::Local,
            SourceAccess::Remote { reader, epochs } => {
                let stream = StreamKey { epochs, generation: self.ids.generation(), from };
                EngineSource::Stream { stream, reader }
            }
        }
    }

    fn handle_ack(&mut self, stamp: &Stamp, run: RunId, seq: u64) {
        let Some(Work::Copying { run: copying, unacknowledged, .. }) = self.active(stamp) else { return };
        if *copying != run {
            return;
        }
        if unacknowledged.is_some_and(|(checkpoint, _)| checkpoint.seq <= seq) {
            *unacknowledged = None;
        }
        self.engine(stamp.replication, stamp.epochs, EngineCommand::Committed { run, seq });
    }

    fn close_run(&mut self, stamp: &Stamp, run: RunId, end: RunEnd, release: Vec<SnapshotId>) {
        let (id, epochs) = (stamp.replication, stamp.epochs);
        let Some(work) = self.active(stamp) else { return };
        if work.run() == Some(run) {
            let moving = matches!(work, Work::Copying { .. } | Work::Preparing { .. } | Work::Halting { .. });
            if moving {
                *work = Work::Halting { run };
                self.engine(id, epochs, EngineCommand::Halt { run });
            } else {
                *work = Work::Idle;
            }
        }
        if end == RunEnd::Published {
            self.engine(id, epochs, EngineCommand::Published { run });
        }
        if end != RunEnd::Halted && !release.is_empty() {
            self.engine(id, epochs, EngineCommand::Release { snapshots: release });
        }
        self.beat.hurry();
    }

    pub(super) fn handle_engine(&mut self, id: ReplicationId, epochs: Epochs, event: EngineEvent) {
        let superseded = self.roles.get(&id).is_none_or(|role| role.epochs != epochs);
        let never_opened = matches!(event, EngineEvent::OpenFailed { .. });
        if event == EngineEvent::Closed || superseded && never_opened {
            return self.on_closed(id, epochs);
        }
        let Some(role) = self.roles.get_mut(&id).filter(|r| r.epochs == epochs) else { return };
        match event {
            EngineEvent::Opened { fence } if role.phase == Phase::Fencing => {
                role.fence = fence.clone();
                role.phase = Phase::Active { work: Work::Idle };
                self.send(AgentMessage::Activated { replication: id, epochs, fence });
                self.beat.hurry();
            }
            EngineEvent::OpenFailed { reason } => {
                self.forget_open(id, epochs);
                self.decline(id, epochs, reason);
            }
            EngineEvent::Locked { fence } => {
                role.fence = fence.clone();
                self.send(AgentMessage::ProofOfQuiet { replication: id, epochs, fence });
            }
            EngineEvent::ArrayQuiet { question } => {
                self.send(AgentMessage::ArrayQuiet { replication: id, epochs, question });
            }
            EngineEvent::Unfit { reason } => {
                self.send(AgentMessage::Unfit { replication: id, epochs, reason });
                self.end_role(id, epochs, None, false);
            }
            run_event => self.handle_run_event(id, epochs, run_event),
        }
    }

    fn handle_run_event(&mut self, id: ReplicationId, epochs: Epochs, event: EngineEvent) {
        let now = self.now.monotonic;
        let unbound_allowed = self.mutations.breaks(Mutation::SnapshotUsedUnbound);
        let Some(role) = self.roles.get_mut(&id) else { return };
        match event {
            EngineEvent::SnapshotMade { run, snapshot, kept } => {
                let Some(work) = working_on(role, run) else { return };
                *work = Work::AwaitBound { run, snapshot: snapshot.clone(), kept: kept.clone(), sent: now };
                self.send(AgentMessage::BindSnapshot {
                    replication: id,
                    epochs,
                    run,
                    snapshot: snapshot.clone(),
                    kept,
                });
                if unbound_allowed {
                    let copy = Box::new(unbound(run, snapshot));
                    self.engine(id, epochs, EngineCommand::Copy { copy, source: EngineSource::Local });
                }
            }
            EngineEvent::Kept { run, uid } => {
                // Ordered twice, it is answered twice, and the second answer may come when the copy has begun.
                let Some(work) = working_on(role, run).filter(|work| matches!(work, Work::Keeping { .. })) else {
                    return;
                };
                // Should this word be lost, the order is repeated, and keeping twice is keeping once.
                *work = Work::Idle;
                self.send(AgentMessage::Kept { replication: id, epochs, run, uid });
            }
            EngineEvent::SnapshotsGone { snapshots } => {
                self.send(AgentMessage::SnapshotsGone { replication: id, epochs, snapshots });
            }
            EngineEvent::Durable { run, checkpoint, at } => {
                if let Some(Work::Copying { unacknowledged, sent, .. }) = working_on(role, run) {
                    *unacknowledged = Some((checkpoint, at));
                    *sent = now;
                }
                // Also while it is being halted or drained: the last checkpoint saves the successor work.
                let (durable_at, work) = (at, role.work_for(run));
                self.send(AgentMessage::Checkpoint { replication: id, epochs, run, checkpoint, durable_at, work });
            }
            EngineEvent::CopyDone { run, checkpoint, verified } => {
                let Some(work) = working_on(role, run) else { return };
                *work = Work::AwaitPublish { run, stream: work.stream(), checkpoint, verified, sent: now };
                let work = role.work_for(run);
                self.send(AgentMessage::RunComplete { replication: id, epochs, run, checkpoint, verified, work });
            }
            EngineEvent::RunFailed { run, kind, reason } => {
                let Some(work) = working_on(role, run) else { return };
                *work = Work::Idle;
                self.send(AgentMessage::RunFailed { replication: id, epochs, run, kind, reason });
                self.look_after(kind);
                self.beat.hurry();
            }
            EngineEvent::Halted { run } => {
                if let Some(work) = working_on(role, run) {
                    *work = Work::Idle;
                }
                self.beat.hurry();
            }
            EngineEvent::Progress { run, progress } => role.progress = Some((run, progress)),
            EngineEvent::Late(late) => {
                role.late = late;
                self.beat.hurry();
            }
            _ => {}
        }
    }

    fn forget_open(&mut self, id: ReplicationId, epochs: Epochs) {
        if let Some(open) = self.open.get_mut(&id) {
            open.retain(|e| *e != epochs);
            if open.is_empty() {
                self.open.remove(&id);
            }
        }
    }

    /// All I/O of these epochs has ended: say so, finally; a later activation that waited for it goes on.
    fn on_closed(&mut self, id: ReplicationId, epochs: Epochs) {
        self.forget_open(id, epochs);
        let said = self.now.monotonic;
        let still_open = self.open.contains_key(&id);
        let Some(role) = self.roles.get_mut(&id) else { return };
        if role.epochs == epochs {
            if role.phase == Phase::Quarantined {
                self.owed.insert((id, epochs), said);
            } else {
                role.phase = Phase::Ended { noted: false, said };
            }
            self.send(AgentMessage::Drained { replication: id, epochs });
            return;
        }
        let waiting = match &role.phase {
            Phase::Draining { assignment, .. } if !still_open => Some((**assignment).clone()),
            _ => None,
        };
        // An older epoch of this process: the server waits for its end as well.
        self.owed.insert((id, epochs), said);
        self.send(AgentMessage::Drained { replication: id, epochs });
        if let Some(assignment) = waiting {
            self.open_engine(id, assignment);
        }
    }

    /// Says again what has not been answered.
    pub(super) fn resend(&mut self) {
        let (now, pause) = (self.now.monotonic, self.timers.resend);
        let mut words = Vec::new();
        for (id, role) in &mut self.roles {
            words.extend(unanswered(*id, role, now, pause));
        }
        for ((replication, epochs), said) in &mut self.owed {
            if now.since(*said) >= pause {
                *said = now;
                words.push(AgentMessage::Drained { replication: *replication, epochs: *epochs });
            }
        }
        for word in words {
            self.send(word);
        }
    }
}

/// Orders that must not be obeyed after a later one.
fn number_of(message: &ServerMessage) -> Option<(&Stamp, OrderNumber)> {
    match message {
        ServerMessage::OpenRun { stamp, number, .. }
        | ServerMessage::CloseRun { stamp, number, .. }
        | ServerMessage::Expire { stamp, number, .. }
        | ServerMessage::Drain { stamp, number, .. } => Some((stamp, *number)),
        _ => None,
    }
}

/// What an agent does that does not wait for its snapshot to be bound.
fn unbound(run: RunId, snapshot: BoundSnapshot) -> CopyOrder {
    let (verify, bandwidth_bytes_per_second) = (VerifyMode::default(), None);
    CopyOrder {
        run,
        snapshot,
        from: Checkpoint::START,
        committed: 0,
        verify,
        bandwidth_bytes_per_second,
        method: RunMethod::Full,
        unconditional: ByteRanges::default(),
    }
}

fn working_on(role: &mut Role, run: RunId) -> Option<&mut Work> {
    role.work_mut().filter(|work| work.run() == Some(run))
}

/// What a role has said, has no answer to, and is due to be said again.
fn unanswered(
    replication: ReplicationId,
    role: &mut Role,
    now: tanist_model::time::Monotonic,
    pause: std::time::Duration,
) -> Option<AgentMessage> {
    let epochs = role.epochs;
    let due = |sent: &mut tanist_model::time::Monotonic| {
        let is_due = now.since(*sent) >= pause;
        if is_due {
            *sent = now;
        }
        is_due
    };
    let done = role.work().and_then(Work::run).map(|run| role.work_for(run)).unwrap_or_default();
    match &mut role.phase {
        Phase::AwaitGrant { nonce, asked } => {
            due(asked).then_some(AgentMessage::GrantRequest { replication, epochs, nonce: *nonce })
        }
        Phase::Ended { noted: false, said } => due(said).then_some(AgentMessage::Drained { replication, epochs }),
        Phase::Active { work: Work::AwaitBound { run, snapshot, kept, sent } } => due(sent).then(|| {
            let (run, snapshot, kept) = (*run, snapshot.clone(), kept.clone());
            AgentMessage::BindSnapshot { replication, epochs, run, snapshot, kept }
        }),
        Phase::Active { work: Work::Copying { run, unacknowledged: Some((checkpoint, at)), sent, .. } } => due(sent)
            .then_some(AgentMessage::Checkpoint {
                replication,
                epochs,
                run: *run,
                checkpoint: *checkpoint,
                durable_at: *at,
                work: done,
            }),
        Phase::Active { work: Work::AwaitPublish { run, checkpoint, verified, sent, .. } } => {
            due(sent).then_some(AgentMessage::RunComplete {
                replication,
                epochs,
                run: *run,
                checkpoint: *checkpoint,
                verified: *verified,
                work: done,
            })
        }
        _ => None,
    }
}
