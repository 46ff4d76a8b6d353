//! Where an agent keeps the digests of recovery points: a file a run, `digests/REPLICATION/RUN` in its directory.
//!
//! A cache. Whatever is missing, unreadable or not what it should be is told and done without: the run then reads its target.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tanist_datapath::{Digests, StoredDigests};
use tanist_model::id::{ReplicationId, RunId};
use tanist_model::run::RunMethod;

const FOLDER: &str = "digests";
/// What was not added to for so long belongs to a replication that is gone, or that this agent no longer reads for.
const FORGOTTEN_AFTER: Duration = Duration::from_hours(90 * 24);

/// Those of all replications.
#[derive(Clone, Debug)]
pub(crate) struct DigestFolder(PathBuf);

impl DigestFolder {
    /// In an agent's directory. What has been left alone for a quarter of a year is removed.
    pub(crate) fn open(agent: &Path) -> Self {
        let folder = agent.join(FOLDER);
        if let Err(error) = sweep(&folder, SystemTime::now()) {
            tracing::warn!(%error, folder = %folder.display(), "old digests cannot be removed");
        }
        Self(folder)
    }

    pub(crate) fn of(&self, replication: ReplicationId) -> DigestFiles {
        DigestFiles { folder: self.0.join(replication.to_string()) }
    }
}

/// Those of one replication.
#[derive(Clone, Debug)]
pub(crate) struct DigestFiles {
    folder: PathBuf,
}

impl DigestFiles {
    /// What a copy of this run may use of the run before, and where it keeps its own. Files of other runs are removed. What changed at the
    /// source is for the storage system to say.
    pub(crate) fn of_copy(&self, run: RunId, method: RunMethod, size_bytes: u64) -> Digests {
        let RunMethod::Delta { base, chain, .. } = method else {
            self.keep_only(&[run]);
            return Digests { record_to: self.record_to(run), ..Digests::default() };
        };
        self.keep_only(&[base, run]);
        let stored = StoredDigests::open(&self.file_of(base), size_bytes, chain).unwrap_or_else(|error| {
            tracing::warn!(%error, %base, "the digests of the last recovery point cannot be read");
            None
        });
        tracing::info!(%run, %base, found = stored.is_some(), "digests of the last recovery point");
        Digests { stored: stored.map(Arc::new), record_to: self.record_to(run), changes: None }
    }

    fn record_to(&self, run: RunId) -> Option<PathBuf> {
        let made = std::fs::create_dir_all(&self.folder);
        made.inspect_err(|error| tracing::warn!(%error, %run, "the digests of this run cannot be stored")).ok()?;
        Some(self.file_of(run))
    }

    /// The run stands as a recovery point: the digests of others are of no use any more. A run that only read its target has none.
    pub(crate) fn published(&self, run: RunId) {
        if self.file_of(run).exists() {
            self.keep_only(&[run]);
        }
    }

    /// Removes the files of other runs than these.
    fn keep_only(&self, runs: &[RunId]) {
        let kept: Vec<PathBuf> = runs.iter().map(|run| self.file_of(*run)).collect();
        let others = entries(&self.folder).into_iter().filter(|path| !kept.contains(path));
        for path in others {
            if let Err(error) = std::fs::remove_file(&path) {
                tracing::warn!(%error, path = %path.display(), "digests that nobody needs cannot be removed");
            }
        }
    }

    fn file_of(&self, run: RunId) -> PathBuf {
        self.folder.join(run.to_string())
    }
}

/// What lies in a folder; nothing, if there is none.
fn entries(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

fn sweep(folder: &Path, now: SystemTime) -> io::Result<()> {
    for replication in entries(folder) {
        let times = entries(&replication).into_iter().map(|file| file.metadata()?.modified());
        let newest = times.collect::<io::Result<Vec<_>>>()?.into_iter().max();
        let age = newest.map(|newest| now.duration_since(newest).unwrap_or_default());
        if age.is_none_or(|age| age > FORGOTTEN_AFTER) {
            std::fs::remove_dir_all(&replication)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tanist_model::run::{ChainDigest, Checkpoint};

    use super::*;

    const R1: ReplicationId = ReplicationId(1);

    fn write(files: &DigestFiles, run: u64) {
        std::fs::create_dir_all(&files.folder).unwrap();
        std::fs::write(files.file_of(RunId(run)), "").unwrap();
    }

    fn runs(files: &DigestFiles) -> Vec<PathBuf> {
        let mut names: Vec<_> = entries(&files.folder).iter().map(|p| p.file_name().unwrap().into()).collect();
        names.sort();
        names
    }

    fn names(ids: &[u64]) -> Vec<PathBuf> {
        ids.iter().map(|id| RunId(*id).to_string().into()).collect()
    }

    #[test]
    fn a_copy_keeps_its_base_and_itself_and_a_recovery_point_only_itself() {
        let agent = tempfile::tempdir().unwrap();
        let files = DigestFolder::open(agent.path()).of(R1);
        (1..=4).for_each(|run| write(&files, run));
        // Nothing is a volume of no bytes: its digests are proven by the first value of the chain.
        let delta = RunMethod::Delta { base: RunId(2), chain: Checkpoint::START.chain, snapshot: None };
        let digests = files.of_copy(RunId(3), delta, 0);
        assert!(digests.stored.is_some());
        assert_eq!(digests.record_to, Some(files.file_of(RunId(3))));
        assert_eq!(runs(&files), names(&[2, 3]));
        files.published(RunId(9));
        assert_eq!(runs(&files), names(&[2, 3]), "a verification stores nothing and replaces nothing");
        files.published(RunId(3));
        assert_eq!(runs(&files), names(&[3]));
    }

    #[test]
    fn without_proven_digests_of_the_base_there_are_none() {
        let agent = tempfile::tempdir().unwrap();
        let files = DigestFolder::open(agent.path()).of(R1);
        write(&files, 2);
        let other = RunMethod::Delta { base: RunId(2), chain: ChainDigest([7; 32]), snapshot: None };
        assert!(files.of_copy(RunId(3), other, 0).stored.is_none());
        assert!(files.of_copy(RunId(3), RunMethod::Compare, 0).stored.is_none());
    }

    #[test]
    fn what_is_older_than_a_quarter_is_removed() {
        let agent = tempfile::tempdir().unwrap();
        let folder = DigestFolder::open(agent.path());
        write(&folder.of(R1), 2);
        sweep(&folder.0, SystemTime::now()).unwrap();
        assert_eq!(runs(&folder.of(R1)), names(&[2]));
        sweep(&folder.0, SystemTime::now() + FORGOTTEN_AFTER + Duration::from_mins(1)).unwrap();
        assert!(entries(&folder.0).is_empty());
    }
}
