//! The reservation key: who may write, in 64 bits.
//!
//! ```text
//! 63        52 51        40 39      32 31                    0
//! |   magic   |  cluster   |   slot   |         epoch         |
//!    12 bits     12 bits     8 bits            32 bits
//! ```
//!
//! The magic tells ours from everybody else's. The cluster is the lowest bits of its id: two installations on one array are strangers to
//! each other (but for one pair in 4096, which the identity of the replication's volumes tells apart before that). The slot is the
//! lowest bits of the agent's number, for people who read a key off a unit: of more than 256 agents some have it in common. Which
//! process a key stands for is told by the epoch, the fencing token itself: of one target no two processes are granted the same. A key is never zero, which both standards give a meaning of its own.

use serde::{Deserialize, Serialize};
use tanist_model::agent::AgentSlot;
use tanist_model::id::{ClusterId, Epoch};

use super::RawKey;

/// "tan", in the twelve bits that begin each of our keys.
const MAGIC: u64 = 0x7a4;
const TWELVE: u64 = 0xfff;

/// The part of a cluster's id that a key carries.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClusterTag(u16);

impl ClusterTag {
    #[must_use]
    pub fn of(cluster: ClusterId) -> Self {
        Self(u16::try_from(cluster.0 & TWELVE).unwrap_or_default())
    }
}

/// The part of an agent's number that a key carries.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SlotTag(u8);

impl SlotTag {
    #[must_use]
    pub fn of(slot: AgentSlot) -> Self {
        Self(slot.0.to_be_bytes()[3])
    }
}

/// A key of ours, taken apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct ReservationKey {
    pub cluster: ClusterTag,
    pub slot: SlotTag,
    pub epoch: Epoch,
}

impl ReservationKey {
    /// As the device compares it.
    #[must_use]
    pub fn raw(self) -> RawKey {
        let (cluster, slot) = (u64::from(self.cluster.0), u64::from(self.slot.0));
        RawKey(MAGIC << 52 | cluster << 40 | slot << 32 | u64::from(self.epoch.0))
    }

    /// Takes a key apart that a device has reported; `None` if it is not of this cluster.
    #[must_use]
    pub fn read(raw: RawKey, cluster: ClusterTag) -> Option<Self> {
        let ours = raw.0 >> 52 == MAGIC && raw.0 >> 40 & TWELVE == u64::from(cluster.0);
        let slot = u8::try_from(raw.0 >> 32 & 0xff).ok()?;
        let epoch = u32::try_from(raw.0 & u64::from(u32::MAX)).ok()?;
        ours.then_some(Self { cluster, slot: SlotTag(slot), epoch: Epoch(epoch) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_layout_is_for_ever() {
        let cluster = ClusterTag::of(ClusterId(0xabcd_e123));
        let key = ReservationKey { cluster, slot: SlotTag::of(AgentSlot(0x45)), epoch: Epoch(0x6789_abcd) };
        assert_eq!(key.raw(), RawKey(0x7a41_2345_6789_abcd));
    }

    proptest! {
        #[test]
        fn a_key_is_read_as_it_was_written(cluster: u64, slot: u32, epoch: u32) {
            let cluster = ClusterTag::of(ClusterId(cluster));
            let key = ReservationKey { cluster, slot: SlotTag::of(AgentSlot(slot)), epoch: Epoch(epoch) };
            prop_assert_ne!(key.raw().0, 0);
            prop_assert_eq!(ReservationKey::read(key.raw(), cluster), Some(key));
        }

        #[test]
        fn whatever_is_read_as_ours_is_written_back_the_same(raw: u64, cluster: u64) {
            let cluster = ClusterTag::of(ClusterId(cluster));
            if let Some(key) = ReservationKey::read(RawKey(raw), cluster) {
                prop_assert_eq!(key.raw(), RawKey(raw));
            }
        }

        #[test]
        fn another_clusters_key_is_foreign(slot: u32, epoch: u32, one in 0..4096u64, other in 0..4096u64) {
            prop_assume!(one != other);
            let slot = SlotTag::of(AgentSlot(slot));
            let key = ReservationKey { cluster: ClusterTag::of(ClusterId(one)), slot, epoch: Epoch(epoch) };
            prop_assert_eq!(ReservationKey::read(key.raw(), ClusterTag::of(ClusterId(other))), None);
        }
    }
}
