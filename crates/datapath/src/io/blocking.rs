//! A regular file or block device behind plain positional system calls, with O_DIRECT where the file system takes it.
//!
//! There is one open file description, and every byte goes through it: the lock that proves a writer quiet lies on that
//! description and is freed by the kernel only when the last I/O on it has ended. A second descriptor for the unaligned tail
//! of an odd-sized file would be a hole in that proof, so the tail is *written* by clearing O_DIRECT on the one description
//! while nothing else is in flight on it (a write guard against everyone's read guards), and followed by a flush. The tail is
//! *read* directly: a direct read of a whole sector may end early at the end of the file.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use rustix::fs::{Advice, FallocateFlags, OFlags, SeekFrom};
use rustix::io::Errno;

use super::positional::{directly_movable, read_all, read_once, resized, shrunk, write_all};
use super::queue::IoQueue;
use super::uring::{DirectFile, queue_on};
use super::{BlockDevice, Extent, ExtentKind, check_range};
use crate::pool::{ALIGNMENT, AlignedBuffer};

const SECTOR: u64 = ALIGNMENT as u64;
/// Size of a write where zeros cannot be had cheaper.
const ZERO_WRITE_LEN: usize = 256 << 10;

/// An open file as a device of the size it had when it was opened.
#[derive(Debug)]
pub struct BlockingFile {
    file: File,
    size_bytes: u64,
    direct: bool,
    /// Held for reading by every I/O, for writing while O_DIRECT is cleared.
    flags: RwLock<()>,
}

impl BlockingFile {
    /// Takes the file as it is opened: direct if its description has O_DIRECT.
    ///
    /// # Errors
    /// If the file cannot tell its flags or size.
    pub fn new(file: File) -> io::Result<Self> {
        let direct = rustix::fs::fcntl_getfl(&file)?.contains(OFlags::DIRECT);
        let size_bytes = file.metadata()?.len();
        Ok(Self { file, size_bytes, direct, flags: RwLock::new(()) })
    }

    fn in_flight(&self) -> RwLockReadGuard<'_, ()> {
        self.flags.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does `work` through the page cache, alone on the description.
    fn buffered<T>(&self, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let _alone = self.flags.write().unwrap_or_else(PoisonError::into_inner);
        let flags = rustix::fs::fcntl_getfl(&self.file)?;
        rustix::fs::fcntl_setfl(&self.file, flags - OFlags::DIRECT)?;
        let result = work();
        rustix::fs::fcntl_setfl(&self.file, flags)?;
        result
    }

    /// Writes what direct I/O cannot, and does not leave it in the page cache.
    fn write_buffered(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.buffered(|| {
            write_all(&self.file, offset, bytes)?;
            rustix::fs::fdatasync(&self.file)?;
            Ok(())
        })?;
        self.drop_cache(offset, bytes.len() as u64)
    }

    /// Reads any range directly, sector by sector, through an aligned buffer.
    fn read_bounced(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let mut sector = AlignedBuffer::new(ALIGNMENT);
        let mut done = 0;
        while done < buffer.len() {
            let at = offset + done as u64;
            let within = usize::try_from(at % SECTOR).unwrap_or(0);
            let wanted = (ALIGNMENT - within).min(buffer.len() - done);
            let got = read_once(&self.file, at - at % SECTOR, &mut sector)?;
            if got < within + wanted {
                return Err(shrunk(at));
            }
            buffer[done..done + wanted].copy_from_slice(&sector[within..within + wanted]);
            done += wanted;
        }
        Ok(())
    }

    fn drop_cache(&self, offset: u64, length: u64) -> io::Result<()> {
        // A length of zero would mean "to the end"; the range is never empty here.
        let length = std::num::NonZeroU64::new(length);
        Ok(rustix::fs::fadvise(&self.file, offset, length, Advice::DontNeed)?)
    }

    fn fallocate(&self, flags: FallocateFlags, offset: u64, length: u64) -> io::Result<bool> {
        loop {
            return match rustix::fs::fallocate(&self.file, flags | FallocateFlags::KEEP_SIZE, offset, length) {
                Ok(()) => Ok(true),
                Err(Errno::INTR) => continue,
                Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(false),
                Err(error) => Err(error.into()),
            };
        }
    }

    fn write_zeros(&self, offset: u64, length: u64) -> io::Result<()> {
        let zeros = AlignedBuffer::new(ZERO_WRITE_LEN);
        let mut done = 0;
        while done < length {
            let piece = (length - done).min(ZERO_WRITE_LEN as u64);
            self.write_at(offset + done, zeros.split_at(usize::try_from(piece).unwrap_or(0)).0)?;
            done += piece;
        }
        Ok(())
    }
}

impl AsFd for BlockingFile {
    /// The descriptor that does the I/O; locks belong on it.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl DirectFile for BlockingFile {
    type Held<'a> = Held<'a>;

    fn hold(&self) -> Held<'_> {
        Held { file: &self.file, _flags: self.in_flight() }
    }

    fn moves_directly(&self, offset: u64, bytes: &[u8]) -> bool {
        let within = check_range(self.size_bytes, offset, bytes.len() as u64).is_ok();
        within && self.direct && directly_movable(offset, bytes, ALIGNMENT) == bytes.len()
    }
}

/// The description, with O_DIRECT for as long as this is held.
#[derive(Debug)]
pub struct Held<'a> {
    file: &'a File,
    _flags: RwLockReadGuard<'a, ()>,
}

impl AsFd for Held<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl BlockDevice for BlockingFile {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn is_direct(&self) -> bool {
        self.direct
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        check_range(self.size_bytes, offset, buffer.len() as u64)?;
        let _in_flight = self.in_flight();
        if !self.direct {
            return read_all(&self.file, offset, buffer);
        }
        let aligned = directly_movable(offset, buffer, ALIGNMENT);
        let (direct, rest) = buffer.split_at_mut(aligned);
        read_all(&self.file, offset, direct)?;
        self.read_bounced(offset + aligned as u64, rest)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        check_range(self.size_bytes, offset, bytes.len() as u64)?;
        let aligned = if self.direct { directly_movable(offset, bytes, ALIGNMENT) } else { bytes.len() };
        let (direct, rest) = bytes.split_at(aligned);
        {
            let _in_flight = self.in_flight();
            write_all(&self.file, offset, direct)?;
        }
        if rest.is_empty() { Ok(()) } else { self.write_buffered(offset + aligned as u64, rest) }
    }

    fn zero_range(&self, offset: u64, length: u64) -> io::Result<()> {
        check_range(self.size_bytes, offset, length)?;
        if length == 0 {
            return Ok(());
        }
        let done = {
            let _in_flight = self.in_flight();
            self.fallocate(FallocateFlags::PUNCH_HOLE, offset, length)?
                || self.fallocate(FallocateFlags::ZERO_RANGE, offset, length)?
        };
        if done { Ok(()) } else { self.write_zeros(offset, length) }
    }

    fn flush(&self) -> io::Result<()> {
        let _in_flight = self.in_flight();
        rustix::fs::fdatasync(&self.file)?;
        if !self.direct {
            // Best effort: what is read back should come from the storage.
            rustix::fs::fadvise(&self.file, 0, None, Advice::DontNeed)?;
        }
        let size_bytes = self.file.metadata()?.len();
        if size_bytes == self.size_bytes { Ok(()) } else { Err(resized(self.size_bytes, size_bytes)) }
    }

    fn queue(&self) -> Box<dyn IoQueue + '_> {
        queue_on(self)
    }

    fn extent_at(&self, offset: u64) -> io::Result<Extent> {
        check_range(self.size_bytes, offset, 0)?;
        let to_the_end = |kind| Extent { kind, end: self.size_bytes };
        let clamp = |kind, end: u64| Extent { kind, end: end.min(self.size_bytes) };
        match rustix::fs::seek(&self.file, SeekFrom::Data(offset)) {
            Ok(data) if data > offset => Ok(clamp(ExtentKind::Hole, data)),
            Ok(_) => match rustix::fs::seek(&self.file, SeekFrom::Hole(offset)) {
                Ok(hole) if hole > offset => Ok(clamp(ExtentKind::Data, hole)),
                Ok(_) | Err(Errno::INVAL | Errno::NXIO) => Ok(to_the_end(ExtentKind::Data)),
                Err(error) => Err(error.into()),
            },
            Err(Errno::NXIO) => Ok(to_the_end(ExtentKind::Hole)),
            Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(to_the_end(ExtentKind::Data)),
            Err(error) => Err(error.into()),
        }
    }
}
