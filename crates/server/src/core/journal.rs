//! What was committed, for the log and for metrics.

use std::collections::HashMap;

use tanist_model::change::{Change, GroupOutcome, Transaction};
use tanist_model::event::{NewEvent, Severity};
use tanist_model::id::ReplicationId;
use tanist_model::state::State;

use crate::metrics::Metrics;

/// Remembers which takeovers were counted: their records are written more than once.
#[derive(Debug)]
pub struct Journal {
    counted: HashMap<ReplicationId, u32>,
}

impl Journal {
    pub fn new(state: &State) -> Self {
        Self { counted: state.replications.values().map(|r| (r.id, r.epochs.target.0)).collect() }
    }

    pub fn record(&mut self, transaction: &Transaction, outcomes: &[GroupOutcome], metrics: &Metrics) {
        let applied = transaction.groups.iter().zip(outcomes).filter(|(_, o)| **o == GroupOutcome::Applied);
        for change in applied.flat_map(|(group, _)| &group.changes) {
            match change {
                Change::AppendEvent(event) => {
                    log(event);
                    metrics.event(event.code);
                }
                Change::PutTakeover(takeover) => {
                    let epoch = takeover.epochs.target.0;
                    let counted = self.counted.entry(takeover.replication).or_default();
                    if epoch > *counted {
                        *counted = epoch;
                        metrics.takeover(&takeover.evidence);
                    }
                }
                Change::DeleteReplication(id) => drop(self.counted.remove(id)),
                _ => {}
            }
        }
    }
}

fn log(event: &NewEvent) {
    let replication = event.replication.as_ref().map_or("", |(_, name)| name.as_str());
    let agent = event.agent.as_ref().map_or("", |agent| agent.as_str());
    let (code, actor, message) = (event.code.code(), event.actor.as_str(), event.message.as_str());
    match event.code.severity() {
        Severity::Info => tracing::info!(code, replication, agent, actor, "{message}"),
        Severity::Warning => tracing::warn!(code, replication, agent, actor, "{message}"),
        Severity::Alarm => tracing::error!(code, replication, agent, actor, "{message}"),
    }
}
