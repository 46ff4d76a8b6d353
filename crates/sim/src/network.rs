//! Connections between agents and servers: in order and lossy only at their end, or (when a seed says so) wholly unreliable.

use tanist_model::agent::ShownCertificate;
use tanist_model::time::Timestamp;
use tanist_protocol::message::{AgentMessage, ServerMessage};
use tanist_protocol::server::ConnectionId;
use tanist_protocol::{agent, server};

use crate::process::{Item, Pid};
use crate::scenario::Transport;
use crate::world::{Event, World};

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
    /// Something was lost: nothing more arrives.
    pub lost: bool,
    pub agent_end: bool,
    pub server_end: bool,
    pub greeted: bool,
    last_to_server: u64,
    last_to_agent: u64,
}

impl World {
    /// An agent without a connection tries for one.
    pub fn connect(&mut self, pid: Pid) {
        let Some(agent) = self.agent_of(pid) else { return };
        let slot = &self.agents[agent];
        let Some(process) = &slot.process else { return };
        if process.pending.is_some() || process.connection.is_some() {
            return;
        }
        let target = self.servers.last().filter(|s| !s.shell.paused).map(|s| s.shell.pid);
        let (Some(server_pid), false) = (target, slot.cut_from_server) else {
            let later = self.now + self.rng.between(100_000, 500_000);
            self.at(later, Event::Connect(pid));
            return;
        };
        self.next_connection += 1;
        let id = self.next_connection;
        let connection = Connection {
            agent,
            agent_pid: pid,
            server_pid,
            lost: false,
            agent_end: true,
            server_end: true,
            greeted: false,
            last_to_server: 0,
            last_to_agent: 0,
        };
        self.connections.insert(id, connection);
        self.note("connect", id, || format!("h{} connects ({id})", agent + 1));
        if let Some(process) = self.agents[agent].process.as_mut() {
            process.pending = Some(id);
            process.shell.inbox.push_back(Item::Connected(id));
        }
        self.wake(pid);
    }

    /// Puts a message on the wire.
    pub fn transmit(&mut self, id: u64, payload: Payload) {
        let chaotic = self.scenario.transport == Transport::Chaotic && self.now < self.scenario.faults_end_us;
        let Some(connection) = self.connections.get(&id) else { return };
        let cut = self.agents[connection.agent].cut_from_server;
        if connection.lost || cut {
            self.lose_connection(id);
            return;
        }
        if chaotic && !matches!(payload, Payload::ToServer(AgentMessage::Hello(_))) {
            self.transmit_chaotically(id, payload);
            return;
        }
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

    fn latency(&mut self) -> u64 {
        if self.rng.chance(30) { self.rng.between(2000, 200_000) } else { self.rng.between(100, 2000) }
    }

    /// Nothing arrives on it any more; each end finds out by itself.
    pub fn lose_connection(&mut self, id: u64) {
        let Some(connection) = self.connections.get_mut(&id).filter(|c| !c.lost) else { return };
        connection.lost = true;
        let agent_finds = self.now + self.rng.between(500_000, 4_000_000);
        let server_finds = self.now + self.rng.between(500_000, 4_000_000);
        self.at(agent_finds, Event::AgentEndOver { connection: id });
        self.at(server_finds, Event::ServerEndOver { connection: id, reason: "it timed out" });
    }

    pub fn deliver(&mut self, id: u64, payload: Payload) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        match payload {
            Payload::ToServer(message) if connection.server_end => {
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
            .filter(|(_, c)| c.agent_pid == pid || c.server_pid == pid)
            .map(|(id, _)| *id)
            .collect();
        for id in mine {
            let by_agent = self.connections[&id].agent_pid == pid;
            if silently {
                self.lose_connection(id);
                continue;
            }
            let found = self.now + self.rng.between(300, 3000);
            let event = if by_agent {
                Event::ServerEndOver { connection: id, reason: "the process ended" }
            } else {
                Event::AgentEndOver { connection: id }
            };
            self.at(found, event);
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
