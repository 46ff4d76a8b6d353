//! What a run leaves as it is: by a read of the target, or by digests that an agent has stored of the recovery point before.
//!
//! A read sees what any host has in its cache, whether it is on disk or not; stored digests are a file in the agent's directory, which
//! outlives its processes and everything that happens to the target meanwhile.

use tanist_model::byte_range::ByteRange;
use tanist_model::id::{ReplicationId, RunId};
use tanist_model::run::{BoundSnapshot, RunMethod};
use tanist_protocol::message::RunFailureKind;

use crate::engine::Job;
use crate::scenario::BLOCK_BYTES;
use crate::world::World;

impl World {
    /// Whether whoever encodes has stored that this block did not change since the run's base.
    fn is_stored(
        &self,
        agent: usize,
        replication: ReplicationId,
        method: RunMethod,
        block: usize,
        content: u64,
    ) -> bool {
        let RunMethod::Delta { base, .. } = method else { return false };
        // A file of less than the whole volume does not have the recovery point's chain.
        let whole = self.scenario.blocks;
        let stored = self.agents[agent].digests.get(&(replication, base)).filter(|blocks| blocks.len() == whole);
        stored.and_then(|blocks| blocks.get(&block)) == Some(&content)
    }

    /// A block as whoever encodes it has it, and whether it did not change since the run's base, by what is stored.
    ///
    /// # Errors
    /// Why the source cannot be read.
    pub fn encode(
        &mut self,
        agent: usize,
        (replication, run, method): (ReplicationId, RunId, RunMethod),
        (volume, snapshot): (usize, &BoundSnapshot),
        block: usize,
    ) -> Result<(u64, bool), RunFailureKind> {
        let unread = self.unread(agent, (replication, method), (volume, snapshot), block);
        let content = match unread {
            Some(content) => content,
            None => self.read_source(volume, snapshot, block)?,
        };
        self.coverage.left_unread += u64::from(unread.is_some());
        let stored = self.is_stored(agent, replication, method, block, content);
        self.note_encoded(agent, replication, run, block, content);
        Ok((content, stored))
    }

    /// What is stored of a block that the storage system does not name as changed since the snapshot that it was asked about.
    fn unread(
        &self,
        agent: usize,
        (replication, method): (ReplicationId, RunMethod),
        (volume, snapshot): (usize, &BoundSnapshot),
        block: usize,
    ) -> Option<u64> {
        let RunMethod::Delta { base, snapshot: Some(since), .. } = method else { return None };
        let digests = self.agents[agent].digests.get(&(replication, base));
        let stored = digests.filter(|blocks| blocks.len() == self.scenario.blocks)?.get(&block)?;
        let snapshots = &self.disks.sources[volume].snapshots;
        let at = |id| snapshots.get(&id).and_then(|(_, contents)| contents.get(block));
        (at(since).is_some() && at(since) == at(snapshot.id)).then_some(*stored)
    }

    /// Whether a block of a job need not be written.
    pub fn is_unchanged(&mut self, volume: usize, job: &Job, content: u64, stored: bool) -> bool {
        if stored {
            self.coverage.skipped_by_digests += 1;
            return true;
        }
        let start = job.next as u64 * BLOCK_BYTES;
        let proves_nothing = job.unconditional.overlaps(ByteRange::new(start, start + BLOCK_BYTES));
        if !job.method.compares() || proves_nothing {
            return false;
        }
        let same = self.disks.targets[volume].current().get(job.next) == Some(&content);
        self.coverage.skipped_by_comparison += u64::from(same);
        same
    }

    fn note_encoded(&mut self, agent: usize, replication: ReplicationId, run: RunId, block: usize, content: u64) {
        self.agents[agent].digests.entry((replication, run)).or_default().insert(block, content);
    }

    /// A run stands: the digests of others are of no use any more. A run that only read its target has none.
    pub fn keep_digests(&mut self, agent: usize, replication: ReplicationId, run: RunId) {
        let digests = &mut self.agents[agent].digests;
        if digests.contains_key(&(replication, run)) {
            digests.retain(|(of, kept), _| *of != replication || *kept == run);
        }
    }
}
