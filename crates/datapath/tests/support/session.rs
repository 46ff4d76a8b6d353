//! A source and a target joined by real streams, and streams that break or lie at a chosen byte.

use std::io::{self, Read, Write};
use std::net::{Shutdown as Way, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{self, channel};
use std::time::Duration;

use tanist_datapath::frame::{FrameKey, StreamGeneration};
use tanist_datapath::gate::GateRules;
use tanist_datapath::{
    Arrival, BlockDevice, LateStreams, Link, Receiver, ReceiverConfig, Sender, SenderConfig, SenderEvent, Shutdown,
    TransferConfig, TransferError, TransferEvent,
};
use tanist_model::id::{Epoch, Epochs, RunId};
use tanist_model::run::Checkpoint;

use super::Outcome;

/// Longer than anything here takes: a test that hangs shall end.
pub const DEADLINE: Duration = Duration::from_secs(60);

pub fn key(generation: u64) -> FrameKey {
    let epochs = Epochs { source: Epoch(5), target: Epoch(3) };
    FrameKey { run: RunId(9), epochs, generation: StreamGeneration(generation) }
}

fn unix_link(stream: UnixStream) -> Link {
    let (reader, writer) = (stream.try_clone().unwrap(), stream.try_clone().unwrap());
    let shutdown = move || drop(stream.shutdown(Way::Both));
    Link { reader: Box::new(reader), writer: Box::new(writer), shutdown: Arc::new(shutdown) }
}

fn tcp_link(stream: TcpStream) -> Link {
    let (reader, writer) = (stream.try_clone().unwrap(), stream.try_clone().unwrap());
    let shutdown = move || drop(stream.shutdown(Way::Both));
    Link { reader: Box::new(reader), writer: Box::new(writer), shutdown: Arc::new(shutdown) }
}

pub fn unix_pair() -> (Link, Link) {
    let (left, right) = UnixStream::pair().unwrap();
    (unix_link(left), unix_link(right))
}

pub fn tcp_pair() -> (Link, Link) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let left = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (tcp_link(left), tcp_link(listener.accept().unwrap().0))
}

/// Links of the source and of the target.
pub struct Ends {
    pub source: Vec<Link>,
    pub target: Vec<Link>,
}

pub fn connect(streams: u16) -> Ends {
    let pairs = (0..streams).map(|i| if i % 2 == 0 { unix_pair() } else { tcp_pair() });
    let (source, target) = pairs.unzip();
    Ends { source, target }
}

/// A writer in which something happens at a chosen byte.
struct Faulty {
    inner: Box<dyn Write + Send>,
    left: u64,
    fault: WireFault,
    shutdown: Arc<dyn Shutdown>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WireFault {
    /// The stream is cut there.
    Cut,
    /// The lowest bit of that byte is flipped.
    Flip,
}

impl Write for Faulty {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let before = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
        if self.left == 0 {
            return self.fault_at(bytes);
        }
        let written = self.inner.write(&bytes[..before])?;
        self.left -= written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl Faulty {
    fn fault_at(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.left = u64::MAX;
        if self.fault == WireFault::Cut {
            self.shutdown.shutdown();
        }
        self.inner.write(&[bytes[0] ^ 1])
    }
}

/// The link with a fault at byte `at` of what is written to it.
pub fn faulty(link: Link, at: u64, fault: WireFault) -> Link {
    let shutdown = Arc::clone(&link.shutdown);
    Link { writer: Box::new(Faulty { inner: link.writer, left: at, fault, shutdown }), ..link }
}

pub fn sender_config(key: FrameKey, config: &TransferConfig) -> SenderConfig {
    let TransferConfig { from, size_bytes, limit, compare, .. } = *config;
    let (grant, digests) = (b"a grant".to_vec(), config.digests.clone());
    SenderConfig { key, grant, from_seq: from.seq, size_bytes, compare, digests, limit, rules: GateRules::WHOLE }
}

/// A sender and what it says.
pub struct Sending {
    pub sender: Sender,
    pub events: mpsc::Receiver<SenderEvent>,
}

impl Sending {
    pub fn start(source: &Arc<impl BlockDevice + 'static>, config: SenderConfig, links: Vec<Link>) -> Self {
        let (own, events) = channel();
        let source: Arc<dyn BlockDevice> = Arc::clone(source) as _;
        Self { sender: Sender::start(source, config, links, move |event| own.send(event).unwrap()), events }
    }

    pub fn last(self) -> SenderEvent {
        let last = self.events.recv_timeout(DEADLINE).unwrap();
        self.sender.join();
        assert!(self.events.recv().is_err(), "an event after the last");
        last
    }

    pub fn failure(self) -> TransferError {
        match self.last() {
            SenderEvent::Failed(error) => error,
            other => panic!("not failed: {other:?}"),
        }
    }
}

/// A receiver and what it says.
pub struct Receiving {
    pub receiver: Receiver,
    pub events: mpsc::Receiver<TransferEvent>,
}

impl Receiving {
    pub fn start(
        target: &Arc<impl BlockDevice + 'static>,
        key: FrameKey,
        transfer: TransferConfig,
        arrivals: Vec<Arrival>,
    ) -> Self {
        let (own, events) = channel();
        let config = ReceiverConfig { key, transfer, rules: GateRules::WHOLE, late: LateStreams::default() };
        let target: Arc<dyn BlockDevice> = Arc::clone(target) as _;
        Self { receiver: Receiver::start(target, config, arrivals, move |event| own.send(event).unwrap()), events }
    }

    /// Commits every checkpoint until the end; `look` sees each first.
    pub fn commit_all(self, from: Checkpoint, mut look: impl FnMut(&Receiver, Checkpoint)) -> Outcome {
        let mut durable = Vec::new();
        loop {
            match self.events.recv_timeout(DEADLINE).unwrap() {
                TransferEvent::Durable { checkpoint, .. } => {
                    look(&self.receiver, checkpoint);
                    durable.push(checkpoint);
                    self.receiver.committed(checkpoint.seq);
                }
                last => {
                    self.receiver.join();
                    assert!(self.events.recv().is_err(), "an event after the last");
                    return Outcome { last, committed: durable.last().copied().unwrap_or(from), durable };
                }
            }
        }
    }
}

/// Both sides of one attempt.
pub struct Session {
    pub sending: Sending,
    pub receiving: Receiving,
    from: Checkpoint,
}

impl Session {
    /// Starts both sides over these ends; `None` for the target if the streams did not even open.
    pub fn open(
        source: &Arc<impl BlockDevice + 'static>,
        target: &Arc<impl BlockDevice + 'static>,
        config: TransferConfig,
        key: FrameKey,
        ends: Ends,
    ) -> (Sending, Option<Receiving>) {
        let sending = Sending::start(source, sender_config(key, &config), ends.source);
        let arrivals: Result<Vec<_>, _> = ends.target.into_iter().map(Arrival::accept).collect();
        let receiving = arrivals.ok().map(|arrivals| Receiving::start(target, key, config, arrivals));
        (sending, receiving)
    }

    pub fn start(
        source: &Arc<impl BlockDevice + 'static>,
        target: &Arc<impl BlockDevice + 'static>,
        config: TransferConfig,
        ends: Ends,
    ) -> Self {
        let from = config.from;
        let (sending, receiving) = Self::open(source, target, config, key(1), ends);
        Self { sending, receiving: receiving.unwrap(), from }
    }

    /// Lets both sides come to their ends.
    pub fn run(self) -> (SenderEvent, Outcome) {
        let outcome = self.receiving.commit_all(self.from, |_, _| {});
        (self.sending.last(), outcome)
    }

    pub fn finished(self) -> Checkpoint {
        let (sent, outcome) = self.run();
        assert!(matches!(sent, SenderEvent::Finished { .. }), "{sent:?}, {outcome:?}");
        outcome.finished()
    }
}

/// Copies over this many streams, to the end.
pub fn copy_over(
    streams: u16,
    source: &Arc<impl BlockDevice + 'static>,
    target: &Arc<impl BlockDevice + 'static>,
    config: TransferConfig,
) -> Checkpoint {
    Session::start(source, target, config, connect(streams)).finished()
}

/// Everything that is still to be read.
pub fn drain(mut reader: Box<dyn Read + Send>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = reader.read_to_end(&mut bytes);
    bytes
}
