//! What the faulty disk does with an order, or why it does not: the faults are here, and nothing of FUSE.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use fuser::FileAttr;
use rustix::fs::{AtFlags, FallocateFlags, Mode, OFlags, RenameFlags, StatVfs, Timestamps, openat};
use rustix::io::Errno;

use super::DiskFault;
use super::content::Content;
use super::delay::Delays;
use super::tree::{Name, Tree};

/// Direct transfers go by sectors.
const SECTOR: u64 = 512;

/// Who makes something, and with which permissions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Maker {
    pub(super) mode: u32,
    pub(super) user: u32,
    pub(super) group: u32,
}

/// What is to become of a file's attributes.
#[derive(Clone, Debug, Default)]
pub(super) struct Change {
    pub(super) mode: Option<u32>,
    pub(super) user: Option<u32>,
    pub(super) group: Option<u32>,
    pub(super) size: Option<u64>,
    pub(super) times: Option<Timestamps>,
}

#[derive(Debug)]
pub(super) struct Disk {
    tree: Tree,
    fault: Mutex<DiskFault>,
    delays: Delays,
}

impl Disk {
    pub(super) fn at(backing: &Path) -> io::Result<Self> {
        Ok(Self { tree: Tree::at(backing)?, fault: Mutex::new(DiskFault::Sound), delays: Delays::start()? })
    }

    /// What waits, because the disk was slow, waits no longer.
    pub(super) fn set(&self, fault: DiskFault) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
        if !matches!(fault, DiskFault::Slow(_)) {
            self.delays.hurry();
        }
    }

    fn fault(&self) -> DiskFault {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does it now, or when a slow disk comes to it.
    pub(super) fn act(self: &Arc<Self>, work: impl FnOnce(&Self) + Send + 'static) {
        match self.fault() {
            DiskFault::Slow(delay) => {
                let disk = Arc::clone(self);
                self.delays.later(delay, move || work(&disk));
            }
            _ => work(self),
        }
    }

    /// There will be no more orders.
    pub(super) fn end(&self) {
        self.delays.end();
    }

    /// Everything is stored. What cannot be, is not: whoever has not synced it was promised nothing.
    pub(super) fn store_all(&self) {
        for node in self.tree.all() {
            let _ = node.state().content.as_mut().map(Content::flush);
        }
    }

    pub(super) fn look_up(&self, parent: u64, name: &OsStr) -> io::Result<FileAttr> {
        self.tree.look_up(&*self.tree.node(parent)?, name)
    }

    pub(super) fn forget(&self, number: u64, lookups: u64) {
        self.tree.forget(number, lookups);
    }

    pub(super) fn attributes(&self, number: u64) -> io::Result<FileAttr> {
        self.tree.node(number)?.attributes(self.tree.root)
    }

    pub(super) fn names(&self, number: u64) -> io::Result<Vec<Name>> {
        self.may_read()?;
        self.tree.names(&*self.tree.node(number)?)
    }

    /// The numbers that statfs(2) shows.
    pub(super) fn space(&self) -> io::Result<StatVfs> {
        let mut space = rustix::fs::fstatvfs(&self.tree.node(fuser::INodeNo::ROOT.0)?.place)?;
        if self.fault() == DiskFault::Full {
            (space.f_bfree, space.f_bavail) = (0, 0);
        }
        Ok(space)
    }

    pub(super) fn link_target(&self, number: u64) -> io::Result<Vec<u8>> {
        self.may_read()?;
        let node = self.tree.node(number)?;
        Ok(rustix::fs::readlinkat(&node.place, "", Vec::new())?.into_bytes())
    }

    fn may_read(&self) -> Result<(), Errno> {
        if self.fault() == DiskFault::ReadErrors { Err(Errno::IO) } else { Ok(()) }
    }

    fn may_change(&self) -> Result<(), Errno> {
        if self.fault() == DiskFault::WriteErrors { Err(Errno::IO) } else { Ok(()) }
    }

    fn may_create(&self) -> Result<(), Errno> {
        if self.fault() == DiskFault::Full { Err(Errno::NOSPC) } else { self.may_change() }
    }

    /// An empty file.
    pub(super) fn create(&self, parent: u64, name: &OsStr, maker: Maker, exclusive: bool) -> io::Result<FileAttr> {
        self.may_create()?;
        let folder = self.tree.node(parent)?;
        let exclusive = if exclusive { OFlags::EXCL } else { OFlags::empty() };
        let flags = OFlags::CREATE | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC | exclusive;
        let file = File::from(openat(&folder.place, name, flags, Mode::RUSR | Mode::WUSR)?);
        rustix::fs::fchown(&file, Some(user(maker.user)), Some(group(maker.group)))?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(maker.mode & 0o7777))?;
        self.tree.look_up(&folder, name)
    }

    pub(super) fn make_folder(&self, parent: u64, name: &OsStr, maker: Maker) -> io::Result<FileAttr> {
        self.may_create()?;
        let folder = self.tree.node(parent)?;
        rustix::fs::mkdirat(&folder.place, name, Mode::RWXU)?;
        let (user, group) = (Some(user(maker.user)), Some(group(maker.group)));
        rustix::fs::chownat(&folder.place, name, user, group, AtFlags::SYMLINK_NOFOLLOW)?;
        rustix::fs::chmodat(&folder.place, name, Mode::from_raw_mode(maker.mode & 0o7777), AtFlags::empty())?;
        self.tree.look_up(&folder, name)
    }

    pub(super) fn make_symlink(&self, parent: u64, name: &OsStr, target: &Path) -> io::Result<FileAttr> {
        self.may_create()?;
        let folder = self.tree.node(parent)?;
        rustix::fs::symlinkat(target, &folder.place, name)?;
        self.tree.look_up(&folder, name)
    }

    pub(super) fn link(&self, number: u64, parent: u64, name: &OsStr) -> io::Result<FileAttr> {
        self.may_create()?;
        let (node, folder) = (self.tree.node(number)?, self.tree.node(parent)?);
        rustix::fs::linkat(&node.place, "", &folder.place, name, AtFlags::EMPTY_PATH)?;
        node.take_times()?;
        self.tree.look_up(&folder, name)
    }

    pub(super) fn remove(&self, parent: u64, name: &OsStr, what: AtFlags) -> io::Result<()> {
        self.may_change()?;
        Ok(rustix::fs::unlinkat(&self.tree.node(parent)?.place, name, what)?)
    }

    pub(super) fn rename(&self, from: (u64, &OsStr), to: (u64, &OsStr), flags: u32) -> io::Result<()> {
        self.may_change()?;
        let (old, new) = (self.tree.node(from.0)?, self.tree.node(to.0)?);
        let flags = RenameFlags::from_bits(flags).ok_or(Errno::INVAL)?;
        Ok(rustix::fs::renameat_with(&old.place, from.1, &new.place, to.1, flags)?)
    }

    pub(super) fn change(&self, number: u64, change: Change) -> io::Result<FileAttr> {
        self.may_change()?;
        let node = self.tree.node(number)?;
        if change.user.is_some() || change.group.is_some() {
            let (user, group) = (change.user.map(user), change.group.map(group));
            rustix::fs::chownat(&node.place, "", user, group, AtFlags::EMPTY_PATH)?;
        }
        if let Some(mode) = change.mode {
            rustix::fs::chmod(node.path(), Mode::from_raw_mode(mode & 0o7777))?;
        }
        if let Some(size) = change.size {
            node.with_content(|_, content| content.resize(size))?;
        }
        if let Some(times) = change.times {
            rustix::fs::utimensat(rustix::fs::CWD, node.path(), &times, AtFlags::empty())?;
        }
        node.take_times()?;
        node.attributes(self.tree.root)
    }

    pub(super) fn read(&self, number: u64, offset: u64, length: usize, flags: OFlags) -> io::Result<Vec<u8>> {
        self.may_read()?;
        fits_sectors(offset, length as u64, flags)?;
        self.tree.node(number)?.with_content(|_, content| content.read(offset, length))
    }

    pub(super) fn write(&self, number: u64, offset: u64, bytes: &[u8], flags: OFlags) -> io::Result<()> {
        self.may_change()?;
        let length = bytes.len() as u64;
        fits_sectors(offset, length, flags)?;
        let is_full = self.fault() == DiskFault::Full;
        self.tree.node(number)?.with_content(|state, content| {
            if is_full && content.needs_space(offset, length)? {
                return Err(Errno::NOSPC.into());
            }
            let now = SystemTime::now();
            state.times = Some((now, now));
            content.write(offset, bytes)
        })
    }

    pub(super) fn allocate(&self, number: u64, offset: u64, length: u64, flags: FallocateFlags) -> io::Result<()> {
        self.may_change()?;
        let frees = flags.intersects(FallocateFlags::PUNCH_HOLE | FallocateFlags::ZERO_RANGE);
        if !(flags - FallocateFlags::KEEP_SIZE - FallocateFlags::PUNCH_HOLE - FallocateFlags::ZERO_RANGE).is_empty() {
            return Err(Errno::OPNOTSUPP.into());
        }
        if !frees && self.fault() == DiskFault::Full {
            return Err(Errno::NOSPC.into());
        }
        self.tree.node(number)?.with_content(|state, content| {
            let now = SystemTime::now();
            state.times = Some((now, now));
            if !frees {
                return content.allocate(offset, length, flags);
            }
            let end = offset.checked_add(length).ok_or(Errno::FBIG)?;
            if !flags.contains(FallocateFlags::KEEP_SIZE) && end > content.size()? {
                content.resize(end)?;
            }
            content.punch(offset, length)
        })
    }

    pub(super) fn seek(&self, number: u64, from: u64, wants_data: bool) -> io::Result<u64> {
        self.may_read()?;
        self.tree.node(number)?.with_content(|_, content| content.seek(from, wants_data))
    }

    /// One that fails says so once: the next finds nothing that it could fail with. Who takes that for success has lost data.
    pub(super) fn sync(&self, number: u64) -> io::Result<()> {
        let fault = self.fault();
        let node = self.tree.node(number)?;
        let mut state = node.state();
        let Some(content) = state.content.as_mut().filter(|content| content.is_unflushed()) else { return Ok(()) };
        match fault {
            DiskFault::FailedSync => {
                content.lose();
                Err(Errno::IO.into())
            }
            DiskFault::WriteErrors => Err(Errno::IO.into()),
            _ => content.flush(),
        }
    }
}

/// As a disk with sectors of 512 bytes has it; the kernel does not ask it of FUSE.
fn fits_sectors(offset: u64, length: u64, flags: OFlags) -> Result<(), Errno> {
    let fits = offset.is_multiple_of(SECTOR) && length.is_multiple_of(SECTOR);
    if flags.contains(OFlags::DIRECT) && !fits { Err(Errno::INVAL) } else { Ok(()) }
}

fn user(number: u32) -> rustix::fs::Uid {
    rustix::fs::Uid::from_raw(number)
}

fn group(number: u32) -> rustix::fs::Gid {
    rustix::fs::Gid::from_raw(number)
}
