//! What was written since the last checkpoint: the blocks and their digests, held until the window is durable and no longer.

use crate::digest::{BLOCK_BYTES, BLOCK_LEN, BlockDigest};
use crate::pages::PageSet;

/// One part of a window. Parts lie one after the other without gaps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Part {
    /// One block of data.
    Data { length: u64, digest: BlockDigest },
    /// Any number of zero blocks.
    Zeros { length: u64 },
    /// One block of which some pages were written: its digest, and that of what was written.
    Pages { length: u64, digest: BlockDigest, pages: PageSet, written: BlockDigest },
    /// One block that was left as it is.
    Same { length: u64, digest: BlockDigest },
    /// Any number of zero blocks that were left as they are.
    SameZeros { length: u64 },
}

/// The work that a part is of which nothing was written: as little as bounds the number of parts.
const UNWRITTEN_WORK_BYTES: u64 = BLOCK_BYTES / 16;

impl Part {
    pub(crate) fn length(&self) -> u64 {
        match self {
            Self::Data { length, .. }
            | Self::Zeros { length }
            | Self::Pages { length, .. }
            | Self::Same { length, .. }
            | Self::SameZeros { length } => *length,
        }
    }

    /// How much of it was written or zeroed.
    pub(crate) fn written_bytes(&self) -> u64 {
        match self {
            Self::Data { length, .. } | Self::Zeros { length } => *length,
            Self::Pages { length, pages, .. } => {
                pages.total_bytes(usize::try_from(*length).unwrap_or(BLOCK_LEN)) as u64
            }
            Self::Same { .. } | Self::SameZeros { .. } => 0,
        }
    }

    fn work_bytes(&self) -> u64 {
        match self {
            Self::Data { length, .. } | Self::Zeros { length } => (*length).min(BLOCK_BYTES),
            _ => self.written_bytes().max(UNWRITTEN_WORK_BYTES),
        }
    }
}

/// A contiguous stretch of the volume of which every byte has been written or zeroed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Window {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) parts: Vec<Part>,
    /// How much work it is: see [`Window::push`]. It bounds the number of parts, and so the memory of a window.
    pub(crate) work_bytes: u64,
}

impl Window {
    pub(crate) fn starting_at(start: u64) -> Self {
        Self { start, end: start, ..Self::default() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Adds what comes next. Data counts as work by its length; a stretch of zeros, which no device stores byte by byte, as
    /// at most one block; zeros that adjoin zeros as nothing more; what was left as it is, as a little.
    pub(crate) fn push(&mut self, part: Part) {
        self.end += part.length();
        match (self.parts.last_mut(), part) {
            (Some(Part::Zeros { length: before }), Part::Zeros { length })
            | (Some(Part::SameZeros { length: before }), Part::SameZeros { length }) => *before += length,
            _ => {
                self.work_bytes += part.work_bytes();
                self.parts.push(part);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_merge_and_cost_one_block() {
        let mut window = Window::starting_at(BLOCK_BYTES);
        window.push(Part::Zeros { length: 100 * BLOCK_BYTES });
        window.push(Part::Zeros { length: BLOCK_BYTES });
        window.push(Part::Data { length: 5, digest: BlockDigest([0; 32]) });
        assert_eq!((window.parts.len(), window.end, window.work_bytes), (2, 102 * BLOCK_BYTES + 5, BLOCK_BYTES + 5));
    }
}
