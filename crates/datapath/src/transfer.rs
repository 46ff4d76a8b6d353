//! One attempt to copy: starts the stages, joins them, and tells how it ended, exactly once.

use std::fmt;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tanist_model::byte_range::ByteRanges;
use tanist_model::policy::VerifyMode;
use tanist_model::replication::Side;
use tanist_model::run::{Checkpoint, STALL_WINDOW_BYTES};

use crate::checkpoint::Checkpointer;
use crate::control::{Control, Halt};
use crate::differ::Differ;
use crate::digest::{BLOCK_BYTES, BLOCK_LEN};
use crate::encoder::Encoder;
use crate::error::{GeometryError, TransferError};
use crate::handover::queue;
use crate::io::BlockDevice;
use crate::limit::BytesPerSecond;
use crate::pool::Pool;
use crate::progress::{Progress, Stage};
use crate::reader::Reader;
use crate::stages::{self, Work};
use crate::stored::Digests;
use crate::verify::check_size;
use crate::writer::Writer;

/// Buffers of one block each that a transfer may have; with the one of the read-back, its memory.
pub(crate) const POOL_BUFFERS: usize = 12;

/// What to copy, and how often to make it durable.
#[derive(Clone, Debug)]
pub struct TransferConfig {
    /// The last committed checkpoint. Everything past it is written, whatever the target holds there.
    pub from: Checkpoint,
    /// Size of the source snapshot; the target may be larger, and keeps what it has past this.
    pub size_bytes: u64,
    /// `Full` reads back as `Written` does; the reading of the whole target is [`crate::verify::verify_full`].
    pub verify: VerifyMode,
    /// Upper limit of what is read from the source. Holes are free.
    pub limit: Option<BytesPerSecond>,
    /// A checkpoint is made after this much work at the latest, if the one before is done.
    pub checkpoint_bytes: u64,
    /// A checkpoint is made after this time at the latest, if anything was written.
    pub checkpoint_interval: Duration,
    /// The same two for the first checkpoint of the attempt.
    pub first_checkpoint_bytes: u64,
    pub first_checkpoint_interval: Duration,
    /// The writer waits when it is this much work past the last committed checkpoint; at least four blocks. A stretch of
    /// zeros counts as one block of work.
    pub stall_bytes: u64,
    /// Zeros are not written where the target shows a hole at that moment. Only for the first attempt of a run: after
    /// another attempt its window is rewritten unconditionally, holes included.
    pub skip_target_holes: bool,
    /// What the target holds already is left as it is. Without it everything is written.
    pub compare: bool,
    /// With `compare`: written whole all the same, since a read of the target proves nothing there. Stored digests do: they say what was
    /// durable before this run wrote anything.
    pub unconditional: ByteRanges,
    /// What the source knows of the recovery point before.
    pub digests: Digests,
}

impl TransferConfig {
    /// The defaults: durable every 64 MiB or second, so that flushing and committing overlap with copying, and never
    /// more than 256 MiB to be copied again.
    #[must_use]
    pub fn new(from: Checkpoint, size_bytes: u64) -> Self {
        Self {
            from,
            size_bytes,
            verify: VerifyMode::default(),
            limit: None,
            checkpoint_bytes: 64 << 20,
            checkpoint_interval: Duration::from_secs(1),
            first_checkpoint_bytes: 4 << 20,
            first_checkpoint_interval: Duration::from_millis(50),
            stall_bytes: STALL_WINDOW_BYTES,
            skip_target_holes: false,
            compare: false,
            unconditional: ByteRanges::default(),
            digests: Digests::default(),
        }
    }

    fn check(&self, source: &dyn BlockDevice, target: &dyn BlockDevice) -> Result<(), GeometryError> {
        check_size(source, Side::Source, self.size_bytes)?;
        self.check_target(target)
    }

    pub(crate) fn check_target(&self, target: &dyn BlockDevice) -> Result<(), GeometryError> {
        check_size(target, Side::Target, self.size_bytes)?;
        check_start(self.from.seq, self.size_bytes)
    }

    /// What the writer waits for is at least the room of a few blocks.
    pub(crate) fn effective_stall_bytes(&self) -> u64 {
        self.stall_bytes.max(4 * BLOCK_BYTES)
    }
}

/// A copy begins at a block's boundary or at the very end.
pub(crate) fn check_start(seq: u64, size_bytes: u64) -> Result<(), GeometryError> {
    let on_boundary = seq == size_bytes || (seq < size_bytes && seq.is_multiple_of(BLOCK_BYTES));
    if on_boundary { Ok(()) } else { Err(GeometryError::BadCheckpoint { seq, size_bytes }) }
}

/// What a transfer tells its owner. After any number of `Durable`, exactly one of the others, and it is the last.
#[derive(Debug)]
pub enum TransferEvent {
    /// Everything below the checkpoint is flushed and, by policy, read back. To be committed, then [`Transfer::committed`].
    Durable {
        checkpoint: Checkpoint,
        progress: Box<Progress>,
    },
    /// The checkpoint covers the whole volume; it was reported as durable before.
    Finished {
        checkpoint: Checkpoint,
        progress: Box<Progress>,
    },
    /// Stopped on request; what was written was reported as durable before.
    Stopped {
        checkpoint: Checkpoint,
    },
    /// Aborted on request.
    Aborted,
    Failed(TransferError),
}

/// A running copy. Dropping it aborts it and waits for its I/O to end.
pub struct Transfer {
    control: Arc<Control>,
    supervisor: Option<JoinHandle<()>>,
}

impl Transfer {
    /// Starts copying on threads of its own. `events` is called from one of them; it may call back into nothing that
    /// waits for this transfer.
    pub fn start(
        source: Arc<dyn BlockDevice>,
        target: Arc<dyn BlockDevice>,
        config: TransferConfig,
        events: impl Fn(TransferEvent) + Send + 'static,
    ) -> Self {
        let pool = Pool::new(POOL_BUFFERS, BLOCK_LEN);
        let stall_bytes = config.effective_stall_bytes();
        let control = Arc::new(Control::new(config.from.seq, pool, stall_bytes, config.limit, Box::new(|_| {})));
        let shared = Arc::clone(&control);
        // The checkpoints are made on it.
        let supervisor = stages::spawn(Stage::Commit, move || {
            let outcome = supervise(&*source, &*target, &config, &shared, &events);
            // The devices are closed before the outcome is told: whoever hears it may rely on the lock being free.
            drop((source, target));
            events(outcome);
        });
        Self { control, supervisor: Some(supervisor) }
    }

    /// The checkpoint at `seq` is committed: the writer may go further.
    pub fn committed(&self, seq: u64) {
        self.control.committed(seq);
    }

    /// Ends it gracefully: what is written becomes durable and is reported; then [`TransferEvent::Stopped`].
    pub fn stop(&self) {
        self.control.halt(Halt::Stop);
    }

    /// Ends it as soon as the I/O in progress ends.
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
            tracing::error!("the event handler of a transfer panicked");
        }
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        if self.supervisor.is_some() {
            self.abort();
            self.wait();
        }
    }
}

impl fmt::Debug for Transfer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transfer").field("progress", &self.progress()).finish_non_exhaustive()
    }
}

/// Runs the stages to their end and says how it was.
fn supervise(
    source: &dyn BlockDevice,
    target: &dyn BlockDevice,
    config: &TransferConfig,
    control: &Control,
    events: &dyn Fn(TransferEvent),
) -> TransferEvent {
    if let Err(error) = config.check(source, target) {
        return TransferEvent::Failed(error.into());
    }
    let checkpoint = run_stages(source, target, config, control, events);
    conclude(control, config, checkpoint)
}

pub(crate) fn conclude(control: &Control, config: &TransferConfig, checkpoint: Checkpoint) -> TransferEvent {
    if let Some(error) = control.take_failure() {
        return TransferEvent::Failed(error);
    }
    match control.halted() {
        _ if checkpoint.seq == config.size_bytes => {
            TransferEvent::Finished { checkpoint, progress: Box::new(control.counters.snapshot()) }
        }
        Halt::Abort => TransferEvent::Aborted,
        _ => TransferEvent::Stopped { checkpoint },
    }
}

fn run_stages(
    source: &dyn BlockDevice,
    target: &dyn BlockDevice,
    config: &TransferConfig,
    control: &Control,
    events: &dyn Fn(TransferEvent),
) -> Checkpoint {
    let (counters, next) = (&control.counters, if config.compare { Stage::Compare } else { Stage::Target });
    let (from_reader, to_encoder) = queue(counters, Stage::Source, Stage::Encode);
    let (from_encoder, to_next) = queue(counters, Stage::Encode, next);
    let stretch = (config.from.seq, config.size_bytes);
    let reader = Reader::new(source, stretch, config.digests.changes(config.compare), control, from_reader);
    let encoder = Encoder::new(control, &config.digests, config.compare, config.from.seq);
    let mut stages: Vec<Work<'_>> = vec![
        (Stage::Source, Box::new(move || reader.run())),
        (Stage::Encode, Box::new(move || encoder.run(&to_encoder, &from_encoder))),
    ];
    let to_writer = if config.compare {
        let (from_differ, to_writer) = queue(counters, Stage::Compare, Stage::Target);
        let differ = Differ::new(target, control, config);
        stages.push((Stage::Compare, Box::new(move || differ.run(&to_next, &from_differ))));
        to_writer
    } else {
        to_next
    };
    stages.push((Stage::Target, Box::new(move || Writer::new(target, control, config).run(&to_writer))));
    let checkpointer = Checkpointer { target, control, verify: config.verify, checkpoint: config.from };
    stages::run(control, stages, || checkpointer.run(|checkpoint| tell_durable(control, checkpoint, events)))
}

pub(crate) fn tell_durable(control: &Control, checkpoint: Checkpoint, events: &dyn Fn(TransferEvent)) {
    events(TransferEvent::Durable { checkpoint, progress: Box::new(control.counters.snapshot()) });
}
