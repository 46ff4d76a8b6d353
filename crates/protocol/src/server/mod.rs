//! The server's machine: it supervises agents, decides who acts, and commits what agents report.
//!
//! The machine holds a mirror of the durable [`State`] and, beside it, what only this process knows: sessions, suspicions,
//! surveys. Every input ends by looking at each replication it touched ([`supervise`]): what is wanted is compared with what
//! is, so a lost message costs a repetition and never a stuck replication.

mod agenda;
mod application;
mod array;
mod checkpoint;
pub mod command;
mod concerns;
mod confirm;
mod create;
mod drill;
pub mod eligibility;
mod enrol;
mod errand;
mod handover;
mod hello;
mod method;
mod origin;
mod overlap;
pub mod pace;
pub mod plan;
mod policy;
mod pools;
mod proof;
mod reader;
mod recovery;
mod removal;
mod reported;
mod request;
mod restore;
mod rpo;
mod run;
pub mod session;
pub mod slots;
mod supervise;
mod survey;
mod takeover;
mod verification;
mod watchdog;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tanist_model::agent::ShownCertificate;
use tanist_model::api::Refusal;
use tanist_model::change::{Change, Condition, Group};
use tanist_model::event::{EventCode, NewEvent};
use tanist_model::history::Touched;
use tanist_model::id::{AgentName, ClusterId, CommandId, ReplicationId, Term};
use tanist_model::replication::ReplicationRecord;
use tanist_model::state::State;
use tanist_model::time::{Monotonic, Now};

use crate::driver::Output;
use crate::limits::Limits;
use crate::message::{AgentMessage, Hello, ServerMessage};
use crate::mutation::Mutations;
use crate::random::IdSource;
use crate::timers::Timers;

use concerns::Concerns;

pub use command::{Answer, Command};
pub use session::{ConnectionId, Session};
pub use supervise::{Phase, Supervision};

/// Ticks come several times a second. A server that took no step for so long was held up itself, by its store or by its host: how fast
/// agents are cannot be told of that time.
const HELD_UP: Duration = Duration::from_secs(2);

/// What can happen to the server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Input {
    /// An agent's connection with its first message; the certificate was verified by the transport.
    Connected {
        agent: AgentName,
        connection: ConnectionId,
        certificate: ShownCertificate,
        hello: Box<Hello>,
    },
    Disconnected {
        agent: AgentName,
        connection: ConnectionId,
        reason: String,
    },
    Message {
        agent: AgentName,
        connection: ConnectionId,
        message: AgentMessage,
    },
    /// An operator's command; the same id again returns the stored answer.
    Command {
        id: CommandId,
        actor: String,
        command: Box<Command>,
    },
    /// Something the shell saw and that belongs into the audit log.
    Note(NewEvent),
    Tick,
}

/// What the server does to the world.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Effect {
    Send { agent: AgentName, connection: ConnectionId, message: ServerMessage },
    Close { agent: AgentName, connection: ConnectionId, reason: String },
    Answer { command: CommandId, answer: Box<Result<Answer, Refusal>> },
}

/// Another server has begun a later term; whoever led before says nothing more.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the store is in term {stored}, which another server began")]
pub struct Superseded {
    pub stored: Term,
}

/// The server's machine.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ServerMachine {
    cluster: ClusterId,
    state: State,
    concerns: Concerns,
    sessions: BTreeMap<AgentName, Session>,
    supervisions: BTreeMap<ReplicationId, Supervision>,
    surveys: BTreeMap<u64, survey::Survey>,
    next_survey: u64,
    next_watch: u64,
    timers: Timers,
    limits: Limits,
    ids: IdSource,
    /// What a test build has switched off is no part of what a machine knows.
    #[serde(skip)]
    mutations: Mutations,
    started: Monotonic,
    now: Now,
    /// Empty between two inputs.
    #[serde(skip)]
    out: Output<Effect>,
    touched: BTreeSet<ReplicationId>,
    /// A commit failed since the last tick: agents that came meanwhile may not have been told.
    sessions_unsettled: bool,
    last_commit: Monotonic,
}

impl ServerMachine {
    /// A machine over what the store holds. Agents that act are waited for before they are suspected.
    #[must_use]
    pub fn new(
        cluster: ClusterId,
        state: State,
        timers: Timers,
        entropy: u128,
        mutations: Mutations,
        now: Now,
    ) -> Self {
        Self {
            cluster,
            concerns: Concerns::of(&state),
            state,
            sessions: BTreeMap::new(),
            supervisions: BTreeMap::new(),
            surveys: BTreeMap::new(),
            next_survey: 1,
            next_watch: 0,
            timers,
            limits: Limits::DEFAULT,
            ids: IdSource::new(entropy),
            mutations,
            started: now.monotonic,
            now,
            out: Output::default(),
            touched: BTreeSet::new(),
            sessions_unsettled: false,
            last_commit: now.monotonic,
        }
    }

    /// The same machine with other limits than the product's.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// The same machine in a test build that breaks this rule.
    #[must_use]
    pub fn with_mutations(self, mutations: Mutations) -> Self {
        Self { mutations, ..self }
    }

    /// Decides on one input.
    pub fn handle(&mut self, now: Now, input: Input) -> Output<Effect> {
        let held_up = now.monotonic.since(self.now.monotonic) >= HELD_UP;
        self.now = now;
        if held_up {
            self.supervisions.values_mut().for_each(|supervision| supervision.pace.rest());
        }
        match input {
            Input::Connected { agent, connection, certificate, hello } => {
                self.handle_hello(&agent, connection, &certificate, *hello);
            }
            Input::Disconnected { agent, connection, reason } => self.on_disconnect(&agent, connection, reason),
            Input::Message { agent, connection, message } => self.handle_message(&agent, connection, message),
            Input::Command { id, actor, command } => self.handle_command(id, actor, *command),
            Input::Note(event) => self.commit(Condition::Term, vec![Change::AppendEvent(event)], Vec::new()),
            Input::Tick => self.on_tick(),
        }
        self.supervise_touched();
        std::mem::take(&mut self.out)
    }

    /// Takes the store's word after a failed or refused commit: whatever was decided meanwhile is decided again.
    ///
    /// # Errors
    /// The store is in another term: another server leads. What this one said from now on would pass for the leader's word.
    pub fn reload(&mut self, state: State) -> Result<(), Superseded> {
        if state.term != self.state.term {
            return Err(Superseded { stored: state.term });
        }
        self.concerns = Concerns::of(&state);
        self.state = state;
        let known: BTreeSet<_> = self.state.replications.keys().copied().collect();
        self.supervisions.retain(|id, _| known.contains(id));
        for supervision in self.supervisions.values_mut() {
            supervision.reset();
            // A grant that stands has its whole time again: its answer may be among what was dropped.
            supervision.granted_at = Some(self.now.monotonic);
        }
        self.touched = known;
        self.sessions_unsettled = true;
        Ok(())
    }

    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    #[must_use]
    pub fn session(&self, agent: &AgentName) -> Option<&Session> {
        self.sessions.get(agent)
    }

    #[must_use]
    pub fn supervision(&self, id: ReplicationId) -> Option<&Supervision> {
        self.supervisions.get(&id)
    }

    #[must_use]
    pub fn timers(&self) -> &Timers {
        &self.timers
    }

    /// The time of the last input.
    #[must_use]
    pub fn now(&self) -> Now {
        self.now
    }

    fn on_tick(&mut self) {
        if std::mem::take(&mut self.sessions_unsettled) {
            self.settle_sessions();
        }
        if self.state.restoring {
            self.distrust_targets();
        }
        self.expire_surveys();
        self.prove_leadership();
        self.touched.extend(self.state.replications.keys().copied());
    }

    /// A server whose agents are all well commits nothing, and would not learn that another one leads. The term is checked
    /// with every transaction, also with one that changes nothing.
    fn prove_leadership(&mut self) {
        if self.now.monotonic.since(self.last_commit) >= self.timers.leadership {
            self.commit(Condition::Term, Vec::new(), Vec::new());
        }
    }

    fn supervise_touched(&mut self) {
        for id in std::mem::take(&mut self.touched) {
            self.supervise(id);
        }
    }

    /// Marks every replication that an agent has to do with.
    fn touch_agent(&mut self, agent: &AgentName) {
        self.touched.extend(self.concerns.of_agent(agent));
    }

    /// Applies changes to the mirror and has them committed; `after` is done once they are durable.
    fn commit(&mut self, condition: Condition, changes: Vec<Change>, after: Vec<Effect>) {
        let mut touched = Touched::default();
        for change in &changes {
            self.concerns.note(change, &self.state);
            self.state.apply(change);
            touched.note(change);
        }
        touched.prune(&mut self.state);
        self.last_commit = self.now.monotonic;
        self.out.commit(Group { condition, changes }, after);
    }

    /// Commits changes of one replication under its present epochs and holder.
    fn commit_current(&mut self, present: &ReplicationRecord, changes: Vec<Change>, after: Vec<Effect>) {
        let condition = Condition::Current {
            replication: present.id,
            epochs: present.epochs,
            incarnation: present.holder.as_ref().map(|h| h.incarnation),
        };
        self.commit(condition, changes, after);
    }

    fn event(&self, code: EventCode, message: impl Into<String>) -> NewEvent {
        NewEvent {
            at: self.now.wall,
            code,
            replication: None,
            agent: None,
            actor: "server".to_owned(),
            message: message.into(),
        }
    }

    fn event_of(
        &self,
        replication: &ReplicationRecord,
        agent: Option<&AgentName>,
        code: EventCode,
        message: impl Into<String>,
    ) -> Change {
        let mut event = self.event(code, message);
        event.replication = Some((replication.id, replication.name.clone()));
        event.agent = agent.cloned();
        Change::AppendEvent(event)
    }

    fn send(&mut self, agent: &AgentName, message: ServerMessage) {
        if let Some(effect) = self.to_agent(agent, message) {
            self.out.perform(effect);
        }
    }

    /// The effect of sending, if the agent has a connection; what cannot be sent is sent again when it is back.
    fn to_agent(&self, agent: &AgentName, message: ServerMessage) -> Option<Effect> {
        let session = self.sessions.get(agent).filter(|s| s.is_connected())?;
        Some(Effect::Send { agent: agent.clone(), connection: session.connection, message })
    }

    /// The replications that an agent has to do with, by id.
    fn concerned<'a>(&'a self, agent: &AgentName) -> impl Iterator<Item = &'a ReplicationRecord> {
        self.concerns.of_agent(agent).filter_map(|id| self.state.replications.get(&id))
    }

    fn supervision_mut(&mut self, id: ReplicationId) -> &mut Supervision {
        self.supervisions.entry(id).or_default()
    }
}
