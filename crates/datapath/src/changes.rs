//! What a storage system says changed at a source since the recovery point before: what it does not name is not read, but for a sample.
//!
//! Its word is not the last (docs/decisions/0034): every block that is left unread has a stored digest, and of every 64 such blocks one is
//! read all the same and held against it.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use tanist_model::byte_range::ByteRange;

use crate::digest::BLOCK_BYTES;

/// One block in so many that are not named is read, chosen by chance; the first always.
const SAMPLED_ONE_IN: u64 = 64;
/// So much at a time is passed without being read: whoever looks up its digests stays within bounds.
const MOST_AT_ONCE: u64 = 1024 * BLOCK_BYTES;

/// Where a source may differ from what stored digests are of, in whole blocks.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Changes(Vec<ByteRange>);

impl Changes {
    /// Rounded outwards to whole blocks, whatever order they come in and however they overlap.
    #[must_use]
    pub fn new(ranges: impl IntoIterator<Item = ByteRange>) -> Self {
        let blocks = |range: ByteRange| {
            let end = range.end.checked_next_multiple_of(BLOCK_BYTES).unwrap_or(u64::MAX);
            ByteRange::new(range.start - range.start % BLOCK_BYTES, end)
        };
        let mut ranges: Vec<_> = ranges.into_iter().filter(|range| !range.is_empty()).map(blocks).collect();
        ranges.sort_unstable();
        ranges.dedup_by(|next, kept| {
            let touches = next.start <= kept.end;
            kept.end = if touches { kept.end.max(next.end) } else { kept.end };
            touches
        });
        Self(ranges)
    }

    /// How much is named, in bytes of whole blocks; the last may reach past the volume's end.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.0.iter().fold(0, |sum, range| sum.saturating_add(range.end - range.start))
    }

    /// Up to where nothing is named from `offset` on; `offset` itself if something is named there.
    fn unnamed_until(&self, offset: u64) -> u64 {
        let next = self.0.partition_point(|range| range.end <= offset);
        self.0.get(next).map_or(u64::MAX, |range| range.start.max(offset))
    }
}

/// What is to be done with the block at a place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Look {
    /// It is read: nothing is known of it.
    Read,
    /// It is read, and is to be what its stored digest says.
    Sample,
    /// Nothing up to this byte is read.
    PassTo(u64),
}

/// Goes through a source in order, and says what is read of it.
pub(crate) struct Looks<'a> {
    changes: &'a Changes,
    chance: RandomState,
    first: Option<u64>,
}

impl<'a> Looks<'a> {
    pub(crate) fn new(changes: &'a Changes) -> Self {
        Self { changes, chance: RandomState::new(), first: None }
    }

    /// At the beginning of a block of a volume of this size. Asked again, the answer is the same.
    pub(crate) fn at(&mut self, offset: u64, size_bytes: u64) -> Look {
        let until = self.changes.unnamed_until(offset).min(size_bytes).min(offset.saturating_add(MOST_AT_ONCE));
        if until <= offset {
            return Look::Read;
        }
        if *self.first.get_or_insert(offset) == offset || self.is_chosen(offset) {
            return Look::Sample;
        }
        let mut end = offset + BLOCK_BYTES;
        while end < until && !self.is_chosen(end) {
            end += BLOCK_BYTES;
        }
        Look::PassTo(end.min(until))
    }

    fn is_chosen(&self, offset: u64) -> bool {
        self.chance.hash_one(offset).is_multiple_of(SAMPLED_ONE_IN)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SIZE: u64 = 4000 * BLOCK_BYTES + 17;

    fn range(start: u64, end: u64) -> ByteRange {
        ByteRange::new(start, end)
    }

    #[test]
    fn what_is_named_is_rounded_outwards_and_joined() {
        let changes =
            Changes::new([range(5 * BLOCK_BYTES - 1, 5 * BLOCK_BYTES), range(1, 2), range(7, 7), range(0, 9)]);
        assert_eq!(changes.0, [range(0, BLOCK_BYTES), range(4 * BLOCK_BYTES, 5 * BLOCK_BYTES)]);
        assert_eq!(changes.total_bytes(), 2 * BLOCK_BYTES);
        assert_eq!(Changes::new([range(u64::MAX - 1, u64::MAX)]).total_bytes() % BLOCK_BYTES, BLOCK_BYTES - 1);
    }

    #[test]
    fn about_one_block_in_64_is_looked_at_and_the_first_always() {
        let nothing = Changes::default();
        let mut looks = Looks::new(&nothing);
        assert_eq!([looks.at(0, SIZE), looks.at(0, SIZE)], [Look::Sample; 2]);
        let (mut at, mut sampled) = (BLOCK_BYTES, 0);
        while at < SIZE {
            at = match looks.at(at, SIZE) {
                Look::PassTo(end) => end,
                _ => {
                    sampled += 1;
                    at + BLOCK_BYTES
                }
            };
        }
        assert!((20..130).contains(&sampled), "{sampled} of 4000");
    }

    proptest! {
        /// Whatever is named is read, and nothing is passed twice or left out.
        #[test]
        fn nothing_that_is_named_is_passed(places in prop::collection::vec((0..SIZE, 1..3 * BLOCK_BYTES), 0..20)) {
            let named: Vec<ByteRange> = places.into_iter().map(|(start, length)| range(start, start + length)).collect();
            let changes = Changes::new(named.clone());
            let (mut looks, mut at) = (Looks::new(&changes), 0);
            while at < SIZE {
                let block_end = SIZE.min(at + BLOCK_BYTES);
                at = match looks.at(at, SIZE) {
                    Look::PassTo(end) => {
                        prop_assert!(end > at && end <= SIZE && (end == SIZE || end.is_multiple_of(BLOCK_BYTES)));
                        prop_assert!(named.iter().all(|range| range.end <= at || range.start >= end));
                        end
                    }
                    Look::Sample => {
                        prop_assert!(named.iter().all(|range| range.end <= at || range.start >= block_end));
                        block_end
                    }
                    Look::Read => block_end,
                };
            }
        }
    }
}
