//! A run that compares ends like one that writes everything, writes only what differs, and trusts no read where none proves anything.

mod support;

use std::sync::Arc;

use support::{MIB, Random, Run, changed, comparing, contents, copy, reference, two_states, volume};
use tanist_datapath::io::memory::{Fault, FaultyOperation, MemoryDevice};
use tanist_datapath::{Progress, TransferConfig, TransferError, TransferEvent};
use tanist_model::byte_range::ByteRange;
use tanist_model::run::Checkpoint;

fn progress(event: &TransferEvent) -> Progress {
    match event {
        TransferEvent::Finished { progress, .. } => **progress,
        other => panic!("not finished: {other:?}"),
    }
}

#[test]
fn any_target_becomes_the_source() {
    for seed in 0..60 {
        let (bytes, before) = two_states(seed, 9 * MIB);
        let size_bytes = bytes.len() as u64;
        let target = Arc::new(MemoryDevice::with_bytes(&before));
        let outcome =
            copy(&Arc::new(MemoryDevice::with_bytes(&bytes)), &target, comparing(Checkpoint::START, size_bytes));
        assert_eq!(outcome.finished(), reference(&bytes), "seed {seed}");
        target.power_loss();
        assert!(contents(&*target) == bytes, "seed {seed}, {size_bytes} bytes differ");
        let done = progress(&outcome.last);
        assert_eq!(done.same_bytes + done.written_bytes + done.zeroed_bytes, size_bytes, "seed {seed}: {done:?}");
    }
}

#[test]
fn nothing_changed_writes_nothing_and_one_page_writes_one_page() {
    let bytes = volume(3, 20 * MIB);
    let source = Arc::new(MemoryDevice::with_bytes(&bytes));
    let target = Arc::new(MemoryDevice::with_bytes(&bytes));
    let outcome = copy(&source, &target, comparing(Checkpoint::START, 20 * MIB));
    assert_eq!(target.calls(FaultyOperation::Write) + target.calls(FaultyOperation::Zero), 0);
    assert_eq!(progress(&outcome.last).same_bytes, 20 * MIB);
    let mut one = bytes.clone();
    one[(9 << 20) + 5] ^= 1;
    let outcome = copy(&Arc::new(MemoryDevice::with_bytes(&one)), &target, comparing(Checkpoint::START, 20 * MIB));
    let done = progress(&outcome.last);
    assert_eq!((done.written_bytes, done.verified_bytes), (4096, 4096));
    assert!(contents(&*target) == one);
}

/// A kill at any moment, then the loss of what was not flushed: the next attempt writes the window past its checkpoint whole.
#[test]
fn a_comparing_copy_that_is_killed_again_and_again_ends_equal() {
    for seed in 0..16 {
        let mut random = Random(seed);
        let size_bytes = 12 * MIB + random.below(MIB);
        let bytes = volume(seed, size_bytes);
        let source = Arc::new(MemoryDevice::with_bytes(&bytes));
        let target = Arc::new(MemoryDevice::with_bytes(&changed(seed + 500, &bytes)));
        let stall_bytes = 4 * MIB;
        let mut from = Checkpoint::START;
        let attempt = |from: Checkpoint| {
            let window = ByteRange::new(from.seq, (from.seq + stall_bytes).min(size_bytes));
            let unconditional = [window].into_iter().collect();
            TransferConfig { stall_bytes, unconditional, ..comparing(from, size_bytes) }
        };
        for _ in 0..6 {
            target.heal();
            // The very next flush fails and cleans pages that are not on disk; or power is lost at any moment.
            let nth = target.calls(FaultyOperation::Flush) + 1 + random.below(3);
            if random.below(2) == 0 {
                target.fail_nth(FaultyOperation::Flush, nth, Fault::Error);
            }
            let run = Run::start(&source, &target, attempt(from));
            // Nobody commits before it ends: it stalls a window past the checkpoint.
            let passed = from.seq + random.below(3 * MIB);
            while run.transfer.progress().written_seq < passed.min(size_bytes)
                && target.calls(FaultyOperation::Flush) < nth
            {
                std::thread::yield_now();
            }
            run.transfer.abort();
            from = run.commit_all(from, |_, _| {}).committed;
            let kept = usize::try_from(from.seq).unwrap();
            assert!(target.durable_bytes(from.seq) == bytes[..kept], "seed {seed}: not durable below {kept}");
        }
        target.heal();
        assert_eq!(copy(&source, &target, attempt(from)).finished(), reference(&bytes), "seed {seed}");
        target.power_loss();
        assert!(contents(&*target) == bytes, "seed {seed}");
    }
}

/// What a failed flush has cleaned reads back right and is not there: only a window that is written whole brings it back.
#[test]
fn a_window_that_reads_back_right_is_written_all_the_same() {
    let bytes = volume(6, 6 * MIB);
    let source = Arc::new(MemoryDevice::with_bytes(&bytes));
    for unconditional in [false, true] {
        let target = Arc::new(MemoryDevice::new(6 * MIB));
        target.fail_nth(FaultyOperation::Flush, 1, Fault::Error);
        let first =
            copy(&source, &target, TransferConfig { stall_bytes: 4 * MIB, ..comparing(Checkpoint::START, 6 * MIB) });
        assert!(matches!(first.failure(), TransferError::Flush { .. }));
        let window = ByteRange::new(0, if unconditional { 4 * MIB } else { 0 });
        let again =
            TransferConfig { unconditional: [window].into_iter().collect(), ..comparing(Checkpoint::START, 6 * MIB) };
        copy(&source, &target, again).finished();
        target.power_loss();
        assert_eq!(contents(&*target) == bytes, unconditional);
    }
}

/// Long stretches that are alike move the position far ahead; what is written stays within the window that a successor writes whole.
#[test]
fn nothing_is_written_past_the_stall_window() {
    let size_bytes = 64 * MIB;
    let mut bytes = vec![0; 64 << 20];
    bytes[(40 << 20) + 7] = 1;
    let (source, target) = (Arc::new(MemoryDevice::with_bytes(&bytes)), Arc::new(MemoryDevice::new(size_bytes)));
    let config = TransferConfig { stall_bytes: 8 * MIB, ..comparing(Checkpoint::START, size_bytes) };
    let run = Run::start(&source, &target, config);
    let TransferEvent::Durable { checkpoint, .. } = run.events.recv().unwrap() else { panic!("not durable") };
    assert!(checkpoint.seq >= 16 * MIB, "{checkpoint:?}");
    assert_eq!(target.calls(FaultyOperation::Write), 0, "it was written before anything was committed");
    run.transfer.committed(checkpoint.seq);
    assert_eq!(run.commit_all(checkpoint, |_, _| {}).finished(), reference(&bytes));
    assert!(contents(&*target) == bytes);
}

#[test]
fn what_is_written_of_a_block_is_read_back() {
    let bytes = vec![3; 5 << 20];
    let mut before = bytes.clone();
    before[(3 << 20) + 9000] ^= 1;
    let target = Arc::new(MemoryDevice::with_bytes(&before));
    target.fail_nth(FaultyOperation::Write, 1, Fault::Corrupt);
    let outcome = copy(&Arc::new(MemoryDevice::with_bytes(&bytes)), &target, comparing(Checkpoint::START, 5 * MIB));
    let TransferError::Mismatch { offset, .. } = outcome.failure() else { panic!("{:?}", outcome.last) };
    assert_eq!(*offset, 3 * MIB);
}

#[test]
fn a_hole_against_a_hole_costs_almost_nothing() {
    let size_bytes = (64 << 30) + 513;
    let (source, target) = (Arc::new(MemoryDevice::new(size_bytes)), Arc::new(MemoryDevice::new(size_bytes)));
    let outcome = copy(&source, &target, comparing(Checkpoint::START, size_bytes));
    let done = progress(&outcome.last);
    assert_eq!((done.read_bytes, done.compared_bytes, done.same_bytes), (0, 0, size_bytes));
}
