//! The second stage: finds blocks of zeros and digests the others. In the direct form nothing is compressed.

use std::sync::mpsc::{Receiver, SyncSender};

use crate::control::Control;
use crate::digest::{BlockDigest, is_zero};
use crate::pages::PageSet;
use crate::pool::PooledBuffer;
use crate::progress::Stage;
use crate::reader::SourceItem;

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

/// Encodes until the reader ends or the transfer is aborted.
pub(crate) fn run(control: &Control, inlet: &Receiver<SourceItem>, outlet: &SyncSender<TargetItem>) {
    for item in inlet {
        let encoded = control.counters.timed(Stage::Encode, || encode(item));
        if control.is_aborted() || outlet.send(encoded).is_err() {
            return;
        }
    }
}

fn encode(item: SourceItem) -> TargetItem {
    match item {
        SourceItem::Hole { length } => TargetItem::Zeros { length },
        SourceItem::Block { offset, length, buffer } => {
            let bytes = buffer.split_at(length).0;
            if is_zero(bytes) {
                return TargetItem::Zeros { length: length as u64 };
            }
            let digest = BlockDigest::of(bytes);
            TargetItem::Block { offset, length, buffer, digest }
        }
    }
}
