//! A server's shell: takes what arrives, commits what its machine decides, says what rests on it.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use tanist_model::agent::ShownCertificate;
use tanist_model::change::Transaction;
use tanist_model::id::{ClusterId, Term};
use tanist_model::time::Timestamp;
use tanist_protocol::driver::{Interpreter, Step};
use tanist_protocol::message::{AgentMessage, ServerMessage};
use tanist_protocol::server::{ConnectionId, Effect, Input, ServerMachine};
use tanist_protocol::timers::Timers;
use tanist_store::{MemoryStore, Store, StoreError};

use super::Bounds;
use super::shared::Shared;
use super::sights::Sight;
use super::world::{Core, Server, World, name_of};

/// The memory store answers at once: one poll is enough.
fn at_once<T>(future: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => Err(StoreError::Unsupported { doing: "wait" }),
    }
}

/// What every agent shows; no certificate ends in these worlds.
fn certificate() -> ShownCertificate {
    ShownCertificate { serial: "1".to_owned(), expires_at: Timestamp(i64::MAX) }
}

impl Bounds {
    /// A server begins a term over the store.
    pub fn begin_server(&self, world: &mut World) -> Option<()> {
        let store = MemoryStore::with_state((*world.store).clone());
        let term = at_once(store.begin_term()).ok()?;
        world.check(tanist_protocol::invariants::terms_grow(world.store.term, term));
        let state = at_once(store.load()).ok()?;
        world.store = Shared::new(state.clone());
        let waits = world.replication().is_some_and(|r| r.holder.as_ref().is_some_and(|h| h.activated_at.is_none()));
        self.sights.note_if(Sight::ServerInTakeover, waits && world.store.takeovers.len() > 1);
        let entropy = u128::from(term.0) << 64;
        let machine = ServerMachine::new(ClusterId(1), state, Timers::DEFAULT, entropy, self.broken, world.now());
        let core = Core { machine, interpreter: Interpreter::new(self.broken) };
        world.servers.push(Server { term, core: Shared::new(core), held: None });
        Some(())
    }

    /// A server process is gone, and its kernel ends its connections.
    pub fn end_server(&self, world: &mut World, term: Term) {
        world.servers.retain(|server| server.term != term);
        world.connections.iter_mut().filter(|c| c.term == term).for_each(|c| c.server_end = false);
        world.sweep_connections();
    }

    pub fn server_hears(&self, world: &mut World, at: usize, input: Input) -> Option<()> {
        let now = world.now();
        let server = world.servers.get_mut(at)?;
        let term = server.term;
        server.core.change(|core| {
            let output = core.machine.handle(now, input);
            core.interpreter.load(term, output);
        });
        self.server_goes_on(world, term)
    }

    /// Carries out what was decided, up to the next step at which it matters whether the server lives.
    pub fn server_goes_on(&self, world: &mut World, term: Term) -> Option<()> {
        let mut said = self.stepwise;
        loop {
            let server = world.servers.iter_mut().find(|server| server.term == term)?;
            let step = match server.held.take() {
                Some(held) => Some((*held).clone()),
                None => {
                    let next = server.core.change(|core| core.interpreter.next_step());
                    // What is said is taken back by no crash, a commit that never comes may be: a server can die between the two.
                    if said && (self.stepwise || matches!(next, Some(Step::Commit(_)))) && next.is_some() {
                        server.held = next.map(Shared::new);
                        return Some(());
                    }
                    next
                }
            };
            match step {
                Some(Step::Commit(transaction)) => self.commit(world, &transaction)?,
                Some(Step::Perform(effect)) => {
                    said = true;
                    self.perform(world, term, effect);
                }
                None => return self.reload_if_stale(world, term),
            }
        }
    }

    fn reload_if_stale(&self, world: &mut World, term: Term) -> Option<()> {
        let state = (*world.store).clone();
        let server = world.servers.iter_mut().find(|server| server.term == term)?;
        if !server.core.change(|core| core.interpreter.take_stale()) {
            return Some(());
        }
        if server.core.change(|core| core.machine.reload(state)).is_err() {
            self.end_server(world, term);
        }
        Some(())
    }

    fn commit(&self, world: &mut World, transaction: &Transaction) -> Option<()> {
        let store = MemoryStore::with_state((*world.store).clone());
        match at_once(store.commit(transaction)) {
            Ok(outcomes) => {
                let before = world.store.clone();
                world.store = Shared::new(at_once(store.load()).ok()?);
                world.check_commit(&before, transaction, &outcomes, &self.sights);
                let server = world.servers.iter_mut().find(|server| server.term == transaction.term)?;
                server.core.change(|core| core.interpreter.committed(&outcomes));
            }
            Err(_) => {
                self.sights.note(Sight::Deposed);
                self.end_server(world, transaction.term);
            }
        }
        Some(())
    }

    fn perform(&self, world: &mut World, term: Term, effect: Effect) {
        match effect {
            Effect::Send { agent, connection, message } => {
                world.check_said(&message);
                let Some(agent) = world.agent_named(&agent) else { return };
                self.sights.note_if(Sight::SteppedDown, matches!(message, ServerMessage::DrainedNoted { .. }));
                let end = world.connection(agent, connection.0).filter(|c| c.term == term);
                if let Some(connection) = end.filter(|c| c.server_end && c.agent_end && c.carries) {
                    connection.down.push_back(Shared::new(message));
                }
            }
            Effect::Close { agent, connection, .. } => {
                let Some(agent) = world.agent_named(&agent) else { return };
                if let Some(connection) = world.connection(agent, connection.0).filter(|c| c.term == term) {
                    connection.server_end = false;
                }
                world.sweep_connections();
            }
            Effect::Answer { .. } => {}
        }
    }

    /// The next word on a connection reaches its server.
    pub fn deliver_up(&self, world: &mut World, at: usize) -> Option<()> {
        let connection = world.connections.get_mut(at)?;
        let message = (*connection.up.pop_front()?).clone();
        let (agent, number, term) = (name_of(connection.agent)?, ConnectionId(connection.number), connection.term);
        let input = match message {
            AgentMessage::Hello(hello) if !connection.greeted => {
                connection.greeted = true;
                Input::Connected { agent, connection: number, certificate: certificate(), hello }
            }
            message => Input::Message { agent, connection: number, message },
        };
        let server = world.servers.iter().position(|server| server.term == term)?;
        self.server_hears(world, server, input)
    }

    /// A server notices that a connection is over.
    pub fn server_notices(&self, world: &mut World, at: usize) -> Option<()> {
        let connection = world.connections.get_mut(at)?;
        connection.server_end = false;
        let (agent, number) = (name_of(connection.agent)?, ConnectionId(connection.number));
        let (term, greeted) = (connection.term, connection.greeted);
        world.sweep_connections();
        if greeted {
            let server = world.servers.iter().position(|server| server.term == term)?;
            let reason = "it is over".to_owned();
            self.server_hears(world, server, Input::Disconnected { agent, connection: number, reason })?;
        }
        Some(())
    }
}
