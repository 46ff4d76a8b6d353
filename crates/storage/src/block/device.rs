//! A block device that is open: direct, in whole sectors, and exclusive on the very descriptor that does the I/O.
//!
//! The kernel grants O_EXCL on a block device to one open file description at a time, and to no mount, mapped device or swap
//! beside it; it takes the claim back when the last reference to that description is gone: ours, and those of requests still in
//! flight after a kill. It is claimed when the device is opened and cannot be added later. Who opened without it, while an earlier
//! holder was not yet gone, opens a second description with O_EXCL and moves over to it while none of its I/O is in flight: from
//! then on the claim lies on the descriptor that does the I/O, and nothing of this process is left on the other.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use rustix::fs::{FallocateFlags, FileType, Mode, OFlags, SeekFrom};
use rustix::io::Errno;
use tanist_datapath::BlockDevice;
use tanist_datapath::io::positional::{directly_movable, read_all, read_once, resized, shrunk, write_all};
use tanist_datapath::io::queue::IoQueue;
use tanist_datapath::io::uring::{DirectFile, queue_on};
use tanist_datapath::io::{check_range, check_whole_sectors};
use tanist_datapath::pool::{ALIGNMENT, AlignedBuffer};

use super::sysfs::DeviceNumber;
use crate::system::LockAttempt;

/// For what a device is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Access {
    Read,
    /// Exclusively if it can be had.
    ReadWrite,
}

/// An open device of the size it had when it was opened.
#[derive(Debug)]
pub(super) struct OpenDevice {
    /// Held for reading by every I/O, for writing while the description is exchanged.
    file: RwLock<File>,
    exclusive: AtomicBool,
    pub(super) number: DeviceNumber,
    size_bytes: u64,
    sector: usize,
    pub(super) physical_sector_bytes: u32,
}

impl OpenDevice {
    /// Opens what stands at the path; the caller looks at [`Self::number`] to see whether it is what was meant.
    pub(super) fn open(path: &Path, access: Access) -> io::Result<Self> {
        let (file, exclusive) = match access {
            Access::Read => (open(path, OFlags::RDONLY)?, false),
            Access::ReadWrite => match open(path, OFlags::RDWR | OFlags::EXCL) {
                Err(Errno::BUSY) => (open(path, OFlags::RDWR)?, false),
                opened => (opened?, true),
            },
        };
        let found = rustix::fs::fstat(&file)?;
        if !FileType::from_raw_mode(found.st_mode).is_block_device() {
            return Err(Errno::NOTBLK.into());
        }
        let sector = usize::try_from(rustix::fs::ioctl_blksszget(&file)?).unwrap_or(0);
        if !sector.is_power_of_two() || !(512..=ALIGNMENT).contains(&sector) {
            return Err(io::Error::new(io::ErrorKind::Unsupported, UnknownSector(sector)));
        }
        Ok(Self {
            exclusive: AtomicBool::new(exclusive),
            number: DeviceNumber(found.st_rdev),
            size_bytes: size_of(&file)?,
            sector,
            physical_sector_bytes: rustix::fs::ioctl_blkpbszget(&file)?,
            file: RwLock::new(file),
        })
    }

    fn file(&self) -> RwLockReadGuard<'_, File> {
        self.file.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Claims the device for the descriptor that does the I/O; see above. The second opening goes through the first one, so that
    /// it is the same device, whatever stands at its path by now.
    pub(super) fn try_exclusive(&self) -> io::Result<LockAttempt> {
        if self.exclusive.load(Ordering::Acquire) {
            return Ok(LockAttempt::Held);
        }
        let same = format!("/proc/self/fd/{}", self.file().as_raw_fd());
        let claimed = match open(Path::new(&same), OFlags::RDWR | OFlags::EXCL) {
            Err(Errno::BUSY) => return Ok(LockAttempt::HeldByAnother),
            opened => opened?,
        };
        // Waits until every call that is under way has returned, and with it its I/O.
        *self.file.write().unwrap_or_else(PoisonError::into_inner) = claimed;
        self.exclusive.store(true, Ordering::Release);
        Ok(LockAttempt::Held)
    }

    /// Writes what lies in the page cache, by whomever.
    pub(super) fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fdatasync(&*self.file())?)
    }

    /// Reads any range through an aligned buffer, whole sectors at a time.
    fn read_bounced(&self, file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let mut bounce = AlignedBuffer::new(ALIGNMENT);
        let step = ALIGNMENT as u64;
        let mut done = 0;
        while done < buffer.len() {
            let at = offset + done as u64;
            let start = at - at % step;
            let within = usize::try_from(at - start).unwrap_or(0);
            // The last stretch of a device with small sectors may be shorter than the buffer.
            let there = usize::try_from((self.size_bytes - start).min(step)).unwrap_or(ALIGNMENT);
            let wanted = (there - within).min(buffer.len() - done);
            let got = read_once(file, start, &mut bounce[..there])?;
            if got < within + wanted {
                return Err(shrunk(at));
            }
            buffer[done..done + wanted].copy_from_slice(&bounce[within..within + wanted]);
            done += wanted;
        }
        Ok(())
    }

    /// Writes bytes that do not lie aligned in memory.
    fn write_bounced(file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut bounce = AlignedBuffer::new(bytes.len());
        bounce.copy_from_slice(bytes);
        write_all(file, offset, &bounce)
    }

    fn check_write(&self, offset: u64, length: u64) -> io::Result<()> {
        check_range(self.size_bytes, offset, length)?;
        check_whole_sectors(self.sector_bytes(), offset, length)
    }
}

/// Never inherited by another program. Not waiting for a medium, and never becoming a terminal.
fn open(path: &Path, access: OFlags) -> Result<File, Errno> {
    let flags = access | OFlags::DIRECT | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    Ok(File::from(rustix::fs::open(path, flags, Mode::empty())?))
}

/// The end of a block device is its size. Nothing else here uses the position.
fn size_of(file: &File) -> io::Result<u64> {
    Ok(rustix::fs::seek(file, SeekFrom::End(0))?)
}

impl DirectFile for OpenDevice {
    type Held<'a> = Held<'a>;

    fn hold(&self) -> Held<'_> {
        Held(self.file())
    }

    fn moves_directly(&self, offset: u64, bytes: &[u8]) -> bool {
        self.check_write(offset, bytes.len() as u64).is_ok()
            && directly_movable(offset, bytes, self.sector) == bytes.len()
    }
}

/// The description, which is not exchanged for as long as this is held.
pub(super) struct Held<'a>(RwLockReadGuard<'a, File>);

impl AsFd for Held<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl BlockDevice for OpenDevice {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn sector_bytes(&self) -> u64 {
        self.sector as u64
    }

    fn is_direct(&self) -> bool {
        true
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        check_range(self.size_bytes, offset, buffer.len() as u64)?;
        let file = self.file();
        let (direct, rest) = buffer.split_at_mut(directly_movable(offset, buffer, self.sector));
        read_all(&file, offset, direct)?;
        self.read_bounced(&file, offset + direct.len() as u64, rest)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.check_write(offset, bytes.len() as u64)?;
        let file = self.file();
        let (direct, rest) = bytes.split_at(directly_movable(offset, bytes, self.sector));
        write_all(&file, offset, direct)?;
        if rest.is_empty() { Ok(()) } else { Self::write_bounced(&file, offset + direct.len() as u64, rest) }
    }

    /// On a block device FALLOC_FL_ZERO_RANGE is what the ioctl BLKZEROOUT is: zeros that are written or that the device promises
    /// to read (WRITE SAME, Write Zeroes), never a discard.
    fn zero_range(&self, offset: u64, length: u64) -> io::Result<()> {
        self.check_write(offset, length)?;
        if length == 0 {
            return Ok(());
        }
        let file = self.file();
        loop {
            match rustix::fs::fallocate(&*file, FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE, offset, length)
            {
                Err(Errno::INTR) => {}
                result => return Ok(result?),
            }
        }
    }

    fn queue(&self) -> Box<dyn IoQueue + '_> {
        queue_on(self)
    }

    fn flush(&self) -> io::Result<()> {
        let file = self.file();
        rustix::fs::fdatasync(&*file)?;
        let size_bytes = size_of(&file)?;
        if size_bytes == self.size_bytes { Ok(()) } else { Err(resized(self.size_bytes, size_bytes)) }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("sectors of {0} bytes are not supported; 512 to 4096 are")]
struct UnknownSector(usize);
