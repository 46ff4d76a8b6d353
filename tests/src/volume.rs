//! Volumes to copy, from a seed: as real ones are, part noise, part text, part zeros, part never written.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::random::Random;

/// One kind of content after another changes at this step, in bytes.
const STRETCH: u64 = 256 << 10;
const PAGE: u64 = 4096;

/// Makes a source: noise, text, zeros that are written, holes, mixed by the seed.
///
/// # Panics
/// If it cannot be written.
pub fn make(path: &Path, size_bytes: u64, seed: u64) {
    let file = blank(path, size_bytes);
    write(&file, size_bytes, Kind::any, seed);
}

/// Makes a source without holes or zeros, so that every block of it shows where it came from.
///
/// # Panics
/// If it cannot be written.
pub fn make_noise(path: &Path, size_bytes: u64, seed: u64) {
    let file = blank(path, size_bytes);
    write(&file, size_bytes, |_| Kind::Noise, seed);
}

/// Overwrites every byte with other noise, in place.
///
/// # Panics
/// If it cannot be written.
pub fn renew(path: &Path, seed: u64) {
    let file = OpenOptions::new().write(true).open(path).unwrap_or_else(|e| panic!("open {}: {e}", path.display()));
    let size_bytes = file.metadata().expect("the size of a volume").len();
    write(&file, size_bytes, |_| Kind::Noise, seed);
}

/// Changes some blocks all over a volume, its size not.
///
/// # Panics
/// If it cannot be written.
pub fn mutate(path: &Path, seed: u64) {
    let file = OpenOptions::new().write(true).open(path).unwrap_or_else(|e| panic!("open {}: {e}", path.display()));
    let size_bytes = file.metadata().expect("the size of a volume").len();
    let mut random = Random::new(seed);
    let mut block = vec![0; 4096];
    for _ in 0..64 {
        random.fill(&mut block);
        let at = random.between(0, (size_bytes - 4096) / 4096) * 4096;
        file.write_all_at(&block, at).expect("change a volume");
    }
    file.sync_all().expect("flush a volume");
}

/// Changes one page of 4 KiB in so many, chosen by the seed, all over a volume.
///
/// # Panics
/// If it cannot be written.
pub fn change_one_page_in(path: &Path, one_in: u64, seed: u64) {
    let file = OpenOptions::new().write(true).open(path).unwrap_or_else(|e| panic!("open {}: {e}", path.display()));
    let pages = file.metadata().expect("the size of a volume").len() / PAGE;
    let mut random = Random::new(seed);
    let mut page = vec![0; usize::try_from(PAGE).expect("a page fits")];
    for _ in 0..pages / one_in {
        random.fill(&mut page);
        file.write_all_at(&page, random.between(0, pages) * PAGE).expect("change a volume");
    }
    file.sync_all().expect("flush a volume");
}

/// A volume that was never written.
///
/// # Panics
/// If it cannot be made.
pub fn blank(path: &Path, size_bytes: u64) -> File {
    let file = File::create(path).unwrap_or_else(|e| panic!("make {}: {e}", path.display()));
    file.set_len(size_bytes).expect("size a volume");
    file
}

#[derive(Clone, Copy)]
enum Kind {
    Noise,
    Text,
    Zeros,
    Hole,
}

impl Kind {
    fn any(random: &mut Random) -> Self {
        match random.between(0, 6) {
            0 | 1 => Self::Noise,
            2 | 3 => Self::Text,
            4 => Self::Zeros,
            _ => Self::Hole,
        }
    }

    fn fill(self, bytes: &mut [u8], random: &mut Random) {
        match self {
            Self::Noise => random.fill(bytes),
            Self::Text => {
                let word = random.number().to_string();
                bytes.iter_mut().zip(word.bytes().cycle()).for_each(|(byte, letter)| *byte = letter);
            }
            Self::Zeros | Self::Hole => bytes.fill(0),
        }
    }
}

fn write(file: &File, size_bytes: u64, mut kind: impl FnMut(&mut Random) -> Kind, seed: u64) {
    let mut random = Random::new(seed);
    let mut bytes = vec![0; usize::try_from(STRETCH).expect("a stretch fits")];
    let mut at = 0;
    while at < size_bytes {
        let length = usize::try_from(STRETCH.min(size_bytes - at)).expect("a stretch fits");
        let kind = kind(&mut random);
        if !matches!(kind, Kind::Hole) {
            kind.fill(&mut bytes[..length], &mut random);
            file.write_all_at(&bytes[..length], at).expect("write a volume");
        }
        at += length as u64;
    }
    file.sync_all().expect("flush a volume");
}
