//! A file that has its name only when it is whole: until then it is `NAME.partial`, and goes with whoever gives it up.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use tanist_datapath::BlockDevice;
use tanist_datapath::io::blocking::BlockingFile;

use super::ExportError;

const BLOCK_OF_STAT: u64 = 512;

/// An export in the making. Dropped without [`keep`](Self::keep), it is removed.
pub(super) struct PartialFile {
    file: File,
    path: PathBuf,
    name: PathBuf,
    replace: bool,
    kept: bool,
}

impl PartialFile {
    /// An empty file of that size beside the name, for this process alone.
    pub(super) fn make(name: &Path, replace: bool, size_bytes: u64) -> Result<Self, ExportError> {
        let no_name = || ExportError::NoName(name.to_owned());
        let mut partial = name.file_name().ok_or_else(no_name)?.to_owned();
        if name.is_dir() {
            return Err(no_name());
        }
        // Looked at again when it is named; said now, before hours of reading.
        if !replace && name.symlink_metadata().is_ok() {
            return Err(ExportError::Exists(name.to_owned()));
        }
        partial.push(".partial");
        let path = name.with_file_name(partial);
        let file = open_locked(&path)?;
        let made = Self { file, path, name: name.to_owned(), replace, kept: false };
        // What an export that was killed has left is of no use: nothing says how much of it is whole.
        let emptied = made.file.set_len(0).and_then(|()| made.file.set_len(size_bytes));
        emptied.map_err(failed("make", &made.path))?;
        Ok(made)
    }

    /// For direct I/O where the file system takes that.
    pub(super) fn device(&self) -> Result<Arc<dyn BlockDevice>, ExportError> {
        let opened = self.file.try_clone().and_then(BlockingFile::new);
        Ok(Arc::new(opened.map_err(failed("open", &self.path))?))
    }

    /// Makes it durable and gives it its name; how much it takes on its storage, bytes.
    pub(super) fn keep(mut self) -> Result<u64, ExportError> {
        let parent = match self.name.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let folder = File::open(parent).map_err(failed("open", parent))?;
        self.file.sync_all().map_err(failed("flush", &self.path))?;
        let stored = self.file.metadata().map_err(failed("look at", &self.path))?.blocks() * BLOCK_OF_STAT;
        self.give_name().map_err(|cause| match cause {
            Errno::EXIST => ExportError::Exists(self.name.clone()),
            cause => failed("name", &self.name)(cause.into()),
        })?;
        self.kept = true;
        folder.sync_all().map_err(failed("flush", parent))?;
        Ok(stored)
    }

    fn give_name(&self) -> Result<(), Errno> {
        if self.replace {
            return rustix::fs::rename(&self.path, &self.name);
        }
        let cwd = rustix::fs::CWD;
        match rustix::fs::renameat_with(cwd, &self.path, cwd, &self.name, RenameFlags::NOREPLACE) {
            // Of a file system that cannot do it in one step: a link refuses what exists as well.
            Err(Errno::INVAL | Errno::NOSYS) => {
                rustix::fs::link(&self.path, &self.name)?;
                rustix::fs::unlink(&self.path)
            }
            renamed => renamed,
        }
    }
}

impl Drop for PartialFile {
    fn drop(&mut self) {
        if !self.kept {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Opens it for this process alone. Whoever held it until now may have given it its name: then the path is another file's, or nobody's.
fn open_locked(path: &Path) -> Result<File, ExportError> {
    loop {
        let file = open(path).map_err(|cause| failed("make", path)(cause.into()))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => return Err(ExportError::Busy(path.to_owned())),
            locked => locked.map_err(|cause| failed("lock", path)(cause.into()))?,
        }
        let held = file.metadata().map_err(failed("look at", path))?;
        if !held.is_file() {
            return Err(ExportError::NoName(path.to_owned()));
        }
        if path.symlink_metadata().is_ok_and(|there| (there.dev(), there.ino()) == (held.dev(), held.ino())) {
            return Ok(file);
        }
    }
}

/// Only its owner may read what it holds: the volume's permissions are not known here.
fn open(path: &Path) -> Result<File, Errno> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let open = |flags| rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR);
    match open(flags | OFlags::DIRECT) {
        Err(Errno::INVAL) => open(flags).map(File::from),
        opened => opened.map(File::from),
    }
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ExportError {
    let path = path.to_owned();
    move |cause| ExportError::File { doing, path, cause }
}
