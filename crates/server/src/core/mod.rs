//! The one loop. A single task owns the machine: everything that happens reaches it as mail, and nothing else decides.
//!
//! Mail that waits is decided on together, so that a burst of takeovers costs one commit. What was decided is carried out by
//! the protocol's interpreter: first durable, then said. The only I/O that the loop waits for is that commit.

mod handle;
mod journal;
mod outbox;
mod trouble;
mod waiting;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tanist_model::api::{Refusal, RefusalCode};
use tanist_model::change::Transaction;
use tanist_model::event::{EventCode, NewEvent};
use tanist_model::id::{CommandId, Term};
use tanist_protocol::driver::{Interpreter, Output, Step};
use tanist_protocol::message::AgentMessage;
use tanist_protocol::server::{Effect, Input, ServerMachine};
use tanist_recording::Recorded;
use tanist_store::{Store, StoreError};
use tanist_wire::service_manager::Watchdog;
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior};

pub use handle::{CoreHandle, Moment};
pub use outbox::{BoxedMessage, Outbox};
pub use trouble::Trouble;

use crate::authority::Authority;
use crate::error::in_full;
use crate::metrics::Metrics;
use crate::{ServerError, clock};
use handle::{Ends, Mail, Query};
use journal::Journal;
use outbox::Outboxes;
use waiting::Waiting;

/// Time between two looks of the machine at everything.
pub const TICK: Duration = Duration::from_millis(50);
/// Inputs decided on together, at most: it bounds the transaction and the time to the next answer.
const BATCH: usize = 256;

/// The loop and what it owns.
#[derive(Debug)]
pub struct Core {
    machine: Recorded<ServerMachine>,
    interpreter: Interpreter<Effect>,
    store: Arc<dyn Store>,
    term: Term,
    ends: Ends,
    tick: Interval,
    /// Mail to be taken before any new one.
    backlog: VecDeque<Mail>,
    outboxes: Outboxes,
    waiting: Waiting,
    trouble: Option<Trouble>,
    journal: Journal,
    metrics: Metrics,
    authority: Arc<Authority>,
    watchdog: Watchdog,
}

/// What wakes the loop.
enum Wake {
    Mail(Mail),
    Query(Query),
    Tick,
    /// Nobody is left to send anything.
    End,
}

impl Core {
    /// A loop over a machine of this term, and the handle to it.
    pub fn new(
        machine: Recorded<ServerMachine>,
        interpreter: Interpreter<Effect>,
        store: Arc<dyn Store>,
        metrics: Metrics,
        authority: Arc<Authority>,
        watchdog: Watchdog,
    ) -> (Self, CoreHandle) {
        let (handle, ends) = handle::channel();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let core = Self {
            term: machine.state().term,
            journal: Journal::new(machine.state()),
            machine,
            interpreter,
            store,
            ends,
            tick,
            backlog: VecDeque::new(),
            outboxes: Outboxes::default(),
            waiting: Waiting::default(),
            trouble: None,
            metrics,
            authority,
            watchdog,
        };
        (core, handle)
    }

    /// Runs until every handle is gone.
    ///
    /// # Errors
    /// [`ServerError::Deposed`] if a newer server leads.
    pub async fn run(mut self) -> Result<(), ServerError> {
        self.backlog.push_back(Mail::Input(Input::Note(self.started())));
        loop {
            self.watchdog.alive();
            match self.next().await {
                Wake::End => return Ok(()),
                Wake::Query(first) => self.answer(first),
                Wake::Tick => {
                    self.waiting.forget_gone();
                    let output = self.machine.handle(clock::now(), Input::Tick);
                    self.carry_out(output).await?;
                }
                Wake::Mail(first) => {
                    let output = self.decide_batch(first);
                    self.carry_out(output).await?;
                }
            }
        }
    }

    fn started(&self) -> NewEvent {
        NewEvent {
            at: clock::wall(),
            code: EventCode::ServerStarted,
            replication: None,
            agent: None,
            actor: "server".to_owned(),
            message: format!("version {} began term {}", env!("CARGO_PKG_VERSION"), self.term),
        }
    }

    /// Answers all questions that wait: each connection that is let in asks one, and if they took turns with the mail, agents that come back
    /// in thousands would wait for a commit each.
    fn answer(&mut self, first: Query) {
        first(&self.moment());
        for _ in 1..QUERY_BOX {
            let Ok(query) = self.ends.queries.try_recv() else { break };
            query(&self.moment());
        }
    }

    fn moment(&self) -> Moment<'_> {
        Moment { machine: &self.machine, trouble: self.trouble.as_ref() }
    }

    async fn next(&mut self) -> Wake {
        if let Some(mail) = self.backlog.pop_front() {
            return Wake::Mail(mail);
        }
        tokio::select! {
            Some(query) = self.ends.queries.recv() => Wake::Query(query),
            mail = self.ends.mail.recv() => mail.map_or(Wake::End, Wake::Mail),
            _ = self.tick.tick() => Wake::Tick,
        }
    }

    fn decide_batch(&mut self, first: Mail) -> Output<Effect> {
        let mut output = Output::default();
        self.decide(first, &mut output);
        for _ in 1..BATCH {
            let Some(mail) = self.backlog.pop_front().or_else(|| self.ends.mail.try_recv().ok()) else { break };
            self.decide(mail, &mut output);
        }
        output
    }

    fn decide(&mut self, mail: Mail, output: &mut Output<Effect>) {
        let input = match mail {
            Mail::Connected { input, connection, outbox } => {
                self.outboxes.insert(connection, outbox);
                input
            }
            Mail::Command { id, actor, command, reply } => {
                if !self.waiting.add(id, reply) {
                    return;
                }
                Input::Command { id, actor, command }
            }
            Mail::Input(input) => input,
        };
        if let Input::Disconnected { connection, .. } = &input {
            self.outboxes.remove(*connection);
        }
        output.extend(self.machine.handle(clock::now(), input));
    }

    /// First durable, then said. Commands whose answer rests on what did not become durable are told so.
    async fn carry_out(&mut self, output: Output<Effect>) -> Result<(), ServerError> {
        if output.is_empty() {
            return Ok(());
        }
        let promised = promised_answers(&output);
        self.interpreter.load(self.term, output);
        let mut failure = None;
        while let Some(step) = self.interpreter.next_step() {
            match step {
                Step::Commit(transaction) => failure = self.commit(&transaction).await?,
                Step::Perform(effect) => self.perform(effect),
            }
        }
        let refusal = failure.as_ref().map_or_else(outdated, unavailable);
        for id in promised {
            self.waiting.answer(id, Err(refusal.clone()));
        }
        if !self.interpreter.take_stale() {
            return Ok(());
        }
        match failure {
            Some(error) => self.ride_out(&error).await,
            None => self.reload().await,
        }
    }

    /// Commits; returns the failure if there was one that waiting may end.
    async fn commit(&mut self, transaction: &Transaction) -> Result<Option<StoreError>, ServerError> {
        let begun = clock::now().monotonic;
        match self.store.commit(transaction).await {
            Ok(outcomes) => {
                self.metrics.committed(clock::now().monotonic.since(begun));
                self.journal.record(transaction, &outcomes, &self.metrics);
                self.ends.announce_events(transaction);
                self.interpreter.committed(&outcomes);
                Ok(None)
            }
            Err(error @ StoreError::Deposed { .. }) => Err(deposed(error)),
            Err(error) => {
                self.interpreter.commit_failed();
                Ok(Some(error))
            }
        }
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Send { agent, connection, mut message } => {
                self.authority.sign(&agent, &mut message);
                if let Some(reason) = self.outboxes.send(connection, message) {
                    tracing::warn!(%agent, reason, "an agent was disconnected");
                    let reason = reason.to_owned();
                    self.backlog.push_back(Mail::Input(Input::Disconnected { agent, connection, reason }));
                }
            }
            Effect::Close { agent, connection, reason } => {
                tracing::info!(%agent, reason, "a connection is closed");
                self.outboxes.remove(connection);
            }
            Effect::Answer { command, answer } => self.waiting.answer(command, *answer),
        }
    }

    /// A group was refused: the mirror is not the store's state.
    async fn reload(&mut self) -> Result<(), ServerError> {
        tracing::warn!("the store refused what was decided on an outdated state; it is decided again");
        match self.store.load().await {
            Ok(state) => self.machine.reload(clock::now(), state).map_err(deposed),
            Err(error) => self.ride_out(&error).await,
        }
    }
}

fn promised_answers(output: &Output<Effect>) -> Vec<CommandId> {
    let effects = output.decisions().iter().flat_map(|decision| &decision.after);
    let id = |effect: &Effect| match effect {
        Effect::Answer { command, .. } => Some(*command),
        _ => None,
    };
    effects.filter_map(id).collect()
}

fn deposed(word: impl std::fmt::Display) -> ServerError {
    ServerError::Deposed { reason: word.to_string() }
}

/// The refusal of a command while the store cannot be written.
fn unavailable(error: &StoreError) -> Refusal {
    Refusal::new(RefusalCode::Unavailable, "the server's store cannot be written; nothing was done")
        .cause(in_full(error))
        .hint("the server goes on by itself once the store can be written: then try again")
}

fn outdated() -> Refusal {
    Refusal::new(RefusalCode::Unavailable, "the state changed while this was decided; nothing was done")
        .hint("try again")
}

/// True for what an agent says again by itself within seconds.
fn is_beat(input: &Input) -> bool {
    matches!(input, Input::Message { message: AgentMessage::Heartbeat(_), .. })
}

/// Room for mail that has not been taken yet; a sender waits when it is full.
const MAILBOX: usize = 1024;
const QUERY_BOX: usize = 256;

fn bounded<T>(room: usize) -> (mpsc::Sender<T>, mpsc::Receiver<T>) {
    mpsc::channel(room)
}
