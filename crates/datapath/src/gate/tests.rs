//! Each refusal has its frame, and a frame that differs in nothing is let in.

use tanist_model::id::Epoch;

use super::*;
use crate::digest::BlockDigest;

const SIZE: u64 = 3 * BLOCK_BYTES + 700;

fn key(run: u64, source: u32, target: u32, generation: u64) -> FrameKey {
    let epochs = Epochs { source: Epoch(source), target: Epoch(target) };
    FrameKey { run: RunId(run), epochs, generation: StreamGeneration(generation) }
}

/// Run 9 at its second block, after one frame.
fn open_run() -> OpenRun {
    let start = OpenRun::new(key(9, 5, 3, 7), 2, SIZE, BLOCK_BYTES, GateRules::WHOLE);
    OpenRun { next: FrameNumber(1), position: 2 * BLOCK_BYTES, ..start }
}

fn header(key: FrameKey, kind: Kind, payload: &[u8]) -> Header {
    Header::new(key, kind, payload).unwrap()
}

fn data_at(key: FrameKey, number: u64, offset: u64, length: u64) -> Header {
    let bytes = vec![1; usize::try_from(length).unwrap()];
    header(key, Kind::Data { number: FrameNumber(number), offset, digest: BlockDigest::of(&bytes) }, &bytes)
}

fn next_data(key: FrameKey) -> Header {
    data_at(key, 1, 2 * BLOCK_BYTES, BLOCK_BYTES)
}

fn zeros(offset: u64, length: u64) -> Header {
    header(open_run().key, Kind::Zeros { number: FrameNumber(1), offset, length }, &[])
}

fn refused(frame: &Header) -> Refusal {
    let refusal = admit(&open_run(), frame).unwrap_err();
    assert!(!refusal.to_string().is_empty());
    refusal
}

#[test]
fn the_next_frame_is_let_in() {
    let run = open_run();
    let after = admit(&run, &next_data(run.key)).unwrap();
    assert_eq!((after.next, after.position), (FrameNumber(2), 3 * BLOCK_BYTES));
    let tail = admit(&after, &data_at(run.key, 2, 3 * BLOCK_BYTES, 700)).unwrap();
    let end = Kind::End { number: FrameNumber(3), offset: SIZE };
    assert_eq!(admit(&tail, &header(run.key, end, &[])).unwrap().position, SIZE);
    assert_eq!(admit(&run, &zeros(2 * BLOCK_BYTES, BLOCK_BYTES + 700)).unwrap().position, SIZE);
    assert_eq!(admit(&run, &zeros(2 * BLOCK_BYTES, BLOCK_BYTES)).unwrap().position, 3 * BLOCK_BYTES);
}

#[test]
fn another_run_is_refused() {
    assert!(matches!(refused(&next_data(key(8, 5, 3, 7))), Refusal::OtherRun { .. }));
}

#[test]
fn superseded_epochs_of_either_side_are_refused() {
    for (source, target) in [(4, 3), (5, 2), (4, 4), (6, 2)] {
        assert!(matches!(refused(&next_data(key(9, source, target, 7))), Refusal::OldEpochs { .. }));
    }
}

#[test]
fn a_higher_pair_is_refused_too() {
    for (source, target) in [(6, 3), (5, 4), (6, 4)] {
        assert!(matches!(refused(&next_data(key(9, source, target, 7))), Refusal::UnknownEpochs { .. }));
    }
}

#[test]
fn another_generation_is_refused() {
    assert!(matches!(refused(&next_data(key(9, 5, 3, 6))), Refusal::OldStream { .. }));
    assert!(matches!(refused(&next_data(key(9, 5, 3, 8))), Refusal::UnknownStream { .. }));
}

#[test]
fn frames_out_of_turn_are_refused() {
    let key = open_run().key;
    assert!(matches!(refused(&data_at(key, 0, 2 * BLOCK_BYTES, BLOCK_BYTES)), Refusal::Repeated { .. }));
    assert!(matches!(refused(&data_at(key, 2, 2 * BLOCK_BYTES, BLOCK_BYTES)), Refusal::Skipped { .. }));
}

#[test]
fn frames_out_of_place_are_refused() {
    let key = open_run().key;
    assert!(matches!(refused(&data_at(key, 1, BLOCK_BYTES, BLOCK_BYTES)), Refusal::Overlap { .. }));
    assert!(matches!(refused(&data_at(key, 1, 2 * BLOCK_BYTES + 1, 10)), Refusal::Hole { .. }));
    assert!(matches!(refused(&data_at(key, 1, 3 * BLOCK_BYTES, 700)), Refusal::Hole { .. }));
}

#[test]
fn frames_that_do_not_fit_are_refused() {
    let start = 2 * BLOCK_BYTES;
    assert!(matches!(refused(&zeros(start, BLOCK_BYTES + 701)), Refusal::PastEnd { .. }));
    assert!(matches!(refused(&zeros(start, u64::MAX - start)), Refusal::PastEnd { .. }));
    assert!(matches!(refused(&zeros(start, 4096)), Refusal::NotBlocks { .. }));
    assert!(matches!(refused(&data_at(open_run().key, 1, start, 4096)), Refusal::NotBlocks { .. }));
    let tail = OpenRun { position: 3 * BLOCK_BYTES, ..open_run() };
    let short = data_at(tail.key, 1, 3 * BLOCK_BYTES, 699);
    assert!(matches!(admit(&tail, &short), Err(Refusal::NotBlocks { .. })));
    let long = data_at(tail.key, 1, 3 * BLOCK_BYTES, 701);
    assert!(matches!(admit(&tail, &long), Err(Refusal::PastEnd { .. })));
}

#[test]
fn an_end_before_the_end_is_refused() {
    let end = Kind::End { number: FrameNumber(1), offset: 2 * BLOCK_BYTES };
    assert!(matches!(refused(&header(open_run().key, end, &[])), Refusal::EndsTooEarly { .. }));
}

#[test]
fn what_a_source_never_sends_is_refused() {
    let open =
        Kind::Open { stream: 0, streams: 2, size_bytes: SIZE, from_seq: BLOCK_BYTES, comparison: Comparison::None };
    for kind in [open, Kind::Admitted, Kind::Refused, Kind::Durable { seq: 0 }, Kind::Stop] {
        assert!(matches!(refused(&header(open_run().key, kind, &[])), Refusal::OutOfPlace { .. }));
    }
}

#[test]
fn a_stream_opens_for_what_is_open_and_nothing_else() {
    let run = OpenRun::new(key(9, 5, 3, 7), 2, SIZE, BLOCK_BYTES, GateRules::WHOLE);
    let try_open = |key, stream, streams, size_bytes, from_seq| {
        admit_open(
            &run,
            &header(key, Kind::Open { stream, streams, size_bytes, from_seq, comparison: Comparison::None }, b"grant"),
            1,
        )
    };
    assert_eq!(try_open(run.key, 1, 2, SIZE, BLOCK_BYTES), Ok(()));
    assert!(matches!(try_open(key(9, 6, 3, 7), 1, 2, SIZE, BLOCK_BYTES), Err(Refusal::UnknownEpochs { .. })));
    assert!(matches!(try_open(key(9, 5, 3, 6), 1, 2, SIZE, BLOCK_BYTES), Err(Refusal::OldStream { .. })));
    assert!(matches!(try_open(run.key, 0, 2, SIZE, BLOCK_BYTES), Err(Refusal::OtherStream { .. })));
    assert!(matches!(try_open(run.key, 1, 3, SIZE, BLOCK_BYTES), Err(Refusal::OtherStream { .. })));
    assert!(matches!(try_open(run.key, 1, 2, SIZE + 1, BLOCK_BYTES), Err(Refusal::OtherExtent { .. })));
    assert!(matches!(try_open(run.key, 1, 2, SIZE, 0), Err(Refusal::OtherExtent { .. })));
    assert!(matches!(admit_open(&run, &next_data(run.key), 1), Err(Refusal::OutOfPlace { kind: 2 })));
}

#[test]
fn what_leaves_something_out_comes_in_only_where_that_is_wanted() {
    let comparing = OpenRun { comparison: Comparison::Whole, ..open_run() };
    let (key, number, offset) = (comparing.key, FrameNumber(1), 2 * BLOCK_BYTES);
    let digest = BlockDigest([0; 32]);
    let same = header(key, Kind::Same { number, offset, length: BLOCK_BYTES }, &[0; 32]);
    let zeros = header(key, Kind::SameZeros { number, offset, length: BLOCK_BYTES }, &[]);
    let pages = header(key, Kind::Pages { number, offset, length: BLOCK_BYTES, digest }, &[0; 64]);
    let ask = |offset| header(key, Kind::Ask { number, offset, chunks: 1 }, &[]);
    for frame in [same, zeros, pages, ask(offset)] {
        assert!(matches!(refused(&frame), Refusal::OutOfPlace { .. }), "{frame:?}");
        let moved = u64::from(frame.volume_bytes() > 0) * BLOCK_BYTES;
        assert_eq!(admit(&comparing, &frame).unwrap().position, offset + moved);
    }
    for out_of_place in [offset - BLOCK_BYTES, offset + 1, 4 * BLOCK_BYTES] {
        assert!(matches!(admit(&comparing, &ask(out_of_place)), Err(Refusal::NotToCome { .. })));
    }
    let part = header(key, Kind::Pages { number, offset, length: 4096, digest }, &[0; 64]);
    assert!(matches!(admit(&comparing, &part), Err(Refusal::NotBlocks { .. })));
    let open = Kind::Open { stream: 0, streams: 2, size_bytes: SIZE, from_seq: offset, comparison: Comparison::None };
    let opened = admit_open(&comparing, &header(key, open, &[]), 0);
    assert!(
        matches!(opened, Err(Refusal::OtherMethod { open: Comparison::Whole, found: Comparison::None })),
        "{opened:?}"
    );
}

/// The rules above are what holds these frames back: with one broken, its frames come in, and the others still do not.
#[cfg(feature = "mutations")]
#[test]
fn a_broken_rule_lets_its_frames_in() {
    let let_in = |mutation, key| {
        let run = OpenRun { rules: GateRules::breaking(mutation), ..open_run() };
        admit(&run, &next_data(key)).is_ok()
    };
    let foreign = [key(9, 6, 3, 7), key(9, 5, 3, 6), key(8, 4, 3, 7), key(9, 5, 3, 8)];
    let outcomes = |mutation| foreign.map(|key| let_in(mutation, key));
    assert_eq!(outcomes(GateMutation::HigherPairAdmitted), [true, false, false, false]);
    assert_eq!(outcomes(GateMutation::OldStreamAdmitted), [false, true, false, false]);
    assert_eq!(outcomes(GateMutation::KeyIgnored), [true; 4]);
}

/// A source that asks, asks for whole blocks that are still to come, and never twice.
#[test]
fn questions_are_about_blocks_that_are_to_come() {
    let scan = |run: &OpenRun, offset, length| {
        let number = run.next;
        admit(run, &header(run.key, Kind::Scan { number, offset, length }, &[]))
    };
    let at = 2 * BLOCK_BYTES;
    let asked = OpenRun { comparison: Comparison::Asked, ..open_run() };
    let after = scan(&asked, at, BLOCK_BYTES).unwrap();
    assert_eq!((after.position, after.asked, after.next), (at, 3 * BLOCK_BYTES, FrameNumber(2)));
    let whole = scan(&asked, at, BLOCK_BYTES + 700).unwrap();
    assert_eq!((whole.position, whole.asked), (at, SIZE));
    let refused = |run: &OpenRun, offset, length| {
        let refusal = scan(run, offset, length).unwrap_err();
        assert!(matches!(refusal, Refusal::NotToCome { .. }), "{refusal:?}");
    };
    refused(&after, at, BLOCK_BYTES);
    refused(&asked, BLOCK_BYTES, BLOCK_BYTES);
    refused(&asked, at + 4096, BLOCK_BYTES);
    refused(&asked, at, 4096);
    refused(&asked, at, BLOCK_BYTES + 701);
    refused(&asked, at, u64::MAX - at);
    let told = OpenRun { comparison: Comparison::Whole, ..open_run() };
    assert!(matches!(scan(&told, at, BLOCK_BYTES), Err(Refusal::OutOfPlace { .. })));
}
