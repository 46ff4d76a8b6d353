//! What the engine asks of a device, and the devices it brings along.
//!
//! The interface is positional and blocking: the caller owns the buffer for the length of the call. Beside it, a [`queue`] has several
//! requests in flight at once, where the device can ([`uring`]).

pub mod blocking;
pub mod memory;
pub(crate) mod ordered;
pub mod positional;
pub mod queue;
pub mod uring;

use std::io;

use self::queue::{IoQueue, OneAtATime};

/// A volume, open for I/O.
///
/// All offsets and lengths are bytes. An access that reaches past [`size_bytes`](Self::size_bytes) is refused with
/// `InvalidInput`: a device never grows. Any offset and length can be read; multiples of [`crate::pool::ALIGNMENT`] on memory so
/// aligned are fast.
pub trait BlockDevice: Send + Sync {
    fn size_bytes(&self) -> u64;

    /// Writes and zeroings begin and end at multiples of this; others are refused with `InvalidInput`. A device that would have to
    /// read a sector to write a part of it could bring back what somebody else has just overwritten.
    fn sector_bytes(&self) -> u64 {
        1
    }

    /// True if data goes around the page cache, so that a read shows what the storage holds.
    fn is_direct(&self) -> bool;

    /// Fills the whole buffer.
    ///
    /// # Errors
    /// The operating system's; `UnexpectedEof` if the device has shrunk since it was opened.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Writes the whole buffer. Durable only after [`flush`](Self::flush).
    ///
    /// # Errors
    /// The operating system's.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Makes the range read as zeros, deterministically and as cheaply as the device can. Durable only after `flush`.
    ///
    /// # Errors
    /// The operating system's.
    fn zero_range(&self, offset: u64, length: u64) -> io::Result<()>;

    /// Makes every write and zeroing that completed before the call durable. After a failure nothing of it may be taken as
    /// durable, not even if a later flush succeeds.
    ///
    /// # Errors
    /// The operating system's.
    fn flush(&self) -> io::Result<()>;

    /// Why nobody will ever be able to say that what was written has ended, if so: such a device takes no more writes and is not flushed.
    /// `None` where the end of a call is the end of its I/O, as the kernel sees to it for files and devices.
    fn unresolved(&self) -> Option<String> {
        None
    }

    /// For a thread that has several transfers to make.
    fn queue(&self) -> Box<dyn IoQueue + '_> {
        Box::new(OneAtATime::new(self))
    }

    /// The allocated or unallocated stretch that `offset` lies in. Where a device cannot tell, all is data.
    ///
    /// # Errors
    /// The operating system's.
    fn extent_at(&self, offset: u64) -> io::Result<Extent> {
        let _ = offset;
        Ok(Extent { kind: ExtentKind::Data, end: self.size_bytes() })
    }
}

/// A stretch of a device of one kind, up to `end` (exclusive).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extent {
    pub kind: ExtentKind,
    pub end: u64,
}

/// Whether a stretch is allocated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ExtentKind {
    /// May hold anything.
    Data,
    /// Reads as zeros.
    Hole,
}

/// # Errors
/// `InvalidInput` if a write does not consist of whole sectors of `sector_bytes`.
pub fn check_whole_sectors(sector_bytes: u64, offset: u64, length: u64) -> io::Result<()> {
    if offset.is_multiple_of(sector_bytes) && length.is_multiple_of(sector_bytes) {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, NotWholeSectors { sector_bytes, offset, length }))
}

/// # Errors
/// `InvalidInput` if the access does not lie within a device of `size_bytes`.
pub fn check_range(size_bytes: u64, offset: u64, length: u64) -> io::Result<()> {
    match offset.checked_add(length) {
        Some(end) if end <= size_bytes => Ok(()),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, OutOfRange { size_bytes, offset, length })),
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{length} bytes at {offset} are no whole sectors of {sector_bytes} bytes")]
struct NotWholeSectors {
    sector_bytes: u64,
    offset: u64,
    length: u64,
}

#[derive(Debug, thiserror::Error)]
#[error("{length} bytes at {offset} do not lie within the volume's {size_bytes} bytes")]
struct OutOfRange {
    size_bytes: u64,
    offset: u64,
    length: u64,
}
