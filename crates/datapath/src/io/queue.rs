//! Several requests in flight on one device, begun now and over later.
//!
//! One request at a time leaves a device idle between two of them; a few at a time do not. Each request owns its buffer until it is over,
//! whatever becomes of whoever began it, so nothing is ever read into memory that has another use by then.

use std::io;
use std::ops::Range;

use super::BlockDevice;
use crate::pages::PageSet;
use crate::pool::PooledBuffer;

/// Deeper queues than this gained nothing on a sequential stream, and each request holds a buffer.
pub const DEPTH: usize = 4;

/// What is done with the buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// The device's bytes come into the buffer.
    Read,
    /// The buffer's bytes go to the device; durable only after a flush.
    Write,
}

/// A transfer of the first `length` bytes of a buffer at a place of the device, or of some pages of them.
#[derive(Debug)]
pub struct Request {
    pub direction: Direction,
    /// Where the buffer's first byte belongs, in bytes from the beginning of the device.
    pub offset: u64,
    /// At most the buffer's.
    pub length: usize,
    /// Only these pages are moved, each between its own place in the buffer and on the device; all there is, without.
    pub pages: Option<PageSet>,
    pub buffer: PooledBuffer,
}

impl Request {
    /// Of everything that the buffer holds.
    #[must_use]
    pub fn whole(direction: Direction, offset: u64, length: usize, buffer: PooledBuffer) -> Self {
        Self { direction, offset, length, pages: None, buffer }
    }

    /// What is moved, or lies between pages that are.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.buffer.split_at(self.length.min(self.buffer.len())).0
    }

    /// The stretches of the buffer that are moved, in order and apart from each other.
    pub fn pieces(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let length = self.bytes().len();
        let whole = self.pages.is_none().then_some(0..length);
        whole.into_iter().chain(self.pages.into_iter().flat_map(move |pages| pages.byte_runs(length)))
    }

    /// How much is moved, in bytes.
    #[must_use]
    pub fn moved_bytes(&self) -> u64 {
        self.pieces().map(|piece| piece.len() as u64).sum()
    }
}

/// A request that is over. A failed one may have moved a part.
#[derive(Debug)]
pub struct Completion {
    pub request: Request,
    /// Whole, or the operating system's error.
    pub result: io::Result<()>,
}

/// Requests on one device. They end in any order. Dropping the queue waits for those in flight.
pub trait IoQueue {
    /// How many may be in flight.
    fn depth(&self) -> usize;

    /// How many were begun and not handed back yet.
    fn in_flight(&self) -> usize;

    /// Begins a request; it blocks where the device can only do one thing at a time. Not for more than [`depth`](Self::depth) at once.
    ///
    /// # Errors
    /// That it could not be begun for a reason that is not the device's. The queue is of no use any more.
    fn begin(&mut self, request: Request) -> io::Result<()>;

    /// Waits until one is over and hands it back; `None` if none is in flight.
    ///
    /// # Errors
    /// As for [`begin`](Self::begin); what the device says of a request stands in its completion.
    fn next(&mut self) -> io::Result<Option<Completion>>;
}

/// The queue of a device that does one thing at a time.
#[derive(Debug)]
pub struct OneAtATime<D> {
    device: D,
    over: Option<Completion>,
}

impl<D> OneAtATime<D> {
    pub fn new(device: D) -> Self {
        Self { device, over: None }
    }
}

impl<D: std::ops::Deref<Target: BlockDevice>> IoQueue for OneAtATime<D> {
    fn depth(&self) -> usize {
        1
    }

    fn in_flight(&self) -> usize {
        usize::from(self.over.is_some())
    }

    fn begin(&mut self, request: Request) -> io::Result<()> {
        self.over = Some(perform(&*self.device, request));
        Ok(())
    }

    fn next(&mut self) -> io::Result<Option<Completion>> {
        Ok(self.over.take())
    }
}

/// Does the whole of a request on this thread.
pub(crate) fn perform<D: BlockDevice + ?Sized>(device: &D, mut request: Request) -> Completion {
    let (direction, offset) = (request.direction, request.offset);
    let result = request.pieces().try_for_each(|piece| {
        let at = offset + piece.start as u64;
        let bytes = &mut request.buffer[piece];
        match direction {
            Direction::Read => device.read_at(at, bytes),
            Direction::Write => device.write_at(at, bytes),
        }
    });
    Completion { request, result }
}
