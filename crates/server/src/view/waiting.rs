//! What a replication waits for, in plain words.

use std::time::Duration;

use tanist_model::api::{AwaitedProof, RunWaiting};
use tanist_model::id::AgentName;
use tanist_model::quantity::inflect;
use tanist_model::replication::{Intent, ReplicationRecord, Side, UnprovenEpoch};
use tanist_model::run::{RunRecord, RunState};
use tanist_model::time::Timestamp;
use tanist_protocol::server::{Phase, ServerMachine, Supervision};

/// The epochs that hold up the next snapshot.
#[must_use]
pub fn awaited(machine: &ServerMachine, record: &ReplicationRecord) -> Vec<AwaitedProof> {
    let proof = |epoch: &UnprovenEpoch| AwaitedProof {
        epoch: epoch.epoch,
        agent: epoch.agent.clone(),
        host: epoch.host.clone(),
        since: waited_for_since(machine, record, epoch),
    };
    record.awaited().map(proof).collect()
}

/// Since when an epoch is waited for: it was replaced, and somebody wants to go on. It may have been granted long before.
fn waited_for_since(machine: &ServerMachine, record: &ReplicationRecord, epoch: &UnprovenEpoch) -> Timestamp {
    let later = (record.id, epoch.epoch.0.saturating_add(1))..=(record.id, u32::MAX);
    let replaced = machine.state().takeovers.range(later).next().map(|(_, takeover)| takeover.committed_at);
    let wanted = machine.state().current_run(record).map(|run| run.requested_at);
    replaced.into_iter().chain(wanted).fold(epoch.granted_at, Timestamp::max)
}

/// One sentence that goes on after "waits for", with what to do.
#[must_use]
pub fn waits_for(machine: &ServerMachine, record: &ReplicationRecord) -> Option<String> {
    if machine.state().restoring {
        return Some(owing(machine));
    }
    if let Some(words) = proof_in_words(machine, record) {
        return Some(words);
    }
    if let Some(side) = cannot_clean_up(machine, record) {
        let what = format!("an agent that can remove what tanist made at the {side}, or your word that it may stay");
        return Some(format!("{what}: {}", leave_behind(record)));
    }
    if lacks_reader(machine, record) {
        return Some("an agent of the source's hierarchy to become able to read it".to_owned());
    }
    if record.intent == Intent::Paused && record.run.is_some() {
        return Some(format!("an operator to resume it: tanist replication resume {}", record.name));
    }
    if let Some(restore) = machine.restore_reading(record).filter(|_| record.run.is_some()) {
        return Some(format!("restore {} to have read the target", restore.name));
    }
    if let Some(slot) = machine.waits_for_slot(record) {
        return Some(slot);
    }
    match (machine.phase(record), record.holder.as_ref()) {
        (Phase::Exhausted, _) => Some("an agent of its hierarchies to become eligible".to_owned()),
        (Phase::Granted, Some(holder)) => Some(format!("agent {} to activate", holder.agent)),
        (Phase::Suspect, Some(holder)) => {
            Some(format!("agent {} to answer: it is suspected, and the server cannot reach it", holder.agent))
        }
        (Phase::Probing, Some(holder)) => Some(format!("the peers of agent {}, which is suspected", holder.agent)),
        (_, Some(holder)) if machine.session(&holder.agent).is_none() => {
            Some(format!("agent {} to come back after the restart of the server", holder.agent))
        }
        (_, None) if record.intent != Intent::Deleting && record.quarantine.is_none() => {
            Some("an agent to be granted its first epoch".to_owned())
        }
        _ => None,
    }
}

/// What keeps a run from going on or, before it has its snapshot, from beginning; `None` while it moves.
#[must_use]
pub fn of_run(machine: &ServerMachine, record: &ReplicationRecord, run: &RunRecord) -> Option<RunWaiting> {
    let waits = |what: String, since: Timestamp| Some(RunWaiting { what, since });
    let moved_at = run.checkpoint_at.or(run.bound_at).unwrap_or(run.requested_at);
    let pending = run.state == RunState::SnapshotPending;
    // What the next snapshot waits for holds up no run that has its own.
    if let Some(what) = waits_for(machine, record).filter(|_| pending) {
        return waits(what, moved_at);
    }
    if let Some(at) = machine.run_retry_at(record) {
        let why = run.failure.as_deref().unwrap_or("a failure");
        return waits(format!("the next attempt at {at}, after: {why}"), moved_at);
    }
    if !pending {
        return None;
    }
    if let Some(q) = record.quiesced.iter().find(|q| q.attempt == run.attempt) {
        let limit = q.limit().as_secs();
        let what = format!(
            "host application {} on agent {}: quiesced for the snapshot, {limit} s at most",
            q.application, q.agent
        );
        return waits(what, q.since);
    }
    let maker = record.reader.as_ref().map(|reader| &reader.agent).or(record.holder.as_ref().map(|h| &h.agent))?;
    waits(format!("agent {maker}{} to make it", silence(machine, maker)), run.requested_at)
}

/// ` (silent for 1200 ms)`, if an agent that acts should have been heard since.
fn silence(machine: &ServerMachine, agent: &AgentName) -> String {
    let Some(session) = machine.session(agent).filter(|session| session.is_connected()) else {
        return " (not connected)".to_owned();
    };
    let silent = machine.now().monotonic.since(session.last_beat);
    if silent < WORTH_TELLING { String::new() } else { format!(" (silent for {} ms)", silent.as_millis()) }
}

/// Four beats of an agent that acts.
const WORTH_TELLING: Duration = Duration::from_secs(1);

/// A run needs somebody to read the source, and nobody can. What was found when it was needed last may have changed since.
#[must_use]
pub fn lacks_reader(machine: &ServerMachine, record: &ReplicationRecord) -> bool {
    let found = machine.supervision(record.id).is_some_and(Supervision::source_exhausted);
    let nobody = || machine.candidates_of(record, Side::Source).iter().all(|c| c.passed_over.is_some());
    found && record.run.is_some() && nobody()
}

/// The side at which a removal has something to clean up that nobody can, and may not leave it.
#[must_use]
pub fn cannot_clean_up(machine: &ServerMachine, record: &ReplicationRecord) -> Option<Side> {
    if record.intent != Intent::Deleting || record.leave_behind {
        return None;
    }
    let exhausted = |side| match side {
        Side::Target => machine.phase(record) == Phase::Exhausted,
        Side::Source => machine.supervision(record.id).is_some_and(Supervision::source_exhausted),
    };
    let nobody = |side: &Side| machine.candidates_of(record, *side).iter().all(|c| c.passed_over.is_some());
    [Side::Target, Side::Source].into_iter().find(|side| exhausted(*side) && nobody(side))
}

/// The command that ends such a removal.
#[must_use]
pub fn leave_behind(record: &ReplicationRecord) -> String {
    format!("tanist replication delete {} --leave-behind", record.name)
}

/// Which epochs are not proven quiet, and how they could be.
#[must_use]
pub fn proof_in_words(machine: &ServerMachine, record: &ReplicationRecord) -> Option<String> {
    let awaited: Vec<&UnprovenEpoch> = record.awaited().collect();
    let first = awaited.first()?;
    let list: Vec<String> = awaited.iter().map(|u| format!("epoch {} of agent {}", u.epoch, u.agent)).collect();
    if awaited.iter().all(|epoch| epoch.awaits_array()) {
        let ordered = list.join(", ");
        return Some(format!(
            "the storage to end what {ordered} ordered it to copy; the acting agent asks it every second"
        ));
    }
    let one_agent = awaited.iter().all(|epoch| epoch.agent == first.agent);
    let verb = if list.len() == 1 { "is" } else { "are" };
    let hosts = if one_agent { "that host" } else { "each host" };
    let advice = match awaited.iter().find(|epoch| !epoch.awaits_array() && has_come_back(machine, epoch)) {
        _ if let Some(epoch) = machine.proves_itself(record) => {
            format!("agent {} is back, and its own host can tell: the next run goes there first", epoch.agent)
        }
        Some(back) => advice_when_back(back),
        None => format!("start {hosts}'s agent again, or if the host is dead: {}", confirm(first)),
    };
    Some(format!("proof: {} {verb} not proven quiet; {advice}", list.join(", ")))
}

/// For an agent that is there again: to start it once more proves nothing.
fn advice_when_back(epoch: &UnprovenEpoch) -> String {
    format!(
        "agent {} is back: its process of then is gone, but nothing proves that its last writes have landed; if its host was not \
         restarted since, wait a minute, then: {}",
        epoch.agent,
        confirm(epoch)
    )
}

/// The agent is connected, as another process than the one that held the epoch.
#[must_use]
pub fn has_come_back(machine: &ServerMachine, epoch: &UnprovenEpoch) -> bool {
    let session = machine.session(&epoch.agent).filter(|session| session.is_connected());
    session.is_some_and(|session| session.incarnation != epoch.incarnation)
}

/// The command that proves an epoch quiet by an operator's word.
#[must_use]
pub fn confirm(epoch: &UnprovenEpoch) -> String {
    format!("tanist agent confirm-dead {}", epoch.agent)
}

/// Whom a restored store waits for.
#[must_use]
pub fn owing(machine: &ServerMachine) -> String {
    let owing: Vec<&str> = machine.owing_agents().into_iter().map(AgentName::as_str).collect();
    let whose = if owing.len() == 1 { "its" } else { "their" };
    let noun = inflect(owing.len() as u64, "agent");
    format!("{noun} {} to show {whose} epochs after the restore of the store", owing.join(", "))
}
