//! Connections between agents and servers: in order and lossy only at their end, or (when a seed says so) wholly unreliable.

use tanist_model::agent::ShownCertificate;
use tanist_model::time::Timestamp;
use tanist_protocol::agent::way::Attempt;
use tanist_protocol::message::{AgentMessage, ServerMessage};
use tanist_protocol::mutation::Mutation;
use tanist_protocol::server::ConnectionId;
use tanist_protocol::{agent, server};

use crate::links::Place;
use crate::process::{Item, Pid};
use crate::rng::Rng;
use crate::scenario::Transport;
use crate::world::{Event, World};

/// How often a relay that lies says something.
const FORGED_PER_MILLE: u64 = 50;

/// What a message carries.
#[derive(Clone, Debug)]
pub enum Payload {
    ToServer(AgentMessage),
    ToAgent(ServerMessage),
}

/// One TCP connection, as the world sees it.
#[derive(Clone, Debug)]
pub struct Connection {
    pub agent: usize,
    pub agent_pid: Pid,
    pub server_pid: Pid,
    /// The agent's number for it.
    pub attempt: Attempt,
    /// Who carries it.
    pub relay: Option<(usize, Pid)>,
    /// Something was lost on the way to the server, or to the agent: nothing more arrives there.
    pub lost: Lost,
    pub agent_end: bool,
    pub server_end: bool,
    pub greeted: bool,
    /// The server has said that it does not want it.
    pub refused: bool,
    last_to_server: u64,
    last_to_agent: u64,
}

/// In which directions a connection carries nothing any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Lost {
    pub to_server: bool,
    pub to_agent: bool,
    /// Its ends are about to notice.
    noticed: bool,
}

impl Lost {
    #[must_use]
    pub fn any(self) -> bool {
        self.to_server || self.to_agent
    }
}

impl World {
    /// The agent has reached the server, by itself or through a peer.
    pub fn open_connection(
        &mut self,
        agent: usize,
        (agent_pid, server_pid): (Pid, Pid),
        attempt: Attempt,
        relay: Option<(usize, Pid)>,
    ) {
        self.next_connection += 1;
        let id = self.next_connection;
        let connection = Connection {
            agent,
            agent_pid,
            server_pid,
            attempt,
            relay,
            lost: Lost::default(),
            agent_end: true,
            server_end: true,
            greeted: false,
            refused: false,
            last_to_server: 0,
            last_to_agent: 0,
        };
        self.connections.insert(id, connection);
        self.note("connect", id, || format!("h{} reaches the server ({id}), relay {relay:?}", agent + 1));
    }

    /// In which directions the way of a connection is cut now. A stopped relay passes nothing on.
    fn cuts_of(&self, connection: &Connection) -> (bool, bool) {
        let agent = Place::Agent(connection.agent);
        let Some((relay, relay_pid)) = connection.relay else {
            return (!self.links.passes(agent, Place::Server), !self.links.passes(Place::Server, agent));
        };
        let process = self.agents[relay].process.as_ref().filter(|p| p.shell.pid == relay_pid);
        if process.is_none_or(|process| process.shell.paused) {
            return (true, true);
        }
        let relay = Place::Agent(relay);
        let passes = |from, to| self.links.passes(from, relay) && self.links.passes(relay, to);
        (!passes(agent, Place::Server), !passes(Place::Server, agent))
    }

    /// Puts a message on the wire.
    pub fn transmit(&mut self, id: u64, payload: Payload) {
        let chaotic = self.scenario.transport == Transport::Chaotic && self.now < self.scenario.faults_end_us;
        let Some(connection) = self.connections.get(&id) else { return };
        let (to_server, to_agent) = self.cuts_of(connection);
        if to_server || to_agent {
            self.lose(id, to_server, to_agent);
        }
        let Some(connection) = self.connections.get(&id) else { return };
        let is_lost = match payload {
            Payload::ToServer(_) => connection.lost.to_server,
            Payload::ToAgent(_) => connection.lost.to_agent,
        };
        if is_lost {
            return;
        }
        if chaotic && !matches!(payload, Payload::ToServer(AgentMessage::Hello(_))) {
            self.transmit_chaotically(id, payload);
            return;
        }
        self.forge(id);
        let delay = self.latency();
        let now = self.now;
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let last = match payload {
            Payload::ToServer(_) => &mut connection.last_to_server,
            Payload::ToAgent(_) => &mut connection.last_to_agent,
        };
        *last = (now + delay).max(*last + 1);
        let due = *last;
        self.at(due, Event::Deliver { connection: id, payload: Box::new(payload) });
    }

    /// A relay that lies: now and then it says that whom it carries has drained. What is carried is the TLS of the one who is
    /// carried, so that the server sees bytes that nobody has signed.
    fn forge(&mut self, id: u64) {
        let Some(connection) = self.connections.get(&id).filter(|c| c.relay.is_some() && c.server_end) else { return };
        let (agent, pid) = (connection.agent, connection.server_pid);
        if !self.scenario.lying_relays || !Rng::new(self.now ^ id).chance(FORGED_PER_MILLE) {
            return;
        }
        self.coverage.forged += 1;
        if self.broken != Some(Mutation::RelayNotVerified) {
            return;
        }
        let Some(process) = &self.agents[agent].process else { return };
        let Some((replication, epochs)) = process.engines.keys().next_back().copied() else { return };
        let (message, agent) = (AgentMessage::Drained { replication, epochs }, self.names[agent].clone());
        self.give_server(pid, server::Input::Message { agent, connection: ConnectionId(id), message });
    }

    fn transmit_chaotically(&mut self, id: u64, payload: Payload) {
        if self.rng.chance(20) {
            return;
        }
        let copies = 1 + u64::from(self.rng.chance(50));
        for _ in 0..copies {
            let delay = if self.rng.chance(60) { self.rng.between(1000, 3_000_000) } else { self.latency() };
            self.at(self.now + delay, Event::Deliver { connection: id, payload: Box::new(payload.clone()) });
        }
    }

    pub fn latency(&mut self) -> u64 {
        if let Some(lost_per_mille) = self.scenario.rough_network {
            return self.rough_latency(lost_per_mille);
        }
        if self.rng.chance(30) { self.rng.between(2000, 200_000) } else { self.rng.between(100, 2000) }
    }

    /// Nothing arrives on it any more; each end finds out by itself.
    pub fn lose_connection(&mut self, id: u64) {
        self.lose(id, true, true);
    }

    /// Nothing arrives any more in these directions. What is sent is not acknowledged, whichever direction it is that is cut: both
    /// ends find out.
    fn lose(&mut self, id: u64, to_server: bool, to_agent: bool) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.lost.to_server |= to_server;
        connection.lost.to_agent |= to_agent;
        if std::mem::replace(&mut connection.lost.noticed, true) {
            return;
        }
        let agent_finds = self.now + self.rng.between(500_000, 6_000_000);
        let server_finds = self.now + self.rng.between(500_000, 6_000_000);
        self.at(agent_finds, Event::AgentEndOver { connection: id });
        self.at(server_finds, Event::ServerEndOver { connection: id, reason: "it timed out" });
    }

    pub fn deliver(&mut self, id: u64, payload: Payload) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        match payload {
            Payload::ToServer(message) if connection.server_end => {
                self.answer_beat(id, &message);
                let Some(connection) = self.connections.get_mut(&id) else { return };
                let (pid, agent) = (connection.server_pid, self.names[connection.agent].clone());
                let input = match message {
                    AgentMessage::Hello(hello) if !connection.greeted => {
                        connection.greeted = true;
                        server::Input::Connected {
                            agent,
                            connection: ConnectionId(id),
                            certificate: ShownCertificate { serial: "1".to_owned(), expires_at: Timestamp(i64::MAX) },
                            hello,
                        }
                    }
                    message => server::Input::Message { agent, connection: ConnectionId(id), message },
                };
                self.give_server(pid, input);
            }
            Payload::ToAgent(message) if connection.agent_end => {
                let pid = connection.agent_pid;
                connection.refused = matches!(message, ServerMessage::Refused { .. });
                self.heard_on(id, &message);
                self.give_agent(pid, Item::Input(agent::Input::Message(message)));
            }
            _ => {}
        }
    }

    /// The agent notices that its connection is over.
    pub fn agent_end_over(&mut self, id: u64) {
        let Some(connection) = self.connections.get_mut(&id).filter(|c| c.agent_end) else { return };
        connection.agent_end = false;
        let pid = connection.agent_pid;
        self.give_agent(pid, Item::Disconnected(id));
    }

    /// The server notices.
    pub fn server_end_over(&mut self, id: u64, reason: &'static str) {
        let Some(connection) = self.connections.get_mut(&id).filter(|c| c.server_end) else { return };
        connection.server_end = false;
        let (pid, greeted, agent) = (connection.server_pid, connection.greeted, connection.agent);
        if greeted {
            let agent = self.names[agent].clone();
            let reason = reason.to_owned();
            self.give_server(pid, server::Input::Disconnected { agent, connection: ConnectionId(id), reason });
        }
    }

    /// A process is gone and its kernel says so on all its connections.
    pub fn end_connections_of(&mut self, pid: Pid, silently: bool) {
        let mine: Vec<u64> = self
            .connections
            .iter()
            .filter(|(_, c)| {
                c.agent_pid == pid || c.server_pid == pid || c.relay.is_some_and(|(_, relay)| relay == pid)
            })
            .map(|(id, _)| *id)
            .collect();
        for id in mine {
            if silently {
                self.lose_connection(id);
                continue;
            }
            let (agent_pid, server_pid) = (self.connections[&id].agent_pid, self.connections[&id].server_pid);
            let found = self.now + self.rng.between(300, 3000);
            if server_pid != pid {
                self.at(found, Event::ServerEndOver { connection: id, reason: "the process ended" });
            }
            if agent_pid != pid {
                self.at(found, Event::AgentEndOver { connection: id });
            }
        }
    }

    /// Closed in order by the agent's link.
    pub fn close_by_agent(&mut self, id: u64) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.agent_end = false;
            let found = self.now + 1000;
            self.at(found, Event::ServerEndOver { connection: id, reason: "the agent closed it" });
        }
    }

    /// Closed in order by the server's shell.
    pub fn close_connection(&mut self, id: u64) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.server_end = false;
            let found = self.now + 1000;
            self.at(found, Event::AgentEndOver { connection: id });
        }
    }
}
