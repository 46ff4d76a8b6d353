//! The target as a run that compares looks at it: its bytes and its holes, with the time that takes and the bytes that were read.

use tanist_model::replication::Side;

use crate::control::Control;
use crate::digest::BLOCK_LEN;
use crate::error::{Operation, TransferError};
use crate::io::{BlockDevice, Extent};
use crate::pool::AlignedBuffer;
use crate::progress::Stage;

pub(crate) struct ComparedTarget<'a> {
    device: &'a dyn BlockDevice,
    control: &'a Control,
    buffer: AlignedBuffer,
}

impl<'a> ComparedTarget<'a> {
    pub(crate) fn new(device: &'a dyn BlockDevice, control: &'a Control) -> Self {
        Self { device, control, buffer: AlignedBuffer::new(BLOCK_LEN) }
    }

    /// At most a block.
    pub(crate) fn read(&mut self, offset: u64, length: u64) -> Result<&[u8], TransferError> {
        let counters = &self.control.counters;
        let bytes = self.buffer.split_at_mut(usize::try_from(length).unwrap_or(BLOCK_LEN)).0;
        let failed = TransferError::io(Side::Target, Operation::Read, offset, length);
        counters.timed(Stage::Compare, || self.device.read_at(offset, bytes)).map_err(failed)?;
        counters.compared_bytes.add(length);
        Ok(bytes)
    }

    /// What begins there; `length` is how much is asked for, for people.
    pub(crate) fn extent_at(&self, offset: u64, length: u64) -> Result<Extent, TransferError> {
        let failed = TransferError::io(Side::Target, Operation::MapExtents, offset, length);
        self.control.counters.timed(Stage::Compare, || self.device.extent_at(offset)).map_err(failed)
    }
}
