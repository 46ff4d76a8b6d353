//! The target's half of a copy over the network: from the streams through the gate to the checkpoint.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use crate::arrival::{Arrival, Cut, comparison_of};
use crate::checkpoint::Checkpointer;
use crate::control::{Control, Halt, OnHalt};
use crate::digest::{BLOCK_BYTES, BLOCK_LEN};
use crate::error::TransferError;
use crate::frame::{Comparison, FrameKey, Header, Kind, MAX_STREAMS, reason_payload};
use crate::framed::{FrameReader, FrameWriter, Received};
use crate::gate::{GateRules, OpenRun, Refusal, admit_open};
use crate::handover::queue;
use crate::intake::{Intake, read_stream};
use crate::io::BlockDevice;
use crate::knowledge::Seed;
use crate::lanes::{LAST_WORDS, Lanes};
use crate::late::LateStreams;
use crate::link::LinkError;
use crate::pool::Pool;
use crate::progress::{Progress, Stage};
use crate::sampler::Sampler;
use crate::scanner::{Findings, Scanner};
use crate::stages::{self, Work, guarded};
use crate::teller::{Teller, Telling};
use crate::transfer::{POOL_BUFFERS, TransferConfig, TransferEvent, conclude, tell_durable};
use crate::writer::Writer;

/// What is to be received.
#[derive(Clone, Debug)]
pub struct ReceiverConfig {
    /// What is open at this target. Nothing else is let in.
    pub key: FrameKey,
    /// Where it begins and how often it is made durable. Its `limit` is not used: the source keeps to one.
    pub transfer: TransferConfig,
    /// [`GateRules::WHOLE`].
    pub rules: GateRules,
    /// Where its streams are heard on when it ends before its source does.
    pub late: LateStreams,
}

/// A running reception. It outlives its outcome: until it is dropped, commits are still told to the source, which waits for the
/// last one. Dropping it earlier aborts it and waits for its I/O to end.
pub struct Receiver {
    control: Arc<Control>,
    telling: Arc<Telling>,
    supervisor: Option<JoinHandle<()>>,
}

impl Receiver {
    /// Starts receiving on threads of its own. The events are those of a [`crate::Transfer`], under the same terms; the device is
    /// dropped before the last of them. A stream that ends early is [`TransferError::Link`]; what had come becomes durable first.
    pub fn start(
        target: Arc<dyn BlockDevice>,
        config: ReceiverConfig,
        arrivals: Vec<Arrival>,
        events: impl Fn(TransferEvent) + Send + 'static,
    ) -> Self {
        let (streams, cuts) = Streams::of(arrivals);
        let control = new_control(&config.transfer, &streams.lanes);
        let telling = Arc::new(Telling::default());
        let findings = Findings::default();
        let (shared, told) = (Arc::clone(&control), Arc::clone(&telling));
        config.late.open(config.key);
        #[cfg(feature = "mutations")]
        config.late.write_without_gate(&target);
        let reading = Arc::default();
        let reception = Reception { config, control: shared, telling: told, findings, cuts, reading };
        // The checkpoints are made on it.
        let supervisor = stages::spawn(Stage::Commit, move || {
            let control = Arc::clone(&reception.control);
            guarded(&control, || reception.run(target, streams, &events));
        });
        Self { control, telling, supervisor: Some(supervisor) }
    }

    /// The checkpoint at `seq` is committed: the writer may go further, and the source is told.
    pub fn committed(&self, seq: u64) {
        self.control.committed(seq);
    }

    /// Ends it gracefully: the source is asked to stop, what has come becomes durable and is reported; then
    /// [`TransferEvent::Stopped`].
    pub fn stop(&self) {
        // Told only when nothing more is taken: the streams' end, the source's answer, is no failure then.
        self.control.halt(Halt::Stop);
        self.telling.ask_to_stop();
        self.control.nudge();
    }

    /// Ends it as soon as the I/O in progress ends; nothing of its streams is taken any more.
    pub fn abort(&self) {
        self.control.halt(Halt::Abort);
    }

    /// Waits until it has ended and the source has been told what was committed. No I/O of it is in flight after this.
    pub fn join(mut self) {
        self.finish();
    }

    /// A reading of its counters; cheap.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.control.counters.snapshot()
    }

    /// How many bytes of buffers it has made so far.
    #[must_use]
    pub fn buffer_bytes(&self) -> u64 {
        self.control.pool.made() as u64 * BLOCK_BYTES
    }

    fn finish(&mut self) {
        self.telling.set_over();
        self.control.nudge();
        if let Some(supervisor) = self.supervisor.take()
            && supervisor.join().is_err()
        {
            tracing::error!("the event handler of a reception panicked");
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        if self.supervisor.is_some() {
            if !self.telling.has_ended() {
                self.abort();
            }
            self.finish();
        }
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("progress", &self.progress()).finish_non_exhaustive()
    }
}

/// The streams, in their order.
struct Streams {
    headers: Vec<Header>,
    readers: Vec<FrameReader>,
    writers: Vec<FrameWriter>,
    lanes: Arc<Lanes<Received>>,
}

impl Streams {
    fn of(mut arrivals: Vec<Arrival>) -> (Self, Arc<Vec<Cut>>) {
        arrivals.sort_by_key(Arrival::place);
        let lanes = Arc::new(Lanes::new(u16::try_from(arrivals.len()).unwrap_or(u16::MAX)));
        let mut streams = Self { headers: Vec::new(), readers: Vec::new(), writers: Vec::new(), lanes };
        let mut cuts = Vec::new();
        for Arrival { header, reader, writer, cut, .. } in arrivals {
            streams.headers.push(header);
            streams.readers.push(reader);
            streams.writers.push(writer);
            cuts.push(cut);
        }
        (streams, Arc::new(cuts))
    }

    /// Asks the gate for every stream, and tells the sources what it says.
    fn let_in(&mut self, config: &ReceiverConfig) -> Result<OpenRun, LinkError> {
        let admitted = self.check(config);
        for (writer, header) in self.writers.iter_mut().zip(&self.headers) {
            match &admitted {
                Ok(_) => writer.say(header.key, Kind::Admitted, &[])?,
                // Whoever is gone already needs no reason.
                Err(error) => {
                    let reason = error.to_string();
                    writer.say(header.key, Kind::Refused, reason_payload(&reason)).unwrap_or_default()
                }
            };
        }
        admitted
    }

    fn check(&self, config: &ReceiverConfig) -> Result<OpenRun, LinkError> {
        let found = self.headers.len();
        let count = u16::try_from(found).ok().filter(|count| (1..=MAX_STREAMS).contains(count));
        let streams = count.ok_or(LinkError::StreamCount { found, limit: MAX_STREAMS })?;
        let TransferConfig { size_bytes, from, compare, .. } = config.transfer;
        let comparison = self.headers.first().map(comparison_of).unwrap_or_default();
        if comparison.leaves_out() != compare {
            let open = if compare { Comparison::Whole } else { Comparison::None };
            return Err(Refusal::OtherMethod { open, found: comparison }.into());
        }
        let run = OpenRun { comparison, ..OpenRun::new(config.key, streams, size_bytes, from.seq, config.rules) };
        for (index, header) in (0..).zip(&self.headers) {
            admit_open(&run, header, index)?;
        }
        Ok(run)
    }
}

fn new_control(config: &TransferConfig, lanes: &Arc<Lanes<Received>>) -> Arc<Control> {
    let lanes = Arc::clone(lanes);
    let on_halt: OnHalt = Box::new(move |_| lanes.close());
    let pool = Pool::new(POOL_BUFFERS, BLOCK_LEN);
    Arc::new(Control::new(config.from.seq, pool, config.effective_stall_bytes(), None, on_halt))
}

fn lock(writers: &Mutex<Vec<FrameWriter>>) -> MutexGuard<'_, Vec<FrameWriter>> {
    writers.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How leave is taken of the streams.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Leave {
    /// Nothing is to come any more, or nothing of use.
    Cut,
    /// The source was asked to stop. It answers by ending the streams, unless it sleeps.
    Await,
    /// Their source may not know that this is over.
    HearOn,
}

impl Leave {
    fn after(outcome: &TransferEvent) -> Self {
        match outcome {
            TransferEvent::Stopped { .. } => Self::Await,
            TransferEvent::Aborted => Self::HearOn,
            _ => Self::Cut,
        }
    }
}

/// What the supervising thread works with.
struct Reception {
    config: ReceiverConfig,
    control: Arc<Control>,
    telling: Arc<Telling>,
    findings: Findings,
    cuts: Arc<Vec<Cut>>,
    /// Streams that are being read.
    reading: Arc<AtomicUsize>,
}

impl Reception {
    fn run(&self, target: Arc<dyn BlockDevice>, streams: Streams, events: &dyn Fn(TransferEvent)) {
        let outcome = match self.begin(&*target, streams) {
            Ok(begun) => return self.receive(target, begun, events),
            Err(_) if self.control.is_aborted() => TransferEvent::Aborted,
            Err(error) => TransferEvent::Failed(error),
        };
        drop(target);
        self.telling.set_ended();
        self.config.late.close(self.config.key);
        self.cut();
        events(outcome);
    }

    fn begin(&self, target: &dyn BlockDevice, mut streams: Streams) -> Result<(Streams, OpenRun), TransferError> {
        self.config.transfer.check_target(target)?;
        let run = streams.let_in(&self.config).inspect_err(|error| {
            let refused = matches!(error, LinkError::Refused(_));
            self.control.counters.refused_frames.add(refused.into());
        })?;
        Ok((streams, run))
    }

    /// Works to the outcome, tells it, and then tells the source of commits until the owner lets go.
    fn receive(
        &self,
        target: Arc<dyn BlockDevice>,
        (streams, run): (Streams, OpenRun),
        events: &dyn Fn(TransferEvent),
    ) {
        let Streams { readers, mut writers, lanes, .. } = streams;
        readers.into_iter().for_each(|reader| self.read(reader, &lanes));
        let teller = self.teller(writers.remove(0));
        let writers = Mutex::new(writers);
        let mut leave = Leave::Cut;
        thread::scope(|scope| {
            let tell = || guarded(&self.control, || lock(&writers).push(teller.run()));
            stages::spawn_in(scope, Stage::Network, tell);
            guarded(&self.control, || {
                let outcome = self.supervise(&*target, run, &lanes, events);
                drop(target);
                leave = self.conclude(outcome, events);
            });
            // A source that does not read may hold up the teller.
            if !self.telling.has_told_all() {
                self.cut();
            }
        });
        self.part(leave, std::mem::take(&mut *lock(&writers)));
    }

    /// Reads a stream on a thread that may outlive this reception.
    fn read(&self, mut reader: FrameReader, lanes: &Arc<Lanes<Received>>) {
        let (lanes, control, late) = (Arc::clone(lanes), Arc::clone(&self.control), self.config.late.clone());
        let reading = Arc::clone(&self.reading);
        reading.fetch_add(1, Ordering::AcqRel);
        stages::spawn(Stage::Network, move || {
            let mut goes_on = false;
            guarded(&control, || goes_on = read_stream(&mut reader, &lanes, &control, &late));
            drop(lanes);
            if goes_on {
                late.hear(reader);
            }
            reading.fetch_sub(1, Ordering::AcqRel);
            control.nudge();
        });
    }

    /// Takes leave of the streams.
    fn part(&self, leave: Leave, writers: Vec<FrameWriter>) {
        self.control.pool.close();
        if leave == Leave::Await {
            self.control.wait_until(Some(LAST_WORDS), |_| self.reading.load(Ordering::Acquire) == 0);
        }
        self.config.late.close(self.config.key);
        if leave == Leave::Cut || !self.telling.has_told_all() {
            self.cut();
        } else {
            self.config.late.keep(Arc::clone(&self.cuts), writers);
        }
    }

    fn teller(&self, writer: FrameWriter) -> Teller<'_> {
        let Self { control, telling, findings, config, .. } = self;
        Teller { control, telling, findings, key: config.key, writer, told_seq: None, stop_told: false }
    }

    fn supervise(
        &self,
        target: &dyn BlockDevice,
        run: OpenRun,
        lanes: &Lanes<Received>,
        events: &dyn Fn(TransferEvent),
    ) -> TransferEvent {
        let (control, config) = (&*self.control, &self.config.transfer);
        let (from_intake, to_writer) = queue(&control.counters, Stage::Network, Stage::Target);
        let findings = &self.findings;
        findings.begin(&run);
        let sampler = (run.comparison == Comparison::Asked).then(|| Sampler::new(target, control));
        let intake = Intake { lanes, control, findings, run, sampler, outlet: from_intake };
        let mut stages: Vec<Work<'_>> = vec![
            (Stage::Network, Box::new(move || intake.run())),
            (Stage::Target, Box::new(move || Writer::new(target, control, config).run(&to_writer))),
        ];
        if config.compare {
            let scanner = Scanner::new(target, control, config, findings, Seed::of(&self.config.key));
            stages.push((Stage::Compare, Box::new(move || scanner.run())));
        }
        let checkpointer = Checkpointer { target, control, verify: config.verify, checkpoint: config.from };
        let checkpoint =
            stages::run(control, stages, || checkpointer.run(|durable| tell_durable(control, durable, events)));
        conclude(control, config, checkpoint)
    }

    fn conclude(&self, outcome: TransferEvent, events: &dyn Fn(TransferEvent)) -> Leave {
        if let TransferEvent::Failed(error) = &outcome {
            self.telling.say_farewell(error);
            self.control.nudge();
            self.control.wait_until(Some(LAST_WORDS), |_| self.telling.has_told_all());
            self.cut();
        }
        let leave = Leave::after(&outcome);
        self.telling.set_ended();
        // The owner may have let go already: then nothing else would wake the teller.
        self.control.nudge();
        events(outcome);
        self.control.wait_until(None, |_| self.telling.is_over());
        self.control.wait_until(Some(LAST_WORDS), |_| self.telling.has_told_all());
        leave
    }

    fn cut(&self) {
        self.cuts.iter().for_each(Cut::cut);
    }
}
