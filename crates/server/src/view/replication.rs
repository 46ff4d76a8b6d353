//! `replication show`: is my data safe, what happened, what do I do.

use tanist_model::api::{Health, RemovalView, ReplicationView};
use tanist_model::id::AgentName;
use tanist_model::recovery_point::RecoveryPointPlace;
use tanist_model::replication::{FencingTier, Intent, ReplicationRecord, Side};
use tanist_protocol::server::ServerMachine;

use super::findings::{Finding, findings, last_point, restorable_point};
use super::{drills, history, run, seats, waiting};

/// Everything about a replication that a person asks for.
#[must_use]
pub fn replication(machine: &ServerMachine, record: &ReplicationRecord) -> ReplicationView {
    let verdict = verdict(machine, record);
    let tier = tier(machine, record);
    let point = last_point(machine, record);
    ReplicationView {
        name: record.name.clone(),
        health: verdict.health,
        summary: verdict.summary,
        intent: record.intent,
        removal: (record.intent == Intent::Deleting)
            .then(|| RemovalView { leave_behind: record.leave_behind, snapshots: machine.remnants(record) }),
        once: record.once,
        state: machine.phase(record).name().to_owned(),
        size_bytes: record.size_bytes,
        policy: record.policy.clone(),
        form: seats::form(record).to_owned(),
        tier,
        promise: tier.promise().to_owned(),
        epochs: record.epochs,
        acting: seats::acting(record, Side::Target).cloned(),
        sides: [Side::Source, Side::Target].map(|side| seats::side(machine, record, side)).into(),
        lag_seconds: point.map(|point| machine.now().wall.since(point.source_time).as_secs()),
        rpo_missed: machine.age_beyond_rpo(record).is_some(),
        last_recovery_point: point.map(history::recovery_point),
        restorable_point: restorable_point(machine, record).map(history::recovery_point),
        next_run_at: machine.next_run_at(record),
        target_dirty: record.target_dirty.is_some(),
        changes_disbelieved_at: record.changes.disbelieved_at,
        run: run::current(machine, record),
        last_run: run::last(machine, record),
        waits_for: waiting::waits_for(machine, record),
        awaited: waiting::awaited(machine, record),
        last_takeover: history::last_takeover(machine, record),
        quiesced: record.quiesced.clone(),
        refused_frames: record.refused.total,
        drills: drills::drills(machine, record),
        next: verdict.next,
    }
}

/// Health, summary and next command: the worst finding's, or what there is to say of a replication that is well.
#[must_use]
pub fn verdict(machine: &ServerMachine, record: &ReplicationRecord) -> Finding {
    findings(machine, record).into_iter().next().unwrap_or_else(|| well(machine, record))
}

fn well(machine: &ServerMachine, record: &ReplicationRecord) -> Finding {
    if record.intent == Intent::Deleting {
        return Finding { health: Health::Ok, summary: "being removed; the data stays".to_owned(), next: None };
    }
    let point = last_point(machine, record);
    let (summary, next) = match (point, record.run) {
        (Some(point), None) if point.fuzzy => (format!("a fuzzy copy, begun at {}", point.source_time), None),
        (Some(point), None) if point.assumed_bytes > 0 => {
            let as_of = point.source_time;
            (format!("the target equals the source as of {as_of}, unless something else wrote to it"), None)
        }
        (Some(point), None) => (format!("the target equals the source as of {}", point.source_time), None),
        (Some(point), Some(_)) if point.place == RecoveryPointPlace::Gone => {
            ("a run is in progress; until it ends there is no recovery point".to_owned(), None)
        }
        (Some(point), Some(_)) => {
            let what = if point.fuzzy { "fuzzy copy was begun at" } else { "recovery point is of" };
            (format!("a run is in progress; the last {what} {}", point.source_time), None)
        }
        (None, Some(_)) => ("the first run is in progress".to_owned(), None),
        (None, None) => {
            ("no run has been made yet".to_owned(), Some(format!("tanist replication sync {}", record.name)))
        }
    };
    Finding { health: Health::Ok, summary, next }
}

/// The tier in force, or the one that a takeover can count on.
fn tier(machine: &ServerMachine, record: &ReplicationRecord) -> FencingTier {
    if record.awaited().next().is_some() {
        return machine.tier_in_force(record);
    }
    let agents: Vec<AgentName> = record.target.hierarchy.iter().cloned().collect();
    machine.reachable_tier(&agents, &record.target.volume)
}
