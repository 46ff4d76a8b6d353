//! What a replication waits for, in plain words.

use tanist_model::api::AwaitedProof;
use tanist_model::id::AgentName;
use tanist_model::quantity::inflect;
use tanist_model::replication::{Intent, ReplicationRecord, Side, UnprovenEpoch};
use tanist_protocol::server::{Phase, ServerMachine, Supervision};

/// The epochs that hold up the next snapshot.
#[must_use]
pub fn awaited(record: &ReplicationRecord) -> Vec<AwaitedProof> {
    let proof = |epoch: &UnprovenEpoch| AwaitedProof {
        epoch: epoch.epoch,
        agent: epoch.agent.clone(),
        host: epoch.host.clone(),
        since: epoch.granted_at,
    };
    record.awaited().map(proof).collect()
}

/// One sentence that goes on after "waits for", with what to do.
#[must_use]
pub fn waits_for(machine: &ServerMachine, record: &ReplicationRecord) -> Option<String> {
    if machine.state().restoring {
        return Some(owing(machine));
    }
    if let Some(words) = proof_in_words(record) {
        return Some(words);
    }
    if lacks_reader(machine, record) {
        return Some("an agent of the source's hierarchy to become able to read it".to_owned());
    }
    match (machine.phase(record), record.holder.as_ref()) {
        (Phase::Exhausted, _) => Some("an agent of its hierarchies to become eligible".to_owned()),
        (Phase::Granted, Some(holder)) => Some(format!("agent {} to activate", holder.agent)),
        (_, Some(holder)) if machine.session(&holder.agent).is_none() => {
            Some(format!("agent {} to come back after the restart of the server", holder.agent))
        }
        (_, None) if record.intent != Intent::Deleting && record.quarantine.is_none() => {
            Some("an agent to be granted its first epoch".to_owned())
        }
        _ => None,
    }
}

/// A run needs somebody to read the source, and nobody can. What was found when it was needed last may have changed since.
#[must_use]
pub fn lacks_reader(machine: &ServerMachine, record: &ReplicationRecord) -> bool {
    let found = machine.supervision(record.id).is_some_and(Supervision::source_exhausted);
    let nobody = || machine.candidates_of(record, Side::Source).iter().all(|c| c.passed_over.is_some());
    found && record.run.is_some() && nobody()
}

/// Which epochs are not proven quiet, and how they could be.
#[must_use]
pub fn proof_in_words(record: &ReplicationRecord) -> Option<String> {
    let awaited: Vec<&UnprovenEpoch> = record.awaited().collect();
    let first = awaited.first()?;
    let list: Vec<String> = awaited.iter().map(|u| format!("epoch {} of agent {}", u.epoch, u.agent)).collect();
    let one_agent = awaited.iter().all(|epoch| epoch.agent == first.agent);
    let (verb, hosts) = (if list.len() == 1 { "is" } else { "are" }, if one_agent { "that host" } else { "each host" });
    Some(format!(
        "proof: {} {verb} not proven quiet; start {hosts}'s agent again, or if the host is dead: {}",
        list.join(", "),
        confirm(first)
    ))
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
