//! An operator's word that an agent is dead.
//!
//! It is asked for where nothing else proves an epoch quiet, and it is the only proof that nobody can check. So it is refused while
//! anybody reaches a process that it would cover, and it covers what there was when the operator looked: the processes that it names,
//! at the server that named them. A word may come late or twice, and meanwhile the agent may have come back, been granted another
//! epoch, and lost its connection again.

use std::collections::BTreeSet;

use tanist_model::api::{ConfirmDead, Refusal, RefusalCode};
use tanist_model::application::Quiescence;
use tanist_model::change::{Change, Condition};
use tanist_model::event::EventCode;
use tanist_model::id::{AgentName, CommandId, Incarnation};
use tanist_model::quantity::count;
use tanist_model::replication::{ProofKind, ReplicationRecord};
use tanist_model::takeover::{PeerVerdict, ProbeVerdict};

use super::command::{Answer, no_agent};
use super::survey::Purpose;
use super::{ServerMachine, Session};
use crate::message::PeerAddress;

impl ServerMachine {
    /// Has every other agent try to reach this one, and then takes the operator's word.
    pub(super) fn ask_whether_dead(&mut self, id: CommandId, actor: String, agent: AgentName, seen: ConfirmDead) {
        if self.is_surveying_for(id) {
            return;
        }
        if let Some(refusal) = self.why_not_confirmed(&agent, &seen, &[]) {
            return self.refuse_command(id, refusal);
        }
        let others = self.sessions.iter().filter(|(peer, session)| **peer != agent && session.is_connected());
        let others: Vec<AgentName> = others.map(|(peer, _)| peer.clone()).collect();
        if others.is_empty() {
            return self.confirm_dead(id, &actor, &agent, &seen, &[]);
        }
        let address: Vec<PeerAddress> = self.peer_address(&agent).into_iter().collect();
        let purpose = Purpose::ConfirmDead { id, actor, agent, seen };
        self.start_survey(&others, &address, &[], false, self.timers.survey, purpose);
    }

    /// The processes of an agent that something is waited for of, the living one included.
    #[must_use]
    pub fn unproven_processes(&self, agent: &AgentName) -> BTreeSet<Incarnation> {
        let records = || self.state.replications.values();
        let granted = records().flat_map(|r| &r.unproven).filter(|u| u.agent == *agent).map(|u| u.incarnation);
        let quiesced = records().flat_map(|r| &r.quiesced).filter(|q| q.agent == *agent).map(|q| q.incarnation);
        granted.chain(quiesced).collect()
    }

    /// Why an agent is not taken for dead; also one that was removed may be: its epochs may still be waited for.
    fn why_not_confirmed(&self, agent: &AgentName, seen: &ConfirmDead, verdicts: &[ProbeVerdict]) -> Option<Refusal> {
        if !self.state.agents.contains_key(agent) {
            return Some(no_agent(agent));
        }
        if seen.term != self.state.term {
            return Some(of_another_term(agent));
        }
        self.why_not_dead(agent, &self.living_processes(agent, verdicts))
    }

    /// The processes of an agent that somebody has just reached, and by whom.
    fn living_processes(&self, agent: &AgentName, verdicts: &[ProbeVerdict]) -> Vec<(Incarnation, String)> {
        let by_peers = verdicts.iter().filter_map(|v| match v.verdict {
            PeerVerdict::Reached { incarnation } => Some((incarnation, v.peer.to_string())),
            _ => None,
        });
        let fresh = |session: &&Session| {
            session.is_connected() && self.now.monotonic.since(session.last_beat) < self.longest_pause(agent, session)
        };
        let by_server = self.sessions.get(agent).filter(fresh).map(|s| (s.incarnation, "the server".to_owned()));
        by_server.into_iter().chain(by_peers).collect()
    }

    /// An earlier process of a living agent may be confirmed dead: the agent runs one process at a time. One that is reached may
    /// not.
    fn why_not_dead(&self, agent: &AgentName, living: &[(Incarnation, String)]) -> Option<Refusal> {
        let awaited = self.state.replications.values().flat_map(ReplicationRecord::awaited);
        let waited: Vec<Incarnation> = awaited.filter(|u| u.agent == *agent).map(|u| u.incarnation).collect();
        let only_earlier = !waited.is_empty() && living.iter().all(|(living, _)| !waited.contains(living));
        if living.is_empty() || only_earlier {
            return None;
        }
        let by: Vec<&str> = living.iter().map(|(_, by)| by.as_str()).collect();
        let refusal = Refusal::new(RefusalCode::Guarded, format!("agent {agent} is not dead"))
            .cause(format!("it is reached by {}", by.join(", ")))
            .hint(format!("to take it out of service: tanist agent drain {agent}"));
        Some(refusal)
    }

    pub(super) fn confirm_dead(
        &mut self,
        id: CommandId,
        actor: &str,
        agent: &AgentName,
        seen: &ConfirmDead,
        verdicts: &[ProbeVerdict],
    ) {
        if let Some(refusal) = self.why_not_confirmed(agent, seen, verdicts) {
            return self.refuse_command(id, refusal);
        }
        let living = self.living_processes(agent, verdicts);
        let is_gone = |of: &AgentName, process: Incarnation| {
            of == agent && seen.processes.contains(&process) && living.iter().all(|(living, _)| *living != process)
        };
        let proven = self.prove_everywhere(ProofKind::OperatorConfirmed, |u| is_gone(&u.agent, u.incarnation));
        self.forget_quiescences(|q: &Quiescence| is_gone(&q.agent, q.incarnation));
        if living.is_empty() {
            // What a dead agent was granted can do no harm any more: a restored store need not wait for it.
            self.settle(agent);
        }
        let message = format!("{actor} confirmed agent {agent} dead; proven quiet: {}", count(proven as u64, "epoch"));
        let mut event = self.event(EventCode::AgentConfirmedDead, message.clone());
        event.actor = actor.to_owned();
        event.agent = Some(agent.clone());
        self.finish(id, Condition::Term, vec![Change::AppendEvent(event)], Answer::done(id, message));
    }
}

/// Since then the agent may have run again, and this server would not know it yet.
fn of_another_term(agent: &AgentName) -> Refusal {
    Refusal::new(RefusalCode::Conflict, "what was seen is what another server knew")
        .cause("the server was started anew since it was asked which processes it waits for")
        .hint(format!("look at the host again, then: tanist agent confirm-dead {agent}"))
}
