//! The volumes that everybody copies: a third incompressible, a third text, a third zeros of which half are holes, in extents of 64 KiB to
//! 16 MiB. A seed decides every byte, so that two volumes of one seed are equal without being copied from each other.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use anyhow::{Context as _, ensure};
use rustix::fs::{Advice, OFlags};

use crate::aligned::Aligned;
use crate::random::Random;

/// What is changed, and what a change is counted in.
pub const PAGE_BYTES: u64 = 4096;
const PIECE: usize = 1 << 20;
/// The smallest extent; the largest is this times two to the power of [`DOUBLINGS`].
const SMALLEST: u64 = 64 << 10;
const DOUBLINGS: u64 = 8;
const WORDS: u64 = 4096;
/// What a target holds before a full copy, so that whatever was not copied shows.
const FILL: u8 = 0xa5;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Noise,
    Text,
    Zeros,
}

const KINDS: [Kind; 3] = [Kind::Noise, Kind::Text, Kind::Zeros];

/// Makes a volume.
///
/// # Errors
/// If it cannot be written.
pub fn make(path: &Path, size_bytes: u64, seed: u64) -> anyhow::Result<()> {
    let file = File::create(path).with_context(|| format!("make {}", path.display()))?;
    file.set_len(size_bytes)?;
    let mut random = Random::new(seed);
    let mut totals = [0u64; KINDS.len()];
    let mut holes = 0;
    let mut offset = 0;
    while offset < size_bytes {
        let length = extent_bytes(&mut random).min(size_bytes - offset);
        let number = lagging(totals, &mut random);
        totals[number] += length;
        let hole = KINDS[number] == Kind::Zeros && holes * 2 < totals[number];
        if hole {
            holes += length;
        } else {
            write_extent(&file, offset, length, KINDS[number], random.number())?;
        }
        offset += length;
    }
    file.sync_all().context("flush a volume")
}

/// Whole sectors, of a length whose logarithm is even.
fn extent_bytes(random: &mut Random) -> u64 {
    let base = SMALLEST << random.below(DOUBLINGS);
    (base + random.below(base)) / PAGE_BYTES * PAGE_BYTES
}

/// The kind that there is least of, nearly always.
fn lagging(totals: [u64; KINDS.len()], random: &mut Random) -> usize {
    let weights = totals.map(|total| total + random.below(32 << 20));
    weights.iter().enumerate().min_by_key(|(_, weight)| **weight).map_or(0, |(number, _)| number)
}

fn write_extent(file: &File, offset: u64, length: u64, kind: Kind, seed: u64) -> anyhow::Result<()> {
    let mut random = Random::new(seed);
    let mut buffer = vec![0; PIECE];
    let mut done = 0;
    while done < length {
        let piece = usize::try_from(length - done).unwrap_or(PIECE).min(PIECE);
        fill(&mut buffer[..piece], kind, &mut random);
        file.write_all_at(&buffer[..piece], offset + done).context("write a volume")?;
        done += piece as u64;
    }
    Ok(())
}

fn fill(buffer: &mut [u8], kind: Kind, random: &mut Random) {
    match kind {
        Kind::Noise => random.fill(buffer),
        Kind::Text => write_words(buffer, random),
        Kind::Zeros => buffer.fill(0),
    }
}

/// Words of a made-up language, the frequent ones short, as compressible as a program or a log.
fn write_words(buffer: &mut [u8], random: &mut Random) {
    let mut at = 0;
    while at < buffer.len() {
        let rank = random.below(WORDS).min(random.below(WORDS)).min(random.below(WORDS));
        let letters = Random::new(rank).number().to_le_bytes();
        let length = (2 + (rank + 1).ilog2().div_euclid(2) as usize).min(letters.len()).min(buffer.len() - at);
        for (place, letter) in buffer[at..at + length].iter_mut().zip(letters) {
            *place = b'a' + letter % 26;
        }
        at += length;
        if let Some(place) = buffer.get_mut(at) {
            *place = b' ';
            at += 1;
        }
    }
}

/// Writes new bytes to a part of the pages, in percent; the same of the same seed, so that done to two equal volumes they stay equal.
///
/// # Errors
/// If the volume cannot be written.
pub fn mutate(path: &Path, percent: u64, seed: u64) -> anyhow::Result<()> {
    let file = OpenOptions::new().write(true).open(path).with_context(|| format!("open {}", path.display()))?;
    let pages = file.metadata()?.len() / PAGE_BYTES;
    let one_in = 100 / percent.clamp(1, 100);
    let mut random = Random::new(seed);
    let mut page = vec![0; usize::try_from(PAGE_BYTES)?];
    for first in (0..pages).step_by(usize::try_from(one_in)?) {
        let number = (first + random.below(one_in)).min(pages - 1);
        random.fill(&mut page);
        file.write_all_at(&page, number * PAGE_BYTES).context("change a volume")?;
    }
    file.sync_all().context("flush a volume")
}

/// A target with other bytes everywhere and no holes, so that every tool overwrites and none has to allocate.
///
/// # Errors
/// If it cannot be written.
pub fn prepare_target(path: &Path, size_bytes: u64) -> anyhow::Result<()> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true);
    let file = open_direct(&mut options, path)?;
    if file.metadata()?.len() != size_bytes {
        file.set_len(size_bytes)?;
    }
    let mut buffer = Aligned::new(PIECE);
    buffer.bytes_mut().fill(FILL);
    let mut offset = 0;
    while offset < size_bytes {
        let piece = usize::try_from(size_bytes - offset).unwrap_or(PIECE).min(PIECE);
        file.write_all_at(&buffer.bytes()[..piece], offset).context("fill a target")?;
        offset += piece as u64;
    }
    file.sync_all()?;
    evict(path)
}

/// A volume of holes.
///
/// # Errors
/// If it cannot be made.
pub fn make_sparse(path: &Path, size_bytes: u64) -> anyhow::Result<()> {
    let file = File::create(path).with_context(|| format!("make {}", path.display()))?;
    file.set_len(size_bytes).context("size a volume")
}

/// Past the page cache where the file system can.
///
/// # Errors
/// If it cannot be opened at all.
pub fn open_direct(options: &mut OpenOptions, path: &Path) -> anyhow::Result<File> {
    let flag = i32::try_from(OFlags::DIRECT.bits())?;
    let direct = options.clone().custom_flags(flag).open(path);
    direct.or_else(|_| options.open(path)).with_context(|| format!("open {}", path.display()))
}

/// Out of the page cache.
///
/// # Errors
/// If the file cannot be opened or flushed.
pub fn evict(path: &Path) -> anyhow::Result<()> {
    let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    file.sync_all().context("flush before it is dropped from the cache")?;
    rustix::fs::fadvise(&file, 0, None, Advice::DontNeed).context("drop from the cache")
}

/// Into the page cache.
///
/// # Errors
/// If it cannot be read.
pub fn warm(path: &Path) -> anyhow::Result<()> {
    let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    let mut buffer = vec![0; PIECE];
    let mut offset = 0;
    loop {
        match file.read_at(&mut buffer, offset).with_context(|| format!("read {}", path.display()))? {
            0 => return Ok(()),
            got => offset += got as u64,
        }
    }
}

/// Every byte of both, and the sizes.
///
/// # Errors
/// If they differ, with the place; or if one cannot be read.
pub fn compare(one: &Path, other: &Path) -> anyhow::Result<()> {
    let size_bytes = std::fs::metadata(one)?.len();
    let same = std::fs::metadata(other)?.len() == size_bytes;
    ensure!(same, "{} and {} differ in size", one.display(), other.display());
    compare_first(one, other, size_bytes)
}

/// So many bytes of both.
///
/// # Errors
/// If they differ, with the place; or if one cannot be read.
pub fn compare_first(one: &Path, other: &Path, size_bytes: u64) -> anyhow::Result<()> {
    let (a, b) = (File::open(one)?, File::open(other)?);
    let (mut x, mut y) = (vec![0; PIECE], vec![0; PIECE]);
    let mut offset = 0;
    while offset < size_bytes {
        let piece = usize::try_from(size_bytes - offset).unwrap_or(PIECE).min(PIECE);
        a.read_exact_at(&mut x[..piece], offset)?;
        b.read_exact_at(&mut y[..piece], offset)?;
        ensure!(x[..piece] == y[..piece], "{} and {} differ in MiB {}", one.display(), other.display(), offset >> 20);
        offset += piece as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    const SIZE: u64 = (96 << 20) + 4096;

    #[test]
    fn a_seed_makes_the_same_volume_of_three_kinds() {
        let folder = tempfile::tempdir().unwrap();
        let [a, b, c] = ["a", "b", "c"].map(|name| folder.path().join(name));
        for (path, seed) in [(&a, 1), (&b, 1), (&c, 2)] {
            make(path, SIZE, seed).unwrap();
        }
        compare(&a, &b).unwrap();
        assert!(compare(&a, &c).is_err());
        let stored = std::fs::metadata(&a).unwrap().blocks() * 512;
        assert!(stored > SIZE / 2 && stored < SIZE, "{stored} bytes are stored");
    }

    #[test]
    fn a_change_is_a_hundredth_of_the_pages_and_can_be_made_twice() {
        let folder = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "b"].map(|name| folder.path().join(name));
        for path in [&a, &b] {
            make(path, SIZE, 1).unwrap();
        }
        mutate(&a, 1, 5).unwrap();
        assert!(compare(&a, &b).is_err());
        let (x, y) = (std::fs::read(&a).unwrap(), std::fs::read(&b).unwrap());
        let changed = x.chunks(4096).zip(y.chunks(4096)).filter(|(x, y)| x != y).count();
        assert_eq!(changed as u64, (SIZE / PAGE_BYTES).div_ceil(100));
        mutate(&b, 1, 5).unwrap();
        compare(&a, &b).unwrap();
    }

    #[test]
    fn a_prepared_target_is_dense_and_differs_everywhere() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("target");
        make_sparse(&target, 1 << 20).unwrap();
        prepare_target(&target, SIZE).unwrap();
        assert!(std::fs::metadata(&target).unwrap().blocks() * 512 >= SIZE);
        assert!(std::fs::read(&target).unwrap().iter().all(|byte| *byte == FILL));
    }
}
