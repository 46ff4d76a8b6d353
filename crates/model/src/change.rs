//! What the server commits: changes in groups, each group under a condition, all under one term.
//!
//! A decision of the protocol is a list of changes. The store applies them durably, the machine applies them to its own
//! [`State`](crate::state::State) by the same function, so the two cannot drift.

use serde::{Deserialize, Serialize};

use crate::agent::AgentRecord;
use crate::enrolment::{Credential, JoinToken};
use crate::event::NewEvent;
use crate::id::{CommandId, Epoch, Epochs, Incarnation, ReplicationId, ReplicationName, Term};
use crate::recovery_point::RecoveryPoint;
use crate::replication::ReplicationRecord;
use crate::run::RunRecord;
use crate::takeover::TakeoverRecord;
use crate::time::Timestamp;

/// The stored result of a command, so that the same id twice does the work once.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct CommandResult {
    pub id: CommandId,
    pub at: Timestamp,
    /// The answer's body, or the refusal, as JSON.
    pub body: serde_json::Value,
}

/// One change of the durable state.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Change {
    PutAgent(AgentRecord),
    PutReplication(Box<ReplicationRecord>),
    /// Removes the replication with its runs, recovery points and takeovers. Events stay.
    DeleteReplication(ReplicationId),
    PutRun(Box<RunRecord>),
    PutRecoveryPoint(Box<RecoveryPoint>),
    PutTakeover(Box<TakeoverRecord>),
    PutCommandResult(CommandResult),
    PutToken(JoinToken),
    PutCredential(Credential),
    /// True from a restore until every known agent has shown its highest epochs: no grants meanwhile.
    SetRestoring(bool),
    /// A replication with this epoch of its target is removed; see [`State::removed_epoch`](crate::state::State::removed_epoch).
    NoteRemovedEpoch(Epoch),
    AppendEvent(NewEvent),
}

/// What must hold in the store for a group to be applied. The term is checked for every transaction besides.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Condition {
    /// Only the term.
    Term,
    /// The replication's stored epochs are these and its holder is this process (`None`: it has no holder).
    Current { replication: ReplicationId, epochs: Epochs, incarnation: Option<Incarnation> },
    /// No replication has this name.
    NameFree { name: ReplicationName },
}

/// Changes that are applied together if their condition holds, and not at all if it does not.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Group {
    pub condition: Condition,
    pub changes: Vec<Change>,
}

/// One durable step. Groups stand or fall each by itself: a burst of takeovers is one transaction, each under its own condition.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Transaction {
    pub term: Term,
    pub groups: Vec<Group>,
}

/// What became of a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GroupOutcome {
    Applied,
    /// Its condition did not hold; nothing of it was applied.
    Refused,
}
