//! A copy over the network equals its source and the direct form's chain, over any number of streams, however often it breaks.

mod support;

use std::sync::Arc;
use std::sync::mpsc::TryRecvError;
use std::time::{Duration, Instant};

use support::session::{
    Receiving, Sending, Session, WireFault, connect, copy_over, faulty, key, sender_config, unix_pair,
};
use support::{MIB, Random, contents, copy, reference, volume};
use tanist_datapath::io::memory::{Fault, FaultyOperation, MemoryDevice};
use tanist_datapath::limit::BytesPerSecond;
use tanist_datapath::{Arrival, BlockDevice, SenderEvent, TransferConfig, TransferEvent};
use tanist_model::run::Checkpoint;

const SIZES: [u64; 8] = [0, 1, 4095, MIB - 1, MIB, MIB + 1, 7 * MIB + 513, 9 * MIB + 4096];

fn small_steps(from: Checkpoint, size_bytes: u64) -> TransferConfig {
    TransferConfig { checkpoint_bytes: MIB, first_checkpoint_bytes: MIB, ..TransferConfig::new(from, size_bytes) }
}

fn full(size_bytes: u64) -> Arc<MemoryDevice> {
    Arc::new(MemoryDevice::with_bytes(&vec![3; usize::try_from(size_bytes).unwrap()]))
}

#[test]
fn volumes_of_any_size_over_one_two_and_four_streams() {
    for (seed, size_bytes) in (1..).zip(SIZES) {
        let bytes = volume(seed, size_bytes);
        for streams in [1, 2, 3, 4] {
            let target = Arc::new(MemoryDevice::with_bytes(&volume(seed + 100, size_bytes)));
            let source = Arc::new(MemoryDevice::with_bytes(&bytes));
            let end = copy_over(streams, &source, &target, TransferConfig::new(Checkpoint::START, size_bytes));
            assert_eq!(end, reference(&bytes), "seed {seed}, {streams} streams");
            target.power_loss();
            assert!(contents(&*target) == bytes, "seed {seed}, {size_bytes} bytes over {streams} streams differ");
        }
    }
}

#[test]
fn holes_and_zeros_travel_without_data() {
    let size_bytes = (64 << 30) + 513;
    let (source, target) = (Arc::new(MemoryDevice::new(size_bytes)), Arc::new(MemoryDevice::new(size_bytes)));
    source.write_at(32 << 30, &[5; 5000]).unwrap();
    // Allocated, and zeros all the same.
    source.write_at(33 << 30, &vec![0; 8 << 20]).unwrap();
    let config = TransferConfig::new(Checkpoint::START, size_bytes);
    let session = Session::start(&source, &target, config.clone(), connect(2));
    let (SenderEvent::Finished { progress }, outcome) = session.run() else { panic!("not finished") };
    assert!((MIB..MIB + 100_000).contains(&progress.wire_bytes), "{}", progress.wire_bytes);
    let direct = copy(&source, &Arc::new(MemoryDevice::new(size_bytes)), config);
    assert_eq!(outcome.finished(), direct.finished());
    let mut seen = [0; 5000];
    target.read_at(32 << 30, &mut seen).unwrap();
    assert_eq!(seen, [5; 5000]);
}

#[test]
fn a_copy_resumed_at_any_checkpoint_has_the_chain_of_the_direct_form() {
    let (bytes, size_bytes) = (volume(3, 7 * MIB + 513), 7 * MIB + 513);
    let source = Arc::new(MemoryDevice::with_bytes(&bytes));
    let direct = copy(&source, &Arc::new(MemoryDevice::new(size_bytes)), small_steps(Checkpoint::START, size_bytes));
    assert!(direct.durable.len() > 1, "{direct:?}");
    for from in &direct.durable {
        let kept = usize::try_from(from.seq).unwrap();
        let mut start = volume(77, size_bytes);
        start[..kept].copy_from_slice(&bytes[..kept]);
        let target = Arc::new(MemoryDevice::with_bytes(&start));
        assert_eq!(copy_over(2, &source, &target, small_steps(*from, size_bytes)), direct.finished());
        assert!(contents(&*target) == bytes, "from {}", from.seq);
    }
}

/// Each attempt loses one stream at some byte, and the target its cache; the next one goes on where the last commit was.
#[test]
fn a_copy_whose_streams_break_again_and_again_ends_equal() {
    for seed in 0..24 {
        let mut random = Random(seed);
        let size_bytes = 10 * MIB + random.below(MIB);
        let bytes = volume(seed, size_bytes);
        let source = Arc::new(MemoryDevice::with_bytes(&bytes));
        let target = Arc::new(MemoryDevice::with_bytes(&volume(seed + 500, size_bytes)));
        let mut from = Checkpoint::START;
        for generation in 1..6 {
            let streams = [1, 2, 4][usize::try_from(random.below(3)).unwrap()];
            let mut ends = connect(streams);
            let victim = usize::try_from(random.below(streams.into())).unwrap();
            let at = random.below(6 * MIB / u64::from(streams)) * random.below(2) + random.below(400);
            // Either direction of the stream.
            let side = if random.below(4) == 0 { &mut ends.target } else { &mut ends.source };
            let link = side.remove(victim);
            side.insert(victim, faulty(link, at, WireFault::Cut));
            let config = small_steps(from, size_bytes);
            let (sending, receiving) = Session::open(&source, &target, config, key(generation), ends);
            if let Some(receiving) = receiving {
                from = receiving
                    .commit_all(from, |_, at| {
                        let kept = usize::try_from(at.seq).unwrap();
                        assert!(target.durable_bytes(at.seq) == bytes[..kept], "seed {seed}: not durable below {kept}");
                    })
                    .committed;
            }
            let _ = sending.last();
            target.power_loss();
        }
        assert_eq!(copy_over(2, &source, &target, small_steps(from, size_bytes)), reference(&bytes), "seed {seed}");
        assert!(contents(&*target) == bytes, "seed {seed}");
    }
}

/// A takeover between the last commit and the publication: there is nothing left to copy, and both sides find that out.
#[test]
fn a_copy_of_which_everything_is_committed_ends_at_once() {
    let bytes = volume(4, 3 * MIB + 5);
    let source = Arc::new(MemoryDevice::with_bytes(&bytes));
    let target = Arc::new(MemoryDevice::with_bytes(&bytes));
    for _ in 0..50 {
        let config = TransferConfig::new(reference(&bytes), 3 * MIB + 5);
        assert_eq!(copy_over(2, &source, &target, config), reference(&bytes));
    }
    assert_eq!(target.calls(FaultyOperation::Write) + target.calls(FaultyOperation::Zero), 0);
}

#[test]
fn the_source_is_done_when_the_last_checkpoint_is_committed_and_not_before() {
    let (bytes, size_bytes) = (volume(8, 3 * MIB), 3 * MIB);
    let source = Arc::new(MemoryDevice::with_bytes(&bytes));
    let target = Arc::new(MemoryDevice::new(size_bytes));
    let config = TransferConfig::new(Checkpoint::START, size_bytes);
    let Session { sending, receiving, .. } = Session::start(&source, &target, config, connect(2));
    let events: Vec<_> = receiving.events.iter().take_while(|e| matches!(e, TransferEvent::Durable { .. })).collect();
    assert!(!events.is_empty());
    assert_eq!(sending.events.try_recv().unwrap_err(), TryRecvError::Empty);
    assert_eq!(sending.sender.progress().committed_seq, 0);
    receiving.receiver.committed(size_bytes);
    receiving.receiver.join();
    let SenderEvent::Finished { progress } = sending.last() else { panic!("not finished") };
    assert_eq!(progress.committed_seq, size_bytes);
}

#[test]
fn a_target_that_stops_makes_durable_what_came_and_the_source_hears_of_it() {
    let (bytes, size_bytes) = (volume(8, 40 * MIB), 40 * MIB);
    let source = Arc::new(MemoryDevice::with_bytes(&bytes));
    source.fail_every(FaultyOperation::Read, Fault::Delay(Duration::from_millis(2)));
    let target = Arc::new(MemoryDevice::new(size_bytes));
    let config = TransferConfig::new(Checkpoint::START, size_bytes);
    let Session { sending, receiving, .. } = Session::start(&source, &target, config, connect(2));
    while receiving.receiver.progress().written_bytes == 0 {
        std::thread::yield_now();
    }
    receiving.receiver.stop();
    let outcome = receiving.commit_all(Checkpoint::START, |_, _| {});
    let TransferEvent::Stopped { checkpoint } = outcome.last else { panic!("{:?}", outcome.last) };
    let kept = usize::try_from(checkpoint.seq).unwrap();
    assert!(kept > 0 && kept < bytes.len() && checkpoint == outcome.committed);
    assert!(target.durable_bytes(checkpoint.seq) == bytes[..kept]);
    assert_eq!(checkpoint, reference(&bytes[..kept]));
    let last = sending.last();
    assert!(matches!(last, SenderEvent::Stopped { .. }), "{last:?}");
}

/// As a handover does it: nobody waits for the outcome before letting go.
#[test]
fn a_target_that_is_stopped_and_let_go_at_once_ends() {
    let size_bytes = 40 * MIB;
    let (source, target) = (full(size_bytes), Arc::new(MemoryDevice::new(size_bytes)));
    source.fail_every(FaultyOperation::Read, Fault::Delay(Duration::from_millis(2)));
    target.fail_every(FaultyOperation::Flush, Fault::Delay(Duration::from_millis(50)));
    let config = TransferConfig::new(Checkpoint::START, size_bytes);
    let Session { sending, receiving, .. } = Session::start(&source, &target, config, connect(2));
    while receiving.receiver.progress().written_bytes == 0 {
        std::thread::yield_now();
    }
    let begun = Instant::now();
    receiving.receiver.stop();
    receiving.receiver.join();
    assert!(begun.elapsed() < Duration::from_millis(900), "nothing was waited for in vain: {:?}", begun.elapsed());
    let last = receiving.events.iter().last();
    assert!(matches!(last, Some(TransferEvent::Stopped { .. })), "{last:?}");
    assert!(matches!(sending.last(), SenderEvent::Stopped { .. }));
}

#[test]
fn a_source_that_stops_says_so() {
    let size_bytes = 40 * MIB;
    let source = full(size_bytes);
    source.fail_every(FaultyOperation::Read, Fault::Delay(Duration::from_millis(2)));
    let target = Arc::new(MemoryDevice::new(size_bytes));
    let config = TransferConfig::new(Checkpoint::START, size_bytes);
    let Session { sending, receiving, .. } = Session::start(&source, &target, config, connect(2));
    while receiving.receiver.progress().written_bytes == 0 {
        std::thread::yield_now();
    }
    sending.sender.stop();
    let last = sending.last();
    assert!(matches!(last, SenderEvent::Stopped { .. }), "{last:?}");
    let outcome = receiving.commit_all(Checkpoint::START, |_, _| {});
    assert!(outcome.failure().to_string().contains("asked to stop"), "{:?}", outcome.last);
    assert!(outcome.committed.seq > 0 && outcome.failure().is_retryable());
}

/// Nobody commits: the target stalls, the streams fill, and the source holds no more than its pool.
#[test]
fn a_target_that_stalls_bounds_the_memory_of_both_sides() {
    let size_bytes = 96 * MIB;
    let (source, target) = (full(size_bytes), Arc::new(MemoryDevice::new(size_bytes)));
    let config = TransferConfig { stall_bytes: 8 * MIB, ..small_steps(Checkpoint::START, size_bytes) };
    let Session { sending, receiving, .. } = Session::start(&source, &target, config, connect(4));
    while let Ok(event) = receiving.events.recv_timeout(Duration::from_millis(300)) {
        assert!(matches!(event, TransferEvent::Durable { .. }), "ended without a commit: {event:?}");
    }
    let (sent, received) = (sending.sender.progress(), receiving.receiver.progress());
    assert!((4 * MIB..=8 * MIB).contains(&received.written_bytes), "{received:?}");
    // What is written, both pools, and what the sockets hold.
    assert!(sent.read_bytes <= (8 + 12 + 12 + 24) * MIB, "{sent:?}");
    assert!((MIB..=12 * MIB).contains(&sending.sender.buffer_bytes()), "{}", sending.sender.buffer_bytes());
    assert!((MIB..=12 * MIB).contains(&receiving.receiver.buffer_bytes()), "{}", receiving.receiver.buffer_bytes());
    receiving.receiver.committed(received.durable_seq);
    assert_eq!(receiving.commit_all(Checkpoint::START, |_, _| {}).finished().seq, size_bytes);
    let last = sending.last();
    assert!(matches!(last, SenderEvent::Finished { .. }), "{last:?}");
}

#[test]
fn a_slow_target_bounds_the_memory_of_the_source() {
    let size_bytes = 40 * MIB;
    let (source, target) = (full(size_bytes), Arc::new(MemoryDevice::new(size_bytes)));
    target.fail_every(FaultyOperation::Write, Fault::Delay(Duration::from_millis(3)));
    let config = TransferConfig::new(Checkpoint::START, size_bytes);
    let Session { sending, receiving, .. } = Session::start(&source, &target, config, connect(2));
    let mut most = 0;
    receiving.commit_all(Checkpoint::START, |_, _| most = most.max(sending.sender.buffer_bytes())).finished();
    assert!((MIB..=12 * MIB).contains(&most), "{most}");
    assert!(matches!(sending.last(), SenderEvent::Finished { .. }));
}

fn within_a_second(work: impl FnOnce()) {
    let start = Instant::now();
    work();
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}

#[test]
fn an_abort_ends_a_source_that_nobody_reads() {
    let size_bytes = 64 * MIB;
    let config = sender_config(key(1), &TransferConfig::new(Checkpoint::START, size_bytes));
    // Not let in yet.
    let (ours, theirs) = unix_pair();
    let waiting = Sending::start(&full(size_bytes), config.clone(), vec![ours]);
    within_a_second(|| {
        waiting.sender.abort();
        assert!(matches!(waiting.last(), SenderEvent::Aborted));
    });
    drop(theirs);
    // Let in, and blocked by a target that stalls.
    let target = Arc::new(MemoryDevice::new(size_bytes));
    let transfer = TransferConfig { stall_bytes: 0, ..small_steps(Checkpoint::START, size_bytes) };
    let Session { sending, receiving, .. } = Session::start(&full(size_bytes), &target, transfer, connect(2));
    while receiving.events.recv_timeout(Duration::from_millis(200)).is_ok() {}
    within_a_second(|| {
        sending.sender.abort();
        assert!(matches!(sending.last(), SenderEvent::Aborted));
    });
    within_a_second(|| {
        receiving.receiver.abort();
        let outcome = receiving.commit_all(Checkpoint::START, |_, _| {});
        assert!(matches!(outcome.last, TransferEvent::Aborted | TransferEvent::Failed(_)), "{:?}", outcome.last);
    });
}

#[test]
fn an_abort_and_a_stop_end_a_target_that_hears_nothing() {
    for stop in [false, true] {
        let size_bytes = 4 * MIB;
        let target = Arc::new(MemoryDevice::new(size_bytes));
        let source = full(size_bytes);
        source.fail_every(FaultyOperation::Read, Fault::Delay(Duration::from_millis(500)));
        let config = TransferConfig::new(Checkpoint::START, size_bytes);
        let Session { sending, receiving, .. } = Session::start(&source, &target, config, connect(2));
        within_a_second(|| {
            if stop {
                receiving.receiver.stop()
            } else {
                receiving.receiver.abort()
            }
            let last = receiving.events.recv().unwrap();
            let expected = matches!(last, TransferEvent::Stopped { .. }) == stop;
            assert!(expected && matches!(last, TransferEvent::Stopped { .. } | TransferEvent::Aborted), "{last:?}");
            receiving.receiver.join();
        });
        drop(sending);
    }
}

#[test]
fn a_receiver_that_is_dropped_leaves_nothing_behind() {
    let size_bytes = 64 * MIB;
    let target = Arc::new(MemoryDevice::new(size_bytes));
    let config = TransferConfig::new(Checkpoint::START, size_bytes);
    let Session { sending, receiving, .. } = Session::start(&full(size_bytes), &target, config, connect(4));
    let Receiving { receiver, events } = receiving;
    assert!(matches!(events.recv().unwrap(), TransferEvent::Durable { .. }));
    within_a_second(|| drop(receiver));
    assert_eq!(Arc::strong_count(&target), 1, "the device is still held");
    let failure = sending.failure();
    assert!(failure.is_retryable(), "{failure}");
}

#[test]
fn the_limit_is_kept_at_the_source() {
    let size_bytes = 8 * MIB;
    let limit = BytesPerSecond::new(40 * MIB);
    let config = TransferConfig { limit, ..TransferConfig::new(Checkpoint::START, size_bytes) };
    let start = Instant::now();
    copy_over(2, &full(size_bytes), &Arc::new(MemoryDevice::new(size_bytes)), config);
    assert!(start.elapsed() >= Duration::from_millis(120), "{:?}", start.elapsed());
}

#[test]
fn the_grant_arrives_as_it_was_given() {
    let (ours, theirs) = unix_pair();
    let config = sender_config(key(4), &TransferConfig::new(Checkpoint::START, MIB));
    let sending = Sending::start(&full(MIB), config, vec![ours]);
    let arrival = Arrival::accept(theirs).unwrap();
    assert_eq!((arrival.key(), arrival.grant(), arrival.place()), (key(4), &b"a grant"[..], (0, 1)));
    arrival.refuse("no run is open here");
    let failure = sending.failure();
    assert_eq!(failure.to_string(), "the target refused: no run is open here");
}
