//! What has to hold of whatever another agent, or a file of digests, hands to this crate. Each function takes any bytes, gives them to one
//! decoder and asserts what must be true of every input; what was refused it gives back in the decoder's own words.
//!
//! Only in builds with the feature `decoders`: the tests and fuzz targets of the crate `decoders` call these.

mod script;
mod sessions;

use std::io::Write as _;
use std::os::fd::AsRawFd as _;

use rustix::fs::{MemfdFlags, memfd_create};
use tanist_model::run::Checkpoint;
use xxhash_rust::xxh3::xxh3_128;

use crate::digest::{BLOCK_BYTES, BLOCK_LEN, BlockDigest, extend_chain};
use crate::frame::{Comparison, GRANT_LIMIT, HEADER_BYTES, Header, Kind, REASON_LIMIT, StreamGeneration, VERSION};
use crate::gate::{self, OpenRun, admit_open};
use crate::intake::scattered;
use crate::knowledge::{ANSWER_LIMIT, DIGESTS_BYTES, Knowledge, Known, STRETCH_LIMIT};
use crate::pages::{PAGE_LEN, PAGES, PageSet};
use crate::pool::Pool;
use crate::stored::{Lookup, StoredDigests};
use script::Script;

pub use sessions::{reception, sending};

type Verdict = Result<(), String>;

fn words(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// A header that is understood is the only encoding of what it says, and announces no more than its kind may have.
///
/// # Errors
/// The decoder's words.
pub fn frame_headers(bytes: &[u8]) -> Verdict {
    let mut header = [0; HEADER_BYTES];
    let length = bytes.len().min(HEADER_BYTES);
    header[..length].copy_from_slice(&bytes[..length]);
    let as_it_came = header_is_canonical(&header);
    seal(&mut header);
    as_it_came.or_else(|_| header_is_canonical(&header))
}

/// Makes magic, version and checksum right, so that what lies behind them is reached.
fn seal(header: &mut [u8; HEADER_BYTES]) {
    let (sealed, checksum) = header.split_at_mut(HEADER_BYTES - size_of::<u128>());
    sealed[..4].copy_from_slice(b"TNST");
    sealed[4..6].copy_from_slice(&VERSION.to_le_bytes());
    checksum.copy_from_slice(&xxh3_128(sealed).to_le_bytes());
}

fn header_is_canonical(bytes: &[u8; HEADER_BYTES]) -> Verdict {
    let header = Header::decode(bytes).map_err(words)?;
    assert_eq!(header.encode(), *bytes, "{header:?} has another encoding");
    let limit = match header.kind {
        Kind::Open { .. } => GRANT_LIMIT as usize,
        Kind::Data { .. } | Kind::Pages { .. } => BLOCK_LEN,
        Kind::Abort { .. } | Kind::Refused => REASON_LIMIT as usize,
        Kind::Same { .. } | Kind::Digests { .. } | Kind::PageDigests { .. } => 4096,
        _ => 0,
    };
    assert!(header.payload_len() <= limit, "{header:?}");
    Ok(())
}

/// The gate lets in what is exactly of the open run and next in order, once, and nothing twice.
///
/// # Errors
/// Why the first frame that was refused stayed outside.
pub fn gate(bytes: &[u8]) -> Verdict {
    let mut script = Script::new(bytes);
    let mut run = script.open_run();
    let mut refused = Ok(());
    for _ in 0..64 {
        let Some((header, _)) = script.frame(&run) else { break };
        if admit_open(&run, &header, 0).is_ok() {
            assert!(header.key == run.key && matches!(header.kind, Kind::Open { stream: 0, .. }), "{header:?}");
        }
        match gate::admit(&run, &header) {
            Ok(after) => {
                assert_admitted(&run, &header, &after);
                run = after;
            }
            Err(refusal) if refused.is_ok() => refused = Err(words(refusal)),
            Err(_) => {}
        }
    }
    refused
}

pub(crate) fn assert_admitted(run: &OpenRun, header: &Header, after: &OpenRun) {
    let told = format!("{header:?} into {run:?}");
    assert_eq!(header.key, run.key, "of another run: {told}");
    assert_eq!(after.next.0, run.next.0 + 1, "{told}");
    assert_eq!(after.position, run.position + header.volume_bytes(), "{told}");
    assert!(after.position <= run.size_bytes && after.asked <= run.size_bytes, "past the end: {told}");
    let aligned = after.position.is_multiple_of(BLOCK_BYTES) || after.position == run.size_bytes;
    assert!(aligned || run.position == after.position, "no whole blocks: {told}");
    match header.kind {
        Kind::Data { number, offset, .. } | Kind::Zeros { number, offset, .. } => {
            assert_eq!((number, offset), (run.next, run.position), "{told}");
        }
        Kind::Same { number, offset, .. }
        | Kind::SameZeros { number, offset, .. }
        | Kind::Pages { number, offset, .. } => {
            assert_eq!((number, offset), (run.next, run.position), "{told}");
            assert!(run.comparison.leaves_out(), "nothing may be left out: {told}");
        }
        Kind::Scan { offset, .. } => {
            assert!(run.comparison == Comparison::Asked && offset >= run.asked && after.asked > run.asked, "{told}");
        }
        Kind::Ask { offset, .. } => assert!(run.comparison.leaves_out() && offset >= run.position, "{told}"),
        Kind::End { .. } => assert_eq!(run.position, run.size_bytes, "{told}"),
        Kind::Abort { .. } => {}
        _ => panic!("a frame of the other direction: {told}"),
    }
    let again = gate::admit(after, header);
    assert!(again.is_err(), "let in twice: {told}");
    let old = FrameOfAnother { generation: StreamGeneration(run.key.generation.0.wrapping_add(1)) };
    assert!(old.is_refused(run, header), "of another generation: {told}");
}

struct FrameOfAnother {
    generation: StreamGeneration,
}

impl FrameOfAnother {
    fn is_refused(&self, run: &OpenRun, header: &Header) -> bool {
        let mut other = *header;
        other.key.generation = self.generation;
        gate::admit(run, &other).is_err()
    }
}

/// A source knows of its target what it was told and nothing else, and keeps no more of it than its bounds say.
///
/// # Errors
/// That something was not taken in.
pub fn knowledge(bytes: &[u8]) -> Verdict {
    let mut script = Script::new(bytes);
    let run = script.open_run();
    let mut knowledge = Knowledge::new(run.position, run.size_bytes, run.comparison);
    let mut told: Vec<(u64, u64)> = Vec::new();
    let mut refused = Ok(());
    while let Some(step) = script.byte() {
        let (offset, length) = (script.offset(&run), script.length(&run));
        let heard = match step % 5 {
            0 => hear(&mut knowledge, &mut told, offset, length, Known::Nothing),
            1 => hear(&mut knowledge, &mut told, offset, length, Known::Zeros { until: offset.saturating_add(length) }),
            2 => {
                let digests = vec![[step; 16]; usize::from(script.byte().unwrap_or_default()) + 1];
                hear(&mut knowledge, &mut told, offset, length.min(DIGESTS_BYTES), Known::Digests(digests))
            }
            3 => knowledge.hear_pages(offset, vec![[step; 16]; 3], 21).map_err(words),
            _ => {
                check_known(&mut knowledge, &told, offset);
                Ok(())
            }
        };
        let (stretches, pages) = knowledge.size();
        assert!(stretches <= STRETCH_LIMIT + 16 && pages <= ANSWER_LIMIT, "{stretches} stretches, {pages} answers");
        refused = refused.and(heard);
    }
    refused
}

fn hear(knowledge: &mut Knowledge, told: &mut Vec<(u64, u64)>, offset: u64, length: u64, known: Known) -> Verdict {
    let heard = knowledge.hear(offset, length, known, 20).map_err(words);
    // What was refused ends the stream; up to there it may have been taken in.
    told.push((offset, offset.saturating_add(length)));
    heard
}

fn check_known(knowledge: &mut Knowledge, told: &[(u64, u64)], offset: u64) {
    let was_told = told.iter().any(|(start, end)| (*start..*end).contains(&offset));
    match knowledge.at(offset) {
        Known::Nothing => {}
        known => assert!(was_told, "{known:?} at {offset} comes from nowhere: {told:?}"),
    }
}

/// The pages of a frame come to their places in the block, and a payload that does not hold exactly its pages is none.
///
/// # Errors
/// That it is none.
pub fn page_sets(bytes: &[u8]) -> Verdict {
    let (set, rest) = bytes.split_first_chunk::<{ PAGES / 8 }>().ok_or("too short for a set of pages")?;
    let pages = PageSet::from_bytes(set);
    assert_eq!(pages.to_bytes(), *set);
    let mut script = Script::new(rest);
    let length = BLOCK_LEN - usize::from(script.byte().unwrap_or_default()) * 4111;
    let runs: Vec<_> = pages.byte_runs(length).collect();
    assert!(runs.windows(2).all(|pair| pair[0].end < pair[1].start), "{runs:?}");
    assert!(runs.iter().all(|run| run.end <= length && run.start.is_multiple_of(PAGE_LEN)), "{runs:?}");
    let claimed = (pages.total_bytes(length) + set.len()).saturating_add_signed(script.difference());
    let pool = Pool::new(1, BLOCK_LEN);
    let mut buffer = pool.take().ok_or("the pool is closed")?;
    let claimed = claimed.min(BLOCK_LEN);
    fill(&mut buffer, &pages, length, claimed);
    let placed = scattered(buffer, claimed, length).ok_or("the payload is not that of these pages")?;
    assert_eq!(placed.1, pages);
    for place in runs.into_iter().flat_map(|run| run.step_by(PAGE_LEN)) {
        assert_eq!(usize::from(placed.0[place]), place / PAGE_LEN % 251, "page at {place}");
    }
    Ok(())
}

/// A payload in which every page begins with its own number.
fn fill(buffer: &mut [u8], pages: &PageSet, length: usize, claimed: usize) {
    let places = pages.byte_runs(length).flat_map(|run| run.step_by(PAGE_LEN));
    for (at, place) in places.enumerate() {
        if let (Some(byte), Ok(number)) = (buffer.get_mut(at * PAGE_LEN), u8::try_from(place / PAGE_LEN % 251)) {
            *byte = number;
        }
    }
    let set = pages.to_bytes();
    if let Some(place) = claimed.checked_sub(set.len()) {
        buffer[place..claimed].copy_from_slice(&set);
    }
}

/// A file of digests is used only if it is whole and chains to what the store has, and then it says what it holds.
///
/// # Errors
/// That it is not used.
pub fn stored_digests(bytes: &[u8]) -> Verdict {
    let (head, file) = bytes.split_first_chunk::<4>().ok_or("too short")?;
    let [blocks, tail, flips, place] = *head;
    let size_bytes = u64::from(blocks) * BLOCK_BYTES + u64::from(tail);
    let digests: Vec<BlockDigest> = file.as_chunks().0.iter().map(|digest| BlockDigest(*digest)).collect();
    let mut chain = digests.iter().fold(Checkpoint::START.chain, extend_chain_by);
    chain.0[usize::from(place) % 32] ^= flips;
    let held = in_memory(file)?;
    let path = std::path::PathBuf::from(format!("/proc/self/fd/{}", held.as_raw_fd()));
    let opened = StoredDigests::open(&path, size_bytes, chain).map_err(words)?;
    let proves_itself = flips == 0 && file.len() as u64 == size_bytes.div_ceil(BLOCK_BYTES) * 32;
    assert_eq!(opened.is_some(), proves_itself);
    let stored = opened.ok_or("the file does not prove itself")?;
    let mut lookup = Lookup::new(&stored);
    for (block, digest) in (0..).zip(&digests) {
        assert_eq!(lookup.at(block * BLOCK_BYTES), Some(*digest));
    }
    assert_eq!(lookup.at(digests.len() as u64 * BLOCK_BYTES), None);
    Ok(())
}

fn extend_chain_by(chain: tanist_model::run::ChainDigest, digest: &BlockDigest) -> tanist_model::run::ChainDigest {
    extend_chain(chain, digest)
}

fn in_memory(bytes: &[u8]) -> Result<std::fs::File, String> {
    let mut file = std::fs::File::from(memfd_create("digests", MemfdFlags::CLOEXEC).map_err(words)?);
    file.write_all(bytes).map_err(words)?;
    Ok(file)
}
