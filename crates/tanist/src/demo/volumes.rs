//! The demonstration's volumes: made from a seed, compared byte for byte.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

const PIECE_BYTES: u64 = 1 << 20;

/// SplitMix64: the same volume on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn fill(&mut self, buffer: &mut [u8]) {
        for chunk in buffer.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
    }
}

/// Makes a volume: by the megabyte, a seventh holes, a seventh zeros, the rest random.
pub(super) fn make(path: &Path, size_bytes: u64, seed: u64) -> io::Result<()> {
    let file = File::create_new(path)?;
    file.set_len(size_bytes)?;
    let mut random = Random(seed);
    for offset in (0..size_bytes).step_by(PIECE_BYTES as usize) {
        let mut piece = vec![0; PIECE_BYTES.min(size_bytes - offset) as usize];
        match random.next() % 7 {
            0 => continue,
            1 => {}
            _ => random.fill(&mut piece),
        }
        file.write_all_at(&piece, offset)?;
    }
    file.sync_all()
}

/// An empty volume.
pub(super) fn make_blank(path: &Path, size_bytes: u64) -> io::Result<()> {
    let file = File::create_new(path)?;
    file.set_len(size_bytes)?;
    file.sync_all()
}

/// Writes new bytes to every sixteenth megabyte, as an application would between two runs.
pub(super) fn change(path: &Path, seed: u64) -> io::Result<()> {
    let file = File::options().write(true).open(path)?;
    let size_bytes = file.metadata()?.len();
    let mut random = Random(seed);
    for offset in (0..size_bytes).step_by(16 * PIECE_BYTES as usize) {
        let mut piece = vec![0; (64 << 10).min(size_bytes - offset) as usize];
        random.fill(&mut piece);
        file.write_all_at(&piece, offset)?;
    }
    file.sync_all()
}

/// True if the target begins with exactly the source's bytes.
pub(super) fn equal(source: &Path, target: &Path) -> io::Result<bool> {
    let (source, target) = (File::open(source)?, File::open(target)?);
    let size_bytes = source.metadata()?.len();
    let (mut left, mut right) = (vec![0; PIECE_BYTES as usize], vec![0; PIECE_BYTES as usize]);
    for offset in (0..size_bytes).step_by(PIECE_BYTES as usize) {
        let length = PIECE_BYTES.min(size_bytes - offset) as usize;
        source.read_exact_at(&mut left[..length], offset)?;
        target.read_exact_at(&mut right[..length], offset)?;
        if left[..length] != right[..length] {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_the_same_from_the_same_seed_and_a_change_shows() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        make(&a, (3 << 20) + 17, 1).unwrap();
        make(&b, (3 << 20) + 17, 1).unwrap();
        assert!(equal(&a, &b).unwrap());
        change(&a, 2).unwrap();
        assert!(!equal(&a, &b).unwrap());
    }
}
