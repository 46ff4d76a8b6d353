//! The source's half of a copy over the network: its life, and what it tells its owner. The work is done in `outbound`.

use std::fmt;
use std::sync::Arc;
use std::thread::JoinHandle;

use tanist_model::replication::Side;

use crate::arrival::Cut;
use crate::control::{Control, Halt, OnHalt};
use crate::digest::{BLOCK_BYTES, BLOCK_LEN};
use crate::error::TransferError;
use crate::frame::{Comparison, FrameKey, MAX_STREAMS};
use crate::gate::GateRules;
use crate::io::BlockDevice;
use crate::lanes::Lanes;
use crate::limit::BytesPerSecond;
use crate::link::{Link, LinkError};
use crate::outbound::{Outbound, Outgoing};
use crate::pool::Pool;
use crate::progress::{Progress, Stage};
use crate::stages::{self, guarded};
use crate::stored::Digests;
use crate::transfer::{POOL_BUFFERS, check_start};
use crate::verify::check_size;

/// What is to be sent.
#[derive(Clone, Debug)]
pub struct SenderConfig {
    /// Written into every frame.
    pub key: FrameKey,
    /// What the server signed, for the target to check; at most [`crate::frame::GRANT_LIMIT`] bytes.
    pub grant: Vec<u8>,
    /// The last committed checkpoint: everything past it is sent.
    pub from_seq: u64,
    /// Size of the source snapshot.
    pub size_bytes: u64,
    /// What the target has already is left out.
    pub compare: bool,
    /// What is known here of the recovery point before.
    pub digests: Digests,
    /// Upper limit of what is read from the source. Holes are free.
    pub limit: Option<BytesPerSecond>,
    pub rules: GateRules,
}

impl SenderConfig {
    /// What is left out, and how it is known.
    pub(crate) fn comparison(&self) -> Comparison {
        match self.digests.stored {
            _ if !self.compare => Comparison::None,
            None => Comparison::Whole,
            Some(_) => Comparison::Asked,
        }
    }
}

/// How a sending ended; told exactly once.
#[derive(Debug)]
pub enum SenderEvent {
    /// The target said that the whole snapshot is durable and committed.
    Finished {
        progress: Box<Progress>,
    },
    /// Stopped on request, of either side. What is committed may be more than was heard of.
    Stopped {
        committed_seq: u64,
    },
    /// Aborted on request.
    Aborted,
    Failed(TransferError),
}

/// A running sending. Dropping it aborts it and waits for its I/O to end.
pub struct Sender {
    control: Arc<Control>,
    supervisor: Option<JoinHandle<()>>,
}

impl Sender {
    /// Starts sending on threads of its own, over one to four links. `events` is called once, from one of them, after the source
    /// was dropped and the links were cut; it may call back into nothing that waits for this sender.
    ///
    /// In its [`Progress`], `durable_seq` and `committed_seq` are what the target said; nothing is written here.
    pub fn start(
        source: Arc<dyn BlockDevice>,
        config: SenderConfig,
        links: Vec<Link>,
        events: impl FnOnce(SenderEvent) + Send + 'static,
    ) -> Self {
        let count = u16::try_from(links.len()).unwrap_or(u16::MAX);
        let lanes = Arc::new(Lanes::new(count.min(MAX_STREAMS)));
        let cuts = Arc::new(links.iter().map(|link| Cut::new(Arc::clone(&link.shutdown))).collect::<Vec<_>>());
        let control = new_control(&config, &lanes, cuts);
        let shared = Arc::clone(&control);
        let supervisor = stages::spawn(Stage::Network, move || {
            let outcome = guarded(&shared, || supervise(&*source, &config, &shared, &lanes, links));
            drop(source);
            events(outcome);
        });
        Self { control, supervisor: Some(supervisor) }
    }

    /// Ends it with a word to the target, within about a second; then [`SenderEvent::Stopped`].
    pub fn stop(&self) {
        self.control.halt(Halt::Stop);
    }

    /// Ends it as soon as the read in progress ends; the streams are cut at once.
    pub fn abort(&self) {
        self.control.halt(Halt::Abort);
    }

    /// Waits until it has ended. No I/O of it is in flight after this.
    pub fn join(mut self) {
        self.wait();
    }

    /// Changes the bandwidth limit at once.
    pub fn set_limit(&self, limit: Option<BytesPerSecond>) {
        self.control.set_limit(limit);
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

    fn wait(&mut self) {
        if let Some(supervisor) = self.supervisor.take()
            && supervisor.join().is_err()
        {
            tracing::error!("the event handler of a sending panicked");
        }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        if self.supervisor.is_some() {
            self.abort();
            self.wait();
        }
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("progress", &self.progress()).finish_non_exhaustive()
    }
}

fn new_control(config: &SenderConfig, lanes: &Arc<Lanes<Outgoing>>, cuts: Arc<Vec<Cut>>) -> Arc<Control> {
    let lanes = Arc::clone(lanes);
    let on_halt: OnHalt = Box::new(move |halt| {
        if halt == Halt::Abort {
            lanes.close();
            cuts.iter().for_each(Cut::cut);
        }
    });
    let pool = Pool::new(POOL_BUFFERS, BLOCK_LEN);
    // The stall window is the target's: its writer holds the streams, and the streams hold this side.
    Arc::new(Control::new(config.from_seq, pool, u64::MAX, config.limit, on_halt))
}

fn supervise(
    source: &dyn BlockDevice,
    config: &SenderConfig,
    control: &Control,
    lanes: &Lanes<Outgoing>,
    links: Vec<Link>,
) -> SenderEvent {
    if let Err(error) = check(source, config, links.len()) {
        control.halt(Halt::Abort);
        return SenderEvent::Failed(error);
    }
    let finished = Outbound::new(control, lanes, config, links.len()).run(source, links);
    let progress = control.counters.snapshot();
    match control.take_failure() {
        _ if finished => SenderEvent::Finished { progress: Box::new(progress) },
        Some(error) => SenderEvent::Failed(error),
        None if control.is_aborted() => SenderEvent::Aborted,
        None => SenderEvent::Stopped { committed_seq: progress.committed_seq },
    }
}

fn check(source: &dyn BlockDevice, config: &SenderConfig, found: usize) -> Result<(), TransferError> {
    check_size(source, Side::Source, config.size_bytes)?;
    check_start(config.from_seq, config.size_bytes)?;
    let limit = MAX_STREAMS;
    if (1..=usize::from(limit)).contains(&found) { Ok(()) } else { Err(LinkError::StreamCount { found, limit }.into()) }
}
