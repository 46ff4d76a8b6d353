//! One process per store. The kernel holds the lock and lets it go when the process dies, however it dies.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::StoreError;

/// The exclusive lock on `<store>.lock`, held while this value lives. The file stays: removing it would let two processes
/// hold locks on two files of one name.
#[derive(Debug)]
pub(crate) struct StoreLock {
    _file: File,
}

impl StoreLock {
    pub(crate) fn acquire(store: &Path) -> Result<Self, StoreError> {
        let path = suffixed(store, ".lock");
        let mut file = open(&path).map_err(StoreError::io("open the lock file", &path))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(StoreError::InUse { holder: read_holder(&mut file), lock: path }),
            Err(errno) => return Err(StoreError::io("lock", &path)(errno.into())),
        }
        // The number only helps a person who meets the lock; a full disk must not keep the server from starting.
        let _ = write_holder(&mut file);
        Ok(Self { _file: file })
    }
}

/// The path with something appended to its file name.
pub(crate) fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

fn open(path: &Path) -> std::io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

fn read_holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

fn write_holder(file: &mut File) -> std::io::Result<()> {
    file.set_len(0)?;
    file.seek(SeekFrom::Start(0))?;
    writeln!(file, "{}", std::process::id())
}
