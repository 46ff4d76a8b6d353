//! Seeded volumes, and a caller that commits what it is told.

#![allow(dead_code, reason = "each test file uses its part")]

pub mod session;

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use tanist_datapath::digest::{BLOCK_LEN, BlockDigest, advance};
use tanist_datapath::io::blocking::BlockingFile;
use tanist_datapath::io::memory::MemoryDevice;
use tanist_datapath::{BlockDevice, Digests, StoredDigests, Transfer, TransferConfig, TransferError, TransferEvent};
use tanist_model::run::Checkpoint;

pub const MIB: u64 = 1 << 20;

/// SplitMix64: a seed is all that is needed to replay a test.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let word = self.next().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }
}

/// A third random, a third zeros, the rest pages of either, in stretches of any length.
pub fn volume(seed: u64, size_bytes: u64) -> Vec<u8> {
    let mut random = Random(seed);
    let mut bytes = vec![0; usize::try_from(size_bytes).unwrap()];
    let mut at = 0;
    while at < bytes.len() {
        let length = usize::try_from(random.below(3 * MIB) + 1).unwrap().min(bytes.len() - at);
        if random.below(3) > 0 {
            random.fill(&mut bytes[at..at + length]);
        }
        at += length;
    }
    bytes
}

/// Empty, at the borders of pages and windows, and odd.
pub const SIZES: [u64; 9] = [0, 1, 4095, 4096, MIB - 1, MIB, MIB + 1, 7 * MIB + 513, 9 * MIB + 4096];

/// The border sizes first, then any below a bound.
pub fn size(seed: u64, below: u64) -> u64 {
    let border = usize::try_from(seed).ok().and_then(|place| SIZES.get(place));
    border.copied().unwrap_or_else(|| Random(seed).below(below))
}

/// A volume, and the same with some changes or, now and then, another one altogether.
pub fn two_states(seed: u64, below: u64) -> (Vec<u8>, Vec<u8>) {
    let bytes = volume(seed, size(seed, below));
    let other = if seed.is_multiple_of(5) { volume(seed + 1, bytes.len() as u64) } else { changed(seed, &bytes) };
    (bytes, other)
}

/// A run that compares, with checkpoints often.
pub fn comparing(from: Checkpoint, size_bytes: u64) -> TransferConfig {
    let config = TransferConfig::new(from, size_bytes);
    TransferConfig { compare: true, checkpoint_bytes: MIB, first_checkpoint_bytes: MIB, ..config }
}

/// Stores the digests of these bytes as a run would that copied them; what the next run is given of them.
pub fn stored(folder: &Path, bytes: &[u8]) -> Digests {
    let (path, size_bytes) = (folder.join("base"), bytes.len() as u64);
    let digests = Digests { record_to: Some(path.clone()), ..Digests::default() };
    let config = TransferConfig { digests, ..TransferConfig::new(Checkpoint::START, size_bytes) };
    let made = copy(&memory(bytes), &Arc::new(MemoryDevice::new(size_bytes)), config).finished();
    let stored = StoredDigests::open(&path, size_bytes, made.chain).unwrap().unwrap();
    Digests { stored: Some(Arc::new(stored)), record_to: Some(folder.join("next")), changes: None }
}

pub fn memory(bytes: &[u8]) -> Arc<MemoryDevice> {
    Arc::new(MemoryDevice::with_bytes(bytes))
}

/// The same volume with some pages, or parts of them, or whole stretches changed to data or zeros.
pub fn changed(seed: u64, bytes: &[u8]) -> Vec<u8> {
    let mut random = Random(seed);
    let mut other = bytes.to_vec();
    for _ in 0..random.below(12) * u64::from(!bytes.is_empty()) {
        let at = usize::try_from(random.below(bytes.len() as u64)).unwrap();
        let longest = [100, 5000, 3 * MIB][usize::try_from(random.below(3)).unwrap()];
        let length = usize::try_from(random.below(longest) + 1).unwrap().min(other.len() - at);
        let piece = &mut other[at..at + length];
        if random.below(3) == 0 { piece.fill(0) } else { random.fill(piece) }
    }
    other
}

/// The checkpoint that a copy of these bytes must end with.
pub fn reference(bytes: &[u8]) -> Checkpoint {
    bytes
        .chunks(BLOCK_LEN)
        .fold(Checkpoint::START, |at, block| advance(at, block.len() as u64, &BlockDigest::of(block)))
}

/// Opens a file for direct I/O; buffered where the file system refuses.
pub fn open(path: &Path) -> Arc<BlockingFile> {
    let direct = i32::try_from(rustix::fs::OFlags::DIRECT.bits()).unwrap();
    let options = |flags| OpenOptions::new().read(true).write(true).custom_flags(flags).open(path);
    let file = options(direct).or_else(|_| options(0)).unwrap();
    Arc::new(BlockingFile::new(file).unwrap())
}

pub fn create(path: &Path, size_bytes: u64) -> Arc<BlockingFile> {
    File::create(path).unwrap().set_len(size_bytes).unwrap();
    open(path)
}

pub fn contents(device: &dyn BlockDevice) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(device.size_bytes()).unwrap()];
    device.read_at(0, &mut bytes).unwrap();
    bytes
}

/// A transfer and what it says.
pub struct Run {
    pub transfer: Transfer,
    pub events: Receiver<TransferEvent>,
}

/// How a transfer ended, and the last checkpoint it reported as durable.
#[derive(Debug)]
pub struct Outcome {
    pub last: TransferEvent,
    pub committed: Checkpoint,
    pub durable: Vec<Checkpoint>,
}

impl Run {
    pub fn start(
        source: &Arc<impl BlockDevice + 'static>,
        target: &Arc<impl BlockDevice + 'static>,
        config: TransferConfig,
    ) -> Self {
        let (sender, events) = channel();
        let transfer = Transfer::start(Arc::clone(source) as _, Arc::clone(target) as _, config, move |event| {
            sender.send(event).unwrap();
        });
        Self { transfer, events }
    }

    /// Commits every checkpoint until the end; `look` sees each first.
    pub fn commit_all(self, from: Checkpoint, mut look: impl FnMut(&Transfer, Checkpoint)) -> Outcome {
        let mut durable = Vec::new();
        loop {
            match self.events.recv().unwrap() {
                TransferEvent::Durable { checkpoint, .. } => {
                    look(&self.transfer, checkpoint);
                    durable.push(checkpoint);
                    self.transfer.committed(checkpoint.seq);
                }
                last => {
                    self.transfer.join();
                    assert!(self.events.recv().is_err(), "an event after the last");
                    return Outcome { last, committed: durable.last().copied().unwrap_or(from), durable };
                }
            }
        }
    }
}

pub fn copy(
    source: &Arc<impl BlockDevice + 'static>,
    target: &Arc<impl BlockDevice + 'static>,
    config: TransferConfig,
) -> Outcome {
    let from = config.from;
    Run::start(source, target, config).commit_all(from, |_, _| {})
}

impl Outcome {
    pub fn finished(&self) -> Checkpoint {
        match &self.last {
            TransferEvent::Finished { checkpoint, .. } => *checkpoint,
            other => panic!("not finished: {other:?}"),
        }
    }

    pub fn failure(&self) -> &TransferError {
        match &self.last {
            TransferEvent::Failed(error) => error,
            other => panic!("not failed: {other:?}"),
        }
    }
}
