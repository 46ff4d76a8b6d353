//! Chance from a seed (SplitMix64): a failing test prints its seed, and `TANIST_SEED` repeats it.

use std::time::{SystemTime, UNIX_EPOCH};

/// A stream of numbers that its seed decides.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// From `TANIST_SEED`, else from the clock; printed, so that a failure shows it.
    #[must_use]
    pub fn seeded(what: &str) -> Self {
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| u64::from(since.subsec_nanos()));
        Self::seeded_or(what, clock)
    }

    /// From `TANIST_SEED`, else from this number; printed all the same.
    #[must_use]
    pub fn seeded_or(what: &str, number: u64) -> Self {
        let seed = crate::setting("TANIST_SEED", number);
        println!("{what}: TANIST_SEED={seed}");
        Self(seed)
    }

    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// At least `from`, less than `to`.
    pub fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.number() % (to - from)
    }

    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.number().to_le_bytes()[..chunk.len()]);
        }
    }
}
