//! What was written since the last checkpoint: the blocks and their digests, held until the window is durable and no longer.

use crate::digest::{BLOCK_BYTES, BlockDigest};

/// One part of a window. Parts lie one after the other without gaps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Part {
    /// One block of data.
    Data { length: u64, digest: BlockDigest },
    /// Any number of zero blocks.
    Zeros { length: u64 },
}

impl Part {
    pub(crate) fn length(&self) -> u64 {
        match self {
            Self::Data { length, .. } | Self::Zeros { length } => *length,
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
    /// at most one block; zeros that adjoin zeros as nothing more.
    pub(crate) fn push(&mut self, part: Part) {
        match (self.parts.last_mut(), part) {
            (Some(Part::Zeros { length: before }), Part::Zeros { length }) => {
                *before += length;
                self.end += length;
            }
            (_, Part::Zeros { length } | Part::Data { length, .. }) => {
                self.parts.push(part);
                self.end += length;
                self.work_bytes += length.min(BLOCK_BYTES);
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
