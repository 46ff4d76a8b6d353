//! A change of what the operator wants of a replication.

use tanist_model::api::{Refusal, RefusalCode, SetPolicy};
use tanist_model::change::Change;
use tanist_model::drill::DrillLog;
use tanist_model::event::EventCode;
use tanist_model::id::{CommandId, ReplicationName};
use tanist_model::policy::Policy;
use tanist_model::replication::{Agenda, Intent, ReplicationRecord};

use super::ServerMachine;
use super::command::Answer;
use crate::message::RunEnd;

impl ServerMachine {
    pub(super) fn set_policy(&mut self, id: CommandId, actor: &str, name: &ReplicationName, change: SetPolicy) {
        let Some(record) = self.known_replication(id, name) else { return };
        if let Some(refusal) = why_not_changed(&record, &change) {
            return self.refuse_command(id, refusal);
        }
        let policy = change.policy;
        if policy.application != record.policy.application
            && let Err(refusal) =
                self.guard_application(policy.application.as_ref(), &record.source.hierarchy, &record.source.volume)
        {
            return self.refuse_command(id, refusal);
        }
        let differences = differences(&record.policy, &policy);
        if differences.is_empty() {
            let answer = Answer::done(id, format!("the policy of {name} is that already"));
            return self.finish_current(id, &record, Vec::new(), answer);
        }
        let message = format!("the policy of {name} was changed: {}", differences.join(", "));
        let event = self.operator_event(&record, actor, EventCode::PolicyChanged, message.clone());
        let agenda = self.agenda_under(&record, &policy);
        let drills = self.drills_under(&record, &policy);
        let next = ReplicationRecord { agenda, drills, policy, ..record.clone() };
        let flow = |policy: &Policy| (policy.bandwidth_bytes_per_second, policy.streams);
        let flows_anew = flow(&record.policy) != flow(&next.policy);
        let supervision = self.supervision_mut(record.id);
        (supervision.nothing_due_until, supervision.no_verification_until) = (None, None);
        (supervision.no_drill_until, supervision.drill_overdue_from) = (None, None);
        let changes = vec![event, Change::PutReplication(Box::new(next.clone()))];
        self.finish_current(id, &record, changes, Answer::done(id, message));
        if flows_anew {
            self.open_run_anew(&next);
        }
    }

    /// A new schedule counts from now. Of a replication that has a recovery point already, the first interval passes first.
    fn agenda_under(&self, record: &ReplicationRecord, policy: &Policy) -> Agenda {
        let fresh = Agenda::starting(self.now.wall, record.published.is_none());
        let last_verification = match record.policy.verify_schedule == policy.verify_schedule {
            true => record.agenda.last_verification,
            false => fresh.last_verification,
        };
        match record.policy.schedule == policy.schedule {
            true => Agenda { last_verification, ..record.agenda.clone() },
            false => Agenda { last_verification, ..fresh },
        }
    }

    /// A new schedule of drills counts from now. What is overdue under any new policy is said anew.
    fn drills_under(&self, record: &ReplicationRecord, policy: &Policy) -> DrillLog {
        let same = record.policy.drill.schedule == policy.drill.schedule;
        let log = if same { record.drills.clone() } else { record.drills.starting(self.now.wall) };
        DrillLog { overdue: false, ..log }
    }

    /// A limit, or a number of streams, holds at once: the run stops at its checkpoint and goes on under the new one.
    fn open_run_anew(&mut self, record: &ReplicationRecord) {
        let (Some(run), Some(holder)) = (record.run, record.holder.clone()) else { return };
        if self.work_of_holder(record, &holder).is_some_and(|role| role.run == Some(run)) {
            self.supervision_mut(record.id).order_sent = None;
            self.close_run(record, &holder, run, RunEnd::Halted);
        }
    }
}

fn why_not_changed(record: &ReplicationRecord, change: &SetPolicy) -> Option<Refusal> {
    let name = &record.name;
    if record.intent == Intent::Deleting {
        return Some(Refusal::new(RefusalCode::Conflict, format!("{name} is being removed")));
    }
    if change.expected.as_ref().is_some_and(|expected| *expected != record.policy) {
        return Some(
            Refusal::new(RefusalCode::Conflict, format!("the policy of {name} is another one by now"))
                .cause("somebody changed it in the meantime")
                .hint(format!("tanist replication show {name}, then give the command again")),
        );
    }
    if change.policy.source_mode != record.policy.source_mode {
        return Some(
            Refusal::new(RefusalCode::Conflict, "the source mode of a replication cannot be changed")
                .cause("what was made for the earlier runs depends on it")
                .hint(format!("tanist replication delete {name}, then create it anew; the data stays")),
        );
    }
    change.policy.check().err().map(|e| Refusal::new(RefusalCode::Invalid, e.to_string()).hint(e.hint()))
}

fn yes_no(is_so: bool) -> &'static str {
    if is_so { "yes" } else { "no" }
}

/// What is other than before, in words for the audit trail.
fn differences(old: &Policy, new: &Policy) -> Vec<String> {
    let or_none = |value: Option<String>| value.unwrap_or_else(|| "none".to_owned());
    let rows = [
        ("verify", word(&old.verify), word(&new.verify)),
        (
            "RPO in seconds",
            or_none(old.rpo_seconds.map(|s| s.to_string())),
            or_none(new.rpo_seconds.map(|s| s.to_string())),
        ),
        (
            "limit in bytes per second",
            or_none(old.bandwidth_bytes_per_second.map(|b| b.to_string())),
            or_none(new.bandwidth_bytes_per_second.map(|b| b.to_string())),
        ),
        ("streams", old.streams.to_string(), new.streams.to_string()),
        ("stored digests", yes_no(old.stored_digests).to_owned(), yes_no(new.stored_digests).to_owned()),
        (
            "schedule",
            or_none(old.schedule.as_ref().map(ToString::to_string)),
            or_none(new.schedule.as_ref().map(ToString::to_string)),
        ),
        (
            "host application",
            or_none(old.application.as_ref().map(ToString::to_string)),
            or_none(new.application.as_ref().map(ToString::to_string)),
        ),
        (
            "verification schedule",
            or_none(old.verify_schedule.as_ref().map(ToString::to_string)),
            or_none(new.verify_schedule.as_ref().map(ToString::to_string)),
        ),
        ("retention", old.retention.to_string(), new.retention.to_string()),
        (
            "drill schedule",
            or_none(old.drill.schedule.as_ref().map(ToString::to_string)),
            or_none(new.drill.schedule.as_ref().map(ToString::to_string)),
        ),
        (
            "drill limit in ms",
            or_none(old.drill.limit_ms.map(|ms| ms.to_string())),
            or_none(new.drill.limit_ms.map(|ms| ms.to_string())),
        ),
        ("handback after a drill", yes_no(old.drill.hand_back).to_owned(), yes_no(new.drill.hand_back).to_owned()),
        ("automatic handback", old.automatic_handback.to_string(), new.automatic_handback.to_string()),
    ];
    let changed = rows.into_iter().filter(|(_, old, new)| old != new);
    changed.map(|(what, old, new)| format!("{what} from {old} to {new}")).collect()
}

fn word(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}
