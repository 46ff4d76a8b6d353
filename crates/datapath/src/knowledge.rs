//! What a source knows of its target while they compare over the network: digests that come ahead, and pages that were asked for.
//!
//! The digests are xxh3-128 under a seed that both sides take from the stream's key: another one for every opening, so that two blocks
//! that happen to collide once do not collide for ever. A 64 KiB digest is made of the digests of its pages: the target reads once
//! and keeps the finer ones until they are asked for or their block is settled.

use std::collections::{BTreeMap, VecDeque};

use xxhash_rust::xxh3::{xxh3_64, xxh3_128_with_seed};

use crate::digest::BLOCK_BYTES;
use crate::frame::{Comparison, FrameKey};
use crate::link::LinkError;
use crate::pages::PAGE_LEN;

/// Size of what is compared first, in bytes.
pub(crate) const CHUNK_LEN: usize = 64 << 10;
/// Size of a digest on the wire, in bytes.
pub(crate) const DIGEST_LEN: usize = 16;
/// How far a target reads ahead of what is settled; its digests are all that both sides hold of it.
pub(crate) const LOOKAHEAD_BYTES: u64 = 64 << 20;
/// The most of a volume that one frame of digests stands for.
pub(crate) const DIGESTS_BYTES: u64 = 16 << 20;
/// Stretches of zeros that a source keeps in mind; a target sends no more before some are settled, since it reads no further.
pub(crate) const STRETCH_LIMIT: usize = 4096;
/// Answers about pages that a source keeps until it uses them: more than it ever asks for at a time.
pub(crate) const ANSWER_LIMIT: usize = 16;

pub(crate) type PageDigest = [u8; DIGEST_LEN];

/// The seed of all digests of one opening.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seed(u64);

impl Seed {
    pub(crate) fn of(key: &FrameKey) -> Self {
        let mut bytes = Vec::with_capacity(32);
        bytes.extend(key.run.0.to_le_bytes());
        bytes.extend(key.epochs.source.0.to_le_bytes());
        bytes.extend(key.epochs.target.0.to_le_bytes());
        bytes.extend(key.generation.0.to_le_bytes());
        Self(xxh3_64(&bytes))
    }

    /// The digests of a block's pages, in order.
    pub(crate) fn pages(self, block: &[u8]) -> Vec<PageDigest> {
        block.chunks(PAGE_LEN).map(|page| self.digest(page)).collect()
    }

    /// The digests of a block's chunks, out of those of its pages.
    pub(crate) fn chunks(self, pages: &[PageDigest]) -> Vec<PageDigest> {
        pages.chunks(CHUNK_LEN / PAGE_LEN).map(|pages| self.digest(pages.as_flattened())).collect()
    }

    fn digest(self, bytes: &[u8]) -> PageDigest {
        xxh3_128_with_seed(bytes, self.0).to_le_bytes()
    }
}

/// How many chunks a block of this length has.
pub(crate) fn chunk_count(length: u64) -> usize {
    usize::try_from(length.div_ceil(CHUNK_LEN as u64)).unwrap_or(usize::MAX)
}

/// What is known of the target where a block begins.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Known {
    /// That reading it proves nothing: everything is sent.
    Nothing,
    /// That it is zeros, up to this byte.
    Zeros { until: u64 },
    /// The digests of its chunks.
    Digests(Vec<PageDigest>),
}

/// What was heard and is not used up. Offsets ascend.
#[derive(Debug)]
pub(crate) struct Knowledge {
    size_bytes: u64,
    comparison: Comparison,
    /// Everything below that was to be told has been heard of.
    heard: u64,
    stretches: VecDeque<(u64, u64, Known)>,
    pages: BTreeMap<u64, Vec<PageDigest>>,
}

impl Knowledge {
    pub(crate) fn new(from_seq: u64, size_bytes: u64, comparison: Comparison) -> Self {
        Self { size_bytes, comparison, heard: from_seq, stretches: VecDeque::new(), pages: BTreeMap::new() }
    }

    /// Takes in what the target says of `[offset, offset + length)`; without digests it says nothing or, of zeros, all.
    pub(crate) fn hear(&mut self, offset: u64, length: u64, known: Known, code: u8) -> Result<(), LinkError> {
        let unexpected = LinkError::Unexpected { kind: code };
        let end = offset.checked_add(length).filter(|end| *end <= self.size_bytes);
        // Where the target tells only what it is asked for, it passes over the rest.
        let follows = offset == self.heard || (self.comparison == Comparison::Asked && offset > self.heard);
        let (Some(end), true) = (end, follows) else { return Err(unexpected) };
        let whole = end == self.size_bytes || end.is_multiple_of(BLOCK_BYTES);
        if !whole || self.stretches.len() >= STRETCH_LIMIT {
            return Err(unexpected);
        }
        self.heard = end;
        match known {
            Known::Digests(digests) => self.hear_digests(offset, end, &digests).ok_or(unexpected),
            other => {
                self.stretches.push_back((offset, end, other));
                Ok(())
            }
        }
    }

    fn hear_digests(&mut self, offset: u64, end: u64, digests: &[PageDigest]) -> Option<()> {
        let mut rest = digests;
        let mut at = offset;
        while at < end {
            let block_end = end.min(at + BLOCK_BYTES);
            let (own, later) = rest.split_at_checked(chunk_count(block_end - at))?;
            self.stretches.push_back((at, block_end, Known::Digests(own.to_vec())));
            (rest, at) = (later, block_end);
        }
        rest.is_empty().then_some(())
    }

    /// Takes in the answer to a question about a block. A target answers what it was asked: more than can have been is refused.
    pub(crate) fn hear_pages(&mut self, offset: u64, digests: Vec<PageDigest>, code: u8) -> Result<(), LinkError> {
        if self.pages.len() >= ANSWER_LIMIT && !self.pages.contains_key(&offset) {
            return Err(LinkError::Unexpected { kind: code });
        }
        self.pages.insert(offset, digests);
        Ok(())
    }

    /// Whether anything is known where a block begins.
    pub(crate) fn reaches(&self, offset: u64) -> bool {
        offset < self.heard
    }

    /// What is known where a block begins; what lies before is forgotten.
    pub(crate) fn at(&mut self, offset: u64) -> Known {
        while self.stretches.front().is_some_and(|(_, end, _)| *end <= offset) {
            self.stretches.pop_front();
        }
        match self.stretches.front() {
            // A target that passes over what it was asked has said nothing of it.
            Some((start, _, _)) if *start > offset => Known::Nothing,
            Some((_, end, Known::Zeros { .. })) => Known::Zeros { until: *end },
            Some((_, _, known)) => known.clone(),
            None => Known::Nothing,
        }
    }

    /// How many stretches and answers are kept.
    #[cfg(feature = "decoders")]
    pub(crate) fn size(&self) -> (usize, usize) {
        (self.stretches.len(), self.pages.len())
    }

    pub(crate) fn has_pages(&self, offset: u64) -> bool {
        self.pages.contains_key(&offset)
    }

    pub(crate) fn take_pages(&mut self, offset: u64) -> Vec<PageDigest> {
        self.pages.remove(&offset).unwrap_or_default()
    }
}
