//! The server's shell: starts over the store, commits what its machine decides, sends what rests on it.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use tanist_model::agent::{AgentRecord, AgentSlot, Penalty};
use tanist_model::change::{GroupOutcome, Transaction};
use tanist_model::id::{AgentName, ClusterId, Term};
use tanist_model::state::State;
use tanist_model::time::Timestamp;
use tanist_protocol::driver::{Interpreter, Step};
use tanist_protocol::server::{Effect, Input, ServerMachine};
use tanist_store::{MemoryStore, Store, StoreError};

use crate::links::Place;
use crate::network::Payload;
use crate::process::{Item, Pid, ServerProcess, Shell};
use crate::world::{Event, World};

/// How commits fare.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Commits {
    #[default]
    Sound,
    /// No room: nothing is applied.
    Full,
    /// The disk fails after the fact: applied, and yet an error.
    FailAfter,
}

/// The store before the first server: agents that have joined.
#[must_use]
pub fn first_state(names: &[AgentName]) -> State {
    let mut state = State::default();
    for (slot, name) in (1..).zip(names) {
        let record = AgentRecord {
            name: name.clone(),
            slot: AgentSlot(slot),
            certificate_serial: "1".to_owned(),
            previous_serial: None,
            certificate_expires_at: Timestamp(i64::MAX),
            joined_at: Timestamp(0),
            removed: false,
            drained: false,
            penalty: Penalty::default(),
            host: None,
            listen_address: None,
            owes_epochs: false,
        };
        state.agents.insert(name.clone(), record);
    }
    state
}

/// The memory store answers at once: one poll is enough.
fn at_once<T>(future: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => Err(StoreError::Unsupported { doing: "wait" }),
    }
}

fn load(store: &MemoryStore) -> State {
    at_once(store.load()).unwrap_or_default()
}

impl World {
    /// A server begins a new term. A living one is deposed and does not know it yet.
    pub fn start_server(&mut self) {
        self.starting_server = false;
        let Ok(term) = at_once(self.store.begin_term()) else { return };
        let pid = self.new_pid();
        let state = load(&self.store);
        self.checker.term_begins(term);
        let (timers, entropy, now) = (self.timers, self.rng.wide(), self.clock(Place::Server));
        let machine = ServerMachine::new(ClusterId(1), state, timers, entropy, self.mutations, now);
        let shell = Shell::new(pid, Interpreter::new(self.mutations));
        self.servers.push(ServerProcess { shell, machine, term });
        self.note("server", pid, || format!("a server begins term {term} (process {pid})"));
        self.at(self.now + 10_000, Event::Tick(pid));
    }

    pub fn kill_server(&mut self, pid: Pid, why: &'static str) {
        self.servers.retain(|s| s.shell.pid != pid);
        self.note("kill", pid, || format!("server process {pid} ends: {why}"));
        self.end_connections_of(pid, false);
        if self.servers.is_empty() && !self.starting_server {
            self.starting_server = true;
            let pause = if self.rng.chance(300) { 1000 } else { self.rng.between(50_000, 4_000_000) };
            self.at(self.now + pause, Event::StartServer);
        }
    }

    pub fn tick_server(&mut self, pid: Pid) {
        self.give_server(pid, Input::Tick);
        self.at(self.now + 50_000, Event::Tick(pid));
    }

    pub fn step_server(&mut self, pid: Pid) {
        let now = self.clock(Place::Server);
        let Some(server) = self.servers.iter_mut().find(|s| s.shell.pid == pid) else { return };
        server.shell.scheduled = false;
        match server.shell.interpreter.next_step() {
            Some(Step::Commit(transaction)) => self.commit(pid, &transaction),
            Some(Step::Perform(effect)) => self.perform_server(pid, effect),
            None => {
                if server.shell.interpreter.take_stale() {
                    let state = load(&self.store);
                    if server.machine.reload(state).is_err() {
                        self.coverage.deposed += 1;
                        return self.kill_server(pid, "deposed by what it read");
                    }
                } else if let Some(Item::Input(input)) = server.shell.inbox.pop_front() {
                    let output = server.machine.handle(now, input);
                    server.shell.interpreter.load(server.term, output);
                } else {
                    return;
                }
            }
        }
        self.wake(pid);
    }

    fn commit(&mut self, pid: Pid, transaction: &Transaction) {
        let result = match self.commits {
            Commits::Full => Err(StoreError::Full { doing: "commit", path: "memory".into() }),
            _ => at_once(self.store.commit(transaction)),
        };
        let failed_after = self.commits == Commits::FailAfter && result.is_ok();
        match result {
            Ok(outcomes) => {
                self.note("commit", transaction.groups.len() as u64, || describe(transaction, &outcomes));
                self.check_commit(pid, transaction, &outcomes);
                if let Some(server) = self.servers.iter_mut().find(|s| s.shell.pid == pid) {
                    if failed_after {
                        server.shell.interpreter.commit_failed();
                    } else {
                        server.shell.interpreter.committed(&outcomes);
                    }
                }
            }
            Err(StoreError::Deposed { stored }) => {
                self.coverage.deposed += 1;
                self.note("deposed", stored.0, || format!("a commit of term {} is refused", transaction.term));
                self.kill_server(pid, "deposed by the store");
            }
            Err(error) => {
                self.coverage.failed_commits += 1;
                self.note("commit", 0, || format!("failed: {error}"));
                if let Some(server) = self.servers.iter_mut().find(|s| s.shell.pid == pid) {
                    server.shell.interpreter.commit_failed();
                }
            }
        }
    }

    fn perform_server(&mut self, pid: Pid, effect: Effect) {
        match effect {
            Effect::Send { agent, connection, message } => {
                self.note("send", connection.0, || format!("server {pid} to {agent}: {message:?}"));
                self.check_server_says(&message);
                self.transmit(connection.0, Payload::ToAgent(message));
            }
            Effect::Close { connection, .. } => self.close_connection(connection.0),
            Effect::Answer { command, answer } => self.answered(command, *answer),
        }
    }

    /// The store is replaced by an older copy; no server runs on it meanwhile.
    pub fn restore_store(&mut self) {
        let Some(mut state) = self.backup.take() else { return };
        let pids: Vec<Pid> = self.servers.iter().map(|s| s.shell.pid).collect();
        self.starting_server = true;
        pids.into_iter().for_each(|pid| self.kill_server(pid, "the store is restored"));
        state.term = Term(self.checker.term().0.max(state.term.0) + tanist_store::NUMBER_MARGIN);
        state.restoring = true;
        state.agents.values_mut().filter(|a| !a.removed).for_each(|a| a.owes_epochs = true);
        self.forget_answers();
        self.coverage.restores += 1;
        self.note("restore", state.term.0, || "the store is restored from its backup".to_owned());
        let granted =
            self.agents.iter().flat_map(|a| a.remembered.iter().map(|(id, epochs)| (*id, epochs.target))).collect();
        self.checker.restored(state.clone(), &granted);
        self.store = MemoryStore::with_state(state);
        let start = self.now + self.rng.between(100_000, 2_000_000);
        self.at(start, Event::StartServer);
    }
}

fn describe(transaction: &Transaction, outcomes: &[GroupOutcome]) -> String {
    use tanist_model::change::Change;
    let changes = transaction.groups.iter().zip(outcomes).flat_map(|(group, outcome)| {
        group.changes.iter().map(move |change| match change {
            Change::AppendEvent(event) => format!("{outcome:?} {} {}", event.code, event.message),
            Change::PutRun(run) => format!("{outcome:?} run {} {:?} at {}", run.id, run.state, run.checkpoint.seq),
            Change::PutReplication(r) => format!(
                "{outcome:?} {} epochs {} held by {:?}, unproven {:?}, run {:?}",
                r.name,
                r.epochs,
                r.holder.as_ref().map(|h| (&h.agent, h.activated_at.is_some())),
                r.unproven.iter().map(|u| (u.epoch, &u.agent, u.held_kernel_lock)).collect::<Vec<_>>(),
                r.run
            ),
            Change::PutAgent(a) => format!("{outcome:?} agent {} host {:?} drained {}", a.name, a.host, a.drained),
            other => format!("{outcome:?} {}", format!("{other:?}").split(['(', '{']).next().unwrap_or_default()),
        })
    });
    format!("term {}: {}", transaction.term, changes.collect::<Vec<_>>().join("; "))
}
