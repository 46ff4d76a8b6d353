//! What can happen next, in every order there is.
//!
//! A step is as large as it can be without hiding an order. A server takes an input, commits and says what rests on that in one step: what it
//! decides is seen by nobody before the commit, so that dying before the commit is dying before the input was read; and the last words
//! of a dead server may be lost from any one on, so that dying between two words is dying after both. Only where something is said
//! *before* it is committed, which no sound machine does, the commit is a step of its own. With [`Bounds::stepwise`] all of them are:
//! the worlds in which both forms are explored show the same.

use tanist_model::id::{CommandId, Epochs, Term};
use tanist_protocol::agent;
use tanist_protocol::message::{AgentMessage, ServerMessage};
use tanist_protocol::server::{Command, Input};

use super::agents::Heard;
use super::engines;
use super::servers::Told;
use super::world::{Connection, World, replication_name};
use super::{Bounds, Succeeded};

/// One thing that can happen.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Action {
    /// The next word on this connection reaches its server.
    ToServer {
        agent: usize,
        connection: u64,
    },
    /// The next word reaches its agent. If it is asked about a peer: whether it reaches it.
    ToAgent {
        agent: usize,
        connection: u64,
        reached: bool,
    },
    /// An end notices that the connection is over; what had not arrived is lost.
    ServerNotices {
        agent: usize,
        connection: u64,
    },
    AgentNotices {
        agent: usize,
        connection: u64,
    },
    /// A server carries out what it was about to.
    GoOn {
        term: Term,
    },
    Dial {
        agent: usize,
    },
    Engine {
        agent: usize,
        epochs: Epochs,
        step: engines::Step,
    },
    Land {
        write: usize,
    },
    /// The operator asks for the next run.
    Sync,
    /// A pause. Agents look at the clock, their volumes and their peers, but those who sleep; then the servers look at the clock.
    TimePasses {
        asleep: Option<usize>,
    },
    AgentDies {
        agent: usize,
    },
    AgentStarts {
        agent: usize,
    },
    PowerFails {
        agent: usize,
    },
    Cut {
        agent: usize,
        connection: u64,
    },
    ServerChanges {
        old_lives: bool,
    },
    Echo {
        index: usize,
    },
}

impl Bounds {
    /// What is tried in a state: everything that can happen, or what comes first without loss.
    pub fn tried(&self, world: &World, actions: &mut Vec<Action>) {
        match self.alone(world) {
            Some(alone) => actions.extend(alone),
            None => self.possible(world, actions),
        }
    }

    /// Everything that can happen in a state.
    pub fn possible(&self, world: &World, actions: &mut Vec<Action>) {
        self.possible_on_connections(world, actions);
        for (at, server) in world.servers.iter().enumerate() {
            let leads = at + 1 == world.servers.len();
            if server.held.is_some() {
                actions.push(Action::GoOn { term: server.term });
            } else if leads && world.left.runs > 0 && world.replication().is_some_and(|r| r.run.is_none()) {
                actions.push(Action::Sync);
            }
        }
        (0..world.agents.len()).for_each(|agent| self.possible_at(world, agent, actions));
        actions.extend(
            (0..world.storage.writes.len()).filter(|at| is_first(world, *at)).map(|write| Action::Land { write }),
        );
        if world.left.pauses > 0 && world.servers.iter().all(|server| server.held.is_none()) {
            let asleep = (0..world.agents.len()).filter(|agent| world.agents[*agent].process.is_some());
            actions.extend(std::iter::once(None).chain(asleep.map(Some)).map(|asleep| Action::TimePasses { asleep }));
        }
        if world.left.servers > 0 && world.servers.len() == 1 {
            let may = |old_lives: &bool| match self.succeeded {
                Succeeded::Dead => !old_lives,
                Succeeded::Deposed => *old_lives,
                Succeeded::Either => true,
            };
            let fates = [false, true].into_iter().filter(may);
            actions.extend(fates.map(|old_lives| Action::ServerChanges { old_lives }));
        }
        if world.left.echoes > 0 {
            actions.extend((0..world.echoes.len()).map(|index| Action::Echo { index }));
        }
    }

    fn possible_on_connections(&self, world: &World, actions: &mut Vec<Action>) {
        for c in &world.connections {
            let (agent, connection) = (c.agent, c.number);
            let server_hears = world.servers.iter().any(|s| s.term == c.term && s.held.is_none());
            if c.server_end && server_hears {
                actions.extend((!c.up.is_empty()).then_some(Action::ToServer { agent, connection }));
                actions.extend((!c.agent_end || !c.carries).then_some(Action::ServerNotices { agent, connection }));
            }
            if c.agent_end {
                actions.extend(c.down.front().map(|_| Action::ToAgent { agent, connection, reached: true }));
                let asks = matches!(c.down.front().map(|word| &**word), Some(ServerMessage::Survey { .. }));
                actions.extend(asks.then_some(Action::ToAgent { agent, connection, reached: false }));
                actions.extend((!c.server_end || !c.carries).then_some(Action::AgentNotices { agent, connection }));
            }
            if c.server_end && c.agent_end && c.carries && world.left.cuts > 0 {
                actions.push(Action::Cut { agent, connection });
            }
        }
    }

    fn possible_at(&self, world: &World, agent: usize, actions: &mut Vec<Action>) {
        let left = &world.left;
        let Some(process) = &world.agents[agent].process else {
            actions.push(Action::AgentStarts { agent });
            return;
        };
        if left.crashes > 0 {
            actions.push(Action::AgentDies { agent });
        }
        if left.reboots > 0 {
            actions.push(Action::PowerFails { agent });
        }
        if process.connection.is_none() && !world.servers.is_empty() {
            actions.push(Action::Dial { agent });
        }
        for (epochs, engine) in &process.engines {
            let in_flight =
                world.writer(agent, *epochs).map_or(0, |writer| world.storage.in_flight(|of| *of == writer));
            let steps = engine.steps(in_flight, self.blocks);
            actions.extend(steps.into_iter().map(|step| Action::Engine { agent, epochs: *epochs, step }));
        }
    }

    /// The state after an action; `None` if it turns out that nothing happens.
    pub fn after(&self, before: &World, action: Action) -> Option<World> {
        let mut after = before.clone();
        let world = &mut after;
        match action {
            Action::ToServer { agent, connection } => self.deliver_up(world, place(world, agent, connection)?)?,
            Action::ToAgent { agent, connection, reached } => {
                world.reached = reached;
                self.deliver_down(world, place(world, agent, connection)?)?;
            }
            Action::ServerNotices { agent, connection } => {
                self.server_notices(world, place(world, agent, connection)?)?
            }
            Action::AgentNotices { agent, connection } => {
                self.agent_notices(world, place(world, agent, connection)?)?
            }
            Action::GoOn { term } => self.server_goes_on(world, term)?,
            Action::Dial { agent } => self.connect(world, agent)?,
            Action::Engine { agent, epochs, step } => self.engine_steps(world, agent, epochs, step)?,
            Action::Land { write } => {
                let landed = world.storage.land(write)?;
                world.check_landed(landed, &self.sights);
            }
            Action::Sync => self.ask_for_run(world)?,
            Action::TimePasses { asleep } => self.pause(world, asleep)?,
            _ => self.fail(world, action)?,
        }
        self.read_what_orders_nothing(world)?;
        world.reached = true;
        Some(after)
    }

    fn pause(&self, world: &mut World, asleep: Option<usize>) -> Option<()> {
        world.left.pauses -= 1;
        world.pauses += 1;
        for agent in (0..world.agents.len()).filter(|agent| Some(*agent) != asleep) {
            if world.agents[agent].process.is_some() {
                let seen = self.look(world, agent)?;
                self.agent_hears(world, agent, Heard::Other(seen))?;
                self.agent_hears(world, agent, Heard::Other(agent::Input::Tick))?;
            }
        }
        self.read_what_orders_nothing(world)?;
        let terms: Vec<Term> = world.servers.iter().map(|server| server.term).collect();
        for term in terms {
            if let Some(at) = world.servers.iter().position(|server| server.term == term) {
                self.server_hears(world, at, &Told::Other(Input::Tick))?;
            }
        }
        Some(())
    }

    fn fail(&self, world: &mut World, action: Action) -> Option<()> {
        match action {
            Action::AgentDies { agent } => {
                world.left.crashes -= 1;
                self.end_agent(world, agent);
            }
            Action::AgentStarts { agent } => self.start_agent(world, agent)?,
            Action::PowerFails { agent } => {
                world.left.reboots -= 1;
                let boot = world.boot_of(agent);
                self.end_agent(world, agent);
                world.storage.end_boot(boot);
                world.agents[agent].boot += 1;
                world.check_promises();
            }
            Action::Cut { agent, connection } => {
                world.left.cuts -= 1;
                world.connection(agent, connection)?.carries = false;
            }
            Action::ServerChanges { old_lives } => {
                world.left.servers -= 1;
                if !old_lives {
                    let term = world.servers.last()?.term;
                    self.end_server(world, term);
                }
                self.begin_server(world)?;
            }
            Action::Echo { index } => {
                world.left.echoes -= 1;
                let (agent, process, message) = world.echoes.remove(index);
                world.echoes.clear();
                if world.process(agent)?.number == process {
                    self.agent_hears(world, agent, Heard::Word(message))?;
                }
            }
            _ => {}
        }
        Some(())
    }

    /// A welcome, an assignment of what to watch and a beat order nothing: they are read as soon as they are next, whatever is read
    /// before them.
    fn read_what_orders_nothing(&self, world: &mut World) -> Option<()> {
        if self.stepwise {
            return Some(());
        }
        loop {
            let idle = |term: Term| world.servers.iter().any(|server| server.term == term && server.held.is_none());
            let beats = |c: &Connection| matches!(c.up.front().map(|word| &**word), Some(AgentMessage::Heartbeat(_)));
            if let Some(at) = world.connections.iter().position(|c| c.server_end && beats(c) && idle(c.term)) {
                self.deliver_up(world, at)?;
            } else if let Some(at) = world.connections.iter().position(|c| c.agent_end && orders_nothing(c)) {
                self.deliver_down(world, at)?;
            } else {
                return Some(());
            }
        }
    }

    /// The operator asks for a run.
    pub fn ask_for_run(&self, world: &mut World) -> Option<()> {
        world.left.runs = world.left.runs.saturating_sub(1);
        let command = Command::Sync { name: replication_name()?, full: false };
        self.command(world, command)
    }

    /// An operator's command reaches the server that leads.
    pub fn command(&self, world: &mut World, command: Command) -> Option<()> {
        world.commands += 1;
        let id = CommandId(u128::from(world.commands));
        let at = world.servers.len().checked_sub(1)?;
        let input = Input::Command { id, actor: "operator".to_owned(), command: Box::new(command) };
        self.server_hears(world, at, &Told::Other(input))
    }
}

fn orders_nothing(connection: &Connection) -> bool {
    let next = connection.down.front().map(|word| &**word);
    matches!(next, Some(ServerMessage::Welcome { .. } | ServerMessage::Watch { .. }))
}

fn place(world: &World, agent: usize, number: u64) -> Option<usize> {
    world.connections.iter().position(|c| c.agent == agent && c.number == number)
}

/// Of writes that are alike, which one lands makes no difference.
fn is_first(world: &World, at: usize) -> bool {
    at == 0 || world.storage.writes[at] != world.storage.writes[at - 1]
}
