//! Whole receptions and sendings whose other side says whatever the bytes make it say.

use std::io::{self, Cursor, Read, Write};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tanist_model::run::Checkpoint;

use super::script::Script;
use super::{Verdict, assert_admitted, words};
use crate::arrival::Arrival;
use crate::digest::{BLOCK_BYTES, BLOCK_LEN};
use crate::error::TransferError;
use crate::frame::{HEADER_BYTES, Header, Kind};
use crate::gate::{self, GateRules, OpenRun};
use crate::io::memory::MemoryDevice;
use crate::late::LateStreams;
use crate::link::Link;
use crate::receiver::{Receiver, ReceiverConfig};
use crate::sender::{Sender, SenderConfig, SenderEvent};
use crate::transfer::{TransferConfig, TransferEvent};

/// Longer than any session of a few frames lasts.
const DEADLINE: Duration = Duration::from_secs(20);
/// What the volume holds before; no block of a script is made of it.
const BEFORE: u8 = 0xa5;
/// Room past the end of the run, which no frame may reach.
const BEYOND: u64 = 8192;
const SIZES: [u64; 3] = [5000, BLOCK_BYTES + 700, 2 * BLOCK_BYTES + 5000];
const MOST_FRAMES: usize = 12;

/// What is written to it can be looked at.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<u8>>>);

impl Write for Heard {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn link(says: Vec<u8>, hears: &Heard) -> Link {
    let reader: Box<dyn Read + Send> = Box::new(Cursor::new(says));
    Link { reader, writer: Box::new(hears.clone()), shutdown: Arc::new(|| {}) }
}

/// The bytes of a source that opens its stream as is wanted, and what the gate would make of the rest.
struct Source {
    says: Vec<u8>,
    /// The run as it stands before the first frame that is refused.
    last: OpenRun,
    /// Its position after each frame.
    positions: Vec<u64>,
}

fn source(script: &mut Script<'_>, run: OpenRun) -> Source {
    let OpenRun { size_bytes, position: from_seq, comparison, streams, .. } = run;
    let open = Kind::Open { stream: 0, streams, size_bytes, from_seq, comparison };
    let mut says = Vec::new();
    if let Ok(header) = Header::new(run.key, open, b"a grant") {
        says.extend(header.encode());
        says.extend(b"a grant");
    }
    let (mut last, mut open, mut positions) = (run, true, vec![run.position]);
    for _ in 0..MOST_FRAMES {
        let Some((header, payload)) = script.frame(&last) else { break };
        says.extend(header.encode());
        says.extend(payload);
        match gate::admit(&last, &header) {
            Ok(after) if open => {
                assert_admitted(&last, &header, &after);
                last = after;
                positions.push(last.position);
            }
            _ => open = false,
        }
    }
    if script.byte().is_some_and(|byte| byte > 0xf0) {
        says.truncate(says.len().saturating_sub(70));
    }
    Source { says, last, positions }
}

/// A reception writes nothing but what the gate has let in, and calls nothing durable that has not come.
///
/// # Errors
/// Why it failed.
pub fn reception(bytes: &[u8]) -> Verdict {
    let mut script = Script::new(bytes);
    let run = script.open_run_of(&SIZES);
    let source = source(&mut script, run);
    let length = usize::try_from(run.size_bytes + BEYOND).unwrap_or(BLOCK_LEN);
    let target = Arc::new(MemoryDevice::with_bytes(&vec![BEFORE; length]));
    let heard = Heard::default();
    let arrival = Arrival::accept(link(source.says.clone(), &heard)).map_err(words)?;
    assert_eq!((arrival.key(), arrival.place(), arrival.grant()), (run.key, (0, 1), b"a grant".as_slice()));
    let from = Checkpoint { seq: run.position, ..Checkpoint::START };
    let transfer = TransferConfig { compare: run.comparison.leaves_out(), ..TransferConfig::new(from, run.size_bytes) };
    let config = ReceiverConfig { key: run.key, transfer, rules: GateRules::WHOLE, late: LateStreams::default() };
    let outcome = receive(&target, config, arrival, &source);
    assert_untouched(&target, 0..run.position);
    assert_untouched(&target, source.last.position..run.size_bytes + BEYOND);
    check_frames(&heard);
    outcome
}

fn receive(target: &Arc<MemoryDevice>, config: ReceiverConfig, arrival: Arrival, source: &Source) -> Verdict {
    let (tell, events) = channel();
    let receiver = Receiver::start(Arc::clone(target) as _, config, vec![arrival], move |event| _ = tell.send(event));
    loop {
        match events.recv_timeout(DEADLINE).expect("a reception does not end") {
            TransferEvent::Durable { checkpoint, .. } => {
                assert!(source.positions.contains(&checkpoint.seq), "{checkpoint:?} of {:?}", source.positions);
                receiver.committed(checkpoint.seq);
            }
            TransferEvent::Finished { checkpoint, .. } => {
                assert_eq!((checkpoint.seq, source.last.position), (source.last.size_bytes, source.last.size_bytes));
                receiver.join();
                return Ok(());
            }
            TransferEvent::Failed(error) => {
                receiver.join();
                return failed(error);
            }
            other => panic!("nobody asked for {other:?}"),
        }
    }
}

/// A stage that panics is caught and told: here it is a find.
fn failed(error: TransferError) -> Verdict {
    assert!(!matches!(error, TransferError::Panicked(_)), "{error}");
    Err(words(error))
}

fn assert_untouched(target: &MemoryDevice, range: std::ops::Range<u64>) {
    use crate::io::BlockDevice as _;
    let mut bytes = vec![0; usize::try_from(range.end - range.start).unwrap_or_default()];
    assert!(target.read_at(range.start, &mut bytes).is_ok());
    let written = bytes.iter().position(|byte| *byte != BEFORE);
    assert_eq!(written, None, "written in {range:?}, which was not let in");
}

/// What this side says is well formed, whatever it has heard; the kinds of its frames.
fn check_frames(heard: &Heard) -> Vec<Header> {
    let said = std::mem::take(&mut *heard.0.lock().unwrap_or_else(PoisonError::into_inner));
    let (mut rest, mut headers) = (&said[..], Vec::new());
    while let Some((header, behind)) = rest.split_first_chunk::<HEADER_BYTES>() {
        let header = Header::decode(header).expect("a frame of our own");
        let (payload, behind) = behind.split_at_checked(header.payload_len()).expect("a whole frame of our own");
        header.check_payload(payload).expect("a payload of our own");
        headers.push(header);
        rest = behind;
    }
    headers
}

/// A sending whose target says anything ends, keeps to its own run, and has all only if the target said so.
///
/// # Errors
/// Why it failed.
pub fn sending(bytes: &[u8]) -> Verdict {
    let mut script = Script::new(bytes);
    let run = script.open_run_of(&SIZES);
    let mut says = Vec::new();
    let mut durable = false;
    let admitted = Header::new(run.key, Kind::Admitted, &[]).map_err(words)?;
    says.extend(admitted.encode());
    let mut heard = run;
    for _ in 0..MOST_FRAMES {
        let Some((header, payload)) = script.frame(&heard) else { break };
        says.extend(header.encode());
        says.extend(payload);
        durable |= matches!(header.kind, Kind::Durable { seq } if seq == run.size_bytes);
        if let Kind::Digests { length, .. } | Kind::TargetZeros { length, .. } = header.kind {
            heard.position = heard.position.saturating_add(length).min(run.size_bytes);
        }
    }
    let length = usize::try_from(run.size_bytes).unwrap_or(BLOCK_LEN);
    let source = Arc::new(MemoryDevice::with_bytes(&vec![7; length]));
    let hears = Heard::default();
    let config = SenderConfig {
        key: run.key,
        grant: b"a grant".to_vec(),
        from_seq: run.position,
        size_bytes: run.size_bytes,
        compare: run.comparison.leaves_out(),
        digests: crate::stored::Digests::default(),
        limit: None,
        rules: GateRules::WHOLE,
    };
    let (tell, events) = channel();
    let sender = Sender::start(source, config, vec![link(says, &hears)], move |event| _ = tell.send(event));
    let last = events.recv_timeout(DEADLINE).expect("a sending does not end");
    sender.join();
    let headers = check_frames(&hears);
    assert!(headers.iter().all(|header| header.key == run.key));
    match last {
        SenderEvent::Finished { .. } => {
            assert!(durable, "the target never said so");
            Ok(())
        }
        SenderEvent::Failed(error) => failed(error),
        other => Err(format!("{other:?}")),
    }
}
