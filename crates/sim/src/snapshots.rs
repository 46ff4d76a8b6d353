//! Snapshots as engines make, read and remove them: the source's for a run, the target's to keep a recovery point.

use tanist_model::id::{ReplicationId, RunId, SnapshotId};
use tanist_model::policy::SourceMode;
use tanist_model::run::BoundSnapshot;
use tanist_protocol::agent::EngineEvent;
use tanist_protocol::message::RunFailureKind;

use crate::process::EngineKey;
use crate::scenario::BLOCK_BYTES;
use crate::world::World;

impl World {
    pub fn make_snapshot(&mut self, volume: usize, attempt: SnapshotId, mode: SourceMode) -> BoundSnapshot {
        let source = &mut self.disks.sources[volume];
        let uid = match mode {
            SourceMode::Snapshot | SourceMode::RecoveryPoint => {
                let contents = source.blocks.clone();
                let made = source.snapshots.entry(attempt).or_insert((format!("snapshot-{attempt}"), contents));
                made.0.clone()
            }
            SourceMode::Sealed => format!("sealed-{}-{attempt}", source.stamp),
            SourceMode::Live => format!("live-{attempt}"),
        };
        let size_bytes = source.blocks.len() as u64 * BLOCK_BYTES;
        BoundSnapshot { id: attempt, uid, mode, size_bytes, application: None }
    }

    pub fn keep_target(&mut self, volume: usize, id: SnapshotId) -> String {
        let target = &mut self.disks.targets[volume];
        let contents = target.current();
        target.snapshots.entry(id).or_insert(contents);
        id.to_string()
    }

    /// Only what the store has given up for good may go.
    pub fn expire(&mut self, agent: usize, key: EngineKey, mut snapshots: Vec<SnapshotId>, keep: &[SnapshotId]) {
        let Some(volume) = self.engine_mut(agent, key).map(|engine| engine.volume) else { return };
        for snapshot in &snapshots {
            self.checker.point_removed(key.0, RunId(snapshot.0));
            self.disks.targets[volume].snapshots.remove(snapshot);
        }
        self.coverage.expired_points += snapshots.len() as u64;
        let there = &self.disks.targets[volume].snapshots;
        snapshots.extend(keep.iter().filter(|id| !there.contains_key(id)));
        self.report(agent, key, EngineEvent::SnapshotsGone { snapshots });
    }

    pub fn read_source(&self, volume: usize, snapshot: &BoundSnapshot, block: usize) -> Result<u64, RunFailureKind> {
        let source = &self.disks.sources[volume];
        match snapshot.mode {
            SourceMode::Snapshot | SourceMode::RecoveryPoint => match source.snapshots.get(&snapshot.id) {
                Some((uid, contents)) if *uid == snapshot.uid => Ok(contents[block]),
                _ => Err(RunFailureKind::SnapshotGone),
            },
            // The stamp is looked at after the read: what was read is of the sealed state.
            SourceMode::Sealed if snapshot.uid.starts_with(&format!("sealed-{}-", source.stamp)) => {
                Ok(source.blocks[block])
            }
            SourceMode::Sealed => Err(RunFailureKind::SourceChanged),
            SourceMode::Live => Ok(source.blocks[block]),
        }
    }

    pub fn remove_source_snapshots(&mut self, replication: ReplicationId, snapshots: &[SnapshotId]) {
        self.checker.snapshots_released(replication, snapshots);
        for source in &mut self.disks.sources {
            source.snapshots.retain(|id, _| !snapshots.contains(id));
        }
    }
}
