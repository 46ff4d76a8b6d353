//! The agents, as `agent list` shows them.

use tanist_model::agent::AgentRecord;
use tanist_model::api::AgentView;
use tanist_model::id::{AgentName, ReplicationName};
use tanist_model::replication::ReplicationRecord;
use tanist_protocol::server::ServerMachine;

/// Every agent that has joined, those removed included: their epochs may still be unproven.
#[must_use]
pub fn agents(machine: &ServerMachine) -> Vec<AgentView> {
    machine.state().agents.values().map(|record| agent(machine, record)).collect()
}

fn agent(machine: &ServerMachine, record: &AgentRecord) -> AgentView {
    let now = machine.now();
    let session = machine.session(&record.name);
    let connected = session.filter(|session| session.is_connected());
    let age = session.map(|session| now.monotonic.since(session.last_beat));
    let has_role = machine.state().replications.values().any(|r| stands(r, &record.name));
    let limit = machine.timers().fresh_beat(has_role);
    let address = connected.and_then(|session| session.listen_address.clone());
    AgentView {
        name: record.name.clone(),
        connected: connected.is_some(),
        incarnation: connected.map(|session| session.incarnation),
        last_beat_age_ms: age.and_then(|age| u64::try_from(age.as_millis()).ok()),
        silent: connected.is_some() && age.is_some_and(|age| age >= limit),
        through: connected.and_then(|session| session.through.clone()),
        address: address.or_else(|| record.listen_address.clone()),
        drained: record.drained,
        removed: record.removed,
        damped: record.penalty.is_damped(now.wall),
        penalty: record.penalty.value_at(now.wall),
        acting_for: names(machine, |r| acts(r, &record.name)),
        reading_for: names(machine, |r| reads(r, &record.name)),
        failover_for: names(machine, |r| stands_by(r, &record.name)),
        certificate_expires_at: record.certificate_expires_at,
        version: session.map(|session| session.version.clone()),
        io: session.and_then(|session| session.io.clone()),
        unproven: machine.unproven_processes(&record.name).into_iter().collect(),
    }
}

fn acts(record: &ReplicationRecord, agent: &AgentName) -> bool {
    record.holder.as_ref().is_some_and(|holder| holder.agent == *agent)
}

/// For another one that writes.
fn reads(record: &ReplicationRecord, agent: &AgentName) -> bool {
    record.reader.as_ref().is_some_and(|reader| reader.agent == *agent)
}

fn stands(record: &ReplicationRecord, agent: &AgentName) -> bool {
    record.source.hierarchy.contains(agent) || record.target.hierarchy.contains(agent)
}

fn stands_by(record: &ReplicationRecord, agent: &AgentName) -> bool {
    stands(record, agent) && !acts(record, agent) && !reads(record, agent)
}

fn names(machine: &ServerMachine, which: impl Fn(&ReplicationRecord) -> bool) -> Vec<ReplicationName> {
    machine.state().replications.values().filter(|record| which(record)).map(|record| record.name.clone()).collect()
}
