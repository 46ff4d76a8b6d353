//! One state of the world: the store, the servers and agents over it, what they are saying to each other, and the storage.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use tanist_model::id::{AgentName, Epochs, ReplicationId, ReplicationName, RunId, SnapshotId, Term, VolumeAddress};
use tanist_model::state::State;
use tanist_model::time::{Monotonic, Now, Timestamp};
use tanist_protocol::agent::AgentMachine;
use tanist_protocol::driver::{Interpreter, Step};
use tanist_protocol::invariants::{Verdict, Violation};
use tanist_protocol::message::{AgentMessage, PeerAddress, ServerMessage};
use tanist_protocol::server::ServerMachine;

use super::checks::Ledger;
use super::servers::Word;
use super::shared::Shared;
use super::storage::{Boot, Storage, Version, Writer};

/// How much longer it is when time has passed: longer than every wait that decides something (a grant's 2 s, the readoption's 3 s), so
/// that all are over at once, and short enough that a canary read from before still counts.
const PAUSE_US: u64 = 3_000_000;
const BEGINNING_US: u64 = 10_000_000;
pub const BLOCK_BYTES: u64 = 1 << 20;

/// What may still go wrong, or be asked for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Left {
    /// Runs that the operator asks for beyond the first.
    pub runs: u8,
    /// Agent processes that die.
    pub crashes: u8,
    /// Hosts that lose power.
    pub reboots: u8,
    /// Connections that are cut.
    pub cuts: u8,
    /// Servers that die, or are deposed by another one while they live.
    pub servers: u8,
    /// Times that everything waits for so long that every wait is over.
    pub pauses: u8,
    /// Words of the server that come again, later.
    pub echoes: u8,
}

/// A server process.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Server {
    pub term: Term,
    pub machine: Shared<ServerMachine>,
    /// The step at which it can die: see [`super::steps`].
    pub held: Option<Shared<Turn>>,
}

/// What a server has still to carry out of what it decided.
#[derive(Clone)]
pub struct Turn {
    pub interpreter: Interpreter<Word>,
    pub next: Option<Step<Word>>,
    /// The print of the machine that decided, and of what it heard. Where it came from makes no other state of what is left.
    pub decision: u64,
}

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?}", self.interpreter, self.next)
    }
}

/// An agent as an installation: it outlives its processes.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Agent {
    pub boot: u8,
    /// How many processes there have been, and how many connections.
    pub started: u8,
    pub dialled: u64,
    /// The cache of granted epochs on its disk.
    pub remembered: Vec<(ReplicationId, Epochs)>,
    pub process: Option<Process>,
    /// The machine of the last process, for the rule that no process goes on under its predecessor's epoch.
    pub corpse: Option<Shared<AgentMachine>>,
}

/// A running agent.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Process {
    pub number: u8,
    pub machine: Shared<AgentMachine>,
    pub connection: Option<u64>,
    pub engines: BTreeMap<Epochs, Engine>,
    pub watch: Shared<(Vec<PeerAddress>, Vec<VolumeAddress>)>,
    /// What this process was granted, and what it has said to be over.
    pub granted: Vec<Epochs>,
    pub drained: Vec<Epochs>,
}

/// The engine of one pair of epochs in one process, as small as it can be.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Engine {
    pub opened: bool,
    pub locked: bool,
    pub wants_lock: bool,
    pub preparing: Option<(RunId, SnapshotId)>,
    pub job: Option<Job>,
    pub halting: Option<RunId>,
    /// With a last checkpoint, or at once.
    pub closing: Option<bool>,
}

/// A copy in progress.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Job {
    pub run: RunId,
    pub snapshot: SnapshotId,
    pub version: Version,
    /// Blocks submitted, and flushed.
    pub next: usize,
    pub durable: usize,
}

/// One connection: in order, and at any moment over.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Connection {
    pub agent: usize,
    /// The agent's count.
    pub number: u64,
    pub term: Term,
    pub up: VecDeque<Shared<AgentMessage>>,
    pub down: VecDeque<Shared<ServerMessage>>,
    /// What is sent now arrives.
    pub carries: bool,
    pub agent_end: bool,
    pub server_end: bool,
    pub greeted: bool,
}

/// The world.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct World {
    /// How often time has passed.
    pub pauses: u8,
    pub store: Shared<State>,
    /// The last one is the one that leads.
    pub servers: Vec<Server>,
    pub agents: Vec<Agent>,
    /// By agent and number.
    pub connections: Vec<Connection>,
    pub storage: Storage,
    /// A word of the server that was delivered and comes once more, to the process that it was for.
    pub echoes: Vec<(usize, u8, Shared<ServerMessage>)>,
    pub ledger: Shared<Ledger>,
    pub left: Left,
    /// Whether peers are reached in the step under way.
    pub reached: bool,
    pub commands: u8,
    pub violation: Option<Violation>,
}

#[must_use]
pub fn name_of(agent: usize) -> Option<AgentName> {
    AgentName::new(format!("h{}", agent + 1)).ok()
}

#[must_use]
pub fn replication_name() -> Option<ReplicationName> {
    ReplicationName::new("vol").ok()
}

/// The volume of a side.
#[must_use]
pub fn volume(side: &str) -> Option<VolumeAddress> {
    tanist_sim::agent_shell::address(side, 0)
}

impl World {
    #[must_use]
    pub fn now(&self) -> Now {
        let at = BEGINNING_US + u64::from(self.pauses) * PAUSE_US;
        Now { monotonic: Monotonic(at), wall: Timestamp(i64::try_from(at).unwrap_or(i64::MAX)) }
    }

    /// What went wrong on the way to this state.
    #[must_use]
    pub fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }

    pub fn check(&mut self, verdict: Verdict) {
        if let Err(violation) = verdict {
            self.violation.get_or_insert(violation);
        }
    }

    pub fn agent_named(&self, name: &AgentName) -> Option<usize> {
        (0..self.agents.len()).find(|agent| name_of(*agent).as_ref() == Some(name))
    }

    pub fn connection(&mut self, agent: usize, number: u64) -> Option<&mut Connection> {
        self.connections.iter_mut().find(|c| c.agent == agent && c.number == number)
    }

    /// Those with no end left are no part of the world any more.
    pub fn sweep_connections(&mut self) {
        for connection in &mut self.connections {
            if !connection.server_end {
                connection.up.clear();
            }
            if !connection.agent_end {
                connection.down.clear();
            }
        }
        self.connections.retain(|c| c.agent_end || c.server_end);
    }

    pub fn process(&mut self, agent: usize) -> Option<&mut Process> {
        self.agents.get_mut(agent)?.process.as_mut()
    }

    #[must_use]
    pub fn boot_of(&self, agent: usize) -> Boot {
        Boot { agent, number: self.agents[agent].boot }
    }

    #[must_use]
    pub fn writer(&self, agent: usize, epochs: Epochs) -> Option<Writer> {
        let process = self.agents.get(agent)?.process.as_ref()?;
        Some(Writer { boot: self.boot_of(agent), process: process.number, epoch: epochs.target })
    }

    /// Of the only replication there is.
    #[must_use]
    pub fn replication(&self) -> Option<&tanist_model::replication::ReplicationRecord> {
        self.store.replications.values().next()
    }
}
