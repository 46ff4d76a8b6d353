//! Snapshots: the source's for a run, the target's to keep its recovery point while the run overwrites it.

use tanist_model::id::{RunId, SnapshotId};
use tanist_model::policy::SourceMode;
use tanist_model::run::BoundSnapshot;
use tanist_protocol::agent::EngineEvent;
use tanist_protocol::message::{Assignment, RunFailureKind};
use tanist_storage::{SourceView, StorageError, StorageSystem};

use super::Engine;

impl Engine {
    pub(super) fn prepare(&mut self, run: RunId, attempt: SnapshotId, mode: SourceMode, keep: Option<SnapshotId>) {
        let Some(assignment) = self.open.as_ref().map(|open| open.assignment.clone()) else { return };
        let made = self.keep_target(&assignment, keep).and_then(|kept| {
            let snapshot = self.freeze_source(&assignment, attempt, mode)?;
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

    fn freeze_source(
        &self,
        assignment: &Assignment,
        id: SnapshotId,
        mode: SourceMode,
    ) -> Result<BoundSnapshot, String> {
        let (system, volume) = (self.storages.of(&assignment.source)?, &assignment.source);
        let (uid, size_bytes) = match mode {
            SourceMode::Snapshot => system.create_snapshot(volume, id).map(|made| (made.uid, made.size_bytes)),
            SourceMode::Sealed => system.seal(volume).map(|seal| (seal.uid, seal.size_bytes)),
            SourceMode::Live => system.inspect(volume).map(|seen| (seen.identity, seen.size_bytes)),
        }
        .map_err(|error| error.to_string())?;
        Ok(BoundSnapshot { id, uid, mode, size_bytes })
    }

    pub(super) fn release_source(&self, snapshots: &[SnapshotId]) {
        let Some(open) = &self.open else { return };
        self.release(&open.assignment.source, snapshots);
    }

    pub(super) fn release_target(&self, snapshots: &[SnapshotId]) {
        let Some(open) = &self.open else { return };
        self.release(&open.assignment.target, snapshots);
    }

    /// What cannot be removed now is named again with the next release.
    fn release(&self, volume: &tanist_model::id::VolumeAddress, snapshots: &[SnapshotId]) {
        let Ok(system) = self.storages.of(volume) else { return };
        for id in snapshots {
            if let Err(error) = system.delete_snapshot(volume, *id) {
                tracing::warn!(%error, %volume, snapshot = %id, "a snapshot cannot be removed");
            }
        }
    }
}

/// What a run reads, as the storage system is asked for it.
pub(super) fn view_of(snapshot: &BoundSnapshot) -> SourceView {
    match snapshot.mode {
        SourceMode::Snapshot => SourceView::Snapshot { id: snapshot.id, uid: snapshot.uid.clone() },
        SourceMode::Sealed => SourceView::Sealed { uid: snapshot.uid.clone() },
        SourceMode::Live => SourceView::Live,
    }
}
