//! A program that goes on changing a volume while it is copied, so that a copy of several moments shows itself.
//!
//! Blocks all over the volume hold the number of the round in which they were written, and each round writes them from the first
//! to the last. At any one moment the numbers therefore fall at most once, and by one. A copy that reads its blocks at different
//! moments has higher numbers in its later blocks.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::wait;

const BLOCK_BYTES: usize = 4096;
/// The first and the last block of the volume, and others between.
const BLOCKS: u64 = 9;
const LIMIT: Duration = Duration::from_secs(30);

/// The writer; it ends when this is dropped.
#[derive(Debug)]
pub struct Counter {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    /// The last round that was written whole.
    round: AtomicU64,
    stop: AtomicBool,
}

impl Counter {
    /// Starts to count in a volume; its first round is written when this returns.
    ///
    /// # Panics
    /// If the volume cannot be written.
    #[must_use]
    pub fn start(volume: &Path) -> Self {
        let file = open(volume);
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let thread = std::thread::spawn(move || count(&file, &theirs));
        let counter = Self { shared, thread: Some(thread) };
        counter.wait_rounds(1);
        counter
    }

    /// The last round that was written whole.
    #[must_use]
    pub fn round(&self) -> u64 {
        self.shared.round.load(Ordering::Acquire)
    }

    /// Until so many further rounds are written.
    pub fn wait_rounds(&self, rounds: u64) {
        let from = self.round();
        wait::until("the writer goes on", LIMIT, || (self.round() >= from + rounds).then_some(()));
    }

    /// Ends the writer.
    ///
    /// # Panics
    /// If it could not write.
    pub fn stop(mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.thread.take().expect("a running writer").join().expect("the writer wrote");
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What the blocks of a volume hold, in the order in which they are written.
///
/// # Panics
/// If the volume cannot be read, or a block holds two numbers.
#[must_use]
pub fn rounds_in(volume: &Path) -> Vec<u64> {
    let file = File::open(volume).unwrap_or_else(|error| panic!("open {}: {error}", volume.display()));
    offsets(&file).map(|offset| round_at(&file, offset)).collect()
}

/// Whether the numbers can have stood on the volume at one moment.
#[must_use]
pub fn is_one_moment(rounds: &[u64]) -> bool {
    let (Some(first), Some(last)) = (rounds.first(), rounds.last()) else { return true };
    rounds.is_sorted_by(|a, b| a >= b) && first - last <= 1
}

/// Takes the volume back to these numbers, with the writer at rest.
///
/// # Panics
/// If the volume cannot be written.
pub fn put_back(volume: &Path, rounds: &[u64]) {
    let file = open(volume);
    for (offset, round) in offsets(&file).zip(rounds) {
        file.write_all_at(&block(*round), offset).expect("write a volume");
    }
    file.sync_all().expect("flush a volume");
}

/// Each round is flushed: the numbers are to be on their way through file system and device, and a round to take its time.
fn count(file: &File, shared: &Shared) {
    let offsets: Vec<u64> = offsets(file).collect();
    for round in 1.. {
        if shared.stop.load(Ordering::Acquire) {
            return;
        }
        for offset in &offsets {
            file.write_all_at(&block(round), *offset).expect("write a volume");
        }
        file.sync_data().expect("flush a volume");
        shared.round.store(round, Ordering::Release);
    }
}

fn open(volume: &Path) -> File {
    let file = OpenOptions::new().read(true).write(true).open(volume);
    file.unwrap_or_else(|error| panic!("open {}: {error}", volume.display()))
}

fn offsets(file: &File) -> impl Iterator<Item = u64> + use<> {
    let blocks = file.metadata().expect("the size of a volume").len() / BLOCK_BYTES as u64;
    (0..BLOCKS).map(move |place| (blocks - 1) * place / (BLOCKS - 1) * BLOCK_BYTES as u64)
}

fn block(round: u64) -> Vec<u8> {
    round.to_le_bytes().repeat(BLOCK_BYTES / 8)
}

fn round_at(file: &File, offset: u64) -> u64 {
    let mut bytes = vec![0; BLOCK_BYTES];
    file.read_exact_at(&mut bytes, offset).expect("read a volume");
    let round = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"));
    assert!(bytes == block(round), "the block at {offset} holds parts of different rounds");
    round
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_of_several_moments_shows() {
        assert!(is_one_moment(&[7, 7, 7]) && is_one_moment(&[8, 8, 7]));
        assert!(!is_one_moment(&[7, 7, 8]) && !is_one_moment(&[8, 7, 8]) && !is_one_moment(&[9, 8, 7]));
    }

    #[test]
    fn numbers_are_written_read_and_put_back() {
        let volume = tempfile::NamedTempFile::new().unwrap();
        volume.as_file().set_len(1 << 20).unwrap();
        let counter = Counter::start(volume.path());
        counter.wait_rounds(2);
        counter.stop();
        let rounds = rounds_in(volume.path());
        assert!(rounds.len() == 9 && rounds[0] >= 3 && rounds.iter().all(|round| *round == rounds[0]), "{rounds:?}");
        put_back(volume.path(), &[2, 2, 2, 2, 2, 1, 1, 1, 1]);
        assert!(is_one_moment(&rounds_in(volume.path())));
    }
}
