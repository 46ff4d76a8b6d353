//! `status`: only what needs a human.

use std::collections::BTreeMap;
use std::time::Duration;

use tanist_model::agent::AgentRecord;
use tanist_model::api::{Concern, Health, StatusView};
use tanist_model::id::StorageName;
use tanist_model::replication::ReplicationRecord;
use tanist_model::volume::PoolUse;
use tanist_protocol::server::ServerMachine;

use super::findings::{Finding, findings};
use super::{replication, waiting};
use crate::core::{Moment, Trouble};

/// A certificate that expires sooner than this was not renewed when it should have been.
const CERTIFICATE_WARNING: Duration = Duration::from_hours(24 * 10);

/// Counts, and what needs a human: the server first, then replications, then agents; the worst first.
#[must_use]
pub fn status(moment: &Moment<'_>) -> StatusView {
    let machine = moment.machine;
    let mut view = StatusView { term: machine.state().term, ok: 0, degraded: 0, stopped: 0, concerns: Vec::new() };
    view.concerns.extend(moment.trouble.map(store_failing));
    view.concerns.extend(restoring(machine));
    for record in machine.state().replications.values() {
        *match replication::verdict(machine, record).health {
            Health::Ok => &mut view.ok,
            Health::Degraded => &mut view.degraded,
            Health::Stopped => &mut view.stopped,
        } += 1;
        // All of them: the worst one is seldom the one that began it.
        view.concerns.extend(findings(machine, record).into_iter().map(|finding| concern(record, finding)));
    }
    view.concerns.extend(machine.state().agents.values().filter_map(|agent| relayed(machine, agent)));
    view.concerns.extend(machine.state().agents.values().filter_map(|agent| expiring(machine, agent)));
    view.concerns.extend(full_pools(machine));
    view.concerns.sort_by_key(|concern| std::cmp::Reverse(concern.health));
    view
}

fn concern(record: &ReplicationRecord, finding: Finding) -> Concern {
    let next = finding.next.unwrap_or_else(|| format!("tanist replication show {}", record.name));
    let (subject, health, summary) = (record.name.to_string(), finding.health, finding.summary);
    Concern { subject, health, summary, next: Some(next) }
}

fn server(health: Health, summary: String, next: &str) -> Concern {
    Concern { subject: "server".to_owned(), health, summary, next: Some(next.to_owned()) }
}

fn store_failing(trouble: &Trouble) -> Concern {
    let summary =
        format!("the store cannot be written since {}, no grants are given: {}", trouble.since, trouble.reason);
    server(Health::Stopped, summary, "tanist explain T104")
}

fn restoring(machine: &ServerMachine) -> Option<Concern> {
    let summary = || format!("waits for {}", waiting::owing(machine));
    machine.state().restoring.then(|| server(Health::Stopped, summary(), "tanist agent list"))
}

fn relayed(machine: &ServerMachine, agent: &AgentRecord) -> Option<Concern> {
    let session = machine.session(&agent.name).filter(|session| session.is_connected())?;
    let relay = session.through.as_ref()?;
    let summary = format!("it does not reach the server itself; {relay} carries its connection");
    let next = Some("tanist explain T214".to_owned());
    Some(Concern { subject: agent.name.to_string(), health: Health::Degraded, summary, next })
}

/// Each pool once, though several agents see it.
fn full_pools(machine: &ServerMachine) -> Vec<Concern> {
    let agents = machine.state().agents.keys().filter_map(|agent| machine.session(agent));
    let reports = agents.filter(|session| session.is_connected()).flat_map(|session| &session.storage);
    let full = reports.filter_map(|report| Some((report, report.pool.as_ref().filter(|used| used.is_nearly_full())?)));
    let pools: BTreeMap<_, _> = full.map(|(report, used)| ((&report.name, &used.pool), used)).collect();
    pools.into_iter().map(|((name, pool), used)| full_pool(name, pool, used)).collect()
}

fn full_pool(name: &StorageName, pool: &str, used: &PoolUse) -> Concern {
    let summary = format!("its thin pool {pool} is nearly full: {}", used.in_words());
    let next = Some("tanist explain T216".to_owned());
    Concern { subject: name.to_string(), health: Health::Degraded, summary, next }
}

fn expiring(machine: &ServerMachine, agent: &AgentRecord) -> Option<Concern> {
    let now = machine.now().wall;
    if agent.removed || agent.certificate_expires_at.since(now) >= CERTIFICATE_WARNING {
        return None;
    }
    let at = agent.certificate_expires_at;
    let summary = if at > now {
        format!("its certificate expires at {at} and was not renewed: is the agent running?")
    } else {
        format!("its certificate has expired at {at}: it has to join again")
    };
    let next = Some(format!("tanist token create {}", agent.name));
    Some(Concern { subject: agent.name.to_string(), health: Health::Degraded, summary, next })
}
