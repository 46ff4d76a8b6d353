//! Snapshots: the source's for a run, the target's to keep its recovery point while the run overwrites it.

use tanist_model::id::{ApplicationName, RunId, SnapshotId, VolumeAddress};
use tanist_model::policy::SourceMode;
use tanist_model::run::BoundSnapshot;
use tanist_protocol::agent::EngineEvent;
use tanist_protocol::message::{Assignment, RunFailureKind};
use tanist_storage::{StorageError, StorageSystem};

use super::{Engine, Message};
use crate::application::Moment;
use crate::source::{Frozen, freeze, release, released};

impl Engine {
    /// The target's snapshot comes first: a host application is quiesced for the source's alone.
    pub(super) fn prepare(
        &mut self,
        run: RunId,
        attempt: SnapshotId,
        mode: SourceMode,
        keep: Option<SnapshotId>,
        application: Option<ApplicationName>,
    ) {
        self.quiescing = None;
        let Some(assignment) = self.open.as_ref().map(|open| open.assignment.clone()) else { return };
        let kept = match self.keep_target(&assignment, keep) {
            Ok(kept) => kept,
            Err(reason) => return self.prepared(run, None, Err((RunFailureKind::Snapshot, reason))),
        };
        let (storages, source) = (self.storages.clone(), assignment.source.clone());
        let freeze = move || freeze(&storages, &source, attempt, mode);
        match application {
            None => {
                let made = freeze().map(Frozen::keep).map_err(|reason| (RunFailureKind::Snapshot, reason));
                self.prepared(run, kept, made);
            }
            Some(application) => {
                let (replication, epochs) = (self.replication, self.epochs);
                let Assignment { name, source, .. } = assignment;
                let moment = Moment { replication, name, run, attempt, epochs, source };
                self.quiesce(&application, &moment, kept, freeze);
            }
        }
    }

    fn quiesce(
        &mut self,
        application: &ApplicationName,
        moment: &Moment,
        kept: Option<String>,
        freeze: impl FnOnce() -> Result<Frozen, String> + Send + 'static,
    ) {
        self.attempts += 1;
        let (number, run, own) = (self.attempts, moment.run, self.own.clone());
        let done = move |made| drop(own.send(Message::Frozen { number, run, kept, made }));
        match self.applications.begin(application, moment, freeze, done) {
            Ok(attempt) => self.quiescing = Some((number, attempt)),
            Err(reason) => self.prepared(run, None, Err((RunFailureKind::Quiesce, reason))),
        }
    }

    /// What an attempt that was given up says is not heard.
    pub(super) fn on_frozen(
        &mut self,
        number: u64,
        run: RunId,
        kept: Option<String>,
        made: Result<BoundSnapshot, (RunFailureKind, String)>,
    ) {
        if self.quiescing.take_if(|(own, _)| *own == number).is_some() {
            self.prepared(run, kept, made);
        }
    }

    fn prepared(&mut self, run: RunId, kept: Option<String>, made: Result<BoundSnapshot, (RunFailureKind, String)>) {
        match made {
            Ok(snapshot) => {
                self.prepared = Some(run);
                self.report(EngineEvent::SnapshotMade { run, snapshot, kept });
            }
            Err((kind, reason)) => self.report(EngineEvent::RunFailed { run, kind, reason }),
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
        self.quiescing = None;
        let Some(assignment) = self.open.as_ref().map(|open| open.assignment.clone()) else { return };
        match self.keep_target(&assignment, keep) {
            Ok(uid) => self.report(EngineEvent::Kept { run, uid }),
            Err(reason) => self.report(EngineEvent::RunFailed { run, kind: RunFailureKind::Snapshot, reason }),
        }
    }
}
