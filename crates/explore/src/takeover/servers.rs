//! A server's shell: takes what arrives, commits what its machine decides, says what rests on it.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tanist_model::agent::ShownCertificate;
use tanist_model::change::{GroupOutcome, Transaction};
use tanist_model::id::{AgentName, ClusterId, Term};
use tanist_model::state::State;
use tanist_model::time::Timestamp;
use tanist_protocol::driver::{Interpreter, Output, Step};
use tanist_protocol::message::{AgentMessage, ServerMessage};
use tanist_protocol::server::{ConnectionId, Effect, Input, ServerMachine};
use tanist_protocol::timers::Timers;
use tanist_store::{MemoryStore, Store, StoreError};

use super::Bounds;
use super::checks::{Fact, facts_of};
use super::memory::print_of_all;
use super::print::print_of;
use super::shared::Shared;
use super::sights::Sight;
use super::world::{Server, Turn, World, name_of};

/// What a server is told: a word of an agent, whose print is known, or anything else.
#[derive(Clone, Debug)]
pub enum Told {
    /// The first one on a connection is its beginning.
    Word {
        agent: AgentName,
        connection: ConnectionId,
        message: Shared<AgentMessage>,
        first: bool,
    },
    Other(Input),
}

impl Told {
    fn print(&self) -> u64 {
        match self {
            Self::Word { agent, connection, message, first } => {
                print_of_all((0, agent.as_str(), connection.0, message.print(), first))
            }
            Self::Other(input) => print_of_all((1, print_of(input).whole)),
        }
    }

    fn input(&self) -> Input {
        match self {
            Self::Other(input) => input.clone(),
            Self::Word { agent, connection, message, first } => match &**message {
                AgentMessage::Hello(hello) if *first => Input::Connected {
                    agent: agent.clone(),
                    connection: *connection,
                    certificate: certificate(),
                    hello: hello.clone(),
                },
                message => Input::Message { agent: agent.clone(), connection: *connection, message: message.clone() },
            },
        }
    }
}

/// An effect of a server, with what it says in a form that states share.
#[derive(Clone, PartialEq, Debug)]
pub enum Word {
    Say { agent: AgentName, connection: ConnectionId, message: Shared<ServerMessage> },
    Close { agent: AgentName, connection: ConnectionId },
    Answer,
}

impl Word {
    fn of(effect: &Effect) -> Self {
        match effect.clone() {
            Effect::Send { agent, connection, message } => {
                Self::Say { agent, connection, message: Shared::new(message) }
            }
            Effect::Close { agent, connection, .. } => Self::Close { agent, connection },
            Effect::Answer { .. } => Self::Answer,
        }
    }
}

fn shared_words(output: &Output<Effect>) -> Output<Word> {
    let mut shared = Output::default();
    for decision in output.decisions() {
        let words: Vec<Word> = decision.after.iter().map(Word::of).collect();
        match &decision.group {
            Some(group) => shared.commit(group.clone(), words),
            None => words.into_iter().for_each(|word| shared.perform(word)),
        }
    }
    shared
}

/// What a server decided on one input.
#[derive(Debug)]
pub struct Handled {
    machine: Shared<ServerMachine>,
    output: Output<Word>,
}

/// What became of a commit.
#[derive(Debug)]
pub struct Committed {
    store: Shared<State>,
    /// None if the store refused it: its server does not lead any more.
    outcomes: Option<Vec<GroupOutcome>>,
    facts: Vec<Fact>,
}

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
        world.servers.push(Server { term, machine: Shared::new(machine), held: None });
        Some(())
    }

    /// A server process is gone, and its kernel ends its connections.
    pub fn end_server(&self, world: &mut World, term: Term) {
        world.servers.retain(|server| server.term != term);
        world.connections.iter_mut().filter(|c| c.term == term).for_each(|c| c.server_end = false);
        world.sweep_connections();
    }

    /// A server decides on what it is told, and carries it out.
    pub fn server_hears(&self, world: &mut World, at: usize, told: &Told) -> Option<()> {
        let now = world.now();
        let server = world.servers.get_mut(at)?;
        let term = server.term;
        let key = (server.machine.print(), print_of_all((now.monotonic.0, told.print(), self.broken)));
        let handled = self.memory.servers().recall(key, || {
            let mut machine = server.machine.clone();
            let output = machine.change(|machine| machine.handle(now, told.input()));
            Some(Handled { machine, output: shared_words(&output) })
        })?;
        server.machine = handled.machine.clone();
        let mut interpreter = Interpreter::new(self.broken);
        interpreter.load(term, handled.output.clone());
        self.carry_out(world, term, Turn { interpreter, next: None, decision: print_of_all((term.0, key)) })
    }

    /// A server goes on where it was held.
    pub fn server_goes_on(&self, world: &mut World, term: Term) -> Option<()> {
        let server = world.servers.iter_mut().find(|server| server.term == term)?;
        let turn = (*server.held.take()?).clone();
        self.carry_out(world, term, turn)
    }

    /// Carries out what was decided, up to the next step at which it matters whether the server lives.
    fn carry_out(&self, world: &mut World, term: Term, mut turn: Turn) -> Option<()> {
        let mut said = self.stepwise;
        loop {
            let step = match turn.next.take() {
                Some(held) => Some(held),
                None => {
                    let next = turn.interpreter.next_step();
                    // What is said is taken back by no crash, a commit that never comes may be: a server can die between the two.
                    if said && (self.stepwise || matches!(next, Some(Step::Commit(_)))) && next.is_some() {
                        turn.next = next;
                        let server = world.servers.iter_mut().find(|server| server.term == term)?;
                        server.held = Some(Shared::new(turn));
                        return Some(());
                    }
                    next
                }
            };
            match step {
                Some(Step::Commit(transaction)) => {
                    let committed = self.commit(world, &transaction, turn.decision)?;
                    let Some(outcomes) = &committed.outcomes else { return Some(()) };
                    turn.interpreter.committed(outcomes);
                }
                Some(Step::Perform(word)) => {
                    said = true;
                    self.perform(world, term, word);
                }
                None if turn.interpreter.take_stale() => return self.reload(world, term),
                None => return Some(()),
            }
        }
    }

    fn reload(&self, world: &mut World, term: Term) -> Option<()> {
        let state = (*world.store).clone();
        let server = world.servers.iter_mut().find(|server| server.term == term)?;
        if server.machine.change(|machine| machine.reload(state)).is_err() {
            self.end_server(world, term);
        }
        Some(())
    }

    fn commit(&self, world: &mut World, transaction: &Transaction, decision: u64) -> Option<Arc<Committed>> {
        let before = world.store.clone();
        let committed = self.memory.commits().recall((before.print(), decision), || {
            let store = MemoryStore::with_state((*before).clone());
            let Ok(outcomes) = at_once(store.commit(transaction)) else {
                return Some(Committed { store: before.clone(), outcomes: None, facts: Vec::new() });
            };
            let facts = facts_of(&before, transaction, &outcomes);
            Some(Committed { store: Shared::new(at_once(store.load()).ok()?), outcomes: Some(outcomes), facts })
        })?;
        if committed.outcomes.is_some() {
            world.store = committed.store.clone();
            world.check_commit(transaction.term, before.term, &committed.facts, &self.sights);
        } else {
            self.sights.note(Sight::Deposed);
            self.end_server(world, transaction.term);
        }
        Some(committed)
    }

    fn perform(&self, world: &mut World, term: Term, word: Word) {
        match word {
            Word::Say { agent, connection, message } => {
                world.check_said(&message);
                let Some(agent) = world.agent_named(&agent) else { return };
                self.sights.note_if(Sight::SteppedDown, matches!(*message, ServerMessage::DrainedNoted { .. }));
                let end = world.connection(agent, connection.0).filter(|c| c.term == term);
                if let Some(connection) = end.filter(|c| c.server_end && c.agent_end && c.carries) {
                    connection.down.push_back(message);
                }
            }
            Word::Close { agent, connection } => {
                let Some(agent) = world.agent_named(&agent) else { return };
                let leads = world.servers.last().is_some_and(|server| server.term == term);
                let lives = world.process(agent).is_some_and(|process| process.connection == Some(connection.0));
                self.sights.note_if(Sight::EndedOnTheLiving, leads && lives);
                if let Some(connection) = world.connection(agent, connection.0).filter(|c| c.term == term) {
                    connection.server_end = false;
                }
                world.sweep_connections();
            }
            Word::Answer => {}
        }
    }

    /// The next word on a connection reaches its server.
    pub fn deliver_up(&self, world: &mut World, at: usize) -> Option<()> {
        let connection = world.connections.get_mut(at)?;
        let message = connection.up.pop_front()?;
        let (agent, number, term) = (name_of(connection.agent)?, ConnectionId(connection.number), connection.term);
        let first = matches!(*message, AgentMessage::Hello(_)) && !connection.greeted;
        connection.greeted |= first;
        let told = Told::Word { agent, connection: number, message, first };
        let server = world.servers.iter().position(|server| server.term == term)?;
        self.server_hears(world, server, &told)
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
            let told = Told::Other(Input::Disconnected { agent, connection: number, reason });
            self.server_hears(world, server, &told)?;
        }
        Some(())
    }
}
