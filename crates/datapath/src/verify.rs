//! Proof by reading: a window against the digests of what was written, a whole volume against its chain, two volumes
//! against each other.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tanist_model::replication::Side;
use tanist_model::run::Checkpoint;

use crate::digest::{BLOCK_LEN, BlockDigest, BlockRange, PagesDigest, advance, advance_zeros, blocks, is_zero};
use crate::error::{GeometryError, Operation, TransferError};
use crate::io::ordered::OrderedReads;
use crate::io::queue::DEPTH;
use crate::io::{BlockDevice, ExtentKind};
use crate::pages::PageSet;
use crate::pool::{AlignedBuffer, Pool};

/// What was written to a block, or to some pages of it.
pub(crate) struct Expected {
    pub(crate) offset: u64,
    pub(crate) length: u64,
    pub(crate) pages: Option<PageSet>,
    pub(crate) digest: BlockDigest,
}

impl Expected {
    fn mismatch(&self) -> TransferError {
        TransferError::Mismatch { offset: self.offset, length: self.length }
    }

    fn found_in(&self, bytes: &[u8]) -> bool {
        let found = match self.pages {
            None => BlockDigest::of(bytes),
            Some(pages) => PagesDigest::of(bytes, pages),
        };
        found == self.digest
    }
}

/// Reads the target back. Where the device is not direct, its flush has dropped the page cache.
pub(crate) struct ReadBack<'a> {
    device: &'a dyn BlockDevice,
    side: Side,
    buffer: Option<AlignedBuffer>,
    ahead: Option<Ahead<'a>>,
}

/// Blocks that are being read while others are held against their digests.
struct Ahead<'a> {
    reads: OrderedReads<'a>,
    expected: VecDeque<Expected>,
    pool: Arc<Pool>,
}

impl<'a> ReadBack<'a> {
    pub(crate) fn new(device: &'a dyn BlockDevice) -> Self {
        Self { device, side: Side::Target, buffer: None, ahead: None }
    }

    /// Begins to read what was written there, and nothing else; [`Self::settle`] says whether all of it was found.
    pub(crate) fn expect(&mut self, expected: Expected) -> Result<(), TransferError> {
        let ahead = self.ahead.get_or_insert_with(|| Ahead {
            reads: OrderedReads::new(self.device),
            expected: VecDeque::new(),
            pool: Pool::new(DEPTH, BLOCK_LEN),
        });
        if !ahead.reads.has_room() {
            ahead.check_next()?;
        }
        ahead.begin(expected)
    }

    /// Waits for all that was begun.
    pub(crate) fn settle(&mut self) -> Result<(), TransferError> {
        let Some(ahead) = &mut self.ahead else { return Ok(()) };
        while !ahead.expected.is_empty() {
            ahead.check_next()?;
        }
        Ok(())
    }

    /// Holes are zeros by definition; the rest is read. What was begun ends first: a queue may hold what a read by itself waits for.
    pub(crate) fn expect_zeros(&mut self, offset: u64, length: u64) -> Result<(), TransferError> {
        self.settle()?;
        let end = offset + length;
        let mut at = offset;
        while at < end {
            let (kind, stretch_end) = self.stretch(at, end)?;
            if kind == ExtentKind::Data {
                blocks(at, stretch_end).try_for_each(|block| self.expect_zero_block(block))?;
            }
            at = stretch_end;
        }
        Ok(())
    }

    fn expect_zero_block(&mut self, block: BlockRange) -> Result<(), TransferError> {
        if is_zero(self.read(block)?) {
            return Ok(());
        }
        Err(TransferError::Mismatch { offset: block.offset, length: block.length })
    }

    /// The kind of what begins at `at`, and up to where within `[at, end)` it goes.
    fn stretch(&self, at: u64, end: u64) -> Result<(ExtentKind, u64), TransferError> {
        let failed = TransferError::io(self.side, Operation::MapExtents, at, end - at);
        let extent = self.device.extent_at(at).map_err(failed)?;
        Ok((extent.kind, extent.end.clamp(at + 1, end)))
    }

    fn digest(&mut self, block: BlockRange) -> Result<BlockDigest, TransferError> {
        let (kind, end) = self.stretch(block.offset, block.offset + block.length)?;
        if kind == ExtentKind::Hole && end == block.offset + block.length {
            return Ok(BlockDigest::of_zeros(block.length));
        }
        Ok(BlockDigest::of(self.read(block)?))
    }

    fn read(&mut self, block: BlockRange) -> Result<&[u8], TransferError> {
        let buffer = self.buffer.get_or_insert_with(|| AlignedBuffer::new(BLOCK_LEN));
        let length = usize::try_from(block.length).unwrap_or(BLOCK_LEN).min(BLOCK_LEN);
        let bytes = &mut buffer[..length];
        self.device.read_at(block.offset, bytes).map_err(TransferError::io(
            self.side,
            Operation::ReadBack,
            block.offset,
            block.length,
        ))?;
        Ok(bytes)
    }
}

impl Ahead<'_> {
    fn begin(&mut self, expected: Expected) -> Result<(), TransferError> {
        let Expected { offset, length, pages, .. } = expected;
        let failed = TransferError::io(Side::Target, Operation::ReadBack, offset, length);
        // As many buffers as reads: there is one whenever there is room.
        let buffer = self.pool.take().ok_or_else(|| failed(io::ErrorKind::NotConnected.into()))?;
        let in_buffer = usize::try_from(length).unwrap_or(BLOCK_LEN).min(buffer.len());
        self.expected.push_back(expected);
        self.reads.begin(offset, in_buffer, pages, buffer).map_err(failed)
    }

    fn check_next(&mut self) -> Result<(), TransferError> {
        let Some(expected) = self.expected.pop_front() else { return Ok(()) };
        let failed = TransferError::io(Side::Target, Operation::ReadBack, expected.offset, expected.length);
        let buffer = self.reads.next().and_then(|read| read.ok_or_else(|| io::ErrorKind::NotConnected.into()));
        let buffer = buffer.map_err(failed)?;
        let length = usize::try_from(expected.length).unwrap_or(BLOCK_LEN).min(buffer.len());
        if expected.found_in(buffer.split_at(length).0) { Ok(()) } else { Err(expected.mismatch()) }
    }
}

/// How far a reading of a whole volume is, and a way to end it; for another thread.
#[derive(Debug, Default)]
pub struct VerifyControl {
    verified_seq: AtomicU64,
    stop: AtomicBool,
}

impl VerifyControl {
    /// Ends the reading after the block in progress.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Everything below this byte has been read.
    pub fn verified_seq(&self) -> u64 {
        self.verified_seq.load(Ordering::Relaxed)
    }

    fn passed(&self, seq: u64) -> bool {
        self.verified_seq.store(seq, Ordering::Relaxed);
        !self.stop.load(Ordering::Relaxed)
    }
}

/// How a reading of a whole volume ended, if it did not fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verified {
    Equal,
    Stopped,
}

/// Reads `[0, expected.seq)` of the target and compares its chain with the run's.
///
/// # Errors
/// [`TransferError::ChainMismatch`] if the bytes differ; [`compare`] finds where. Otherwise the device's.
pub fn verify_full(
    target: &dyn BlockDevice,
    expected: Checkpoint,
    control: &VerifyControl,
) -> Result<Verified, TransferError> {
    check_size(target, Side::Target, expected.seq)?;
    let mut reading = ReadBack::new(target);
    let mut at = Checkpoint::START;
    while at.seq < expected.seq {
        at = next_checkpoint(&mut reading, at, expected.seq)?;
        if !control.passed(at.seq) {
            return Ok(Verified::Stopped);
        }
    }
    if at.chain == expected.chain { Ok(Verified::Equal) } else { Err(TransferError::ChainMismatch { seq: at.seq }) }
}

/// Goes over one block, or over all whole blocks of the hole that begins here.
fn next_checkpoint(reading: &mut ReadBack<'_>, at: Checkpoint, end: u64) -> Result<Checkpoint, TransferError> {
    let (kind, stretch_end) = reading.stretch(at.seq, end)?;
    let hole_end = if stretch_end == end { end } else { stretch_end - stretch_end % BLOCK_LEN as u64 };
    if kind == ExtentKind::Hole && hole_end > at.seq {
        return Ok(advance_zeros(at, hole_end));
    }
    match blocks(at.seq, end).next() {
        Some(block) => Ok(advance(at, block.length, &BlockDigest::of(reading.read(block)?))),
        None => Ok(at),
    }
}

/// Reads the first `size_bytes` of both devices and finds the first block in which they differ.
///
/// # Errors
/// [`TransferError::Mismatch`] with that block. Otherwise the devices'.
pub fn compare(
    source: &dyn BlockDevice,
    target: &dyn BlockDevice,
    size_bytes: u64,
    control: &VerifyControl,
) -> Result<Verified, TransferError> {
    check_size(source, Side::Source, size_bytes)?;
    check_size(target, Side::Target, size_bytes)?;
    let mut left = ReadBack { side: Side::Source, ..ReadBack::new(source) };
    let mut right = ReadBack::new(target);
    for block in blocks(0, size_bytes) {
        if left.digest(block)? != right.digest(block)? {
            return Err(TransferError::Mismatch { offset: block.offset, length: block.length });
        }
        if !control.passed(block.offset + block.length) {
            return Ok(Verified::Stopped);
        }
    }
    Ok(Verified::Equal)
}

/// # Errors
/// [`GeometryError::TooSmall`] if the device does not have `needed_bytes`.
pub(crate) fn check_size(device: &dyn BlockDevice, side: Side, needed_bytes: u64) -> Result<(), GeometryError> {
    let actual_bytes = device.size_bytes();
    if actual_bytes >= needed_bytes {
        Ok(())
    } else {
        Err(GeometryError::TooSmall { side, actual_bytes, needed_bytes })
    }
}
