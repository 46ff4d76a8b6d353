//! The world: one queue of events in virtual time, and everything that lives in it.

use std::collections::{BTreeMap, BTreeSet};

use tanist_model::id::{AgentName, ReplicationName};
use tanist_model::state::State;
use tanist_protocol::agent::way::{Attempt, DialFailure, Way};
use tanist_protocol::mutation::{Mutation, Mutations};
use tanist_protocol::timers::Timers;
use tanist_protocol::{agent, server};
use tanist_store::MemoryStore;

use crate::Run;
use crate::checker::Checker;
use crate::clocks::Clocks;
use crate::coverage::Coverage;
use crate::disk::{Disks, Source, Target, WriteId};
use crate::engine::EngineEventKind;
use crate::faults::Fault;
use crate::injection::{Injection, Injections};
use crate::links::Links;
use crate::liveness::Watched;
use crate::network::{Connection, Payload};
use crate::operator::Operator;
use crate::pairs::{MachineState, Pair};
use crate::process::{AgentSlot, EngineKey, Host, Item, Pid, ReaderKey, ServerProcess};
use crate::reader::{Frame, ReaderEventKind};
use crate::reserving::Sent;
use crate::rng::Rng;
use crate::scenario::Scenario;
use crate::server_shell::Commits;
use crate::trace::Trace;

/// Something that will happen.
#[derive(Clone, Debug)]
pub enum Event {
    /// A process takes one step: one effect, one commit, or one input.
    Step(Pid),
    Tick(Pid),
    /// The way finder of an agent has something to do.
    WayDue(Pid),
    /// An attempt to reach the server arrives where it is decided.
    Dialled {
        pid: Pid,
        attempt: Attempt,
        way: Way,
    },
    DialFailed {
        pid: Pid,
        attempt: Attempt,
        failure: DialFailure,
    },
    Deliver {
        connection: u64,
        payload: Box<Payload>,
    },
    AgentEndOver {
        connection: u64,
    },
    ServerEndOver {
        connection: u64,
        reason: &'static str,
    },
    /// An agent reads its volumes and pings its peers as a matter of course.
    Look(Pid),
    Looked {
        pid: Pid,
        survey: Option<(u64, u64)>,
        canaries: Vec<tanist_protocol::message::CanaryReport>,
        peers: Vec<tanist_protocol::message::PeerReport>,
    },
    Engine {
        pid: Pid,
        key: EngineKey,
        generation: u64,
        kind: EngineEventKind,
    },
    Reader {
        pid: Pid,
        key: ReaderKey,
        generation: u64,
        kind: ReaderEventKind,
    },
    /// Something of a stream arrives at the holder's process.
    Frame {
        pid: Pid,
        frame: Frame,
    },
    WriteLands(WriteId),
    /// A command about a reservation reaches its unit.
    Reserving(Sent),
    Fault,
    Undo(Fault),
    Operate,
    /// The application on the source host writes.
    SourceWrite,
    StartAgent(usize),
    StartServer,
    Heal,
    ProveByReboot,
    RequestRuns,
}

/// How a run of the simulator ended.
#[derive(Debug)]
pub struct Report {
    pub seed: u64,
    pub hash: u64,
    pub violation: Option<String>,
    pub coverage: Coverage,
    pub log: Vec<String>,
    /// What was done to the world, in order.
    pub injections: Vec<Injection>,
    /// In which states the faults found the machines.
    pub pairs: BTreeSet<Pair>,
}

impl Report {
    /// The property that was violated: "S1".
    #[must_use]
    pub fn property(&self) -> Option<&str> {
        self.violation.as_deref()?.split_whitespace().next()
    }
}

/// The world.
#[derive(Debug)]
pub struct World {
    pub seed: u64,
    pub now: u64,
    queue: BTreeMap<(u64, u64), Event>,
    sequence: u64,
    pub rng: Rng,
    pub trace: Trace,
    pub scenario: Scenario,
    pub broken: Option<Mutation>,
    pub mutations: Mutations,
    pub timers: Timers,
    pub names: Vec<AgentName>,
    pub replications: Vec<ReplicationName>,
    pub hosts: Vec<Host>,
    pub clocks: Clocks,
    pub agents: Vec<AgentSlot>,
    /// The last one is the leader; one before it does not know yet that it is deposed.
    pub servers: Vec<ServerProcess>,
    pub store: MemoryStore,
    pub commits: Commits,
    pub backup: Option<State>,
    pub connections: BTreeMap<u64, Connection>,
    pub next_connection: u64,
    pub links: Links,
    next_pid: Pid,
    pub disks: Disks,
    pub checker: Checker,
    pub operator: Operator,
    pub coverage: Coverage,
    pub starting_server: bool,
    pub injections: Injections,
    pub pairs: BTreeSet<Pair>,
    /// When a machine was last found in a state that faults wait for.
    pub ambushed: BTreeMap<MachineState, u64>,
    pub watched: Watched,
}

impl World {
    #[must_use]
    pub fn new(run: &Run, shape: impl FnOnce(Scenario) -> Scenario) -> Self {
        let (seed, broken) = (run.seed, run.broken);
        let mut rng = Rng::new(seed);
        let scenario = shape(Scenario::of(&mut rng));
        let names: Vec<AgentName> =
            (1..=scenario.agents).filter_map(|n| AgentName::new(format!("h{n}")).ok()).collect();
        let replications: Vec<ReplicationName> =
            (1..=scenario.replications).filter_map(|n| ReplicationName::new(format!("r{n}")).ok()).collect();
        let host_count = scenario.hosts.iter().max().map_or(0, |h| h + 1);
        let hosts = (0..host_count)
            .map(|n| Host {
                machine_id: format!("machine-{}", if scenario.cloned_hosts { 0 } else { n }),
                boot: 1,
                up: true,
            })
            .collect();
        let state = crate::server_shell::first_state(&names);
        let disks = Disks {
            sources: vec![Source::new(scenario.blocks); scenario.replications],
            targets: vec![Target::new(scenario.blocks); scenario.replications],
            units: scenario.units(),
            ..Disks::default()
        };
        let mut world = Self {
            seed,
            now: 1_000_000,
            queue: BTreeMap::new(),
            sequence: 0,
            trace: Trace::new(run.verbose),
            broken,
            mutations: broken.map_or(Mutations::NONE, Mutations::breaking),
            timers: Timers::DEFAULT,
            agents: scenario.hosts.iter().map(|host| AgentSlot::new(*host)).collect(),
            names,
            replications,
            clocks: if scenario.one_clock {
                Clocks::one(host_count)
            } else {
                Clocks::drawn(&mut Rng::new(!seed), host_count)
            },
            hosts,
            servers: Vec::new(),
            store: MemoryStore::with_state(state.clone()),
            commits: Commits::default(),
            backup: None,
            connections: BTreeMap::new(),
            next_connection: 0,
            links: Links::default(),
            next_pid: 0,
            disks,
            checker: Checker::new(state),
            operator: Operator::default(),
            coverage: Coverage::default(),
            starting_server: false,
            injections: Injections::of(run.only.clone()),
            pairs: BTreeSet::new(),
            ambushed: BTreeMap::new(),
            watched: Watched::default(),
            scenario,
            rng,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        self.at(self.now, Event::StartServer);
        for agent in 0..self.agents.len() {
            let start = self.now + self.rng.between(1000, 500_000);
            self.at(start, Event::StartAgent(agent));
        }
        self.at(self.now + 1_000_000, Event::Operate);
        self.at(self.now + 500_000, Event::SourceWrite);
        for number in 0..self.scenario.faults {
            let at = self.fault_time(number);
            self.at(at, Event::Fault);
        }
        self.at(self.scenario.faults_end_us, Event::Heal);
    }

    /// Runs until this much time has passed after the faults, or a property is violated.
    #[must_use]
    pub fn run(mut self) -> Report {
        let end = self.scenario.faults_end_us + crate::liveness::BOUND_US;
        while let Some(((at, _), event)) = self.queue.pop_first() {
            self.now = at;
            self.coverage.events += 1;
            self.happen(event);
            if at >= end {
                self.check_liveness();
                break;
            }
            if self.checker.violation().is_some() || self.is_settled() {
                break;
            }
        }
        self.finish()
    }

    /// Lets things happen until something is so; false if that is not so at this time.
    pub fn until(&mut self, limit: u64, is_so: impl Fn(&Self) -> bool) -> bool {
        while !is_so(self) {
            let due = self.queue.first_key_value().is_some_and(|((at, _), _)| *at <= limit);
            let Some(((at, _), event)) = due.then(|| self.queue.pop_first()).flatten() else {
                self.now = self.now.max(limit);
                return false;
            };
            self.now = at;
            self.coverage.events += 1;
            self.happen(event);
        }
        true
    }

    fn finish(self) -> Report {
        let violation = self.checker.violation().map(ToOwned::to_owned);
        let mut log = self.trace.lines().to_vec();
        if let Some(violation) = &violation {
            log.push(format!("{:>12.6}  {violation}", self.now as f64 / 1e6));
        }
        let injections = self.injections.made().to_vec();
        let (seed, hash) = (self.seed, self.trace.hash());
        Report { seed, hash, violation, coverage: self.coverage, log, injections, pairs: self.pairs }
    }

    fn happen(&mut self, event: Event) {
        if let Some(pid) = target_of(&event)
            && self.defer_if_paused(pid, &event)
        {
            return;
        }
        match event {
            Event::Step(pid) => self.step(pid),
            Event::Tick(pid) => self.tick(pid),
            Event::WayDue(pid) => self.find_way(pid, |finder, now| finder.tick(now)),
            Event::Dialled { pid, attempt, way } => self.dialled(pid, attempt, &way),
            Event::DialFailed { pid, attempt, failure } => {
                self.find_way(pid, |finder, now| finder.failed(now, attempt, failure));
            }
            Event::Deliver { connection, payload } => self.deliver(connection, *payload),
            Event::AgentEndOver { connection } => self.agent_end_over(connection),
            Event::ServerEndOver { connection, reason } => self.server_end_over(connection, reason),
            Event::Look(pid) => self.look_as_usual(pid),
            Event::Looked { pid, survey, canaries, peers } => self.looked(pid, survey, canaries, peers),
            Event::Engine { pid, key, generation, kind } => self.on_engine(pid, key, generation, kind),
            Event::Reader { pid, key, generation, kind } => self.on_reader(pid, key, generation, kind),
            Event::Frame { pid, frame } => self.frame_arrives(pid, &frame),
            Event::WriteLands(id) => self.write_lands(id),
            Event::Reserving(sent) => self.reserving(sent),
            Event::Fault => self.fault(),
            Event::Undo(fault) => self.undo(&fault),
            Event::Operate => self.operate(),
            Event::SourceWrite => self.source_write(),
            Event::StartAgent(agent) => self.start_agent(agent),
            Event::StartServer => self.start_server(),
            Event::Heal => self.heal(),
            Event::ProveByReboot => self.prove_by_reboot(),
            Event::RequestRuns => self.request_runs(),
        }
    }

    fn defer_if_paused(&mut self, pid: Pid, event: &Event) -> bool {
        if let Some(process) = self.agents.iter_mut().filter_map(|a| a.process.as_mut()).find(|p| p.shell.pid == pid) {
            if process.shell.paused {
                process.shell.deferred.push(event.clone());
            }
            return process.shell.paused;
        }
        if let Some(server) = self.servers.iter_mut().find(|s| s.shell.pid == pid) {
            if server.shell.paused {
                server.shell.deferred.push(event.clone());
            }
            return server.shell.paused;
        }
        // It is gone: nothing happens to it any more.
        true
    }

    pub fn at(&mut self, time: u64, event: Event) {
        self.sequence += 1;
        self.queue.insert((time.max(self.now), self.sequence), event);
    }

    pub fn note(&mut self, kind: &'static str, number: u64, sentence: impl FnOnce() -> String) {
        self.trace.note(self.now, kind, number, sentence);
    }

    pub fn new_pid(&mut self) -> Pid {
        self.next_pid += 1;
        self.next_pid
    }

    #[must_use]
    pub fn agent_of(&self, pid: Pid) -> Option<usize> {
        self.agents.iter().position(|a| a.process.as_ref().is_some_and(|p| p.shell.pid == pid))
    }

    #[must_use]
    pub fn index_of(&self, name: &AgentName) -> Option<usize> {
        self.names.iter().position(|n| n == name)
    }

    pub fn give_agent(&mut self, pid: Pid, item: Item<agent::Input>) {
        let Some(agent) = self.agent_of(pid) else { return };
        if let Some(process) = self.agents[agent].process.as_mut() {
            process.shell.inbox.push_back(item);
        }
        self.wake(pid);
    }

    pub fn give_server(&mut self, pid: Pid, input: server::Input) {
        let Some(server) = self.servers.iter_mut().find(|s| s.shell.pid == pid) else { return };
        server.shell.inbox.push_back(Item::Input(input));
        self.wake(pid);
    }

    /// Schedules the next step of a process that has something to do.
    pub fn wake(&mut self, pid: Pid) {
        let pause = if self.rng.chance(10) { self.rng.between(1000, 20_000) } else { self.rng.between(5, 200) };
        let agents =
            self.agents.iter_mut().filter_map(|a| a.process.as_mut()).map(|p| (p.shell.pid, &mut p.shell.scheduled));
        let servers = self.servers.iter_mut().map(|s| (s.shell.pid, &mut s.shell.scheduled));
        let Some((_, scheduled)) = agents.chain(servers).find(|(other, _)| *other == pid) else { return };
        if !std::mem::replace(scheduled, true) {
            self.at(self.now + pause, Event::Step(pid));
        }
    }

    fn step(&mut self, pid: Pid) {
        if let Some(agent) = self.agent_of(pid) {
            self.step_agent(pid);
            self.watch_agent(agent);
        } else {
            self.step_server(pid);
            self.watch_server();
            self.watch_liveness();
        }
    }

    fn tick(&mut self, pid: Pid) {
        if self.agent_of(pid).is_some() {
            self.tick_agent(pid);
        } else {
            self.tick_server(pid);
        }
    }
}

/// The process that an event happens to, if a stopped or dead process does not see it.
fn target_of(event: &Event) -> Option<Pid> {
    match event {
        Event::Step(pid)
        | Event::Tick(pid)
        | Event::WayDue(pid)
        | Event::Dialled { pid, .. }
        | Event::DialFailed { pid, .. }
        | Event::Look(pid)
        | Event::Looked { pid, .. }
        | Event::Engine { pid, .. }
        | Event::Reader { pid, .. }
        | Event::Frame { pid, .. } => Some(*pid),
        _ => None,
    }
}
