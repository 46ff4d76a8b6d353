//! Reads ahead: several in flight, handed back in the order in which they were begun.

use std::collections::VecDeque;
use std::io;

use super::BlockDevice;
use super::queue::{Completion, Direction, IoQueue, Request};
use crate::pages::PageSet;
use crate::pool::PooledBuffer;

/// Reads of one device, the earliest first.
pub(crate) struct OrderedReads<'a> {
    queue: Box<dyn IoQueue + 'a>,
    /// By offset; the outcome once it is over.
    begun: VecDeque<(u64, Option<Completion>)>,
}

impl<'a> OrderedReads<'a> {
    pub(crate) fn new(device: &'a dyn BlockDevice) -> Self {
        Self { queue: device.queue(), begun: VecDeque::new() }
    }

    /// Whether another may be begun now.
    pub(crate) fn has_room(&self) -> bool {
        self.begun.len() < self.queue.depth()
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.begun.is_empty()
    }

    /// Begins to read the first `length` bytes of the buffer, or these pages of them. No two of those in flight begin at the same offset.
    pub(crate) fn begin(
        &mut self,
        offset: u64,
        length: usize,
        pages: Option<PageSet>,
        buffer: PooledBuffer,
    ) -> io::Result<()> {
        self.begun.push_back((offset, None));
        self.queue.begin(Request { direction: Direction::Read, offset, length, pages, buffer })
    }

    /// Waits for the earliest; `None` if there is none.
    pub(crate) fn next(&mut self) -> io::Result<Option<PooledBuffer>> {
        loop {
            match self.begun.front_mut() {
                None => return Ok(None),
                Some((_, Some(_))) => break,
                Some((_, None)) => {}
            }
            let Some(over) = self.queue.next()? else { return Err(io::ErrorKind::NotConnected.into()) };
            if let Some((_, place)) = self.begun.iter_mut().find(|(offset, _)| *offset == over.request.offset) {
                *place = Some(over);
            }
        }
        let over = self.begun.pop_front().and_then(|(_, over)| over);
        over.map(|over| over.result.map(|()| over.request.buffer)).transpose()
    }
}
