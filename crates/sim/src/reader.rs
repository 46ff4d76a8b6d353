//! The reader's engine, its streams, and the gate at the holder: the networked form in virtual time.
//!
//! Frames of one stream arrive in order and may be very late: after the stream was replaced, after the run was, after their sender
//! was. The gate is all that stands between them and the target.

use tanist_datapath::frame::{FrameKey, FrameNumber, Header, Kind, StreamGeneration};
use tanist_datapath::gate::{self, GateRules, OpenRun};
use tanist_model::id::{RunId, SnapshotId};
use tanist_model::policy::SourceMode;
use tanist_model::run::{BoundSnapshot, RunMethod};
use tanist_model::takeover::PeerVerdict;
use tanist_protocol::agent::{Input, ReaderCommand, ReaderEvent};
use tanist_protocol::message::{PeerAddress, RunFailureKind, StreamKey};
use tanist_protocol::mutation::Mutation;

use crate::disk::Write;
use crate::links::Place;
use crate::process::{AgentProcess, Item, Pid, ReaderKey};
use crate::scenario::BLOCK_BYTES;
use crate::world::{Event, World};

/// What a reader's engine was waiting for.
#[derive(Clone, Debug)]
pub enum ReaderEventKind {
    Prepared { run: RunId, attempt: SnapshotId, mode: SourceMode },
    Pump,
}

/// What travels on a stream.
#[derive(Clone, Debug)]
pub struct Frame {
    pub key: ReaderKey,
    pub stream: FrameKey,
    /// The snapshot that it was read from.
    pub uid: String,
    /// A block with what it holds; `None`: the stream has ended.
    pub block: Option<Sent>,
}

/// One block on its way.
#[derive(Clone, Debug)]
pub struct Sent {
    block: usize,
    content: u64,
    /// Its reader has stored that it did not change since the run's base.
    stored: bool,
    header: Header,
}

/// A sending in progress.
#[derive(Clone, Debug)]
struct Sending {
    id: u64,
    run: RunId,
    snapshot: BoundSnapshot,
    method: RunMethod,
    stream: StreamKey,
    holder: Pid,
    next: usize,
    last_arrival: u64,
}

impl Sending {
    fn frame_key(&self) -> FrameKey {
        frame_key(self.run, &self.stream)
    }

    /// The next block as it is sent. To the gate, what a block holds makes no difference.
    fn sent(&self, content: u64, stored: bool) -> Option<Sent> {
        let block = self.next;
        let offset = block as u64 * BLOCK_BYTES;
        let number = FrameNumber((offset - self.stream.from) / BLOCK_BYTES);
        let kind = Kind::Zeros { number, offset, length: BLOCK_BYTES };
        Some(Sent { block, content, stored, header: Header::new(self.frame_key(), kind, &[]).ok()? })
    }
}

/// What a holder lets in that waits for this stream: the product's own gate.
#[must_use]
pub fn open_gate(run: RunId, stream: &StreamKey, size_bytes: u64) -> OpenRun {
    OpenRun::new(frame_key(run, stream), 1, size_bytes, stream.from, GateRules::WHOLE)
}

fn frame_key(run: RunId, stream: &StreamKey) -> FrameKey {
    FrameKey { run, epochs: stream.epochs, generation: StreamGeneration(stream.generation) }
}

/// The engine of a reader: one replication and source epoch in one process.
#[derive(Clone, Debug, Default)]
pub struct ReaderEngine {
    volume: usize,
    preparing: Option<(RunId, u64)>,
    sending: Option<Sending>,
}

impl World {
    fn reader_mut(&mut self, agent: usize, key: ReaderKey) -> Option<&mut ReaderEngine> {
        self.agents[agent].process.as_mut()?.readers.get_mut(&key)
    }

    fn report_reader(&mut self, agent: usize, (replication, epochs): ReaderKey, event: ReaderEvent) {
        self.note("reader", agent as u64, || format!("h{} {epochs}: {event:?}", agent + 1));
        let pid = self.pid_of(agent);
        self.give_agent(pid, Item::Input(Input::Reader { replication, epochs, event }));
    }

    pub fn command_reader(&mut self, agent: usize, key: ReaderKey, command: ReaderCommand) {
        self.note("order", agent as u64, || format!("h{} reads {}: {command:?}", agent + 1, key.1));
        match command {
            ReaderCommand::Prepare { assignment, run, attempt, mode, .. } => {
                self.open_reader(agent, key, &assignment.name);
                let generation = self.rng.draw();
                if let Some(reader) = self.reader_mut(agent, key) {
                    (reader.preparing, reader.sending) = (Some((run, generation)), None);
                }
                let wait = self.rng.between(500, 30_000);
                self.reader_after(agent, key, generation, wait, ReaderEventKind::Prepared { run, attempt, mode });
            }
            ReaderCommand::Send { assignment, run, snapshot, method, holder, stream, .. } => {
                self.open_reader(agent, key, &assignment.name);
                self.begin_sending(agent, key, (run, snapshot, method), &holder, stream);
            }
            ReaderCommand::Published { run } => self.keep_digests(agent, key.0, run),
            ReaderCommand::Rest => {
                if let Some(reader) = self.reader_mut(agent, key) {
                    (reader.preparing, reader.sending) = (None, None);
                }
            }
            ReaderCommand::Release { snapshots, .. } => self.remove_source_snapshots(key.0, &snapshots),
            ReaderCommand::Close => {
                if let Some(process) = self.agents[agent].process.as_mut() {
                    process.readers.remove(&key);
                }
                self.report_reader(agent, key, ReaderEvent::Closed);
            }
        }
    }

    fn reader_after(&mut self, agent: usize, key: ReaderKey, generation: u64, wait: u64, kind: ReaderEventKind) {
        let pid = self.pid_of(agent);
        self.at(self.now + wait, Event::Reader { pid, key, generation, kind });
    }

    fn open_reader(&mut self, agent: usize, key: ReaderKey, name: &tanist_model::id::ReplicationName) {
        let volume = self.replications.iter().position(|n| n == name).unwrap_or(0);
        if let Some(process) = self.agents[agent].process.as_mut() {
            process.readers.entry(key).or_default().volume = volume;
        }
    }

    fn begin_sending(
        &mut self,
        agent: usize,
        key: ReaderKey,
        (run, snapshot, method): (RunId, BoundSnapshot, RunMethod),
        holder: &PeerAddress,
        stream: StreamKey,
    ) {
        let to = self.index_of(&holder.agent).filter(|to| self.is_reached(agent, *to));
        let Some(holder) = to.map(|to| self.pid_of(to)) else {
            let (kind, reason) = (RunFailureKind::Link, "the holder is not reached".to_owned());
            return self.report_reader(agent, key, ReaderEvent::Failed { run, kind, reason });
        };
        let id = self.rng.draw();
        let next = usize::try_from(stream.from / BLOCK_BYTES).unwrap_or(usize::MAX);
        let now = self.now;
        if let Some(reader) = self.reader_mut(agent, key) {
            reader.sending = Some(Sending { id, run, snapshot, method, stream, holder, next, last_arrival: now });
        }
        let wait = self.rng.between(500, 5000);
        self.reader_after(agent, key, id, wait, ReaderEventKind::Pump);
    }

    fn is_reached(&self, from: usize, to: usize) -> bool {
        from == to || matches!(self.reach(from, to), PeerVerdict::Reached { .. })
    }

    pub fn on_reader(&mut self, pid: Pid, key: ReaderKey, generation: u64, kind: ReaderEventKind) {
        let Some(agent) = self.agent_of(pid) else { return };
        let Some(reader) = self.reader_mut(agent, key) else { return };
        match kind {
            ReaderEventKind::Prepared { run, attempt, mode } => {
                if reader.preparing.take_if(|p| *p == (run, generation)).is_some() {
                    self.snapshot_made(agent, key, run, attempt, mode);
                }
            }
            ReaderEventKind::Pump => {
                if reader.sending.as_ref().is_some_and(|s| s.id == generation) {
                    self.send_next(agent, key);
                }
            }
        }
    }

    fn snapshot_made(&mut self, agent: usize, key: ReaderKey, run: RunId, attempt: SnapshotId, mode: SourceMode) {
        let Some(volume) = self.reader_mut(agent, key).map(|r| r.volume) else { return };
        let event = if self.agents[agent].path_lost || self.agents[agent].io_fails {
            self.coverage.note_failure(RunFailureKind::Snapshot);
            let (kind, reason) = (RunFailureKind::Snapshot, "the storage does not answer".to_owned());
            ReaderEvent::Failed { run, kind, reason }
        } else {
            ReaderEvent::SnapshotMade { run, snapshot: self.make_snapshot(volume, attempt, mode) }
        };
        self.report_reader(agent, key, event);
    }

    /// Sends the next block, unless the reader is cut off or cannot read.
    fn send_next(&mut self, agent: usize, key: ReaderKey) {
        let total = self.scenario.blocks;
        let broken_path = self.agents[agent].path_lost || self.agents[agent].io_fails && self.rng.chance(500);
        let Some(reader) = self.reader_mut(agent, key) else { return };
        let volume = reader.volume;
        let Some(sending) = reader.sending.clone().filter(|s| s.next < total) else { return };
        let to = self.agent_of(sending.holder).filter(|to| !self.is_cut(agent, *to));
        let read = match to {
            None => Err(RunFailureKind::Link),
            Some(_) if broken_path => Err(RunFailureKind::Io),
            Some(_) => {
                let what = (key.0, sending.run, sending.method);
                self.encode(agent, what, (volume, &sending.snapshot), sending.next)
            }
        };
        match read {
            Ok((content, stored)) => {
                let block = sending.sent(content, stored);
                self.transmit_frame(agent, key, block);
            }
            Err(kind) => {
                self.coverage.note_failure(kind);
                if to.is_some() {
                    self.transmit_frame(agent, key, None);
                }
                if let Some(reader) = self.reader_mut(agent, key) {
                    reader.sending = None;
                }
                let reason = format!("{kind:?}");
                self.report_reader(agent, key, ReaderEvent::Failed { run: sending.run, kind, reason });
            }
        }
    }

    /// A stopped process is connected all the same: what is sent to it waits in its kernel.
    fn is_cut(&self, from: usize, to: usize) -> bool {
        !self.links.passes(Place::Agent(from), Place::Agent(to))
    }

    fn transmit_frame(&mut self, agent: usize, key: ReaderKey, block: Option<Sent>) {
        let faulty = self.now < self.scenario.faults_end_us;
        let late = faulty && self.rng.chance(20);
        let latency = if late { self.rng.between(100_000, 6_000_000) } else { self.rng.between(100, 3000) };
        let now = self.now;
        let Some(sending) = self.reader_mut(agent, key).and_then(|r| r.sending.as_mut()) else { return };
        sending.last_arrival = (now + latency).max(sending.last_arrival + 1);
        sending.next += 1;
        let (due, id, holder) = (sending.last_arrival, sending.id, sending.holder);
        let frame = Frame { key, stream: sending.frame_key(), uid: sending.snapshot.uid.clone(), block };
        self.at(due, Event::Frame { pid: holder, frame });
        let wait = self.rng.between(50, 8000);
        self.reader_after(agent, key, id, wait, ReaderEventKind::Pump);
    }

    /// A process is gone: its kernel ends its streams.
    pub fn end_streams_of(&mut self, process: &AgentProcess) {
        for (key, reader) in &process.readers {
            if let Some(sending) = &reader.sending {
                let uid = sending.snapshot.uid.clone();
                let frame = Frame { key: *key, stream: sending.frame_key(), uid, block: None };
                let due = sending.last_arrival.max(self.now) + 500;
                let pid = sending.holder;
                self.at(due, Event::Frame { pid, frame });
            }
        }
    }

    /// The gate: a frame is admitted if it is exactly of the open run and stream, and the next one.
    pub fn frame_arrives(&mut self, pid: Pid, frame: &Frame) {
        let Some(agent) = self.agent_of(pid) else { return };
        let now = self.now;
        let Some(process) = self.agents[agent].process.as_mut() else { return };
        let engines = process.engines.iter_mut().filter(|(key, _)| key.0 == frame.key.0);
        let jobs = engines.filter_map(|(key, engine)| Some((*key, engine.job.as_mut()?)));
        let mut admitted = None;
        for (key, job) in jobs {
            let Some(open) = job.gate else { continue };
            match &frame.block {
                Some(sent) => match gate::admit(&open, &sent.header) {
                    Ok(after) => {
                        job.gate = Some(after);
                        job.received.insert(sent.block, (sent.content, sent.stored));
                    }
                    Err(_) => continue,
                },
                None if open.key == frame.stream => drop(job.failed.get_or_insert(RunFailureKind::Link)),
                None => continue,
            }
            job.heard = now;
            admitted = Some(key);
        }
        match admitted {
            Some(key) => self.pump(agent, key),
            None if self.broken == Some(Mutation::GateAdmitsOldStream) => self.write_unseen(agent, frame),
            None => {
                self.coverage.frames_refused += 1;
                self.note("gate", agent as u64, || format!("h{} refuses {frame:?}", agent + 1));
            }
        }
    }

    /// The mutation: a receiver without a gate writes whatever arrives, to whichever target of the replication it has open.
    fn write_unseen(&mut self, agent: usize, frame: &Frame) {
        let (pid, boot) = (self.pid_of(agent), self.boot_of(agent));
        let Some(process) = &self.agents[agent].process else { return };
        let open = process.engines.iter().find(|(key, engine)| key.0 == frame.key.0 && engine.job.is_some());
        let (Some((key, engine)), Some(sent)) = (open, &frame.block) else { return };
        let Sent { block, content, .. } = *sent;
        let Some(descriptor) = engine.descriptor else { return };
        let (replication, epochs) = *key;
        let (uid, job) = (frame.uid.clone(), 0);
        let write = Write {
            descriptor,
            replication,
            epochs,
            pid,
            job,
            uid,
            block,
            content,
            boot,
            held: false,
            accepted: false,
            by_array: None,
            host_gone: false,
        };
        self.checker.write_is_submitted(&write);
        let id = self.disks.submit(write);
        self.at(self.now + 100, Event::WriteLands(id));
    }
}
