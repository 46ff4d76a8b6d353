//! How much of a target a run may leave as it is: decided once, when its snapshot is bound, and what no read of a target can settle.
//!
//! What was written and not flushed reads back as if it were there: a page may be clean and not on disk. So the window that a
//! writer may have touched past its last committed checkpoint is never skipped because it was read and found equal; not by the next
//! attempt, not by a successor, and not by the run after one that was abandoned.

use tanist_model::byte_range::{ByteRange, ByteRanges};
use tanist_model::id::SnapshotId;
use tanist_model::policy::SourceMode;
use tanist_model::recovery_point::RecoveryPoint;
use tanist_model::replication::ReplicationRecord;
use tanist_model::run::{RunMethod, RunRecord, STALL_WINDOW_BYTES};

use super::ServerMachine;
use crate::mutation::Mutation;

impl ServerMachine {
    /// The method of a run whose snapshot is being bound.
    pub(super) fn method_of(&self, record: &ReplicationRecord, run: &RunRecord) -> RunMethod {
        if self.mutations.breaks(Mutation::StoredDigestsOnDirtyTarget)
            && let Some(point) = record.published.and_then(|by| self.state.recovery_points.get(&(record.id, by)))
        {
            return RunMethod::Delta { base: point.run, chain: point.chain, snapshot: None };
        }
        let dirtied = record.target_dirty.and_then(|by| self.state.runs.get(&(record.id, by)));
        let on_target = self.recovery_point_on_target(record);
        let base = on_target.and_then(|point| self.state.runs.get(&(record.id, point.run)));
        let since =
            base.and_then(|base| changes_since(record, run, base)).filter(|_| self.source_tells_changes(record));
        decide(record, run, on_target.map(|point| (point, since)), dirtied)
    }

    /// Whether whoever reads the source can ask its storage system what changed.
    fn source_tells_changes(&self, record: &ReplicationRecord) -> bool {
        let reader = record.reader.as_ref().map(|reader| &reader.agent);
        let reads = reader.or(record.holder.as_ref().map(|holder| &holder.agent));
        let storage = reads.and_then(|agent| self.storage_report(agent, &record.source.volume));
        storage.is_some_and(|storage| storage.capabilities.changed_extents)
    }

    /// What an order to copy must have written whole.
    pub(super) fn unconditional(&self, record: &ReplicationRecord, run: &RunRecord) -> ByteRanges {
        if self.mutations.breaks(Mutation::WindowSkippedByReadBack) {
            return ByteRanges::default();
        }
        let window = window_of(record, run);
        window.into_iter().fold(record.doubtful.clone(), ByteRanges::with)
    }

    /// What is in doubt once a run is given up.
    pub(super) fn doubtful_after(&self, record: &ReplicationRecord, run: &RunRecord) -> ByteRanges {
        self.unconditional(record, run)
    }
}

/// The snapshot since which the storage may be asked what changed: exactly the one that the base was copied from, and of nothing that
/// changes while it is read.
fn changes_since(record: &ReplicationRecord, run: &RunRecord, base: &RunRecord) -> Option<SnapshotId> {
    let of_volume = |run: &RunRecord| {
        let snapshot = run.snapshot.as_ref()?;
        matches!(snapshot.mode, SourceMode::Snapshot | SourceMode::Sealed).then_some(snapshot.id)
    };
    of_volume(run)?;
    of_volume(base).filter(|_| record.changes.may_ask())
}

/// Pure: `on_target` is the recovery point that the target holds now, with the snapshot since which it may be asked what changed, and
/// `dirtied` the run that wrote to the target since, if one did.
fn decide(
    record: &ReplicationRecord,
    run: &RunRecord,
    on_target: Option<(&RecoveryPoint, Option<SnapshotId>)>,
    dirtied: Option<&RunRecord>,
) -> RunMethod {
    let clean = record.target_dirty.is_none();
    match (record.published, on_target) {
        _ if run.full => RunMethod::Full,
        // Of a run that knew no methods, nobody has noted what it left in doubt.
        _ if !clean && dirtied.is_none_or(|by| by.method.is_none()) => RunMethod::Full,
        (Some(_), Some((point, snapshot)))
            if record.policy.stored_digests
                && clean
                && record.doubtful.is_empty()
                && !point.fuzzy
                && point.damaged_at.is_none()
                && point.size_bytes == record.size_bytes =>
        {
            RunMethod::Delta { base: point.run, chain: point.chain, snapshot }
        }
        (None, _) if clean => RunMethod::Full,
        _ => RunMethod::Compare,
    }
}

/// What attempts of this run may have written and not made durable. A run that compares keeps its writes within the stall window; one
/// that writes everything passes long zeros without waiting.
fn window_of(record: &ReplicationRecord, run: &RunRecord) -> Option<ByteRange> {
    let (start, size) = (run.checkpoint.seq, record.size_bytes);
    let compares = run.method.is_some_and(RunMethod::compares);
    let end = if compares { start.saturating_add(STALL_WINDOW_BYTES).min(size) } else { size };
    run.copy_ordered.then(|| ByteRange::new(start, end)).filter(|window| !window.is_empty())
}

#[cfg(test)]
mod tests;
