//! Whether the last recovery point is as young as the operator wants, said once when it ceases to be so and once when it is again.

use tanist_model::change::Change;
use tanist_model::event::EventCode;
use tanist_model::replication::{Intent, ReplicationRecord};

use super::ServerMachine;

impl ServerMachine {
    /// How old the data is that could be restored, if that is more than the RPO allows: seconds. A replication without a recovery
    /// point yet has as much time for the first one as for every other.
    #[must_use]
    pub fn age_beyond_rpo(&self, record: &ReplicationRecord) -> Option<u64> {
        let rpo = record.policy.rpo_seconds?;
        let point = record.published.and_then(|run| self.state.recovery_points.get(&(record.id, run)));
        let since = point.map_or(record.created_at, |point| point.source_time);
        Some(self.now.wall.since(since).as_secs()).filter(|age| *age > rpo)
    }

    pub(super) fn watch_rpo(&mut self, record: &ReplicationRecord) {
        let age = self.age_beyond_rpo(record).filter(|_| record.intent != Intent::Deleting);
        if age.is_some() == record.rpo_missed {
            return;
        }
        let allowed = record.policy.rpo_seconds.unwrap_or_default();
        let event = match age {
            None if record.policy.rpo_seconds.is_none() => {
                self.event_of(record, None, EventCode::RpoMet, "no age of the last recovery point is demanded any more")
            }
            Some(age) => {
                let message = format!("the last recovery point is {age} s old, {allowed} s are allowed");
                self.event_of(record, None, EventCode::RpoMissed, message)
            }
            None => self.event_of(record, None, EventCode::RpoMet, "the last recovery point is young enough again"),
        };
        let next = ReplicationRecord { rpo_missed: age.is_some(), ..record.clone() };
        self.commit_current(record, vec![event, Change::PutReplication(Box::new(next))], Vec::new());
    }
}
