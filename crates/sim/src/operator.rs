//! The operator: creates what is replicated, asks for runs, moves work about, and now and then repeats a command.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use tanist_model::api::{ConfirmDead, CreateReplication, Refusal, SetHierarchy};
use tanist_model::id::{AgentName, CommandId, ReplicationName};
use tanist_model::policy::Policy;
use tanist_model::replication::{Intent, ReplicationRecord, Side};
use tanist_model::retention::Retention;
use tanist_protocol::server::{Answer, Command, Input};

use crate::agent_shell::address;
use crate::world::{Event, World};

/// What the operator remembers.
#[derive(Debug, Default)]
pub struct Operator {
    last: Option<(CommandId, Command)>,
    answers: BTreeMap<CommandId, Answer>,
}

impl World {
    pub fn operate(&mut self) {
        if self.now >= self.scenario.faults_end_us {
            return;
        }
        let pause =
            if self.missing().is_some() { 1_000_000 } else { self.rng.between(1, 2 * self.scenario.operator_pause_us) };
        self.at(self.now + pause, Event::Operate);
        if let Some(number) = self.missing() {
            return self.create(number);
        }
        let injection = self.injections.next_command();
        self.inject(injection, Self::interfere);
    }

    fn interfere(&mut self) {
        let calm = self.scenario.faults == 0 || self.scenario.cuts_only;
        let name = self.replications[self.rng.index(self.replications.len())].clone();
        let command = match self.rng.below(100) {
            _ if calm => Command::Sync { name, full: false },
            0..41 => Command::Sync { name, full: self.rng.chance(100) },
            41..45 => Command::Drill { name, hand_back: self.rng.chance(300) },
            45..49 => Command::Pause { name },
            49..56 => Command::Resume { name },
            56..64 => Command::Handover { name, to: self.somebody() },
            64..68 => Command::Handback { name },
            68..72 => Command::DrainAgent { agent: self.anybody() },
            72..78 => Command::UndrainAgent { agent: self.anybody() },
            78..84 => return self.confirm_dead(),
            84..87 => self.new_hierarchy(name),
            87..89 => Command::Delete { name, leave_behind: self.rng.chance(300) },
            89..91 => Command::CheckExisting { name },
            91..94 => Command::Abort { name },
            94..98 => Command::Verify { name, repair: self.rng.chance(700) },
            _ => return self.repeat(),
        };
        self.command(command);
    }

    fn missing(&self) -> Option<usize> {
        let state = self.checker.state();
        self.replications.iter().position(|name| state.replication_by_name(name).is_none())
    }

    pub fn create(&mut self, number: usize) {
        let (Some(source), Some(target)) = (address("a", number), address("b", number)) else { return };
        // Few points, so that most runs make some expire.
        let retention = Retention { keep_last: NonZeroU32::MIN.saturating_add(1), ..Retention::default() };
        let policy = Policy { source_mode: self.scenario.source_mode, retention, ..Policy::default() };
        self.command(Command::Create(CreateReplication {
            name: self.replications[number].clone(),
            source,
            target,
            agents: self.names.clone(),
            policy,
            overwrite_target: true,
            once: false,
            restore: None,
        }));
    }

    fn anybody(&mut self) -> AgentName {
        self.names[self.rng.index(self.names.len())].clone()
    }

    fn somebody(&mut self) -> Option<AgentName> {
        let agent = self.anybody();
        self.rng.chance(500).then_some(agent)
    }

    fn new_hierarchy(&mut self, name: ReplicationName) -> Command {
        let mut agents = self.everybody_at_the_target();
        for n in (1..agents.len()).rev() {
            agents.swap(n, self.rng.index(n + 1));
        }
        let keep = 1 + self.rng.index(agents.len());
        agents.truncate(keep.max(2));
        Command::SetHierarchy { name, change: SetHierarchy { side: Side::Target, agents } }
    }

    fn everybody_at_the_target(&self) -> Vec<AgentName> {
        (0..self.names.len()).filter(|n| self.scenario.reach[*n].1).map(|n| self.names[n].clone()).collect()
    }

    /// A target is reserved, and the store may have forgotten that: it takes somebody who can reserve to write to it again.
    fn let_reserve_who_can(&mut self, record: &ReplicationRecord) {
        let everybody = self.everybody_at_the_target();
        let can = |agent: &AgentName| self.index_of(agent).is_some_and(|n| self.scenario.can_reserve[n]);
        let stuck = self.scenario.reserving.is_some() && !record.target.hierarchy.iter().any(can);
        if stuck && everybody.iter().any(can) {
            let change = SetHierarchy { side: Side::Target, agents: everybody };
            self.command(Command::SetHierarchy { name: record.name.clone(), change });
        }
    }

    /// An operator who looked: the process is gone and nothing it queued is on its way any more.
    fn confirm_dead(&mut self) {
        let agent = self.rng.index(self.agents.len());
        let name = self.names[agent].clone();
        let writing = self.disks.writes.values().any(|w| w.boot.host == self.agents[agent].host);
        let Some(server) = self.servers.last().map(|server| &server.machine) else { return };
        let seen = ConfirmDead { term: server.state().term, processes: server.unproven_processes(&name) };
        if self.agents[agent].process.is_none() && !writing {
            self.command(Command::ConfirmDead { agent: name, seen });
        }
    }

    fn repeat(&mut self) {
        if let Some((id, command)) = self.operator.last.clone() {
            self.send_command(id, command);
        }
    }

    pub fn command(&mut self, command: Command) {
        let id = CommandId(self.rng.wide());
        self.operator.last = Some((id, command.clone()));
        self.send_command(id, command);
    }

    fn send_command(&mut self, id: CommandId, command: Command) {
        let Some(pid) = self.servers.last().map(|s| s.shell.pid) else { return };
        self.note("operator", 0, || format!("{command:?}"));
        self.coverage.commands += 1;
        self.give_server(pid, Input::Command { id, actor: "operator".to_owned(), command: Box::new(command) });
    }

    /// The stored answers are gone with the store that held them.
    pub fn forget_answers(&mut self) {
        self.operator = Operator::default();
    }

    pub fn answered(&mut self, command: CommandId, answer: Result<Answer, Refusal>) {
        self.note("answer", 0, || format!("{answer:?}"));
        let Ok(answer @ Answer::Done(_)) = answer else { return };
        match self.operator.answers.get(&command) {
            Some(first) => self.checker.answered_again(first, &answer),
            None => drop(self.operator.answers.insert(command, answer)),
        }
    }

    pub fn undrain_everybody(&mut self) {
        for agent in self.names.clone() {
            self.command(Command::UndrainAgent { agent });
        }
    }

    /// After the faults: every replication is to make one more run; what does not exist is created.
    pub fn request_runs(&mut self) {
        let wanted = self.checker.state().clone();
        for number in 0..self.replications.len() {
            let name = self.replications[number].clone();
            wanted.replication_by_name(&name).into_iter().for_each(|record| self.let_reserve_who_can(record));
            match wanted.replication_by_name(&name) {
                None => self.create(number),
                Some(record) if record.intent == Intent::Paused => self.command(Command::Resume { name }),
                Some(record) if record.quarantine.is_some() => {
                    self.command(Command::Delete { name, leave_behind: false })
                }
                Some(record) if record.run.is_none() && record.intent == Intent::Enabled => {
                    self.command(Command::Sync { name, full: false });
                }
                Some(_) => {}
            }
        }
        for agent in self.names.clone() {
            if wanted.agents.get(&agent).is_some_and(|a| a.drained) {
                self.command(Command::UndrainAgent { agent });
            }
        }
        self.at(self.now + 3_000_000, Event::RequestRuns);
    }

    /// The application writes to its source; a sealed one only between runs.
    pub fn source_write(&mut self) {
        let pause = self.rng.between(50_000, 1_500_000);
        self.at(self.now + pause, Event::SourceWrite);
        let volume = self.rng.index(self.disks.sources.len());
        let state = self.checker.state();
        let running = state.replication_by_name(&self.replications[volume]).is_some_and(|r| r.run.is_some());
        let sealed = self.scenario.source_mode == tanist_model::policy::SourceMode::Sealed;
        let settled = self.now >= self.scenario.faults_end_us;
        if !(settled || sealed && running) {
            let block = self.rng.index(self.scenario.blocks);
            let back = self.rng.chance(300);
            self.disks.sources[volume].write(block, back);
        }
    }
}
