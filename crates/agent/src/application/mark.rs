//! Marks: one file for each attempt that quiesces, on disk before `before` is run and until the server has the thaw on record.
//!
//! Whoever is to thaw holds the file's lock; the kernel frees it with the process. A mark without an outcome whose lock is free is
//! owed: an agent that finds it runs `after`.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tanist_model::application::{ThawCause, ThawReport};
use tanist_model::id::{ApplicationName, ReplicationId, SnapshotId};
use tanist_model::time::Timestamp;
use tanist_wire::file::{self, Readers};

use crate::clock;

/// Beneath the agent's directory.
pub(super) const FOLDER: &str = "applications";

/// What a guard is to do; also what a mark says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Task {
    /// Where marks are.
    pub(super) folder: PathBuf,
    pub(super) replication: ReplicationId,
    pub(super) attempt: SnapshotId,
    pub(super) application: ApplicationName,
    pub(super) before: Vec<String>,
    pub(super) after: Vec<String>,
    pub(super) limit: Duration,
    /// What the scripts are told besides their phase.
    pub(super) environment: Vec<(String, String)>,
    pub(super) since: Timestamp,
}

impl Task {
    pub(super) fn environment_of(&self, phase: &str) -> Vec<(String, String)> {
        let phase = ("TANIST_PHASE".to_owned(), phase.to_owned());
        self.environment.iter().cloned().chain([phase]).collect()
    }

    pub(super) fn report(&self, outcome: &Outcome) -> ThawReport {
        ThawReport {
            replication: self.replication,
            attempt: self.attempt,
            application: self.application.clone(),
            cause: outcome.cause,
            quiesced_ms: outcome.quiesced_ms,
            failure: outcome.failure.clone(),
        }
    }
}

/// What became of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(super) cause: ThawCause,
    pub(super) quiesced_ms: Option<u64>,
    /// Why `after` failed.
    pub(super) failure: Option<String>,
    pub(super) at: Timestamp,
}

/// A mark whose lock this process holds.
#[derive(Debug)]
pub(super) struct HeldMark {
    pub(super) task: Task,
    path: PathBuf,
    _lock: File,
}

impl HeldMark {
    /// Durable when it returns.
    pub(super) fn place(task: Task) -> io::Result<Self> {
        let path = path_of(&task.folder, task.attempt, "mark");
        let new = path_of(&task.folder, task.attempt, "new");
        // Of an earlier try of this attempt.
        match fs::remove_file(path_of(&task.folder, task.attempt, "outcome")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = File::create(&new)?;
        file.lock()?;
        file.write_all(&serde_json::to_vec(&task)?)?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        File::open(&task.folder)?.sync_all()?;
        Ok(Self { task, path, _lock: file })
    }

    /// Puts on disk what became of it; the mark stays until it is forgotten.
    pub(super) fn settle(&self, outcome: &Outcome) -> io::Result<()> {
        let text = serde_json::to_vec(outcome)?;
        file::replace(&self.path.with_extension("outcome"), &text, Readers::Owner).map_err(io::Error::other)
    }
}

/// A mark as it was found.
#[derive(Debug)]
pub(super) enum Found {
    /// Somebody living sees to it.
    Held,
    /// Nobody has thawed it.
    Owed(HeldMark),
    Settled(HeldMark, Outcome),
}

/// Every mark in a folder. What cannot be read is told in the log and stays.
pub(super) fn find(folder: &Path) -> Vec<Found> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let marks = entries.filter(|path| path.extension().is_some_and(|extension| extension == "mark"));
    marks
        .filter_map(|path| found(&path).map_err(|error| tracing::warn!(%error, ?path, "a mark cannot be read")).ok())
        .collect()
}

pub(super) fn exists(folder: &Path, attempt: SnapshotId) -> bool {
    path_of(folder, attempt, "mark").exists()
}

fn found(path: &Path) -> io::Result<Found> {
    let lock = File::open(path)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(Found::Held),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    let mut task: Task = serde_json::from_slice(&fs::read(path)?)?;
    // The agent's directory may have been moved since.
    task.folder = path.parent().unwrap_or(path).to_owned();
    let mark = HeldMark { task, path: path.to_owned(), _lock: lock };
    Ok(match fs::read(path.with_extension("outcome")) {
        Ok(text) => Found::Settled(mark, serde_json::from_slice(&text)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Found::Owed(mark),
        Err(error) => return Err(error),
    })
}

/// Forgets what is thawed, and nothing else. The mark goes first: without it, an outcome says nothing.
pub(super) fn forget(folder: &Path, attempt: SnapshotId) {
    let settled = found(&path_of(folder, attempt, "mark"));
    if !matches!(settled, Ok(Found::Settled(_, Outcome { failure: None, .. }))) {
        return;
    }
    for extension in ["mark", "outcome"] {
        let path = path_of(folder, attempt, extension);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => tracing::warn!(%error, ?path, "a mark stays"),
            _ => {}
        }
    }
}

fn path_of(folder: &Path, attempt: SnapshotId, extension: &str) -> PathBuf {
    folder.join(format!("{attempt}.{extension}"))
}

/// Only one attempt of an application at a time: the `after` of one would thaw it under the other. `None`: another one is at it.
pub(super) fn try_sole(folder: &Path, application: &ApplicationName) -> io::Result<Option<File>> {
    let options =
        File::options().create(true).truncate(false).write(true).open(folder.join(format!("{application}.lock")));
    let file = options?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// How long an application was quiesced, in milliseconds.
pub(super) fn quiesced_ms(since: Timestamp) -> Option<u64> {
    u64::try_from(clock::wall().since(since).as_millis()).ok()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::application) fn task(folder: &Path, before: &str, after: &str) -> Task {
        let shell = |text: &str| ["/bin/sh", "-c", text].map(ToOwned::to_owned).to_vec();
        Task {
            folder: folder.to_owned(),
            replication: ReplicationId(1),
            attempt: SnapshotId(7),
            application: "db".parse().unwrap(),
            before: shell(before),
            after: shell(after),
            limit: Duration::from_secs(20),
            environment: Vec::new(),
            since: clock::wall(),
        }
    }

    #[test]
    fn a_mark_is_owed_when_nobody_holds_it_and_settled_with_its_outcome() {
        let folder = tempfile::tempdir().unwrap();
        let held = HeldMark::place(task(folder.path(), "", "")).unwrap();
        assert!(matches!(find(folder.path())[..], [Found::Held]));
        drop(held);
        let [Found::Owed(owed)] = &find(folder.path())[..] else { panic!("it is not owed") };
        let outcome = Outcome { cause: ThawCause::AgentGone, quiesced_ms: Some(3), failure: None, at: clock::wall() };
        owed.settle(&outcome).unwrap();
        assert!(matches!(find(folder.path())[..], [Found::Held]));
    }

    #[test]
    fn a_settled_mark_stays_until_it_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let outcome = Outcome { cause: ThawCause::AgentGone, quiesced_ms: None, failure: None, at: clock::wall() };
        HeldMark::place(task(folder.path(), "", "")).unwrap().settle(&outcome).unwrap();
        let marks = find(folder.path());
        let [Found::Settled(mark, settled)] = &marks[..] else { panic!("it is not settled") };
        assert_eq!((mark.task.attempt, settled), (SnapshotId(7), &outcome));
        forget(folder.path(), SnapshotId(7));
        assert!(exists(folder.path(), SnapshotId(7)), "somebody holds it");
        assert!(!exists(folder.path(), SnapshotId(8)));
        drop(marks);
        forget(folder.path(), SnapshotId(7));
        assert!(find(folder.path()).is_empty() && fs::read_dir(folder.path()).unwrap().next().is_none());
    }

    #[test]
    fn a_mark_that_is_none_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("0000000000000001.mark"), "{").unwrap();
        fs::write(folder.path().join("0000000000000002.new"), "{}").unwrap();
        assert!(find(folder.path()).is_empty());
    }
}
