//! A look at the target where nothing would be read of it: one block in some that stored digests leave out.
//!
//! Stored digests say what the target held when its recovery point was made. That nobody else has written to it since is what the
//! operator promised, and what nothing but reading shows. A target that was replaced, rolled back or overwritten is found at once, one
//! damaged block with the chance of the sample; the verification of the whole target is for the rest.

use std::collections::VecDeque;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use crate::compared::ComparedTarget;
use crate::control::Control;
use crate::digest::{BlockDigest, blocks};
use crate::error::TransferError;
use crate::io::BlockDevice;

/// One block in so many is read, chosen by chance; the first that is left out always.
const SAMPLED_ONE_IN: u64 = 64;

pub(crate) struct Sampler<'a> {
    target: ComparedTarget<'a>,
    control: &'a Control,
    chance: RandomState,
    is_first: bool,
    /// What the source has asked for, ascending: what it leaves out there, it leaves out because of the answer.
    asked: VecDeque<(u64, u64)>,
}

impl<'a> Sampler<'a> {
    pub(crate) fn new(target: &'a dyn BlockDevice, control: &'a Control) -> Self {
        let target = ComparedTarget::new(target, control);
        Self { target, control, chance: RandomState::new(), is_first: true, asked: VecDeque::new() }
    }

    /// The source is told what the target has there.
    pub(crate) fn note_asked(&mut self, offset: u64, length: u64) {
        self.asked.push_back((offset, offset + length));
    }

    /// # Errors
    /// [`TransferError::NotTheBase`] if the block is read and has another digest.
    pub(crate) fn check(&mut self, offset: u64, length: u64, digest: &BlockDigest) -> Result<(), TransferError> {
        if self.was_asked(offset) {
            return Ok(());
        }
        if !self.is_chosen(offset) {
            self.control.counters.assumed_bytes.add(length);
            return Ok(());
        }
        let holds = BlockDigest::of(self.target.read(offset, length)?) == *digest;
        if holds { Ok(()) } else { Err(TransferError::NotTheBase { offset, length }) }
    }

    fn was_asked(&mut self, offset: u64) -> bool {
        while self.asked.front().is_some_and(|(_, end)| *end <= offset) {
            self.asked.pop_front();
        }
        self.asked.front().is_some_and(|(start, _)| *start <= offset)
    }

    fn is_chosen(&mut self, offset: u64) -> bool {
        std::mem::take(&mut self.is_first) || self.chance.hash_one(offset).is_multiple_of(SAMPLED_ONE_IN)
    }

    /// The same for zeros.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub(crate) fn check_zeros(&mut self, offset: u64, length: u64) -> Result<(), TransferError> {
        blocks(offset, offset + length)
            .try_for_each(|block| self.check(block.offset, block.length, &BlockDigest::of_zeros(block.length)))
    }
}
