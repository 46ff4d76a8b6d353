//! `status`: only what needs a human.

use std::time::Duration;

use tanist_model::agent::AgentRecord;
use tanist_model::api::{Concern, Health, StatusView};
use tanist_protocol::server::ServerMachine;

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
        let verdict = replication::verdict(machine, record);
        *match verdict.health {
            Health::Ok => &mut view.ok,
            Health::Degraded => &mut view.degraded,
            Health::Stopped => &mut view.stopped,
        } += 1;
        if verdict.health != Health::Ok {
            let (summary, next) = (verdict.summary, verdict.next);
            let next = next.or_else(|| Some(format!("tanist replication show {}", record.name)));
            view.concerns.push(Concern { subject: record.name.to_string(), health: verdict.health, summary, next });
        }
    }
    view.concerns.extend(machine.state().agents.values().filter_map(|agent| expiring(machine, agent)));
    view.concerns.sort_by_key(|concern| std::cmp::Reverse(concern.health));
    view
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
