//! The proof of quiet that only one host can give. A process that was killed cannot say any more that it has stopped; but its lock lies
//! in the kernel of its host, and who obtains it there knows that the last I/O of the dead process is over. So when a fence point
//! waits for such an epoch, and the agent runs again, the role goes to it: a planned handover, for which nobody has to vouch.

use tanist_model::id::AgentName;
use tanist_model::replication::{Holder, Intent, ReplicationRecord, UnprovenEpoch};

use super::ServerMachine;

impl ServerMachine {
    /// Hands the role over if that gives a proof which is waited for; true if it moves.
    pub(super) fn goes_for_proof(&mut self, record: &ReplicationRecord, holder: &Holder) -> bool {
        if !self.waits_for_proof(record) {
            return false;
        }
        let Some(epoch) = self.errand(record, holder).cloned() else { return false };
        let now = self.now.monotonic;
        self.supervision_mut(record.id).gone_for = Some((epoch.epoch, now));
        let by = format!("the proof of quiet: the host of {} alone can tell of its epoch {}", epoch.agent, epoch.epoch);
        self.begin_handover(record, holder, Some(epoch.agent), by);
        true
    }

    /// The epoch that the next run proves quiet by itself, if it is one: nobody has to vouch for it.
    #[must_use]
    pub fn proves_itself<'a>(&self, record: &'a ReplicationRecord) -> Option<&'a UnprovenEpoch> {
        record.holder.as_ref().and_then(|holder| self.errand(record, holder))
    }

    fn errand<'a>(&self, record: &'a ReplicationRecord, holder: &Holder) -> Option<&'a UnprovenEpoch> {
        // One that gave no proof gives none a moment later; I/O that hung may have come to its end after a while.
        let gone_for = self.supervisions.get(&record.id).and_then(|s| s.gone_for);
        let lately = gone_for.filter(|(_, at)| self.now.monotonic.since(*at) < self.timers.errand_pause);
        let mut awaited = self.held_up_by(record).filter(|epoch| lately.is_none_or(|(newest, _)| epoch.epoch > newest));
        awaited.find(|epoch| self.lock_would_tell(record, holder, epoch))
    }

    /// For the next snapshot a fence is enough.
    fn held_up_by<'a>(&self, record: &'a ReplicationRecord) -> impl Iterator<Item = &'a UnprovenEpoch> {
        let deleting = record.intent == Intent::Deleting;
        record.awaited().filter(move |epoch| deleting || !epoch.is_fenced())
    }

    /// The process that held the lock is gone, and its agent runs again on the same boot of the same host.
    fn lock_would_tell(&self, record: &ReplicationRecord, holder: &Holder, epoch: &UnprovenEpoch) -> bool {
        let session = self.sessions.get(&epoch.agent).filter(|session| session.is_connected());
        epoch.held_kernel_lock
            && epoch.quiet.is_none()
            && epoch.agent != holder.agent
            && session.is_some_and(|session| session.incarnation != epoch.incarnation)
            && self.host_of(&epoch.agent).is_some_and(|host| host == epoch.host)
            && self.could_act(record, &epoch.agent)
    }

    fn could_act(&self, record: &ReplicationRecord, agent: &AgentName) -> bool {
        self.candidates(record).iter().any(|c| c.agent == *agent && c.passed_over.is_none())
    }
}
