//! Runs that are made by themselves: what a schedule asks for, and another attempt after one that was abandoned.
//!
//! The due time is committed with the run that it asks for, so no crash and no change of the server loses or doubles one. However
//! many due times have passed, one run catches up on them: it copies the source as it is now.

use std::time::Duration;

use tanist_model::change::Change;
use tanist_model::event::EventCode;
use tanist_model::quantity::count;
use tanist_model::replication::{Agenda, Intent, ReplicationRecord};
use tanist_model::run::{RunRecord, RunTrigger};
use tanist_model::schedule::{Backoff, Missed};
use tanist_model::time::Timestamp;

use super::ServerMachine;

/// A last due time further in the future than this is not believed.
pub(super) const CLOCK_ERROR: Duration = Duration::from_secs(300);

impl ServerMachine {
    /// When the next run is made by itself, if no operator asks for one before.
    #[must_use]
    pub fn next_run_at(&self, record: &ReplicationRecord) -> Option<Timestamp> {
        if record.once || record.intent != Intent::Enabled || record.quarantine.is_some() {
            return None;
        }
        let due = record.policy.schedule.as_ref()?.next_after(worked_off(&record.agenda), record.agenda.since);
        due.into_iter().chain(record.agenda.retry_at).min()
    }

    /// Asks for the run that has come due. A run in progress takes its turn first.
    pub(super) fn request_due_run(&mut self, record: &ReplicationRecord) {
        if record.run.is_some() || record.once || record.intent != Intent::Enabled || record.policy.schedule.is_none() {
            return;
        }
        let now = self.now.wall;
        if self.supervision_mut(record.id).nothing_due_until.is_some_and(|until| now < until) {
            return;
        }
        if worked_off(&record.agenda).since(now) > CLOCK_ERROR {
            return self.mend_clock_error(record);
        }
        let missed = record
            .policy
            .schedule
            .as_ref()
            .and_then(|schedule| schedule.missed(worked_off(&record.agenda), record.agenda.since, now));
        match missed {
            Some(missed) => self.request_scheduled(record, missed),
            None if record.agenda.retry_at.is_some_and(|at| at <= now) => self.request_retry(record),
            None => {
                let next = self.next_run_at(record);
                self.supervision_mut(record.id).nothing_due_until = next;
            }
        }
    }

    /// A last due time far in the future was made by a clock that was wrong then: it must not keep the schedule still until it comes.
    /// Small steps back are no such sign, and double nothing.
    fn mend_clock_error(&mut self, record: &ReplicationRecord) {
        let now = self.now.wall;
        let agenda = Agenda { since: record.agenda.since.min(now), last_due: Some(now), ..record.agenda.clone() };
        let next = ReplicationRecord { agenda, ..record.clone() };
        self.commit_current(record, vec![Change::PutReplication(Box::new(next))], Vec::new());
    }

    fn request_scheduled(&mut self, record: &ReplicationRecord, missed: Missed) {
        let run = self.new_run(record, RunTrigger::Schedule(missed.due));
        let passed = match missed.passed {
            0 | 1 => String::new(),
            more => format!("; it catches up on {}", count(more.into(), "due time")),
        };
        let message = format!("run {} was requested by the schedule for {}{passed}", run.id, missed.due);
        let agenda = Agenda { last_due: Some(missed.due), ..record.agenda.clone() };
        self.put_requested(record, run, agenda, message);
    }

    fn request_retry(&mut self, record: &ReplicationRecord) {
        let failures = record.agenda.failures;
        let run = self.new_run(record, RunTrigger::Retry(failures));
        let message =
            format!("run {} was requested: the schedule's last {} abandoned", run.id, runs_were(failures.into()));
        self.put_requested(record, run, record.agenda.clone(), message);
    }

    fn put_requested(&mut self, record: &ReplicationRecord, run: RunRecord, agenda: Agenda, message: String) {
        let agenda = Agenda { retry_at: None, ..agenda };
        let next = ReplicationRecord { run: Some(run.id), agenda, ..record.clone() };
        let mut event = self.event(EventCode::RunRequested, message);
        event.replication = Some((record.id, record.name.clone()));
        event.actor = "schedule".to_owned();
        let changes =
            vec![Change::AppendEvent(event), Change::PutRun(Box::new(run)), Change::PutReplication(Box::new(next))];
        self.commit_current(record, changes, Vec::new());
    }

    /// A run was abandoned, and not by an operator's word: the schedule tries again, each time a little later.
    pub(super) fn agenda_after_failure(&self, record: &ReplicationRecord) -> Agenda {
        let failures = record.agenda.failures.saturating_add(1);
        let wait = Backoff::default().retry_after(failures, record.id.0);
        let retry_at = record.policy.schedule.is_some().then(|| self.now.wall.plus(wait));
        Agenda { failures, retry_at, ..record.agenda.clone() }
    }
}

/// Nothing that was due up to here is made any more.
fn worked_off(agenda: &Agenda) -> Timestamp {
    agenda.last_due.unwrap_or(Timestamp(agenda.since.0.saturating_sub(1)))
}

fn runs_were(failures: u64) -> String {
    if failures == 1 { "run was".to_owned() } else { format!("{failures} runs were") }
}
