//! Drills that are made by themselves: once for whatever came due, and never when it would hurt. A drill can always be made later, so one
//! that is due waits until everything is well; and if none was good for twice the schedule, that is an alarm.

use std::time::Duration;

use tanist_model::change::Change;
use tanist_model::drill::DrillLog;
use tanist_model::event::EventCode;
use tanist_model::replication::{Intent, ReplicationRecord};
use tanist_model::takeover::Evidence;
use tanist_model::time::Timestamp;

use super::super::ServerMachine;
use super::super::agenda::CLOCK_ERROR;

/// What passes by itself within this time is not told: a run that begins at the same minute, agents that come back to a new server.
const TOLD_AFTER: Duration = Duration::from_secs(60);
/// Who asked for it, in records and events.
const ACTOR: &str = "schedule";

impl ServerMachine {
    /// When the next drill is made by itself, or has come due.
    #[must_use]
    pub fn next_drill_at(&self, record: &ReplicationRecord) -> Option<Timestamp> {
        let log = &record.drills;
        drilled_by_itself(record).then_some(())?;
        record.policy.drill.schedule.as_ref()?.next_after(log.last_due, log.since)
    }

    /// Why the drill that has come due is not made now.
    #[must_use]
    pub fn drill_waits_for(&self, record: &ReplicationRecord) -> Option<String> {
        let due = self.next_drill_at(record)?;
        (due <= self.now.wall).then(|| self.why_not_by_itself(record))?
    }

    /// Results, the schedule, and what it has not proven for too long; true if the record is another one now.
    pub(in super::super) fn watch_drills(&mut self, record: &ReplicationRecord) -> bool {
        self.settle_drill(record) || self.watch_overdue(record) || self.drill_if_due(record)
    }

    fn drill_if_due(&mut self, record: &ReplicationRecord) -> bool {
        let Some(schedule) = record.policy.drill.schedule.as_ref().filter(|_| drilled_by_itself(record)) else {
            return false;
        };
        let (log, now) = (&record.drills, self.now.wall);
        if self.supervision_mut(record.id).no_drill_until.is_some_and(|until| now < until) {
            return false;
        }
        if log.last_due.since(now) > CLOCK_ERROR {
            // By a clock that was wrong then: it must not keep the schedule still until it comes.
            let mended = DrillLog { since: log.since.min(now), last_due: now, ..log.clone() };
            return self.put_drills(record, mended, None);
        }
        match schedule.missed(log.last_due, log.since, now) {
            Some(missed) => self.drill_now_or_later(record, missed.due),
            None => {
                self.supervision_mut(record.id).no_drill_until = schedule.next_after(log.last_due, log.since);
                false
            }
        }
    }

    fn drill_now_or_later(&mut self, record: &ReplicationRecord, due: Timestamp) -> bool {
        if let Some(reason) = self.why_not_by_itself(record) {
            let known = record.drills.postponed.is_some() || self.now.wall.since(due) < TOLD_AFTER;
            let log = DrillLog { postponed: Some(due), ..record.drills.clone() };
            let message = || format!("the drill that was due at {due} waits: {reason}");
            return !known && self.put_drills(record, log, Some((EventCode::DrillPostponed, message())));
        }
        let drills = DrillLog { last_due: due, postponed: None, ..record.drills.clone() };
        let record = ReplicationRecord { drills, ..record.clone() };
        let evidence = Evidence::Drill { by: ACTOR.to_owned(), hand_back: record.policy.drill.hand_back };
        self.take_over(&record, evidence, self.now.wall, Vec::new(), None);
        self.state.replications.get(&record.id).is_some_and(|now| now.epochs != record.epochs)
    }

    /// Nobody is there to be told no, and nobody looks on: what an operator may do with open eyes, the schedule puts off.
    fn why_not_by_itself(&self, record: &ReplicationRecord) -> Option<String> {
        if let Some(refusal) = self.why_no_drill(record) {
            return Some(refusal.cause.unwrap_or(refusal.error));
        }
        if self.age_beyond_rpo(record).is_some() {
            return Some("its last recovery point is older than its RPO allows".to_owned());
        }
        if record.published.is_none() {
            return Some("it has no recovery point yet".to_owned());
        }
        if record.agenda.failures > 0 {
            return Some("its last run was abandoned".to_owned());
        }
        let run = self.state.current_run(record);
        if let Some(failure) = run.and_then(|run| run.failure.as_ref()) {
            return Some(format!("its run does not get on: {failure}"));
        }
        if run.is_none() && record.target_dirty.is_some() {
            return Some("its target equals no recovery point".to_owned());
        }
        let successor = record.holder.as_ref().and_then(|holder| self.successor_of(record, holder))?;
        self.is_damped(&successor).then(|| format!("{successor}, which would take over, has failed lately"))
    }

    /// An old proof is none: said once, until a drill is good or another policy holds.
    fn watch_overdue(&mut self, record: &ReplicationRecord) -> bool {
        let wanted = !record.once && record.intent != Intent::Deleting && !record.drills.overdue;
        if !wanted || self.overdue_from(record).is_none_or(|from| self.now.wall < from) {
            return false;
        }
        let since = record.drills.proven_at();
        let message = format!("no drill was good since {since}, which is more than twice the schedule ago");
        let log = DrillLog { overdue: true, ..record.drills.clone() };
        self.put_drills(record, log, Some((EventCode::DrillOverdue, message)))
    }

    /// Reckoned once for each proof: a schedule in words of a calendar is slow to walk through.
    fn overdue_from(&mut self, record: &ReplicationRecord) -> Option<Timestamp> {
        let schedule = record.policy.drill.schedule.as_ref()?;
        let proven = record.drills.proven_at();
        let known = &mut self.supervision_mut(record.id).drill_overdue_from;
        known
            .filter(|(of, _)| *of == proven)
            .unwrap_or_else(|| *known.insert((proven, record.drills.overdue_from(schedule))))
            .1
    }

    fn put_drills(&mut self, record: &ReplicationRecord, log: DrillLog, said: Option<(EventCode, String)>) -> bool {
        let mut changes: Vec<Change> =
            said.map(|(code, message)| self.event_of(record, None, code, message)).into_iter().collect();
        changes.push(Change::PutReplication(Box::new(ReplicationRecord { drills: log, ..record.clone() })));
        self.commit_current(record, changes, Vec::new());
        true
    }
}

fn drilled_by_itself(record: &ReplicationRecord) -> bool {
    !record.once && record.intent == Intent::Enabled && record.quarantine.is_none()
}
