//! The end of a replication. Removing it releases its target, which is a fence point: every epoch is proven quiet first, whatever
//! the operator says. What tanist made at the storage is removed by whoever still reaches it; with an operator's word, what nobody
//! reaches any more is left behind and named.

use tanist_model::api::{Refusal, RefusalCode};
use tanist_model::change::Change;
use tanist_model::event::EventCode;
use tanist_model::id::{CommandId, ReplicationName, RunId};
use tanist_model::policy::SourceMode;
use tanist_model::recovery_point::RecoveryPointPlace;
use tanist_model::removal::{Remnant, in_words};
use tanist_model::replication::{Holder, Intent, ReplicationRecord, Side};
use tanist_model::run::{RunRecord, RunState};
use tanist_model::takeover::{Candidate, Evidence, Vacancy};
use tanist_model::time::Timestamp;

use super::ServerMachine;
use super::application::is_thawed_or_told;
use super::command::Answer;
use super::concerns::members;
use super::run::target_snapshot_id;
use crate::message::Release;

impl ServerMachine {
    /// The data stays; what tanist made goes, once every epoch is proven quiet.
    pub(super) fn delete(&mut self, id: CommandId, actor: &str, name: &ReplicationName, leave_behind: bool) {
        let Some(record) = self.known_replication(id, name) else { return };
        if let Some(restore) = self.restore_of(&record) {
            let refusal =
                Refusal::new(RefusalCode::Conflict, format!("{name} is being restored from by {}", restore.name))
                    .hint(format!("wait for its end, or: tanist replication delete {}", restore.name));
            return self.refuse_command(id, refusal);
        }
        self.abandon_current(&record, "the replication is being removed");
        let Some(record) = self.state.replications.get(&record.id).cloned() else { return };
        let next = ReplicationRecord {
            intent: Intent::Deleting,
            once: false,
            leave_behind: leave_behind || record.leave_behind,
            ..record.clone()
        };
        let word = if leave_behind { "; what no agent can clean up may stay at the storage" } else { "" };
        let message = format!("removal of {name} was commanded; the data stays on the target{word}");
        let event = self.operator_event(&record, actor, EventCode::RemovalCommanded, message);
        let answer = self.removal_begun(id, &next);
        self.supervision_mut(record.id).order_sent = None;
        self.finish_current(id, &record, vec![event, Change::PutReplication(Box::new(next))], answer);
    }

    fn removal_begun(&self, id: CommandId, record: &ReplicationRecord) -> Answer {
        let name = &record.name;
        let left = self.remnants(record);
        let stays = match in_words(&left).filter(|_| record.leave_behind) {
            Some(words) => format!("; what no agent can remove of this stays, and T309 names it: {words}"),
            None => String::new(),
        };
        let show = format!("tanist replication show {name}");
        if record.awaited().next().is_some() {
            let when = self.awaited_in_words(record);
            Answer::done(id, format!("{name} is removed as soon as {when} proven quiet{stays}")).next(show)
        } else {
            let answer = Answer::done(id, format!("{name} is being removed; source and target data stay{stays}"));
            if record.leave_behind { answer.next(show) } else { answer }
        }
    }

    /// The last holder of a replication that is being removed never acted, and leaves nothing to prove.
    pub(super) fn vacate(&mut self, record: &ReplicationRecord) {
        let mut next = ReplicationRecord { holder: None, ..record.clone() };
        next.unproven.retain(|u| u.epoch != record.epochs.target);
        self.commit_current(record, vec![Change::PutReplication(Box::new(next))], Vec::new());
        self.touched.insert(record.id);
    }

    /// The holder removes what tanist made, and drains.
    pub(super) fn drive_delete(&mut self, record: &ReplicationRecord, holder: &Holder) {
        if !self.may_release(record) {
            return self.announce_wait(record);
        }
        if !self.source_is_released(record, holder) {
            return;
        }
        let mut release = self.release_of(record);
        let reads = self.why_ineligible_for(record, &holder.agent, Side::Source).is_none();
        let supervision = self.supervision_mut(record.id);
        supervision.source_left = !reads && !supervision.source_released && !release.source_snapshots.is_empty();
        if !reads {
            // What a reader made, the reader has removed.
            release.source_snapshots.clear();
        }
        supervision.release_ordered = true;
        // The last recovery point may have been kept for a run that was then never bound.
        release.target_snapshots.extend(record.published.map(target_snapshot_id));
        self.send_drain(record, holder, Some(release));
    }

    fn announce_wait(&mut self, record: &ReplicationRecord) {
        if std::mem::replace(&mut self.supervision_mut(record.id).delete_announced, true) {
            return;
        }
        let message = format!("the removal waits until {} proven quiet", self.awaited_in_words(record));
        let event = self.event_of(record, None, EventCode::DeleteWaitsForProof, message);
        self.commit_current(record, vec![event], Vec::new());
    }

    /// Nobody is eligible to act. A removal that may leave something behind needs nobody: it ends as soon as nobody may be writing.
    pub(super) fn go_without_successor(
        &mut self,
        record: &ReplicationRecord,
        evidence: Evidence,
        since: Timestamp,
        candidates: &[Candidate],
    ) {
        if !record.leave_behind {
            return self.note_exhausted(record, candidates);
        }
        self.supervision_mut(record.id).exhausted = false;
        if let Some(holder) = &record.holder {
            self.leave_place(record, holder, evidence, since);
        } else if record.unproven.is_empty() && is_thawed_or_told(record) {
            self.finish_delete(record);
        } else {
            self.announce_wait(record);
        }
    }

    /// A holder that is gone and that nobody replaces: its epoch is waited for like any other before it. If it lives after all, it
    /// stands down and says so.
    fn leave_place(&mut self, record: &ReplicationRecord, holder: &Holder, evidence: Evidence, since: Timestamp) {
        let mut next = record.clone();
        self.drop_never_activated(&mut next);
        next.holder = None;
        next.handover = None;
        let (left_by, left_process) = (Some(holder.agent.clone()), Some(holder.incarnation));
        next.vacancy = Some(Vacancy { evidence, since, left_by, left_process, successor: None });
        let after = self.step_down_predecessor(record).into_iter().collect();
        let supervision = self.supervision_mut(record.id);
        (supervision.release_ordered, supervision.source_left) = (false, false);
        supervision.suspicions.clear();
        self.commit_current(record, vec![Change::PutReplication(Box::new(next))], after);
        self.touched.insert(record.id);
    }

    /// Nothing that tanist made is left: it was removed by the last holder, or there was never anything, or nobody is left who
    /// could.
    pub(super) fn is_released(&self, record: &ReplicationRecord) -> bool {
        let ordered = self.supervisions.get(&record.id).is_some_and(|s| s.release_ordered);
        let nobody = record.target.hierarchy.iter().all(|a| self.state.agents.get(a).is_none_or(|a| a.removed));
        ordered || nobody || self.release_of(record) == Release::default()
    }

    pub(super) fn release_of(&self, record: &ReplicationRecord) -> Release {
        let runs = self.state.runs.values().filter(|r| r.replication == record.id);
        let mut release = Release::default();
        // Of a sealed or live source nothing is made, whatever was attempted.
        for run in runs.filter(|_| record.policy.source_mode == SourceMode::Snapshot) {
            release.source_snapshots.extend(run.dead_attempts.iter().copied());
            match &run.snapshot {
                Some(snapshot) => release.source_snapshots.push(snapshot.id),
                None if run.state == RunState::SnapshotPending => release.source_snapshots.push(run.attempt),
                None => {}
            }
        }
        let points = self.state.recovery_points.values().filter(|p| p.replication == record.id);
        let kept = points.filter(|p| matches!(p.place, RecoveryPointPlace::Snapshot(_)));
        release.target_snapshots.extend(kept.map(|p| target_snapshot_id(p.run)));
        release
    }

    /// What tanist has made for a replication and has not heard to be removed, each by its name at the storage.
    #[must_use]
    pub fn remnants(&self, record: &ReplicationRecord) -> Vec<Remnant> {
        let release = self.release_of(record);
        let mut ids = release.source_snapshots;
        ids.sort_unstable();
        ids.dedup();
        let source = ids.into_iter().map(|id| {
            let bound = self.runs_of(record).filter_map(|run| run.snapshot.as_ref()).find(|bound| bound.id == id);
            // The last published run's is pinned until the next one is published; the others' removal was ordered and not reported.
            let pinned = self.runs_of(record).find(|run| Some(run.id) == record.published);
            let certain = pinned.and_then(|run| run.snapshot.as_ref()).is_some_and(|pinned| pinned.id == id);
            let volume = record.source.volume.clone();
            Remnant { side: Side::Source, volume, snapshot: id, uid: bound.map(|bound| bound.uid.clone()), certain }
        });
        let target = release.target_snapshots.into_iter().map(|id| {
            let point = self.state.recovery_points.get(&(record.id, RunId(id.0)));
            let uid = point.and_then(|point| match &point.place {
                RecoveryPointPlace::Snapshot(uid) => Some(uid.clone()),
                _ => None,
            });
            Remnant { side: Side::Target, volume: record.target.volume.clone(), snapshot: id, uid, certain: true }
        });
        source.chain(target).collect()
    }

    fn runs_of(&self, record: &ReplicationRecord) -> impl Iterator<Item = &RunRecord> {
        let of_it = (record.id, RunId(0))..=(record.id, RunId(u64::MAX));
        self.state.runs.range(of_it).map(|(_, run)| run)
    }

    /// What is not removed when the replication goes now.
    fn left_behind(&self, record: &ReplicationRecord) -> Vec<Remnant> {
        let supervision = self.supervisions.get(&record.id);
        let released = |remnant: &Remnant| {
            supervision.is_some_and(|s| s.release_ordered && !(remnant.side == Side::Source && s.source_left))
        };
        let mut left = self.remnants(record);
        left.retain(|remnant| !released(remnant));
        left
    }

    pub(super) fn finish_delete(&mut self, record: &ReplicationRecord) {
        debug_assert!(record.intent == Intent::Deleting && record.unproven.is_empty());
        let left = in_words(&self.left_behind(record)).map(|words| {
            let message = format!("left behind at the storage, to be removed by hand: {words}");
            self.event_of(record, None, EventCode::SnapshotsLeftBehind, message)
        });
        let event = self.event_of(record, None, EventCode::ReplicationDeleted, "removed; the data stays on the target");
        let removed = [Change::NoteRemovedEpoch(record.epochs.target), Change::DeleteReplication(record.id)];
        let changes = left.into_iter().chain([event]).chain(removed).collect();
        self.commit_current(record, changes, Vec::new());
        self.supervisions.remove(&record.id);
        self.send_watches_to(members(record));
    }
}
