//! After the faults: within bounded time every replication has published what was asked of it, and nothing waits any more.

use tanist_model::replication::{Intent, ReplicationRecord};

use crate::world::World;

/// From the end of the faults to the latest publication, in virtual time; reboots for proof included.
pub const BOUND_US: u64 = 90_000_000;

impl World {
    /// True when there is nothing left to see: everything is published after the faults.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        if self.now < self.scenario.faults_end_us + 4_000_000 {
            return false;
        }
        let state = self.checker.state();
        !state.restoring
            && self.replications.iter().all(|name| state.replication_by_name(name).is_some_and(|r| self.has_settled(r)))
    }

    fn has_settled(&self, record: &ReplicationRecord) -> bool {
        let published_after = self.checker.last_publication(record.id) > self.scenario.faults_end_us;
        published_after && record.intent == Intent::Enabled && record.run.is_none() && record.awaited().next().is_none()
    }

    pub fn check_liveness(&mut self) {
        if self.is_settled() || self.checker.violation().is_some() {
            return;
        }
        let state = self.checker.state();
        let waiting: Vec<String> = self
            .replications
            .iter()
            .map(|name| match state.replication_by_name(name) {
                None => format!("{name} does not exist"),
                Some(r) => format!(
                    "{name}: {:?}, run {:?}, epochs {}, held by {:?}, waits for {:?}, last published at {} us",
                    r.intent,
                    r.run,
                    r.epochs,
                    r.holder.as_ref().map(|h| &h.agent),
                    r.awaited().map(|u| (u.epoch, &u.agent)).collect::<Vec<_>>(),
                    self.checker.last_publication(r.id)
                ),
            })
            .collect();
        self.checker.fail(format!(
            "L1 is violated: {} s after the faults, {}",
            BOUND_US / 1_000_000,
            waiting.join("; ")
        ));
    }
}
