//! How much history is kept: one rule for every store and for the server's mirror, looked at only where a transaction added
//! something.
//!
//! Finished runs, gone recovery points and takeovers are bounded per replication, command results over all. A run that its
//! replication still refers to stays, however old.

use std::collections::BTreeSet;

use crate::change::Change;
use crate::id::{CommandId, ReplicationId, RunId};
use crate::recovery_point::{RecoveryPoint, RecoveryPointPlace};
use crate::run::RunRecord;
use crate::state::State;
use crate::time::Timestamp;

/// Where a transaction added history.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Touched {
    pub runs: BTreeSet<ReplicationId>,
    pub recovery_points: BTreeSet<ReplicationId>,
    pub takeovers: BTreeSet<ReplicationId>,
    pub commands: bool,
}

impl Touched {
    /// Notes what an applied change adds to.
    pub fn note(&mut self, change: &Change) {
        match change {
            Change::PutRun(run) if run.state.is_finished() => drop(self.runs.insert(run.replication)),
            Change::PutRecoveryPoint(point) if gone_since(point).is_some() => {
                self.recovery_points.insert(point.replication);
            }
            Change::PutTakeover(takeover) => drop(self.takeovers.insert(takeover.replication)),
            Change::PutCommandResult(_) => self.commands = true,
            _ => {}
        }
    }

    /// Removes from a state in memory what is beyond the bounds.
    pub fn prune(&self, state: &mut State) {
        self.runs.iter().for_each(|id| prune_runs(state, *id));
        self.recovery_points.iter().for_each(|id| prune_recovery_points(state, *id));
        self.takeovers.iter().for_each(|id| prune_takeovers(state, *id));
        if self.commands {
            prune_commands(state);
        }
    }
}

/// When a run ended; `None` while it is in progress.
#[must_use]
pub fn finished_at(run: &RunRecord) -> Option<Timestamp> {
    run.state.is_finished().then(|| run.finished_at.unwrap_or(run.requested_at))
}

/// The age of a recovery point that is held nowhere any more; `None` while it is held.
#[must_use]
pub fn gone_since(point: &RecoveryPoint) -> Option<Timestamp> {
    (point.place == RecoveryPointPlace::Gone).then_some(point.published_at)
}

fn prune_runs(state: &mut State, replication: ReplicationId) {
    let in_use = state.replications.get(&replication).map(|r| [r.run, r.target_dirty, r.published]);
    let in_use = |run: RunId| in_use.is_some_and(|used| used.contains(&Some(run)));
    let finished: Vec<(Timestamp, RunId)> = state
        .runs
        .range((replication, RunId(0))..=(replication, RunId(u64::MAX)))
        .filter_map(|((_, id), run)| Some((finished_at(run)?, *id)))
        .collect();
    for (_, run) in beyond(finished, State::HISTORY_PER_REPLICATION).filter(|(_, run)| !in_use(*run)) {
        state.runs.remove(&(replication, run));
    }
}

fn prune_recovery_points(state: &mut State, replication: ReplicationId) {
    let gone: Vec<(Timestamp, RunId)> = state
        .recovery_points
        .range((replication, RunId(0))..=(replication, RunId(u64::MAX)))
        .filter_map(|((_, run), point)| Some((gone_since(point)?, *run)))
        .collect();
    for (_, run) in beyond(gone, State::HISTORY_PER_REPLICATION) {
        state.recovery_points.remove(&(replication, run));
    }
}

fn prune_takeovers(state: &mut State, replication: ReplicationId) {
    let epochs = state.takeovers.range((replication, 0)..=(replication, u32::MAX)).map(|((_, epoch), _)| *epoch);
    for epoch in beyond(epochs.collect(), State::HISTORY_PER_REPLICATION) {
        state.takeovers.remove(&(replication, epoch));
    }
}

fn prune_commands(state: &mut State) {
    if state.commands.len() <= State::COMMAND_RESULTS {
        return;
    }
    let results: Vec<(Timestamp, CommandId)> = state.commands.values().map(|result| (result.at, result.id)).collect();
    for (_, id) in beyond(results, State::COMMAND_RESULTS) {
        state.commands.remove(&id);
    }
}

/// All but the `kept` greatest.
fn beyond<T: Ord>(mut items: Vec<T>, kept: usize) -> impl Iterator<Item = T> {
    items.sort_unstable_by(|a, b| b.cmp(a));
    items.into_iter().skip(kept)
}
