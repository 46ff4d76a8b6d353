//! Copies that the storage carries out by itself (SPC-5, third-party copies; NVMe Copy). What an epoch has ordered goes on when its process,
//! its host and its path are gone, so it counts as the epoch's own I/O: the target does not move on before the storage has said that
//! nothing of it is left.
//!
//! That word counts only if the question was put when the epoch could order no more: it was proven quiet otherwise, or fenced. So the
//! order is fixed: first that proof, then the question, and the answer names the question.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tanist_model::id::{AgentName, CommandId, Epoch, Epochs, ReplicationId};
use tanist_model::replication::{ArrayCopies, Holder, ReplicationRecord, UnprovenEpoch};
use tanist_model::time::Monotonic;

use super::ServerMachine;
use crate::message::{ServerMessage, Stamp};
use crate::mutation::Mutation;

/// A question is repeated after this time: it or its answer may be lost, and the storage answers only when nothing is left.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// What the holder was asked to ask the storage.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ArrayQuestion {
    number: CommandId,
    asked_at: Monotonic,
    /// Those that could order no more when it was put.
    about: Vec<Epoch>,
}

impl ServerMachine {
    /// What an epoch of this agent may order: source and target have to be behind one copy manager.
    pub(super) fn array_copies_of(&self, record: &ReplicationRecord, agent: &AgentName) -> ArrayCopies {
        let manager = |volume| self.storage_report(agent, volume).and_then(|s| s.copy_manager.as_ref());
        let (source, target) = (manager(&record.source.volume), manager(&record.target.volume));
        if source.is_some() && source == target { ArrayCopies::Possible } else { ArrayCopies::None }
    }

    /// Whether the holder may order copies: whatever it is let do, the store knows of.
    pub(super) fn may_order_copies(&self, record: &ReplicationRecord) -> bool {
        let own = record.unproven.iter().find(|u| u.epoch == record.epochs.target);
        own.is_some_and(|own| own.array_copies == ArrayCopies::Possible)
    }

    pub(super) fn may_be_copying(&self, epoch: &UnprovenEpoch) -> bool {
        epoch.array_copies == ArrayCopies::Possible && !self.mutations.breaks(Mutation::ArrayCopiesIgnored)
    }

    /// Has the holder ask the storage, as long as there is something that only the storage can tell.
    pub(super) fn ask_array(&mut self, record: &ReplicationRecord, holder: &Holder) {
        let about: Vec<Epoch> = record.awaited().filter(|u| u.awaits_array()).map(|u| u.epoch).collect();
        let now = self.now.monotonic;
        let asked = self.supervisions.get(&record.id).and_then(|s| s.array_asked.as_ref());
        let waits = asked.is_some_and(|q| q.about == about && now.since(q.asked_at) < ASK_AGAIN);
        if about.is_empty() || waits {
            return;
        }
        let number = self.ids.command();
        self.supervision_mut(record.id).array_asked = Some(ArrayQuestion { number, asked_at: now, about });
        let (replication, epochs, incarnation) = (record.id, record.epochs, holder.incarnation);
        let stamp = Stamp { term: self.state.term, replication, epochs, incarnation };
        self.send(&holder.agent, ServerMessage::AskArray { stamp, question: number });
    }

    /// The storage has said to the holder that no copy of an earlier epoch is going on at the target.
    pub(super) fn handle_array_quiet(
        &mut self,
        agent: &AgentName,
        id: ReplicationId,
        epochs: Epochs,
        question: CommandId,
    ) {
        if !self.is_current(agent, id, epochs) {
            return self.step_down(agent, id, epochs);
        }
        let Some(record) = self.state.replications.get(&id).cloned() else { return };
        let asked = self.supervision_mut(id).array_asked.take_if(|asked| asked.number == question);
        let Some(asked) = asked else { return };
        let mut next = record.clone();
        let told = |u: &&mut UnprovenEpoch| asked.about.contains(&u.epoch) && u.awaits_array();
        next.unproven.iter_mut().filter(told).for_each(|u| u.array_copies = ArrayCopies::Over);
        let proven = self.drop_quiet(&mut next, |u| u.quiet.filter(|_| u.array_copies == ArrayCopies::Over));
        if next != record {
            self.commit_proven(&record, next, proven, Vec::new());
        }
    }
}
