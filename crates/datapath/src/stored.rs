//! Digests of the blocks of a recovery point, kept in a file by whoever encoded them: what they show to be unchanged need not be read of
//! the target.
//!
//! The file is a cache and proves itself: it is used only if its digests chain to the value that the store has of the recovery point. A
//! torn, damaged or foreign file does not, so that nothing has to be durable, locked or cleaned up for its sake. Whether the *target*
//! still holds that recovery point the file cannot know: that is decided where the run's method is, and sampled besides.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tanist_model::run::{ChainDigest, Checkpoint};

use crate::changes::Changes;
use crate::digest::{BLOCK_BYTES, BlockDigest, extend_chain};

/// Size of a digest in the file, in bytes. Block n's begins at n times this.
const DIGEST_LEN: u64 = 32;
/// Digests that are read or written at once: 64 KiB of file, 2 GiB of volume.
const WINDOW_DIGESTS: u64 = 2048;
const WINDOW_LEN: usize = 64 << 10;

/// What a source knows of the recovery point before, and where it keeps what it learns of the one in the making.
#[derive(Clone, Debug, Default)]
pub struct Digests {
    /// Of the recovery point that the target holds, if the source has them. Only of use to a copy that compares.
    pub stored: Option<Arc<StoredDigests>>,
    /// Where the source may differ from what those are of, if its storage system says so: the rest is not read. Nothing without them.
    pub changes: Option<Arc<Changes>>,
    /// The file for those of this run. One that does not reach to where the copy begins is left as it is.
    pub record_to: Option<PathBuf>,
}

impl Digests {
    /// What need not be read. Only a copy that compares leaves anything out.
    pub(crate) fn changes(&self, compares: bool) -> Option<&Changes> {
        self.stored.as_ref().filter(|_| compares)?;
        self.changes.as_deref()
    }
}

/// Digests of all blocks of a recovery point, proven by its chain.
#[derive(Debug)]
pub struct StoredDigests {
    file: File,
    blocks: u64,
}

impl StoredDigests {
    /// Opens a file of digests; `None` if there is none, or it is not that of a volume of this size with this chain.
    ///
    /// # Errors
    /// The file system's.
    pub fn open(path: &Path, size_bytes: u64, chain: ChainDigest) -> io::Result<Option<Self>> {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let blocks = size_bytes.div_ceil(BLOCK_BYTES);
        let is_whole = file.metadata()?.len() == blocks * DIGEST_LEN;
        Ok((is_whole && chain_of(&file, blocks)? == chain).then_some(Self { file, blocks }))
    }

    /// The digests from block `first` on, as many as one window has.
    fn window(&self, first: u64) -> io::Result<Vec<u8>> {
        let digests = self.blocks.saturating_sub(first).min(WINDOW_DIGESTS);
        let mut bytes = vec![0; usize::try_from(digests * DIGEST_LEN).unwrap_or(WINDOW_LEN)];
        self.file.read_exact_at(&mut bytes, first * DIGEST_LEN)?;
        Ok(bytes)
    }
}

fn chain_of(file: &File, blocks: u64) -> io::Result<ChainDigest> {
    let mut digests = BufReader::with_capacity(WINDOW_LEN, file);
    let mut chain = Checkpoint::START.chain;
    for _ in 0..blocks {
        let mut digest = [0; DIGEST_LEN as usize];
        digests.read_exact(&mut digest)?;
        chain = extend_chain(chain, &BlockDigest(digest));
    }
    Ok(chain)
}

/// Looks blocks up, best in ascending order.
#[derive(Debug)]
pub(crate) struct Lookup<'a> {
    stored: &'a StoredDigests,
    /// The first block of the window, and its digests.
    window: (u64, Vec<u8>),
}

impl<'a> Lookup<'a> {
    pub(crate) fn new(stored: &'a StoredDigests) -> Self {
        Self { stored, window: (0, Vec::new()) }
    }

    /// The digest of the block that begins at this byte. What cannot be read any more is not known.
    pub(crate) fn at(&mut self, offset: u64) -> Option<BlockDigest> {
        let block = offset / BLOCK_BYTES;
        if !self.holds(block) {
            let bytes = self.stored.window(block).inspect_err(|error| {
                tracing::warn!(%error, "stored digests cannot be read: the target is read instead");
            });
            self.window = (block, bytes.unwrap_or_default());
        }
        let place = usize::try_from(block.checked_sub(self.window.0)?).ok()?;
        self.window.1.as_chunks().0.get(place).map(|digest| BlockDigest(*digest))
    }

    fn holds(&self, block: u64) -> bool {
        (self.window.0..self.window.0 + self.window.1.len() as u64 / DIGEST_LEN).contains(&block)
    }
}

/// Writes the digests of a run's blocks, one after the other. That it cannot is no failure of the run.
#[derive(Debug)]
pub(crate) struct Recorder {
    file: File,
    /// Where in the file the buffer goes.
    end: u64,
    buffer: Vec<u8>,
}

impl Recorder {
    /// Goes on in the file from byte `from_seq` of the volume; `None` if what was recorded does not reach so far.
    ///
    /// # Errors
    /// The file system's.
    pub(crate) fn begin(path: &Path, from_seq: u64) -> io::Result<Option<Self>> {
        let end = from_seq / BLOCK_BYTES * DIGEST_LEN;
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
        if file.metadata()?.len() < end {
            return Ok(None);
        }
        file.set_len(end)?;
        Ok(Some(Self { file, end, buffer: Vec::with_capacity(WINDOW_LEN) }))
    }

    /// The next block's.
    ///
    /// # Errors
    /// The file system's; what was noted may be lost, and nothing can follow.
    pub(crate) fn note(&mut self, digest: &BlockDigest) -> io::Result<()> {
        self.buffer.extend(digest.0);
        if self.buffer.len() < WINDOW_LEN { Ok(()) } else { self.write_out() }
    }

    fn write_out(&mut self) -> io::Result<()> {
        self.file.write_all_at(&self.buffer, self.end)?;
        self.end += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if let Err(error) = self.write_out() {
            warn_unrecorded(&error);
        }
    }
}

pub(crate) fn warn_unrecorded(error: &io::Error) {
    tracing::warn!(%error, "the digests of this run cannot be stored: the next run compares by reading its target");
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u64 = 5000 * BLOCK_BYTES + 17;

    fn digest(block: u64) -> BlockDigest {
        BlockDigest::of(&block.to_le_bytes())
    }

    fn chain(blocks: u64) -> ChainDigest {
        (0..blocks).fold(Checkpoint::START.chain, |chain, block| extend_chain(chain, &digest(block)))
    }

    fn record(path: &Path, blocks: std::ops::Range<u64>) -> bool {
        let Some(mut recorder) = Recorder::begin(path, blocks.start * BLOCK_BYTES).unwrap() else { return false };
        blocks.for_each(|block| recorder.note(&digest(block)).unwrap());
        true
    }

    #[test]
    fn what_was_recorded_in_pieces_is_found_and_proven() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("7");
        assert!(record(&path, 0..4000));
        // A successor goes back to its checkpoint; what had come after it is recorded again.
        assert!(record(&path, 3000..5001));
        let stored = StoredDigests::open(&path, SIZE, chain(5001)).unwrap().unwrap();
        let mut lookup = Lookup::new(&stored);
        for block in [0, 1, 2047, 2048, 4999, 5000, 3] {
            assert_eq!(lookup.at(block * BLOCK_BYTES), Some(digest(block)), "block {block}");
        }
        assert_eq!(lookup.at(5001 * BLOCK_BYTES), None);
    }

    #[test]
    fn a_gap_is_never_recorded_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("7");
        assert!(record(&path, 0..10));
        assert!(!record(&path, 11..20), "block 10 is missing");
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 320, "what there is stays for one who goes back further");
    }

    /// Each of these files once was, or could have been, a good one.
    #[test]
    fn a_file_that_does_not_prove_itself_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("7");
        let opened = |size, chain| StoredDigests::open(&path, size, chain).unwrap().is_some();
        assert!(!opened(SIZE, chain(5001)), "there is none");
        record(&path, 0..5001);
        assert!(opened(SIZE, chain(5001)));
        assert!(!opened(SIZE, chain(5000)), "another recovery point");
        assert!(!opened(SIZE + BLOCK_BYTES, chain(5001)), "another size");
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert!(!opened(SIZE, chain(5001)), "torn");
        let mut flipped = bytes.clone();
        flipped[70_000] ^= 1;
        std::fs::write(&path, flipped).unwrap();
        assert!(!opened(SIZE, chain(5001)), "damaged");
    }

    #[test]
    fn a_volume_without_blocks_has_digests_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("7");
        assert!(record(&path, 0..0));
        assert!(StoredDigests::open(&path, 0, Checkpoint::START.chain).unwrap().is_some());
    }
}
