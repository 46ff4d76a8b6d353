//! Runs that operators ask for, and give up.

use tanist_model::api::{Refusal, RefusalCode};
use tanist_model::change::{Change, Condition};
use tanist_model::event::EventCode;
use tanist_model::id::{CommandId, ReplicationName};
use tanist_model::replication::{Agenda, Intent, ReplicationRecord};
use tanist_model::run::{Checkpoint, RunRecord, RunState, RunTrigger};
use tanist_model::work::WorkLog;

use super::ServerMachine;
use super::command::Answer;

impl ServerMachine {
    pub(super) fn sync(&mut self, id: CommandId, actor: &str, name: &ReplicationName, full: bool) {
        let Some(record) = self.known_replication(id, name) else { return };
        if let Some(reason) = &record.quarantine {
            let refusal = Refusal::new(RefusalCode::Conflict, format!("{name} is quarantined"))
                .cause(reason.clone())
                .hint(format!("look at the storage, then create it anew: tanist replication delete {name}"));
            return self.refuse_command(id, refusal);
        }
        if let Some(refusal) = why_not_enabled(&record) {
            return self.refuse_command(id, refusal);
        }
        if let Some(run) = record.run {
            let answer = Answer::done(id, format!("run {run} is in progress already")).run(run);
            return self.finish_current(id, &record, Vec::new(), answer);
        }
        let run = RunRecord { full, ..self.new_run(&record, RunTrigger::Operator(actor.to_owned())) };
        let run_id = run.id;
        let event = self.operator_event(&record, actor, EventCode::RunRequested, format!("run {run_id} was requested"));
        let agenda = Agenda { retry_at: None, ..record.agenda.clone() };
        let next = ReplicationRecord { run: Some(run_id), agenda, ..record.clone() };
        let changes = vec![event, Change::PutRun(Box::new(run)), Change::PutReplication(Box::new(next))];
        let answer = Answer::done(id, format!("run {run_id} of {name} is started"))
            .run(run_id)
            .next(format!("tanist replication show {name}"));
        self.finish_current(id, &record, changes, answer);
    }

    pub(super) fn abort(&mut self, id: CommandId, actor: &str, name: &ReplicationName) {
        let Some(record) = self.known_replication(id, name) else { return };
        let Some(run) = record.run else {
            let refusal = Refusal::new(RefusalCode::Conflict, format!("no run of {name} is in progress"))
                .hint(format!("tanist replication show {name}"));
            return self.refuse_command(id, refusal);
        };
        self.abandon_current(&record, &format!("aborted by {actor}"));
        let target = if record.target_dirty.is_some() {
            "the target volume holds no whole state until the next run is published"
        } else {
            "it has written nothing: the target is as it was"
        };
        let answer = Answer::done(id, format!("run {run} of {name} is given up; {target}"))
            .run(run)
            .next(format!("tanist replication sync {name}"));
        self.finish(id, Condition::Term, Vec::new(), answer);
    }

    pub(super) fn new_run(&mut self, record: &ReplicationRecord, trigger: RunTrigger) -> RunRecord {
        RunRecord {
            id: self.ids.run(),
            replication: record.id,
            state: RunState::SnapshotPending,
            trigger,
            verify: record.policy.verify,
            full: false,
            method: None,
            copy_ordered: false,
            attempt: self.ids.snapshot(),
            dead_attempts: Vec::new(),
            snapshot: None,
            checkpoint: Checkpoint::START,
            checkpoint_epochs: record.epochs,
            takeovers: 0,
            work: WorkLog::default(),
            repairs: 0,
            mismatches: 0,
            agent: None,
            requested_at: self.now.wall,
            bound_at: None,
            checkpoint_at: None,
            finished_at: None,
            verification: None,
            failure: None,
        }
    }
}

pub(super) fn why_not_enabled(record: &ReplicationRecord) -> Option<Refusal> {
    let name = &record.name;
    match record.intent {
        Intent::Enabled => None,
        Intent::Paused => Some(
            Refusal::new(RefusalCode::Conflict, format!("{name} is paused"))
                .hint(format!("tanist replication resume {name}")),
        ),
        Intent::Deleting => Some(
            Refusal::new(RefusalCode::Conflict, format!("{name} is being removed"))
                .hint(format!("tanist replication show {name} says what its removal waits for")),
        ),
    }
}
