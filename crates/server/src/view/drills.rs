//! What takeovers on purpose showed, and when the next one is made.

use tanist_model::api::DrillsView;
use tanist_model::drill::DrillResult;
use tanist_model::replication::ReplicationRecord;
use tanist_protocol::server::ServerMachine;

use super::findings::Finding;

#[must_use]
pub fn drills(machine: &ServerMachine, record: &ReplicationRecord) -> DrillsView {
    let log = &record.drills;
    DrillsView {
        last_good: log.last_good.clone(),
        results: log.results.iter().rev().cloned().collect(),
        next_at: machine.next_drill_at(record),
        waits_for: machine.drill_waits_for(record),
        overdue: log.overdue,
    }
}

/// The last drill was no good one, or the last good one is too long ago.
#[must_use]
pub fn unproven_takeover(machine: &ServerMachine, record: &ReplicationRecord) -> Option<Finding> {
    let log = &record.drills;
    let proven = log.last_good.as_ref().map_or_else(|| "no drill was good yet".to_owned(), proven);
    if let Some((last, fault)) = log.last().and_then(|last| Some((last, last.fault.as_ref()?))) {
        let figure = last.took_ms.map(|took| format!("it took {took} ms, ")).unwrap_or_default();
        let next = format!("tanist replication why {}", record.name);
        return Some(Finding::degraded(format!("the drill of {} failed: {figure}{fault}; {proven}", last.at), next));
    }
    log.overdue.then(|| {
        let waits = machine.drill_waits_for(record).map(|why| format!("; the one that is due waits: {why}"));
        let next = format!("tanist replication drill {} --wait", record.name);
        let summary =
            format!("no takeover was proven for twice the schedule of drills; {proven}{}", waits.unwrap_or_default());
        Finding::degraded(summary, next)
    })
}

fn proven(good: &DrillResult) -> String {
    format!("the last good one was at {}: {} ms", good.at, good.took_ms.unwrap_or_default())
}
