//! Stretches of a volume, and bounded sets of them.

use serde::{Deserialize, Serialize};

/// Bytes `[start, end)` of a volume.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ByteRange {
    pub start: u64,
    /// Exclusive.
    pub end: u64,
}

/// A set of bytes of a volume: ranges in order that neither touch nor overlap.
///
/// It may name more than was put in, never less: of more than [`ByteRanges::LIMIT`] ranges those with the smallest gap between them become
/// one. So it serves to say what is in doubt, and its size in a record is bounded whatever happens.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(from = "Vec<ByteRange>")]
pub struct ByteRanges(Vec<ByteRange>);

impl ByteRange {
    #[must_use]
    pub fn new(start: u64, end: u64) -> Self {
        Self { start, end }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.start >= self.end
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.start < other.end && other.start < self.end
    }
}

impl ByteRanges {
    /// The most ranges that a set keeps apart.
    pub const LIMIT: usize = 32;

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[must_use]
    pub fn as_slice(&self) -> &[ByteRange] {
        &self.0
    }

    /// How many bytes are in it.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.0.iter().fold(0, |sum, range| sum.saturating_add(range.end.saturating_sub(range.start)))
    }

    /// Puts a range in.
    pub fn insert(&mut self, range: ByteRange) {
        if range.is_empty() {
            return;
        }
        self.0.push(range);
        self.0.sort_unstable();
        self.join_touching();
        while self.0.len() > Self::LIMIT {
            self.join_nearest();
        }
    }

    /// The same set with this range in it.
    #[must_use]
    pub fn with(mut self, range: ByteRange) -> Self {
        self.insert(range);
        self
    }

    /// True if any byte of the range is in it.
    #[must_use]
    pub fn overlaps(&self, range: ByteRange) -> bool {
        !range.is_empty() && self.0.iter().any(|own| own.overlaps(&range))
    }

    /// Whether the byte at `offset` is in it, and up to where that answer holds (`u64::MAX` if for ever).
    #[must_use]
    pub fn at(&self, offset: u64) -> (bool, u64) {
        match self.0.iter().find(|range| range.end > offset) {
            None => (false, u64::MAX),
            Some(range) if range.start > offset => (false, range.start),
            Some(range) => (true, range.end),
        }
    }

    fn join_touching(&mut self) {
        self.0.dedup_by(|next, kept| {
            let touches = next.start <= kept.end;
            if touches {
                kept.end = kept.end.max(next.end);
            }
            touches
        });
    }

    fn join_nearest(&mut self) {
        let gaps = self.0.windows(2).enumerate().filter_map(|(i, pair)| match pair {
            [left, right] => Some((right.start - left.end, i)),
            _ => None,
        });
        let Some((_, i)) = gaps.min() else { return };
        let removed = self.0.remove(i + 1);
        if let Some(kept) = self.0.get_mut(i) {
            kept.end = removed.end;
        }
    }
}

/// Whoever wrote them down may have kept to another order or bound: what is read is put in range by range.
impl From<Vec<ByteRange>> for ByteRanges {
    fn from(ranges: Vec<ByteRange>) -> Self {
        ranges.into_iter().collect()
    }
}

impl FromIterator<ByteRange> for ByteRanges {
    fn from_iter<I: IntoIterator<Item = ByteRange>>(ranges: I) -> Self {
        ranges.into_iter().fold(Self::default(), Self::with)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ranges() -> impl Strategy<Value = Vec<ByteRange>> {
        prop::collection::vec((0..2000u64, 0..40u64), 0..120)
            .prop_map(|pairs| pairs.into_iter().map(|(start, length)| ByteRange::new(start, start + length)).collect())
    }

    proptest! {
        #[test]
        fn nothing_that_was_put_in_is_lost_and_the_number_is_bounded(put in ranges()) {
            let set: ByteRanges = put.iter().copied().collect();
            prop_assert!(set.as_slice().len() <= ByteRanges::LIMIT);
            prop_assert!(set.as_slice().windows(2).all(|pair| pair[0].end < pair[1].start));
            for range in put.iter().filter(|range| !range.is_empty()) {
                prop_assert!(set.as_slice().iter().any(|own| own.start <= range.start && range.end <= own.end));
            }
        }

        #[test]
        fn few_ranges_are_kept_exactly(put in prop::collection::vec((0..2000u64, 0..40u64), 0..=ByteRanges::LIMIT)) {
            let put: Vec<_> = put.into_iter().map(|(start, length)| ByteRange::new(start, start + length)).collect();
            let set: ByteRanges = put.iter().copied().collect();
            for byte in 0..2100 {
                let here = ByteRange::new(byte, byte + 1);
                let expected = put.iter().any(|range| range.overlaps(&here));
                prop_assert_eq!(set.overlaps(here), expected, "byte {}", byte);
                let (inside, end) = set.at(byte);
                prop_assert!(inside == expected && end > byte);
            }
        }
    }

    /// A record or an order may come from another version, or be damaged: what it names is in doubt all the same.
    #[test]
    fn what_was_written_in_disorder_is_a_set_again() {
        let text = r#"[{"start":30,"end":40},{"start":10,"end":20},{"start":15,"end":12},{"start":18,"end":25}]"#;
        let set: ByteRanges = serde_json::from_str(text).unwrap();
        assert_eq!(set.as_slice(), [ByteRange::new(10, 25), ByteRange::new(30, 40)]);
        assert_eq!(serde_json::from_str::<ByteRanges>(&serde_json::to_string(&set).unwrap()).unwrap(), set);
    }

    #[test]
    fn an_answer_holds_up_to_the_end_it_names() {
        let set: ByteRanges = [ByteRange::new(10, 20), ByteRange::new(30, 40)].into_iter().collect();
        assert_eq!(
            [set.at(0), set.at(10), set.at(20), set.at(39), set.at(40)],
            [(false, 10), (true, 20), (false, 30), (true, 40), (false, u64::MAX)]
        );
        assert_eq!(set.total_bytes(), 20);
    }
}
