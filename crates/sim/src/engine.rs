//! The block engine's model: it opens, locks, prepares, copies block by block, flushes, and says what it did. Slower and
//! clumsier than the real one on purpose: between any two of its steps its process can be stopped or killed.

use std::collections::{BTreeMap, BTreeSet};

use tanist_datapath::gate::OpenRun;
use tanist_model::byte_range::ByteRanges;
use tanist_model::id::{CommandId, RunId, SnapshotId};
use tanist_model::policy::SourceMode;
use tanist_model::run::{BoundSnapshot, ChainDigest, Checkpoint, RunMethod};
use tanist_protocol::agent::{EngineCommand, EngineEvent, Input, Phase, Work};
use tanist_protocol::fence::ReservationAnswer;
use tanist_protocol::fence::key::ReservationKey;
use tanist_protocol::fence::seizure::Seizure;
use tanist_protocol::message::{CopyOrder, RunFailureKind, StreamKey};
use tanist_protocol::mutation::Mutation;

use crate::disk::{Boot, DescriptorId, Write, WriteId};
use crate::links::Place;
use crate::process::{EngineKey, Item, Pid};
use crate::reader::open_gate;
use crate::scenario::{BLOCK_BYTES, WINDOW_BLOCKS};
use crate::world::{Event, World};

const QUEUE_DEPTH: usize = 3;
/// A stream from which nothing comes for so long is broken.
const STREAM_SILENCE_US: u64 = 3_000_000;

/// What an engine was waiting for.
#[derive(Clone, Debug)]
pub enum EngineEventKind {
    Opened,
    Prepared {
        run: RunId,
        attempt: SnapshotId,
        mode: SourceMode,
        keep: Option<SnapshotId>,
    },
    Pump,
    /// The storage is asked for copies of earlier epochs.
    AskArray(CommandId),
    Landed(usize),
    Flushed,
    Verified,
    /// The unit answers a command about its reservation.
    Answered(ReservationAnswer),
    /// The unit refuses a write, or has ended it.
    ShutOut(usize),
    /// A write has failed.
    Failed(usize),
}

/// A copy in progress.
#[derive(Clone, Debug)]
pub struct Job {
    pub id: u64,
    pub run: RunId,
    pub snapshot: BoundSnapshot,
    /// Blocks submitted, flushed, committed.
    pub next: usize,
    durable: usize,
    committed: usize,
    /// Blocks that are being written.
    pub in_flight: BTreeSet<usize>,
    stride: usize,
    /// Up to where the flush in progress makes durable.
    flushing: Option<usize>,
    /// It flushes with writes in flight.
    eager: bool,
    verifying: bool,
    /// It only looks at the target.
    reads_only: bool,
    pub failed: Option<RunFailureKind>,
    pub method: RunMethod,
    pub unconditional: ByteRanges,
    /// The stream that it copies from, in the networked form, what has come of it, and when.
    pub gate: Option<OpenRun>,
    /// What each block holds, and whether its reader has stored that it did not change.
    pub received: BTreeMap<usize, (u64, bool)>,
    pub heard: u64,
}

impl Job {
    /// Up to where everything is written; a block that is under way holds back what lies above it.
    fn reached(&self, broken: Option<Mutation>) -> usize {
        match broken {
            Some(Mutation::SeqCountsBlocks) => self.next - self.in_flight.len(),
            _ => self.in_flight.first().copied().unwrap_or(self.next),
        }
    }
}

/// The engine of one replication and epochs in one process.
#[derive(Clone, Debug)]
pub struct Engine {
    pub volume: usize,
    pub descriptor: Option<DescriptorId>,
    pub locked: bool,
    pub opened: bool,
    /// The key to reserve the target with, and how far it is.
    pub reserve: Option<ReservationKey>,
    pub seizure: Option<Seizure>,
    /// It may order the storage to copy.
    pub orders_copies: bool,
    pub job: Option<Job>,
    preparing: Option<(RunId, u64)>,
    halting: Option<RunId>,
    /// Graceful or not.
    pub closing: Option<bool>,
    /// The storage does not let go before this moment: a flush that takes long, an array that is busy.
    stuck_until: u64,
    /// The next flush fails: one of another process of the host did.
    pub owes_error: bool,
    target_snapshots_to_remove: Vec<SnapshotId>,
    source_snapshots_to_remove: Vec<SnapshotId>,
}

impl Engine {
    /// One that is yet to be opened.
    #[must_use]
    pub fn new(volume: usize, reserve: Option<ReservationKey>) -> Self {
        Self {
            volume,
            descriptor: None,
            locked: false,
            opened: false,
            reserve,
            seizure: None,
            orders_copies: false,
            job: None,
            preparing: None,
            halting: None,
            closing: None,
            stuck_until: 0,
            owes_error: false,
            target_snapshots_to_remove: Vec::new(),
            source_snapshots_to_remove: Vec::new(),
        }
    }
}

fn checkpoint(blocks: usize) -> Checkpoint {
    Checkpoint { seq: blocks as u64 * BLOCK_BYTES, chain: ChainDigest([u8::try_from(blocks).unwrap_or(0); 32]) }
}

fn blocks(seq: u64) -> usize {
    usize::try_from(seq / BLOCK_BYTES).unwrap_or(usize::MAX)
}

impl World {
    pub fn engine_mut(&mut self, agent: usize, key: EngineKey) -> Option<&mut Engine> {
        self.agents[agent].process.as_mut()?.engines.get_mut(&key)
    }

    pub fn pid_of(&self, agent: usize) -> Pid {
        self.agents[agent].process.as_ref().map_or(0, |p| p.shell.pid)
    }

    pub fn boot_of(&self, agent: usize) -> Boot {
        let host = self.agents[agent].host;
        Boot { host, number: self.hosts[host].boot }
    }

    pub fn after(&mut self, agent: usize, key: EngineKey, generation: u64, wait: u64, kind: EngineEventKind) {
        let pid = self.pid_of(agent);
        self.at(self.now + wait, Event::Engine { pid, key, generation, kind });
    }

    pub fn report(&mut self, agent: usize, (replication, epochs): EngineKey, event: EngineEvent) {
        self.note("engine", agent as u64, || format!("h{} {epochs}: {event:?}", agent + 1));
        let pid = self.pid_of(agent);
        self.give_agent(pid, Item::Input(Input::Engine { replication, epochs, event }));
    }

    pub fn command_engine(&mut self, agent: usize, key: EngineKey, command: EngineCommand) {
        self.note("order", agent as u64, || format!("h{} {}: {command:?}", agent + 1, key.1));
        match command {
            EngineCommand::Open { assignment } => {
                let volume = self.replications.iter().position(|n| *n == assignment.name).unwrap_or(0);
                self.open_engine(agent, key, volume, assignment.reserve);
                if let Some(engine) = self.engine_mut(agent, key) {
                    engine.orders_copies = assignment.array_copies;
                }
            }
            EngineCommand::TryLock => self.try_lock(agent, key),
            EngineCommand::AskArray { question } => self.ask_array(agent, key, question),
            EngineCommand::Prepare { run, attempt, mode, keep, .. } => {
                let generation = self.rng.draw();
                if let Some(engine) = self.engine_mut(agent, key) {
                    engine.preparing = Some((run, generation));
                }
                let wait = self.rng.between(500, 30_000);
                self.after(agent, key, generation, wait, EngineEventKind::Prepared { run, attempt, mode, keep });
            }
            EngineCommand::Copy { copy, source } => {
                self.start_copy(agent, key, *copy, source.stream());
            }
            // Everything is there already: what follows is the reading.
            EngineCommand::Verify { copy } => {
                self.start_copy(agent, key, *copy, None);
                if let Some(job) = self.engine_mut(agent, key).and_then(|e| e.job.as_mut()) {
                    job.reads_only = true;
                }
            }
            EngineCommand::Keep { run, keep } => self.keep(agent, key, run, keep),
            EngineCommand::Committed { run, seq } => {
                if let Some(job) = self.engine_mut(agent, key).and_then(|e| e.job.as_mut()).filter(|j| j.run == run) {
                    job.committed = job.committed.max(blocks(seq));
                }
                self.pump(agent, key);
            }
            EngineCommand::Halt { run } => self.halt(agent, key, run),
            EngineCommand::Published { run } => self.keep_digests(agent, key.0, run),
            EngineCommand::Release { snapshots } => self.remove_source_snapshots(key.0, &snapshots),
            EngineCommand::Expire { snapshots, keep } => self.expire(agent, key, snapshots, &keep),
            EngineCommand::Close { graceful, release } => {
                let wait = if self.rng.chance(self.scenario.stuck_closes_per_mille) {
                    self.rng.between(5_000_000, 9_000_000)
                } else {
                    0
                };
                let stuck_until = self.now + wait;
                let Some(engine) = self.engine_mut(agent, key) else { return };
                if wait > 0 && engine.closing.is_none() {
                    engine.stuck_until = stuck_until;
                    self.after(agent, key, 0, wait, EngineEventKind::Pump);
                }
                let Some(engine) = self.engine_mut(agent, key) else { return };
                let release = release.unwrap_or_default();
                engine.source_snapshots_to_remove = release.source_snapshots;
                engine.target_snapshots_to_remove = release.target_snapshots;
                engine.closing = Some(graceful && engine.closing.unwrap_or(true));
                self.pump(agent, key);
            }
        }
    }

    fn prepared(
        &mut self,
        agent: usize,
        key: EngineKey,
        run: RunId,
        attempt: SnapshotId,
        mode: SourceMode,
        keep: Option<SnapshotId>,
    ) {
        let Some(engine) = self.engine_mut(agent, key) else { return };
        engine.preparing = None;
        let volume = engine.volume;
        if self.agents[agent].path_lost || self.agents[agent].io_fails {
            self.coverage.note_failure(RunFailureKind::Snapshot);
            let reason = "the storage does not answer".to_owned();
            return self.report(agent, key, EngineEvent::RunFailed { run, kind: RunFailureKind::Snapshot, reason });
        }
        let kept = keep.filter(|_| self.scenario.target_snapshots).map(|id| self.keep_target(volume, id));
        let snapshot = self.make_snapshot(volume, attempt, mode);
        self.report(agent, key, EngineEvent::SnapshotMade { run, snapshot, kept });
    }

    fn keep(&mut self, agent: usize, key: EngineKey, run: RunId, keep: Option<SnapshotId>) {
        let Some(volume) = self.engine_mut(agent, key).map(|e| e.volume) else { return };
        let uid = keep.filter(|_| self.scenario.target_snapshots).map(|id| self.keep_target(volume, id));
        self.report(agent, key, EngineEvent::Kept { run, uid });
    }

    fn start_copy(&mut self, agent: usize, key: EngineKey, copy: CopyOrder, stream: Option<StreamKey>) {
        let CopyOrder { run, snapshot, from, committed, method, unconditional, .. } = copy;
        let now = self.now;
        let gate = stream.map(|stream| open_gate(run, &stream, snapshot.size_bytes));
        let id = self.rng.draw();
        let stride = 1 + self.rng.index(4);
        let Some(engine) = self.engine_mut(agent, key) else { return };
        let next = blocks(from.seq);
        engine.job = Some(Job {
            id,
            run,
            snapshot,
            next,
            durable: next,
            committed: blocks(committed),
            in_flight: BTreeSet::new(),
            stride,
            flushing: None,
            eager: id & 1 == 1,
            verifying: false,
            reads_only: false,
            failed: None,
            method,
            unconditional,
            gate,
            received: BTreeMap::new(),
            heard: now,
        });
        self.coverage.copies += 1;
        self.after(agent, key, id, 100, EngineEventKind::Pump);
    }

    fn halt(&mut self, agent: usize, key: EngineKey, run: RunId) {
        if let Some(engine) = self.engine_mut(agent, key) {
            engine.halting = Some(run);
            engine.preparing = None;
            self.pump(agent, key);
        }
    }

    pub fn on_engine(&mut self, pid: Pid, key: EngineKey, generation: u64, kind: EngineEventKind) {
        let Some(agent) = self.agent_of(pid) else { return };
        let Some(engine) = self.engine_mut(agent, key) else { return };
        if let EngineEventKind::Prepared { run, attempt, mode, keep } = kind {
            if engine.preparing == Some((run, generation)) && engine.closing.is_none() {
                self.prepared(agent, key, run, attempt, mode, keep);
            }
            return;
        }
        if matches!(kind, EngineEventKind::Opened) {
            return self.opened(agent, key);
        }
        if let EngineEventKind::AskArray(question) = kind {
            return self.array_answers(agent, key, question);
        }
        if let EngineEventKind::Answered(answer) = kind {
            return self.unit_answers(agent, key, answer);
        }
        if let EngineEventKind::ShutOut(block) = kind {
            return self.shut_out(agent, key, generation, block);
        }
        if matches!(kind, EngineEventKind::Pump) && engine.closing.is_some() {
            return self.pump(agent, key);
        }
        let Some(job) = engine.job.as_mut().filter(|j| j.id == generation) else { return };
        match kind {
            EngineEventKind::Landed(block) => drop(job.in_flight.remove(&block)),
            EngineEventKind::Failed(block) => {
                job.in_flight.remove(&block);
                job.failed = Some(RunFailureKind::Io);
            }
            EngineEventKind::Flushed => return self.flushed(agent, key),
            EngineEventKind::Verified => return self.verified(agent, key),
            _ => {}
        }
        self.pump(agent, key);
    }

    /// Takes the next step of whatever the engine is doing.
    pub fn pump(&mut self, agent: usize, key: EngineKey) {
        let (total, now, broken) = (self.scenario.blocks, self.now, self.broken);
        let Some(engine) = self.engine_mut(agent, key).filter(|e| e.opened) else { return };
        let busy = engine.job.as_ref().is_some_and(|j| !j.in_flight.is_empty() || j.flushing.is_some());
        if engine.closing.is_some() && now < engine.stuck_until {
            return;
        }
        let unflushed = engine.job.as_ref().is_some_and(|j| j.failed.is_none() && j.next > j.durable);
        if busy && (engine.closing.is_some() || engine.halting.is_some()) {
            return;
        }
        match (engine.closing, engine.halting) {
            (Some(true), _) | (None, Some(_)) if unflushed => return self.flush(agent, key),
            (Some(_), _) => return self.close(agent, key),
            (None, Some(run)) => {
                (engine.job, engine.halting) = (None, None);
                return self.report(agent, key, EngineEvent::Halted { run });
            }
            (None, None) => {}
        }
        let Some(job) = engine.job.as_ref().filter(|j| j.flushing.is_none() && !j.verifying) else { return };
        if let Some(kind) = job.failed {
            if job.in_flight.is_empty() {
                self.fail_job(agent, key, kind);
            }
            return;
        }
        let stalled = job.next >= job.committed + WINDOW_BLOCKS;
        let due = job.next >= job.durable + job.stride || job.next == total || stalled;
        if job.next == total && job.durable == total && job.in_flight.is_empty() {
            return self.verify(agent, key);
        }
        if due {
            let goes = job.eager || job.in_flight.is_empty();
            if goes && job.reached(broken) > job.durable {
                self.flush(agent, key);
            }
            return;
        }
        if job.in_flight.len() < QUEUE_DEPTH {
            self.submit_next(agent, key);
        }
    }

    fn fail_job(&mut self, agent: usize, key: EngineKey, kind: RunFailureKind) {
        let Some(engine) = self.engine_mut(agent, key) else { return };
        let Some(job) = engine.job.take() else { return };
        self.coverage.note_failure(kind);
        self.report(agent, key, EngineEvent::RunFailed { run: job.run, kind, reason: format!("{kind:?}") });
    }

    /// Reads the next block, checks the source, and writes it.
    fn submit_next(&mut self, agent: usize, key: EngineKey) {
        let (pid, boot) = (self.pid_of(agent), self.boot_of(agent));
        let broken_path = self.agents[agent].path_lost || self.agents[agent].io_fails && self.rng.chance(500);
        let Some(engine) = self.engine_mut(agent, key) else { return };
        let (volume, descriptor) = (engine.volume, engine.descriptor);
        let (Some(job), Some(descriptor)) = (engine.job.clone(), descriptor) else { return };
        let read = match job.gate {
            _ if broken_path => Err(RunFailureKind::Io),
            None => self.encode(agent, (key.0, job.run, job.method), (volume, &job.snapshot), job.next),
            Some(_) => match job.received.get(&job.next) {
                Some(received) => Ok(*received),
                None if self.now >= job.heard + STREAM_SILENCE_US => Err(RunFailureKind::Link),
                None => return self.after(agent, key, job.id, 100_000, EngineEventKind::Pump),
            },
        };
        let unchanged = read.is_ok_and(|(content, stored)| self.is_unchanged(volume, &job, content, stored));
        let Some(own) = self.engine_mut(agent, key).and_then(|e| e.job.as_mut()) else { return };
        match read {
            Err(kind) => own.failed = Some(kind),
            Ok(_) if unchanged => {
                own.received.remove(&job.next);
                own.next += 1;
            }
            Ok((content, _)) => {
                own.received.remove(&job.next);
                own.next += 1;
                own.in_flight.insert(job.next);
                let write = Write {
                    descriptor,
                    replication: key.0,
                    epochs: key.1,
                    pid,
                    job: job.id,
                    uid: job.snapshot.uid.clone(),
                    block: job.next,
                    content,
                    boot,
                    held: false,
                    accepted: false,
                    host_gone: false,
                    by_array: None,
                };
                if self.may_be_ordered(agent, key, &write) {
                    return self.order_copy(agent, key, Write { accepted: true, by_array: Some(volume), ..write });
                }
                self.note("write", job.next as u64, || format!("h{} {} writes block {}", agent + 1, key.1, job.next));
                // Where a unit reserves, what is sent may be refused: it is judged when it lands.
                if self.disks.units.is_empty() {
                    self.checker.write_is_submitted(&write);
                }
                let id = self.disks.submit(write);
                let lands = self.now + self.write_latency();
                self.at(lands, Event::WriteLands(id));
            }
        }
        let wait = self.rng.between(50, 10_000);
        self.after(agent, key, job.id, wait, EngineEventKind::Pump);
    }

    pub fn write_lands(&mut self, id: WriteId) {
        if self.disks.writes.get(&id).is_none_or(|w| w.held) {
            return;
        }
        if self.disks.way_of(id).is_some() {
            return self.write_arrives(id);
        }
        self.discard_instead(id);
        let Some(write) = self.disks.land(id) else { return };
        self.note("land", write.block as u64, || {
            format!("block {} of {} {} lands", write.block, write.uid, write.epochs)
        });
        self.checker.write_lands(&write, &self.disks);
        if let Some(agent) = self.agent_of(write.pid) {
            self.after(agent, (write.replication, write.epochs), write.job, 20, EngineEventKind::Landed(write.block));
        }
    }

    fn flush(&mut self, agent: usize, key: EngineKey) {
        let broken = self.broken;
        let early = broken == Some(Mutation::CheckpointBeforeFlush);
        let Some(job) = self.engine_mut(agent, key).and_then(|e| e.job.as_mut()) else { return };
        let next = job.reached(broken);
        job.flushing = Some(next);
        let (id, run) = (job.id, job.run);
        if early {
            let at = self.clock(Place::Agent(agent)).wall;
            self.report(agent, key, EngineEvent::Durable { run, checkpoint: checkpoint(next), at });
        }
        let wait = self.rng.between(200, 20_000);
        self.after(agent, key, id, wait, EngineEventKind::Flushed);
    }

    fn flushed(&mut self, agent: usize, key: EngineKey) {
        let owed = self.engine_mut(agent, key).is_some_and(|engine| std::mem::take(&mut engine.owes_error));
        let fails = owed || self.agents[agent].flush_fails && self.rng.chance(500);
        let boot = self.boot_of(agent);
        let retried = self.broken == Some(Mutation::FailedFlushRetried);
        let early = self.broken == Some(Mutation::CheckpointBeforeFlush);
        let Some(engine) = self.engine_mut(agent, key) else { return };
        let volume = engine.volume;
        let Some(job) = engine.job.as_mut() else { return };
        let reached = job.flushing.take().unwrap_or(job.durable);
        if fails && !retried {
            job.failed = Some(RunFailureKind::Flush);
            self.fail_flush(agent, key, volume);
            return self.pump(agent, key);
        }
        job.durable = reached;
        let (run, durable) = (job.run, job.durable);
        if fails {
            self.disks.flush(volume, boot, false);
        }
        self.disks.flush(volume, boot, true);
        if !early {
            let at = self.clock(Place::Agent(agent)).wall;
            self.report(agent, key, EngineEvent::Durable { run, checkpoint: checkpoint(durable), at });
        }
        self.pump(agent, key);
    }

    fn verify(&mut self, agent: usize, key: EngineKey) {
        let Some(job) = self.engine_mut(agent, key).and_then(|e| e.job.as_mut()) else { return };
        job.verifying = true;
        let id = job.id;
        let wait = self.rng.between(100, 5000);
        self.after(agent, key, id, wait, EngineEventKind::Verified);
    }

    fn verified(&mut self, agent: usize, key: EngineKey) {
        let total = self.scenario.blocks;
        let mismatches = &mut self.agents[agent].mismatches;
        let differs = *mismatches > 0;
        *mismatches = mismatches.saturating_sub(1);
        let Some(engine) = self.engine_mut(agent, key) else { return };
        if engine.closing.is_some() || engine.halting.is_some() {
            return self.pump(agent, key);
        }
        let volume = engine.volume;
        let Some(job) = engine.job.take() else { return };
        let rotten = job.reads_only && {
            let target = self.disks.targets[volume].current();
            self.checker.differs_from_point(key.0, &job.snapshot.uid, &target)
        };
        let event = if differs || rotten {
            self.coverage.note_failure(RunFailureKind::Mismatch);
            EngineEvent::RunFailed { run: job.run, kind: RunFailureKind::Mismatch, reason: "Mismatch".to_owned() }
        } else {
            EngineEvent::CopyDone { run: job.run, checkpoint: checkpoint(total), verified: true }
        };
        self.report(agent, key, event);
    }

    fn close(&mut self, agent: usize, key: EngineKey) {
        let Some(process) = self.agents[agent].process.as_mut() else { return };
        let Some(engine) = process.engines.remove(&key) else { return };
        if let Some(descriptor) = engine.descriptor {
            self.disks.close(descriptor);
        }
        self.remove_source_snapshots(key.0, &engine.source_snapshots_to_remove);
        for id in engine.target_snapshots_to_remove {
            self.disks.targets[engine.volume].snapshots.remove(&id);
        }
        self.report(agent, key, EngineEvent::Closed);
    }

    /// The mutation: a restarted process opens its volumes anew and goes on where the old one was.
    pub fn resume_engines(&mut self, agent: usize) {
        let Some(process) = &self.agents[agent].process else { return };
        let acting: Vec<_> = process
            .machine
            .roles()
            .iter()
            .filter_map(|(id, role)| match &role.phase {
                Phase::Active { work: Work::Copying { run, .. } } => Some(((*id, role.epochs), *run)),
                _ => None,
            })
            .collect();
        for (key, run) in acting {
            let Some((volume, snapshot, from)) = self.checker.bound_run(key.0, run, &self.replications) else {
                continue;
            };
            if let Some(process) = self.agents[agent].process.as_mut() {
                process.granted.push(key);
            }
            self.open_engine(agent, key, volume, None);
            self.opened(agent, key);
            let (verify, method, unconditional) = Default::default();
            let (committed, bandwidth_bytes_per_second) = (from.seq, None);
            let copy =
                CopyOrder { run, snapshot, from, committed, verify, bandwidth_bytes_per_second, method, unconditional };
            self.start_copy(agent, key, copy, None);
        }
    }
}
