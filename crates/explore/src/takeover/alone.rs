//! Steps that need not be tried in every order, because no order of them makes a difference.
//!
//! An agent whose engine can do nothing takes steps of its own alone: it reads its next word, notices that its connection is over, dials. If
//! nothing that anybody else does can come between (make the step impossible, or make another one of this agent possible, or have its
//! effect depend on which was first), the agent's steps are tried first and all others after them: every order of the whole is
//! one of these with neighbours exchanged that do not notice (a persistent set; see docs/decisions/0030).
//!
//! What others can do to such an agent is little. The storage is touched by steps of engines alone, and its own have nothing to do and
//! nothing in flight that could land. Words to it are put behind those that it has not read. A server that leads and is not
//! succeeded any more ends no connection of a living process that has no newer one; that is watched ([`super::Sight::EndedOnTheLiving`]).
//! What it sees of its peers is who is alive, which matters to a survey alone, and only while somebody can die or come back.
//!
//! Its own death comes between. A process that dies before its step is one that dies after it and whose last words are lost, as they can be:
//! the step changes nothing that outlives the process. One that does, a grant that is remembered on disk, is left to every order
//! while somebody can die.

use tanist_protocol::message::{AgentMessage, ServerMessage};
use tanist_protocol::mutation::Mutation;

use super::Bounds;
use super::steps::Action;
use super::world::{Connection, Left, Process, World};

/// Faults under which a step that is put first could be noticed.
fn no_others(left: &Left) -> bool {
    let Left { runs: _, crashes: _, servers: _, reboots, cuts, pauses, echoes } = *left;
    reboots == 0 && cuts == 0 && pauses == 0 && echoes == 0
}

impl Bounds {
    /// The steps of one agent, if they are tried before those of everybody else.
    pub fn alone(&self, world: &World) -> Option<Vec<Action>> {
        let corpses = self.broken.breaks(Mutation::EpochResumed);
        if !self.reduced || self.stepwise || corpses || !no_others(&world.left) {
            return None;
        }
        (0..world.agents.len()).find_map(|agent| {
            let steps = alone_at(world, agent)?;
            steps.iter().all(|step| self.is_of_one_agent(world, agent, *step)).then_some(steps)
        })
    }

    /// Nothing changes but the agent and what it says. A beat is read as soon as it is next: it would draw a step of the server with it.
    fn is_of_one_agent(&self, before: &World, agent: usize, step: Action) -> bool {
        let Some(after) = self.after(before, step) else { return false };
        let beats = |c: &&Connection| c.up.iter().any(|word| matches!(**word, AgentMessage::Heartbeat(_)));
        let said = |world: &World| world.connections.iter().filter(|c| c.agent == agent).filter(beats).count();
        after.violation().is_none() && said(&after) == 0 && is_same_elsewhere(before, &after, agent)
    }
}

fn alone_at(world: &World, agent: usize) -> Option<Vec<Action>> {
    let process = world.agents[agent].process.as_ref()?;
    if !engines_rest(world, agent, process) {
        return None;
    }
    let Some(number) = process.connection else {
        let settled = world.left.servers == 0 && !world.servers.is_empty();
        return settled.then(|| vec![Action::Dial { agent }]);
    };
    let connection = world.connections.iter().find(|c| c.agent == agent && c.number == number)?;
    let notices = Action::AgentNotices { agent, connection: number };
    let hears = Action::ToAgent { agent, connection: number, reached: true };
    let asked = Action::ToAgent { agent, connection: number, reached: false };
    let next = connection.down.front().map(|word| &**word);
    match next {
        None if !connection.server_end => Some(vec![notices]),
        None => None,
        Some(word) if !is_alone(world, word) => None,
        Some(_) if !connection.server_end => Some(vec![hears, notices]),
        Some(_) if !stays(world, connection) => None,
        Some(ServerMessage::Survey { .. }) => Some(vec![hears, asked]),
        Some(_) => Some(vec![hears]),
    }
}

/// All that is not the agent or a connection of it is as it was.
fn is_same_elsewhere(before: &World, after: &World, agent: usize) -> bool {
    let agents = before.agents.iter().zip(&after.agents).enumerate().filter(|(at, _)| *at != agent);
    let others = |of: &&Connection| of.agent != agent;
    before.left == after.left
        && before.store == after.store
        && before.servers == after.servers
        && before.storage == after.storage
        && before.ledger == after.ledger
        && agents.into_iter().all(|(_, (before, after))| before == after)
        && before.connections.iter().filter(others).eq(after.connections.iter().filter(others))
}

/// No step of theirs is possible, and none becomes so by what others do.
fn engines_rest(world: &World, agent: usize, process: &Process) -> bool {
    process.engines.iter().all(|(epochs, engine)| {
        let writer = world.writer(agent, *epochs);
        let in_flight = writer.map_or(0, |writer| world.storage.in_flight(|of| *of == writer));
        in_flight == 0 && engine.steps(0, world.storage.size()).is_empty()
    })
}

/// The server at its other end leads, and goes on leading.
fn stays(world: &World, connection: &Connection) -> bool {
    world.left.servers == 0 && world.servers.last().is_some_and(|server| server.term == connection.term)
}

/// A word that is read with the same effect whatever others do meanwhile.
fn is_alone(world: &World, word: &ServerMessage) -> bool {
    let nobody_dies = world.left.crashes == 0;
    match word {
        ServerMessage::Activate { .. }
        | ServerMessage::OpenRun { .. }
        | ServerMessage::CheckpointAck { .. }
        | ServerMessage::StepDown { .. }
        | ServerMessage::DrainedNoted { .. } => true,
        // Snapshots that are removed are missed by others.
        ServerMessage::CloseRun { release, .. } => release.is_empty(),
        ServerMessage::Grant { .. } => nobody_dies,
        ServerMessage::Survey { .. } => nobody_dies && world.agents.iter().all(|agent| agent.process.is_some()),
        _ => false,
    }
}
