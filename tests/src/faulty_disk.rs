//! A disk that can be told to fail: a file system in user space (FUSE) over a folder. What is done to it is done to the folder, unless it is
//! told to refuse, to be slow, or to lose what it was not asked to store. A loop device over one of its files is a block device with
//! the same faults. It needs root, `/dev/fuse` and Linux 6.6, and no library and no program.
//!
//! It is like a disk in what matters here: no page cache in front of it, so that each read and write meets the fault; direct I/O in whole
//! sectors; locks that the kernel keeps; no reflinks; and a volatile cache, which a sync writes back. A size, a name and a mode hold at
//! once, as a journal has them. The backing folder shows what is stored, and no more.

mod content;
mod delay;
mod disk;
mod session;
mod tree;

use std::ffi::CString;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use fuser::{BackgroundSession, Config, SessionACL};
use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, UnmountFlags};

use disk::Disk;
use session::Orders;

/// Mounts of these tests are known by this, and by the process that answers for them.
const PREFIX: &str = "faulty-disk-";
/// Orders at once, without those that a slow disk has put off.
const THREADS: usize = 4;

/// How a disk is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiskFault {
    /// As it should be.
    Sound,
    /// What is read cannot be: EIO.
    ReadErrors,
    /// What is written cannot be, nor made, renamed or removed: EIO. What was written before is kept, and not stored.
    WriteErrors,
    /// No space for what has none yet: ENOSPC. What is there can be overwritten.
    Full,
    /// Each order waits so long, by itself. It ends with the next fault, and then nothing waits any more. A process that is killed
    /// meanwhile is not gone before its order is answered, and holds its locks so long, as with a disk that hangs.
    Slow(Duration),
    /// What was written since the last sync is lost at the next, which fails with EIO and says so once; reads show the old contents.
    FailedSync,
}

/// A mounted disk. It is unmounted when this is dropped; a process that still uses it has it until it ends, sound.
#[derive(Debug)]
pub struct FaultyDisk {
    pub path: PathBuf,
    disk: Arc<Disk>,
    _session: BackgroundSession,
}

impl FaultyDisk {
    /// One for a test, or the reason why there is none is printed, for the test that goes without.
    #[must_use]
    pub fn or_skip(test: &str, mountpoint: &Path, backing: &Path) -> Option<Self> {
        match Self::mount(mountpoint, backing) {
            Ok(disk) => Some(disk),
            Err(reason) => {
                println!("{test} is skipped: {reason}");
                None
            }
        }
    }

    /// Mounts `backing` at `mountpoint`. Both are made if they are not there.
    ///
    /// # Errors
    /// Why it cannot be had, in words.
    pub fn mount(mountpoint: &Path, backing: &Path) -> Result<Self, String> {
        static NEXT: AtomicU16 = AtomicU16::new(1);
        if !rustix::process::geteuid().is_root() {
            return Err("mounting needs root".to_owned());
        }
        forget_the_dead();
        let failed = |what: &'static str| move |error: std::io::Error| format!("{what}: {error}");
        std::fs::create_dir_all(mountpoint).map_err(failed("the mount point"))?;
        std::fs::create_dir_all(backing).map_err(failed("the backing folder"))?;
        let disk = Arc::new(Disk::at(backing).map_err(failed("the backing folder"))?);
        let device = rustix::fs::open("/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
        let device = device.map_err(|error| format!("/dev/fuse: {error}"))?;
        let number = device.as_raw_fd();
        let options = format!("fd={number},rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other");
        let options = CString::new(options).map_err(|error| error.to_string())?;
        // A storage that several hosts name by its source: no two disks may have one name.
        let source = format!("{PREFIX}{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOATIME;
        rustix::mount::mount(source, mountpoint, "fuse", flags, &*options)
            .map_err(|error| format!("mount: {error}"))?;
        let mounted = Unmount(mountpoint);
        let mut config = Config::default();
        config.n_threads = Some(THREADS);
        let session = fuser::Session::from_fd(Orders::to(&disk), device, SessionACL::All, config);
        let session = session.and_then(fuser::Session::spawn).map_err(failed("FUSE"))?;
        std::mem::forget(mounted);
        Ok(Self { path: mountpoint.to_owned(), disk, _session: session })
    }

    /// The disk is so from now on.
    pub fn set(&self, fault: DiskFault) {
        self.disk.set(fault);
    }
}

impl Drop for FaultyDisk {
    fn drop(&mut self) {
        self.disk.set(DiskFault::Sound);
        self.disk.store_all();
        drop(Unmount(&self.path));
    }
}

/// Takes a mount out of the tree of directories, also while it is in use.
struct Unmount<'a>(&'a Path);

impl Drop for Unmount<'_> {
    fn drop(&mut self) {
        if let Err(error) = rustix::mount::unmount(self.0, UnmountFlags::DETACH) {
            println!("cannot unmount {}: {error}", self.0.display());
        }
    }
}

/// Mounts of tests that were killed: nobody answers for them, and nobody can remove their folders.
fn forget_the_dead() {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    for (process, place) in table.lines().filter_map(mount_in) {
        if !Path::new("/proc").join(process).exists() {
            drop(Unmount(Path::new(place)));
        }
    }
}

/// The process and the place of a faulty disk in a line of the mount table: `ID PARENT DEVICE ROOT PLACE OPTIONS... - TYPE SOURCE OPTIONS`.
fn mount_in(line: &str) -> Option<(&str, &str)> {
    let (left, right) = line.split_once(" - fuse ")?;
    let (process, _) = right.strip_prefix(PREFIX)?.split_once('-')?;
    left.split(' ').nth(4).map(|place| (process, place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_of_ours_is_known_in_the_mount_table() {
        let ours = "36 35 0:52 / /target/tmp/faulty-1/mount rw,nosuid shared:1 - fuse faulty-disk-4711-3 rw,user_id=0";
        assert_eq!(mount_in(ours), Some(("4711", "/target/tmp/faulty-1/mount")));
        assert_eq!(mount_in("36 35 0:52 / /mnt rw - fuse sshfs rw"), None);
        assert_eq!(mount_in("36 35 8:1 / / rw - ext4 faulty-disk-4711-3 rw"), None);
    }
}
