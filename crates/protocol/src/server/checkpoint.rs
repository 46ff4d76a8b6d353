//! Checkpoints: the store commits them under the current epochs, and only then they are acknowledged.

use tanist_model::change::Change;
use tanist_model::event::EventCode;
use tanist_model::id::{AgentName, Epochs, ReplicationId, RunId};
use tanist_model::policy::VerifyMode;
use tanist_model::replication::ReplicationRecord;
use tanist_model::run::{Checkpoint, RunRecord, RunState, STALL_WINDOW_BYTES};
use tanist_model::takeover::TakeoverRecord;
use tanist_model::time::Timestamp;
use tanist_model::work::RunWork;

use super::ServerMachine;
use crate::message::ServerMessage;
use crate::mutation::Mutation;

impl ServerMachine {
    pub(super) fn handle_checkpoint(
        &mut self,
        agent: &AgentName,
        (id, epochs, run): (ReplicationId, Epochs, RunId),
        (checkpoint, done): (Checkpoint, RunWork),
        durable_at: Timestamp,
    ) {
        let old_epoch_accepted = self.mutations.breaks(Mutation::CheckpointUnderOldEpoch);
        let work = if old_epoch_accepted { self.any_work(id, run) } else { self.current_work(agent, id, epochs, run) };
        let Some((record, run)) = work else { return };
        let acceptable = run.snapshot.is_some() && checkpoint.seq <= record.size_bytes;
        if !acceptable {
            return;
        }
        if checkpoint.seq <= run.checkpoint.seq {
            let seq = run.checkpoint.seq;
            self.acknowledge(agent, &record, run.id, seq);
            return;
        }
        let ack_seq = checkpoint.seq;
        let run = Self::with_work(&record, run, done);
        let changes = self.checkpoint_changes(agent, &record, &run, checkpoint, epochs, durable_at);
        let ack = self.ack_of(&record, run.id, ack_seq).and_then(|message| self.to_agent(agent, message));
        self.commit_current(&record, changes, ack.into_iter().collect());
    }

    fn any_work(&self, id: ReplicationId, run: RunId) -> Option<(ReplicationRecord, RunRecord)> {
        Some((self.state.replications.get(&id)?.clone(), self.state.runs.get(&(id, run))?.clone()))
    }

    fn ack_of(&self, record: &ReplicationRecord, run: RunId, seq: u64) -> Option<ServerMessage> {
        let stamp = self.stamp(record, record.holder.as_ref()?);
        Some(ServerMessage::CheckpointAck { stamp, run, seq })
    }

    fn acknowledge(&mut self, agent: &AgentName, record: &ReplicationRecord, run: RunId, seq: u64) {
        if let Some(message) = self.ack_of(record, run, seq) {
            self.send(agent, message);
        }
    }

    fn checkpoint_changes(
        &self,
        agent: &AgentName,
        record: &ReplicationRecord,
        run: &RunRecord,
        checkpoint: Checkpoint,
        epochs: Epochs,
        durable_at: Timestamp,
    ) -> Vec<Change> {
        let mut next = run.clone();
        next.checkpoint = checkpoint;
        next.failure = None;
        // The holder is who it was granted to be; which reader sent the bytes, it may not know yet.
        next.checkpoint_epochs = Epochs { source: record.epochs.source, target: epochs.target };
        next.checkpoint_at = Some(self.now.wall);
        next.agent = Some(agent.clone());
        next.state = match run.verify {
            _ if checkpoint.seq < record.size_bytes => RunState::Copying,
            VerifyMode::Full => RunState::Verifying,
            _ => RunState::Flushed,
        };
        let mut changes = self.first_write_changes(agent, record, run, durable_at);
        changes.push(Change::PutRun(Box::new(next)));
        changes
    }

    /// The first checkpoint of an epoch completes the record of its takeover.
    fn first_write_changes(
        &self,
        agent: &AgentName,
        record: &ReplicationRecord,
        run: &RunRecord,
        durable_at: Timestamp,
    ) -> Vec<Change> {
        let takeover = self.state.takeovers.get(&(record.id, record.epochs.target.0));
        // Only of a run that was in progress: otherwise its first write says nothing of the takeover.
        let open = |t: &&TakeoverRecord| t.first_durable_write_at.is_none() && t.run == Some(run.id);
        let Some(takeover) = takeover.filter(open) else { return Vec::new() };
        let mut done = takeover.clone();
        // By the agent's clock, within what is known of the order of things: after the activation, and before this moment.
        let activated_at = takeover.activated_at.unwrap_or(takeover.committed_at);
        done.first_durable_write_at = Some(durable_at.min(self.now.wall).max(activated_at));
        done.resumed_seq = run.checkpoint.seq;
        done.copied_again_bytes = Some(copied_again(record, run));
        vec![self.first_write_event(agent, record, run, &done), Change::PutTakeover(Box::new(done))]
    }

    fn first_write_event(
        &self,
        agent: &AgentName,
        record: &ReplicationRecord,
        run: &RunRecord,
        takeover: &TakeoverRecord,
    ) -> Change {
        let took = takeover.first_durable_write_at.unwrap_or_default().since(takeover.suspected_at).as_millis();
        let message = format!(
            "agent {agent} wrote durably {took} ms after the first suspicion, from byte {} of run {}",
            run.checkpoint.seq, run.id
        );
        self.event_of(record, Some(agent), EventCode::FirstDurableWrite, message)
    }
}

/// An upper bound: a predecessor stalls one window past its last committed checkpoint.
fn copied_again(record: &ReplicationRecord, run: &RunRecord) -> u64 {
    if run.takeovers == 0 {
        return 0;
    }
    (record.size_bytes - run.checkpoint.seq.min(record.size_bytes)).min(STALL_WINDOW_BYTES)
}
