//! The first stage: reads the source block by block, and names its holes without reading them.

use std::sync::mpsc::SyncSender;

use tanist_model::replication::Side;

use crate::control::{Control, Halt};
use crate::digest::BLOCK_BYTES;
use crate::error::{Operation, TransferError};
use crate::io::{BlockDevice, Extent, ExtentKind};
use crate::pool::PooledBuffer;
use crate::progress::Stage;

/// What was found at the source. Items follow one another without gaps.
#[derive(Debug)]
pub(crate) enum SourceItem {
    /// One block; the buffer may be longer than it.
    Block { offset: u64, length: usize, buffer: PooledBuffer },
    /// Whole blocks that are not allocated.
    Hole { length: u64 },
}

/// Reads `[from, size_bytes)` until the end, a failure, or a halt.
pub(crate) struct Reader<'a> {
    pub(crate) source: &'a dyn BlockDevice,
    pub(crate) size_bytes: u64,
    pub(crate) position: u64,
    pub(crate) control: &'a Control,
    pub(crate) outlet: SyncSender<SourceItem>,
}

impl Reader<'_> {
    pub(crate) fn run(mut self) {
        if let Err(error) = self.read_all() {
            self.control.fail(error);
        }
    }

    fn read_all(&mut self) -> Result<(), TransferError> {
        let mut extent = Extent { kind: ExtentKind::Data, end: self.position };
        while self.position < self.size_bytes && self.control.halted() == Halt::No {
            if extent.end <= self.position {
                extent = self.extent()?;
            }
            let Some(item) = self.next_item(extent)? else { return Ok(()) };
            if self.outlet.send(item).is_err() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn next_item(&mut self, extent: Extent) -> Result<Option<SourceItem>, TransferError> {
        let hole_end = whole_blocks_end(extent, self.size_bytes);
        if hole_end > self.position {
            let item = SourceItem::Hole { length: hole_end - self.position };
            self.position = hole_end;
            return Ok(Some(item));
        }
        self.read_block()
    }

    fn read_block(&mut self) -> Result<Option<SourceItem>, TransferError> {
        let (offset, length) = (self.position, BLOCK_BYTES.min(self.size_bytes - self.position));
        if !self.control.pass_limit(length) {
            return Ok(None);
        }
        let Some(mut buffer) = self.control.pool.take() else { return Ok(None) };
        let block_len = usize::try_from(length).unwrap_or(buffer.len()).min(buffer.len());
        let counters = &self.control.counters;
        counters
            .timed(Stage::Source, || self.source.read_at(offset, &mut buffer[..block_len]))
            .map_err(TransferError::io(Side::Source, Operation::Read, offset, length))?;
        counters.read_bytes.add(length);
        self.position += length;
        Ok(Some(SourceItem::Block { offset, length: block_len, buffer }))
    }

    fn extent(&self) -> Result<Extent, TransferError> {
        let left = self.size_bytes - self.position;
        let failed = TransferError::io(Side::Source, Operation::MapExtents, self.position, left);
        self.control.counters.timed(Stage::Source, || self.source.extent_at(self.position)).map_err(failed)
    }
}

/// Up to where the extent is a hole in whole blocks; zero if it is data.
fn whole_blocks_end(extent: Extent, size_bytes: u64) -> u64 {
    match extent.kind {
        ExtentKind::Data => 0,
        ExtentKind::Hole if extent.end >= size_bytes => size_bytes,
        ExtentKind::Hole => extent.end - extent.end % BLOCK_BYTES,
    }
}
