//! The files of a faulty disk by their inode numbers, which are those of the backing folder. Each is held by a descriptor, so that renames and
//! removals need nothing, and a number is not given again while somebody may still name it.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{FileAttr, FileType, INodeNo};
use rustix::fs::{AtFlags, Mode, OFlags, openat};
use rustix::io::Errno;

use super::content::Content;

/// A file, a folder, or anything else with a name.
#[derive(Debug)]
pub(super) struct Node {
    /// Open as a place only, which anything can be.
    pub(super) place: File,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// Once somebody has opened the file.
    pub(super) content: Option<Content>,
    /// The times of last write and last change, where the backing file does not have them yet.
    pub(super) times: Option<(SystemTime, SystemTime)>,
}

impl Node {
    fn new(place: OwnedFd) -> Self {
        Self { place: File::from(place), state: Mutex::default() }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A path that leads to it whatever its name is.
    pub(super) fn path(&self) -> String {
        format!("/proc/self/fd/{}", self.place.as_raw_fd())
    }

    /// The number under which the kernel asks for it.
    fn number(&self, root: u64) -> io::Result<u64> {
        let number = self.place.metadata()?.ino();
        Ok(if number == root { INodeNo::ROOT.0 } else { number })
    }

    /// Does something with what the file holds.
    pub(super) fn with_content<T>(
        &self,
        work: impl FnOnce(&mut State, &mut Content) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut state = self.state();
        let mut content = match state.content.take() {
            Some(content) => content,
            None => Content::of(File::options().read(true).write(true).open(self.path())?),
        };
        let result = work(&mut state, &mut content);
        state.content = Some(content);
        result
    }

    /// The times after a change that the backing file has seen, and of which it has its own opinion.
    pub(super) fn take_times(&self) -> io::Result<()> {
        let mut state = self.state();
        if state.times.is_some() {
            let found = self.place.metadata()?;
            state.times = Some((found.modified()?, changed(&found)));
        }
        Ok(())
    }

    pub(super) fn attributes(&self, root: u64) -> io::Result<FileAttr> {
        let (found, state) = (self.place.metadata()?, self.state());
        let (size, unflushed) = match &state.content {
            Some(content) => (content.size()?, content.unflushed_bytes()),
            None => (found.len(), 0),
        };
        let (written, changed) = state.times.unwrap_or((found.modified()?, changed(&found)));
        Ok(FileAttr {
            ino: INodeNo(self.number(root)?),
            size,
            blocks: found.blocks() + unflushed / 512,
            atime: found.accessed()?,
            mtime: written,
            ctime: changed,
            crtime: UNIX_EPOCH,
            kind: FileType::from_std(found.file_type()).ok_or(Errno::IO)?,
            perm: u16::try_from(found.mode() & 0o7777).unwrap_or(0),
            nlink: u32::try_from(found.nlink()).unwrap_or(u32::MAX),
            uid: found.uid(),
            gid: found.gid(),
            rdev: u32::try_from(found.rdev()).unwrap_or(0),
            blksize: u32::try_from(found.blksize()).unwrap_or(4096),
            flags: 0,
        })
    }
}

fn changed(found: &Metadata) -> SystemTime {
    let seconds = Duration::from_secs(u64::try_from(found.ctime()).unwrap_or(0));
    UNIX_EPOCH + seconds + Duration::from_nanos(u64::try_from(found.ctime_nsec()).unwrap_or(0))
}

/// A node, and how often the kernel was told of it.
#[derive(Debug)]
struct Known {
    node: Arc<Node>,
    lookups: u64,
}

#[derive(Debug)]
pub(super) struct Tree {
    known: Mutex<HashMap<u64, Known>>,
    /// The number of the backing folder.
    pub(super) root: u64,
}

impl Tree {
    pub(super) fn at(backing: &Path) -> io::Result<Self> {
        let place = rustix::fs::open(backing, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let node = Node::new(place);
        let root = node.place.metadata()?.ino();
        let known = HashMap::from([(INodeNo::ROOT.0, Known { node: Arc::new(node), lookups: 1 })]);
        Ok(Self { known: Mutex::new(known), root })
    }

    fn known(&self) -> MutexGuard<'_, HashMap<u64, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn node(&self, number: u64) -> Result<Arc<Node>, Errno> {
        self.known().get(&number).map(|known| Arc::clone(&known.node)).ok_or(Errno::STALE)
    }

    pub(super) fn all(&self) -> Vec<Arc<Node>> {
        self.known().values().map(|known| Arc::clone(&known.node)).collect()
    }

    /// What has this name. The kernel is told of it, and forgets it again some day.
    pub(super) fn look_up(&self, parent: &Node, name: &OsStr) -> io::Result<FileAttr> {
        let place = openat(&parent.place, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        let node = Node::new(place);
        let number = node.number(self.root)?;
        let mut known = self.known();
        let entry = known.entry(number).or_insert_with(|| Known { node: Arc::new(node), lookups: 0 });
        entry.lookups += 1;
        let node = Arc::clone(&entry.node);
        drop(known);
        node.attributes(self.root)
    }

    /// A node stays as long as it has a name, for its times; one that has none goes, and its number with it.
    pub(super) fn forget(&self, number: u64, lookups: u64) {
        let mut known = self.known();
        let Some(entry) = known.get_mut(&number) else { return };
        entry.lookups = entry.lookups.saturating_sub(lookups);
        let is_named = entry.node.place.metadata().is_ok_and(|found| found.nlink() > 0);
        let is_needed = entry.node.state().times.is_some() && is_named;
        if entry.lookups == 0 && number != INodeNo::ROOT.0 && !is_needed {
            known.remove(&number);
        }
    }

    /// The names in a folder with their numbers and kinds.
    pub(super) fn names(&self, folder: &Node) -> io::Result<Vec<Name>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = openat(&folder.place, ".", flags, Mode::empty())?;
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::new(open)? {
            let entry = entry?;
            let name = std::os::unix::ffi::OsStrExt::from_bytes(entry.file_name().to_bytes());
            let found = rustix::fs::statat(&folder.place, name, AtFlags::SYMLINK_NOFOLLOW);
            let Ok(found) = found else { continue };
            let kind = kind_of(rustix::fs::FileType::from_raw_mode(found.st_mode));
            names.push(Name { number: entry.ino(), kind, name: OsStr::to_owned(name) });
        }
        Ok(names)
    }
}

/// An entry of a folder.
#[derive(Clone, Debug)]
pub(super) struct Name {
    pub(super) number: u64,
    pub(super) kind: FileType,
    pub(super) name: std::ffi::OsString,
}

fn kind_of(kind: rustix::fs::FileType) -> FileType {
    match kind {
        rustix::fs::FileType::Directory => FileType::Directory,
        rustix::fs::FileType::Symlink => FileType::Symlink,
        rustix::fs::FileType::Fifo => FileType::NamedPipe,
        rustix::fs::FileType::Socket => FileType::Socket,
        rustix::fs::FileType::CharacterDevice => FileType::CharDevice,
        rustix::fs::FileType::BlockDevice => FileType::BlockDevice,
        _ => FileType::RegularFile,
    }
}
