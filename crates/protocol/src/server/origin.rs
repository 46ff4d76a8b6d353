//! Restores: a run in the other direction, by the same protocol and with the same takeovers. Its source is a recovery point.
//!
//! A restore is a replication for one run that knows where its bytes come from. What it publishes has to have the digest that the recovery
//! point had when it was published: otherwise what lies there is not what was promised.

use tanist_model::api::{CreateReplication, PointReading, Refusal, RefusalCode};
use tanist_model::change::Change;
use tanist_model::event::EventCode;
use tanist_model::id::{AgentName, CommandId, ReplicationName, RunId, SnapshotId, VolumeAddress};
use tanist_model::policy::{Policy, SourceMode};
use tanist_model::recovery_point::{RecoveryPoint, RecoveryPointPlace};
use tanist_model::replication::{Intent, Origin, ReplicationRecord};
use tanist_model::run::{BoundSnapshot, ChainDigest, Checkpoint, RunRecord};

use super::ServerMachine;
use super::command::Answer;
use super::run::target_snapshot_id;

impl ServerMachine {
    /// What is to be created in truth, if it is a restore: its source is where the recovery point is, and what is asked for besides that
    /// must not contradict it.
    pub(super) fn settled(&self, create: &CreateReplication) -> Result<(CreateReplication, Option<Origin>), Refusal> {
        let Some(from) = &create.restore else {
            if create.policy.source_mode == SourceMode::RecoveryPoint {
                return Err(Refusal::new(RefusalCode::Invalid, "a recovery point is the source of restores alone")
                    .hint("tanist restore NAME --to SYSTEM/VOLUME"));
            }
            return Ok((create.clone(), None));
        };
        let Some(record) = self.state.replication_by_name(&from.replication) else {
            return Err(Refusal::new(RefusalCode::NotFound, format!("there is no replication {}", from.replication))
                .hint("tanist replication list shows the replications"));
        };
        let point = self.restorable_point(record, from.run)?;
        if record.intent == Intent::Deleting {
            return Err(Refusal::new(RefusalCode::Conflict, format!("{} is being removed", record.name)));
        }
        let origin = Origin { replication: record.id, name: record.name.clone(), run: point.run, chain: point.chain };
        let policy = Policy { source_mode: self.mode_of(record, point), ..create.policy.clone() };
        let source = record.target.volume.clone();
        Ok((CreateReplication { source, policy, once: true, ..create.clone() }, Some(origin)))
    }

    /// Where the bytes come from.
    pub(super) fn source_of(&self, create: &CreateReplication) -> VolumeAddress {
        let restored = create.restore.as_ref().and_then(|from| self.state.replication_by_name(&from.replication));
        restored.map_or_else(|| create.source.clone(), |record| record.target.volume.clone())
    }

    /// A point that the target itself holds is read like any source; meanwhile no run of its replication begins.
    fn mode_of(&self, record: &ReplicationRecord, point: &RecoveryPoint) -> SourceMode {
        if matches!(point.place, RecoveryPointPlace::Snapshot(_)) {
            return SourceMode::RecoveryPoint;
        }
        let agents: Vec<_> = record.target.hierarchy.iter().collect();
        let storages = agents.iter().filter_map(|a| self.sessions.get(*a)).flat_map(|s| &s.storage);
        let mut of_it = storages.filter(|s| s.name == record.target.volume.system);
        if of_it.all(|s| s.capabilities.snapshots) { SourceMode::Snapshot } else { SourceMode::Sealed }
    }

    /// The source of a replication may be restored to while the replication is paused and has no run.
    pub(super) fn may_go_back(
        &self,
        create: &CreateReplication,
        source_of: &ReplicationRecord,
    ) -> Result<bool, Refusal> {
        let Some(from) = create.restore.as_ref().filter(|from| from.replication == source_of.name) else {
            return Ok(false);
        };
        if source_of.intent == Intent::Paused && source_of.run.is_none() {
            return Ok(true);
        }
        let (name, run) = (&from.replication, source_of.run.is_some());
        let cause = if run {
            "a run of it is in progress"
        } else {
            "it is not paused: its next run would read what is half restored"
        };
        let hint =
            if run { format!("tanist replication abort {name}") } else { format!("tanist replication pause {name}") };
        Err(Refusal::new(RefusalCode::Conflict, format!("{} is the source of {name}", create.target))
            .cause(cause)
            .hint(hint))
    }

    /// The restore that reads the target of this replication itself: until it has ended, no run may write there.
    #[must_use]
    pub fn restore_reading(&self, record: &ReplicationRecord) -> Option<&ReplicationRecord> {
        let reads = |r: &&ReplicationRecord| {
            r.origin.as_ref().is_some_and(|origin| origin.replication == record.id)
                && r.policy.source_mode != SourceMode::RecoveryPoint
                && r.intent != Intent::Deleting
        };
        self.state.replications.values().find(reads)
    }

    /// A restore that has not ended needs this recovery point.
    pub(super) fn is_being_restored(&self, point: &RecoveryPoint) -> bool {
        let origins = self.state.replications.values().filter_map(|r| r.origin.as_ref());
        origins.into_iter().any(|origin| origin.replication == point.replication && origin.run == point.run)
    }

    /// A restore that has not ended, of any recovery point of this replication.
    pub(super) fn restore_of(&self, record: &ReplicationRecord) -> Option<&ReplicationRecord> {
        let of_it = |r: &&ReplicationRecord| r.origin.as_ref().is_some_and(|origin| origin.replication == record.id);
        self.state.replications.values().find(of_it)
    }
}

/// The snapshot that a run is to bind: its own attempt, or the recovery point's that is there already. The two are never confused:
/// attempts are removed when they die, and recovery points are not.
#[must_use]
pub fn wanted_snapshot(record: &ReplicationRecord, run: &RunRecord) -> SnapshotId {
    match restored_run(record) {
        Some(restored) => target_snapshot_id(restored),
        None => run.attempt,
    }
}

fn restored_run(record: &ReplicationRecord) -> Option<RunId> {
    let origin = record.origin.as_ref().filter(|_| record.policy.source_mode == SourceMode::RecoveryPoint)?;
    Some(origin.run)
}

impl ServerMachine {
    /// Why this snapshot is not the recovery point that is to be restored.
    pub(super) fn why_not_the_point(&self, record: &ReplicationRecord, snapshot: &BoundSnapshot) -> Option<String> {
        let run = restored_run(record)?;
        let point = record.origin.as_ref().and_then(|o| self.state.recovery_points.get(&(o.replication, run)));
        match point.map(|point| &point.place) {
            Some(RecoveryPointPlace::Snapshot(uid)) if *uid == snapshot.uid => None,
            Some(RecoveryPointPlace::Snapshot(uid)) => {
                Some(format!("the snapshot at the storage is {}, and the recovery point was {uid}", snapshot.uid))
            }
            _ => Some(format!("the recovery point of run {run} is not held any more")),
        }
    }
}

impl ServerMachine {
    /// What was read of a recovery point has another digest: whoever looks for one to restore has to know.
    pub(super) fn note_damage(&mut self, restore: &ReplicationRecord, agent: &AgentName, found: &Checkpoint) {
        let Some(origin) = &restore.origin else { return };
        let Some(record) = self.state.replications.get(&origin.replication).cloned() else { return };
        let Some(point) = self.state.recovery_points.get(&(record.id, origin.run)).cloned() else { return };
        let message = damaged_in_words(&point, restore.name.as_str(), found.chain);
        let event = self.event_of(&record, Some(agent), EventCode::RecoveryPointDamaged, message);
        let damaged = RecoveryPoint { damaged_at: Some(self.now.wall), ..point };
        self.commit_current(&record, vec![event, Change::PutRecoveryPoint(Box::new(damaged))], Vec::new());
    }

    /// An operator has read a recovery point whole, by an export: what the storage holds of it is known now. Of the target itself only a
    /// snapshot is believed: a run may have begun to write it meanwhile.
    pub(super) fn note_reading(
        &mut self,
        id: CommandId,
        actor: &str,
        name: &ReplicationName,
        run: RunId,
        reading: &PointReading,
    ) {
        let Some(record) = self.known_replication(id, name) else { return };
        let point = match self.restorable_point(&record, run) {
            Ok(point) => point.clone(),
            Err(refusal) => return self.refuse_command(id, refusal),
        };
        if point.place != reading.place || !matches!(point.place, RecoveryPointPlace::Snapshot(_)) {
            let message =
                format!("what was read is not the snapshot that holds the recovery point of run {run}: not noted");
            return self.finish_current(id, &record, Vec::new(), Answer::done(id, message));
        }
        let is_sound = reading.digest == point.chain;
        let (message, damaged_at, verified_at) = if is_sound {
            let message = format!("the recovery point of run {run} was read whole, and is what was published");
            (message, None, Some(self.now.wall))
        } else {
            (damaged_in_words(&point, "an export", reading.digest), Some(self.now.wall), point.verified_at)
        };
        let doubtful_since = point.doubtful_since.filter(|_| !is_sound);
        let known = RecoveryPoint { damaged_at, verified_at, doubtful_since, ..point };
        let mut changes = vec![Change::PutRecoveryPoint(Box::new(known))];
        if !is_sound {
            changes.push(self.operator_event(&record, actor, EventCode::RecoveryPointDamaged, message.clone()));
        }
        self.finish_current(id, &record, changes, Answer::done(id, message));
    }

    /// What was read of a recovery point is what was published: an earlier reading that found it damaged was at fault itself.
    pub(super) fn believe_again(&self, restore: &ReplicationRecord) -> Option<Change> {
        let origin = restore.origin.as_ref()?;
        let point = self.state.recovery_points.get(&(origin.replication, origin.run))?;
        point.damaged_at.or(point.doubtful_since)?;
        let sound = RecoveryPoint { damaged_at: None, doubtful_since: None, ..point.clone() };
        Some(Change::PutRecoveryPoint(Box::new(sound)))
    }
}

fn damaged_in_words(point: &RecoveryPoint, by: &str, found: ChainDigest) -> String {
    format!(
        "the recovery point of run {} was read by {by} and is other bytes than were published: digest {found} instead of {}",
        point.run, point.chain
    )
}

/// Why what was restored is not what was promised.
#[must_use]
pub fn why_not_as_published(record: &ReplicationRecord, checkpoint: &Checkpoint) -> Option<String> {
    let origin = record.origin.as_ref().filter(|origin| origin.chain != checkpoint.chain)?;
    Some(format!(
        "what was read is not the recovery point of run {} of {}: its digest is {}, and it was published with {}",
        origin.run, origin.name, checkpoint.chain, origin.chain
    ))
}
