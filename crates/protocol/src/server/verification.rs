//! Looking whether a target still holds what was published: the whole of it is read and its digest compared.
//!
//! A verification is a run without a snapshot of its own. It reads the target alone, so it needs no source and no reader, until it finds a
//! difference. Then, if that is wanted, the pinned snapshot of the published run repairs what differs, and the whole is read again.

use tanist_model::api::{Refusal, RefusalCode};
use tanist_model::change::Change;
use tanist_model::event::EventCode;
use tanist_model::id::{AgentName, CommandId, ReplicationName};
use tanist_model::policy::VerifyMode;
use tanist_model::recovery_point::{RecoveryPoint, RecoveryPointPlace};
use tanist_model::replication::{Agenda, Holder, Intent, ReplicationRecord};
use tanist_model::run::{Checkpoint, RunMethod, RunRecord, RunState, RunTrigger, Verification};

use super::ServerMachine;
use super::command::Answer;
use super::request::why_not_enabled;
use crate::message::RunEnd;

impl ServerMachine {
    pub(super) fn verify(&mut self, id: CommandId, actor: &str, name: &ReplicationName, repair: bool) {
        let Some(record) = self.known_replication(id, name) else { return };
        if let Some(refusal) = why_not_enabled(&record) {
            return self.refuse_command(id, refusal);
        }
        let run = match self.verification(&record, RunTrigger::Operator(actor.to_owned()), repair) {
            Ok(run) => run,
            Err(refusal) => return self.refuse_command(id, refusal),
        };
        let message = format!("run {} verifies the recovery point that the target of {name} holds", run.id);
        let event = self.operator_event(&record, actor, EventCode::RunRequested, message.clone());
        let next = ReplicationRecord { run: Some(run.id), ..record.clone() };
        let answer = Answer::done(id, message).run(run.id).next(format!("tanist replication show {name}"));
        let changes = vec![event, Change::PutRun(Box::new(run)), Change::PutReplication(Box::new(next))];
        self.finish_current(id, &record, changes, answer);
    }

    /// Asks for the verification that has come due; true if it has.
    pub(super) fn request_due_verification(&mut self, record: &ReplicationRecord) -> bool {
        let idle = record.run.is_none() && !record.once && record.intent == Intent::Enabled;
        let Some(schedule) = record.policy.verify_schedule.as_ref().filter(|_| idle) else { return false };
        let (now, since) = (self.now.wall, record.agenda.since);
        if self.supervision_mut(record.id).no_verification_until.is_some_and(|until| now < until) {
            return false;
        }
        let last = record.agenda.last_verification.unwrap_or(since);
        let Some(missed) = schedule.missed(last, since, now) else {
            self.supervision_mut(record.id).no_verification_until = schedule.next_after(last, since);
            return false;
        };
        // What cannot be verified now is not made up for later: the next due time comes.
        let run = self.verification(record, RunTrigger::Schedule(missed.due), true).ok();
        let agenda = Agenda { last_verification: Some(missed.due), ..record.agenda.clone() };
        let next = ReplicationRecord { run: run.as_ref().map(|run| run.id), agenda, ..record.clone() };
        let mut changes = vec![Change::PutReplication(Box::new(next))];
        if let Some(run) = run {
            let message = format!("run {} was requested by the schedule to verify the target", run.id);
            changes.push(self.event_of(record, None, EventCode::RunRequested, message));
            changes.push(Change::PutRun(Box::new(run)));
        }
        self.commit_current(record, changes, Vec::new());
        true
    }

    /// The last recovery point, if the target held it when the store was backed up and nobody knows what became of it since: it is dirty
    /// by the very run that was published.
    #[must_use]
    pub fn doubted_point(&self, record: &ReplicationRecord) -> Option<&RecoveryPoint> {
        let point = self.state.recovery_points.get(&(record.id, record.published?))?;
        (record.target_dirty == Some(point.run) && point.place == RecoveryPointPlace::Gone).then_some(point)
    }

    /// The run that reads the target again; why there can be none.
    fn verification(
        &mut self,
        record: &ReplicationRecord,
        trigger: RunTrigger,
        repair: bool,
    ) -> Result<RunRecord, Refusal> {
        let conflict = |error: String| Refusal::new(RefusalCode::Conflict, error);
        let name = &record.name;
        if let Some(run) = record.run {
            return Err(conflict(format!("run {run} of {name} is in progress"))
                .hint(format!("tanist replication sync {name} --wait, or give the command again when it has ended")));
        }
        let doubted = self.doubted_point(record).filter(|_| self.may_advance(record)).cloned();
        // What is doubted may be a later state of which this store does not know: that is not overwritten by an earlier one.
        let repair = repair && doubted.is_none();
        let clean = || self.recovery_point_on_target(record).filter(|_| record.target_dirty.is_none()).cloned();
        let Some(point) = doubted.or_else(clean) else {
            return Err(conflict(format!("the target of {name} holds no recovery point now"))
                .hint(format!("tanist replication sync {name}")));
        };
        let made = self.state.runs.get(&(record.id, point.run)).and_then(|run| run.snapshot.clone());
        let Some(snapshot) = made else {
            return Err(conflict(format!("the run that made the recovery point of {name} is not on record any more"))
                .hint(format!("tanist replication sync {name}")));
        };
        Ok(RunRecord {
            state: RunState::Verifying,
            verify: VerifyMode::Full,
            snapshot: Some(snapshot),
            checkpoint: Checkpoint { seq: point.size_bytes, chain: point.chain },
            method: Some(RunMethod::Compare),
            bound_at: Some(point.source_time),
            verification: Some(Verification { of: point.run, repair }),
            ..self.new_run(record, trigger)
        })
    }

    /// The target held what it should: the recovery point stands as it was, and is known to do so.
    pub(super) fn finish_verification(&mut self, record: &ReplicationRecord, mut run: RunRecord, holder: &Holder) {
        let id = run.id;
        let Some(of) = run.verification.as_ref().map(|verification| verification.of) else { return };
        run.state = RunState::Published;
        run.failure = None;
        run.finished_at = Some(self.now.wall);
        run.agent = Some(holder.agent.clone());
        let message = format!("run {id}: the whole target was read, and equals the recovery point of run {of}");
        let mut changes = vec![self.event_of(record, Some(&holder.agent), EventCode::VerificationPassed, message)];
        let mut next = ReplicationRecord { run: None, ..record.clone() };
        // Whoever wrote in the time that the store has lost could write still: a doubt ends only once all are proven quiet.
        let believed = record.target_dirty.is_none() || self.may_advance(record);
        if let Some(point) = self.state.recovery_points.get(&(record.id, of)).filter(|_| believed) {
            let verified_at = Some(self.now.wall);
            let (place, verified) = (RecoveryPointPlace::Target, true);
            let sound = RecoveryPoint { assumed_bytes: 0, damaged_at: None, doubtful_since: None, ..point.clone() };
            let point = RecoveryPoint { place, verified, verified_at, ..sound };
            changes.push(Change::PutRecoveryPoint(Box::new(point)));
            next.target_dirty.take_if(|dirty| *dirty == of);
        }
        changes.push(Change::PutRun(Box::new(run)));
        changes.push(Change::PutReplication(Box::new(next.clone())));
        self.commit_current(record, changes, Vec::new());
        self.supervision_mut(record.id).order_sent = None;
        self.close_run(&next, holder, id, RunEnd::Published);
    }

    /// The recovery points whose snapshots were taken of the target after it was last read whole and found right: what differs now may have
    /// differed then. One that was published later than another was taken later.
    fn taken_since_it_was_read(&self, record: &ReplicationRecord) -> Vec<RecoveryPoint> {
        let points: Vec<&RecoveryPoint> =
            self.state.recovery_points.values().filter(|point| point.replication == record.id).collect();
        let read = points.iter().filter(|point| point.verified_at.is_some()).map(|point| point.published_at).max();
        let is_later = |point: &&&RecoveryPoint| read.is_none_or(|read| point.published_at >= read);
        let is_kept =
            |point: &&&RecoveryPoint| matches!(point.place, RecoveryPointPlace::Snapshot(_)) && !point.expired;
        points.iter().filter(is_kept).filter(is_later).map(|point| (*point).clone()).collect()
    }

    /// The target differs from what was published there: that recovery point is none any more, whatever becomes of the repair. The record
    /// as it is then, and the run if it is to repair.
    pub(super) fn note_difference(
        &mut self,
        agent: &AgentName,
        record: &ReplicationRecord,
        run: RunRecord,
        reason: &str,
    ) -> Option<(ReplicationRecord, RunRecord)> {
        let Some(verification) = run.verification.clone().filter(|_| run.mismatches == 0) else {
            return Some((record.clone(), run));
        };
        let immutable = run.snapshot.as_ref().is_some_and(|snapshot| snapshot.mode.is_immutable());
        let repair = verification.repair && immutable;
        let then = if repair { "it is repaired from the snapshot of that run" } else { "it is not repaired" };
        let doubtful = self.taken_since_it_was_read(record);
        let besides = match doubtful.len() {
            0 => String::new(),
            count => format!(
                "; {count} of its snapshots were taken since it was last read whole, and may hold that too: export or restore \
                 tells"
            ),
        };
        let message = format!(
            "the target is not the recovery point of run {} any more: {reason}; {then}{besides}",
            verification.of
        );
        let mut changes = vec![self.event_of(record, Some(agent), EventCode::VerificationFailed, message)];
        let since = Some(self.now.wall);
        let doubted =
            doubtful.into_iter().map(|point| RecoveryPoint { doubtful_since: point.doubtful_since.or(since), ..point });
        changes.extend(doubted.map(|point| Change::PutRecoveryPoint(Box::new(point))));
        if let Some(point) = self.state.recovery_points.get(&(record.id, verification.of)) {
            let place = RecoveryPointPlace::Gone;
            changes.push(Change::PutRecoveryPoint(Box::new(RecoveryPoint { place, ..point.clone() })));
        }
        let next = ReplicationRecord { target_dirty: Some(run.id), ..record.clone() };
        changes.push(Change::PutReplication(Box::new(next.clone())));
        self.commit_current(record, changes, Vec::new());
        if repair {
            return Some((next, run));
        }
        let agenda = next.agenda.clone();
        self.end_run(&next, run, agenda, EventCode::RunAbandoned, format!("the target differs: {reason}"));
        None
    }
}
