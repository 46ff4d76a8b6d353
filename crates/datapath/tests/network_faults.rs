//! What goes wrong between two agents is found, named, counted, and never reported as durable.

mod support;

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use support::session::{
    Receiving, Sending, Session, WireFault, connect, copy_over, drain, faulty, key, sender_config, unix_pair,
};
use support::{MIB, Random, contents, reference, volume};
use tanist_datapath::digest::BlockDigest;
use tanist_datapath::error::{GeometryError, Operation};
use tanist_datapath::frame::{Comparison, FrameKey, FrameNumber, HEADER_BYTES, Header, Kind};
use tanist_datapath::gate::{GateRules, Refusal};
use tanist_datapath::io::memory::{Fault, FaultyOperation, MemoryDevice};
use tanist_datapath::{
    Arrival, LateStreams, LinkError, Receiver, ReceiverConfig, TransferConfig, TransferError, TransferEvent,
};
use tanist_model::replication::Side;
use tanist_model::run::Checkpoint;

const SIZE: u64 = 8 * MIB + 513;

fn config(from: Checkpoint) -> TransferConfig {
    TransferConfig { checkpoint_bytes: MIB, first_checkpoint_bytes: MIB, ..TransferConfig::new(from, SIZE) }
}

fn devices(seed: u64) -> (Vec<u8>, Arc<MemoryDevice>, Arc<MemoryDevice>) {
    let bytes = volume(seed, SIZE);
    let source = Arc::new(MemoryDevice::with_bytes(&bytes));
    (bytes, source, Arc::new(MemoryDevice::with_bytes(&volume(seed + 9, SIZE))))
}

fn untouched(target: &MemoryDevice) -> bool {
    target.calls(FaultyOperation::Write) + target.calls(FaultyOperation::Zero) == 0
}

#[test]
fn a_bit_flipped_on_the_way_is_found_and_nothing_past_it_counts() {
    for seed in 0..30 {
        let (bytes, source, target) = devices(seed);
        let streams = [1, 2, 4][usize::try_from(seed % 3).unwrap()];
        let mut ends = connect(streams);
        let open_bytes = HEADER_BYTES as u64 + 7;
        let at = open_bytes + Random(seed).below(2 * MIB / u64::from(streams));
        ends.source = ends.source.into_iter().map(|link| faulty(link, at, WireFault::Flip)).collect();
        let (sent, outcome) = Session::start(&source, &target, config(Checkpoint::START), ends).run();
        let failure = outcome.failure();
        assert!(
            matches!(failure, TransferError::Link(LinkError::Damaged { .. })) && failure.is_retryable(),
            "seed {seed}: {failure}, {sent:?}"
        );
        let kept = usize::try_from(outcome.committed.seq).unwrap();
        assert_eq!(outcome.committed, reference(&bytes[..kept]), "seed {seed}");
        assert!(target.durable_bytes(outcome.committed.seq) == bytes[..kept], "seed {seed}");
        assert_eq!(copy_over(2, &source, &target, config(outcome.committed)), reference(&bytes));
        assert!(contents(&*target) == bytes, "seed {seed}");
    }
}

#[test]
fn a_bit_flipped_after_the_checksum_is_found_by_reading_back() {
    let (bytes, source, target) = devices(1);
    target.fail_nth(FaultyOperation::Write, 3, Fault::Corrupt);
    let (_, outcome) = Session::start(&source, &target, config(Checkpoint::START), connect(2)).run();
    let TransferError::Mismatch { offset, .. } = outcome.failure() else { panic!("{:?}", outcome.last) };
    assert!(*offset >= outcome.committed.seq);
    assert_eq!(copy_over(2, &source, &target, config(outcome.committed)), reference(&bytes));
}

/// The digest is the source's: what it read and what the target holds are compared over the whole way.
#[test]
fn a_block_that_is_not_what_its_source_hashed_is_found_by_reading_back() {
    let (target, mut raw, receiving) = raw_session(config(Checkpoint::START));
    let block = vec![1; 1 << 20];
    let digest = BlockDigest::of(&vec![2; 1 << 20]);
    raw.send(key(7), Kind::Data { number: FrameNumber(0), offset: 0, digest }, &block);
    let outcome = receiving.commit_all(Checkpoint::START, |_, _| {});
    assert!(matches!(outcome.failure(), TransferError::Mismatch { offset: 0, .. }), "{:?}", outcome.last);
    assert!(outcome.durable.is_empty() && !untouched(&target));
}

/// A source that sends frame by frame what the test wants.
struct Raw {
    writer: Box<dyn Write + Send>,
    reader: Option<Box<dyn std::io::Read + Send>>,
}

impl Raw {
    fn send(&mut self, key: FrameKey, kind: Kind, payload: &[u8]) {
        let header = Header::new(key, kind, payload).unwrap();
        self.bytes(&header.encode());
        self.bytes(payload);
    }

    /// The other side may have had enough already.
    fn bytes(&mut self, bytes: &[u8]) {
        let _ = self.writer.write_all(bytes);
    }
}

fn open(config: &TransferConfig) -> Kind {
    Kind::Open {
        stream: 0,
        streams: 1,
        size_bytes: config.size_bytes,
        from_seq: config.from.seq,
        comparison: Comparison::None,
    }
}

/// One stream, let in under `key(7)`.
fn raw_session(config: TransferConfig) -> (Arc<MemoryDevice>, Raw, Receiving) {
    let (ours, theirs) = unix_pair();
    let mut raw = Raw { writer: ours.writer, reader: Some(ours.reader) };
    raw.send(key(7), open(&config), b"grant");
    let target = Arc::new(MemoryDevice::new(config.size_bytes));
    let receiving = Receiving::start(&target, key(7), config, vec![Arrival::accept(theirs).unwrap()]);
    (target, raw, receiving)
}

fn refusal(error: &TransferError) -> Refusal {
    match error {
        TransferError::Link(LinkError::Refused(refusal)) => *refusal,
        other => panic!("not refused: {other}"),
    }
}

#[test]
fn a_late_stream_is_not_let_in() {
    let (_, source, target) = devices(2);
    let (old, new) = (key(6), key(7));
    let mut ends = connect(2);
    let late = Sending::start(&source, sender_config(old, &config(Checkpoint::START)), ends.source);
    let arrivals: Vec<_> = ends.target.drain(..).map(|link| Arrival::accept(link).unwrap()).collect();
    let checked = arrivals[0].check(new, SIZE, 0, GateRules::WHOLE);
    assert!(matches!(checked, Err(Refusal::OldStream { .. })));
    let Receiving { receiver, events } = Receiving::start(&target, new, config(Checkpoint::START), arrivals);
    let TransferEvent::Failed(error) = events.recv().unwrap() else { panic!("let in") };
    assert!(matches!(refusal(&error), Refusal::OldStream { .. }), "{error}");
    assert_eq!(receiver.progress().refused_frames, 1);
    receiver.join();
    assert!(untouched(&target));
    let told = late.failure();
    assert!(
        matches!(&told, TransferError::Link(LinkError::RefusedByTarget { reason }) if reason.contains("late")),
        "{told}"
    );
}

#[test]
fn a_late_frame_in_an_open_stream_is_refused_and_counted() {
    let (target, mut raw, receiving) = raw_session(config(Checkpoint::START));
    let block = vec![1; 1 << 20];
    let digest = BlockDigest::of(&block);
    raw.send(key(7), Kind::Data { number: FrameNumber(0), offset: 0, digest }, &block);
    raw.send(key(6), Kind::Data { number: FrameNumber(1), offset: MIB, digest }, &block);
    let reader = raw.reader.take().unwrap();
    let Receiving { receiver, events } = receiving;
    let mut durable = 0;
    let error = loop {
        match events.recv().unwrap() {
            TransferEvent::Durable { checkpoint, .. } => durable = checkpoint.seq,
            TransferEvent::Failed(error) => break error,
            other => panic!("{other:?}"),
        }
    };
    assert!(matches!(refusal(&error), Refusal::OldStream { .. }), "{error}");
    assert_eq!((durable, receiver.progress().refused_frames), (MIB, 1), "what came before is durable, and no more");
    assert_eq!(target.calls(FaultyOperation::Write), 1);
    drop(receiver);
    let heard = drain(reader);
    let last = Header::decode(heard[heard.len() - HEADER_BYTES - error.to_string().len()..].first_chunk().unwrap());
    assert_eq!(last.unwrap().kind, Kind::Refused, "the source is told");
}

/// The negative control: without the rule the late frame is written, and the target holds bytes of another time.
#[cfg(feature = "mutations")]
#[test]
fn with_the_gate_broken_a_late_frame_does_corrupt() {
    use tanist_datapath::gate::GateMutation;
    for (broken, lets_in) in [(GateMutation::HigherPairAdmitted, false), (GateMutation::OldStreamAdmitted, true)] {
        let transfer = config(Checkpoint::START);
        let (ours, theirs) = unix_pair();
        let mut raw = Raw { writer: ours.writer, reader: None };
        raw.send(key(7), open(&transfer), b"grant");
        let target = Arc::new(MemoryDevice::new(SIZE));
        let receiver_config =
            ReceiverConfig { key: key(7), transfer, rules: GateRules::breaking(broken), late: LateStreams::default() };
        let (own, events) = std::sync::mpsc::channel();
        let arrivals = vec![Arrival::accept(theirs).unwrap()];
        let told = move |event| own.send(event).unwrap();
        let receiver = Receiver::start(Arc::clone(&target) as _, receiver_config, arrivals, told);
        let old = vec![0xee; 1 << 20];
        let kind = Kind::Data { number: FrameNumber(0), offset: 0, digest: BlockDigest::of(&old) };
        raw.send(key(6), kind, &old);
        raw.send(key(7), Kind::Abort { number: FrameNumber(1) }, b"enough");
        receiver.join();
        assert!(events.iter().count() > 0);
        assert_eq!(contents(&*target).starts_with(&old), lets_in, "{broken:?}");
    }
}

type Expected = fn(Refusal) -> bool;

#[test]
fn frames_out_of_turn_or_place_are_refused() {
    let zeros = |number, offset, length| Kind::Zeros { number: FrameNumber(number), offset, length };
    let cases: [(Kind, Expected); 5] = [
        (zeros(1, 0, MIB), |r| matches!(r, Refusal::Skipped { .. })),
        (zeros(0, MIB, MIB), |r| matches!(r, Refusal::Hole { .. })),
        (zeros(0, 0, 5000), |r| matches!(r, Refusal::NotBlocks { .. })),
        (zeros(0, 0, SIZE + 1), |r| matches!(r, Refusal::PastEnd { .. })),
        (Kind::End { number: FrameNumber(0), offset: 0 }, |r| matches!(r, Refusal::EndsTooEarly { .. })),
    ];
    for (kind, expected) in cases {
        let (target, mut raw, receiving) = raw_session(config(Checkpoint::START));
        raw.send(key(7), kind, &[]);
        let outcome = receiving.commit_all(Checkpoint::START, |_, _| {});
        assert!(expected(refusal(outcome.failure())), "{:?}", outcome.last);
        assert!(untouched(&target) && outcome.durable.is_empty());
    }
}

#[test]
fn streams_that_do_not_belong_together_are_not_let_in() {
    let mut ends = connect(3);
    let transfer = config(Checkpoint::START);
    let (_, source, target) = devices(3);
    ends.target.truncate(2);
    let sending = Sending::start(&source, sender_config(key(1), &transfer), ends.source);
    let arrivals = ends.target.into_iter().map(|link| Arrival::accept(link).unwrap()).collect();
    let outcome = Receiving::start(&target, key(1), transfer, arrivals).commit_all(Checkpoint::START, |_, _| {});
    assert!(matches!(refusal(outcome.failure()), Refusal::OtherStream { .. }), "{:?}", outcome.last);
    let told = sending.failure();
    assert!(matches!(told, TransferError::Link(LinkError::RefusedByTarget { .. })), "{told}");
    assert!(untouched(&target));
}

#[test]
fn the_number_of_streams_is_bounded_on_both_sides() {
    let (_, source, target) = devices(4);
    let transfer = config(Checkpoint::START);
    for count in [0, 5] {
        let failure = Sending::start(&source, sender_config(key(1), &transfer), connect(count).source).failure();
        assert!(matches!(failure, TransferError::Link(LinkError::StreamCount { .. })), "{failure}");
    }
    let outcome = Receiving::start(&target, key(1), transfer, Vec::new()).commit_all(Checkpoint::START, |_, _| {});
    assert!(matches!(outcome.failure(), TransferError::Link(LinkError::StreamCount { found: 0, .. })));
}

#[test]
fn a_source_that_cannot_be_read_tells_the_target_why() {
    let (bytes, source, target) = devices(5);
    source.fail_nth(FaultyOperation::Read, 4, Fault::Error);
    let session = Session::start(&source, &target, config(Checkpoint::START), connect(2));
    let outcome = session.receiving.commit_all(Checkpoint::START, |_, _| {});
    let TransferError::Io { side: Side::Source, operation: Operation::Read, offset, .. } = session.sending.failure()
    else {
        panic!("not the source's failure")
    };
    let TransferError::Link(LinkError::EndedByPeer { reason }) = outcome.failure() else {
        panic!("{:?}", outcome.last)
    };
    assert!(reason.contains("cannot read"), "{reason}");
    assert_eq!(outcome.committed.seq, offset, "what was read before it is durable");
    assert!(target.durable_bytes(offset) == bytes[..usize::try_from(offset).unwrap()]);
}

#[test]
fn a_target_that_cannot_be_written_tells_the_source_why() {
    let (_, source, target) = devices(6);
    target.fail_nth(FaultyOperation::Write, 2, Fault::Error);
    let (sent, outcome) = Session::start(&source, &target, config(Checkpoint::START), connect(2)).run();
    assert!(matches!(outcome.failure(), TransferError::Io { side: Side::Target, .. }), "{:?}", outcome.last);
    assert!(format!("{sent:?}").contains("cannot write"), "{sent:?}");
}

#[test]
fn a_failed_flush_ends_both_sides_and_never_counts() {
    for nth in 1..=3 {
        let (bytes, source, target) = devices(nth);
        target.fail_nth(FaultyOperation::Flush, nth, Fault::Error);
        let session = Session::start(&source, &target, config(Checkpoint::START), connect(2));
        let outcome = session.receiving.commit_all(Checkpoint::START, |_, _| {});
        assert!(
            matches!(outcome.failure(), TransferError::Flush { checkpoint_seq, .. } if *checkpoint_seq == outcome.committed.seq)
        );
        assert!(session.sending.failure().is_retryable());
        assert_eq!(copy_over(1, &source, &target, config(outcome.committed)), reference(&bytes));
        target.power_loss();
        assert!(contents(&*target) == bytes, "failed flush {nth}");
    }
}

#[test]
fn what_does_not_fit_is_refused_before_anything_is_touched() {
    let (_, source, _) = devices(7);
    let small = Arc::new(MemoryDevice::new(MIB));
    let (sent, outcome) = Session::start(&source, &small, config(Checkpoint::START), connect(1)).run();
    assert!(matches!(outcome.failure(), TransferError::Geometry(GeometryError::TooSmall { side: Side::Target, .. })));
    assert!(matches!(sent, tanist_datapath::SenderEvent::Failed(TransferError::Link(_))), "{sent:?}");
    let odd = sender_config(key(1), &config(Checkpoint { seq: 4096, ..Checkpoint::START }));
    let failure = Sending::start(&source, odd, connect(1).source).failure();
    assert!(matches!(failure, TransferError::Geometry(GeometryError::BadCheckpoint { .. })), "{failure}");
    assert!(untouched(&small));
}

/// Anything at all in place of the first frame, and in place of later ones; whole frames cut short anywhere.
#[test]
fn random_bytes_and_truncations_end_a_stream_and_nothing_else() {
    let whole = Header::new(key(7), open(&config(Checkpoint::START)), b"grant").unwrap();
    for seed in 0..300 {
        let mut random = Random(seed);
        let mut noise = vec![0; usize::try_from(random.below(3000)).unwrap()];
        random.fill(&mut noise);
        if seed % 2 == 0 {
            let mut frame = [&whole.encode()[..], b"grant"].concat();
            frame.truncate(usize::try_from(random.below(frame.len() as u64)).unwrap());
            noise = frame;
        }
        let (ours, theirs) = unix_pair();
        let mut raw = Raw { writer: ours.writer, reader: None };
        raw.bytes(&noise);
        ours.shutdown.shutdown();
        assert!(Arrival::accept(theirs).is_err(), "seed {seed}");

        let (target, mut raw, receiving) = raw_session(config(Checkpoint::START));
        raw.bytes(&noise);
        drop(raw);
        let outcome = receiving.commit_all(Checkpoint::START, |_, _| {});
        assert!(matches!(outcome.failure(), TransferError::Link(_)), "seed {seed}: {:?}", outcome.last);
        assert!(untouched(&target) && outcome.durable.is_empty(), "seed {seed}");
    }
}

/// A reception is given up while its source is silent; then the source goes on.
fn late_frame(late: &LateStreams) -> (Arc<MemoryDevice>, std::sync::mpsc::Receiver<TransferEvent>) {
    let transfer = config(Checkpoint::START);
    let (ours, theirs) = unix_pair();
    let mut raw = Raw { writer: ours.writer, reader: None };
    raw.send(key(7), open(&transfer), b"grant");
    let target = Arc::new(MemoryDevice::new(SIZE));
    let receiver_config = ReceiverConfig { key: key(7), transfer, rules: GateRules::WHOLE, late: late.clone() };
    let (own, events) = std::sync::mpsc::channel();
    let arrivals = vec![Arrival::accept(theirs).unwrap()];
    let told = move |event| drop(own.send(event));
    drop(Receiver::start(Arc::clone(&target) as _, receiver_config, arrivals, told));
    let old = vec![0xee; 1 << 20];
    let kind = Kind::Data { number: FrameNumber(0), offset: 0, digest: BlockDigest::of(&old) };
    raw.send(key(7), kind, &old);
    (target, events)
}

#[test]
fn what_comes_after_a_reception_was_given_up_is_refused_and_counted() {
    let late = LateStreams::default();
    let (target, events) = late_frame(&late);
    assert!(matches!(events.iter().last(), Some(TransferEvent::Aborted)));
    let deadline = Instant::now() + Duration::from_secs(10);
    while late.refused().frames == 0 && Instant::now() < deadline {
        std::thread::yield_now();
    }
    let refused = late.refused();
    assert_eq!((refused.frames, matches!(refused.last, Some(Refusal::NothingOpen { .. }))), (1, true), "{refused:?}");
    assert!(untouched(&target));
}

/// The negative control. Nobody but the gate keeps it out.
#[cfg(feature = "mutations")]
#[test]
fn without_the_gate_what_comes_late_is_written() {
    use tanist_datapath::gate::GateMutation;
    let late = LateStreams::new(GateRules::breaking(GateMutation::KeyIgnored));
    let (target, _events) = late_frame(&late);
    let deadline = Instant::now() + Duration::from_secs(10);
    while untouched(&target) && Instant::now() < deadline {
        std::thread::yield_now();
    }
    assert!(!untouched(&target));
}
