//! What goes wrong, and how it ends.

use tanist_protocol::agent::way::Way;

use crate::disk::Boot;
use crate::links::{Direction, Place, between};
use crate::pairs::{DRAINING, MachineState};
use crate::process::{AgentSlot, Host, Pid};
use crate::server_shell::Commits;
use crate::world::{Event, World};

/// Before it, a world has the time to become one.
const FIRST_FAULT_US: u64 = 3_000_000;

/// What a host has sent before it died is over when it shows another boot id, half a second later at the earliest.
const STILL_UNDER_WAY_US: u64 = 450_000;

/// A state that is entered and left all the time draws one fault and not one each time.
const BETWEEN_AMBUSHES_US: u64 = 300_000;

/// What can go wrong.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum FaultKind {
    AgentCrash,
    AgentPause,
    /// It is asked to stop, hands over and goes.
    AgentStop,
    HostDeath,
    ServerCrash,
    ServerPause,
    CutFromServer,
    CutFromPeers,
    CutFromAll,
    ConnectionReset,
    /// The wall clock of a host, or of the server's, is set.
    ClockJumps,
    /// A host is suspended with all that runs on it, and its clock.
    HostSleeps,
    /// Commits fail.
    StoreFull,
    /// Commits are done, and the server hears that they failed.
    StoreFailsAfterCommit,
    FlushFails,
    IoFails,
    PathLost,
    /// A verification finds something else than what was written.
    TargetDiffers,
    /// A second server takes the lead, and the first one does not know.
    RivalServer,
    /// The store goes back to its backup.
    StoreRestored,
    /// The storage of a target loses power.
    TargetPowerLoss,
    /// What a target has accepted and not carried out is ended.
    TargetReset,
    /// Somebody who has nothing to do with us registers a key on a target, and may reserve it.
    ForeignKey,
}

impl FaultKind {
    pub const ALL: &'static [Self] = &[
        Self::AgentCrash,
        Self::AgentPause,
        Self::AgentStop,
        Self::HostDeath,
        Self::ServerCrash,
        Self::ServerPause,
        Self::CutFromServer,
        Self::CutFromPeers,
        Self::CutFromAll,
        Self::ConnectionReset,
        Self::ClockJumps,
        Self::HostSleeps,
        Self::StoreFull,
        Self::StoreFailsAfterCommit,
        Self::FlushFails,
        Self::IoFails,
        Self::PathLost,
        Self::TargetDiffers,
        Self::RivalServer,
        Self::StoreRestored,
        Self::TargetPowerLoss,
        Self::TargetReset,
        Self::ForeignKey,
    ];
}

/// A fault that lasts and is taken back.
#[derive(Clone, Debug)]
pub enum Fault {
    AgentPause(Pid),
    ServerPause(Pid),
    HostDown(usize),
    HostSleeps(usize),
    Cut(Vec<Direction>),
    StoreFails,
    FlushFails(usize),
    IoFails(usize),
    PathLost(usize),
    ForeignKey(usize),
}

impl World {
    /// When a fault strikes: each in its own part of the time for faults, somewhere.
    pub fn fault_time(&mut self, number: u32) -> u64 {
        let part = (self.scenario.faults_end_us - FIRST_FAULT_US) / u64::from(self.scenario.faults.max(1));
        FIRST_FAULT_US + u64::from(number) * part + self.rng.below(part)
    }

    pub fn fault(&mut self) {
        let injection = self.injections.next_fault();
        self.coverage.faults += 1;
        self.inject(injection, Self::strike);
    }

    fn strike(&mut self) {
        let agent = self.victim();
        self.back_up_now_and_then();
        let kind = self.choose();
        self.do_harm(kind, agent);
    }

    /// A machine has come into the state that this world lies in wait for. What is rarely seen must not be rarely tested: every kind of
    /// fault is as likely.
    pub fn ambush(&mut self, state: MachineState, agent: Option<usize>) {
        if !self.scenario.ambush.contains(&state) || self.now >= self.scenario.faults_end_us {
            return;
        }
        let before = self.ambushed.insert(state, self.now);
        if before.is_some_and(|before| before + BETWEEN_AMBUSHES_US > self.now) {
            return;
        }
        let Some(injection) = self.injections.next_ambush() else { return };
        self.inject(injection, |world| {
            let kind = world.choose_in_wait();
            // The agent itself, or whoever acts while it is in that state.
            let other = world.victim();
            let agent = agent.filter(|_| world.rng.chance(600)).unwrap_or(other);
            if world.can_happen(kind) {
                world.do_harm(kind, agent);
            }
        });
    }

    /// What happens once in a world is kept for this moment, or it would mostly be over by now.
    fn choose_in_wait(&mut self) -> FaultKind {
        let rare = if self.rng.chance(500) { FaultKind::StoreRestored } else { FaultKind::ForeignKey };
        match self.rng.chance(400) && self.can_happen(rare) {
            true => rare,
            false => FaultKind::ALL[self.rng.index(FaultKind::ALL.len())],
        }
    }

    fn can_happen(&self, kind: FaultKind) -> bool {
        match kind {
            FaultKind::StoreRestored => self.coverage.restores == 0 && self.backup.is_some(),
            FaultKind::RivalServer => self.servers.len() == 1,
            FaultKind::ForeignKey => !self.disks.units.is_empty(),
            _ => true,
        }
    }

    fn do_harm(&mut self, kind: FaultKind, agent: usize) {
        self.note_pairs(kind, &self.struck(kind, agent));
        match kind {
            FaultKind::AgentCrash => self.crash_agent(agent),
            FaultKind::AgentPause => self.pause_agent(agent),
            FaultKind::AgentStop => self.agent_leaves(self.agents[agent].process.as_ref().map(|p| p.shell.pid)),
            FaultKind::HostDeath => self.host_dies(self.agents[agent].host),
            FaultKind::ServerCrash => self.crash_server(),
            FaultKind::ServerPause => self.pause_server(),
            FaultKind::CutFromServer if self.scenario.cuts_only => self.cut_but_one(),
            FaultKind::CutFromServer => {
                let cut = self.cut_from_server(agent);
                self.cut(cut);
            }
            FaultKind::CutFromPeers => {
                let cut = self.cut_from_peers(agent);
                self.cut(cut);
            }
            FaultKind::CutFromAll => {
                let cut = [self.around(agent), between(Place::Agent(agent), Place::Server)].concat();
                self.cut(cut);
            }
            FaultKind::ConnectionReset => self.break_connections(agent),
            FaultKind::StoreFull => self.store_fails(Commits::Full),
            FaultKind::StoreFailsAfterCommit => self.store_fails(Commits::FailAfter),
            FaultKind::FlushFails => {
                self.last(Fault::FlushFails(agent), 200_000, 3_000_000, |w| w.agents[agent].flush_fails = true);
            }
            FaultKind::IoFails => {
                self.last(Fault::IoFails(agent), 200_000, 4_000_000, |w| w.agents[agent].io_fails = true);
            }
            FaultKind::PathLost => {
                self.last(Fault::PathLost(agent), 500_000, 8_000_000, |w| w.agents[agent].path_lost = true);
            }
            // Once it is repaired; twice, and an operator has to look.
            FaultKind::TargetDiffers => self.agents[agent].mismatches = if self.rng.chance(300) { 2 } else { 1 },
            FaultKind::RivalServer => {
                self.note("fault", 0, || "a second server starts".to_owned());
                self.start_server();
            }
            FaultKind::StoreRestored => self.restore_store(),
            FaultKind::ClockJumps => self.clock_jumps(agent),
            FaultKind::HostSleeps => self.host_sleeps(self.agents[agent].host),
            FaultKind::TargetPowerLoss => self.target_loses_power(),
            FaultKind::TargetReset => self.target_is_reset(),
            FaultKind::ForeignKey => self.stranger_comes(),
        }
    }

    /// What a store is put back to one day.
    fn back_up_now_and_then(&mut self) {
        if self.scenario.restores && self.backup.is_none() && self.rng.chance(300) {
            self.backup = Some(self.checker.state().clone());
        }
    }

    fn choose(&mut self) -> FaultKind {
        if self.scenario.cuts_only {
            return FaultKind::CutFromServer;
        }
        match self.rng.below(100) {
            0..10 if self.can_happen(FaultKind::StoreRestored) && !self.scenario.ambush.contains(&DRAINING) => {
                FaultKind::StoreRestored
            }
            0..8 if self.scenario.rival_servers && self.can_happen(FaultKind::RivalServer) => FaultKind::RivalServer,
            0..22 => FaultKind::AgentCrash,
            22..36 => FaultKind::AgentPause,
            36..43 => FaultKind::HostDeath,
            43..50 => FaultKind::ServerCrash,
            50..54 => FaultKind::ServerPause,
            54..61 => FaultKind::CutFromServer,
            61..65 => FaultKind::CutFromPeers,
            65..67 => FaultKind::CutFromAll,
            67..71 => FaultKind::StoreFull,
            71..74 => FaultKind::StoreFailsAfterCommit,
            74..77 => FaultKind::FlushFails,
            77..80 => FaultKind::IoFails,
            80..82 => FaultKind::TargetDiffers,
            82..85 => FaultKind::PathLost,
            85..88 => FaultKind::AgentStop,
            88..90 => FaultKind::ClockJumps,
            90..93 => FaultKind::HostSleeps,
            93..95 => FaultKind::TargetPowerLoss,
            95..97 => FaultKind::TargetReset,
            97..98 if self.can_happen(FaultKind::ForeignKey) => FaultKind::ForeignKey,
            _ => FaultKind::ConnectionReset,
        }
    }

    /// The agents that a fault of this kind meets: one, those of its host, or, of the server and the store, all.
    fn struck(&self, kind: FaultKind, agent: usize) -> Vec<usize> {
        use FaultKind::{ForeignKey, HostDeath, HostSleeps, RivalServer, ServerCrash, ServerPause};
        use FaultKind::{StoreFailsAfterCommit, StoreFull, StoreRestored, TargetPowerLoss, TargetReset};
        let all = 0..self.agents.len();
        match kind {
            HostDeath | HostSleeps => all.filter(|other| self.agents[*other].host == self.agents[agent].host).collect(),
            RivalServer
            | ServerCrash
            | ServerPause
            | StoreFailsAfterCommit
            | StoreFull
            | StoreRestored
            | TargetPowerLoss
            | TargetReset
            | ForeignKey => all.collect(),
            _ => vec![agent],
        }
    }

    fn cut(&mut self, directions: Vec<Direction>) {
        self.last(Fault::Cut(directions.clone()), 200_000, 8_000_000, |w| w.links.cut(&directions));
    }

    /// The network around one agent, and nothing else; some peer is left that reaches it and the server. A peer that the agent still
    /// carries from before would not.
    fn cut_but_one(&mut self) {
        let direct = |agent: &AgentSlot| agent.process.as_ref().is_some_and(|p| p.finder.way() == Some(&Way::Direct));
        if !self.links.are_whole() || !self.agents.iter().all(direct) {
            return;
        }
        let agent = self.victim();
        let mut directions = self.cut_from_server(agent);
        if self.rng.chance(400) {
            let other = (agent + 1) % self.agents.len();
            directions.extend(between(Place::Agent(agent), Place::Agent(other)));
        }
        self.cut(directions);
    }

    /// The agent that acts is struck more often than the others.
    fn victim(&mut self) -> usize {
        let any = self.rng.index(self.agents.len());
        let acting = self.agents.iter().position(|a| a.process.as_ref().is_some_and(|p| !p.engines.is_empty()));
        if self.rng.chance(600) { acting.unwrap_or(any) } else { any }
    }

    pub(crate) fn last(&mut self, fault: Fault, shortest: u64, longest: u64, begin: impl FnOnce(&mut Self)) {
        self.note("fault", 0, || format!("{fault:?}"));
        begin(self);
        let end = self.now + self.duration(shortest, longest);
        self.at(end, Event::Undo(fault));
    }

    /// Most faults are short: a world in which nothing ever works shows nothing.
    fn duration(&mut self, shortest: u64, longest: u64) -> u64 {
        let longest = if self.rng.chance(250) { longest } else { shortest + (longest - shortest) / 6 };
        self.rng.between(shortest, longest)
    }

    pub fn crash_agent(&mut self, agent: usize) {
        if self.agents[agent].process.is_none() {
            return;
        }
        self.kill_agent(agent, false);
        let pause = if self.rng.chance(300) { 500 } else { self.duration(10_000, 6_000_000) };
        self.at(self.now + pause, Event::StartAgent(agent));
    }

    fn pause_agent(&mut self, agent: usize) {
        let Some(process) = self.agents[agent].process.as_mut() else { return };
        let pid = process.shell.pid;
        if std::mem::replace(&mut process.shell.paused, true) {
            return;
        }
        self.coverage.pauses += 1;
        self.hold_writes_of(pid);
        let longest = if self.rng.chance(200) { 60_000_000 } else { 5_000_000 };
        self.last(Fault::AgentPause(pid), 100_000, longest, |_| {});
    }

    fn pause_server(&mut self) {
        let Some(server) = self.servers.last_mut() else { return };
        let pid = server.shell.pid;
        server.shell.paused = true;
        self.last(Fault::ServerPause(pid), 50_000, 5_000_000, |_| {});
    }

    fn host_dies(&mut self, host: usize) {
        let Host { boot, up, .. } = &mut self.hosts[host];
        if !std::mem::replace(up, false) {
            return;
        }
        let dead = Boot { host, number: *boot };
        self.coverage.host_deaths += 1;
        self.note("host", host as u64, || format!("host {host} dies"));
        for agent in 0..self.agents.len() {
            if self.agents[agent].host == host {
                self.kill_agent(agent, true);
            }
        }
        self.clocks.wake(host, self.now);
        for id in self.disks.end_boot(dead, &mut self.rng) {
            let soon = self.now + self.rng.between(1, STILL_UNDER_WAY_US);
            self.at(soon, Event::WriteLands(id));
        }
        self.checker.check_promises(&self.disks);
        self.last(Fault::HostDown(host), 500_000, 10_000_000, |_| {});
    }

    fn crash_server(&mut self) {
        if let Some(pid) = self.servers.last().map(|s| s.shell.pid) {
            self.coverage.server_crashes += 1;
            self.kill_server(pid, "crash");
        }
    }

    fn store_fails(&mut self, how: Commits) {
        self.commits = how;
        self.last(Fault::StoreFails, 10_000, 4_000_000, |_| {});
    }

    fn agent_leaves(&mut self, pid: Option<Pid>) {
        let Some(pid) = pid else { return };
        if let Some(agent) = self.agent_of(pid)
            && let Some(process) = self.agents[agent].process.as_mut()
            && !std::mem::replace(&mut process.leaving, true)
        {
            self.note("fault", pid, || format!("h{} is asked to stop", agent + 1));
            self.give_agent(pid, crate::process::Item::Input(tanist_protocol::agent::Input::Leave));
        }
    }

    fn break_connections(&mut self, agent: usize) {
        let mine: Vec<u64> =
            self.connections.iter().filter(|(_, c)| c.agent == agent && !c.lost.any()).map(|(id, _)| *id).collect();
        for id in mine {
            self.note("fault", id, || format!("connection {id} of h{} breaks", agent + 1));
            self.lose_connection(id);
            let (agent_finds, server_finds) =
                (self.now + self.rng.between(100, 5000), self.now + self.rng.between(100, 5000));
            self.at(agent_finds, Event::AgentEndOver { connection: id });
            self.at(server_finds, Event::ServerEndOver { connection: id, reason: "it was reset" });
        }
    }

    pub fn undo(&mut self, fault: &Fault) {
        self.note("undo", 0, || format!("{fault:?}"));
        match fault {
            Fault::AgentPause(pid) | Fault::ServerPause(pid) => self.resume(*pid),
            Fault::HostDown(host) => self.boot_host(*host),
            Fault::HostSleeps(host) => self.host_wakes(*host),
            Fault::ForeignKey(volume) => self.stranger_goes(*volume),
            Fault::Cut(directions) => self.links.mend(directions),
            Fault::StoreFails => self.commits = Commits::Sound,
            Fault::FlushFails(agent) => self.agents[*agent].flush_fails = false,
            Fault::IoFails(agent) => self.agents[*agent].io_fails = false,
            Fault::PathLost(agent) => self.agents[*agent].path_lost = false,
        }
    }

    /// SIGCONT: what happened meanwhile happens now.
    pub fn resume(&mut self, pid: Pid) {
        if self.agent_of(pid).is_some_and(|agent| self.clocks.is_asleep(self.agents[agent].host)) {
            return;
        }
        let agents = self
            .agents
            .iter_mut()
            .filter_map(|a| a.process.as_mut())
            .map(|p| (p.shell.pid, &mut p.shell.paused, &mut p.shell.deferred));
        let servers = self.servers.iter_mut().map(|s| (s.shell.pid, &mut s.shell.paused, &mut s.shell.deferred));
        let Some((_, paused, deferred)) = agents.chain(servers).find(|(other, ..)| *other == pid) else { return };
        *paused = false;
        let events = std::mem::take(deferred);
        for event in events {
            let soon = self.now + self.rng.between(1, 3000);
            self.at(soon, event);
        }
        self.release_held_writes(pid);
    }

    fn boot_host(&mut self, host: usize) {
        if !std::mem::replace(&mut self.hosts[host].up, true) {
            // A host that shows a new boot has nothing under way from the one before: that is what a new boot proves.
            self.disks.left_by(host).into_iter().for_each(|id| self.write_lands(id));
            self.hosts[host].boot += 1;
            for agent in 0..self.agents.len() {
                if self.agents[agent].host == host {
                    let start = self.now + self.rng.between(100_000, 2_000_000);
                    self.at(start, Event::StartAgent(agent));
                }
            }
        }
    }

    /// Everything works again from here on.
    pub fn heal(&mut self) {
        self.note("heal", 0, || "the faults are over".to_owned());
        self.commits = Commits::Sound;
        self.links.mend_all();
        self.agents.iter_mut().for_each(crate::process::AgentSlot::heal);
        (0..self.hosts.len()).for_each(|host| self.host_wakes(host));
        (0..self.disks.units.len()).for_each(|volume| self.stranger_goes(volume));
        while self.servers.len() > 1 {
            self.kill_server(self.servers[0].shell.pid, "an operator finds that two run");
        }
        let mut paused: Vec<Pid> = self.servers.iter().map(|s| s.shell.pid).collect();
        paused.extend(self.agents.iter().filter_map(|a| a.process.as_ref()).map(|p| p.shell.pid));
        paused.into_iter().for_each(|pid| self.resume(pid));
        for host in 0..self.hosts.len() {
            self.boot_host(host);
        }
        self.undrain_everybody();
        self.at(self.now + 15_000_000, Event::ProveByReboot);
        self.at(self.now + 3_000_000, Event::RequestRuns);
    }

    /// Proof where nothing else can give it: hosts of epochs whose process is gone boot anew. A living one has to say itself
    /// that it is quiet.
    pub fn prove_by_reboot(&mut self) {
        let current = self.checker.state();
        let mut hosts: Vec<usize> = current
            .replications
            .values()
            .flat_map(tanist_model::replication::ReplicationRecord::awaited)
            .filter_map(|u| Some((self.index_of(&u.agent)?, u.incarnation)))
            .filter(|(agent, incarnation)| {
                let process = self.agents[*agent].process.as_ref();
                process.is_none_or(|p| p.machine.identity().incarnation != *incarnation)
            })
            .map(|(agent, _)| self.agents[agent].host)
            .collect();
        hosts.sort_unstable();
        hosts.dedup();
        for host in hosts {
            self.coverage.rebooted_for_proof += 1;
            self.host_dies(host);
        }
    }
}
