//! The block engine, as small as it can be: it opens, locks, makes a snapshot, copies block by block, flushes, halts, closes. Each is a step
//! of its own, at any time after it was ordered; whether it goes on copying or flushes first is open at every block.
//!
//! What it reports is handled with the step that it reports: that it may have been made earlier shows as well in what is still on its
//! way to the server. Left out: what is skipped because it is there already (every block is written), a flush or a read that fails, a
//! volume that is slow to close.

use tanist_model::id::{Epochs, SnapshotId};
use tanist_model::policy::SourceMode;
use tanist_model::run::{BoundSnapshot, ChainDigest, Checkpoint};
use tanist_model::time::Timestamp;
use tanist_protocol::agent::{EngineCommand, EngineEvent, Input, Phase, Work};
use tanist_protocol::message::{FenceReport, RunFailureKind};
use tanist_protocol::mutation::Mutation;

use super::Bounds;
use super::agents::Heard;
use super::checks::uid_of;
use super::storage::{Version, Write};
use super::world::{BLOCK_BYTES, Engine, Job, World, volume};

/// Writes of one engine that may be in flight at once.
const QUEUE_DEPTH: usize = 2;

/// The next step of an engine.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Step {
    Open,
    Lock,
    Prepare,
    Submit,
    Flush,
    /// The whole snapshot is there.
    Done,
    Halted,
    Close,
}

fn checkpoint(blocks: usize) -> Checkpoint {
    Checkpoint { seq: blocks as u64 * BLOCK_BYTES, chain: ChainDigest([u8::try_from(blocks).unwrap_or(u8::MAX); 32]) }
}

fn blocks_of(checkpoint: &Checkpoint) -> usize {
    usize::try_from(checkpoint.seq / BLOCK_BYTES).unwrap_or(usize::MAX)
}

fn snapshot_of(id: SnapshotId, version: Version, blocks: usize) -> BoundSnapshot {
    let (uid, size_bytes) = (uid_of(version), blocks as u64 * BLOCK_BYTES);
    BoundSnapshot { id, uid, mode: SourceMode::Snapshot, size_bytes, application: None }
}

impl Engine {
    fn unflushed(&self) -> bool {
        self.job.as_ref().is_some_and(|job| job.next > job.durable)
    }

    /// What it can do now, with so many of its writes in flight.
    pub fn steps(&self, in_flight: usize, blocks: usize) -> Vec<Step> {
        if !self.opened {
            return vec![Step::Open];
        }
        let quiet = in_flight == 0;
        match (self.closing, self.halting) {
            (Some(true), _) | (None, Some(_)) if self.unflushed() => {
                return quiet.then_some(Step::Flush).into_iter().collect();
            }
            (Some(_), _) => return quiet.then_some(Step::Close).into_iter().collect(),
            (None, Some(_)) => return quiet.then_some(Step::Halted).into_iter().collect(),
            (None, None) => {}
        }
        let mut steps = Vec::new();
        steps.extend(self.wants_lock.then_some(Step::Lock));
        steps.extend(self.preparing.map(|_| Step::Prepare));
        if let Some(job) = &self.job {
            steps.extend((job.next < blocks && in_flight < QUEUE_DEPTH).then_some(Step::Submit));
            steps.extend((quiet && job.next > job.durable).then_some(Step::Flush));
            steps.extend((job.durable == blocks).then_some(Step::Done));
        }
        steps
    }
}

impl Bounds {
    pub fn command_engine(&self, world: &mut World, agent: usize, epochs: Epochs, command: EngineCommand) {
        if let EngineCommand::Open { .. } = command {
            world.check_opening(agent, epochs);
            if let Some(process) = world.process(agent) {
                process.engines.insert(epochs, Engine::default());
            }
            return;
        }
        if let EngineCommand::Release { snapshots } = &command {
            world.storage.snapshots.retain(|id, _| !snapshots.contains(id));
            return;
        }
        let found = match &command {
            EngineCommand::Copy { copy, .. } => world.storage.snapshots.get(&copy.snapshot.id).copied(),
            _ => None,
        };
        let Some(engine) = world.process(agent).and_then(|p| p.engines.get_mut(&epochs)) else { return };
        match command {
            EngineCommand::TryLock => engine.wants_lock = !engine.locked,
            EngineCommand::Prepare { run, attempt, .. } => engine.preparing = Some((run, attempt)),
            EngineCommand::Copy { copy, .. } => {
                // A snapshot that is not the bound one is as good as none.
                let version = found.filter(|version| uid_of(*version) == copy.snapshot.uid).unwrap_or_default();
                let next = blocks_of(&copy.from);
                engine.job = Some(Job { run: copy.run, snapshot: copy.snapshot.id, version, next, durable: next });
            }
            EngineCommand::Halt { run } => (engine.halting, engine.preparing) = (Some(run), None),
            EngineCommand::Close { graceful, .. } => engine.closing = Some(graceful && engine.closing.unwrap_or(true)),
            // The window is larger than these volumes, the target makes no snapshots, and nothing is verified twice.
            _ => {}
        }
    }

    /// Takes one step of an engine, and tells the agent.
    pub fn engine_steps(&self, world: &mut World, agent: usize, epochs: Epochs, step: Step) -> Option<()> {
        let event = match step {
            Step::Open => Some(self.open(world, agent, epochs)?),
            Step::Lock => self.lock(world, agent, epochs)?,
            Step::Prepare => Some(self.prepare(world, agent, epochs)?),
            Step::Submit => submit(world, agent, epochs)?,
            Step::Flush => Some(self.flush(world, agent, epochs)?),
            Step::Done => {
                let job = engine(world, agent, epochs)?.job.take()?;
                Some(EngineEvent::CopyDone { run: job.run, checkpoint: checkpoint(job.durable), verified: true })
            }
            Step::Halted => {
                let engine = engine(world, agent, epochs)?;
                engine.job = None;
                Some(EngineEvent::Halted { run: engine.halting.take()? })
            }
            Step::Close => {
                let writer = world.writer(agent, epochs)?;
                world.process(agent)?.engines.remove(&epochs);
                world.storage.close(|of| *of == writer);
                Some(EngineEvent::Closed)
            }
        };
        match event {
            Some(event) => {
                let replication = world.replication()?.id;
                self.agent_hears(world, agent, Heard::Other(Input::Engine { replication, epochs, event }))
            }
            None => Some(()),
        }
    }

    fn fence(&self, world: &World, locked: bool) -> Option<FenceReport> {
        let target = volume("b")?.to_string();
        let locked = locked.then(|| world.storage.lock_name(&target).to_owned());
        Some(FenceReport { locked, lock_place: None, reservation: None })
    }

    fn open(&self, world: &mut World, agent: usize, epochs: Epochs) -> Option<EngineEvent> {
        let writer = world.writer(agent, epochs)?;
        let locked = world.storage.open(writer);
        let engine = engine(world, agent, epochs)?;
        (engine.opened, engine.locked) = (true, locked);
        Some(EngineEvent::Opened { fence: self.fence(world, locked)? })
    }

    fn lock(&self, world: &mut World, agent: usize, epochs: Epochs) -> Option<Option<EngineEvent>> {
        let writer = world.writer(agent, epochs)?;
        let locked = world.storage.try_lock(writer);
        let engine = engine(world, agent, epochs)?;
        (engine.locked, engine.wants_lock) = (locked, false);
        let fence = self.fence(world, locked)?;
        Some(locked.then_some(EngineEvent::Locked { fence }))
    }

    fn prepare(&self, world: &mut World, agent: usize, epochs: Epochs) -> Option<EngineEvent> {
        let (run, attempt) = engine(world, agent, epochs)?.preparing.take()?;
        let version = world.storage.snapshot(attempt);
        let snapshot = snapshot_of(attempt, version, self.blocks);
        Some(EngineEvent::SnapshotMade { run, snapshot, kept: None })
    }

    fn flush(&self, world: &mut World, agent: usize, epochs: Epochs) -> Option<EngineEvent> {
        let boot = world.boot_of(agent);
        let job = engine(world, agent, epochs)?.job.as_mut()?;
        job.durable = job.next;
        let event = EngineEvent::Durable { run: job.run, checkpoint: checkpoint(job.durable), at: Timestamp(0) };
        if !self.broken.breaks(Mutation::CheckpointBeforeFlush) {
            world.storage.flush(boot);
        }
        Some(event)
    }

    /// What a process does that takes itself for its predecessor: it opens the target anew and goes on where that one was.
    pub fn resume(&self, world: &mut World, agent: usize) {
        let Some(process) = world.process(agent) else { return };
        let acting = process.machine.roles().values().find_map(|role| match &role.phase {
            Phase::Active { work: Work::Copying { run, .. } } => Some((role.epochs, *run)),
            _ => None,
        });
        let Some((epochs, run)) = acting else { return };
        process.granted.push(epochs);
        let bound = world.store.runs.values().find(|known| known.id == run).cloned();
        let Some((snapshot, from)) = bound.and_then(|run| Some((run.snapshot?.id, blocks_of(&run.checkpoint)))) else {
            return;
        };
        let version = world.storage.snapshots.get(&snapshot).copied().unwrap_or_default();
        let Some(writer) = world.writer(agent, epochs) else { return };
        let locked = world.storage.open(writer);
        let job = Some(Job { run, snapshot, version, next: from, durable: from });
        if let Some(process) = world.process(agent) {
            process.engines.insert(epochs, Engine { opened: true, locked, job, ..Engine::default() });
        }
    }
}

fn engine(world: &mut World, agent: usize, epochs: Epochs) -> Option<&mut Engine> {
    world.process(agent)?.engines.get_mut(&epochs)
}

/// The next block of the snapshot goes its way.
fn submit(world: &mut World, agent: usize, epochs: Epochs) -> Option<Option<EngineEvent>> {
    let by = world.writer(agent, epochs)?;
    let job = engine(world, agent, epochs)?.job.as_mut()?;
    let write = Write { by, block: job.next, version: job.version };
    let (run, snapshot) = (job.run, job.snapshot);
    job.next += 1;
    if world.storage.snapshots.get(&snapshot) != Some(&write.version) {
        engine(world, agent, epochs)?.job = None;
        let reason = "the snapshot is gone".to_owned();
        return Some(Some(EngineEvent::RunFailed { run, kind: RunFailureKind::SnapshotGone, reason }));
    }
    world.check_submitted(write);
    world.storage.submit(write);
    Some(None)
}
