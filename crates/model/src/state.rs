//! The durable state as one value: what the store loads, the memory store is, and the server's machine decides over.

use std::collections::BTreeMap;

use crate::agent::AgentRecord;
use crate::change::{Change, CommandResult, Condition};
use crate::enrolment::{Credential, JoinToken, SecretHash};
use crate::id::{AgentName, CommandId, Epoch, ReplicationId, ReplicationName, RunId, Term};
use crate::recovery_point::RecoveryPoint;
use crate::replication::ReplicationRecord;
use crate::run::RunRecord;
use crate::takeover::TakeoverRecord;
use serde::{Deserialize, Serialize};

/// Everything durable but the event log. History (finished runs, takeovers, command results) is bounded, see
/// [`State::HISTORY_PER_REPLICATION`].
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct State {
    pub term: Term,
    pub restoring: bool,
    /// The highest epoch of a target of any replication that was removed. A reservation key that shows it may still lie on a unit: whoever
    /// is to reserve that one begins above it.
    #[serde(default)]
    pub removed_epoch: Epoch,
    pub agents: BTreeMap<AgentName, AgentRecord>,
    pub replications: BTreeMap<ReplicationId, ReplicationRecord>,
    #[serde(with = "crate::pairs")]
    pub runs: BTreeMap<(ReplicationId, RunId), RunRecord>,
    #[serde(with = "crate::pairs")]
    pub recovery_points: BTreeMap<(ReplicationId, RunId), RecoveryPoint>,
    /// By target epoch.
    #[serde(with = "crate::pairs")]
    pub takeovers: BTreeMap<(ReplicationId, u32), TakeoverRecord>,
    pub commands: BTreeMap<CommandId, CommandResult>,
    pub tokens: BTreeMap<SecretHash, JoinToken>,
    pub credentials: BTreeMap<SecretHash, Credential>,
}

impl State {
    /// How many finished runs, gone recovery points and takeovers of a replication are kept.
    pub const HISTORY_PER_REPLICATION: usize = 100;
    /// How many command results are kept.
    pub const COMMAND_RESULTS: usize = 1000;

    #[must_use]
    pub fn replication_by_name(&self, name: &ReplicationName) -> Option<&ReplicationRecord> {
        self.replications.values().find(|r| r.name == *name)
    }

    /// The run a replication works on or waits to start.
    #[must_use]
    pub fn current_run(&self, replication: &ReplicationRecord) -> Option<&RunRecord> {
        self.runs.get(&(replication.id, replication.run?))
    }

    /// True if a group under this condition may be applied.
    #[must_use]
    pub fn allows(&self, condition: &Condition) -> bool {
        match condition {
            Condition::Term => true,
            Condition::NameFree { name } => self.replication_by_name(name).is_none(),
            Condition::Current { replication, epochs, incarnation } => self
                .replications
                .get(replication)
                .is_some_and(|r| r.epochs == *epochs && r.holder.as_ref().map(|h| h.incarnation) == *incarnation),
        }
    }

    /// Applies one change. The same function serves the memory store and the server's machine.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::PutAgent(agent) => {
                self.agents.insert(agent.name.clone(), agent.clone());
            }
            Change::PutReplication(replication) => {
                self.replications.insert(replication.id, (**replication).clone());
            }
            Change::DeleteReplication(id) => self.delete_replication(*id),
            Change::PutRun(run) => {
                self.runs.insert((run.replication, run.id), (**run).clone());
            }
            Change::PutRecoveryPoint(point) => {
                self.recovery_points.insert((point.replication, point.run), (**point).clone());
            }
            Change::PutTakeover(takeover) => {
                self.takeovers.insert((takeover.replication, takeover.epochs.target.0), (**takeover).clone());
            }
            Change::PutCommandResult(result) => {
                self.commands.insert(result.id, result.clone());
            }
            Change::PutToken(token) => {
                self.tokens.insert(token.hash.clone(), token.clone());
            }
            Change::PutCredential(credential) => {
                self.credentials.insert(credential.hash.clone(), credential.clone());
            }
            Change::SetRestoring(restoring) => self.restoring = *restoring,
            Change::NoteRemovedEpoch(epoch) => self.removed_epoch = self.removed_epoch.max(*epoch),
            Change::AppendEvent(_) => {}
        }
    }

    fn delete_replication(&mut self, id: ReplicationId) {
        self.replications.remove(&id);
        self.runs.retain(|(replication, _), _| *replication != id);
        self.recovery_points.retain(|(replication, _), _| *replication != id);
        self.takeovers.retain(|(replication, _), _| *replication != id);
    }
}
