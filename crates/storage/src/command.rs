//! Snapshots by a program of the operator's: the array's own tool behind three verbs, for storage that tanist cannot ask itself.
//!
//! It stands before a storage system of files or devices and answers for its snapshots; all else goes through. The program is called
//! as `PROGRAM create|delete|list` with the volume in its environment, and answers in JSON (docs/operations/snapshot-command.md).
//! Whatever it says is checked: a snapshot counts only if it is listed, has the volume's size, and is not the volume itself. A call
//! that breaks off proves nothing; `list` is what tells what there is.

pub(crate) mod answer;
mod readable;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::fs::Access;
use tanist_model::byte_range::ByteRange;
use tanist_model::id::{SnapshotId, VolumeAddress};
use tanist_model::volume::{StorageReport, VolumeReport};
use tanist_script::{Exit, Keep, Keeps, RunError, Said};

use self::answer::{AnswerError, Entry, VERSION};
use crate::error::StorageError;
use crate::system::{
    CanaryReading, OnHost, SealedIdentity, SnapshotIdentity, SourceHandle, SourceView, StorageSystem, TargetHandle,
};

/// A snapshot with that id is there already.
const EXISTS: i32 = 4;

/// An answer that is longer than a MiB is none.
const KEEPS: Keeps = Keeps { out: Keep::Whole(1 << 20), err: Keep::Last(8 << 10) };

/// Where programs of the system are found, whatever the agent's own environment is.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The operator's program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SnapshotCommand {
    pub program: PathBuf,
    /// For each call.
    pub limit: Duration,
}

/// A storage system whose snapshots a program makes.
#[derive(Debug)]
pub struct CommandSnapshots<S> {
    storage: S,
    command: SnapshotCommand,
}

/// What is wrong with a call.
#[derive(Debug, thiserror::Error)]
enum Complaint {
    #[error("it {0}")]
    Run(#[from] RunError),
    #[error("it {}{}", .0.in_words(), .1.quote_err())]
    Ended(Exit, Said),
    #[error(transparent)]
    Answer(#[from] AnswerError),
    #[error("it says that it made the snapshot, and does not list it")]
    NotListed,
    #[error("it says that it deleted the snapshot, and lists it")]
    StillListed,
}

impl<S: OnHost> CommandSnapshots<S> {
    pub fn new(storage: S, command: SnapshotCommand) -> Self {
        Self { storage, command }
    }

    /// A volume that is gone may have snapshots all the same; then nothing but its name is known.
    fn environment(&self, volume: &VolumeAddress, id: Option<SnapshotId>) -> Vec<(&'static str, String)> {
        let path = self.storage.path_of(volume).map(|path| path.display().to_string()).unwrap_or_default();
        let report = self.storage.inspect(volume).ok();
        let of = |say: fn(&VolumeReport) -> String| report.as_ref().map(say).unwrap_or_default();
        let mut environment = vec![
            ("TANIST_SNAPSHOT_PROTOCOL", VERSION.to_string()),
            ("TANIST_STORAGE", volume.system.to_string()),
            ("TANIST_VOLUME", volume.volume().to_owned()),
            ("TANIST_VOLUME_PATH", path),
            ("TANIST_VOLUME_IDENTITY", of(|report| report.identity.clone())),
            ("TANIST_VOLUME_BYTES", of(|report| report.size_bytes.to_string())),
        ];
        environment.extend(id.map(|id| ("TANIST_SNAPSHOT", id.to_string())));
        environment
    }

    fn call(
        &self,
        verb: &'static str,
        volume: &VolumeAddress,
        id: Option<SnapshotId>,
    ) -> Result<(Exit, Said), StorageError> {
        let mut command = Command::new(&self.command.program);
        command.arg(verb).env_clear().env("PATH", PATH).envs(self.environment(volume, id));
        tanist_script::run(command, Vec::new(), KEEPS, self.command.limit).map_err(|error| self.failed(verb, error))
    }

    /// The answer of a call that ended well.
    fn answer(&self, verb: &'static str, (exit, said): (Exit, Said)) -> Result<Vec<u8>, StorageError> {
        if exit.is_well() { Ok(said.out) } else { Err(self.failed(verb, Complaint::Ended(exit, said))) }
    }

    fn list(&self, volume: &VolumeAddress) -> Result<Vec<Entry>, StorageError> {
        let answer = self.answer("list", self.call("list", volume, None)?)?;
        answer::listed(&answer).map_err(|error| self.failed("list", error))
    }

    fn find(&self, volume: &VolumeAddress, id: SnapshotId) -> Result<Option<Entry>, StorageError> {
        Ok(self.list(volume)?.into_iter().find(|entry| entry.id == id))
    }

    fn create(&self, volume: &VolumeAddress, id: SnapshotId) -> Result<Entry, StorageError> {
        let size_bytes = self.storage.inspect(volume)?.size_bytes;
        let ended = self.call("create", volume, Some(id))?;
        if ended.0 == Exit::Status(EXISTS) {
            return Err(StorageError::SnapshotExists { volume: volume.clone(), id });
        }
        let answer = self.answer("create", ended)?;
        let made = answer::created(&answer, id, size_bytes).map_err(|error| self.failed("create", error))?;
        // What a successor will have to go by.
        if self.find(volume, id)?.as_ref() != Some(&made) {
            return Err(self.failed("create", Complaint::NotListed));
        }
        self.open_entry(volume, &made)?;
        Ok(made)
    }

    /// An attempt that failed is never used. What it may have made is taken away, as far as that works.
    fn discard(&self, volume: &VolumeAddress, id: SnapshotId) {
        if let Err(error) = self.delete_snapshot(volume, id) {
            tracing::warn!(%error, %volume, snapshot = %id, "what an attempt to make a snapshot left cannot be removed");
        }
    }

    fn open_entry(&self, volume: &VolumeAddress, entry: &Entry) -> Result<SourceHandle, StorageError> {
        let volume_path = self.storage.path_of(volume).ok();
        let device = readable::open(&entry.path, entry.size_bytes, volume_path.as_deref())
            .map_err(StorageError::io("open the snapshot of", format!("{volume} at {}", entry.path.display())))?;
        Ok(SourceHandle { device, identity: entry.uid.clone() })
    }

    fn open_snapshot(&self, volume: &VolumeAddress, id: SnapshotId, uid: &str) -> Result<SourceHandle, StorageError> {
        let entry = self.find(volume, id)?;
        let entry = entry.ok_or_else(|| StorageError::SnapshotNotFound { volume: volume.clone(), id })?;
        if entry.uid != uid {
            let (expected, found) = (uid.to_owned(), entry.uid);
            return Err(StorageError::SnapshotMismatch { volume: volume.clone(), id, expected, found });
        }
        self.open_entry(volume, &entry)
    }

    fn failed(&self, verb: &'static str, complaint: impl Into<Complaint>) -> StorageError {
        let program = self.command.program.display().to_string();
        StorageError::Command { program, verb, why: complaint.into().to_string() }
    }
}

fn identity_of(entry: Entry) -> SnapshotIdentity {
    SnapshotIdentity { id: entry.id, uid: entry.uid, size_bytes: entry.size_bytes }
}

fn is_program(path: &Path) -> bool {
    path.is_file() && rustix::fs::access(path, Access::EXEC_OK).is_ok()
}

impl<S: OnHost> StorageSystem for CommandSnapshots<S> {
    fn report(&self) -> StorageReport {
        let mut report = self.storage.report();
        report.capabilities.snapshots = is_program(&self.command.program);
        let not = if report.capabilities.snapshots { "" } else { ", which is no program that can be run" };
        report.location = format!("{}; snapshots by {}{not}", report.location, self.command.program.display());
        report
    }

    fn volumes(&self) -> Result<Vec<VolumeReport>, StorageError> {
        self.storage.volumes()
    }

    fn inspect(&self, volume: &VolumeAddress) -> Result<VolumeReport, StorageError> {
        self.storage.inspect(volume)
    }

    fn canary(&self, volume: &VolumeAddress) -> Result<CanaryReading, StorageError> {
        self.storage.canary(volume)
    }

    fn open_source(&self, volume: &VolumeAddress, view: &SourceView) -> Result<SourceHandle, StorageError> {
        match view {
            SourceView::Snapshot { id, uid } => self.open_snapshot(volume, *id, uid),
            SourceView::Sealed { .. } | SourceView::Live => self.storage.open_source(volume, view),
        }
    }

    fn open_target(&self, volume: &VolumeAddress) -> Result<TargetHandle, StorageError> {
        self.storage.open_target(volume)
    }

    fn changed_since(
        &self,
        volume: &VolumeAddress,
        base: SnapshotId,
        now: &SourceView,
    ) -> Result<Option<Vec<ByteRange>>, StorageError> {
        self.storage.changed_since(volume, base, now)
    }

    fn create_snapshot(&self, volume: &VolumeAddress, id: SnapshotId) -> Result<SnapshotIdentity, StorageError> {
        if self.find(volume, id)?.is_some() {
            return Err(StorageError::SnapshotExists { volume: volume.clone(), id });
        }
        match self.create(volume, id) {
            Ok(made) => Ok(identity_of(made)),
            Err(exists @ StorageError::SnapshotExists { .. }) => Err(exists),
            Err(error) => {
                self.discard(volume, id);
                Err(error)
            }
        }
    }

    fn delete_snapshot(&self, volume: &VolumeAddress, id: SnapshotId) -> Result<(), StorageError> {
        let answer = self.answer("delete", self.call("delete", volume, Some(id))?)?;
        answer::deleted(&answer).map_err(|error| self.failed("delete", error))?;
        match self.find(volume, id)? {
            None => Ok(()),
            Some(_) => Err(self.failed("delete", Complaint::StillListed)),
        }
    }

    fn list_snapshots(&self, volume: &VolumeAddress) -> Result<Vec<SnapshotIdentity>, StorageError> {
        Ok(self.list(volume)?.into_iter().map(identity_of).collect())
    }

    fn seal(&self, volume: &VolumeAddress) -> Result<SealedIdentity, StorageError> {
        self.storage.seal(volume)
    }

    fn check_sealed(&self, volume: &VolumeAddress, uid: &str) -> Result<(), StorageError> {
        self.storage.check_sealed(volume, uid)
    }
}
