//! One image file: opened safely, identified, sealed.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, Statx, StatxFlags, StatxTimestamp};
use rustix::io::Errno;
use tanist_datapath::BlockDevice;
use tanist_datapath::io::blocking::BlockingFile;
use tanist_model::id::VolumeAddress;

use crate::error::StorageError;
use crate::sealed::Seal;
use crate::system::SealedIdentity;

/// For what a file is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Access {
    Read,
    ReadWrite,
}

/// An image file that is open for direct I/O where its file system takes that.
#[derive(Debug)]
pub(super) struct OpenImage {
    pub(super) file: Arc<BlockingFile>,
    pub(super) identity: String,
}

/// Why it is not open.
#[derive(Debug)]
pub(super) enum OpenError {
    NotFound,
    NotAFile,
    Io(io::Error),
}

impl OpenError {
    pub(super) fn about(self, volume: &VolumeAddress) -> StorageError {
        match self {
            Self::NotFound => StorageError::NotFound { volume: volume.clone() },
            Self::NotAFile => StorageError::NotAVolume { volume: volume.clone() },
            Self::Io(cause) => StorageError::io("open", volume)(cause),
        }
    }
}

impl From<Errno> for OpenError {
    fn from(error: Errno) -> Self {
        match error {
            Errno::NOENT => Self::NotFound,
            Errno::LOOP | Errno::ISDIR | Errno::NXIO => Self::NotAFile,
            other => Self::Io(other.into()),
        }
    }
}

impl OpenImage {
    pub(super) fn open(directory: &OwnedFd, name: &str, access: Access, file_system: &str) -> Result<Self, OpenError> {
        let descriptor = open_regular(directory, name, access)?;
        let identity = identity(&descriptor, file_system).map_err(OpenError::Io)?;
        let file = Arc::new(BlockingFile::new(File::from(descriptor)).map_err(OpenError::Io)?);
        Ok(Self { file, identity })
    }

    /// Size and both times besides the identity. The time of last write can be set back by whoever wrote (`cp -p`, `rsync
    /// -t`); the time of last change cannot. It also moves when only a mode, an owner or a link changes: such a false alarm
    /// stops a run and costs a new one, while a miss would publish bytes that never were the source's.
    pub(super) fn seal(&self) -> io::Result<SealedIdentity> {
        let now = rustix::fs::statx(&*self.file, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)?;
        let seal = Seal {
            identity: &self.identity,
            size_bytes: now.stx_size,
            written: time(&now.stx_mtime),
            changed: time(&now.stx_ctime),
        };
        Ok(SealedIdentity { uid: seal.uid(), size_bytes: self.file.size_bytes() })
    }
}

fn time(time: &StatxTimestamp) -> (i64, u32) {
    (time.tv_sec, time.tv_nsec)
}

impl OpenImage {
    /// Looks at the open file itself, not at the name.
    pub(super) fn check_seal(&self, volume: &VolumeAddress, uid: &str) -> Result<(), StorageError> {
        let found = self.seal().map_err(StorageError::io("look at", volume))?.uid;
        if found == uid { Ok(()) } else { Err(StorageError::changed(volume, uid, &found)) }
    }
}

/// Opens a regular file of the directory itself; a link, or anything else under that name, is refused and has no effect.
fn open_regular(directory: &OwnedFd, name: &str, access: Access) -> Result<OwnedFd, OpenError> {
    let mode = match access {
        Access::Read => OFlags::RDONLY,
        Access::ReadWrite => OFlags::RDWR,
    };
    // O_NONBLOCK: a pipe under that name must not make the opening wait. On a regular file it means nothing.
    let flags = mode | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let open = |flags| rustix::fs::openat(directory, name, flags, Mode::empty());
    let descriptor = match open(flags | OFlags::DIRECT) {
        Err(Errno::INVAL) => open(flags)?,
        result => result?,
    };
    if is_regular(&rustix::fs::fstat(&descriptor)?) { Ok(descriptor) } else { Err(OpenError::NotAFile) }
}

pub(super) fn is_regular(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode).is_file()
}

/// File system, inode, and time of birth: an inode number is given again after a file is deleted, with another birth.
pub(crate) fn identity(file: impl AsFd, file_system: &str) -> io::Result<String> {
    let stat = rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS | StatxFlags::BTIME)?;
    Ok(format!("{file_system}/{}{}", stat.stx_ino, birth(&stat)))
}

fn birth(stat: &Statx) -> String {
    let has_birth = stat.stx_mask & StatxFlags::BTIME.bits() != 0;
    if has_birth { format!("@{}.{:09}", stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec) } else { String::new() }
}

/// The names of the regular files in a directory. Names that are not text cannot be addressed and are left out.
pub(super) fn regular_files(directory: &OwnedFd) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let Ok(name) = entry?.file_name().to_owned().into_string() else { continue };
        match rustix::fs::statat(directory, name.as_str(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if is_regular(&stat) => names.push(name),
            Ok(_) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(names)
}
