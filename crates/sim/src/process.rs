//! Processes: an agent and a server, each one machine behind one interpreter, an inbox before it and engines beside it.

use std::collections::{BTreeMap, VecDeque};

use tanist_model::id::{Epochs, ReplicationId, RunId, Term, VolumeAddress};
use tanist_protocol::agent::way::WayFinder;
use tanist_protocol::agent::{self, AgentMachine};
use tanist_protocol::driver::Interpreter;
use tanist_protocol::message::PeerAddress;
use tanist_protocol::server::{self, ServerMachine};

use crate::disk::WriteId;
use crate::engine::Engine;
use crate::reader::ReaderEngine;
use crate::world::{Event, World};

pub type Pid = u64;

/// One engine per replication and epochs, as in the product.
pub type EngineKey = (ReplicationId, Epochs);
/// One reader's engine per replication and source epoch.
pub type ReaderKey = (ReplicationId, Epochs);

/// What a process has read and not handled yet.
#[derive(Debug)]
pub enum Item<I> {
    Input(I),
    /// A new connection of an agent stands; the machine introduces itself on it.
    Connected(u64),
    Disconnected(u64),
}

/// What both kinds of process have.
#[derive(Debug)]
pub struct Shell<I, E> {
    pub pid: Pid,
    pub inbox: VecDeque<Item<I>>,
    pub interpreter: Interpreter<E>,
    pub scheduled: bool,
    pub paused: bool,
    /// What happened to it while it was stopped.
    pub deferred: Vec<Event>,
}

impl<I, E: Clone> Shell<I, E> {
    #[must_use]
    pub fn new(pid: Pid, interpreter: Interpreter<E>) -> Self {
        Self { pid, inbox: VecDeque::new(), interpreter, scheduled: false, paused: false, deferred: Vec::new() }
    }
}

/// A running agent.
#[derive(Debug)]
pub struct AgentProcess {
    pub shell: Shell<agent::Input, agent::Effect>,
    pub machine: AgentMachine,
    /// The connection that stands, and the one on which the machine has said Hello.
    pub pending: Option<u64>,
    pub connection: Option<u64>,
    /// Open until the server has spoken on the one that took its place.
    pub replaced: Option<u64>,
    pub finder: WayFinder,
    /// When the way finder is looked after next.
    pub way_due: Option<u64>,
    pub engines: BTreeMap<EngineKey, Engine>,
    pub readers: BTreeMap<ReaderKey, ReaderEngine>,
    pub watch: (Vec<PeerAddress>, Vec<VolumeAddress>),
    /// What this process was granted and what it has drained, as the checker saw it.
    pub granted: Vec<EngineKey>,
    pub drained: Vec<EngineKey>,
    pub leaving: bool,
}

/// An agent as an installation: it outlives its processes.
#[derive(Debug)]
pub struct AgentSlot {
    /// What its processes have encoded, block by block: the files of digests in its directory.
    pub digests: BTreeMap<(ReplicationId, RunId), BTreeMap<usize, u64>>,
    /// Its peers as assigned last, in its directory.
    pub acquaintances: Vec<PeerAddress>,
    pub host: usize,
    pub process: Option<AgentProcess>,
    /// The cache of granted epochs on its disk.
    pub remembered: Vec<(ReplicationId, Epochs)>,
    /// Its way to storage is broken.
    pub path_lost: bool,
    pub flush_fails: bool,
    pub io_fails: bool,
    /// So many of the next verifications find a difference.
    pub mismatches: u32,
    /// The machine of a killed process, kept for the mutation that resumes it.
    pub corpse: Option<Box<AgentMachine>>,
}

impl AgentSlot {
    #[must_use]
    pub fn new(host: usize) -> Self {
        Self {
            digests: BTreeMap::new(),
            host,
            acquaintances: Vec::new(),
            process: None,
            remembered: Vec::new(),
            path_lost: false,
            flush_fails: false,
            io_fails: false,
            mismatches: 0,
            corpse: None,
        }
    }

    pub fn heal(&mut self) {
        (self.path_lost, self.flush_fails, self.io_fails, self.mismatches) = (false, false, false, 0);
    }
}

/// A running server.
#[derive(Debug)]
pub struct ServerProcess {
    pub shell: Shell<server::Input, server::Effect>,
    pub machine: ServerMachine,
    pub term: Term,
}

/// A host: its installation stays, its boot changes.
#[derive(Debug)]
pub struct Host {
    pub machine_id: String,
    pub boot: u64,
    pub up: bool,
}

impl World {
    /// Some of what a process that stops has in flight is in a queue that stops with it.
    pub fn hold_writes_of(&mut self, pid: Pid) {
        for write in self.disks.writes.values_mut().filter(|w| w.pid == pid && w.by_array.is_none()) {
            write.held |= self.rng.chance(700);
        }
    }

    /// What the kernel held back for a stopped process goes its way.
    pub fn release_held_writes(&mut self, pid: Pid) {
        let held: Vec<WriteId> =
            self.disks.writes.iter().filter(|(_, w)| w.pid == pid && w.held).map(|(id, _)| *id).collect();
        for id in held {
            if let Some(write) = self.disks.writes.get_mut(&id) {
                write.held = false;
            }
            let lands = self.now + self.rng.between(100, 100_000);
            self.at(lands, Event::WriteLands(id));
        }
    }
}
