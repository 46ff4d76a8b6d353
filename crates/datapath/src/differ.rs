//! The stage between encoder and writer that leaves out what the target holds already, where both sides are at hand.
//!
//! It reads the target ahead of the writer, block by block, and compares bytes; of a block that differs only the differing pages go
//! on. Where a read of the target proves nothing (see [`TransferConfig::unconditional`]) it reads nothing and everything goes on.

use tanist_model::byte_range::ByteRange;

use crate::compared::ComparedTarget;
use crate::control::Control;
use crate::digest::{BLOCK_BYTES, BlockDigest, is_zero};
use crate::encoder::TargetItem;
use crate::error::TransferError;
use crate::handover::{Inlet, Outlet};
use crate::io::{BlockDevice, ExtentKind};
use crate::pages::differing;
use crate::pool::PooledBuffer;
use crate::progress::Stage;
use crate::sampler::Sampler;
use crate::transfer::TransferConfig;

pub(crate) struct Differ<'a> {
    pub(crate) target: ComparedTarget<'a>,
    /// Looks at some of what stored digests leave out.
    sampler: Sampler<'a>,
    pub(crate) control: &'a Control,
    pub(crate) config: &'a TransferConfig,
    /// Where the next item begins.
    pub(crate) position: u64,
}

impl<'a> Differ<'a> {
    pub(crate) fn new(target: &'a dyn BlockDevice, control: &'a Control, config: &'a TransferConfig) -> Self {
        let (compared, sampler) = (ComparedTarget::new(target, control), Sampler::new(target, control));
        Self { target: compared, sampler, control, config, position: config.from.seq }
    }

    pub(crate) fn run(mut self, inlet: &Inlet<'_, TargetItem>, outlet: &Outlet<'_, TargetItem>) {
        for item in inlet.iter() {
            match self.pass(item, outlet) {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => return self.control.fail(error),
            }
        }
    }

    /// False if nobody takes what comes.
    fn pass(&mut self, item: TargetItem, outlet: &Outlet<'_, TargetItem>) -> Result<bool, TransferError> {
        let end = self.position + item.volume_bytes();
        match item {
            TargetItem::Zeros { .. } => {
                while self.position < end {
                    let piece = self.zeros(end)?;
                    self.position += piece.volume_bytes();
                    if self.control.is_aborted() || outlet.send(piece).is_err() {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            TargetItem::Block { length, buffer, digest, .. } => {
                let compared = self.block(length, buffer, digest)?;
                self.position = end;
                Ok(!self.control.is_aborted() && outlet.send(compared).is_ok())
            }
            other => {
                match &other {
                    TargetItem::Same { length, digest } => self.sampler.check(self.position, *length, digest)?,
                    TargetItem::SameZeros { length } => self.sampler.check_zeros(self.position, *length)?,
                    _ => {}
                }
                self.position = end;
                Ok(outlet.send(other).is_ok())
            }
        }
    }

    fn block(&mut self, length: usize, buffer: PooledBuffer, digest: BlockDigest) -> Result<TargetItem, TransferError> {
        let offset = self.position;
        if self.is_unconditional(offset, length as u64) {
            return Ok(TargetItem::Block { offset, length, buffer, digest });
        }
        let target = self.target.read(offset, length as u64)?;
        let source = buffer.split_at(length).0;
        let pages = self.control.counters.timed(Stage::Compare, || differing(source, target));
        if pages.is_empty() {
            return Ok(TargetItem::Same { length: length as u64, digest });
        }
        Ok(TargetItem::Pages { offset, length, buffer, digest, pages })
    }

    /// What becomes of the zeros that begin here and go up to `end`.
    fn zeros(&mut self, end: u64) -> Result<TargetItem, TransferError> {
        let block_end = end.min(self.position + BLOCK_BYTES);
        let (_, until) = self.config.unconditional.at(self.position);
        let end = end.min(until - until % BLOCK_BYTES).max(block_end);
        if self.is_unconditional(self.position, block_end - self.position) {
            return Ok(TargetItem::Zeros { length: end - self.position });
        }
        let (kind, hole_end) = self.stretch(end)?;
        if kind == ExtentKind::Hole && hole_end > self.position {
            return Ok(TargetItem::SameZeros { length: hole_end - self.position });
        }
        let length = BLOCK_BYTES.min(end - self.position);
        if is_zero(self.target.read(self.position, length)?) {
            return Ok(TargetItem::SameZeros { length });
        }
        Ok(TargetItem::Zeros { length })
    }

    /// What the target has here, and up to where, in whole blocks.
    fn stretch(&self, end: u64) -> Result<(ExtentKind, u64), TransferError> {
        let extent = self.target.extent_at(self.position, end - self.position)?;
        Ok((extent.kind, if extent.end >= end { end } else { extent.end - extent.end % BLOCK_BYTES }))
    }

    fn is_unconditional(&self, offset: u64, length: u64) -> bool {
        self.config.unconditional.overlaps(ByteRange::new(offset, offset + length))
    }
}
