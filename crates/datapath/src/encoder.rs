//! The second stage: finds blocks of zeros, digests the others, and leaves out what stored digests show to be unchanged. In the direct form
//! nothing is compressed.

use crate::control::Control;
use crate::digest::{BLOCK_BYTES, BlockDigest, blocks, is_zero};
use crate::error::TransferError;
use crate::handover::{Inlet, Load, Outlet};
use crate::pages::PageSet;
use crate::pool::PooledBuffer;
use crate::progress::Stage;
use crate::reader::SourceItem;
use crate::stored::{Digests, Lookup, Recorder, warn_unrecorded};

/// What the target is to hold. Items follow one another without gaps.
#[derive(Debug)]
pub(crate) enum TargetItem {
    Block {
        offset: u64,
        length: usize,
        buffer: PooledBuffer,
        digest: BlockDigest,
    },
    Zeros {
        length: u64,
    },
    /// A block that the target holds already.
    Same {
        length: u64,
        digest: BlockDigest,
    },
    /// Zeros that the target holds already.
    SameZeros {
        length: u64,
    },
    /// A block of which the target is to get these pages; it holds the others.
    Pages {
        offset: u64,
        length: usize,
        buffer: PooledBuffer,
        digest: BlockDigest,
        pages: PageSet,
    },
}

impl TargetItem {
    /// How much of the volume it stands for.
    pub(crate) fn volume_bytes(&self) -> u64 {
        match self {
            Self::Block { length, .. } | Self::Pages { length, .. } => *length as u64,
            Self::Zeros { length } | Self::Same { length, .. } | Self::SameZeros { length } => *length,
        }
    }
}

impl Load for TargetItem {
    fn held_bytes(&self) -> u64 {
        if matches!(self, Self::Block { .. } | Self::Pages { .. }) { BLOCK_BYTES } else { 0 }
    }
}

/// Encodes, notes what the digests are, and recognises what has not changed since the recovery point before.
pub(crate) struct Encoder<'a> {
    control: &'a Control,
    lookup: Option<Lookup<'a>>,
    recorder: Option<Recorder>,
    position: u64,
}

impl<'a> Encoder<'a> {
    /// `compares`: what the target holds already may be left out.
    pub(crate) fn new(control: &'a Control, digests: &'a Digests, compares: bool, position: u64) -> Self {
        let lookup = digests.stored.as_deref().filter(|_| compares).map(Lookup::new);
        let begun = digests.record_to.as_ref().map(|path| Recorder::begin(path, position));
        let recorder = begun.and_then(|begun| begun.inspect_err(warn_unrecorded).ok().flatten());
        Self { control, lookup, recorder, position }
    }

    /// Works until the reader ends or the transfer is aborted.
    pub(crate) fn run(mut self, inlet: &Inlet<'_, SourceItem>, outlet: &Outlet<'_, TargetItem>) {
        for item in inlet.iter() {
            let encoded = match self.control.counters.timed(Stage::Encode, || self.encode(item)) {
                Ok(encoded) => encoded,
                Err(error) => return self.control.fail(error),
            };
            for item in encoded {
                if self.control.is_aborted() || outlet.send(item).is_err() {
                    return;
                }
            }
        }
    }

    fn encode(&mut self, item: SourceItem) -> Result<Vec<TargetItem>, TransferError> {
        let (offset, length, buffer, is_sample) = match item {
            SourceItem::Hole { length } => return Ok(self.zeros(length)),
            SourceItem::Unread { length } => return self.unread(length),
            SourceItem::Block { offset, length, buffer, is_sample } => (offset, length, buffer, is_sample),
        };
        let bytes = buffer.split_at(length).0;
        let encoded = if is_zero(bytes) { self.zeros(length as u64) } else { self.block(offset, length, buffer) };
        let is_same = |item: &TargetItem| matches!(item, TargetItem::Same { .. } | TargetItem::SameZeros { .. });
        if is_sample && !encoded.iter().all(is_same) {
            return Err(TransferError::Untold { offset, length: length as u64 });
        }
        Ok(encoded)
    }

    fn block(&mut self, offset: u64, length: usize, buffer: PooledBuffer) -> Vec<TargetItem> {
        let digest = BlockDigest::of(buffer.split_at(length).0);
        if self.is_unchanged(length as u64, &digest) {
            return vec![TargetItem::Same { length: length as u64, digest }];
        }
        vec![TargetItem::Block { offset, length, buffer, digest }]
    }

    /// Blocks that nobody read: what is stored of them stands for them.
    fn unread(&mut self, length: u64) -> Result<Vec<TargetItem>, TransferError> {
        let mut items = Vec::new();
        for block in blocks(self.position, self.position + length) {
            let stored = self.lookup.as_mut().and_then(|lookup| lookup.at(block.offset));
            let digest = stored.ok_or(TransferError::DigestLost { offset: block.offset })?;
            self.is_unchanged(block.length, &digest);
            match (items.last_mut(), digest == BlockDigest::of_zeros(block.length)) {
                (Some(TargetItem::SameZeros { length }), true) => *length += block.length,
                (_, true) => items.push(TargetItem::SameZeros { length: block.length }),
                (_, false) => items.push(TargetItem::Same { length: block.length, digest }),
            }
        }
        Ok(items)
    }

    /// Zeros from here on, in stretches that changed and stretches that did not.
    fn zeros(&mut self, length: u64) -> Vec<TargetItem> {
        if self.lookup.is_none() && self.recorder.is_none() {
            self.position += length;
            return vec![TargetItem::Zeros { length }];
        }
        let mut stretches: Vec<(bool, u64)> = Vec::new();
        for block in blocks(self.position, self.position + length) {
            let unchanged = self.is_unchanged(block.length, &BlockDigest::of_zeros(block.length));
            match stretches.last_mut().filter(|(last, _)| *last == unchanged) {
                Some((_, length)) => *length += block.length,
                None => stretches.push((unchanged, block.length)),
            }
        }
        let item = |(unchanged, length)| {
            if unchanged { TargetItem::SameZeros { length } } else { TargetItem::Zeros { length } }
        };
        stretches.into_iter().map(item).collect()
    }

    /// Passes a block: whether stored digests show that it did not change.
    fn is_unchanged(&mut self, length: u64, digest: &BlockDigest) -> bool {
        let offset = self.position;
        self.position += length;
        if let Some(Err(error)) = self.recorder.as_mut().map(|recorder| recorder.note(digest)) {
            warn_unrecorded(&error);
            self.recorder = None;
        }
        self.lookup.as_mut().and_then(|lookup| lookup.at(offset)).is_some_and(|stored| stored == *digest)
    }
}
