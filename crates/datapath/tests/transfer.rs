//! A copy equals its source, whatever the size, wherever it starts, however often it is interrupted.

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use support::{MIB, Random, Run, contents, copy, create, open, reference, size, volume};
use tanist_datapath::error::GeometryError;
use tanist_datapath::io::memory::{Fault, FaultyOperation, MemoryDevice};
use tanist_datapath::limit::BytesPerSecond;
use tanist_datapath::verify::{Verified, VerifyControl, compare, verify_full};
use tanist_datapath::{BlockDevice, TransferConfig, TransferError, TransferEvent};
use tanist_model::run::Checkpoint;

const SIZES: [u64; 10] = [0, 1, 511, 4095, 4096, MIB - 1, MIB, MIB + 1, 7 * MIB + 513, 9 * MIB + 4096];

fn small_steps(from: Checkpoint, size_bytes: u64) -> TransferConfig {
    TransferConfig { checkpoint_bytes: MIB, first_checkpoint_bytes: MIB, ..TransferConfig::new(from, size_bytes) }
}

#[test]
fn files_of_any_size_to_the_byte() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    for (seed, size_bytes) in (1..).zip(SIZES) {
        let bytes = volume(seed, size_bytes);
        let (from, to) = (directory.path().join("source"), directory.path().join("target"));
        std::fs::write(&from, &bytes).unwrap();
        std::fs::write(&to, volume(seed + 100, size_bytes)).unwrap();
        let outcome = copy(&open(&from), &open(&to), TransferConfig::new(Checkpoint::START, size_bytes));
        assert_eq!(outcome.finished(), reference(&bytes), "seed {seed}, {size_bytes} bytes");
        assert!(std::fs::read(&to).unwrap() == bytes, "seed {seed}, {size_bytes} bytes differ");
    }
}

#[test]
fn memory_of_any_size_to_the_byte() {
    for seed in 0..40 {
        let size_bytes = size(seed, 9 * MIB);
        let bytes = volume(seed, size_bytes);
        let target = Arc::new(MemoryDevice::with_bytes(&volume(seed + 1, size_bytes)));
        let config =
            TransferConfig { skip_target_holes: seed % 2 == 0, ..TransferConfig::new(Checkpoint::START, size_bytes) };
        let outcome = copy(&Arc::new(MemoryDevice::with_bytes(&bytes)), &target, config);
        assert_eq!(outcome.finished(), reference(&bytes), "seed {seed}");
        target.power_loss();
        assert!(contents(&*target) == bytes, "seed {seed}, {size_bytes} bytes differ");
    }
}

#[test]
fn a_larger_target_keeps_what_it_has_past_the_source() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (bytes, size_bytes) = (volume(5, 3 * MIB + 700), 3 * MIB + 700);
    let (from, to) = (directory.path().join("source"), directory.path().join("target"));
    std::fs::write(&from, &bytes).unwrap();
    std::fs::write(&to, vec![9; 5 << 20]).unwrap();
    copy(&open(&from), &open(&to), TransferConfig::new(Checkpoint::START, size_bytes)).finished();
    let seen = std::fs::read(&to).unwrap();
    let (copied, rest) = seen.split_at(bytes.len());
    assert!(copied == bytes && seen.len() == 5 << 20 && rest.iter().all(|byte| *byte == 9));
}

#[test]
fn a_copy_resumed_at_any_checkpoint_is_the_same() {
    let (bytes, size_bytes) = (volume(3, 7 * MIB + 513), 7 * MIB + 513);
    let source = Arc::new(MemoryDevice::with_bytes(&bytes));
    let first = copy(&source, &Arc::new(MemoryDevice::new(size_bytes)), small_steps(Checkpoint::START, size_bytes));
    assert!(first.durable.len() > 1, "{first:?}");
    for from in &first.durable {
        let kept = usize::try_from(from.seq).unwrap();
        let mut start = volume(77, size_bytes);
        start[..kept].copy_from_slice(&bytes[..kept]);
        let target = Arc::new(MemoryDevice::with_bytes(&start));
        assert_eq!(copy(&source, &target, small_steps(*from, size_bytes)).finished(), reference(&bytes));
        assert!(contents(&*target) == bytes, "from {}", from.seq);
    }
}

/// A kill, as far as one process can be killed by itself: an abort at any moment, then the loss of all that was not flushed.
#[test]
fn a_copy_that_is_killed_again_and_again_ends_equal() {
    for seed in 0..12 {
        let mut random = Random(seed);
        let size_bytes = 12 * MIB + random.below(MIB);
        let bytes = volume(seed, size_bytes);
        let source = Arc::new(MemoryDevice::with_bytes(&bytes));
        let target = Arc::new(MemoryDevice::with_bytes(&volume(seed + 500, size_bytes)));
        let mut from = Checkpoint::START;
        for _ in 0..6 {
            let run = Run::start(&source, &target, small_steps(from, size_bytes));
            let written = random.below(8 * MIB);
            while run.transfer.progress().written_bytes < written && run.transfer.progress().durable_seq < size_bytes {
                std::thread::yield_now();
            }
            run.transfer.abort();
            from = run.commit_all(from, |_, _| {}).committed;
            target.power_loss();
        }
        assert_eq!(copy(&source, &target, small_steps(from, size_bytes)).finished(), reference(&bytes), "seed {seed}");
        assert!(contents(&*target) == bytes, "seed {seed}");
    }
}

#[test]
fn a_graceful_stop_makes_durable_what_was_written() {
    let (bytes, size_bytes) = (volume(8, 40 * MIB), 40 * MIB);
    let source = Arc::new(MemoryDevice::with_bytes(&bytes));
    source.fail_every(FaultyOperation::Read, Fault::Delay(Duration::from_millis(2)));
    let target = Arc::new(MemoryDevice::new(size_bytes));
    let run = Run::start(&source, &target, TransferConfig::new(Checkpoint::START, size_bytes));
    while run.transfer.progress().written_bytes == 0 {
        std::thread::yield_now();
    }
    run.transfer.stop();
    let outcome = run.commit_all(Checkpoint::START, |_, _| {});
    let TransferEvent::Stopped { checkpoint } = outcome.last else { panic!("{:?}", outcome.last) };
    let kept = usize::try_from(checkpoint.seq).unwrap();
    assert!(kept > 0 && kept < bytes.len());
    assert_eq!(checkpoint, outcome.committed);
    assert!(target.durable_bytes(checkpoint.seq) == bytes[..kept]);
    assert_eq!(checkpoint, reference(&bytes[..kept]));
}

#[test]
fn the_writer_waits_at_the_stall_limit_until_someone_commits() {
    let (bytes, size_bytes) = (vec![3; 64 << 20], 64 * MIB);
    let target = Arc::new(MemoryDevice::new(size_bytes));
    let config = TransferConfig { stall_bytes: 16 * MIB, ..small_steps(Checkpoint::START, size_bytes) };
    let run = Run::start(&Arc::new(MemoryDevice::with_bytes(&bytes)), &target, config);
    let mut durable = 0;
    while let Ok(event) = run.events.recv_timeout(Duration::from_millis(300)) {
        let TransferEvent::Durable { checkpoint, .. } = event else { panic!("ended without a commit: {event:?}") };
        durable = checkpoint.seq;
    }
    let written = run.transfer.progress().written_bytes;
    assert!((12 * MIB..=16 * MIB).contains(&written), "{written}");
    assert_eq!(durable, written, "a stalled transfer makes all it wrote durable");
    run.transfer.committed(durable);
    let outcome = run.commit_all(Checkpoint::START, |transfer, checkpoint| {
        assert!(transfer.progress().written_seq <= checkpoint.seq + 16 * MIB);
    });
    assert_eq!(outcome.finished(), reference(&bytes));
}

#[test]
fn a_stop_ends_a_stalled_transfer() {
    let size_bytes = 64 * MIB;
    let config = TransferConfig { stall_bytes: 4 * MIB, ..small_steps(Checkpoint::START, size_bytes) };
    let source = Arc::new(MemoryDevice::with_bytes(&vec![3; 64 << 20]));
    let run = Run::start(&source, &Arc::new(MemoryDevice::new(size_bytes)), config);
    assert!(matches!(run.events.recv().unwrap(), TransferEvent::Durable { .. }));
    run.transfer.stop();
    let last = run.events.iter().last().unwrap();
    assert!(matches!(last, TransferEvent::Stopped { checkpoint } if checkpoint.seq <= 4 * MIB), "{last:?}");
}

#[test]
fn memory_stays_bounded_before_a_slow_target() {
    let size_bytes = 40 * MIB;
    let target = Arc::new(MemoryDevice::new(size_bytes));
    target.fail_every(FaultyOperation::Write, Fault::Delay(Duration::from_millis(3)));
    let run = Run::start(
        &Arc::new(MemoryDevice::with_bytes(&vec![3; 40 << 20])),
        &target,
        TransferConfig::new(Checkpoint::START, size_bytes),
    );
    let mut most = 0;
    run.commit_all(Checkpoint::START, |transfer, _| most = most.max(transfer.buffer_bytes())).finished();
    assert!((MIB..=12 * MIB).contains(&most), "{most}");
}

#[test]
fn the_limit_is_kept_and_can_be_lifted() {
    let size_bytes = 8 * MIB;
    let source = Arc::new(MemoryDevice::with_bytes(&vec![3; 8 << 20]));
    let limited = |rate| TransferConfig {
        limit: BytesPerSecond::new(rate),
        ..TransferConfig::new(Checkpoint::START, size_bytes)
    };
    let start = Instant::now();
    copy(&source, &Arc::new(MemoryDevice::new(size_bytes)), limited(40 * MIB)).finished();
    assert!(start.elapsed() >= Duration::from_millis(120), "{:?}", start.elapsed());

    let run = Run::start(&source, &Arc::new(MemoryDevice::new(size_bytes)), limited(1));
    while run.transfer.progress().read_bytes == 0 {
        std::thread::yield_now();
    }
    run.transfer.set_limit(BytesPerSecond::new(1 << 30));
    while run.transfer.progress().read_bytes < 4 * MIB {
        std::thread::yield_now();
    }
    run.transfer.set_limit(None);
    run.commit_all(Checkpoint::START, |_, _| {}).finished();
}

#[test]
fn a_huge_hole_costs_almost_nothing() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let size_bytes = 100 << 30;
    let source = create(&directory.path().join("source"), size_bytes);
    let target = create(&directory.path().join("target"), size_bytes);
    source.write_at(50 << 30, &[5; 5000]).unwrap();
    let start = Instant::now();
    let outcome = copy(&source, &target, TransferConfig::new(Checkpoint::START, size_bytes));
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    let control = VerifyControl::default();
    assert_eq!(verify_full(&*target, outcome.finished(), &control).unwrap(), Verified::Equal);
    let mut seen = [0; 5000];
    target.read_at(50 << 30, &mut seen).unwrap();
    assert_eq!(seen, [5; 5000]);
    let blocks = rustix::fs::fstat(&*target).unwrap().st_blocks;
    assert!(blocks * 512 < 8 << 20, "the copy is not sparse: {blocks} sectors");
}

#[test]
fn known_holes_of_the_target_are_skipped_only_when_allowed() {
    let size_bytes = 8 * MIB;
    for skip_target_holes in [false, true] {
        let config = TransferConfig { skip_target_holes, ..TransferConfig::new(Checkpoint::START, size_bytes) };
        let target = Arc::new(MemoryDevice::new(size_bytes));
        let run = copy(&Arc::new(MemoryDevice::new(size_bytes)), &target, config);
        let TransferEvent::Finished { progress, .. } = run.last else { panic!("{:?}", run.last) };
        assert_eq!(progress.skipped_bytes, if skip_target_holes { size_bytes } else { 0 });
        assert_eq!(progress.zeroed_bytes, size_bytes - progress.skipped_bytes);
        assert_eq!(target.calls(FaultyOperation::Zero), u64::from(!skip_target_holes));
    }
}

#[test]
fn a_source_that_shrinks_ends_the_copy() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (from, to) = (directory.path().join("source"), directory.path().join("target"));
    std::fs::write(&from, volume(1, 8 * MIB)).unwrap();
    let (source, target) = (open(&from), create(&to, 8 * MIB));
    std::fs::File::options().write(true).open(&from).unwrap().set_len(5 * MIB + 100).unwrap();
    let outcome = copy(&source, &target, TransferConfig::new(Checkpoint::START, 8 * MIB));
    assert!(!outcome.failure().is_retryable(), "{:?}", outcome.last);
    assert!(outcome.committed.seq <= 5 * MIB);
}

#[test]
fn a_target_that_shrinks_is_not_grown_again_unnoticed() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let to = directory.path().join("target");
    let target = create(&to, 8 * MIB);
    std::fs::File::options().write(true).open(&to).unwrap().set_len(100).unwrap();
    let source = Arc::new(MemoryDevice::with_bytes(&vec![1; 2 << 20]));
    let outcome = copy(&source, &target, TransferConfig::new(Checkpoint::START, 2 * MIB));
    assert!(matches!(outcome.failure(), TransferError::Flush { checkpoint_seq: 0, .. }), "{:?}", outcome.last);
}

#[test]
fn what_does_not_fit_is_refused_before_anything_is_touched() {
    let (source, target) = (Arc::new(MemoryDevice::new(2 * MIB)), Arc::new(MemoryDevice::new(MIB)));
    let too_small = copy(&source, &target, TransferConfig::new(Checkpoint::START, 2 * MIB));
    assert!(matches!(too_small.failure(), TransferError::Geometry(GeometryError::TooSmall { .. })));
    let odd = Checkpoint { seq: 4096, ..Checkpoint::START };
    let bad = copy(&source, &target, TransferConfig::new(odd, MIB));
    assert!(matches!(bad.failure(), TransferError::Geometry(GeometryError::BadCheckpoint { .. })));
    assert_eq!(target.calls(FaultyOperation::Write) + target.calls(FaultyOperation::Zero), 0);
}

#[test]
fn compare_finds_the_block() {
    let bytes = volume(4, 5 * MIB + 9);
    let (left, right) = (MemoryDevice::with_bytes(&bytes), MemoryDevice::with_bytes(&bytes));
    let control = VerifyControl::default();
    assert_eq!(compare(&left, &right, 5 * MIB + 9, &control).unwrap(), Verified::Equal);
    let byte = [bytes[3 << 20] ^ 1];
    right.write_at(3 * MIB, &byte).unwrap();
    let found = compare(&left, &right, 5 * MIB + 9, &control).unwrap_err();
    assert!(matches!(found, TransferError::Mismatch { offset, .. } if offset == 3 * MIB), "{found}");
    control.stop();
    assert_eq!(verify_full(&left, reference(&bytes), &control).unwrap(), Verified::Stopped);
}
