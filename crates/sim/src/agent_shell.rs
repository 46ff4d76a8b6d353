//! The agent's shell: starts processes, carries out what the machine wants, looks at volumes and peers.

use tanist_model::id::{HostIdentity, Incarnation, StorageName, VolumeAddress};
use tanist_model::takeover::PeerVerdict;
use tanist_model::volume::{StorageCapabilities, StorageKind, StorageReport, VolumeContent, VolumeReport};
use tanist_protocol::agent::way::WayFinder;
use tanist_protocol::agent::{AgentIdentity, AgentMachine, Effect, Input};
use tanist_protocol::driver::{Interpreter, Step};
use tanist_protocol::message::{AgentMessage, CanaryReport, PeerAddress, PeerReport};
use tanist_protocol::mutation::Mutation;

use crate::links::Place;
use crate::network::Payload;
use crate::process::{AgentProcess, Item, Pid, Shell};
use crate::scenario::BLOCK_BYTES;
use crate::world::{Event, World};

/// The volume of a replication's source or target by its number.
#[must_use]
pub fn address(side: &str, number: usize) -> Option<VolumeAddress> {
    VolumeAddress::new(StorageName::new(format!("san-{side}")).ok()?, format!("vol{number}")).ok()
}

impl World {
    pub fn start_agent(&mut self, agent: usize) {
        let host = self.agents[agent].host;
        if self.agents[agent].process.is_some() {
            return;
        }
        if !self.hosts[host].up || self.clocks.is_asleep(host) {
            self.at(self.now + 500_000, Event::StartAgent(agent));
            return;
        }
        let pid = self.new_pid();
        let machine = self.machine_of(agent);
        let resumed = machine.roles().values().any(tanist_protocol::agent::Role::is_acting);
        let process = AgentProcess {
            shell: Shell::new(pid, Interpreter::new(self.mutations)),
            machine,
            pending: None,
            connection: None,
            replaced: None,
            finder: WayFinder::new(
                self.timers,
                self.clock(Place::Agent(agent)).monotonic,
                self.agents[agent].acquaintances.clone(),
            )
            .spread_by(u128::from(pid)),
            way_due: None,
            engines: std::collections::BTreeMap::new(),
            readers: std::collections::BTreeMap::new(),
            watch: (Vec::new(), Vec::new()),
            granted: Vec::new(),
            drained: Vec::new(),
            leaving: false,
        };
        self.agents[agent].process = Some(process);
        self.note("start", pid, || format!("h{} starts (process {pid})", agent + 1));
        self.at(self.now + 1000, Event::Tick(pid));
        self.at(self.now + 2000, Event::WayDue(pid));
        let look = self.now + self.rng.between(1000, 1_000_000);
        self.at(look, Event::Look(pid));
        if resumed {
            self.resume_engines(agent);
        }
    }

    /// A new incarnation; the mutation goes on with the old one.
    fn machine_of(&mut self, agent: usize) -> AgentMachine {
        if let Some(corpse) = self.agents[agent].corpse.take() {
            return *corpse;
        }
        let host = &self.hosts[self.agents[agent].host];
        let identity = AgentIdentity {
            name: self.names[agent].clone(),
            incarnation: Incarnation(self.rng.wide()),
            host: HostIdentity {
                machine_id: host.machine_id.clone(),
                boot_id: format!("boot-{}-{}", self.agents[agent].host, host.boot),
            },
            version: "0".to_owned(),
            io: None,
            listen_address: Some(format!("h{}", agent + 1)),
            granted: self.agents[agent].remembered.clone(),
            granted_here: Vec::new(),
        };
        AgentMachine::new(identity, self.timers, self.rng.wide(), self.mutations, self.clock(Place::Agent(agent)))
    }

    /// A process dies at once: its kernel closes what it had, queued writes still land.
    pub fn kill_agent(&mut self, agent: usize, silently: bool) {
        let Some(process) = self.agents[agent].process.take() else { return };
        let pid = process.shell.pid;
        self.note("kill", pid, || format!("h{} dies (process {pid})", agent + 1));
        self.coverage.kills += 1;
        self.end_connections_of(pid, silently);
        if !silently {
            self.end_streams_of(&process);
        }
        self.release_held_writes(pid);
        self.disks.end_process(pid);
        if self.broken == Some(Mutation::EpochResumed) && !silently {
            self.agents[agent].corpse = Some(Box::new(process.machine));
        }
    }

    pub fn tick_agent(&mut self, pid: Pid) {
        let Some(agent) = self.agent_of(pid) else { return };
        let Some(process) = &self.agents[agent].process else { return };
        let interval = process.machine.tick_interval();
        self.give_agent(pid, Item::Input(Input::Tick));
        self.at(self.now + u64::try_from(interval.as_micros()).unwrap_or(1000), Event::Tick(pid));
    }

    pub fn step_agent(&mut self, pid: Pid) {
        let Some(agent) = self.agent_of(pid) else { return };
        let Some(process) = self.agents[agent].process.as_mut() else { return };
        process.shell.scheduled = false;
        match process.shell.interpreter.next_step() {
            Some(Step::Perform(effect)) => self.perform_agent(agent, pid, effect),
            Some(Step::Commit(_)) => process.shell.interpreter.commit_failed(),
            None => match process.shell.inbox.pop_front() {
                Some(item) => self.take_item(agent, item),
                None => return,
            },
        }
        self.wake(pid);
    }

    fn take_item(&mut self, agent: usize, item: Item<Input>) {
        let now = self.clock(Place::Agent(agent));
        let input = match item {
            Item::Input(input) => input,
            Item::Connected(id) => {
                if self.agents[agent].process.as_ref().is_none_or(|p| p.pending != Some(id)) {
                    return;
                }
                let (storage, volumes) = (self.storage_reports(agent), self.volume_reports(agent));
                let Some(connection) = self.connections.get(&id) else { return };
                let through = connection.relay.map(|(relay, _)| self.names[relay].clone());
                self.coverage.relayed += u64::from(through.is_some());
                Input::Connected { storage, volumes, applications: Vec::new(), through }
            }
            Item::Disconnected(id) => {
                let Some(process) = self.agents[agent].process.as_mut() else { return };
                if process.connection != Some(id) && process.pending != Some(id) {
                    return;
                }
                if process.pending.is_some_and(|pending| pending != id) {
                    // Another one has taken its place already.
                    process.connection = None;
                    return;
                }
                (process.connection, process.pending) = (None, None);
                let pid = process.shell.pid;
                self.way_ended(pid, id);
                Input::Disconnected
            }
        };
        let Some(process) = self.agents[agent].process.as_mut() else { return };
        let seen = process.machine.highest_term();
        let told = if let Input::Message(message) = &input { message.stamp().map(|s| s.term) } else { None };
        if let Input::Message(message) = &input {
            self.checker.agent_hears(process, message);
        }
        let output = process.machine.handle(now, input);
        if let Some(term) = told {
            self.checker.term_obeyed(term, seen, &output);
        }
        process.shell.interpreter.load(tanist_model::id::Term(0), output);
    }

    fn perform_agent(&mut self, agent: usize, pid: Pid, effect: Effect) {
        match effect {
            Effect::Send(message) => self.agent_sends(agent, message),
            Effect::Engine { replication, epochs, command } => {
                self.command_engine(agent, (replication, epochs), command)
            }
            Effect::Reader { replication, epochs, command } => {
                self.command_reader(agent, (replication, epochs), command);
            }
            Effect::Look => self.look(agent, None),
            Effect::Watch { peers, volumes } => {
                self.agents[agent].acquaintances.clone_from(&peers);
                if let Some(process) = self.agents[agent].process.as_mut() {
                    process.watch = (peers, volumes);
                }
                self.look(agent, None);
            }
            Effect::Survey { survey, peers, volumes, .. } => self.look(agent, Some((survey, peers, volumes))),
            Effect::Remember { replication, epochs } => self.agents[agent].remembered.push((replication, epochs)),
            Effect::InstallCertificate { .. } | Effect::ForgetMark { .. } | Effect::LookForMark { .. } => {}
            Effect::Refused { .. } => self.note("refused", pid, || format!("h{} is refused", agent + 1)),
            Effect::Exit => {
                self.kill_agent(agent, false);
                let again = self.now + self.rng.between(10_000, 3_000_000);
                self.at(again, Event::StartAgent(agent));
            }
        }
    }

    fn agent_sends(&mut self, agent: usize, message: AgentMessage) {
        let Some(process) = self.agents[agent].process.as_mut() else { return };
        if matches!(message, AgentMessage::Hello(_)) {
            process.connection = process.pending.take();
        }
        if let AgentMessage::Drained { replication, epochs } = &message {
            process.drained.push((*replication, *epochs));
        }
        let Some(id) = process.connection else { return };
        let pid = process.shell.pid;
        self.beat_goes_out(pid, &message);
        self.note("send", id, || format!("h{} to server: {message:?}", agent + 1));
        self.transmit(id, Payload::ToServer(message));
    }

    fn storage_reports(&self, agent: usize) -> Vec<StorageReport> {
        let capabilities = |snapshots| StorageCapabilities {
            snapshots,
            kernel_lock: self.scenario.kernel_lock,
            reservations: false,
            outlives_host: false,
            changed_extents: true,
        };
        let report = |name: &str, snapshots: bool| {
            Some(StorageReport {
                name: StorageName::new(name).ok()?,
                kind: StorageKind::Memory,
                location: String::new(),
                identity: name.to_owned(),
                capabilities: capabilities(snapshots),
                copy_manager: self.scenario.array.then(|| "san".to_owned()),
                error: self.agents[agent].path_lost.then(|| "path lost".to_owned()),
                pool: None,
            })
        };
        let (source, target) = self.scenario.reach[agent];
        let source = source.then(|| report("san-a", true)).flatten();
        let mut target = target.then(|| report("san-b", self.scenario.target_snapshots)).flatten();
        if let Some(target) = &mut target {
            let can = self.scenario.can_reserve[agent];
            target.capabilities.reservations = self.scenario.reserving.is_some() && can;
        }
        [source, target].into_iter().flatten().collect()
    }

    fn volume_reports(&self, agent: usize) -> Vec<VolumeReport> {
        let all = (0..self.scenario.replications).flat_map(|n| [address("a", n), address("b", n)]).flatten();
        all.filter_map(|a| self.read_volume(agent, &a).ok()).collect()
    }

    fn read_volume(&self, agent: usize, address: &VolumeAddress) -> Result<VolumeReport, String> {
        if self.agents[agent].path_lost || !self.reaches(agent, address) {
            return Err("there is no path".to_owned());
        }
        Ok(VolumeReport {
            address: address.clone(),
            identity: address.to_string(),
            size_bytes: self.scenario.blocks as u64 * BLOCK_BYTES,
            read_only: false,
            in_use_by: None,
            content: VolumeContent::Blank,
            error: None,
            device: None,
        })
    }

    fn reaches(&self, agent: usize, address: &VolumeAddress) -> bool {
        let (source, target) = self.scenario.reach[agent];
        if address.system.as_str() == "san-a" { source } else { target }
    }

    pub fn look_as_usual(&mut self, pid: Pid) {
        if let Some(agent) = self.agent_of(pid) {
            self.look(agent, None);
            let canary = u64::try_from(self.timers.canary.as_micros()).unwrap_or(1_000_000);
            self.at(self.now + canary, Event::Look(pid));
        }
    }

    fn look(&mut self, agent: usize, survey: Option<(u64, Vec<PeerAddress>, Vec<VolumeAddress>)>) {
        let Some(process) = &self.agents[agent].process else { return };
        let (pid, connection) = (process.shell.pid, process.connection);
        let (survey, peers, volumes) = match survey {
            Some((survey, peers, volumes)) => (Some((survey, connection.unwrap_or(0))), peers, volumes),
            None => (None, process.watch.0.clone(), process.watch.1.clone()),
        };
        let canaries = volumes.iter().map(|a| self.canary(agent, a)).collect();
        let mut peers: Vec<PeerReport> = peers.iter().map(|p| self.ping(agent, p)).collect();
        if let Some(lost_per_mille) = self.scenario.rough_network {
            self.roughen(&mut peers, lost_per_mille);
        }
        let slow = peers.iter().any(|p| p.verdict == PeerVerdict::Unreachable);
        let took = if slow { 250_000 } else { self.rng.between(200, 5000) };
        self.at(self.now + took, Event::Looked { pid, survey, canaries, peers });
    }

    fn canary(&self, agent: usize, address: &VolumeAddress) -> CanaryReport {
        CanaryReport { address: address.clone(), result: self.read_volume(agent, address), took_us: 100, age_ms: 0 }
    }

    fn ping(&self, from: usize, peer: &PeerAddress) -> PeerReport {
        let verdict = self.index_of(&peer.agent).map_or(PeerVerdict::Unreachable, |to| self.reach(from, to));
        PeerReport { peer: peer.agent.clone(), verdict, took_us: 100, age_ms: 0 }
    }

    pub fn reach(&self, from: usize, to: usize) -> PeerVerdict {
        let b = &self.agents[to];
        if !self.links.joins(Place::Agent(from), Place::Agent(to)) || !self.hosts[b.host].up {
            return PeerVerdict::Unreachable;
        }
        match &b.process {
            None => PeerVerdict::Refused,
            Some(process) if process.shell.paused => PeerVerdict::Unreachable,
            Some(process) => PeerVerdict::Reached { incarnation: process.machine.identity().incarnation },
        }
    }

    pub fn looked(
        &mut self,
        pid: Pid,
        survey: Option<(u64, u64)>,
        canaries: Vec<CanaryReport>,
        peers: Vec<PeerReport>,
    ) {
        let Some(agent) = self.agent_of(pid) else { return };
        match survey {
            None => self.give_agent(pid, Item::Input(Input::Seen { canaries, peers })),
            Some((survey, connection)) => {
                let open = self.agents[agent].process.as_ref().is_some_and(|p| p.connection == Some(connection));
                if open {
                    self.transmit(connection, Payload::ToServer(AgentMessage::Surveyed { survey, canaries, peers }));
                }
            }
        }
    }
}
