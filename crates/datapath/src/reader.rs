//! The first stage: reads the source block by block, and names its holes without reading them, and what is known not to have changed.

use std::collections::VecDeque;
use std::io;

use tanist_model::replication::Side;

use crate::changes::{Changes, Look, Looks};
use crate::control::{Control, Halt};
use crate::digest::BLOCK_BYTES;
use crate::error::{Operation, TransferError};
use crate::handover::{Load, Outlet};
use crate::io::ordered::OrderedReads;
use crate::io::{BlockDevice, Extent, ExtentKind};
use crate::pool::PooledBuffer;
use crate::progress::Stage;

/// What was found at the source. Items follow one another without gaps.
#[derive(Debug)]
pub(crate) enum SourceItem {
    /// One block; the buffer may be longer than it. A sample is to be what its stored digest says.
    Block { offset: u64, length: usize, buffer: PooledBuffer, is_sample: bool },
    /// Whole blocks that are not allocated.
    Hole { length: u64 },
    /// Whole blocks that did not change, by the word of the storage system: their stored digests stand for them.
    Unread { length: u64 },
}

impl Load for SourceItem {
    fn held_bytes(&self) -> u64 {
        if matches!(self, Self::Block { .. }) { BLOCK_BYTES } else { 0 }
    }
}

/// What is to be handed on next; a block has been begun to be read.
enum Planned {
    Block { offset: u64, length: u64, is_sample: bool },
    Hole { length: u64 },
    Unread { length: u64 },
}

/// Of a volume with holes, so much is looked at ahead.
const MOST_PLANNED: usize = 8;

/// Reads `[from, size_bytes)` until the end, a failure, or a halt.
pub(crate) struct Reader<'a> {
    source: &'a dyn BlockDevice,
    size_bytes: u64,
    position: u64,
    control: &'a Control,
    looks: Option<Looks<'a>>,
    outlet: Outlet<'a, SourceItem>,
}

impl<'a> Reader<'a> {
    /// `changes`: what is not named there is not read.
    pub(crate) fn new(
        source: &'a dyn BlockDevice,
        (position, size_bytes): (u64, u64),
        changes: Option<&'a Changes>,
        control: &'a Control,
        outlet: Outlet<'a, SourceItem>,
    ) -> Self {
        Self { source, size_bytes, position, control, looks: changes.map(Looks::new), outlet }
    }

    pub(crate) fn run(mut self) {
        if let Err(error) = self.read_all() {
            self.control.fail(error);
        }
    }

    fn read_all(&mut self) -> Result<(), TransferError> {
        let (mut reads, mut planned) = (OrderedReads::new(self.source), VecDeque::new());
        let mut extent = Extent { kind: ExtentKind::Data, end: self.position };
        loop {
            while reads.has_room() && self.plan(&mut extent, &mut reads, &mut planned)? {}
            let item = match planned.pop_front() {
                None => return Ok(()),
                Some(Planned::Hole { length }) => SourceItem::Hole { length },
                Some(Planned::Unread { length }) => SourceItem::Unread { length },
                Some(Planned::Block { offset, length, is_sample }) => {
                    self.receive(&mut reads, offset, length, is_sample)?
                }
            };
            if self.outlet.send(item).is_err() {
                return Ok(());
            }
        }
    }

    /// Plans what comes next and begins to read it; false if there is nothing more, or if what is planned already has to be handed on
    /// first: for want of a buffer, or because of a limit, which reading ahead would only delay.
    fn plan(
        &mut self,
        extent: &mut Extent,
        reads: &mut OrderedReads<'_>,
        planned: &mut VecDeque<Planned>,
    ) -> Result<bool, TransferError> {
        if self.position >= self.size_bytes || self.control.halted() != Halt::No {
            return Ok(false);
        }
        let look = self.looks.as_mut().map_or(Look::Read, |looks| looks.at(self.position, self.size_bytes));
        if let Some((passed, end)) = self.passed(look, extent)? {
            planned.push_back(passed);
            self.position = end;
            // With nothing in flight before it, it is handed on at once.
            return Ok(!reads.is_idle() && planned.len() < MOST_PLANNED);
        }
        let is_sample = look == Look::Sample;
        let (offset, length) = (self.position, BLOCK_BYTES.min(self.size_bytes - self.position));
        let Some(buffer) = self.buffer_for(length, planned.is_empty()) else { return Ok(false) };
        let block_len = usize::try_from(length).unwrap_or(buffer.len()).min(buffer.len());
        let begun = self.control.counters.timed(Stage::Source, || reads.begin(offset, block_len, None, buffer));
        begun.map_err(failed_read(offset, length))?;
        planned.push_back(Planned::Block { offset, length, is_sample });
        self.position += length;
        Ok(true)
    }

    /// What is not read here, and up to where.
    fn passed(&self, look: Look, extent: &mut Extent) -> Result<Option<(Planned, u64)>, TransferError> {
        let from = self.position;
        match look {
            Look::PassTo(end) => {
                self.control.counters.unread_bytes.add(end - from);
                return Ok(Some((Planned::Unread { length: end - from }, end)));
            }
            // A hole would be taken for what its digest says without a look.
            Look::Sample => return Ok(None),
            Look::Read => {}
        }
        if extent.end <= from {
            *extent = self.extent()?;
        }
        let end = whole_blocks_end(*extent, self.size_bytes);
        Ok((end > from).then(|| (Planned::Hole { length: end - from }, end)))
    }

    /// A buffer that may be filled now. `waits`: nothing else is to be done meanwhile.
    fn buffer_for(&self, length: u64, waits: bool) -> Option<PooledBuffer> {
        if !waits {
            return if self.control.is_limited() { None } else { self.control.pool.try_take() };
        }
        if !self.control.pass_limit(length) {
            return None;
        }
        self.control.take_buffer(Stage::Source)
    }

    fn receive(
        &self,
        reads: &mut OrderedReads<'_>,
        offset: u64,
        length: u64,
        is_sample: bool,
    ) -> Result<SourceItem, TransferError> {
        let read = self.control.counters.timed(Stage::Source, || reads.next());
        let ended = || io::Error::from(io::ErrorKind::NotConnected);
        let buffer = read.and_then(|read| read.ok_or_else(ended)).map_err(failed_read(offset, length))?;
        self.control.counters.read_bytes.add(length);
        let length = usize::try_from(length).unwrap_or(buffer.len()).min(buffer.len());
        Ok(SourceItem::Block { offset, length, buffer, is_sample })
    }

    fn extent(&self) -> Result<Extent, TransferError> {
        let left = self.size_bytes - self.position;
        let failed = TransferError::io(Side::Source, Operation::MapExtents, self.position, left);
        self.control.counters.timed(Stage::Source, || self.source.extent_at(self.position)).map_err(failed)
    }
}

fn failed_read(offset: u64, length: u64) -> impl Fn(io::Error) -> TransferError {
    TransferError::io(Side::Source, Operation::Read, offset, length)
}

/// Up to where the extent is a hole in whole blocks; zero if it is data.
fn whole_blocks_end(extent: Extent, size_bytes: u64) -> u64 {
    match extent.kind {
        ExtentKind::Data => 0,
        ExtentKind::Hole if extent.end >= size_bytes => size_bytes,
        ExtentKind::Hole => extent.end - extent.end % BLOCK_BYTES,
    }
}
