//! At most so many runs at once, a server and an agent: those that were asked for first go first.
//!
//! Only the start of a run waits. One that has its snapshot goes on whatever the limits say, also after a takeover.

use std::collections::BTreeMap;

use tanist_model::id::{AgentName, ReplicationId};
use tanist_model::replication::{Intent, ReplicationRecord};
use tanist_model::run::RunState;
use tanist_model::time::Timestamp;

use super::ServerMachine;
use super::supervise::Supervision;
use crate::limits::Limits;

/// A run that wants to start.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Waiting {
    pub requested_at: Timestamp,
    pub replication: ReplicationId,
    pub agent: AgentName,
}

/// Which of the waiting runs may start beside those in progress (so many of each agent).
#[must_use]
pub fn admitted(running: &BTreeMap<AgentName, u32>, mut waiting: Vec<Waiting>, limits: &Limits) -> Vec<ReplicationId> {
    waiting.sort();
    let mut of_agent = running.clone();
    let mut all: u32 = running.values().sum();
    let mut admitted = Vec::new();
    for run in waiting {
        let its = of_agent.entry(run.agent).or_default();
        // An agent that is full holds up nobody else's run.
        if all < limits.runs && *its < limits.runs_per_agent {
            *its += 1;
            all += 1;
            admitted.push(run.replication);
        }
    }
    admitted
}

impl ServerMachine {
    /// Why the run of a replication is not started yet, if that is for want of a slot.
    #[must_use]
    pub fn waits_for_slot(&self, record: &ReplicationRecord) -> Option<String> {
        let waiting = self.waiting_run(record).filter(|_| !self.stands_still(record))?;
        let (running, others) = self.runs();
        if admitted(&running, others, &self.limits).contains(&record.id) {
            return None;
        }
        let its = running.get(&waiting.agent).copied().unwrap_or_default();
        let (agent, limit) = (&waiting.agent, self.limits.runs_per_agent);
        if its >= limit {
            return Some(format!("a free slot: agent {agent} is at its limit of {limit} runs at once"));
        }
        Some(format!(
            "a free slot: the server is at its limit of {} runs at once, or earlier runs wait too",
            self.limits.runs
        ))
    }

    /// Lets the run of a replication start, if it may; that is settled once and for this server's life.
    pub(super) fn may_start(&mut self, record: &ReplicationRecord) -> bool {
        let Some(run) = record.run else { return false };
        let may = self.waiting_run(record).is_none() || self.waits_for_slot(record).is_none();
        if may {
            self.supervision_mut(record.id).admitted = Some(run);
        }
        may
    }

    /// The run of this replication as one that waits for its start; `None` if it does not.
    fn waiting_run(&self, record: &ReplicationRecord) -> Option<Waiting> {
        let run = self.state.current_run(record).filter(|run| run.state == RunState::SnapshotPending)?;
        let holder = record.holder.as_ref().filter(|holder| holder.activated_at.is_some())?;
        let is_admitted = self.supervisions.get(&record.id).is_some_and(|s| s.admitted == Some(run.id));
        let stands = record.intent == Intent::Enabled && record.quarantine.is_none() && !is_admitted;
        let (requested_at, agent) = (run.requested_at, holder.agent.clone());
        stands.then_some(Waiting { requested_at, replication: record.id, agent })
    }

    /// What waits for an operator, or for an agent that could, takes nobody's slot.
    fn stands_still(&self, record: &ReplicationRecord) -> bool {
        let nobody = |s: &Supervision| s.exhausted || s.source_exhausted;
        self.waits_for_proof(record) || self.supervisions.get(&record.id).is_some_and(nobody)
    }

    fn runs(&self) -> (BTreeMap<AgentName, u32>, Vec<Waiting>) {
        let mut running = BTreeMap::<AgentName, u32>::new();
        let mut waiting = Vec::new();
        let wanted = |record: &&ReplicationRecord| record.run.is_some() && record.intent == Intent::Enabled;
        for record in self.state.replications.values().filter(wanted).filter(|record| !self.stands_still(record)) {
            match (self.waiting_run(record), &record.holder) {
                (Some(run), _) => waiting.push(run),
                (None, Some(holder)) => *running.entry(holder.agent.clone()).or_default() += 1,
                (None, None) => {}
            }
        }
        (running, waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> AgentName {
        AgentName::new(text).unwrap()
    }

    fn waiting(list: &[(i64, u64, &str)]) -> Vec<Waiting> {
        let run = |(at, id, agent): &(i64, u64, &str)| Waiting {
            requested_at: Timestamp(*at),
            replication: ReplicationId(*id),
            agent: name(agent),
        };
        list.iter().map(run).collect()
    }

    fn ids(list: &[u64]) -> Vec<ReplicationId> {
        list.iter().copied().map(ReplicationId).collect()
    }

    #[test]
    fn the_first_asked_for_go_first() {
        let limits = Limits { runs: 3, runs_per_agent: 2, ..Limits::DEFAULT };
        let list = waiting(&[(30, 1, "a"), (10, 2, "a"), (20, 3, "b"), (40, 4, "b")]);
        assert_eq!(admitted(&BTreeMap::new(), list.clone(), &limits), ids(&[2, 3, 1]));
        assert_eq!(admitted(&BTreeMap::from([(name("b"), 1)]), list, &limits), ids(&[2, 3]));
    }

    #[test]
    fn a_full_agent_holds_up_nobody_else() {
        let limits = Limits { runs: 10, runs_per_agent: 2, ..Limits::DEFAULT };
        let list = waiting(&[(10, 1, "a"), (20, 2, "b")]);
        assert_eq!(admitted(&BTreeMap::from([(name("a"), 2)]), list, &limits), ids(&[2]));
    }
}
