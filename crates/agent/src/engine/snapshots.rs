//! Snapshots: the source's for a run, the target's to keep its recovery point while the run overwrites it.

use tanist_model::id::{RunId, SnapshotId, VolumeAddress};
use tanist_model::policy::SourceMode;
use tanist_protocol::agent::EngineEvent;
use tanist_protocol::message::{Assignment, RunFailureKind};
use tanist_storage::{StorageError, StorageSystem};

use super::Engine;
use crate::source::{freeze, release, released};

impl Engine {
    pub(super) fn prepare(&mut self, run: RunId, attempt: SnapshotId, mode: SourceMode, keep: Option<SnapshotId>) {
        let Some(assignment) = self.open.as_ref().map(|open| open.assignment.clone()) else { return };
        let made = self.keep_target(&assignment, keep).and_then(|kept| {
            let snapshot = freeze(&self.storages, &assignment.source, attempt, mode)?;
            Ok((snapshot, kept))
        });
        match made {
            Ok((snapshot, kept)) => {
                self.prepared = Some(run);
                self.report(EngineEvent::SnapshotMade { run, snapshot, kept });
            }
            Err(reason) => self.report(EngineEvent::RunFailed { run, kind: RunFailureKind::Snapshot, reason }),
        }
    }

    /// The target still equals its last recovery point: nothing of this run is bound, so nothing of it is written. A snapshot that
    /// an earlier attempt made under this id shows the same bytes.
    fn keep_target(&self, assignment: &Assignment, keep: Option<SnapshotId>) -> Result<Option<String>, String> {
        let Some(id) = keep else { return Ok(None) };
        let system = self.storages.of(&assignment.target)?;
        match system.create_snapshot(&assignment.target, id) {
            Ok(made) => Ok(Some(made.uid)),
            Err(StorageError::SnapshotExists { .. }) => self.existing(&*system, assignment, id),
            Err(StorageError::SnapshotsUnsupported { .. }) => Ok(None),
            Err(error) => Err(format!("keep the last recovery point by a target snapshot: {error}")),
        }
    }

    /// A snapshot of another size is not one of this target.
    fn existing(
        &self,
        system: &dyn StorageSystem,
        assignment: &Assignment,
        id: SnapshotId,
    ) -> Result<Option<String>, String> {
        let size = self.open.as_ref().map(|open| open.target.device().size_bytes());
        let snapshots = system.list_snapshots(&assignment.target).map_err(|e| e.to_string())?;
        let found = snapshots.into_iter().find(|s| s.id == id && Some(s.size_bytes) == size);
        let uid =
            found.map(|s| s.uid).ok_or_else(|| format!("the target snapshot {id} exists and is not of this target"))?;
        Ok(Some(uid))
    }

    pub(super) fn release_source(&self, snapshots: &[SnapshotId]) {
        let Some(open) = &self.open else { return };
        release(&self.storages, &open.assignment.source, snapshots);
    }

    pub(super) fn release_target(&self, snapshots: &[SnapshotId]) {
        let Some(open) = &self.open else { return };
        release(&self.storages, &open.assignment.target, snapshots);
    }

    /// What cannot be removed now is ordered again.
    pub(super) fn expire(&self, snapshots: Vec<SnapshotId>, keep: &[SnapshotId]) {
        let Some(target) = self.open.as_ref().map(|open| &open.assignment.target) else { return };
        let mut gone = released(&self.storages, target, snapshots);
        match self.missing(target, keep) {
            Ok(missing) => gone.extend(missing),
            Err(error) => return tracing::warn!(%error, volume = %target, "the target snapshots cannot be listed"),
        }
        self.report(EngineEvent::SnapshotsGone { snapshots: gone });
    }

    fn missing(&self, target: &VolumeAddress, keep: &[SnapshotId]) -> Result<Vec<SnapshotId>, String> {
        let there = self.storages.of(target)?.list_snapshots(target).map_err(|error| error.to_string())?;
        Ok(keep.iter().copied().filter(|id| there.iter().all(|snapshot| snapshot.id != *id)).collect())
    }

    /// For a run whose source snapshot a reader makes.
    pub(super) fn keep(&mut self, run: RunId, keep: Option<SnapshotId>) {
        let Some(assignment) = self.open.as_ref().map(|open| open.assignment.clone()) else { return };
        match self.keep_target(&assignment, keep) {
            Ok(uid) => self.report(EngineEvent::Kept { run, uid }),
            Err(reason) => self.report(EngineEvent::RunFailed { run, kind: RunFailureKind::Snapshot, reason }),
        }
    }
}
