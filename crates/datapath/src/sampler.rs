//! A look at the target where nothing would be read of it: one block in some that stored digests leave out.
//!
//! Stored digests say what the target held when its recovery point was made. That nobody else has written to it since is what the
//! operator promised, and what nothing but reading shows. A target that was replaced, rolled back or overwritten is found at once, one
//! damaged block with the chance of the sample; the verification of the whole target is for the rest.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use crate::compared::ComparedTarget;
use crate::control::Control;
use crate::digest::{BlockDigest, blocks};
use crate::error::TransferError;
use crate::io::BlockDevice;

/// One block in so many is read, chosen by chance; the first that is left out always.
pub const SAMPLED_ONE_IN: u64 = 64;

pub(crate) struct Sampler<'a> {
    target: ComparedTarget<'a>,
    chance: RandomState,
    is_first: bool,
}

impl<'a> Sampler<'a> {
    pub(crate) fn new(target: &'a dyn BlockDevice, control: &'a Control) -> Self {
        Self { target: ComparedTarget::new(target, control), chance: RandomState::new(), is_first: true }
    }

    /// # Errors
    /// [`TransferError::NotTheBase`] if the block is read and has another digest.
    pub(crate) fn check(&mut self, offset: u64, length: u64, digest: &BlockDigest) -> Result<(), TransferError> {
        let is_sampled =
            std::mem::take(&mut self.is_first) || self.chance.hash_one(offset).is_multiple_of(SAMPLED_ONE_IN);
        if is_sampled && BlockDigest::of(self.target.read(offset, length)?) != *digest {
            return Err(TransferError::NotTheBase { offset, length });
        }
        Ok(())
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
