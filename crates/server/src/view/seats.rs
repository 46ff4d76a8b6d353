//! Who reads and who writes: the two sides of a replication, each with its agents by rank and what each of them does or would do.

use tanist_model::api::{RankedAgent, SideView};
use tanist_model::id::{AgentName, Epoch};
use tanist_model::replication::{Holder, ReplicationRecord, Side};
use tanist_model::takeover::Candidate;
use tanist_protocol::server::ServerMachine;

/// `networked` if one agent reads for another, or will have to.
#[must_use]
pub fn form(record: &ReplicationRecord) -> &'static str {
    let writer = record.holder.as_ref().map(|holder| &holder.agent).or_else(|| record.target.hierarchy.iter().next());
    let reads = writer.is_some_and(|agent| record.source.hierarchy.contains(agent));
    if record.reader.is_none() && reads { "direct" } else { "networked" }
}

/// Who acts for a side. In the direct form the agent whose activation is on record does so for both.
#[must_use]
pub fn acting(record: &ReplicationRecord, side: Side) -> Option<&AgentName> {
    let holder = record.holder.as_ref().filter(|holder| holder.activated_at.is_some()).map(|holder| &holder.agent);
    match (side, &record.reader) {
        (Side::Target, _) => holder,
        (Side::Source, Some(reader)) => Some(&reader.agent),
        (Side::Source, None) => holder.filter(|agent| record.source.hierarchy.contains(agent)),
    }
}

#[must_use]
pub fn side(machine: &ServerMachine, record: &ReplicationRecord, side: Side) -> SideView {
    let candidates = machine.candidates_of(record, side);
    SideView {
        side,
        volume: record.side(side).volume.clone(),
        epoch: epoch(record, side),
        acting: acting(record, side).cloned(),
        agents: candidates.into_iter().map(|candidate| ranked(record, side, candidate)).collect(),
    }
}

fn epoch(record: &ReplicationRecord, side: Side) -> Epoch {
    match side {
        Side::Source => record.epochs.source,
        Side::Target => record.epochs.target,
    }
}

fn ranked(record: &ReplicationRecord, side: Side, candidate: Candidate) -> RankedAgent {
    let eligible = candidate.passed_over.is_none();
    let role = part(record, side, &candidate.agent, eligible).map_or_else(|| prospect(&candidate), str::to_owned);
    RankedAgent { rank: candidate.rank, agent: candidate.agent, role, eligible }
}

/// What an agent does for a side now, if it does anything.
///
/// `can_come`: nothing keeps it from acting; one that has declined is not on its way.
fn part(record: &ReplicationRecord, side: Side, agent: &AgentName, can_come: bool) -> Option<&'static str> {
    let holds = |holder: &Holder| holder.agent == *agent;
    if acting(record, side) == Some(agent) {
        return Some(match (side, form(record)) {
            (_, "direct") => "acting",
            (Side::Source, _) => "reader",
            (Side::Target, _) => "holder",
        });
    }
    let comes = record.holder.as_ref().is_some_and(holds) && (side == Side::Target || record.reader.is_none());
    (comes && can_come).then_some("being activated")
}

/// What would become of an agent if a side had to go to another.
fn prospect(candidate: &Candidate) -> String {
    match &candidate.passed_over {
        Some(reason) => format!("passed over: {reason}"),
        None if candidate.damped => "ready, after the others: it has failed lately".to_owned(),
        None => "ready".to_owned(),
    }
}
