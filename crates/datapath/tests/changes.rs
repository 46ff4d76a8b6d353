//! What a storage system does not name as changed is not read, in both forms, and costs no byte of the result; its word is sampled.

mod support;

use std::sync::Arc;

use support::session::{Session, connect};
use support::{MIB, Random, comparing, contents, copy, memory, reference, stored, two_states, volume};
use tanist_datapath::{
    Changes, Digests, Progress, SenderEvent, StoredDigests, TransferConfig, TransferError, TransferEvent,
};
use tanist_model::byte_range::ByteRange;
use tanist_model::run::Checkpoint;

/// Over how many streams; none is the direct form.
const FORMS: [u16; 3] = [0, 1, 4];

/// How a copy ended at its target, and what was left unread at its source.
fn run(streams: u16, bytes: &[u8], target: &[u8], config: TransferConfig) -> (TransferEvent, Option<u64>, Vec<u8>) {
    let (source, target) = (memory(bytes), memory(target));
    let unread = |progress: &Progress| Some(progress.unread_bytes);
    if streams == 0 {
        let last = copy(&source, &target, config).last;
        let left = if let TransferEvent::Finished { progress, .. } = &last { unread(progress) } else { None };
        return (last, left, contents(&*target));
    }
    let (sent, outcome) = Session::start(&source, &target, config, connect(streams)).run();
    let left = match sent {
        SenderEvent::Finished { progress } => unread(&progress),
        SenderEvent::Failed(error) => return (TransferEvent::Failed(error), None, contents(&*target)),
        _ => None,
    };
    (outcome.last, left, contents(&*target))
}

fn telling(digests: &Digests, changes: Changes) -> Digests {
    Digests { changes: Some(Arc::new(changes)), ..digests.clone() }
}

/// Where two states of a volume differ, in stretches of this length.
fn differing(before: &[u8], after: &[u8], grain: usize) -> Vec<ByteRange> {
    let place = |n: usize| (n * grain).min(before.len()) as u64;
    let pairs = before.chunks(grain).zip(after.chunks(grain)).enumerate();
    pairs.filter(|(_, (a, b))| a != b).map(|(n, _)| ByteRange::new(place(n), place(n + 1))).collect()
}

#[test]
fn any_change_that_is_named_arrives_and_the_rest_is_not_read() {
    for seed in 0..60 {
        let (before, bytes) = two_states(seed, 30 * MIB);
        let (size_bytes, folder) = (bytes.len() as u64, tempfile::tempdir().unwrap());
        let grain = [512, 65_536, 3 << 20][seed as usize % 3];
        let changes = Changes::new(differing(&before, &bytes, grain));
        let named = changes.total_bytes();
        let digests = telling(&stored(folder.path(), &before), changes);
        let config = TransferConfig { digests, ..comparing(Checkpoint::START, size_bytes) };
        let streams = FORMS[seed as usize % 3];
        let (last, unread, held) = run(streams, &bytes, &before, config);
        let TransferEvent::Finished { checkpoint, .. } = last else { panic!("seed {seed}: {last:?}") };
        assert_eq!(checkpoint, reference(&bytes), "seed {seed}, {streams} streams");
        assert!(held == bytes, "seed {seed}, {streams} streams");
        // The last block that is named may reach past the volume's end.
        assert!(unread.unwrap() <= (size_bytes + MIB).saturating_sub(named), "seed {seed}");
        let next = StoredDigests::open(&folder.path().join("next"), size_bytes, checkpoint.chain).unwrap();
        assert!(next.is_some(), "seed {seed}: the next run finds no digests");
    }
}

/// Of 300 MiB of which nothing is named, a sample is read: its chance to be above a fifth is nil.
#[test]
fn what_is_not_named_is_not_read_but_for_a_sample() {
    let bytes = volume(1, 300 * MIB);
    let folder = tempfile::tempdir().unwrap();
    let digests = telling(&stored(folder.path(), &bytes), Changes::default());
    for streams in FORMS {
        let config = TransferConfig { digests: digests.clone(), ..comparing(Checkpoint::START, 300 * MIB) };
        let (_, unread, held) = run(streams, &bytes, &bytes, config);
        let read = 300 * MIB - unread.unwrap();
        assert!((MIB..60 * MIB).contains(&read), "{streams} streams: {read} bytes were read");
        assert!(held == bytes);
    }
}

/// The first block that is not named is always looked at, whether it holds data or zeros now.
#[test]
fn a_change_that_was_not_named_is_found_and_nothing_is_published_of_it() {
    let place = 5 << 20..6 << 20;
    let zeros = {
        let mut bytes = volume(2, 12 * MIB);
        bytes[place.clone()].fill(0);
        bytes
    };
    let data = {
        let mut bytes = zeros.clone();
        Random(9).fill(&mut bytes[place]);
        bytes
    };
    for (before, bytes) in [(&data, &zeros), (&zeros, &data)] {
        let folder = tempfile::tempdir().unwrap();
        let digests = telling(&stored(folder.path(), before), Changes::new([ByteRange::new(0, 5 * MIB)]));
        for streams in FORMS {
            let config = TransferConfig { digests: digests.clone(), ..comparing(Checkpoint::START, 12 * MIB) };
            match run(streams, bytes, before, config).0 {
                TransferEvent::Failed(TransferError::Untold { offset, length }) => {
                    assert_eq!((offset, length), (5 * MIB, MIB), "{streams} streams");
                }
                other => panic!("{streams} streams: {other:?}"),
            }
        }
    }
}

/// Without digests, or in a run that writes everything, nothing stands for what would be left unread.
#[test]
fn without_digests_everything_is_read() {
    let bytes = volume(3, 8 * MIB);
    let folder = tempfile::tempdir().unwrap();
    let told = telling(&stored(folder.path(), &bytes), Changes::default());
    let unproven = Digests { stored: None, ..told.clone() };
    let comparing = comparing(Checkpoint::START, 8 * MIB);
    let everything = TransferConfig { compare: false, digests: told, ..comparing.clone() };
    for config in [TransferConfig { digests: unproven, ..comparing }, everything] {
        assert_eq!(run(0, &bytes, &bytes, config).1, Some(0));
    }
}
