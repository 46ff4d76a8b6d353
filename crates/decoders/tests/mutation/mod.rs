//! Small changes of known inputs, from a seed: no fuzzer, and enough that every run of the tests looks at something of its own.

/// Changes in one input, at most.
const MOST_CHANGES: u64 = 6;

/// An endless row of mutations of a corpus.
pub struct Mutations<'a> {
    corpus: &'a [Vec<u8>],
    state: u64,
}

impl<'a> Mutations<'a> {
    /// Those of one decoder: each has its own row, so that a new decoder changes no other's.
    pub fn of(corpus: &'a [Vec<u8>], seed: u64, name: &str) -> Self {
        let state = name.bytes().fold(seed, |state, byte| (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        Self { corpus, state }
    }

    pub fn next(&mut self) -> Vec<u8> {
        let mut bytes = self.pick().to_vec();
        for _ in 0..=self.below(MOST_CHANGES) {
            self.change(&mut bytes);
        }
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>) {
        let at = self.place(bytes.len());
        match self.below(7) {
            0 => bytes.insert(at, self.byte()),
            1 => bytes.truncate(at),
            2 => drop(bytes.drain(at..(at + self.place(8)).min(bytes.len()))),
            3 => {
                let piece = bytes[at..(at + self.place(32)).min(bytes.len())].to_vec();
                bytes.splice(at..at, piece);
            }
            4 => {
                let other = self.pick();
                let from = self.place(other.len());
                bytes.splice(at.., other[from..].iter().copied());
            }
            _ => {
                let byte = self.byte();
                if let Some(found) = bytes.get_mut(at) {
                    *found = if byte.is_multiple_of(2) { byte } else { *found ^ (1 << (byte / 2 % 8)) };
                }
            }
        }
    }

    fn pick(&mut self) -> &'a [u8] {
        let place = self.place(self.corpus.len().saturating_sub(1));
        self.corpus.get(place).map_or(&[], Vec::as_slice)
    }

    /// From nothing to all of it.
    fn place(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64 + 1)).unwrap_or_default()
    }

    /// Signs that mean something to somebody, more often than their share.
    fn byte(&mut self) -> u8 {
        const SIGNS: &[u8] = b"\0\x01\x7f\xff\x80 \n\"'{}[]:,./*-+=@#019aZ\\";
        let byte = self.below(512);
        u8::try_from(byte).unwrap_or_else(|_| SIGNS[usize::try_from(byte).unwrap_or_default() % SIGNS.len()])
    }

    fn below(&mut self, bound: u64) -> u64 {
        // Steele, Lea, Flood: SplitMix64.
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ self.state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % bound
    }
}
