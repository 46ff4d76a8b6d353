//! The proof of quiet that only one host can give. A process that was killed cannot say any more that it has stopped; but its lock lies
//! in the kernel of its host, and who obtains it there knows that the last I/O of the dead process is over. So when a fence point
//! waits for such an epoch, and the agent runs again, the role goes there and back: two handovers, for which nobody has to vouch.

use tanist_model::id::{AgentName, Epoch};
use tanist_model::replication::{Holder, ReplicationRecord, UnprovenEpoch};

use super::ServerMachine;

/// What was done for the proofs that a replication waits for.
#[derive(Clone, Debug, Default)]
pub(super) struct Errands {
    /// The newest epoch for which the role went to its agent; of one that gave no proof another attempt gives none.
    newest: Option<Epoch>,
    /// Who acted before, and acts again when the proof is there.
    back_to: Option<AgentName>,
}

impl ServerMachine {
    /// Moves the role if that gives a proof which is waited for, or when that is done; true if it moves.
    pub(super) fn runs_an_errand(&mut self, record: &ReplicationRecord, holder: &Holder) -> bool {
        if self.waits_for_proof(record) {
            return self.go_for_proof(record, holder);
        }
        let back_to = self.supervisions.get_mut(&record.id).and_then(|s| s.errands.back_to.take());
        let Some(agent) = back_to.filter(|agent| *agent != holder.agent && self.could_act(record, agent)) else {
            return false;
        };
        self.begin_handover(
            record,
            holder,
            Some(agent),
            "the end of an errand: the proof of quiet is there".to_owned(),
        );
        true
    }

    fn go_for_proof(&mut self, record: &ReplicationRecord, holder: &Holder) -> bool {
        let newest = self.supervisions.get(&record.id).and_then(|s| s.errands.newest);
        let mut awaited = record.awaited().filter(|epoch| Some(epoch.epoch) > newest);
        let Some(epoch) = awaited.find(|epoch| self.lock_would_tell(record, holder, epoch)).cloned() else {
            return false;
        };
        let errands = &mut self.supervision_mut(record.id).errands;
        errands.newest = Some(epoch.epoch);
        errands.back_to.get_or_insert(holder.agent.clone());
        let by = format!("the proof of quiet: the host of {} alone can tell of its epoch {}", epoch.agent, epoch.epoch);
        self.begin_handover(record, holder, Some(epoch.agent), by);
        true
    }

    /// The process that held the lock is gone, and its agent runs again on the same boot of the same host.
    fn lock_would_tell(&self, record: &ReplicationRecord, holder: &Holder, epoch: &UnprovenEpoch) -> bool {
        let session = self.sessions.get(&epoch.agent).filter(|session| session.is_connected());
        epoch.held_kernel_lock
            && epoch.agent != holder.agent
            && session.is_some_and(|session| session.incarnation != epoch.incarnation)
            && self.host_of(&epoch.agent).is_some_and(|host| host == epoch.host)
            && self.could_act(record, &epoch.agent)
    }

    fn could_act(&self, record: &ReplicationRecord, agent: &AgentName) -> bool {
        self.candidates(record).iter().any(|c| c.agent == *agent && c.passed_over.is_none())
    }
}
