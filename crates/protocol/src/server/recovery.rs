//! Recovery points after their publication: which the retention keeps, what is removed, what an operator pins.
//!
//! What is to go is marked first, durably and for good, then removed at the storage, and struck off only when the holder has said
//! that it is gone: no crash leaves a snapshot that nobody knows, and none is offered that may be half removed.

use tanist_model::api::{Refusal, RefusalCode};
use tanist_model::change::Change;
use tanist_model::event::EventCode;
use tanist_model::id::{AgentName, CommandId, Epochs, ReplicationId, ReplicationName, RunId, SnapshotId};
use tanist_model::recovery_point::{RecoveryPoint, RecoveryPointPlace};
use tanist_model::replication::{Holder, ReplicationRecord};
use tanist_model::retention::{KeptPoint, expired};

use super::ServerMachine;
use super::command::Answer;
use super::run::target_snapshot_id;
use crate::message::{OrderNumber, ServerMessage};

impl ServerMachine {
    /// The recovery points of a replication that are held somewhere.
    fn held_points(&self, id: ReplicationId) -> impl Iterator<Item = &RecoveryPoint> {
        let of_it = self.state.recovery_points.range((id, RunId(0))..=(id, RunId(u64::MAX)));
        of_it.map(|(_, point)| point).filter(|point| point.place != RecoveryPointPlace::Gone && !point.expired)
    }

    /// Marks what the retention keeps no longer; `published` is the point that has just come.
    pub(super) fn expire_points(&self, record: &ReplicationRecord, published: &RecoveryPoint) -> Vec<Change> {
        let held = || self.held_points(record.id).chain([published]);
        let points: Vec<KeptPoint> = held()
            .map(|point| KeptPoint {
                run: point.run,
                source_time: point.source_time,
                pinned: point.pinned || self.is_being_restored(point),
                is_current: point.run == published.run,
            })
            .collect();
        let gone = expired(&points, &record.policy.retention, &record.policy.time_zone());
        let marked = held().filter(|point| gone.contains(&point.run)).cloned();
        marked.map(|point| Change::PutRecoveryPoint(Box::new(RecoveryPoint { expired: true, ..point }))).collect()
    }

    /// Has the holder remove the target snapshots of expired points until it says that they are gone, and look now and then whether
    /// the others are there: somebody may have removed one by hand, and a restored store may believe in what expired since.
    pub(super) fn drive_points(&mut self, record: &ReplicationRecord, holder: &Holder) {
        let (expired, kept) = self.snapshots_of_points(record.id);
        let (now, pause, recount, term) =
            (self.now.monotonic, self.timers.expiry, self.timers.recount, self.state.term);
        let supervision = self.supervision_mut(record.id);
        let recounted = supervision.points_counted.filter(|(epoch, _)| *epoch == record.epochs.target);
        let counts = recounted.is_none_or(|(_, at)| now.since(at) >= recount) && !kept.is_empty();
        let waits = supervision.points_ordered.is_some_and(|at| now.since(at) < pause);
        if waits || expired.is_empty() && !counts {
            return;
        }
        supervision.points_ordered = Some(now);
        supervision.order_number += 1;
        let number = OrderNumber { term, number: supervision.order_number };
        let stamp = self.stamp(record, holder);
        self.send(&holder.agent, ServerMessage::Expire { stamp, number, snapshots: expired, keep: kept });
    }

    /// The target snapshots of expired points, and of those that stand.
    fn snapshots_of_points(&self, id: ReplicationId) -> (Vec<SnapshotId>, Vec<SnapshotId>) {
        let of_it = self.state.recovery_points.range((id, RunId(0))..=(id, RunId(u64::MAX)));
        let snapshots = of_it.map(|(_, p)| p).filter(|p| matches!(p.place, RecoveryPointPlace::Snapshot(_)));
        let (expired, kept): (Vec<&RecoveryPoint>, Vec<&RecoveryPoint>) = snapshots.partition(|p| p.expired);
        let ids = |points: Vec<&RecoveryPoint>| points.into_iter().map(|p| target_snapshot_id(p.run)).collect();
        (ids(expired), ids(kept))
    }

    pub(super) fn handle_snapshots_gone(
        &mut self,
        agent: &AgentName,
        id: ReplicationId,
        epochs: Epochs,
        snapshots: &[SnapshotId],
    ) {
        if !self.is_current(agent, id, epochs) {
            return self.step_down(agent, id, epochs);
        }
        let Some(record) = self.state.replications.get(&id).cloned() else { return };
        let counted = (record.epochs.target, self.now.monotonic);
        self.supervision_mut(id).points_counted = Some(counted);
        let points = snapshots.iter().filter_map(|snapshot| self.state.recovery_points.get(&(id, RunId(snapshot.0))));
        let gone = points.filter(|point| matches!(point.place, RecoveryPointPlace::Snapshot(_)));
        let changes: Vec<Change> = gone.flat_map(|point| self.strike_off(&record, agent, point)).collect();
        if !changes.is_empty() {
            self.commit_current(&record, changes, Vec::new());
        }
    }

    fn strike_off(&self, record: &ReplicationRecord, agent: &AgentName, point: &RecoveryPoint) -> [Change; 2] {
        let which = format!("the recovery point of run {} ({})", point.run, point.source_time);
        let (code, message) = if point.expired {
            (EventCode::RecoveryPointGone, format!("{which} was removed: the retention keeps it no longer"))
        } else {
            (
                EventCode::RecoveryPointLost,
                format!("{which} is not at the target's storage any more, and tanist did not remove it"),
            )
        };
        let event = self.event_of(record, Some(agent), code, message);
        [event, Change::PutRecoveryPoint(Box::new(RecoveryPoint { place: RecoveryPointPlace::Gone, ..point.clone() }))]
    }

    pub(super) fn pin(&mut self, id: CommandId, actor: &str, name: &ReplicationName, run: RunId, pinned: bool) {
        let Some(record) = self.known_replication(id, name) else { return };
        let point = match self.restorable_point(&record, run) {
            Ok(point) => point.clone(),
            Err(refusal) => return self.refuse_command(id, refusal),
        };
        let word = if pinned { "pinned: it is kept until it is unpinned" } else { "unpinned: the retention decides" };
        let message = format!("the recovery point of run {run} of {name} is {word}");
        if point.pinned == pinned {
            return self.finish_current(id, &record, Vec::new(), Answer::done(id, message));
        }
        let event = self.operator_event(&record, actor, EventCode::RecoveryPointPinned, message.clone());
        let point = Change::PutRecoveryPoint(Box::new(RecoveryPoint { pinned, ..point }));
        self.finish_current(id, &record, vec![event, point], Answer::done(id, message));
    }

    /// A recovery point that is there, or why it is not.
    pub(super) fn restorable_point(&self, record: &ReplicationRecord, run: RunId) -> Result<&RecoveryPoint, Refusal> {
        let list = format!("tanist recovery-point list {}", record.name);
        let Some(point) = self.state.recovery_points.get(&(record.id, run)) else {
            let error = format!("{} has no recovery point of run {run}", record.name);
            return Err(Refusal::new(RefusalCode::NotFound, error).hint(list));
        };
        if point.expired || point.place == RecoveryPointPlace::Gone {
            let error = format!("the recovery point of run {run} is not held any more");
            return Err(Refusal::new(RefusalCode::Conflict, error).hint(list));
        }
        Ok(point)
    }
}
