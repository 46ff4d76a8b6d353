//! The agent's machine: what a host's agent does on the server's word, and on its own.
//!
//! It holds nothing that must survive it: a restarted process is another writer and asks anew. One [`Role`] a replication
//! says under which epochs it acts, or acted; an ended role is kept, because `Drained` is final.

mod beat;
mod engine;
mod order;
mod own_reads;
mod read;
mod role;
mod thaw;
pub mod way;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tanist_model::application::{ApplicationReport, ThawReport};
use tanist_model::id::{
    AgentName, ApplicationName, Epochs, HostIdentity, Incarnation, ReplicationId, SnapshotId, Term, VolumeAddress,
};
use tanist_model::time::{Monotonic, Now};
use tanist_model::volume::{StorageReport, VolumeReport};

use crate::driver::Output;
use crate::message::{AgentMessage, Assignment, CanaryReport, PeerAddress, PeerReport, ServerMessage};
use crate::mutation::Mutations;
use crate::random::IdSource;
use crate::timers::Timers;

pub use engine::{EngineCommand, EngineEvent, EngineSource, ReaderCommand, ReaderEvent};
pub use read::{ReadWork, Reading};
pub use role::{Phase, Role, Work};

/// What can happen to an agent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Input {
    /// A connection to a server stands, the first or one in place of another; what the agent can see goes with its first message.
    ///
    /// `through`: the peer that carries it.
    Connected {
        storage: Vec<StorageReport>,
        volumes: Vec<VolumeReport>,
        applications: Vec<ApplicationReport>,
        through: Option<AgentName>,
    },
    /// What became of a host application that was to be quiesced, by this process or an earlier one.
    Thawed(ThawReport),
    Disconnected,
    Message(ServerMessage),
    /// The block engine of a replication reports.
    Engine {
        replication: ReplicationId,
        epochs: Epochs,
        event: EngineEvent,
    },
    /// The engine of a reader reports.
    Reader {
        replication: ReplicationId,
        epochs: Epochs,
        event: ReaderEvent,
    },
    /// Results of canary reads and pings.
    Seen {
        canaries: Vec<CanaryReport>,
        peers: Vec<PeerReport>,
    },
    /// The server has removed this agent: nothing that it does counts any more.
    Removed,
    /// The operator or the host wants the agent to stop: hand over, then go.
    Leave,
    Tick,
}

/// What an agent does to the world.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Effect {
    Send(AgentMessage),
    Engine {
        replication: ReplicationId,
        epochs: Epochs,
        command: EngineCommand,
    },
    Reader {
        replication: ReplicationId,
        epochs: Epochs,
        command: ReaderCommand,
    },
    /// Read these volumes and ping these peers from now on.
    Watch {
        peers: Vec<PeerAddress>,
        volumes: Vec<VolumeAddress>,
    },
    /// Look at what is watched at once, not only when it is time.
    Look,
    /// Look now, and answer the survey.
    Survey {
        survey: u64,
        peers: Vec<PeerAddress>,
        volumes: Vec<VolumeAddress>,
        inventory: bool,
    },
    /// Note on disk that these epochs were granted; for a restored server, not for safety.
    Remember {
        replication: ReplicationId,
        epochs: Epochs,
    },
    InstallCertificate {
        pem: String,
    },
    /// The server has it on record that the application of this attempt is thawed: the mark of it may go.
    ForgetMark {
        attempt: SnapshotId,
    },
    /// Look whether there is a mark of this attempt; if there is none, say so ([`Input::Thawed`]).
    LookForMark {
        replication: ReplicationId,
        attempt: SnapshotId,
        application: ApplicationName,
    },
    /// The server does not want this agent; the process stays, and tries again later.
    Refused {
        reason: String,
    },
    /// Every role has ended: the process may go.
    Exit,
}

/// Who an agent process is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AgentIdentity {
    pub name: AgentName,
    pub incarnation: Incarnation,
    pub host: HostIdentity,
    pub version: String,
    /// How it reads and writes volumes, for people.
    pub io: Option<String>,
    pub listen_address: Option<String>,
    /// Epochs that this process and earlier ones were granted, those of earlier ones from the cache on disk.
    pub granted: Vec<(ReplicationId, Epochs)>,
    /// Those among them that this very process was granted.
    pub granted_here: Vec<(ReplicationId, Epochs)>,
}

/// Grants remembered of each replication; the oldest are forgotten, the highest never.
pub const GRANTS_REMEMBERED: usize = 16;

impl AgentIdentity {
    fn remember(&mut self, replication: ReplicationId, epochs: Epochs) {
        for list in [&mut self.granted, &mut self.granted_here] {
            list.push((replication, epochs));
            if list.iter().filter(|(id, _)| *id == replication).count() > GRANTS_REMEMBERED
                && let Some(oldest) = list.iter().position(|(id, _)| *id == replication)
            {
                list.remove(oldest);
            }
        }
    }
}

/// The agent's machine.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AgentMachine {
    identity: AgentIdentity,
    timers: Timers,
    /// What a test build has switched off is no part of what a machine knows.
    #[serde(skip)]
    mutations: Mutations,
    ids: IdSource,
    now: Now,
    /// Empty between two inputs.
    #[serde(skip)]
    out: Output<Effect>,
    highest_term: Term,
    connected: bool,
    /// How many there have been: of two, the server knows the later one by that, whichever was dialled or arrives first.
    connections: u64,
    roles: BTreeMap<ReplicationId, Role>,
    /// What it reads for holders elsewhere.
    readings: BTreeMap<ReplicationId, Reading>,
    /// Engines of this process that hold descriptors, also those of superseded epochs.
    open: BTreeMap<ReplicationId, Vec<Epochs>>,
    /// Ended epochs under a later role whose end the server has not on record: when that was last said.
    #[serde(with = "tanist_model::pairs")]
    owed: BTreeMap<(ReplicationId, Epochs), Monotonic>,
    /// The last assignment of each replication; used only by the mutation that needs no grant.
    assignments: BTreeMap<ReplicationId, Assignment>,
    beat: beat::Beat,
    /// What the canary reads find fault with, by volume: since when, without one between that was well.
    #[serde(default)]
    failing: BTreeMap<VolumeAddress, Monotonic>,
    look_again: Option<Monotonic>,
    leaving: Option<Monotonic>,
    /// What the server has not on record yet, and when it was last said.
    thaws: BTreeMap<SnapshotId, (ThawReport, Monotonic)>,
}

impl AgentMachine {
    #[must_use]
    pub fn new(identity: AgentIdentity, timers: Timers, entropy: u128, mutations: Mutations, now: Now) -> Self {
        Self {
            identity,
            timers,
            mutations,
            ids: IdSource::new(entropy),
            now,
            out: Output::default(),
            highest_term: Term(0),
            connected: false,
            connections: 0,
            roles: BTreeMap::new(),
            readings: BTreeMap::new(),
            open: BTreeMap::new(),
            owed: BTreeMap::new(),
            assignments: BTreeMap::new(),
            beat: beat::Beat::default(),
            failing: BTreeMap::new(),
            look_again: None,
            leaving: None,
            thaws: BTreeMap::new(),
        }
    }

    /// The same machine in a test build that breaks this rule.
    #[must_use]
    pub fn with_mutations(self, mutations: Mutations) -> Self {
        Self { mutations, ..self }
    }

    /// Decides on one input.
    pub fn handle(&mut self, now: Now, input: Input) -> Output<Effect> {
        self.now = now;
        match input {
            Input::Connected { storage, volumes, applications, through } => {
                self.on_connected(storage, volumes, applications, through);
            }
            Input::Thawed(report) => self.on_thawed(report),
            Input::Disconnected => self.connected = false,
            Input::Message(message) => self.handle_message(message),
            Input::Engine { replication, epochs, event } => self.handle_engine(replication, epochs, event),
            Input::Reader { replication, epochs, event } => self.handle_reader(replication, epochs, event),
            Input::Seen { canaries, peers } => {
                self.judge_own_reads(&canaries);
                self.beat.note(canaries, peers, now.monotonic);
            }
            Input::Removed => self.end_all_roles(),
            Input::Leave => self.leave(),
            Input::Tick => self.on_tick(),
        }
        if self.connected && self.beat.is_hurried() {
            self.beat_if_due();
        }
        std::mem::take(&mut self.out)
    }

    #[must_use]
    pub fn identity(&self) -> &AgentIdentity {
        &self.identity
    }

    #[must_use]
    pub fn roles(&self) -> &BTreeMap<ReplicationId, Role> {
        &self.roles
    }

    #[must_use]
    pub fn highest_term(&self) -> Term {
        self.highest_term
    }

    /// How long the shell may wait before the next tick.
    #[must_use]
    pub fn tick_interval(&self) -> std::time::Duration {
        self.timers.beat_acting / 2
    }

    fn send(&mut self, message: AgentMessage) {
        if self.connected {
            self.out.perform(Effect::Send(message));
        }
    }

    #[must_use]
    pub fn readings(&self) -> &BTreeMap<ReplicationId, Reading> {
        &self.readings
    }

    fn engine(&mut self, replication: ReplicationId, epochs: Epochs, command: EngineCommand) {
        self.out.perform(Effect::Engine { replication, epochs, command });
    }

    fn handle_message(&mut self, message: ServerMessage) {
        let Some(term) = self.term_of(&message) else { return };
        if term < self.highest_term {
            self.report_newer(&message);
            return;
        }
        self.highest_term = term;
        match message {
            ServerMessage::Welcome { .. } => self.beat.hurry(),
            // The way to the server has heard it: see [`way`].
            ServerMessage::Heard { .. } => {}
            ServerMessage::Refused { reason } => self.out.perform(Effect::Refused { reason }),
            ServerMessage::Watch { number, peers, volumes, failover } => {
                if self.beat.watch(number, failover) {
                    self.forget_unwatched(&volumes);
                    self.out.perform(Effect::Watch { peers, volumes });
                }
            }
            ServerMessage::Survey { survey, peers, volumes, inventory, .. } => {
                self.out.perform(Effect::Survey { survey, peers, volumes, inventory });
            }
            ServerMessage::CertificateIssued { certificate_pem } => {
                self.out.perform(Effect::InstallCertificate { pem: certificate_pem });
            }
            ServerMessage::ThawNoted { attempt, thawed, .. } => self.handle_thaw_noted(attempt, thawed),
            ServerMessage::AskThawed { replication, attempt, application, .. } => {
                self.out.perform(Effect::LookForMark { replication, attempt, application });
            }
            command => self.handle_command(command),
        }
    }

    fn term_of(&self, message: &ServerMessage) -> Option<Term> {
        Some(match message {
            ServerMessage::Welcome { term, .. }
            | ServerMessage::Survey { term, .. }
            | ServerMessage::ThawNoted { term, .. }
            | ServerMessage::AskThawed { term, .. } => *term,
            ServerMessage::Watch { number, .. } => number.term,
            ServerMessage::Refused { .. } | ServerMessage::Heard { .. } | ServerMessage::CertificateIssued { .. } => {
                self.highest_term
            }
            other => other.stamp()?.term,
        })
    }

    /// A lower term, a lower epoch or another incarnation: rejected and reported.
    fn report_newer(&mut self, message: &ServerMessage) {
        let Some(stamp) = message.stamp() else { return };
        let epochs = self.roles.get(&stamp.replication).map_or(stamp.epochs, |role| role.epochs);
        let term = self.highest_term;
        self.send(AgentMessage::NewerEpochSeen { replication: stamp.replication, epochs, term });
    }

    fn on_tick(&mut self) {
        self.resend();
        self.resend_readings();
        self.resend_thaws();
        self.look_again_if_due();
        self.expire_local_drain();
        self.retry_locks();
        self.beat_if_due();
        self.finish_leaving();
    }

    fn leave(&mut self) {
        if self.leaving.is_none() {
            self.leaving = Some(self.now.monotonic);
            self.beat.hurry();
            self.beat_if_due();
            self.finish_leaving();
        }
    }

    /// Goes when every role has ended; a server that does not answer is not waited for for ever.
    fn finish_leaving(&mut self) {
        let Some(since) = self.leaving else { return };
        let owes = self.connected && !self.owed.is_empty();
        if self.open.is_empty()
            && self.readings.is_empty()
            && !owes
            && self.roles.values().all(|role| !role.owes_word(self.connected))
        {
            self.out.perform(Effect::Exit);
            return;
        }
        // A target that cannot be flushed keeps its engine open: go without having said that it is quiet.
        if self.now.monotonic.since(since) >= self.timers.handover * 2 {
            self.out.perform(Effect::Exit);
            return;
        }
        self.end_readings();
        let patience = if self.connected { self.timers.handover } else { std::time::Duration::ZERO };
        if self.now.monotonic.since(since) >= patience {
            self.end_roles(true);
        }
    }

    fn end_all_roles(&mut self) {
        self.end_roles(false);
        self.end_readings();
    }

    fn end_roles(&mut self, graceful: bool) {
        let acting: Vec<_> = self.roles.iter().filter(|(_, r)| r.is_acting()).map(|(id, r)| (*id, r.epochs)).collect();
        for (replication, epochs) in acting {
            self.end_role(replication, epochs, None, graceful);
        }
    }
}
