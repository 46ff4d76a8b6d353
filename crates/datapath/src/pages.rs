//! Which pages of a block differ: the finest measure of what is written and sent.

use std::ops::Range;

use crate::digest::BLOCK_LEN;

/// Size of a page in bytes. No sector in use is larger, so that a page can be written by itself.
pub const PAGE_LEN: usize = 4096;
/// Pages of a whole block.
pub const PAGES: usize = BLOCK_LEN / PAGE_LEN;
const WORDS: usize = PAGES / 64;

/// Some pages of one block.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PageSet([u64; WORDS]);

impl PageSet {
    /// Puts a page in; one that no block has is ignored.
    pub fn insert(&mut self, page: usize) {
        if let Some(word) = self.0.get_mut(page / 64) {
            *word |= 1 << (page % 64);
        }
    }

    #[must_use]
    pub fn contains(&self, page: usize) -> bool {
        self.0.get(page / 64).is_some_and(|word| word >> (page % 64) & 1 == 1)
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    #[must_use]
    pub fn count(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// The bytes that the pages are in a block of `length` bytes, in order, neighbours together. The last page of a volume may be
    /// shorter than the others.
    pub fn byte_runs(self, length: usize) -> impl Iterator<Item = Range<usize>> {
        let mut page = 0;
        std::iter::from_fn(move || {
            let start = (page..PAGES).find(|page| self.contains(*page))?;
            let end = (start..PAGES).find(|page| !self.contains(*page)).unwrap_or(PAGES);
            page = end;
            let bytes = (start * PAGE_LEN).min(length)..(end * PAGE_LEN).min(length);
            (!bytes.is_empty()).then_some(bytes)
        })
    }

    /// How many bytes of a block of `length` bytes the pages are.
    #[must_use]
    pub fn total_bytes(self, length: usize) -> usize {
        self.byte_runs(length).map(|run| run.len()).sum()
    }

    /// As it stands on the wire.
    #[must_use]
    pub fn to_bytes(self) -> [u8; PAGES / 8] {
        let mut bytes = [0; PAGES / 8];
        for (to, word) in bytes.chunks_mut(8).zip(self.0) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// The set that stands there.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; PAGES / 8]) -> Self {
        let word = |piece: &[u8]| u64::from_le_bytes(piece.try_into().unwrap_or_default());
        let mut words = [0; WORDS];
        for (to, piece) in words.iter_mut().zip(bytes.chunks(8)) {
            *to = word(piece);
        }
        Self(words)
    }
}

/// The pages in which two blocks of one length differ.
#[must_use]
pub fn differing(left: &[u8], right: &[u8]) -> PageSet {
    let mut set = PageSet::default();
    if left == right {
        return set;
    }
    for (page, (left, right)) in left.chunks(PAGE_LEN).zip(right.chunks(PAGE_LEN)).enumerate() {
        if left != right {
            set.insert(page);
        }
    }
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_written_together_and_the_tail_is_short() {
        let mut set = PageSet::default();
        [0, 1, 5, 255].into_iter().for_each(|page| set.insert(page));
        let runs: Vec<_> = set.byte_runs(BLOCK_LEN - 100).collect();
        assert_eq!(runs, [0..8192, 20480..24576, 255 * PAGE_LEN..BLOCK_LEN - 100]);
        assert_eq!((set.count(), set.total_bytes(BLOCK_LEN - 100)), (4, 4 * PAGE_LEN - 100));
        assert!(set.byte_runs(4096).eq(std::iter::once(0..4096)));
        assert_eq!(PageSet::from_bytes(&set.to_bytes()), set);
    }

    #[test]
    fn what_differs_is_found_and_nothing_else() {
        let left = vec![3; 3 * PAGE_LEN + 10];
        let mut right = left.clone();
        assert!(differing(&left, &right).is_empty());
        (right[PAGE_LEN], right[3 * PAGE_LEN + 9]) = (4, 4);
        let set = differing(&left, &right);
        assert!((0..6).all(|page| set.contains(page) == [1, 3].contains(&page)));
    }
}
