//! Who may connect: join tokens, certificates, removal. The secrets and keys are the transport's; the records are decided here.

use serde::{Deserialize, Serialize};
use tanist_model::agent::{AgentRecord, AgentSlot, Penalty};
use tanist_model::api::{Refusal, RefusalCode};
use tanist_model::change::{Change, Condition};
use tanist_model::enrolment::{Credential, JoinToken, SecretHash};
use tanist_model::event::EventCode;
use tanist_model::id::{AgentName, CommandId};
use tanist_model::time::Timestamp;

use super::command::Answer;
use super::{Effect, ServerMachine};
use crate::message::ServerMessage;

/// A certificate that the transport has issued and that counts once it is committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuedCertificate {
    pub serial: String,
    pub expires_at: Timestamp,
    pub pem: String,
}

impl ServerMachine {
    pub(super) fn create_token(&mut self, id: CommandId, actor: &str, token: JoinToken) {
        let live = self.state.agents.get(&token.agent).is_some_and(|a| !a.removed);
        if live && self.sessions.get(&token.agent).is_some_and(super::Session::is_connected) {
            let refusal = Refusal::new(RefusalCode::Conflict, format!("agent {} is joined and connected", token.agent))
                .hint(format!("to join another host under this name, first: tanist agent remove {}", token.agent));
            return self.refuse_command(id, refusal);
        }
        let mut event =
            self.event(EventCode::TokenCreated, format!("a join token for agent {} was created", token.agent));
        event.actor = actor.to_owned();
        event.agent = Some(token.agent.clone());
        let message = format!("token for agent {} created", token.agent);
        self.finish(
            id,
            Condition::Term,
            vec![Change::PutToken(token), Change::AppendEvent(event)],
            Answer::done(id, message),
        );
    }

    pub(super) fn create_credential(&mut self, id: CommandId, credential: Credential) {
        let message = format!("credential for {} created", credential.operator);
        self.finish(id, Condition::Term, vec![Change::PutCredential(credential)], Answer::done(id, message));
    }

    /// Whether a token may be used now for this agent.
    ///
    /// # Errors
    /// A [`Refusal`] that says which of the token's limits forbids it.
    pub fn check_token(&self, hash: &SecretHash, agent: &AgentName) -> Result<&JoinToken, Refusal> {
        let again = format!("make a new one: tanist token create {agent}");
        let refuse =
            |why: &str| Refusal::new(RefusalCode::Forbidden, "the join was refused").cause(why).hint(again.clone());
        let token = self.state.tokens.get(hash).ok_or_else(|| refuse("this token is not known here"))?;
        if token.agent != *agent {
            return Err(refuse(&format!("this token was made for agent {}", token.agent)));
        }
        if token.used_at.is_some() {
            return Err(refuse("this token has been used already"));
        }
        if self.now.wall >= token.expires_at {
            return Err(refuse(&format!("this token expired at {}", token.expires_at)));
        }
        Ok(token)
    }

    /// An agent joins with a token: the token is used up and the certificate counts, in one commit.
    pub(super) fn admit_agent(
        &mut self,
        id: CommandId,
        hash: &SecretHash,
        agent: AgentName,
        issued: IssuedCertificate,
    ) {
        let token = match self.check_token(hash, &agent) {
            Ok(token) => JoinToken { used_at: Some(self.now.wall), ..token.clone() },
            Err(refusal) => return self.refuse_command(id, refusal),
        };
        let Some(slot) = self.free_slot(&agent) else {
            let refusal = Refusal::new(RefusalCode::Conflict, "no more agents can join: every number was given");
            return self.refuse_command(id, refusal);
        };
        let previous = self.state.agents.get(&agent);
        let record = AgentRecord {
            name: agent.clone(),
            slot,
            certificate_serial: issued.serial,
            previous_serial: None,
            certificate_expires_at: issued.expires_at,
            joined_at: self.now.wall,
            removed: false,
            drained: false,
            penalty: Penalty::default(),
            host: previous.and_then(|p| p.host.clone()),
            listen_address: None,
            owes_epochs: previous.is_some_and(|p| p.owes_epochs),
        };
        let mut event = self.event(EventCode::AgentJoined, format!("agent {agent} joined"));
        event.agent = Some(agent.clone());
        let changes = vec![Change::PutToken(token), Change::PutAgent(record), Change::AppendEvent(event)];
        self.finish(id, Condition::Term, changes, Answer::done(id, format!("agent {agent} joined")));
    }

    /// Numbers are never used again for another agent: keys that carry one may still lie on units.
    fn free_slot(&self, agent: &AgentName) -> Option<AgentSlot> {
        if let Some(record) = self.state.agents.get(agent) {
            return Some(record.slot);
        }
        let highest = self.state.agents.values().map(|a| a.slot.0).max().unwrap_or(0);
        highest.checked_add(1).map(AgentSlot)
    }

    /// A renewed certificate: it counts at once, the old one until the agent has shown the new one.
    pub(super) fn renew_certificate(&mut self, id: CommandId, agent: &AgentName, issued: IssuedCertificate) {
        let Some(record) = self.state.agents.get(agent).filter(|a| !a.removed) else {
            let refusal = Refusal::new(RefusalCode::Forbidden, format!("agent {agent} is not a member"));
            return self.refuse_command(id, refusal);
        };
        let mut renewed = record.clone();
        // An agent shows a certificate before it asks for the next: one it never showed is one it may never have got.
        let replaced = std::mem::replace(&mut renewed.certificate_serial, issued.serial);
        renewed.previous_serial.get_or_insert(replaced);
        renewed.certificate_expires_at = issued.expires_at;
        let message = format!("the certificate of agent {agent} was renewed until {}", issued.expires_at);
        let mut event = self.event(EventCode::CertificateRenewed, message.clone());
        event.agent = Some(agent.clone());
        let answer = Answer::done(id, message);
        let reply = self.to_agent(agent, ServerMessage::CertificateIssued { certificate_pem: issued.pem });
        let mut after = vec![Effect::Answer { command: id, answer: Box::new(Ok(answer)) }];
        after.extend(reply);
        self.commit(Condition::Term, vec![Change::PutAgent(renewed), Change::AppendEvent(event)], after);
    }

    pub(super) fn remove_agent(&mut self, id: CommandId, actor: &str, agent: &AgentName) {
        let Some(record) = self.known_agent(id, agent) else { return };
        let mut removed = record;
        removed.removed = true;
        let mut event =
            self.event(EventCode::AgentRemoved, format!("agent {agent} was removed; its certificate is revoked"));
        event.agent = Some(agent.clone());
        event.actor = actor.to_owned();
        let close = self.sessions.get(agent).filter(|s| s.is_connected()).map(|s| Effect::Close {
            agent: agent.clone(),
            connection: s.connection,
            reason: "the agent was removed".to_owned(),
        });
        let answer = Answer::done(id, format!("agent {agent} is removed and its certificate revoked"));
        self.touch_agent(agent);
        self.finish(id, Condition::Term, vec![Change::PutAgent(removed), Change::AppendEvent(event)], answer);
        if let Some(close) = close {
            self.out.perform(close);
        }
        self.end_restore_if_settled();
    }
}
