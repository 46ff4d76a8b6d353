//! What operators command. Each command has an id; the same id again returns the stored answer.

use serde::{Deserialize, Serialize};
use tanist_model::agent::AgentRecord;
use tanist_model::api::{
    ConfirmDead, CreateReplication, Done, Plan, PointReading, Refusal, RefusalCode, SetHierarchy, SetPolicy,
};
use tanist_model::change::{Change, CommandResult, Condition};
use tanist_model::enrolment::{Credential, JoinToken, SecretHash};
use tanist_model::event::EventCode;
use tanist_model::hierarchy::Hierarchy;
use tanist_model::id::{AgentName, CommandId, Epoch, ReplicationName, RunId, VolumeAddress};
use tanist_model::replication::{Intent, ReplicationRecord, Side};

use super::concerns::members;
pub use super::enrol::IssuedCertificate;
use super::survey::Purpose;
use super::{Effect, ServerMachine};
use crate::message::{PeerAddress, RoleState};

/// A command to the server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Command {
    /// Only the plan; nothing changes.
    Check(CreateReplication),
    CheckExisting {
        name: ReplicationName,
    },
    /// Has every agent look at its storage now.
    Look,
    Create(CreateReplication),
    Sync {
        name: ReplicationName,
        /// Everything is written, whatever the target holds.
        full: bool,
    },
    /// Read the whole target again.
    Verify {
        name: ReplicationName,
        repair: bool,
    },
    /// Give up the run in progress; what it made is removed with the next release.
    Abort {
        name: ReplicationName,
    },
    Pause {
        name: ReplicationName,
    },
    Resume {
        name: ReplicationName,
    },
    Delete {
        name: ReplicationName,
        /// What no agent can clean up stays at the storage.
        leave_behind: bool,
    },
    SetHierarchy {
        name: ReplicationName,
        change: SetHierarchy,
    },
    Pin {
        name: ReplicationName,
        run: RunId,
        pinned: bool,
    },
    NoteReading {
        name: ReplicationName,
        run: RunId,
        reading: PointReading,
    },
    SetPolicy {
        name: ReplicationName,
        change: Box<SetPolicy>,
    },
    Handover {
        name: ReplicationName,
        to: Option<AgentName>,
    },
    /// Back to the first eligible agent by rank.
    Handback {
        name: ReplicationName,
    },
    /// A takeover on purpose.
    Drill {
        name: ReplicationName,
        /// Afterwards the work goes back to the agent that has it now.
        hand_back: bool,
    },
    DrainAgent {
        agent: AgentName,
    },
    UndrainAgent {
        agent: AgentName,
    },
    RemoveAgent {
        agent: AgentName,
    },
    ConfirmDead {
        agent: AgentName,
        seen: ConfirmDead,
    },
    CreateToken {
        token: JoinToken,
    },
    CreateCredential {
        credential: Credential,
    },
    Admit {
        token: SecretHash,
        agent: AgentName,
        issued: IssuedCertificate,
    },
    RenewCertificate {
        agent: AgentName,
        issued: IssuedCertificate,
    },
}

/// The answer to a command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    Done(Done),
    Plan(Box<Plan>),
}

impl Answer {
    pub(super) fn done(command: CommandId, message: impl Into<String>) -> Self {
        Self::Done(Done { command, message: message.into(), run: None, epoch: None, next: None })
    }

    pub(super) fn next(self, next: impl Into<String>) -> Self {
        match self {
            Self::Done(done) => Self::Done(Done { next: Some(next.into()), ..done }),
            plan => plan,
        }
    }

    pub(super) fn run(self, run: RunId) -> Self {
        match self {
            Self::Done(done) => Self::Done(Done { run: Some(run), ..done }),
            plan => plan,
        }
    }

    pub(super) fn epoch(self, epoch: Epoch) -> Self {
        match self {
            Self::Done(done) => Self::Done(Done { epoch: Some(epoch), ..done }),
            plan => plan,
        }
    }
}

impl ServerMachine {
    pub(super) fn handle_command(&mut self, id: CommandId, actor: String, command: Command) {
        if let Some(result) = self.state.commands.get(&id) {
            let answer = serde_json::from_value(result.body.clone()).map_err(|error| {
                Refusal::new(RefusalCode::Internal, "the stored answer cannot be read").cause(error.to_string())
            });
            let answer = Box::new(answer.and_then(|stored: Result<Answer, Refusal>| stored));
            self.out.perform(Effect::Answer { command: id, answer });
            return;
        }
        if self.state.restoring {
            // Before anything is decided on what is not to be believed any more.
            self.distrust_targets();
        }
        match command {
            Command::Check(_) | Command::CheckExisting { .. } | Command::Look | Command::Create(_) => {
                self.survey_for_command(id, actor, command)
            }
            Command::ConfirmDead { agent, seen } => self.ask_whether_dead(id, actor, agent, seen),
            Command::Sync { name, full } => self.sync(id, &actor, &name, full),
            Command::Verify { name, repair } => self.verify(id, &actor, &name, repair),
            Command::Abort { name } => self.abort(id, &actor, &name),
            Command::Pause { name } => self.set_intent(id, &actor, &name, Intent::Paused),
            Command::Resume { name } => self.set_intent(id, &actor, &name, Intent::Enabled),
            Command::Delete { name, leave_behind } => self.delete(id, &actor, &name, leave_behind),
            Command::SetHierarchy { name, change } => self.set_hierarchy(id, &actor, &name, change),
            Command::Pin { name, run, pinned } => self.pin(id, &actor, &name, run, pinned),
            Command::NoteReading { name, run, reading } => self.note_reading(id, &actor, &name, run, &reading),
            Command::SetPolicy { name, change } => self.set_policy(id, &actor, &name, *change),
            Command::Handover { name, to } => self.handover(id, actor, &name, to),
            Command::Drill { name, hand_back } => self.drill(id, actor, &name, hand_back),
            Command::Handback { name } => self.handback(id, actor, &name),
            Command::DrainAgent { agent } => self.set_drained(id, &actor, &agent, true),
            Command::UndrainAgent { agent } => self.set_drained(id, &actor, &agent, false),
            Command::RemoveAgent { agent } => self.remove_agent(id, &actor, &agent),
            Command::CreateToken { token } => self.create_token(id, &actor, token),
            Command::CreateCredential { credential } => self.create_credential(id, credential),
            Command::Admit { token, agent, issued } => self.admit_agent(id, &token, agent, issued),
            Command::RenewCertificate { agent, issued } => self.renew_certificate(id, &agent, issued),
        }
    }

    /// Has the agents concerned look now, then goes on with the command.
    fn survey_for_command(&mut self, id: CommandId, actor: String, command: Command) {
        if self.is_surveying_for(id) {
            // The same command once more, while the agents still look: it is answered once, when they have.
            return;
        }
        type Asked = (Vec<AgentName>, Vec<PeerAddress>, Vec<VolumeAddress>);
        let (agents, peers, volumes): Asked = match &command {
            Command::Check(create) | Command::Create(create) => {
                let peers = create.agents.iter().filter_map(|a| self.peer_address(a)).collect();
                (create.agents.clone(), peers, vec![self.source_of(create), create.target.clone()])
            }
            Command::CheckExisting { name } => match self.state.replication_by_name(name) {
                Some(record) => {
                    let agents: Vec<AgentName> = record.target.hierarchy.iter().cloned().collect();
                    let peers = agents.iter().filter_map(|a| self.peer_address(a)).collect();
                    (agents, peers, vec![record.source.volume.clone(), record.target.volume.clone()])
                }
                None => return self.refuse_command(id, no_replication(name)),
            },
            Command::Look => (self.sessions.keys().cloned().collect(), Vec::new(), Vec::new()),
            _ => return,
        };
        let inventory = matches!(command, Command::Look);
        let live: Vec<AgentName> =
            agents.into_iter().filter(|a| self.sessions.get(a).is_some_and(super::Session::is_connected)).collect();
        if live.is_empty() {
            return self.finish_command(id, &actor, command);
        }
        let purpose = Purpose::Command { id, actor, command: Box::new(command) };
        let limit = self.timers.survey;
        self.start_survey(&live, &peers, &volumes, inventory, limit, purpose);
    }

    pub(super) fn finish_command(&mut self, id: CommandId, actor: &str, command: Command) {
        match command {
            Command::Check(create) => {
                let answer = self.plan(&create).map(|plan| Answer::Plan(Box::new(plan)));
                self.out.perform(Effect::Answer { command: id, answer: Box::new(answer) });
            }
            Command::CheckExisting { name } => {
                let answer = match self.state.replication_by_name(&name) {
                    Some(record) => Ok(Answer::Plan(Box::new(self.plan_of(record)))),
                    None => Err(no_replication(&name)),
                };
                self.out.perform(Effect::Answer { command: id, answer: Box::new(answer) });
            }
            Command::Look => {
                let answer = Ok(Answer::done(id, "every agent has looked at its storage"));
                self.out.perform(Effect::Answer { command: id, answer: Box::new(answer) });
            }
            Command::Create(create) => self.create(id, actor, &create),
            _ => {}
        }
    }

    /// Commits changes and answers once they are durable; the answer is stored with them.
    pub(super) fn finish(&mut self, id: CommandId, condition: Condition, mut changes: Vec<Change>, answer: Answer) {
        let answer: Result<Answer, Refusal> = Ok(answer);
        if let Ok(body) = serde_json::to_value(&answer) {
            changes.push(Change::PutCommandResult(CommandResult { id, at: self.now.wall, body }));
        }
        self.commit(condition, changes, vec![Effect::Answer { command: id, answer: Box::new(answer) }]);
    }

    pub(super) fn finish_current(
        &mut self,
        id: CommandId,
        record: &ReplicationRecord,
        changes: Vec<Change>,
        answer: Answer,
    ) {
        let condition = Condition::Current {
            replication: record.id,
            epochs: record.epochs,
            incarnation: record.holder.as_ref().map(|h| h.incarnation),
        };
        self.touched.insert(record.id);
        self.finish(id, condition, changes, answer);
    }

    /// Refusals change nothing and are not stored: the same request may succeed later.
    pub(super) fn refuse_command(&mut self, id: CommandId, refusal: Refusal) {
        self.out.perform(Effect::Answer { command: id, answer: Box::new(Err(refusal)) });
    }

    pub(super) fn known_replication(&mut self, id: CommandId, name: &ReplicationName) -> Option<ReplicationRecord> {
        let record = self.state.replication_by_name(name).cloned();
        if record.is_none() {
            self.refuse_command(id, no_replication(name));
        }
        record
    }

    pub(super) fn known_agent(&mut self, id: CommandId, agent: &AgentName) -> Option<AgentRecord> {
        let record = self.state.agents.get(agent).filter(|a| !a.removed).cloned();
        if record.is_none() {
            self.refuse_command(id, no_agent(agent));
        }
        record
    }

    /// How long a healthy agent may be silent, at the pace that its roles give it.
    pub(super) fn longest_pause(&self, agent: &AgentName, session: &super::Session) -> std::time::Duration {
        let mut roles = session.roles.values().chain(session.readings.values());
        let acts = roles.any(|role| role.state == RoleState::Active);
        let stands = |r: &ReplicationRecord| r.target.hierarchy.contains(agent) || r.source.hierarchy.contains(agent);
        let stands_by = self.state.replications.values().any(stands);
        if acts { self.timers.suspicion() * 2 } else { self.timers.fresh_beat(stands_by) }
    }

    pub(super) fn operator_event(
        &self,
        record: &ReplicationRecord,
        actor: &str,
        code: EventCode,
        message: String,
    ) -> Change {
        let mut event = self.event(code, message);
        event.replication = Some((record.id, record.name.clone()));
        event.actor = actor.to_owned();
        Change::AppendEvent(event)
    }

    fn set_intent(&mut self, id: CommandId, actor: &str, name: &ReplicationName, intent: Intent) {
        let Some(record) = self.known_replication(id, name) else { return };
        if record.intent == Intent::Deleting {
            let refusal = Refusal::new(RefusalCode::Conflict, format!("{name} is being removed"));
            return self.refuse_command(id, refusal);
        }
        let (code, word) = match intent {
            Intent::Paused => (EventCode::ReplicationPaused, "paused"),
            _ => (EventCode::ReplicationResumed, "resumed"),
        };
        let event = self.operator_event(&record, actor, code, format!("{name} was {word}"));
        let next = ReplicationRecord { intent, ..record.clone() };
        self.supervision_mut(record.id).order_sent = None;
        let answer = Answer::done(id, format!("{name} is {word}"));
        self.finish_current(id, &record, vec![event, Change::PutReplication(Box::new(next))], answer);
    }

    /// A change of rank never moves work by itself; removing the acting agent is a handover.
    fn set_hierarchy(&mut self, id: CommandId, actor: &str, name: &ReplicationName, change: SetHierarchy) {
        let Some(record) = self.known_replication(id, name) else { return };
        if let Some(unknown) = change.agents.iter().find(|a| self.state.agents.get(*a).is_none_or(|r| r.removed)) {
            let refusal = Refusal::new(RefusalCode::NotFound, format!("there is no agent {unknown}"))
                .hint("tanist agent list shows the agents");
            return self.refuse_command(id, refusal);
        }
        let hierarchy = match Hierarchy::new(change.agents) {
            Ok(hierarchy) => hierarchy,
            Err(error) => {
                return self.refuse_command(id, Refusal::new(RefusalCode::Invalid, error.to_string()));
            }
        };
        let list: Vec<String> = hierarchy.iter().map(ToString::to_string).collect();
        let message = format!("the {} hierarchy of {name} is now {}", change.side, list.join(", "));
        let mut next = record.clone();
        match change.side {
            Side::Source => next.source.hierarchy = hierarchy,
            Side::Target => next.target.hierarchy = hierarchy,
        }
        if let Some(refusal) = self.why_nobody_could_act(&next) {
            return self.refuse_command(id, refusal);
        }
        let concerned = &members(&record) | &members(&next);
        let event = self.operator_event(&record, actor, EventCode::HierarchyChanged, message.clone());
        let changes = vec![event, Change::PutReplication(Box::new(next))];
        self.finish_current(id, &record, changes, Answer::done(id, message));
        self.send_watches_to(concerned);
    }

    fn why_nobody_could_act(&self, next: &ReplicationRecord) -> Option<Refusal> {
        let both = next.target.hierarchy.iter().any(|a| next.source.hierarchy.contains(a));
        (!both).then(|| {
            Refusal::new(RefusalCode::Conflict, "no agent would stand in both hierarchies")
                .cause("in the direct form one agent acts for both sides")
                .hint("keep at least one agent on both sides")
        })
    }

    fn handover(&mut self, id: CommandId, actor: String, name: &ReplicationName, to: Option<AgentName>) {
        let Some(record) = self.known_replication(id, name) else { return };
        let Some(holder) = record.holder.clone().filter(|h| h.activated_at.is_some()) else {
            let refusal = Refusal::new(RefusalCode::Conflict, format!("nobody acts for {name} now"))
                .hint(format!("tanist replication show {name}"));
            return self.refuse_command(id, refusal);
        };
        if let Some(refusal) = self.why_no_handover(&record, &holder.agent, to.as_ref()) {
            return self.refuse_command(id, refusal);
        }
        self.supervision_mut(record.id).order_sent = None;
        self.begin_handover(&record, &holder, to.clone(), actor);
        let to = to.map_or_else(|| "the next eligible agent".to_owned(), |to| to.to_string());
        let answer = Answer::done(id, format!("{} hands {name} over to {to}", holder.agent))
            .next(format!("tanist replication why {name}"));
        self.finish(id, Condition::Term, Vec::new(), answer);
    }

    pub(super) fn why_no_handover(
        &self,
        record: &ReplicationRecord,
        holder: &AgentName,
        to: Option<&AgentName>,
    ) -> Option<Refusal> {
        if let Some(unknown) = to.filter(|to| self.state.agents.get(*to).is_none_or(|a| a.removed)) {
            return Some(no_agent(unknown));
        }
        if to == Some(holder) {
            return Some(Refusal::new(RefusalCode::Conflict, format!("{holder} acts already")));
        }
        let candidates: Vec<_> = self.candidates(record).into_iter().filter(|c| c.agent != *holder).collect();
        let able = match to {
            Some(to) => candidates.iter().any(|c| c.agent == *to && c.passed_over.is_none()),
            None => self.pick(&candidates).is_some(),
        };
        let reasons: Vec<String> = candidates
            .iter()
            .filter(|c| to.is_none_or(|to| c.agent == *to))
            .filter_map(|c| Some(format!("{}: {}", c.agent, c.passed_over.as_ref()?)))
            .collect();
        let cause = match to {
            _ if !reasons.is_empty() => reasons.join("; "),
            Some(_) => "it is not in the hierarchy".to_owned(),
            None => "no other agent is in the hierarchy".to_owned(),
        };
        (!able).then(|| {
            Refusal::new(RefusalCode::Conflict, "no agent can take over now")
                .cause(cause)
                .hint(format!("tanist replication check {}", record.name))
        })
    }

    fn handback(&mut self, id: CommandId, actor: String, name: &ReplicationName) {
        let Some(record) = self.known_replication(id, name) else { return };
        let acting = record.holder.as_ref().map(|h| h.agent.clone());
        let first = self.candidates(&record).into_iter().find(|c| c.passed_over.is_none()).map(|c| c.agent);
        match first {
            Some(first) if Some(&first) != acting.as_ref() => self.handover(id, actor, name, Some(first)),
            _ => {
                let who = acting.map_or_else(|| "nobody".to_owned(), |a| a.to_string());
                let answer = Answer::done(id, format!("{who} acts, and no agent before it is eligible; nothing to do"));
                self.finish(id, Condition::Term, Vec::new(), answer);
            }
        }
    }

    fn set_drained(&mut self, id: CommandId, actor: &str, agent: &AgentName, drained: bool) {
        let Some(mut record) = self.known_agent(id, agent) else { return };
        record.drained = drained;
        let (code, message) = if drained {
            (EventCode::AgentDrained, format!("agent {agent} is drained: its roles go to others, and it gets none"))
        } else {
            (EventCode::AgentUndrained, format!("agent {agent} is available again"))
        };
        let mut event = self.event(code, message.clone());
        event.actor = actor.to_owned();
        event.agent = Some(agent.clone());
        let stays = self.roles_without_successor(agent);
        let message = if drained && !stays.is_empty() {
            format!("{message}; it goes on acting for {} until another agent is eligible", stays.join(", "))
        } else {
            message
        };
        self.touch_agent(agent);
        self.finish(
            id,
            Condition::Term,
            vec![Change::PutAgent(record), Change::AppendEvent(event)],
            Answer::done(id, message),
        );
    }

    fn roles_without_successor(&self, agent: &AgentName) -> Vec<String> {
        let held = self.state.replications.values().filter_map(|r| Some((r, r.holder.as_ref()?)));
        held.filter(|(r, h)| h.agent == *agent && self.successor_of(r, h).is_none())
            .map(|(r, _)| r.name.to_string())
            .collect()
    }
}

pub(super) fn no_agent(agent: &AgentName) -> Refusal {
    Refusal::new(RefusalCode::NotFound, format!("there is no agent {agent}")).hint("tanist agent list shows the agents")
}

fn no_replication(name: &ReplicationName) -> Refusal {
    Refusal::new(RefusalCode::NotFound, format!("there is no replication {name}"))
        .hint("tanist replication list shows the replications")
}
