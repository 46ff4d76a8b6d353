//! Surveys: the server asks agents to look now, at volumes and at peers, and waits a bounded time for the answers.
//!
//! A probe of a suspect is a survey of one peer; an operator's command that needs fresh facts waits for one.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use tanist_model::api::ConfirmDead;
use tanist_model::id::{AgentName, CommandId, ReplicationId, VolumeAddress};
use tanist_model::replication::{ReplicationRecord, Side};
use tanist_model::takeover::ProbeVerdict;
use tanist_model::time::Monotonic;

use super::ServerMachine;
use super::command::Command;
use crate::message::{CanaryReport, PeerAddress, PeerReport, ServerMessage};

/// What a survey is for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Purpose {
    Probe {
        replication: ReplicationId,
        side: Side,
    },
    /// The command goes on when the answers are in.
    Command {
        id: CommandId,
        actor: String,
        command: Box<Command>,
    },
    /// Whether anybody reaches an agent that an operator says is dead.
    ConfirmDead {
        id: CommandId,
        actor: String,
        agent: AgentName,
        seen: ConfirmDead,
    },
}

/// A survey under way.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Survey {
    pub(super) waiting: BTreeSet<AgentName>,
    pub(super) deadline: Monotonic,
    pub(super) purpose: Purpose,
    /// What peers said, for a command that asks about a peer.
    pub(super) verdicts: Vec<ProbeVerdict>,
}

impl ServerMachine {
    /// Asks every connected peer of the hierarchies to probe the suspect; returns the survey and who was asked.
    pub(super) fn probe(
        &mut self,
        record: &ReplicationRecord,
        side: Side,
        suspect: &AgentName,
    ) -> (u64, Vec<AgentName>) {
        let Some(address) = self.peer_address(suspect) else { return (0, Vec::new()) };
        let everyone = record.target.hierarchy.iter().chain(record.source.hierarchy.iter());
        let mut asked: Vec<AgentName> = everyone
            .filter(|peer| *peer != suspect)
            .filter(|peer| self.sessions.get(*peer).is_some_and(super::Session::is_connected))
            .cloned()
            .collect();
        asked.sort();
        asked.dedup();
        if asked.is_empty() {
            return (0, asked);
        }
        let purpose = Purpose::Probe { replication: record.id, side };
        let survey = self.start_survey(&asked, &[address], &[], false, self.timers.probe, purpose);
        (survey, asked)
    }

    /// Whether a survey for this command is under way.
    pub(super) fn is_surveying_for(&self, command: CommandId) -> bool {
        let is_for = |purpose: &Purpose| match purpose {
            Purpose::Command { id, .. } | Purpose::ConfirmDead { id, .. } => *id == command,
            Purpose::Probe { .. } => false,
        };
        self.surveys.values().any(|survey| is_for(&survey.purpose))
    }

    pub(super) fn start_survey(
        &mut self,
        agents: &[AgentName],
        peers: &[PeerAddress],
        volumes: &[VolumeAddress],
        inventory: bool,
        limit: std::time::Duration,
        purpose: Purpose,
    ) -> u64 {
        let survey = self.next_survey;
        self.next_survey += 1;
        for agent in agents {
            let message = ServerMessage::Survey {
                term: self.state.term,
                survey,
                peers: peers.iter().filter(|p| p.agent != *agent).cloned().collect(),
                volumes: volumes.to_vec(),
                inventory,
            };
            self.send(agent, message);
        }
        let deadline = self.now.monotonic.plus(limit);
        let waiting = agents.iter().cloned().collect();
        self.surveys.insert(survey, Survey { waiting, deadline, purpose, verdicts: Vec::new() });
        survey
    }

    pub(super) fn handle_surveyed(
        &mut self,
        agent: &AgentName,
        id: u64,
        canaries: &[CanaryReport],
        peers: &[PeerReport],
    ) {
        let (at, wall) = (self.now.monotonic, self.now.wall);
        let Some(survey) = self.surveys.get_mut(&id) else { return };
        survey.waiting.remove(agent);
        let verdicts = peers.iter().map(|p| ProbeVerdict { peer: agent.clone(), verdict: p.verdict.clone(), at: wall });
        survey.verdicts.extend(verdicts.clone());
        if let Purpose::Probe { replication, side } = &survey.purpose {
            let (replication, side) = (*replication, *side);
            self.touched.insert(replication);
            let suspicion = self.supervision_mut(replication).suspicions.get_mut(&side);
            if let Some(suspicion) = suspicion.filter(|s| s.survey == id) {
                suspicion.verdicts.extend(verdicts);
            }
        } else if let Some(session) = self.sessions.get_mut(agent) {
            session.note_canaries(canaries, at);
            session.note_peers(peers, at);
        }
        self.finish_survey_if_complete(id);
    }

    fn finish_survey_if_complete(&mut self, id: u64) {
        if self.surveys.get(&id).is_some_and(|s| s.waiting.is_empty()) {
            self.finish_survey(id);
        }
    }

    pub(super) fn expire_surveys(&mut self) {
        let now = self.now.monotonic;
        let due: Vec<u64> = self.surveys.iter().filter(|(_, s)| now >= s.deadline).map(|(id, _)| *id).collect();
        for id in due {
            self.finish_survey(id);
        }
    }

    fn finish_survey(&mut self, id: u64) {
        let Some(survey) = self.surveys.remove(&id) else { return };
        match survey.purpose {
            Purpose::Probe { .. } => {}
            Purpose::Command { id, actor, command } => self.finish_command(id, &actor, *command),
            Purpose::ConfirmDead { id, actor, agent, seen } => {
                self.confirm_dead(id, &actor, &agent, &seen, &survey.verdicts);
            }
        }
    }
}
