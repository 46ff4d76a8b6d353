//! What holders and readers do at the source alike: freeze it, open what was frozen, remove it.

use std::sync::Arc;

use tanist_datapath::{Changes, Digests};
use tanist_model::id::{SnapshotId, VolumeAddress};
use tanist_model::policy::SourceMode;
use tanist_model::run::{BoundSnapshot, RunMethod};
use tanist_protocol::message::RunFailureKind;
use tanist_storage::{SourceView, StorageError, StorageSystem};

use crate::storages::Storages;

/// A snapshot that was made and that nobody knows of yet.
pub(crate) struct Frozen {
    snapshot: BoundSnapshot,
    storages: Storages,
    volume: VolumeAddress,
}

impl Frozen {
    pub(crate) fn keep(self) -> BoundSnapshot {
        self.snapshot
    }

    /// It is not what it was to be: it is removed at once.
    pub(crate) fn discard(self) {
        release(&self.storages, &self.volume, &[self.snapshot.id]);
    }
}

/// The snapshot of a run, by its mode.
pub(crate) fn freeze(
    storages: &Storages,
    volume: &VolumeAddress,
    id: SnapshotId,
    mode: SourceMode,
) -> Result<Frozen, String> {
    let system = storages.of(volume)?;
    let (uid, size_bytes) = match mode {
        SourceMode::Snapshot => system.create_snapshot(volume, id).map(|made| (made.uid, made.size_bytes)),
        SourceMode::RecoveryPoint => system.list_snapshots(volume).and_then(|there| {
            let found = there.into_iter().find(|snapshot| snapshot.id == id);
            let found = found.map(|snapshot| (snapshot.uid, snapshot.size_bytes));
            found.ok_or_else(|| StorageError::SnapshotNotFound { volume: volume.clone(), id })
        }),
        SourceMode::Sealed => system.seal(volume).map(|seal| (seal.uid, seal.size_bytes)),
        SourceMode::Live => system.inspect(volume).map(|seen| (seen.identity, seen.size_bytes)),
    }
    .map_err(|error| error.to_string())?;
    let snapshot = BoundSnapshot { id, uid, mode, size_bytes, application: None };
    Ok(Frozen { snapshot, storages: storages.clone(), volume: volume.clone() })
}

/// What cannot be removed now is named again with the next release.
pub(crate) fn release(storages: &Storages, volume: &VolumeAddress, snapshots: &[SnapshotId]) {
    released(storages, volume, snapshots.to_vec());
}

/// Removes snapshots; those that are gone afterwards.
pub(crate) fn released(storages: &Storages, volume: &VolumeAddress, mut snapshots: Vec<SnapshotId>) -> Vec<SnapshotId> {
    let Ok(system) = storages.of(volume) else { return Vec::new() };
    snapshots.retain(|id| match system.delete_snapshot(volume, *id) {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(%error, %volume, snapshot = %id, "a snapshot cannot be removed");
            false
        }
    });
    snapshots
}

/// What the storage system says changed since the digests' recovery point. `None`: everything is read.
pub(crate) fn changes_of(
    system: &dyn StorageSystem,
    volume: &VolumeAddress,
    snapshot: &BoundSnapshot,
    method: RunMethod,
    digests: &Digests,
) -> Option<Arc<Changes>> {
    let RunMethod::Delta { snapshot: Some(base), .. } = method else { return None };
    digests.stored.as_ref()?;
    match system.changed_since(volume, base, &view_of(snapshot)) {
        Ok(Some(ranges)) => {
            let changes = Changes::new(ranges);
            let (named_bytes, size_bytes) = (changes.total_bytes(), snapshot.size_bytes);
            tracing::info!(%volume, %base, named_bytes, size_bytes, "the storage system says what changed");
            Some(Arc::new(changes))
        }
        Ok(None) => None,
        Err(error) => {
            tracing::warn!(%error, %volume, %base, "the storage system does not say what changed: everything is read");
            None
        }
    }
}

/// What a run reads, as the storage system is asked for it.
pub(crate) fn view_of(snapshot: &BoundSnapshot) -> SourceView {
    match snapshot.mode {
        SourceMode::Snapshot | SourceMode::RecoveryPoint => {
            SourceView::Snapshot { id: snapshot.id, uid: snapshot.uid.clone() }
        }
        SourceMode::Sealed => SourceView::Sealed { uid: snapshot.uid.clone() },
        SourceMode::Live => SourceView::Live,
    }
}

pub(crate) fn same_volume(side: &str, expected: &str, found: &str) -> Result<(), String> {
    if expected == found {
        return Ok(());
    }
    Err(format!("the {side} is another volume than when the replication was created: {found} instead of {expected}"))
}

pub(crate) fn kind_of_opening(error: &StorageError) -> RunFailureKind {
    match error {
        StorageError::SourceChanged { .. } => RunFailureKind::SourceChanged,
        StorageError::SnapshotNotFound { .. } | StorageError::SnapshotMismatch { .. } => RunFailureKind::SnapshotGone,
        _ => RunFailureKind::Io,
    }
}
