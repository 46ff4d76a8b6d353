//! Digests of blocks, and the chain that proves a whole prefix of a volume by 32 bytes.
//!
//! A checkpoint carries `chain(n) = BLAKE3(chain(n-1) || BLAKE3(block n))`, so that two agents that copied different parts
//! of one snapshot arrive at the value a single agent would have. Zeros and holes enter like the data they are.

use std::sync::LazyLock;

use tanist_model::run::{ChainDigest, Checkpoint};

use crate::pages::PageSet;

/// Size of a digest block in bytes; also the size of one I/O. The last block of a volume may be shorter.
pub const BLOCK_BYTES: u64 = 1 << 20;
/// [`BLOCK_BYTES`] as a length in memory.
pub const BLOCK_LEN: usize = 1 << 20;

static ZERO_PAGE: [u8; 4096] = [0; 4096];
static ZERO_BLOCK_DIGEST: LazyLock<BlockDigest> = LazyLock::new(|| hash_zeros(BLOCK_BYTES));

/// BLAKE3 of one block's bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlockDigest(pub [u8; 32]);

impl BlockDigest {
    /// The digest of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// The digest of `length` zero bytes; costs nothing for a whole block.
    #[must_use]
    pub fn of_zeros(length: u64) -> Self {
        if length == BLOCK_BYTES { *ZERO_BLOCK_DIGEST } else { hash_zeros(length) }
    }
}

/// The digest of the written pages of a block, one run of neighbours after the other.
pub(crate) struct PagesDigest;

impl PagesDigest {
    /// Of these pages of a block.
    pub(crate) fn of(block: &[u8], pages: PageSet) -> BlockDigest {
        let mut digest = blake3::Hasher::new();
        for run in pages.byte_runs(block.len()) {
            digest.update(block.get(run).unwrap_or_default());
        }
        BlockDigest(*digest.finalize().as_bytes())
    }
}

fn hash_zeros(length: u64) -> BlockDigest {
    let mut hasher = blake3::Hasher::new();
    for piece in zero_pieces(length) {
        hasher.update(piece);
    }
    BlockDigest(*hasher.finalize().as_bytes())
}

/// `length` zero bytes in pieces of at most a page.
fn zero_pieces(length: u64) -> impl Iterator<Item = &'static [u8]> {
    let mut left = length;
    std::iter::from_fn(move || {
        let piece = usize::try_from(left).unwrap_or(usize::MAX).min(ZERO_PAGE.len());
        left -= piece as u64;
        (piece > 0).then(|| ZERO_PAGE.split_at(piece).0)
    })
}

/// True if every byte is zero.
#[must_use]
pub fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(ZERO_PAGE.len()).all(|page| page == ZERO_PAGE.split_at(page.len()).0)
}

/// A block's place in the volume.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlockRange {
    pub offset: u64,
    /// At most [`BLOCK_BYTES`].
    pub length: u64,
}

/// The digest blocks of `[from, to)`; `from` lies on a block boundary.
pub fn blocks(from: u64, to: u64) -> impl Iterator<Item = BlockRange> {
    let mut offset = from;
    std::iter::from_fn(move || {
        let length = to.saturating_sub(offset).min(BLOCK_BYTES);
        let range = BlockRange { offset, length };
        offset += length;
        (length > 0).then_some(range)
    })
}

/// The chain after one more block.
#[must_use]
pub fn extend_chain(chain: ChainDigest, block: &BlockDigest) -> ChainDigest {
    let mut joined = [0; 64];
    joined[..32].copy_from_slice(&chain.0);
    joined[32..].copy_from_slice(&block.0);
    ChainDigest(*blake3::hash(&joined).as_bytes())
}

/// The checkpoint after a block of `length` bytes with this digest.
#[must_use]
pub fn advance(from: Checkpoint, length: u64, block: &BlockDigest) -> Checkpoint {
    Checkpoint { seq: from.seq + length, chain: extend_chain(from.chain, block) }
}

/// The checkpoint after zeros up to byte `to`.
#[must_use]
pub fn advance_zeros(from: Checkpoint, to: u64) -> Checkpoint {
    blocks(from.seq, to).fold(from, |at, block| advance(at, block.length, &BlockDigest::of_zeros(block.length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_chain_like_data() {
        let size = 3 * BLOCK_BYTES + 513;
        let data = vec![0; usize::try_from(size).unwrap()];
        let by_data = data
            .chunks(BLOCK_LEN)
            .fold(Checkpoint::START, |at, block| advance(at, block.len() as u64, &BlockDigest::of(block)));
        assert_eq!(advance_zeros(Checkpoint::START, size), by_data);
    }

    #[test]
    fn one_byte_breaks_zero() {
        let mut bytes = vec![0; 10_000];
        assert!(is_zero(&bytes));
        bytes[9_999] = 1;
        assert!(!is_zero(&bytes));
        assert!(is_zero(&[]));
    }
}
