//! Which replications an agent has to do with. A beat of one of thousands of agents must not look at every replication.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use tanist_model::change::Change;
use tanist_model::id::{AgentName, ReplicationId};
use tanist_model::replication::ReplicationRecord;
use tanist_model::state::State;

/// Follows from the state, and is kept beside it: every change of a replication is noted here before it is applied.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Concerns(BTreeMap<AgentName, BTreeSet<ReplicationId>>);

impl Concerns {
    pub(super) fn of(state: &State) -> Self {
        let mut concerns = Self::default();
        state.replications.values().for_each(|record| concerns.add(record));
        concerns
    }

    /// The replications that this agent stands by, holds, or has not been proven quiet for; by id.
    pub(super) fn of_agent(&self, agent: &AgentName) -> impl Iterator<Item = ReplicationId> {
        self.0.get(agent).into_iter().flatten().copied()
    }

    /// `state`: as it is before the change.
    pub(super) fn note(&mut self, change: &Change, state: &State) {
        match change {
            Change::PutReplication(record) => {
                if let Some(before) = state.replications.get(&record.id) {
                    self.forget(before);
                }
                self.add(record);
            }
            Change::DeleteReplication(id) => {
                if let Some(before) = state.replications.get(id) {
                    self.forget(before);
                }
            }
            _ => {}
        }
    }

    fn add(&mut self, record: &ReplicationRecord) {
        for agent in members(record) {
            self.0.entry(agent).or_default().insert(record.id);
        }
    }

    fn forget(&mut self, record: &ReplicationRecord) {
        for agent in members(record) {
            let Some(ids) = self.0.get_mut(&agent) else { continue };
            ids.remove(&record.id);
            if ids.is_empty() {
                self.0.remove(&agent);
            }
        }
    }
}

/// Everybody who has to do with a replication.
pub(super) fn members(record: &ReplicationRecord) -> BTreeSet<AgentName> {
    let standing = record.source.hierarchy.iter().chain(record.target.hierarchy.iter());
    let acting = record.holder.iter().map(|holder| &holder.agent);
    standing.chain(acting).chain(record.unproven.iter().map(|epoch| &epoch.agent)).cloned().collect()
}
