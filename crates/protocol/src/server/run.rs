//! Runs: which order the holder needs now, and what becomes of what it reports.

mod ending;

use tanist_model::change::Change;
use tanist_model::event::EventCode;
use tanist_model::id::{AgentName, Epochs, ReplicationId, RunId, SnapshotId};
use tanist_model::policy::SourceMode;
use tanist_model::quantity::count;
use tanist_model::recovery_point::{RecoveryPoint, RecoveryPointPlace};
use tanist_model::replication::{Holder, Intent, ReplicationRecord};
use tanist_model::run::{BoundSnapshot, Checkpoint, RunRecord, RunState};
use tanist_model::time::Timestamp;

use super::origin::wanted_snapshot;
use super::watchdog::Verdict;
use super::{Effect, ServerMachine};
use crate::message::{AgentMessage, CopyOrder, RoleReport, RunEnd, RunOrder, ServerMessage, SourceAccess};
use crate::mutation::Mutation;

/// Failures of a run at the storage, under one agent, after which another one is tried.
const REPAIRS_BEFORE_ANOTHER_AGENT: u32 = 3;
/// Attempts to make a snapshot before the run is given up.
const SNAPSHOT_ATTEMPTS: u32 = 5;

/// The target snapshot that keeps the recovery point of a run is named after the run.
#[must_use]
pub fn target_snapshot_id(run: RunId) -> SnapshotId {
    SnapshotId(run.0)
}

impl ServerMachine {
    /// Gives the holder the order that its run needs, unless it already works on it.
    pub(super) fn drive_run(&mut self, record: &ReplicationRecord, holder: &Holder) {
        let at_work = self.work_of_holder(record, holder).and_then(|role| role.run);
        if let Some(over) = at_work.filter(|run| Some(*run) != record.run) {
            return self.close_over(record, holder, over);
        }
        let Some(run) = self.state.current_run(record).cloned() else { return };
        let working = at_work.is_some();
        if record.intent == Intent::Paused {
            if working {
                self.close_run(record, holder, run.id, RunEnd::Halted);
            }
            self.rest_reader(record, Vec::new(), None);
            return;
        }
        let now = self.now.monotonic;
        let waits = self.supervisions.get(&record.id).and_then(|s| s.run_retry_at).is_some_and(|at| now < at);
        // What a restore reads must not change, and a verification might repair it.
        let begins = run.state == RunState::SnapshotPending || run.verification.is_some() && !working;
        if begins && self.restore_reading(record).is_some() {
            return;
        }
        // An application takes the time that it is given; its guard watches over that.
        let moves = working && !waits && !self.is_quiescing(record, &run);
        if self.watch_pace(record, holder, &run, moves) == Verdict::Acted
            || waits
            || self.hold_for_proof(record, &run)
            || !self.may_start(record)
            || record.reader.is_none() && working
        {
            return;
        }
        if run.verification.is_some() && run.mismatches == 0 {
            if !working {
                self.open_run(record, holder, self.verify_order(record, &run));
            }
            return;
        }
        match self.source_access(record, holder) {
            Some(SourceAccess::Local) if !working => self.open_run(record, holder, self.order_of(record, &run)),
            Some(SourceAccess::Remote { .. }) => self.drive_networked_run(record, holder, &run),
            _ => {}
        }
    }

    pub(super) fn open_run(&mut self, record: &ReplicationRecord, holder: &Holder, order: RunOrder) {
        let Some(number) = self.next_order(record) else { return };
        if let RunOrder::Prepare { run, attempt, application: Some(application), .. } = &order {
            self.note_quiescence(record, &holder.agent, (*run, *attempt), application);
        }
        let stamp = self.stamp(record, holder);
        let first = self.state.current_run(record).filter(|run| !run.copy_ordered).cloned();
        let message = ServerMessage::OpenRun { stamp, number, order: Box::new(order) };
        let Some(first) = first.filter(|_| matches!(&message, ServerMessage::OpenRun { order, .. } if order.copies()))
        else {
            return self.send(&holder.agent, message);
        };
        // From here on something may be written: that is known before anybody is told to.
        let ordered = Change::PutRun(Box::new(RunRecord { copy_ordered: true, ..first }));
        let effects = self.to_agent(&holder.agent, message).into_iter().collect();
        self.commit_current(record, vec![ordered], effects);
    }

    /// What the holder says that it does under the epochs in force.
    pub(super) fn work_of_holder(&self, record: &ReplicationRecord, holder: &Holder) -> Option<&RoleReport> {
        let role = self.sessions.get(&holder.agent)?.roles.get(&record.id)?;
        role.epochs.same_holder(record.epochs).then_some(role)
    }

    /// A new snapshot is a fence point; a fuzzy run is one all along.
    fn hold_for_proof(&mut self, record: &ReplicationRecord, run: &RunRecord) -> bool {
        let same_bytes = run.snapshot.as_ref().is_some_and(|s| s.mode.is_immutable());
        let hold = !same_bytes && !self.may_advance(record);
        let supervision = self.supervision_mut(record.id);
        let announced = std::mem::replace(&mut supervision.proof_announced, hold);
        if hold && !announced {
            let message = format!("the next snapshot waits until {} proven quiet", self.awaited_in_words(record));
            let event = self.event_of(record, None, EventCode::AwaitingProof, message);
            self.commit_current(record, vec![event], Vec::new());
        }
        hold
    }

    /// When a run that failed is tried again, if that is still to come.
    #[must_use]
    pub fn run_retry_at(&self, record: &ReplicationRecord) -> Option<Timestamp> {
        let at = self.supervisions.get(&record.id)?.run_retry_at?;
        let left = at.since(self.now.monotonic);
        (!left.is_zero()).then(|| self.now.wall.plus(left))
    }

    pub(super) fn order_of(&self, record: &ReplicationRecord, run: &RunRecord) -> RunOrder {
        match &run.snapshot {
            None => RunOrder::Prepare {
                run: run.id,
                attempt: wanted_snapshot(record, run),
                mode: record.policy.source_mode,
                keep: self.point_to_keep(record),
                application: record.policy.application.clone(),
            },
            Some(snapshot) => {
                RunOrder::Copy { copy: Box::new(self.copy_order(record, run, snapshot)), source: SourceAccess::Local }
            }
        }
    }

    /// The target alone is read.
    fn verify_order(&self, record: &ReplicationRecord, run: &RunRecord) -> RunOrder {
        match &run.snapshot {
            Some(snapshot) => RunOrder::Verify { copy: Box::new(self.copy_order(record, run, snapshot)) },
            None => self.order_of(record, run),
        }
    }

    fn copy_order(&self, record: &ReplicationRecord, run: &RunRecord, snapshot: &BoundSnapshot) -> CopyOrder {
        let anew = run.state == RunState::Verifying && run.mismatches > 0;
        CopyOrder {
            run: run.id,
            snapshot: snapshot.clone(),
            from: if anew { Checkpoint::START } else { run.checkpoint },
            committed: run.checkpoint.seq,
            verify: run.verify,
            bandwidth_bytes_per_second: record.policy.bandwidth_bytes_per_second,
            method: run.method.unwrap_or_default(),
            unconditional: self.unconditional(record, run),
        }
    }

    /// The target snapshot to make before the target moves on.
    pub(super) fn point_to_keep(&self, record: &ReplicationRecord) -> Option<SnapshotId> {
        let skips = self.mutations.breaks(Mutation::TargetSnapshotSkipped);
        self.recovery_point_on_target(record).filter(|_| !skips).map(|point| target_snapshot_id(point.run))
    }

    pub(super) fn recovery_point_on_target(&self, record: &ReplicationRecord) -> Option<&RecoveryPoint> {
        let point = self.state.recovery_points.get(&(record.id, record.published?))?;
        (point.place == RecoveryPointPlace::Target).then_some(point)
    }

    pub(super) fn close_run(&mut self, record: &ReplicationRecord, holder: &Holder, run: RunId, end: RunEnd) {
        let Some(number) = self.next_order(record) else { return };
        let mut release = self.unneeded_snapshots(record);
        if record.reader.is_some() {
            let published = (end == RunEnd::Published).then_some(run);
            self.rest_reader(record, std::mem::take(&mut release), published);
        }
        let message = ServerMessage::CloseRun { stamp: self.stamp(record, holder), number, run, end, release };
        self.send(&holder.agent, message);
    }

    /// Source snapshots of earlier runs: the snapshot of the last published run stays pinned until the next one is published.
    fn unneeded_snapshots(&self, record: &ReplicationRecord) -> Vec<SnapshotId> {
        let mut unneeded = Vec::new();
        for run in self.state.runs.values().filter(|r| r.replication == record.id) {
            unneeded.extend(run.dead_attempts.iter().copied());
            let made = run.snapshot.as_ref().filter(|s| s.mode == SourceMode::Snapshot);
            if let Some(snapshot) = made.filter(|_| run.state.is_finished()) {
                unneeded.push(snapshot.id);
            }
        }
        // A verification shares the snapshot of the run whose recovery point it looks at.
        let needed = self.needed_snapshots(record);
        unneeded.retain(|id| !needed.contains(id));
        unneeded
    }

    fn needed_snapshots(&self, record: &ReplicationRecord) -> Vec<SnapshotId> {
        let published = record.published.filter(|_| !self.mutations.breaks(Mutation::SourceSnapshotReleasedEarly));
        let runs = [published, record.run].into_iter().flatten();
        let runs = runs.filter_map(|run| self.state.runs.get(&(record.id, run)));
        runs.filter_map(|run| run.snapshot.as_ref()).map(|snapshot| snapshot.id).collect()
    }

    pub(super) fn handle_run_message(&mut self, agent: &AgentName, message: AgentMessage) {
        match message {
            AgentMessage::BindSnapshot { replication, epochs, run, snapshot, .. }
                if self.is_reader(agent, replication, epochs) =>
            {
                if let Some((record, run)) = self.work_read(replication, run)
                    && let Some(kept) = self.stands_ready(&record, run.id).cloned()
                {
                    self.bind(&record, run, snapshot, kept);
                }
            }
            AgentMessage::ReadFailed { replication, epochs, run, kind, reason }
                if self.is_reader(agent, replication, epochs) =>
            {
                if let Some((record, run)) = self.work_read(replication, run) {
                    self.read_failed(agent, &record, run, kind, reason);
                }
            }
            AgentMessage::ReadEnded { replication, epochs } => self.note_read_ended(agent, replication, epochs),
            AgentMessage::SnapshotsGone { replication, epochs, snapshots } => {
                self.handle_snapshots_gone(agent, replication, epochs, &snapshots);
            }
            AgentMessage::Kept { replication, epochs, run, uid } => {
                if let Some((_, run)) = self.current_work(agent, replication, epochs, run) {
                    let supervision = self.supervision_mut(replication);
                    (supervision.kept, supervision.order_sent) = (Some((run.id, uid)), None);
                }
            }
            AgentMessage::BindSnapshot { replication, epochs, run, snapshot, kept } => {
                if let Some((record, run)) = self.current_work(agent, replication, epochs, run) {
                    self.bind(&record, run, snapshot, kept);
                }
            }
            AgentMessage::Checkpoint { replication, epochs, run, checkpoint, durable_at, work } => {
                self.handle_checkpoint(agent, (replication, epochs, run), (checkpoint, work), durable_at);
            }
            AgentMessage::RunComplete { replication, epochs, run, checkpoint, verified, work } => {
                if let Some((record, run)) = self.current_work(agent, replication, epochs, run) {
                    let run = Self::with_work(&record, run, work);
                    self.publish(&record, run, checkpoint, verified);
                }
            }
            AgentMessage::RunFailed { replication, epochs, run, kind, reason } => {
                if let Some((record, run)) = self.current_work(agent, replication, epochs, run) {
                    self.run_failed(agent, &record, run, kind, reason);
                }
            }
            _ => {}
        }
    }

    /// The record and run that a report is about, if its sender is the holder and the run is the current one. Whoever is not the
    /// holder is told to stand down; a run that is over is closed again.
    pub(super) fn current_work(
        &mut self,
        agent: &AgentName,
        id: ReplicationId,
        epochs: Epochs,
        run: RunId,
    ) -> Option<(ReplicationRecord, RunRecord)> {
        if !self.is_current(agent, id, epochs) {
            self.step_down(agent, id, epochs);
            return None;
        }
        self.touched.insert(id);
        let record = self.state.replications.get(&id)?.clone();
        let known = self.state.runs.get(&(id, run)).cloned();
        if let Some(known) = known.filter(|k| record.run == Some(run) && !k.state.is_finished()) {
            return Some((record, known));
        }
        let holder = record.holder.clone()?;
        self.supervision_mut(id).order_sent = None;
        self.close_over(&record, &holder, run);
        None
    }

    /// A run that is over, or of a time that a restored store does not know, ends at its holder before another one can begin.
    fn close_over(&mut self, record: &ReplicationRecord, holder: &Holder, run: RunId) {
        let published = self.state.runs.get(&(record.id, run)).is_some_and(|known| known.state == RunState::Published);
        let end = if published { RunEnd::Published } else { RunEnd::Abandoned };
        self.close_run(record, holder, run, end);
    }

    /// A snapshot exists for the protocol once this commit stands, before the first byte is copied.
    fn bind(&mut self, record: &ReplicationRecord, mut run: RunRecord, snapshot: BoundSnapshot, kept: Option<String>) {
        let Some(holder) = record.holder.clone() else { return };
        if run.snapshot.as_ref().is_some_and(|s| *s == snapshot) {
            let reply = self.begin_copying(record, &holder, &run);
            self.out.perform_all(reply);
            return;
        }
        if run.state == RunState::SnapshotPending && snapshot.application != record.policy.application {
            // The policy was changed meanwhile, or the agent does not know of applications.
            self.renew_attempt(&mut run);
            self.commit_current(record, vec![Change::PutRun(Box::new(run.clone()))], Vec::new());
        }
        if run.state == RunState::SnapshotPending && wanted_snapshot(record, &run) != snapshot.id {
            return self.refuse_attempt(record, &holder, run.id);
        }
        if run.state != RunState::SnapshotPending || !self.may_advance(record) || self.restore_reading(record).is_some()
        {
            return;
        }
        if let Some(reason) = self.why_not_the_point(record, &snapshot) {
            return self.abandon(record, run, EventCode::RunAbandoned, reason);
        }
        if snapshot.size_bytes != record.size_bytes {
            let reason = grown(record.size_bytes, snapshot.size_bytes);
            self.abandon(record, run, EventCode::SourceChanged, reason);
            return;
        }
        let message = match snapshot.mode {
            SourceMode::Snapshot => {
                let quiesced = snapshot.application.as_ref().map(|a| format!(", made while {a} was quiesced"));
                format!("run {}: source snapshot {} bound{}", run.id, snapshot.uid, quiesced.unwrap_or_default())
            }
            SourceMode::RecoveryPoint => format!("run {}: recovery point {} bound", run.id, snapshot.uid),
            SourceMode::Sealed => format!("run {}: the source as it is sealed now is bound", run.id),
            SourceMode::Live => format!("run {}: the live source is bound", run.id),
        };
        run.state = RunState::Bound;
        run.snapshot = Some(snapshot);
        run.bound_at = Some(self.now.wall);
        run.method = Some(self.method_of(record, &run));
        run.agent = Some(holder.agent.clone());
        let mut next = record.clone();
        next.target_dirty.get_or_insert(run.id);
        let mut changes = vec![self.event_of(record, Some(&holder.agent), EventCode::SnapshotBound, message)];
        changes.extend(self.keep_recovery_point(record, kept));
        let reply = self.begin_copying(record, &holder, &run);
        run.copy_ordered = reply.is_some();
        changes.push(Change::PutRun(Box::new(run)));
        changes.push(Change::PutReplication(Box::new(next)));
        self.commit_current(record, changes, reply.into_iter().collect());
        // The reader's next order is another one than its last.
        self.supervision_mut(record.id).read_order_sent = None;
    }

    /// The order that says that the snapshot is bound, to a holder that has made it itself. A reader's holder opens its gate first.
    fn begin_copying(&mut self, record: &ReplicationRecord, holder: &Holder, run: &RunRecord) -> Option<Effect> {
        if record.reader.is_some() {
            return None;
        }
        self.supervision_mut(record.id).order_sent = None;
        let number = self.next_order(record)?;
        let order = Box::new(self.order_of(record, run));
        self.to_agent(&holder.agent, ServerMessage::OpenRun { stamp: self.stamp(record, holder), number, order })
    }

    /// Another attempt is in force by now: whoever waits for this one to be bound would wait for ever.
    fn refuse_attempt(&mut self, record: &ReplicationRecord, holder: &Holder, run: RunId) {
        if record.reader.is_some() {
            self.rest_reader(record, Vec::new(), None);
        } else {
            self.close_run(record, holder, run, RunEnd::Halted);
        }
    }

    /// The target is about to be overwritten: its recovery point lives on in a target snapshot, or is gone.
    fn keep_recovery_point(&self, record: &ReplicationRecord, kept: Option<String>) -> Vec<Change> {
        let Some(point) = self.recovery_point_on_target(record) else { return Vec::new() };
        let mut point = point.clone();
        let skipped = self.mutations.breaks(Mutation::TargetSnapshotSkipped);
        let kept = kept.or_else(|| skipped.then(|| target_snapshot_id(point.run).to_string()));
        let mut changes = Vec::new();
        point.place = if let Some(uid) = kept {
            RecoveryPointPlace::Snapshot(uid)
        } else {
            let message = format!(
                "the recovery point of run {} is overwritten by the next run: the target's storage makes no snapshots",
                point.run
            );
            changes.push(self.event_of(record, None, EventCode::RecoveryPointGone, message));
            RecoveryPointPlace::Gone
        };
        changes.push(Change::PutRecoveryPoint(Box::new(point)));
        changes
    }
}

fn grown(expected: u64, found: u64) -> String {
    if found > expected {
        let more = count(found - expected, "byte");
        format!(
            "the source grew by {more}, from {expected} to {found}; the size is fixed at create: delete the replication and create it \
             anew over a target of at least {found} bytes"
        )
    } else {
        format!("the source shrank by {}, from {expected} to {found}", count(expected - found, "byte"))
    }
}

impl crate::driver::Output<Effect> {
    fn perform_all(&mut self, effects: impl IntoIterator<Item = Effect>) {
        effects.into_iter().for_each(|e| self.perform(e));
    }
}
