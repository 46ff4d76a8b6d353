//! The agent's link in virtual time: it carries out what the protocol's own [`WayFinder`] decides, over links that are cut.

use tanist_model::id::AgentName;
use tanist_model::time::Monotonic;
use tanist_protocol::agent::way::{Attempt, DialFailure, Ended, Way, WayFinder, WayStep};
use tanist_protocol::message::{AgentMessage, ServerMessage};

use crate::links::Place;
use crate::network::Payload;
use crate::process::{Item, Pid};
use crate::world::{Event, World};

/// An attempt that nothing answers is given up after this time.
const DIAL_LIMIT_US: u64 = 5_000_000;
const RELAY_DIAL_LIMIT_US: u64 = 2_000_000;

/// How an attempt fails, and after how many microseconds.
type Unreached = (DialFailure, u64);
/// The server's process, and the agent that carries with its process.
type Carried = (Pid, Option<(usize, Pid)>);

impl World {
    /// Lets the way finder of a process decide on something, and carries it out.
    pub fn find_way(&mut self, pid: Pid, decide: impl FnOnce(&mut WayFinder, Monotonic) -> Vec<WayStep>) {
        let Some(agent) = self.agent_of(pid) else { return };
        let now = self.clock(Place::Agent(agent)).monotonic;
        let Some(process) = self.agents[agent].process.as_mut() else { return };
        let steps = decide(&mut process.finder, now);
        for step in steps {
            self.step_on_way(agent, pid, step);
        }
        self.wake_way(agent, pid);
    }

    /// The next time that something is due, unless that is on the calendar already.
    fn wake_way(&mut self, agent: usize, pid: Pid) {
        let (now, clock) = (self.now, *self.clock_of(Place::Agent(agent)));
        let Some(process) = self.agents[agent].process.as_mut() else { return };
        let Some(due) = process.finder.deadline() else { return };
        let due = clock.moment_of(due, now);
        if process.way_due.is_none_or(|known| due < known || known <= now) {
            process.way_due = Some(due);
            self.at(due, Event::WayDue(pid));
        }
    }

    fn step_on_way(&mut self, agent: usize, pid: Pid, step: WayStep) {
        match step {
            WayStep::Dial { attempt, way, .. } => {
                let took = self.latency();
                self.at(self.now + took, Event::Dialled { pid, attempt, way });
            }
            WayStep::Drop(attempt) => {
                let led_to = self.connection_of(pid, attempt);
                led_to.into_iter().for_each(|id| self.close_by_agent(id));
            }
            WayStep::Take { attempt, way } => {
                let Some(id) = self.connection_of(pid, attempt) else { return };
                self.note("connect", id, || format!("h{} takes connection {id}, {way:?}", agent + 1));
                let Some(process) = self.agents[agent].process.as_mut() else { return };
                process.replaced = process.connection;
                process.pending = Some(id);
                process.shell.inbox.push_back(Item::Connected(id));
                self.wake(pid);
            }
        }
    }

    fn connection_of(&self, pid: Pid, attempt: Attempt) -> Option<u64> {
        self.connections.iter().find(|(_, c)| c.agent_pid == pid && c.attempt == attempt).map(|(id, _)| *id)
    }

    /// What an attempt meets when it gets there.
    pub fn dialled(&mut self, pid: Pid, attempt: Attempt, way: &Way) {
        let Some(agent) = self.agent_of(pid) else { return };
        let found = match way {
            Way::Direct => self.reach_server(Place::Agent(agent), DIAL_LIMIT_US).map(|server| (server, None)),
            Way::Through(relay) => self.reach_through(agent, relay),
        };
        match found {
            Ok((server, relay)) => {
                self.open_connection(agent, (pid, server), attempt, relay);
                self.find_way(pid, |finder, now| finder.established(now, attempt));
            }
            Err((failure, after)) => self.at(self.now + after, Event::DialFailed { pid, attempt, failure }),
        }
    }

    /// The server's process, or how and when it shows that it is not reached.
    fn reach_server(&self, from: Place, limit_us: u64) -> Result<Pid, Unreached> {
        if !self.links.joins(from, Place::Server) {
            return Err((DialFailure::Silent, limit_us));
        }
        match self.servers.last() {
            None => Err((DialFailure::Refused, 500)),
            Some(server) if server.shell.paused => Err((DialFailure::Silent, limit_us)),
            Some(server) => Ok(server.shell.pid),
        }
    }

    fn reach_through(&self, agent: usize, relay: &AgentName) -> Result<Carried, Unreached> {
        let silent = |after| (DialFailure::Silent, after);
        let place = self.index_of(relay).ok_or(silent(500))?;
        if !self.hosts[self.agents[place].host].up || !self.links.joins(Place::Agent(agent), Place::Agent(place)) {
            return Err(silent(DIAL_LIMIT_US));
        }
        let Some(process) = &self.agents[place].process else { return Err(silent(500)) };
        if process.shell.paused {
            return Err(silent(DIAL_LIMIT_US));
        }
        if !process.watch.0.iter().any(|peer| peer.agent == self.names[agent]) {
            return Err(silent(1000));
        }
        // What the relay sees of the server, the agent does not: its tunnel ends.
        let server = self.reach_server(Place::Agent(place), RELAY_DIAL_LIMIT_US).map_err(|(_, after)| silent(after))?;
        Ok((server, Some((place, process.shell.pid))))
    }

    /// A message goes out on the connection in use.
    pub fn beat_goes_out(&mut self, pid: Pid, message: &AgentMessage) {
        if let AgentMessage::Heartbeat(beat) = message {
            let number = beat.number;
            self.find_way(pid, |finder, now| finder.beat_said(now, number));
        }
    }

    /// The server has said something on a connection; what it replaced is closed.
    pub fn heard_on(&mut self, id: u64, message: &ServerMessage) {
        let Some(connection) = self.connections.get(&id) else { return };
        let (pid, attempt) = (connection.agent_pid, connection.attempt);
        let Some(process) = self.agents.iter_mut().filter_map(|a| a.process.as_mut()).find(|p| p.shell.pid == pid)
        else {
            return;
        };
        if process.finder.connection() != Some(attempt) {
            return;
        }
        let replaced = process.replaced.take().filter(|old| *old != id);
        replaced.into_iter().for_each(|old| self.close_by_agent(old));
        self.find_way(pid, |finder, now| finder.heard(now, message));
    }

    /// The end of a connection, as its agent sees it.
    pub fn way_ended(&mut self, pid: Pid, id: u64) {
        let Some(connection) = self.connections.get(&id) else { return };
        let (attempt, how) = (connection.attempt, if connection.refused { Ended::Refused } else { Ended::Lost });
        self.find_way(pid, |finder, now| finder.ended(now, attempt, how));
    }

    /// The connection itself answers a beat, whatever the machine behind it does.
    pub fn answer_beat(&mut self, id: u64, message: &AgentMessage) {
        let Some(connection) = self.connections.get(&id).filter(|c| c.server_end && c.greeted) else { return };
        let pid = connection.server_pid;
        let answers = self.servers.iter().any(|server| server.shell.pid == pid && !server.shell.paused);
        if let AgentMessage::Heartbeat(beat) = message
            && answers
            && beat.number > 0
        {
            self.transmit(id, Payload::ToAgent(ServerMessage::Heard { number: beat.number }));
        }
    }
}
