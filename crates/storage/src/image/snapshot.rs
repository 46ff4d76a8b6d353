//! Snapshots of image files by reflink, kept in `.tanist/` beside them.
//!
//! A clone is made by the file system under its own locks: it holds the file as it was at one moment, shares its blocks, and is
//! never opened for writing. Its identity is its inode and time of birth, so that a file that was put in its place is not
//! taken for it.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use tanist_datapath::BlockDevice;
use tanist_model::id::{SnapshotId, VolumeAddress};

use super::file::{Access, OpenError, OpenImage, identity, regular_files};
use crate::error::StorageError;
use crate::system::SnapshotIdentity;

/// Names that start with a dot are no volumes, so this one cannot meet a volume's.
const DIRECTORY: &str = ".tanist";
const NO_REFLINKS: &str = "its file system has no reflinks; use XFS or Btrfs";
const PROBE_BYTES: [u8; 4096] = [0x5a; 4096];

/// Tries a reflink between two files that have no name and leave nothing behind.
pub(super) fn reflinks_work(directory: &OwnedFd) -> bool {
    let nameless = || {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        rustix::fs::openat(directory, ".", flags, Mode::RUSR | Mode::WUSR)
    };
    let attempt = || {
        let (from, to) = (nameless()?, nameless()?);
        rustix::io::write(&from, &PROBE_BYTES)?;
        rustix::fs::ioctl_ficlone(&to, &from)
    };
    attempt().is_ok()
}

/// Clones `source` into a file without a name, makes it durable, and only then gives it its name: whatever has the name is
/// whole, and a kill on the way leaves nothing.
pub(super) fn create(
    directory: &OwnedFd,
    file_system: &str,
    source: impl AsFd,
    volume: &VolumeAddress,
    id: SnapshotId,
) -> Result<SnapshotIdentity, StorageError> {
    let place = open_directory(directory, true).map_err(failed("make the snapshot directory for", volume))?;
    let name = name(volume, id);
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let cloned = rustix::fs::openat(&place, ".", flags, Mode::RUSR).and_then(|clone| {
        fill(&clone, source)?;
        give_name(directory, &place, &clone, &name)?;
        Ok(clone)
    });
    // Files without a name are refused in the same words as reflinks: NFS and FUSE have neither.
    let clone = cloned.inspect_err(|_| remove_if_empty(directory)).map_err(|error| match error {
        Errno::EXIST => StorageError::SnapshotExists { volume: volume.clone(), id },
        Errno::OPNOTSUPP | Errno::XDEV | Errno::INVAL | Errno::NOTTY => {
            StorageError::SnapshotsUnsupported { system: volume.system.clone(), how: NO_REFLINKS }
        }
        other => failed("create a snapshot of", volume)(other),
    })?;
    identify(&clone, file_system, id).map_err(StorageError::io("identify the snapshot of", volume))
}

fn fill(clone: &OwnedFd, source: impl AsFd) -> Result<(), Errno> {
    rustix::fs::ioctl_ficlone(clone, source)?;
    rustix::fs::fsync(clone)
}

/// Links the file under its name, unless there is one already (open(2), O_TMPFILE), and makes the name durable.
fn give_name(directory: &OwnedFd, place: &OwnedFd, clone: &OwnedFd, name: &str) -> Result<(), Errno> {
    let nameless = format!("/proc/self/fd/{}", clone.as_raw_fd());
    rustix::fs::linkat(rustix::fs::CWD, nameless, place, name, AtFlags::SYMLINK_FOLLOW)?;
    rustix::fs::fsync(place)?;
    rustix::fs::fsync(directory)
}

/// What tanist made goes with the last snapshot in it; a directory with others in it stays, and so does one that is not there.
fn remove_if_empty(directory: &OwnedFd) {
    let _ = rustix::fs::unlinkat(directory, DIRECTORY, AtFlags::REMOVEDIR);
}

fn identify(clone: &OwnedFd, file_system: &str, id: SnapshotId) -> io::Result<SnapshotIdentity> {
    let size_bytes = u64::try_from(rustix::fs::fstat(clone)?.st_size).unwrap_or(0);
    Ok(SnapshotIdentity { id, uid: identity(clone, file_system)?, size_bytes })
}

pub(super) fn open(
    directory: &OwnedFd,
    file_system: &str,
    volume: &VolumeAddress,
    id: SnapshotId,
) -> Result<OpenImage, StorageError> {
    let not_found = || StorageError::SnapshotNotFound { volume: volume.clone(), id };
    let place = match open_directory(directory, false) {
        Err(Errno::NOENT) => return Err(not_found()),
        result => result.map_err(failed("open the snapshot directory of", volume))?,
    };
    OpenImage::open(&place, &name(volume, id), Access::Read, file_system).map_err(|error| match error {
        OpenError::NotFound => not_found(),
        other => other.about(volume),
    })
}

pub(super) fn delete(directory: &OwnedFd, volume: &VolumeAddress, id: SnapshotId) -> Result<(), StorageError> {
    let remove = || {
        let place = open_directory(directory, false)?;
        rustix::fs::unlinkat(&place, name(volume, id), AtFlags::empty())?;
        rustix::fs::fsync(&place)
    };
    match remove() {
        Ok(()) | Err(Errno::NOENT) => {
            remove_if_empty(directory);
            Ok(())
        }
        Err(error) => Err(failed("delete a snapshot of", volume)(error)),
    }
}

pub(super) fn list(
    directory: &OwnedFd,
    file_system: &str,
    volume: &VolumeAddress,
) -> Result<Vec<SnapshotIdentity>, StorageError> {
    let place = match open_directory(directory, false) {
        Err(Errno::NOENT) => return Ok(Vec::new()),
        result => result.map_err(failed("list the snapshots of", volume))?,
    };
    let mut ids: Vec<_> = regular_files(&place)
        .map_err(StorageError::io("list the snapshots of", volume))?
        .iter()
        .filter_map(|name| id_in(name, volume))
        .collect();
    ids.sort();
    ids.into_iter().filter_map(|id| found(open(directory, file_system, volume, id), id)).collect()
}

/// A snapshot that was deleted between the listing and the look is not there.
fn found(opened: Result<OpenImage, StorageError>, id: SnapshotId) -> Option<Result<SnapshotIdentity, StorageError>> {
    match opened {
        Err(StorageError::SnapshotNotFound { .. }) => None,
        other => Some(other.map(|image| {
            let size_bytes = image.file.size_bytes();
            SnapshotIdentity { id, uid: image.identity, size_bytes }
        })),
    }
}

fn open_directory(directory: &OwnedFd, make: bool) -> Result<OwnedFd, Errno> {
    if make {
        match rustix::fs::mkdirat(directory, DIRECTORY, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(directory, DIRECTORY, flags, Mode::empty())
}

/// `VOLUME@ID`. The id has a fixed length, so that no volume's name can be read as another's with an id.
fn name(volume: &VolumeAddress, id: SnapshotId) -> String {
    format!("{}@{id}", volume.volume())
}

fn id_in(name: &str, volume: &VolumeAddress) -> Option<SnapshotId> {
    let (of, id) = name.rsplit_once('@')?;
    if of == volume.volume() { id.parse().ok() } else { None }
}

fn failed(doing: &'static str, volume: &VolumeAddress) -> impl FnOnce(Errno) -> StorageError {
    StorageError::io(doing, volume)
}
