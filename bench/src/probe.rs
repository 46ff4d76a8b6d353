//! The bound: reads two volumes and compares their hashes, as fast as this machine can with plain system calls. Nothing is sent, written or
//! made sure of, so that whoever does all that can come near, and does not have to be believed.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context as _;
use xxhash_rust::xxh3::xxh3_128;

use crate::aligned::Aligned;
use crate::volume;

const PIECE: usize = 1 << 20;
const HASHED: usize = 64 << 10;

/// What is read, and how.
#[derive(Clone, Copy, Debug)]
pub struct Probe<'a> {
    pub source: &'a Path,
    pub target: &'a Path,
    /// Past the page cache.
    pub direct: bool,
    pub threads: usize,
}

impl Probe<'_> {
    /// How many pieces of 64 KiB differ.
    ///
    /// # Errors
    /// If a volume cannot be read.
    pub fn run(&self) -> anyhow::Result<u64> {
        let (source, target) = (self.open(self.source)?, self.open(self.target)?);
        let size_bytes = source.metadata()?.len();
        let next = AtomicU64::new(0);
        std::thread::scope(|scope| {
            let work = || differing(&source, &target, size_bytes, &next);
            let threads: Vec<_> = (0..self.threads.max(1)).map(|_| scope.spawn(work)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| anyhow::bail!("a thread panicked"))).sum()
        })
    }

    fn open(&self, path: &Path) -> anyhow::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true);
        if self.direct {
            return volume::open_direct(&mut options, path);
        }
        options.open(path).with_context(|| format!("open {}", path.display()))
    }
}

/// Takes one piece after the other that no thread has taken yet.
fn differing(source: &File, target: &File, size_bytes: u64, next: &AtomicU64) -> anyhow::Result<u64> {
    let (mut x, mut y) = (Aligned::new(PIECE), Aligned::new(PIECE));
    let mut count = 0;
    loop {
        let offset = next.fetch_add(PIECE as u64, Ordering::Relaxed);
        if offset >= size_bytes {
            return Ok(count);
        }
        let length = usize::try_from(size_bytes - offset).unwrap_or(PIECE).min(PIECE);
        source.read_exact_at(&mut x.bytes_mut()[..length], offset).context("read the source")?;
        target.read_exact_at(&mut y.bytes_mut()[..length], offset).context("read the target")?;
        let pairs = x.bytes()[..length].chunks(HASHED).zip(y.bytes()[..length].chunks(HASHED));
        count += pairs.filter(|(a, b)| xxh3_128(a) != xxh3_128(b)).count() as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_counted_buffered_and_direct() {
        let folder = tempfile::tempdir().unwrap();
        let [source, target] = ["source", "target"].map(|name| folder.path().join(name));
        for path in [&source, &target] {
            volume::make(path, 8 << 20, 3).unwrap();
        }
        let probe = |direct| Probe { source: &source, target: &target, direct, threads: 2 }.run().unwrap();
        assert_eq!([probe(false), probe(true)], [0, 0]);
        let file = OpenOptions::new().write(true).open(&target).unwrap();
        file.write_all_at(b"other", 0).unwrap();
        file.write_all_at(b"other", 7 << 20).unwrap();
        assert_eq!([probe(false), probe(true)], [2, 2]);
    }
}
