//! Identities from entropy that the shell gives once: the machines stay deterministic, a seed replays them.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tanist_model::id::{CommandId, Nonce, ReplicationId, RunId, SnapshotId};

/// A generator of identities (SplitMix64 over two lanes). Not for secrets: those come from the operating system.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct IdSource {
    lanes: [u64; 2],
}

impl IdSource {
    #[must_use]
    pub fn new(entropy: u128) -> Self {
        let [low, high] = [entropy & u128::from(u64::MAX), entropy >> 64].map(|half| u64::try_from(half).unwrap_or(0));
        Self { lanes: [low, high] }
    }

    fn next(&mut self, lane: usize) -> u64 {
        const GOLDEN_GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;
        self.lanes[lane] = self.lanes[lane].wrapping_add(GOLDEN_GAMMA);
        let mut z = self.lanes[lane];
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn narrow(&mut self) -> u64 {
        self.next(0) ^ self.next(1).rotate_left(32)
    }

    fn wide(&mut self) -> u128 {
        (u128::from(self.next(0)) << 64) | u128::from(self.next(1))
    }

    /// A time from the half to the whole of this one.
    pub fn part_of(&mut self, whole: Duration) -> Duration {
        let half = whole / 2;
        let steps = u32::try_from(self.narrow() % (1 << 10)).unwrap_or(0);
        half + half / (1 << 10) * steps
    }

    pub fn command(&mut self) -> CommandId {
        CommandId(self.wide())
    }

    pub fn generation(&mut self) -> u64 {
        self.narrow()
    }

    pub fn nonce(&mut self) -> Nonce {
        Nonce(self.wide())
    }

    pub fn replication(&mut self) -> ReplicationId {
        ReplicationId(self.narrow())
    }

    pub fn run(&mut self) -> RunId {
        RunId(self.narrow())
    }

    pub fn snapshot(&mut self) -> SnapshotId {
        SnapshotId(self.narrow())
    }
}
