//! An agent's shell: starts processes, carries out what the machine wants, looks at volumes and peers.
//!
//! What an agent wants is carried out with the input that made it want it. It keeps nothing durable but the cache of granted epochs, its
//! words may all be lost with their connection from any one on, and an engine begins what it is told at a later step or never: a
//! process that dies between two of its effects is one that dies after them all.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use tanist_model::id::{AgentName, Epochs, HostIdentity, Incarnation, Term, VolumeAddress};
use tanist_model::takeover::PeerVerdict;
use tanist_model::volume::{StorageCapabilities, StorageKind, StorageReport, VolumeContent, VolumeReport};
use tanist_protocol::agent::{AgentIdentity, AgentMachine, Effect, Input};
use tanist_protocol::driver::{Interpreter, Output, Step};
use tanist_protocol::invariants as properties;
use tanist_protocol::message::{AgentMessage, CanaryReport, PeerAddress, PeerReport, ServerMessage};
use tanist_protocol::mutation::Mutation;
use tanist_protocol::timers::Timers;

use super::Bounds;
use super::memory::print_of_all;
use super::print::print_of;
use super::shared::Shared;
use super::world::{BLOCK_BYTES, Connection, Process, World, name_of, volume};

/// What an agent hears: a word of a server, whose print is known, or anything else.
#[derive(Clone, Debug)]
pub enum Heard {
    Word(Shared<ServerMessage>),
    Other(Input),
}

impl Heard {
    fn print(&self) -> u64 {
        match self {
            Self::Word(message) => print_of_all((0, message.print())),
            Self::Other(input) => print_of_all((1, print_of(input).whole)),
        }
    }

    fn input(&self) -> Input {
        match self {
            Self::Word(message) => Input::Message((**message).clone()),
            Self::Other(input) => input.clone(),
        }
    }
}

/// What an agent decided on one input.
#[derive(Debug)]
pub struct Decided {
    machine: Shared<AgentMachine>,
    /// An engine is told something.
    moves: bool,
    wanted: Vec<Wanted>,
}

#[derive(Debug)]
enum Wanted {
    Say { message: Shared<AgentMessage>, drained: Option<Epochs> },
    Do(Box<Effect>),
}

impl Wanted {
    fn of(effect: Effect) -> Self {
        let Effect::Send(message) = effect else { return Self::Do(Box::new(effect)) };
        let drained = match &message {
            AgentMessage::Drained { epochs, .. } => Some(*epochs),
            _ => None,
        };
        Self::Say { message: Shared::new(message), drained }
    }
}

fn storage_report(volume: &VolumeAddress, snapshots: bool) -> StorageReport {
    StorageReport {
        name: volume.system.clone(),
        kind: StorageKind::Memory,
        location: String::new(),
        identity: volume.system.to_string(),
        capabilities: StorageCapabilities {
            snapshots,
            kernel_lock: true,
            reservations: false,
            outlives_host: false,
            changed_extents: false,
        },
        error: None,
        copy_manager: None,
        pool: None,
    }
}

fn volume_report(address: &VolumeAddress, blocks: usize) -> VolumeReport {
    VolumeReport {
        address: address.clone(),
        identity: address.to_string(),
        size_bytes: blocks as u64 * BLOCK_BYTES,
        read_only: false,
        in_use_by: None,
        content: VolumeContent::Blank,
        error: None,
        device: None,
    }
}

impl Bounds {
    /// A process of an agent begins, and dials.
    pub fn start_agent(&self, world: &mut World, agent: usize) -> Option<()> {
        let (now, boot) = (world.now(), world.agents.get(agent)?.boot);
        let slot = world.agents.get_mut(agent)?;
        slot.started += 1;
        let number = slot.started;
        let incarnation = u128::from(number) * 16 + agent as u128;
        let machine_id = if self.cloned_hosts { "m".to_owned() } else { format!("m{agent}") };
        let identity = AgentIdentity {
            name: name_of(agent)?,
            incarnation: Incarnation(incarnation),
            host: HostIdentity { machine_id, boot_id: format!("b{agent}-{boot}") },
            version: String::new(),
            io: None,
            listen_address: Some(format!("h{}", agent + 1)),
            granted: slot.remembered.clone(),
            granted_here: Vec::new(),
        };
        let fresh = || Shared::new(AgentMachine::new(identity, Timers::DEFAULT, incarnation, self.broken, now));
        let resumed = slot.corpse.take();
        let resumes = resumed.is_some();
        slot.process = Some(Process {
            number,
            machine: resumed.unwrap_or_else(fresh),
            connection: None,
            engines: BTreeMap::new(),
            watch: Shared::new((Vec::new(), Vec::new())),
            granted: Vec::new(),
            drained: Vec::new(),
        });
        if resumes {
            self.resume(world, agent);
        }
        self.connect(world, agent)
    }

    /// A process dies at once: its kernel closes what it had, writes in flight still land.
    pub fn end_agent(&self, world: &mut World, agent: usize) {
        let Some(process) = world.agents[agent].process.take() else { return };
        world.storage.close(|of| of.boot.agent == agent && of.process == process.number);
        for connection in world.connections.iter_mut().filter(|c| c.agent == agent) {
            connection.agent_end = false;
        }
        world.sweep_connections();
        world.echoes.retain(|(to, ..)| *to != agent);
        if self.broken.breaks(Mutation::EpochResumed) {
            world.agents[agent].corpse = Some(process.machine);
        }
    }

    /// An agent dials the server that leads.
    pub fn connect(&self, world: &mut World, agent: usize) -> Option<()> {
        let Some(term) = world.servers.last().map(|server| server.term) else { return Some(()) };
        let slot = world.agents.get_mut(agent)?;
        slot.dialled += 1;
        let number = slot.dialled;
        slot.process.as_mut()?.connection = Some(number);
        world.connections.push(Connection {
            agent,
            number,
            term,
            up: VecDeque::new(),
            down: VecDeque::new(),
            carries: true,
            agent_end: true,
            server_end: true,
            greeted: false,
        });
        world.connections.sort_by_key(|c| (c.agent, c.number));
        let (source, target) = (volume("a")?, volume("b")?);
        let input = Input::Connected {
            storage: vec![storage_report(&source, true), storage_report(&target, false)],
            volumes: [source, target].iter().map(|v| volume_report(v, self.blocks)).collect(),
            applications: Vec::new(),
            through: None,
        };
        self.agent_hears(world, agent, Heard::Other(input))
    }

    /// An agent decides on one input, and what it wants is done.
    pub fn agent_hears(&self, world: &mut World, agent: usize, heard: Heard) -> Option<()> {
        let mut inputs = VecDeque::from([heard]);
        while let Some(heard) = inputs.pop_front() {
            let Some(process) = world.process(agent) else { break };
            let told = note_told(process, &heard);
            let seen = process.machine.highest_term();
            let decided = self.agent_decides(world, agent, &heard)?;
            if let Some(term) = told {
                world.check(properties::superseded_term_moves_nothing(term, seen, decided.moves));
            }
            world.process(agent)?.machine = decided.machine.clone();
            for wanted in &decided.wanted {
                match wanted {
                    Wanted::Say { message, drained } => say(world, agent, message, *drained),
                    Wanted::Do(effect) => {
                        inputs.extend(self.perform_agent(world, agent, (**effect).clone())?.map(Heard::Other));
                    }
                }
            }
        }
        Some(())
    }

    fn agent_decides(&self, world: &mut World, agent: usize, heard: &Heard) -> Option<Arc<Decided>> {
        let now = world.now();
        let machine = &world.process(agent)?.machine;
        let key = (machine.print(), print_of_all((now.monotonic.0, heard.print(), self.broken)));
        self.memory.agents().recall(key, || {
            let mut machine = machine.clone();
            let output = machine.change(|machine| machine.handle(now, heard.input()));
            let mut effects = output.decisions().iter().flat_map(|d| &d.after);
            let moves = effects.any(|effect| matches!(effect, Effect::Engine { .. }));
            Some(Decided { machine, moves, wanted: self.wanted(output) })
        })
    }

    fn wanted(&self, output: Output<Effect>) -> Vec<Wanted> {
        let mut interpreter = Interpreter::new(self.broken);
        interpreter.load(Term(0), output);
        let mut wanted = Vec::new();
        while let Some(step) = interpreter.next_step() {
            match step {
                Step::Perform(effect) => wanted.push(Wanted::of(effect)),
                Step::Commit(_) => interpreter.commit_failed(),
            }
        }
        wanted
    }

    fn perform_agent(&self, world: &mut World, agent: usize, effect: Effect) -> Option<Option<Input>> {
        match effect {
            Effect::Send(_) => {}
            Effect::Engine { epochs, command, .. } => self.command_engine(world, agent, epochs, command),
            Effect::Look => return Some(Some(self.look(world, agent)?)),
            Effect::Watch { peers, volumes } => {
                world.process(agent)?.watch = Shared::new((peers, volumes));
                return Some(Some(self.look(world, agent)?));
            }
            Effect::Survey { survey, peers, .. } => self.answer(world, agent, survey, &peers)?,
            Effect::Remember { replication, epochs } => {
                world.agents.get_mut(agent)?.remembered.push((replication, epochs));
            }
            Effect::Exit => self.end_agent(world, agent),
            // There is no reader, no application and no certificate that ends. A connection that is refused is closed by the server.
            Effect::Reader { .. }
            | Effect::InstallCertificate { .. }
            | Effect::ForgetMark { .. }
            | Effect::LookForMark { .. }
            | Effect::Refused { .. } => {}
        }
        Some(None)
    }

    /// What an agent sees of its volumes and peers now. Its storage is well; who is dead is refused.
    pub fn look(&self, world: &World, agent: usize) -> Option<Input> {
        let (peers, volumes) = &*world.agents.get(agent)?.process.as_ref()?.watch;
        let canaries = volumes.iter().map(|v| self.canary(v)).collect();
        let peers = peers.iter().map(|peer| ping(world, &peer.agent, true)).collect();
        Some(Input::Seen { canaries, peers })
    }

    fn canary(&self, address: &VolumeAddress) -> CanaryReport {
        CanaryReport {
            address: address.clone(),
            result: Ok(volume_report(address, self.blocks)),
            took_us: 0,
            age_ms: 0,
        }
    }

    /// An agent answers the server's question; whether it reaches a peer is the network's mood.
    fn answer(&self, world: &mut World, agent: usize, survey: u64, peers: &[PeerAddress]) -> Option<()> {
        let volumes = [volume("a")?, volume("b")?];
        let canaries = volumes.iter().map(|v| self.canary(v)).collect();
        let reached = world.reached;
        let peers = peers.iter().map(|peer| ping(world, &peer.agent, reached)).collect();
        say(world, agent, &Shared::new(AgentMessage::Surveyed { survey, canaries, peers }), None);
        Some(())
    }

    /// The next word on a connection reaches its agent.
    pub fn deliver_down(&self, world: &mut World, at: usize) -> Option<()> {
        let echoes = world.left.echoes > 0;
        let connection = world.connections.get_mut(at)?;
        let agent = connection.agent;
        let message = connection.down.pop_front()?;
        if echoes && matches!(*message, ServerMessage::Activate { .. } | ServerMessage::Grant { .. }) {
            let process = world.process(agent)?.number;
            world.echoes.retain(|(to, _, old)| {
                *to != agent || std::mem::discriminant(&**old) != std::mem::discriminant(&*message)
            });
            world.echoes.push((agent, process, message.clone()));
            world.echoes.sort_by_key(|(to, process, _)| (*to, *process));
        }
        self.agent_hears(world, agent, Heard::Word(message))
    }

    /// An agent notices that its connection is over.
    pub fn agent_notices(&self, world: &mut World, at: usize) -> Option<()> {
        let connection = world.connections.get_mut(at)?;
        connection.agent_end = false;
        let agent = connection.agent;
        world.sweep_connections();
        let process = world.process(agent)?;
        process.connection = None;
        self.agent_hears(world, agent, Heard::Other(Input::Disconnected))
    }
}

/// Notes a grant that reaches the process it is for, and says under which term the message was.
fn note_told(process: &mut Process, heard: &Heard) -> Option<Term> {
    let Heard::Word(message) = heard else { return None };
    if let ServerMessage::Grant { stamp, .. } = &**message
        && stamp.incarnation == process.machine.identity().incarnation
    {
        process.granted.push(stamp.epochs);
    }
    message.stamp().map(|stamp| stamp.term)
}

fn say(world: &mut World, agent: usize, message: &Shared<AgentMessage>, drained: Option<Epochs>) {
    let Some(process) = world.process(agent) else { return };
    process.drained.extend(drained);
    let Some(number) = process.connection else { return };
    if let Some(connection) = world.connection(agent, number).filter(|c| c.carries && c.server_end) {
        connection.up.push_back(message.clone());
    }
}

fn ping(world: &World, peer: &AgentName, reached: bool) -> PeerReport {
    let process = world.agent_named(peer).and_then(|at| world.agents[at].process.as_ref());
    let verdict = match process {
        _ if !reached => PeerVerdict::Unreachable,
        Some(process) => PeerVerdict::Reached { incarnation: process.machine.identity().incarnation },
        None => PeerVerdict::Refused,
    };
    PeerReport { peer: peer.clone(), verdict, took_us: 0, age_ms: 0 }
}
