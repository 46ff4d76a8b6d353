//! A role: one replication, one pair of epochs, and how far this process is with them.

use serde::{Deserialize, Serialize};
use tanist_model::id::{CommandId, Epochs, Nonce, ReplicationId, RunId};
use tanist_model::replication::Side;
use tanist_model::run::{BoundSnapshot, Checkpoint};
use tanist_model::time::{Monotonic, Timestamp};
use tanist_model::work::RunWork;

use super::{AgentMachine, Effect, EngineCommand};
use crate::message::{
    AgentMessage, Assignment, FenceReport, LateFrames, OrderNumber, Release, RoleReport, RoleState, RunProgress,
    ServerMessage, Stamp, StreamKey,
};
use crate::mutation::Mutation;

/// What an acting agent works on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Work {
    Idle,
    Preparing {
        run: RunId,
    },
    /// The snapshot exists at the storage; not a byte is copied before the server has bound it.
    AwaitBound {
        run: RunId,
        snapshot: BoundSnapshot,
        kept: Option<String>,
        sent: Monotonic,
    },
    /// `unacknowledged` is the newest checkpoint that the server has not confirmed.
    Copying {
        run: RunId,
        /// What it receives, in the networked form.
        stream: Option<StreamKey>,
        unacknowledged: Option<(Checkpoint, Timestamp)>,
        sent: Monotonic,
    },
    /// The last recovery point is being kept, or is kept and the server has not said that it knows.
    Keeping {
        run: RunId,
    },
    AwaitPublish {
        run: RunId,
        stream: Option<StreamKey>,
        checkpoint: Checkpoint,
        verified: bool,
        sent: Monotonic,
    },
    Halting {
        run: RunId,
    },
}

impl Work {
    #[must_use]
    pub fn stream(&self) -> Option<StreamKey> {
        match self {
            Self::Copying { stream, .. } | Self::AwaitPublish { stream, .. } => *stream,
            _ => None,
        }
    }

    #[must_use]
    pub fn run(&self) -> Option<RunId> {
        match self {
            Self::Idle => None,
            Self::Preparing { run }
            | Self::Keeping { run }
            | Self::AwaitBound { run, .. }
            | Self::Copying { run, .. }
            | Self::AwaitPublish { run, .. }
            | Self::Halting { run } => Some(*run),
        }
    }
}

/// How far a role is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Phase {
    AwaitGrant {
        nonce: Nonce,
        asked: Monotonic,
    },
    /// An engine of an earlier epoch of this process still has I/O in flight.
    Draining {
        assignment: Box<Assignment>,
        since: Monotonic,
    },
    Fencing,
    Active {
        work: Work,
    },
    /// Told to end in order.
    DrainingOut,
    /// Superseded: stopping at once.
    Fenced,
    /// Over, finally. `noted`: the server has it on record.
    Ended {
        noted: bool,
        said: Monotonic,
    },
    Quarantined,
}

/// A role of this process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Role {
    pub epochs: Epochs,
    pub command: CommandId,
    pub phase: Phase,
    pub fence: FenceReport,
    pub(super) orders: OrderNumber,
    pub(super) progress: Option<(RunId, RunProgress)>,
    pub(super) late: LateFrames,
    pub(super) lock_tried: Monotonic,
}

impl Role {
    /// Something of it may still touch the volumes.
    #[must_use]
    pub fn is_acting(&self) -> bool {
        !matches!(self.phase, Phase::Ended { .. } | Phase::Quarantined)
    }

    /// The server may still be waiting for the word that this role has ended.
    pub(super) fn owes_word(&self, connected: bool) -> bool {
        match self.phase {
            Phase::Ended { noted, .. } => connected && !noted,
            Phase::Quarantined => false,
            _ => true,
        }
    }

    #[must_use]
    pub fn state(&self) -> RoleState {
        match self.phase {
            Phase::AwaitGrant { .. } => RoleState::AwaitGrant,
            Phase::Draining { .. } => RoleState::Draining,
            Phase::Fencing => RoleState::Fencing,
            Phase::Active { .. } => RoleState::Active,
            Phase::DrainingOut => RoleState::DrainingOut,
            Phase::Fenced => RoleState::Fenced,
            Phase::Ended { .. } => RoleState::Idle,
            Phase::Quarantined => RoleState::Quarantined,
        }
    }

    #[must_use]
    pub fn work(&self) -> Option<&Work> {
        match &self.phase {
            Phase::Active { work } => Some(work),
            _ => None,
        }
    }

    pub(super) fn work_mut(&mut self) -> Option<&mut Work> {
        match &mut self.phase {
            Phase::Active { work } => Some(work),
            _ => None,
        }
    }

    /// What it has done for this run.
    pub(super) fn work_for(&self, run: RunId) -> RunWork {
        self.progress.as_ref().filter(|(of, _)| *of == run).map(|(_, progress)| progress.work).unwrap_or_default()
    }

    pub(super) fn report(&self, replication: ReplicationId) -> RoleReport {
        let run = self.work().and_then(Work::run);
        RoleReport {
            replication,
            side: Side::Target,
            stream: self.work().and_then(Work::stream),
            epochs: self.epochs,
            state: self.state(),
            fence: self.fence.clone(),
            run,
            progress: self.progress.as_ref().filter(|(of, _)| Some(*of) == run).map(|(_, p)| p.clone()),
            late: self.late.clone(),
        }
    }
}

impl AgentMachine {
    pub(super) fn handle_command(&mut self, mut message: ServerMessage) {
        if let ServerMessage::Read { stamp, number, assignment, order } = message {
            return self.handle_read(&stamp, number, *assignment, *order);
        }
        if let ServerMessage::EndRead { stamp } = message {
            return self.end_reading(&stamp);
        }
        self.take_under_own_epochs(&mut message);
        let Some(stamp) = message.stamp() else { return };
        let older = self.roles.get(&stamp.replication).is_some_and(|role| stamp.epochs.is_older_than(role.epochs));
        // The end of an epoch is said and noted whatever came after it.
        let is_final = matches!(message, ServerMessage::DrainedNoted { .. } | ServerMessage::StepDown { .. })
            || matches!(message, ServerMessage::Grant { .. }) && self.mutations.breaks(Mutation::GrantNotBound);
        if stamp.incarnation != self.identity.incarnation || older && !is_final {
            self.report_newer(&message);
            return;
        }
        match message {
            ServerMessage::StepDown { stamp } if older => self.repeat_end(stamp),
            ServerMessage::Activate { stamp, command } => self.handle_activate(stamp, command),
            ServerMessage::Grant { stamp, nonce, assignment } => self.handle_grant(stamp, nonce, *assignment),
            ServerMessage::StepDown { stamp } if self.is_unheard_of(&stamp) => self.end_unheard_of(stamp),
            ServerMessage::StepDown { stamp } => self.end_role(stamp.replication, stamp.epochs, None, false),
            ServerMessage::DrainedNoted { stamp } => self.note_drained(stamp),
            order => self.handle_order(order),
        }
    }

    /// The source's epoch rises under a holder of the networked form; it stays who it was granted to be.
    fn take_under_own_epochs(&self, message: &mut ServerMessage) {
        let Some(stamp) = message.stamp_mut() else { return };
        if let Some(role) = self.roles.get(&stamp.replication).filter(|r| r.epochs.same_holder(stamp.epochs)) {
            stamp.epochs = role.epochs;
        }
    }

    fn handle_activate(&mut self, stamp: Stamp, command: CommandId) {
        let id = stamp.replication;
        match self.roles.get(&id) {
            Some(role) if role.epochs == stamp.epochs && role.command != command && role.is_acting() => {
                self.quarantine(id, "the same epoch was given with another command".to_owned());
            }
            Some(role) if role.epochs == stamp.epochs => self.repeat_word(id),
            _ if self.leaving.is_some() => {
                let reason = "the agent is being stopped".to_owned();
                self.send(AgentMessage::NotEligible { replication: id, epochs: stamp.epochs, reason });
            }
            _ => self.begin_role(stamp, command),
        }
    }

    fn begin_role(&mut self, stamp: Stamp, command: CommandId) {
        let id = stamp.replication;
        let nonce = self.ids.nonce();
        let role = Role {
            epochs: stamp.epochs,
            command,
            phase: Phase::AwaitGrant { nonce, asked: self.now.monotonic },
            fence: FenceReport::default(),
            orders: OrderNumber::default(),
            progress: None,
            late: LateFrames::default(),
            lock_tried: self.now.monotonic,
        };
        if let Some(old) = self.roles.insert(id, role) {
            self.leave_behind(id, &old);
        }
        if self.mutations.breaks(Mutation::ActivateWithoutGrant)
            && let Some(assignment) = self.assignments.get(&id).cloned()
        {
            self.open_engine(id, assignment);
            return;
        }
        self.send(AgentMessage::GrantRequest { replication: id, epochs: stamp.epochs, nonce });
        self.beat.hurry();
    }

    /// An earlier role gives way: what is open is closed, and the word that it ended is not forgotten.
    fn leave_behind(&mut self, id: ReplicationId, old: &Role) {
        if self.is_open(id, old.epochs) {
            self.engine(id, old.epochs, EngineCommand::Close { graceful: false, release: None });
        } else if let Phase::Ended { noted: false, said } = old.phase {
            self.owed.insert((id, old.epochs), said);
        }
    }

    /// The same activation once more: the answer was lost.
    fn repeat_word(&mut self, id: ReplicationId) {
        let Some(role) = self.roles.get(&id) else { return };
        let (epochs, fence) = (role.epochs, role.fence.clone());
        match role.phase {
            Phase::AwaitGrant { nonce, .. } => {
                self.send(AgentMessage::GrantRequest { replication: id, epochs, nonce });
            }
            Phase::Active { .. } => self.send(AgentMessage::Activated { replication: id, epochs, fence }),
            Phase::Ended { .. } if self.mutations.breaks(Mutation::DrainedNotFinal) => {
                if let Some(assignment) = self.assignments.get(&id).cloned() {
                    self.open_engine(id, assignment);
                }
            }
            Phase::Ended { .. } => self.send(AgentMessage::Drained { replication: id, epochs }),
            _ => {}
        }
    }

    /// The activation becomes effective: this grant answers this very request.
    fn handle_grant(&mut self, stamp: Stamp, nonce: Nonce, assignment: Assignment) {
        let id = stamp.replication;
        let Some(role) = self.roles.get_mut(&id) else { return };
        let Phase::AwaitGrant { nonce: asked, .. } = role.phase else { return };
        let answers = role.epochs == stamp.epochs && asked == nonce;
        if !answers && !self.mutations.breaks(Mutation::GrantNotBound) {
            return;
        }
        let epochs = role.epochs;
        self.assignments.insert(id, assignment.clone());
        self.out.perform(Effect::Remember { replication: id, epochs });
        self.identity.remember(id, epochs);
        if self.open.contains_key(&id) {
            let since = self.now.monotonic;
            if let Some(role) = self.roles.get_mut(&id) {
                role.phase = Phase::Draining { assignment: Box::new(assignment), since };
            }
        } else {
            self.open_engine(id, assignment);
        }
    }

    pub(super) fn open_engine(&mut self, id: ReplicationId, assignment: Assignment) {
        let Some(role) = self.roles.get_mut(&id) else { return };
        role.phase = Phase::Fencing;
        let epochs = role.epochs;
        self.open.entry(id).or_default().push(epochs);
        self.engine(id, epochs, EngineCommand::Open { assignment: Box::new(assignment) });
    }

    /// Whether I/O of this grant may go on; a source's epoch that the server does not remember changes nothing about that.
    pub(super) fn is_open(&self, id: ReplicationId, epochs: Epochs) -> bool {
        self.open.get(&id).is_some_and(|open| open.iter().any(|open| open.same_holder(epochs)))
    }

    /// Earlier I/O of this process does not end: decline, so that another agent is picked.
    pub(super) fn expire_local_drain(&mut self) {
        let (now, limit) = (self.now.monotonic, self.timers.local_drain);
        let stuck: Vec<(ReplicationId, Epochs)> = self
            .roles
            .iter()
            .filter(|(_, r)| matches!(r.phase, Phase::Draining { since, .. } if now.since(since) >= limit))
            .map(|(id, r)| (*id, r.epochs))
            .collect();
        for (replication, epochs) in stuck {
            let reason = "I/O of an earlier epoch of this process is still in flight".to_owned();
            self.decline(replication, epochs, reason);
        }
    }

    pub(super) fn decline(&mut self, replication: ReplicationId, epochs: Epochs, reason: String) {
        self.end_quietly(replication);
        self.send(AgentMessage::NotEligible { replication, epochs, reason });
    }

    fn end_quietly(&mut self, id: ReplicationId) {
        let said = self.now.monotonic;
        if let Some(role) = self.roles.get_mut(&id) {
            role.phase = Phase::Ended { noted: true, said };
        }
    }

    /// Ends a role: in order (`graceful`), or at once because its epochs are superseded.
    pub(super) fn end_role(&mut self, id: ReplicationId, epochs: Epochs, release: Option<Release>, graceful: bool) {
        let open = self.is_open(id, epochs);
        let said = self.now.monotonic;
        let Some(role) = self.roles.get_mut(&id).filter(|r| r.epochs == epochs) else { return };
        match role.phase {
            Phase::Ended { .. } => return self.send(AgentMessage::Drained { replication: id, epochs }),
            Phase::Fenced | Phase::Quarantined => return,
            Phase::DrainingOut if graceful => return,
            _ if open => role.phase = if graceful { Phase::DrainingOut } else { Phase::Fenced },
            _ => {
                role.phase = Phase::Ended { noted: false, said };
                return self.send(AgentMessage::Drained { replication: id, epochs });
            }
        }
        self.engine(id, epochs, EngineCommand::Close { graceful, release });
        self.beat.hurry();
    }

    /// The server asks for the end of epochs that a later role has replaced: a restored store has forgotten it. What is still open
    /// says so itself when it is closed.
    fn repeat_end(&mut self, stamp: Stamp) {
        let (replication, epochs) = (stamp.replication, stamp.epochs);
        if !self.is_open(replication, epochs) {
            self.send(AgentMessage::Drained { replication, epochs });
        }
    }

    fn is_unheard_of(&self, stamp: &Stamp) -> bool {
        self.roles.get(&stamp.replication).is_none_or(|role| role.epochs.is_older_than(stamp.epochs))
    }

    /// The end of epochs that were granted to this process and never reached it. They end before they begin: the role says so
    /// and stays, so that an activation that is still on its way finds it over.
    fn end_unheard_of(&mut self, stamp: Stamp) {
        let (replication, epochs) = (stamp.replication, stamp.epochs);
        if let Some(role) = self.roles.get(&replication) {
            let older = role.epochs;
            let ended = !role.is_acting();
            self.end_role(replication, older, None, false);
            if !ended {
                return;
            }
        }
        let said = self.now.monotonic;
        let role = Role {
            epochs,
            command: CommandId(0),
            phase: Phase::Ended { noted: false, said },
            fence: FenceReport::default(),
            orders: OrderNumber::default(),
            progress: None,
            late: LateFrames::default(),
            lock_tried: said,
        };
        if let Some(old) = self.roles.insert(replication, role)
            && !self.is_open(replication, old.epochs)
        {
            self.owed.insert((replication, old.epochs), said);
        }
        self.send(AgentMessage::Drained { replication, epochs });
    }

    fn note_drained(&mut self, stamp: Stamp) {
        self.owed.remove(&(stamp.replication, stamp.epochs));
        if let Some(role) = self.roles.get_mut(&stamp.replication).filter(|r| r.epochs == stamp.epochs)
            && let Phase::Ended { noted, .. } = &mut role.phase
        {
            *noted = true;
        }
    }

    fn quarantine(&mut self, id: ReplicationId, reason: String) {
        let Some(role) = self.roles.get_mut(&id) else { return };
        let epochs = role.epochs;
        role.phase = Phase::Quarantined;
        if self.is_open(id, epochs) {
            self.engine(id, epochs, EngineCommand::Close { graceful: false, release: None });
        }
        self.send(AgentMessage::Quarantined { replication: id, epochs, reason });
    }

    /// A role without the kernel lock tries for it: its predecessor may have ended meanwhile.
    pub(super) fn retry_locks(&mut self) {
        let (now, pause) = (self.now.monotonic, self.timers.lock_retry);
        let mut due = Vec::new();
        for (id, role) in &mut self.roles {
            let wants = matches!(role.phase, Phase::Active { .. }) && role.fence.locked.is_none();
            if wants && now.since(role.lock_tried) >= pause {
                role.lock_tried = now;
                due.push((*id, role.epochs));
            }
        }
        for (id, epochs) in due {
            self.engine(id, epochs, EngineCommand::TryLock);
        }
    }
}

impl ServerMessage {
    /// What a command is about; messages that are not about a replication have none.
    #[must_use]
    pub fn stamp(&self) -> Option<&Stamp> {
        match self {
            Self::Activate { stamp, .. }
            | Self::Grant { stamp, .. }
            | Self::OpenRun { stamp, .. }
            | Self::Read { stamp, .. }
            | Self::EndRead { stamp }
            | Self::CheckpointAck { stamp, .. }
            | Self::CloseRun { stamp, .. }
            | Self::AskArray { stamp, .. }
            | Self::Expire { stamp, .. }
            | Self::Drain { stamp, .. }
            | Self::StepDown { stamp }
            | Self::DrainedNoted { stamp } => Some(stamp),
            Self::Welcome { .. }
            | Self::Refused { .. }
            | Self::Watch { .. }
            | Self::Survey { .. }
            | Self::Heard { .. }
            | Self::CertificateIssued { .. }
            | Self::ThawNoted { .. }
            | Self::AskThawed { .. } => None,
        }
    }

    fn stamp_mut(&mut self) -> Option<&mut Stamp> {
        match self {
            Self::Activate { stamp, .. }
            | Self::Grant { stamp, .. }
            | Self::OpenRun { stamp, .. }
            | Self::CheckpointAck { stamp, .. }
            | Self::CloseRun { stamp, .. }
            | Self::AskArray { stamp, .. }
            | Self::Expire { stamp, .. }
            | Self::Drain { stamp, .. }
            | Self::StepDown { stamp }
            | Self::DrainedNoted { stamp } => Some(stamp),
            _ => None,
        }
    }
}
