//! Stored digests spare the reading of the target, in both forms, and cost no byte of the result; what they cannot know is sampled.

mod support;

use std::path::Path;
use std::sync::Arc;

use support::session::{Session, connect};
use support::{MIB, Random, comparing, contents, copy, memory, reference, stored, two_states, volume};
use tanist_datapath::io::memory::MemoryDevice;
use tanist_datapath::{Progress, StoredDigests, TransferConfig, TransferError, TransferEvent};
use tanist_model::byte_range::ByteRange;
use tanist_model::run::Checkpoint;

/// Over how many streams; none is the direct form.
#[derive(Clone, Copy, Debug)]
struct Streams(u16);

fn run(
    streams: Streams,
    source: &Arc<MemoryDevice>,
    target: &Arc<MemoryDevice>,
    config: TransferConfig,
) -> TransferEvent {
    match streams.0 {
        0 => copy(source, target, config).last,
        streams => Session::start(source, target, config, connect(streams)).run().1.last,
    }
}

fn finished(event: &TransferEvent) -> (Checkpoint, Progress) {
    match event {
        TransferEvent::Finished { checkpoint, progress } => (*checkpoint, **progress),
        other => panic!("not finished: {other:?}"),
    }
}

fn proves(folder: &Path, end: Checkpoint) -> bool {
    StoredDigests::open(&folder.join("next"), end.seq, end.chain).unwrap().is_some()
}

#[test]
fn any_change_arrives_and_its_digests_are_stored_for_the_next_run() {
    for seed in 0..60 {
        let (before, bytes) = two_states(seed, 30 * MIB);
        let size_bytes = bytes.len() as u64;
        let (target, folder) = (memory(&before), tempfile::tempdir().unwrap());
        let digests = stored(folder.path(), &before);
        let mut config = TransferConfig { digests, ..comparing(Checkpoint::START, size_bytes) };
        if seed % 4 == 0 {
            config.unconditional.insert(ByteRange::new(2 * MIB, 4 * MIB));
        }
        let streams = Streams([0, 1, 2, 4][seed as usize % 4]);
        let (end, done) = finished(&run(streams, &memory(&bytes), &target, config));
        assert_eq!(end, reference(&bytes), "seed {seed}");
        assert!(contents(&*target) == bytes, "seed {seed}, {streams:?}: {size_bytes} bytes differ");
        assert_eq!(done.same_bytes + done.written_bytes + done.zeroed_bytes, size_bytes, "seed {seed}: {done:?}");
        assert!(proves(folder.path(), end), "seed {seed}, {streams:?}");
    }
}

/// Of 300 MiB that did not change, a sample is read of the target: its chance to be above a fifth is nil.
#[test]
fn what_did_not_change_is_not_read_of_the_target() {
    let size_bytes = 300 * MIB;
    let mut bytes = vec![0; usize::try_from(size_bytes).unwrap()];
    Random(1).fill(&mut bytes[..200 << 20]);
    let folder = tempfile::tempdir().unwrap();
    let digests = stored(folder.path(), &bytes);
    for streams in [Streams(0), Streams(2)] {
        let target = memory(&bytes);
        let config = TransferConfig { digests: digests.clone(), ..comparing(Checkpoint::START, size_bytes) };
        let (_, done) = finished(&run(streams, &memory(&bytes), &target, config));
        assert_eq!(done.same_bytes, size_bytes, "{streams:?}");
        assert!((MIB..size_bytes / 5).contains(&done.compared_bytes), "{streams:?}: {done:?}");
        assert_eq!(done.assumed_bytes + done.compared_bytes, size_bytes, "what was not read is said: {done:?}");
    }
}

/// One page of a block changed: only that block is read of the target, and only that page is sent and written.
#[test]
fn a_block_that_changed_is_compared_page_by_page() {
    let mut before = vec![0; 20 << 20];
    Random(3).fill(&mut before[..15 << 20]);
    let mut bytes = before.clone();
    bytes[(9 << 20) + 5] ^= 1;
    let folder = tempfile::tempdir().unwrap();
    let digests = stored(folder.path(), &before);
    for streams in [Streams(0), Streams(1), Streams(4)] {
        let target = memory(&before);
        let config = TransferConfig { digests: digests.clone(), ..comparing(Checkpoint::START, 20 * MIB) };
        let (_, done) = finished(&run(streams, &memory(&bytes), &target, config));
        assert_eq!(done.written_bytes, 4096, "{streams:?}");
        assert!(done.wire_bytes < 16 << 10, "{streams:?}: {done:?}");
        assert!(done.compared_bytes < 10 * MIB, "{streams:?}: {done:?}");
        assert_eq!(done.assumed_bytes + done.compared_bytes, 20 * MIB, "{streams:?}: {done:?}");
        assert!(contents(&*target) == bytes);
    }
}

/// The first block that is left out is always looked at: a target that was replaced or rolled back does not pass.
#[test]
fn a_target_that_was_changed_behind_our_back_is_found() {
    let bytes = volume(5, 12 * MIB);
    let folder = tempfile::tempdir().unwrap();
    let digests = stored(folder.path(), &bytes);
    for streams in [Streams(0), Streams(2)] {
        let target = memory(&volume(6, 12 * MIB));
        let config = TransferConfig { digests: digests.clone(), ..comparing(Checkpoint::START, 12 * MIB) };
        match run(streams, &memory(&bytes), &target, config) {
            TransferEvent::Failed(TransferError::NotTheBase { length, .. }) => assert!(length <= MIB, "{streams:?}"),
            other => panic!("{streams:?}: {other:?}"),
        }
    }
}

/// A successor begins in the middle: what its predecessor read is missing, and nothing pretends otherwise.
#[test]
fn half_of_a_run_proves_nothing() {
    let bytes = volume(7, 16 * MIB);
    let folder = tempfile::tempdir().unwrap();
    let digests = || tanist_datapath::Digests { record_to: Some(folder.path().join("next")), ..Default::default() };
    let from = reference(&bytes[..8 << 20]);
    let config = TransferConfig { digests: digests(), ..TransferConfig::new(from, 16 * MIB) };
    let (end, _) = finished(&run(Streams(0), &memory(&bytes), &memory(&bytes), config));
    assert!(!proves(folder.path(), end));
    // The one who had begun goes on: its file and the rest are one.
    let first = TransferConfig { digests: digests(), ..TransferConfig::new(Checkpoint::START, 8 * MIB) };
    finished(&run(Streams(0), &memory(&bytes), &memory(&bytes), first));
    let rest = TransferConfig { digests: digests(), ..TransferConfig::new(from, 16 * MIB) };
    let (end, _) = finished(&run(Streams(0), &memory(&bytes), &memory(&bytes), rest));
    assert!(proves(folder.path(), end));
}
