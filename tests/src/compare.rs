//! Byte for byte: whether a target holds what its source holds. Stretches that are holes in both are equal without being read.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom as From};
use std::path::Path;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

const CHUNK: usize = 1 << 20;

/// The first byte that differs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Difference {
    pub offset: u64,
    pub source: u8,
    pub target: u8,
}

/// The first difference within the source's size; the target may be larger.
///
/// # Panics
/// If a file cannot be read.
#[must_use]
pub fn first_difference(source: &Path, target: &Path) -> Option<Difference> {
    look_for_difference(source, target).unwrap_or_else(|error| panic!("compare {}: {error}", source.display()))
}

/// # Panics
/// If they are not equal.
#[track_caller]
pub fn assert_equal(source: &Path, target: &Path) {
    let found = first_difference(source, target);
    assert_eq!(found, None, "{} differs from {}", target.display(), source.display());
}

/// A digest of a file's bytes and size, to see that it was not touched (FNV-1a over words; nobody forges here).
///
/// # Panics
/// If the file cannot be read.
#[must_use]
pub fn fingerprint(path: &Path) -> (u64, u64) {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()));
    let mix = |hash: u64, chunk: &[u8]| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        (hash ^ u64::from_le_bytes(word)).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(29)
    };
    (bytes.len() as u64, bytes.chunks(8).fold(0xcbf2_9ce4_8422_2325, mix))
}

/// Bytes that are stored and no hole, within a range.
///
/// # Panics
/// If the file cannot be read.
#[must_use]
pub fn stored_bytes(path: &Path, from: u64, to: u64) -> u64 {
    let file = File::open(path).unwrap_or_else(|error| panic!("open {}: {error}", path.display()));
    let mut at = from;
    let mut stored = 0;
    while let Some((start, end)) = next_data(&file, at).expect("seek for data").filter(|(start, _)| *start < to) {
        stored += end.min(to) - start;
        at = end;
    }
    stored
}

fn look_for_difference(source: &Path, target: &Path) -> io::Result<Option<Difference>> {
    let (mut source, mut target) = (File::open(source)?, File::open(target)?);
    let size = source.metadata()?.len();
    if target.metadata()?.len() < size {
        return Err(io::Error::other("the target is smaller"));
    }
    let mut at = 0;
    while at < size {
        let Some((start, end)) = next_in_either(&source, &target, at)? else { return Ok(None) };
        let end = end.min(size);
        if start >= end {
            return Ok(None);
        }
        if let Some(difference) = compare_range(&mut source, &mut target, start, end)? {
            return Ok(Some(difference));
        }
        at = end;
    }
    Ok(None)
}

/// The next stretch that either file stores.
fn next_in_either(source: &File, target: &File, at: u64) -> io::Result<Option<(u64, u64)>> {
    Ok(match (next_data(source, at)?, next_data(target, at)?) {
        (Some(a), Some(b)) if b.0 < a.0 => Some((b.0, b.1.min(a.0))),
        (Some(a), Some(b)) if a.0 < b.0 => Some((a.0, a.1.min(b.0))),
        (Some(a), Some(b)) => Some((a.0, a.1.min(b.1))),
        (one, other) => one.or(other),
    })
}

fn next_data(file: &File, at: u64) -> io::Result<Option<(u64, u64)>> {
    match seek(file, SeekFrom::Data(at)) {
        Err(Errno::NXIO) => Ok(None),
        Err(error) => Err(error.into()),
        Ok(start) => Ok(Some((start, seek(file, SeekFrom::Hole(start))?))),
    }
}

fn compare_range(source: &mut File, target: &mut File, start: u64, end: u64) -> io::Result<Option<Difference>> {
    let (mut theirs, mut ours) = (vec![0; CHUNK], vec![0; CHUNK]);
    source.seek(From::Start(start))?;
    target.seek(From::Start(start))?;
    let mut at = start;
    while at < end {
        let length = CHUNK.min(usize::try_from(end - at).unwrap_or(CHUNK));
        source.read_exact(&mut theirs[..length])?;
        target.read_exact(&mut ours[..length])?;
        if let Some(i) = (0..length).find(|i| theirs[*i] != ours[*i]) {
            return Ok(Some(Difference { offset: at + i as u64, source: theirs[i], target: ours[i] }));
        }
        at += length as u64;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt as _;

    #[test]
    fn a_single_byte_is_found_and_holes_equal_zeros() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        for path in [&a, &b] {
            File::create(path).unwrap().set_len(8 << 20).unwrap();
        }
        let (source, target) = (File::options().write(true).open(&a), File::options().write(true).open(&b));
        let (source, target) = (source.unwrap(), target.unwrap());
        source.write_all_at(&[0; 9000], 1 << 20).unwrap();
        target.write_all_at(&[0; 9000], 5 << 20).unwrap();
        assert_eq!(first_difference(&a, &b), None);
        target.write_all_at(&[7], (6 << 20) + 5).unwrap();
        assert_eq!(first_difference(&a, &b), Some(Difference { offset: (6 << 20) + 5, source: 0, target: 7 }));
        assert_ne!(fingerprint(&a), fingerprint(&b));
    }
}
