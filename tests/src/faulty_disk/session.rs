//! The kernel's orders to a faulty disk: each is handed to it, now or later, and its answer given back.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, Filesystem, FopenFlags, Generation, INodeNo, InitFlags, KernelConfig,
    LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry,
    ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use rustix::fs::{AtFlags, FallocateFlags, OFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};

use super::disk::{Change, Disk, Maker};
use super::tree::Name;

/// The kernel asks each time.
const ASK_AGAIN: Duration = Duration::ZERO;
/// Numbers of files are not given again while they are known: see `tree`.
const ONLY: Generation = Generation(0);
const NO_HANDLE: FileHandle = FileHandle(0);
const LONGEST_WRITE: u32 = 1 << 20;
/// The kernel puts off what is more than that; a slow disk has many.
const MOST_AT_ONCE: u16 = 1024;
/// As lseek(2) has them.
const SEEK_DATA: i32 = 3;
const SEEK_HOLE: i32 = 4;

/// Past the page cache, and with no word at a close: a process that ends must not have to wait for itself.
const HOW_OPENED: FopenFlags =
    FopenFlags::FOPEN_DIRECT_IO.union(FopenFlags::FOPEN_NOFLUSH).union(FopenFlags::FOPEN_PARALLEL_DIRECT_WRITES);

/// Takes the orders of one mount.
#[derive(Debug)]
pub(super) struct Orders {
    disk: Arc<Disk>,
    /// What the readers of folders go through, by their handles.
    listings: Arc<Listings>,
}

#[derive(Debug, Default)]
struct Listings {
    names: Mutex<HashMap<u64, Vec<Name>>>,
    next: AtomicU64,
}

impl Listings {
    fn names(&self) -> MutexGuard<'_, HashMap<u64, Vec<Name>>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Orders {
    pub(super) fn to(disk: &Arc<Disk>) -> Self {
        Self { disk: Arc::clone(disk), listings: Arc::default() }
    }

    /// Something that is made and has a name from then on.
    fn make(&self, reply: ReplyEntry, work: impl FnOnce(&Disk) -> io::Result<FileAttr> + Send + 'static) {
        self.disk.act(move |disk| entry(reply, work(disk)));
    }

    /// Something that is done, and has no answer but that it is.
    fn done(&self, reply: ReplyEmpty, work: impl FnOnce(&Disk) -> io::Result<()> + Send + 'static) {
        self.disk.act(move |disk| match work(disk) {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(error.into()),
        });
    }
}

fn entry(reply: ReplyEntry, result: io::Result<FileAttr>) {
    match result {
        Ok(attributes) => reply.entry(&ASK_AGAIN, &attributes, ONLY),
        Err(error) => reply.error(error.into()),
    }
}

fn attributes(reply: ReplyAttr, result: io::Result<FileAttr>) {
    match result {
        Ok(attributes) => reply.attr(&ASK_AGAIN, &attributes),
        Err(error) => reply.error(error.into()),
    }
}

fn maker(request: &Request, mode: u32) -> Maker {
    Maker { mode, user: request.uid(), group: request.gid() }
}

fn open_flags(flags: i32) -> OFlags {
    OFlags::from_bits_retain(u32::from_ne_bytes(flags.to_ne_bytes()))
}

fn timestamps(accessed: Option<TimeOrNow>, written: Option<TimeOrNow>) -> Option<Timestamps> {
    let any = accessed.is_some() || written.is_some();
    any.then(|| Timestamps { last_access: timespec(accessed), last_modification: timespec(written) })
}

fn timespec(time: Option<TimeOrNow>) -> Timespec {
    match time {
        None => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        Some(TimeOrNow::Now) => Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
        Some(TimeOrNow::SpecificTime(time)) => since_epoch(time),
    }
}

fn since_epoch(time: SystemTime) -> Timespec {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Timespec { tv_sec: i64::try_from(since.as_secs()).unwrap_or(i64::MAX), tv_nsec: i64::from(since.subsec_nanos()) }
}

impl Filesystem for Orders {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let needed = InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP | InitFlags::FUSE_ASYNC_DIO | InitFlags::FUSE_PARALLEL_DIROPS;
        let missing = |_| io::Error::other("this kernel does not map files that are read directly: Linux 6.6 does");
        config.add_capabilities(needed).map_err(missing)?;
        config.set_max_write(LONGEST_WRITE).map_err(|most| io::Error::other(format!("at most {most} bytes")))?;
        config.set_max_background(MOST_AT_ONCE).map_err(|least| io::Error::other(format!("at least {least}")))?;
        Ok(())
    }

    fn destroy(&mut self) {
        self.disk.store_all();
        self.disk.end();
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        entry(reply, self.disk.look_up(parent.0, name));
    }

    fn forget(&self, _: &Request, number: INodeNo, lookups: u64) {
        self.disk.forget(number.0, lookups);
    }

    fn getattr(&self, _: &Request, number: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        attributes(reply, self.disk.attributes(number.0));
    }

    fn setattr(
        &self,
        _: &Request,
        number: INodeNo,
        mode: Option<u32>,
        user: Option<u32>,
        group: Option<u32>,
        size: Option<u64>,
        accessed: Option<TimeOrNow>,
        written: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let change = Change { mode, user, group, size, times: timestamps(accessed, written) };
        self.disk.act(move |disk| attributes(reply, disk.change(number.0, change)));
    }

    fn readlink(&self, _: &Request, number: INodeNo, reply: ReplyData) {
        self.disk.act(move |disk| match disk.link_target(number.0) {
            Ok(target) => reply.data(&target),
            Err(error) => reply.error(error.into()),
        });
    }

    fn mkdir(&self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, _: u32, reply: ReplyEntry) {
        let (name, maker) = (name.to_owned(), maker(request, mode));
        self.make(reply, move |disk| disk.make_folder(parent.0, &name, maker));
    }

    fn symlink(&self, _: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let (name, target) = (name.to_owned(), target.to_owned());
        self.make(reply, move |disk| disk.make_symlink(parent.0, &name, &target));
    }

    fn link(&self, _: &Request, number: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let name = name.to_owned();
        self.make(reply, move |disk| disk.link(number.0, parent.0, &name));
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let name = name.to_owned();
        self.done(reply, move |disk| disk.remove(parent.0, &name, AtFlags::empty()));
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let name = name.to_owned();
        self.done(reply, move |disk| disk.remove(parent.0, &name, AtFlags::REMOVEDIR));
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let (name, new_name) = (name.to_owned(), new_name.to_owned());
        self.done(reply, move |disk| disk.rename((parent.0, &name), (new_parent.0, &new_name), flags.bits()));
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(NO_HANDLE, HOW_OPENED);
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let (name, maker) = (name.to_owned(), maker(request, mode));
        let exclusive = open_flags(flags).contains(OFlags::EXCL);
        self.disk.act(move |disk| match disk.create(parent.0, &name, maker, exclusive) {
            Ok(attributes) => reply.created(&ASK_AGAIN, &attributes, ONLY, NO_HANDLE, HOW_OPENED),
            Err(error) => reply.error(error.into()),
        });
    }

    fn read(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        flags: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let length = usize::try_from(size).unwrap_or(0);
        self.disk.act(move |disk| match disk.read(number.0, offset, length, open_flags(flags.0)) {
            Ok(bytes) => reply.data(&bytes),
            Err(error) => reply.error(error.into()),
        });
    }

    fn write(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        flags: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let data = data.to_vec();
        self.disk.act(move |disk| match disk.write(number.0, offset, &data, open_flags(flags.0)) {
            Ok(()) => reply.written(u32::try_from(data.len()).unwrap_or(0)),
            Err(error) => reply.error(error.into()),
        });
    }

    fn fsync(&self, _: &Request, number: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.done(reply, move |disk| disk.sync(number.0));
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.done(reply, |_| Ok(()));
    }

    fn opendir(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(self.listings.next.fetch_add(1, Ordering::Relaxed)), FopenFlags::empty());
    }

    /// A reader that begins anew sees the folder anew.
    fn readdir(&self, _: &Request, number: INodeNo, handle: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let listings = Arc::clone(&self.listings);
        self.disk.act(move |disk| {
            if offset == 0 {
                match disk.names(number.0) {
                    Ok(names) => listings.names().insert(handle.0, names),
                    Err(error) => return reply.error(error.into()),
                };
            }
            let names = listings.names();
            let (names, begun) = (names.get(&handle.0).map_or(&[][..], Vec::as_slice), usize::try_from(offset));
            for (place, name) in names.iter().enumerate().skip(begun.unwrap_or(usize::MAX)) {
                if reply.add(INodeNo(name.number), place as u64 + 1, name.kind, &name.name) {
                    break;
                }
            }
            reply.ok();
        });
    }

    fn releasedir(&self, _: &Request, _: INodeNo, handle: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        self.listings.names().remove(&handle.0);
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        match self.disk.space() {
            Ok(found) => {
                let [block, fragment, name] = [found.f_bsize, found.f_frsize, found.f_namemax]
                    .map(|number| u32::try_from(number).unwrap_or(u32::MAX));
                let (blocks, free, available) = (found.f_blocks, found.f_bfree, found.f_bavail);
                reply.statfs(blocks, free, available, found.f_files, found.f_ffree, block, name, fragment);
            }
            Err(error) => reply.error(error.into()),
        }
    }

    fn fallocate(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let flags = FallocateFlags::from_bits_retain(u32::from_ne_bytes(mode.to_ne_bytes()));
        self.done(reply, move |disk| disk.allocate(number.0, offset, length, flags));
    }

    fn lseek(&self, _: &Request, number: INodeNo, _: FileHandle, offset: i64, whence: i32, reply: ReplyLseek) {
        let (Ok(from), SEEK_DATA | SEEK_HOLE) = (u64::try_from(offset), whence) else {
            return reply.error(Errno::EINVAL);
        };
        self.disk.act(move |disk| match disk.seek(number.0, from, whence == SEEK_DATA) {
            Ok(found) => reply.offset(i64::try_from(found).unwrap_or(i64::MAX)),
            Err(error) => reply.error(error.into()),
        });
    }
}
