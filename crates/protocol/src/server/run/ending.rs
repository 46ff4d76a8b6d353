//! How a run ends: published, abandoned, or tried again.

use tanist_model::byte_range::ByteRanges;
use tanist_model::change::Change;
use tanist_model::event::EventCode;
use tanist_model::id::AgentName;
use tanist_model::policy::VerifyMode;
use tanist_model::quantity::count;
use tanist_model::recovery_point::{RecoveryPoint, RecoveryPointPlace};
use tanist_model::replication::{Agenda, ChangesTrust, Intent, ReplicationRecord};
use tanist_model::run::{Checkpoint, RunMethod, RunRecord, RunState};

use super::{REPAIRS_BEFORE_ANOTHER_AGENT, SNAPSHOT_ATTEMPTS};
use crate::message::{RunEnd, RunFailureKind};
use crate::server::ServerMachine;
use crate::server::origin::why_not_as_published;

impl ServerMachine {
    /// Published: the whole snapshot is flushed and verified.
    pub(super) fn publish(
        &mut self,
        record: &ReplicationRecord,
        mut run: RunRecord,
        checkpoint: Checkpoint,
        verified: bool,
    ) {
        let (Some(holder), Some(snapshot)) = (record.holder.clone(), run.snapshot.clone()) else { return };
        if checkpoint.seq != record.size_bytes || run.checkpoint.seq > checkpoint.seq {
            return;
        }
        if run.verification.is_some() && run.mismatches == 0 {
            return self.finish_verification(record, run, &holder);
        }
        if let Some(reason) = why_not_as_published(record, &checkpoint) {
            self.note_damage(record, &holder.agent, &checkpoint);
            return self.abandon(record, run, EventCode::RunAbandoned, reason);
        }
        let point = RecoveryPoint {
            verified_at: None,
            damaged_at: None,
            doubtful_since: None,
            pinned: false,
            expired: false,
            run: run.id,
            replication: record.id,
            place: RecoveryPointPlace::Target,
            size_bytes: record.size_bytes,
            chain: checkpoint.chain,
            epochs: record.epochs,
            source_time: run.bound_at.unwrap_or(run.requested_at),
            published_at: self.now.wall,
            fuzzy: !snapshot.mode.is_immutable(),
            verified,
            assumed_bytes: assumed_bytes(record, &run),
            by_changes: run.method.is_some_and(RunMethod::asks_for_changes),
            application: snapshot.application.clone(),
        };
        run.state = RunState::Published;
        run.failure = None;
        run.checkpoint = checkpoint;
        run.checkpoint_epochs = record.epochs;
        run.finished_at = Some(self.now.wall);
        run.agent = Some(holder.agent.clone());
        let mut next = record.clone();
        next.run = None;
        (next.agenda.failures, next.agenda.retry_at) = (0, None);
        next.published = Some(run.id);
        next.changes = record.changes.after(run.method.unwrap_or_default());
        (next.target_dirty, next.doubtful) = (None, ByteRanges::default());
        if record.once {
            next.intent = Intent::Deleting;
        }
        let message = published_message(&run, &point);
        let event = self.event_of(record, Some(&holder.agent), EventCode::RunPublished, message);
        let id = run.id;
        let mut changes = self.expire_points(record, &point);
        changes.extend(self.believe_again(record));
        changes.extend([
            event,
            Change::PutRecoveryPoint(Box::new(point)),
            Change::PutRun(Box::new(run)),
            Change::PutReplication(Box::new(next.clone())),
        ]);
        self.commit_current(record, changes, Vec::new());
        self.supervision_mut(record.id).order_sent = None;
        self.close_run(&next, &holder, id, RunEnd::Published);
    }

    pub(super) fn abandon(&mut self, record: &ReplicationRecord, run: RunRecord, code: EventCode, reason: String) {
        let agenda = self.agenda_after_failure(record);
        self.end_run(record, run, agenda, code, reason);
    }

    pub(in crate::server) fn end_run(
        &mut self,
        record: &ReplicationRecord,
        mut run: RunRecord,
        agenda: Agenda,
        code: EventCode,
        reason: String,
    ) {
        if run.snapshot.is_none() {
            // Made or not, it was not bound: it is removed with the next release.
            run.dead_attempts.push(run.attempt);
        }
        run = self.with_reported_work(record, run);
        run.state = RunState::Abandoned;
        run.failure = Some(reason.clone());
        run.finished_at = Some(self.now.wall);
        let doubtful = self.doubtful_after(record, &run);
        let mut next = ReplicationRecord { run: None, agenda, doubtful, ..record.clone() };
        if record.once {
            next.intent = Intent::Deleting;
        }
        let id = run.id;
        let mut changes = vec![self.event_of(record, run.agent.as_ref(), code, reason.clone())];
        if !matches!(code, EventCode::RunAbandoned | EventCode::RunAborted) {
            let message = format!("run {id} is abandoned: {}", code.title());
            changes.push(self.event_of(record, run.agent.as_ref(), EventCode::RunAbandoned, message));
        }
        changes.push(Change::PutRun(Box::new(run)));
        changes.push(Change::PutReplication(Box::new(next.clone())));
        self.commit_current(record, changes, Vec::new());
        self.supervision_mut(record.id).nothing_due_until = None;
        if let Some(holder) = record.holder.clone() {
            self.supervision_mut(record.id).order_sent = None;
            self.close_run(&next, &holder, id, RunEnd::Abandoned);
        }
    }

    /// What was written may be gone: nothing on the target itself is believed.
    pub(super) fn lose_target(&mut self, record: &ReplicationRecord, run: RunRecord, reason: String) {
        let target_dirty = record.target_dirty.or(Some(run.id));
        let doubted = ReplicationRecord { target_dirty, ..record.clone() };
        self.abandon(&doubted, run, EventCode::TargetChanged, reason);
    }

    /// The storage system's word on what changed is not taken again.
    fn disbelieve_changes(&mut self, record: &ReplicationRecord, run: RunRecord, reason: String) {
        let changes = ChangesTrust { disbelieved_at: Some(self.now.wall), ..record.changes };
        let disbelieving = ReplicationRecord { changes, ..record.clone() };
        self.abandon(&disbelieving, run, EventCode::ChangesUntold, reason);
    }

    /// An operator gives up the run in progress.
    pub(in crate::server) fn abandon_current(&mut self, record: &ReplicationRecord, reason: &str) {
        if let Some(run) = self.state.current_run(record).cloned() {
            // Whoever gives a run up does not want it tried again at once.
            let agenda = Agenda { failures: 0, retry_at: None, ..record.agenda.clone() };
            self.end_run(record, run, agenda, EventCode::RunAborted, format!("given up: {reason}"));
        }
    }

    pub(in crate::server) fn run_failed(
        &mut self,
        agent: &AgentName,
        record: &ReplicationRecord,
        mut run: RunRecord,
        kind: RunFailureKind,
        reason: String,
    ) {
        run = self.with_reported_work(record, run);
        if let Some(role) = self.sessions.get_mut(agent).and_then(|s| s.roles.get_mut(&record.id)) {
            role.run = None;
        }
        let mut present = record.clone();
        match kind {
            RunFailureKind::SourceChanged => return self.abandon(record, run, EventCode::SourceChanged, reason),
            RunFailureKind::TargetChanged => return self.lose_target(record, run, reason),
            RunFailureKind::ChangesUntold => return self.disbelieve_changes(record, run, reason),
            RunFailureKind::SnapshotGone => return self.abandon(record, run, EventCode::RunAbandoned, reason),
            RunFailureKind::Snapshot | RunFailureKind::Quiesce if run.repairs + 1 >= SNAPSHOT_ATTEMPTS => {
                return self.abandon(record, run, EventCode::RunAbandoned, reason);
            }
            RunFailureKind::Mismatch | RunFailureKind::FullMismatch if run.mismatches > 0 => {
                let message = format!("the target differed twice from what was written: {reason}");
                return self.quarantine(record, message);
            }
            RunFailureKind::Mismatch | RunFailureKind::FullMismatch => {
                let Some((noted, repairing)) = self.note_difference(agent, record, run, &reason) else { return };
                (present, run) = (noted, repairing);
                run.mismatches += 1;
                // What was compared was not what the target holds: nothing is taken from it any more.
                run.method = Some(RunMethod::Full);
            }
            RunFailureKind::Snapshot | RunFailureKind::Quiesce => self.renew_attempt(&mut run),
            RunFailureKind::Flush | RunFailureKind::Io | RunFailureKind::Link => {}
        }
        let record = &present;
        run.repairs += 1;
        // A broken stream is opened again at once; one that breaks again without progress is waited for.
        let at_once = kind == RunFailureKind::Link && run.failure.is_none();
        run.failure = Some(reason.clone());
        let wait = if at_once { std::time::Duration::ZERO } else { self.timers.run_retry * run.repairs.min(30) };
        let retry_at = self.now.monotonic.plus(wait);
        let supervision = self.supervision_mut(record.id);
        supervision.run_retry_at = Some(retry_at);
        supervision.order_sent = None;
        let try_another = kind == RunFailureKind::Io && run.repairs.is_multiple_of(REPAIRS_BEFORE_ANOTHER_AGENT);
        let message = format!("run {} is tried again from byte {} after: {reason}", run.id, run.checkpoint.seq);
        let code = if kind == RunFailureKind::Quiesce { EventCode::QuiesceFailed } else { EventCode::RunRepaired };
        let event = self.event_of(record, Some(agent), code, message);
        self.commit_current(record, vec![event, Change::PutRun(Box::new(run))], Vec::new());
        let elsewhere = record.holder.as_ref().is_some_and(|h| self.successor_of(record, h).is_some());
        if try_another && elsewhere {
            self.note_declined(agent, record.id, record.epochs, reason, true);
        }
    }

    /// An attempt that was not bound is never used; the next one has a new id.
    pub(in crate::server) fn renew_attempt(&mut self, run: &mut RunRecord) {
        if run.state == RunState::SnapshotPending {
            let next = self.ids.snapshot();
            run.dead_attempts.push(std::mem::replace(&mut run.attempt, next));
        }
    }
}

/// What nobody has looked at for this recovery point. A reading of the whole target at the end looked at everything.
fn assumed_bytes(record: &ReplicationRecord, run: &RunRecord) -> u64 {
    match record.policy.verify {
        VerifyMode::Full => 0,
        VerifyMode::Off | VerifyMode::Written => run.work.total().assumed_bytes.min(record.size_bytes),
    }
}

/// The log of events is the history of runs: what each cost stands in it.
fn published_message(run: &RunRecord, point: &RecoveryPoint) -> String {
    let (work, method) = (run.work.total(), run.method.unwrap_or_default().name());
    format!(
        "run {}: recovery point published, {}, digest {}; {method}: {} the same, {} written, {} sent, {} copied again",
        run.id,
        count(point.size_bytes, "byte"),
        point.chain,
        work.same_bytes,
        work.written_bytes + work.zeroed_bytes,
        work.sent_bytes,
        work.again_bytes(point.size_bytes)
    )
}
