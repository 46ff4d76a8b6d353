//! A look at the metadata of a thin pool that is in use: the kernel freezes a copy of it (`reserve_metadata_snap`), of which there can be one for
//! each pool, and `thin_delta` reads that.
//!
//! A copy that a killed agent left behind would be in everybody's way, and one that another program has made must not be taken from
//! it. So whoever of ours wants one takes its turn by a lock, and notes there that the copy is ours before it is made.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use super::tool::Tool;
use super::{ThinPool, name};
use crate::error::StorageError;

/// The answer for a volume of a hundred thousand stretches is below 8 MiB.
const ANSWER_BYTES: usize = 64 << 20;
/// dmsetup says little, or why not.
const LITTLE_BYTES: usize = 16 << 10;
/// How often it is looked whether another agent of this host is done.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// What stands in the file while the copy is ours.
const OURS: &[u8] = b"the metadata snapshot of this pool is tanist's\n";

/// What is called besides LVM itself, and where turns are taken.
#[derive(Clone, Debug)]
pub(super) struct DeltaTools {
    pub(super) dmsetup: PathBuf,
    pub(super) thin_delta: PathBuf,
    /// Of one boot of this host: a copy outlives it, and who made it is not known then.
    pub(super) turns: PathBuf,
}

impl Default for DeltaTools {
    fn default() -> Self {
        Self { dmsetup: "dmsetup".into(), thin_delta: "thin_delta".into(), turns: "/run/tanist".into() }
    }
}

impl Tool {
    /// What `thin_delta` says of two thin volumes, by their numbers in the pool.
    ///
    /// # Errors
    /// That a program is missing or fails, that another one has frozen the metadata, or that no turn came in time.
    pub(super) fn delta(&self, pool: &ThinPool, thins: (u32, u32)) -> Result<Vec<u8>, StorageError> {
        let mut turn = Turn::take(&self.delta.turns, pool, self.limit)
            .map_err(StorageError::io("take a turn in", self.delta.turns.display()))?;
        let device = name::mapped_pool(&pool.group, &pool.pool);
        let left_behind = turn.has_left_one().unwrap_or(false);
        turn.note(OURS)?;
        if let Err(refused) = self.reserve(pool, &device, left_behind) {
            turn.note(b"")?;
            return Err(refused);
        }
        let said = self.thin_delta(pool, thins);
        // What cannot be let go stays noted, and is ended by whoever comes next.
        self.message(pool, &device, "release_metadata_snap")?;
        turn.note(b"")?;
        said
    }

    /// `left_behind`: what is frozen already is ours, of one that was killed.
    fn reserve(&self, pool: &ThinPool, device: &str, left_behind: bool) -> Result<(), StorageError> {
        let first = self.message(pool, device, "reserve_metadata_snap");
        let reserved = match first {
            Err(_) if left_behind => self
                .message(pool, device, "release_metadata_snap")
                .and_then(|()| self.message(pool, device, "reserve_metadata_snap")),
            first => first,
        };
        reserved.map_err(|error| match error {
            StorageError::Lvm { verb, of, why } => {
                let hint = format!("dmsetup message {device} 0 release_metadata_snap");
                let why = format!(
                    "{why}; if no other program reads the metadata of this pool now, {hint} ends what one left behind"
                );
                StorageError::Lvm { verb, of, why }
            }
            other => other,
        })
    }

    fn message(&self, pool: &ThinPool, device: &str, message: &str) -> Result<(), StorageError> {
        let mut command = Command::new(&self.delta.dmsetup);
        command.args(["message", device, "0", message]);
        self.ask("dmsetup message", &pool.to_string(), command, LITTLE_BYTES).map(drop)
    }

    fn thin_delta(&self, pool: &ThinPool, (before, after): (u32, u32)) -> Result<Vec<u8>, StorageError> {
        let mut command = Command::new(&self.delta.thin_delta);
        let (before, after) = (before.to_string(), after.to_string());
        command.args(["--metadata-snap", "--thin1", &before, "--thin2", &after]);
        command.arg(name::path(&pool.group, &format!("{}_tmeta", pool.pool)));
        self.ask("thin_delta", &pool.to_string(), command, ANSWER_BYTES)
    }
}

/// The right to freeze the metadata of one pool, among the agents of this host.
#[derive(Debug)]
struct Turn {
    file: File,
    path: PathBuf,
}

impl Turn {
    fn take(folder: &Path, pool: &ThinPool, limit: Duration) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let path = folder.join(format!("{}.metadata", name::mapped(&pool.group, &pool.pool)));
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?;
        let deadline = Instant::now() + limit;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self { file, path }),
                Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < deadline => thread::sleep(LOOK_AGAIN),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Whether who had the last turn died with the metadata frozen.
    fn has_left_one(&mut self) -> io::Result<bool> {
        let mut noted = Vec::new();
        self.file.rewind()?;
        (&self.file).take(OURS.len() as u64 + 1).read_to_end(&mut noted)?;
        Ok(noted == OURS)
    }

    fn note(&mut self, text: &[u8]) -> Result<(), StorageError> {
        let noted = self.file.set_len(0).and_then(|()| self.file.rewind()).and_then(|()| self.file.write_all(text));
        noted.map_err(StorageError::io("write", self.path.display()))
    }
}
