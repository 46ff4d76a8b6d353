//! Host applications: who can quiesce one, what may be quiesced now, and what is done while nobody says that it is thawed.
//!
//! That an agent is about to quiesce is on record before it is told to. What is on record leaves it by the agent's word alone, or
//! an operator's: a successor quiesces on its own host meanwhile, and never waits.

use tanist_model::application::{Quiescence, ThawCause, ThawReport};
use tanist_model::change::Change;
use tanist_model::event::EventCode;
use tanist_model::id::{AgentName, ApplicationName, ReplicationId, RunId, SnapshotId};
use tanist_model::replication::ReplicationRecord;
use tanist_model::run::RunRecord;

use super::session::Session;
use super::{Effect, ServerMachine};
use crate::message::ServerMessage;

impl ServerMachine {
    /// The host application that whoever reads the source has to quiesce next. A run that is bound to its snapshot needs none any
    /// more: every agent that reads the source can go on with it.
    #[must_use]
    pub fn needed_application<'a>(&self, record: &'a ReplicationRecord) -> Option<&'a ApplicationName> {
        let unbound = self.state.current_run(record).is_none_or(|run| run.snapshot.is_none());
        record.policy.application.as_ref().filter(|_| unbound)
    }

    pub(super) fn why_not_quiescing(&self, record: &ReplicationRecord, session: &Session) -> Option<String> {
        why_not_quiescing(session, self.needed_application(record)?)
    }

    /// Puts on record that this agent is about to quiesce the application for this attempt.
    pub(super) fn note_quiescence(
        &mut self,
        record: &ReplicationRecord,
        agent: &AgentName,
        (run, attempt): (RunId, SnapshotId),
        application: &ApplicationName,
    ) {
        let Some(session) = self.sessions.get(agent).filter(|_| !knows(record, attempt)) else { return };
        let limit_ms = session.applications.iter().find(|a| a.name == *application).map_or(0, |a| a.limit_ms);
        let quiescence = Quiescence {
            application: application.clone(),
            agent: agent.clone(),
            incarnation: session.incarnation,
            host: session.host.clone(),
            run,
            attempt,
            since: self.now.wall,
            limit_ms,
            failure: None,
            alarmed: false,
        };
        // Of this very moment: something may have been decided of it since the caller looked.
        let Some(record) = self.state.replications.get(&record.id).cloned() else { return };
        let mut next = record.clone();
        next.quiesced.push(quiescence);
        self.commit_current(&record, vec![Change::PutReplication(Box::new(next))], Vec::new());
    }

    /// The attempt in force waits for its application, and has time left.
    pub(super) fn is_quiescing(&self, record: &ReplicationRecord, run: &RunRecord) -> bool {
        let waits = |q: &Quiescence| q.attempt == run.attempt && self.now.wall < q.overdue_at();
        run.snapshot.is_none() && record.quiesced.iter().any(waits)
    }

    /// Asks after what was not heard of, and raises the alarm once that has lasted too long.
    pub(super) fn watch_quiescences(&mut self, id: ReplicationId) {
        let Some(record) = self.state.replications.get(&id).filter(|r| !r.quiesced.is_empty()).cloned() else { return };
        self.ask_thawed(&record);
        let now = self.now.wall;
        let overdue = |q: &Quiescence| !q.alarmed && now >= q.overdue_at();
        if !record.quiesced.iter().any(overdue) {
            return;
        }
        let mut next = record.clone();
        let mut changes = Vec::new();
        for quiescence in next.quiesced.iter_mut().filter(|q| overdue(q)) {
            quiescence.alarmed = true;
            let message = format!(
                "host application {} on agent {} may be quiesced since {}: its guard should have thawed it within {} s, and nothing \
                 was heard of that; look at the application there",
                quiescence.application,
                quiescence.agent,
                quiescence.since,
                quiescence.limit().as_secs()
            );
            changes.push(self.event_of(&record, Some(&quiescence.agent), EventCode::MayBeQuiesced, message));
        }
        changes.push(Change::PutReplication(Box::new(next)));
        self.commit_current(&record, changes, Vec::new());
    }

    fn ask_thawed(&mut self, record: &ReplicationRecord) {
        let (now, pause, term) = (self.now.monotonic, self.timers.resend, self.state.term);
        if self.supervision_mut(record.id).thaw_asked.is_some_and(|asked| now.since(asked) < pause) {
            return;
        }
        let attempt = self.state.current_run(record).map(|run| run.attempt);
        let open: Vec<Quiescence> =
            record.quiesced.iter().filter(|q| self.is_unheard_of(q, attempt)).cloned().collect();
        if open.is_empty() {
            return;
        }
        self.supervision_mut(record.id).thaw_asked = Some(now);
        for Quiescence { agent, attempt, application, .. } in open {
            self.send(&agent, ServerMessage::AskThawed { term, replication: record.id, attempt, application });
        }
    }

    /// Nothing is going on any more that would tell by itself, and the agent runs on the same machine.
    fn is_unheard_of(&self, quiescence: &Quiescence, attempt: Option<SnapshotId>) -> bool {
        let Some(session) = self.sessions.get(&quiescence.agent).filter(|s| s.is_connected()) else { return false };
        let goes_on = attempt == Some(quiescence.attempt) && session.incarnation == quiescence.incarnation;
        let overdue = self.now.wall >= quiescence.since.plus(quiescence.limit() * 2);
        session.host.machine_id == quiescence.host.machine_id && (!goes_on || overdue)
    }

    pub(super) fn handle_thawed(&mut self, agent: &AgentName, report: &ThawReport) {
        let (term, attempt, thawed) = (self.state.term, report.attempt, report.failure.is_none());
        let noted = self.to_agent(agent, ServerMessage::ThawNoted { term, attempt, thawed });
        let record = self.state.replications.get(&report.replication).cloned();
        let of = |q: &&Quiescence| q.attempt == attempt && q.agent == *agent;
        let known = record.as_ref().and_then(|r| r.quiesced.iter().find(of).cloned());
        match (record, known) {
            (Some(record), Some(known)) if known.failure != report.failure || thawed => {
                self.note_thawed(&record, &known, report, noted);
            }
            // It is on record already, or the replication is gone.
            _ => noted.into_iter().for_each(|noted| self.out.perform(noted)),
        }
    }

    fn note_thawed(
        &mut self,
        record: &ReplicationRecord,
        known: &Quiescence,
        report: &ThawReport,
        noted: Option<Effect>,
    ) {
        let mut next = record.clone();
        if report.failure.is_none() {
            // What an earlier attempt left quiesced there is thawed with it.
            let same = |q: &Quiescence| q.agent == known.agent && q.application == known.application;
            next.quiesced.retain(|q| q.attempt != known.attempt && !(same(q) && q.failure.is_some()));
        }
        for open in next.quiesced.iter_mut().filter(|q| q.attempt == known.attempt) {
            (open.failure, open.alarmed) = (report.failure.clone(), true);
        }
        let mut changes: Vec<Change> = self.event_of_thaw(record, known, report).into_iter().collect();
        changes.push(Change::PutReplication(Box::new(next)));
        self.commit_current(record, changes, noted.into_iter().collect());
        self.touched.insert(record.id);
    }

    fn event_of_thaw(&self, record: &ReplicationRecord, known: &Quiescence, report: &ThawReport) -> Option<Change> {
        let what = format!("host application {} on agent {}", known.application, known.agent);
        let (code, message) = match (&report.failure, report.cause) {
            (Some(failure), _) => (EventCode::MayBeQuiesced, format!("{what} may still be quiesced: {failure}")),
            (None, ThawCause::NothingFound) if !known.alarmed => return None,
            (None, cause) => {
                let time = report.quiesced_ms.map_or_else(String::new, |ms| format!(" after {ms} ms"));
                let code = if cause.is_ordinary() { EventCode::ApplicationThawed } else { EventCode::ThawedByGuard };
                (code, format!("{what} was thawed{time}, for run {}, {}", known.run, cause.in_words()))
            }
        };
        Some(self.event_of(record, Some(&known.agent), code, message))
    }

    /// An operator has looked at the host: what its dead processes had quiesced is not waited for any more.
    pub(super) fn forget_quiescences(&mut self, dead: impl Fn(&Quiescence) -> bool) {
        let concerned: Vec<ReplicationRecord> =
            self.state.replications.values().filter(|r| r.quiesced.iter().any(&dead)).cloned().collect();
        for record in concerned {
            let mut next = record.clone();
            next.quiesced.retain(|q| !dead(q));
            self.commit_current(&record, vec![Change::PutReplication(Box::new(next))], Vec::new());
        }
    }
}

/// A removal waits until every thaw is on record, or its alarm is.
pub(super) fn is_thawed_or_told(record: &ReplicationRecord) -> bool {
    record.quiesced.iter().all(|q| q.alarmed)
}

fn knows(record: &ReplicationRecord, attempt: SnapshotId) -> bool {
    record.quiesced.iter().any(|q| q.attempt == attempt)
}

/// Why an agent cannot quiesce a host application; `None` if it can.
pub(super) fn why_not_quiescing(session: &Session, application: &ApplicationName) -> Option<String> {
    match session.applications.iter().find(|a| a.name == *application) {
        None => Some(format!("it has no scripts for the host application {application} in its agent.toml")),
        Some(report) => {
            let problem = report.problem.as_ref()?;
            Some(format!("it cannot quiesce the host application {application}: {problem}"))
        }
    }
}
