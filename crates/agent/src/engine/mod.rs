//! One engine a role: a thread that holds the volumes open, carries out the machine's commands, and reports.
//!
//! Everything that blocks on storage happens here. Commands and the transfer's own events come through one queue, so the
//! order in which things happened is the order in which they are told.

mod copying;
mod opening;
mod snapshots;
mod target;

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use tanist_datapath::gate::GateRules;
use tanist_datapath::{Arrival, LateStreams, RefusedFrames, TransferEvent};
use tanist_model::id::{Epochs, ReplicationId, RunId};
use tanist_model::run::BoundSnapshot;
use tanist_model::work::RunWork;
use tanist_protocol::agent::{EngineCommand, EngineEvent};
use tanist_protocol::message::{Assignment, LateFrames, RunFailureKind};
use tanist_storage::TargetHandle;
use tokio::sync::mpsc::UnboundedSender;

use self::copying::{Copying, VerifyOutcome};
use crate::application::{Applications, Attempt};
use crate::digests::DigestFiles;
use crate::measured::PROGRESS_INTERVAL;
use crate::storages::Storages;

/// How often the progress of a copy is reported.
/// Between two attempts to flush a target that is to be closed.
const SETTLE_PAUSE: Duration = Duration::from_secs(1);

/// A report with its sender.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) replication: ReplicationId,
    pub(crate) epochs: Epochs,
    pub(crate) event: EngineEvent,
}

/// What reaches the thread.
pub(crate) enum Message {
    Command(EngineCommand),
    /// A stream of the reader.
    Arrival(Box<Arrival>),
    /// From the transfer with this number; an earlier one's words are ignored.
    Transfer(u64, TransferEvent),
    Verified(u64, VerifyOutcome),
    /// The attempt with this number at a snapshot of a quiesced source is over.
    Frozen {
        number: u64,
        run: RunId,
        kept: Option<String>,
        made: Result<BoundSnapshot, (RunFailureKind, String)>,
    },
}

/// The handle that the agent's loop keeps.
#[derive(Debug)]
pub(crate) struct EngineHandle {
    commands: Sender<Message>,
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Command(command) => command.fmt(f),
            Self::Arrival(arrival) => arrival.fmt(f),
            Self::Transfer(number, event) => write!(f, "transfer {number}: {event:?}"),
            Self::Verified(number, _) => write!(f, "verification {number}"),
            Self::Frozen { number, made, .. } => write!(f, "attempt {number}: {made:?}"),
        }
    }
}

impl EngineHandle {
    /// Starts the thread. It ends after it has reported [`EngineEvent::Closed`] or [`EngineEvent::OpenFailed`].
    pub(crate) fn start(
        replication: ReplicationId,
        epochs: Epochs,
        storages: Storages,
        applications: Applications,
        digests: DigestFiles,
        rules: GateRules,
        reports: UnboundedSender<Report>,
    ) -> std::io::Result<Self> {
        let (commands, queue) = channel();
        let own = commands.clone();
        let body = move || {
            let engine = Engine {
                replication,
                epochs,
                storages,
                applications,
                digests,
                reports,
                own,
                open: None,
                copying: None,
                finished: None,
                attempts: 0,
                prepared: None,
                quiescing: None,
                rules,
                late: LateStreams::new(rules),
                late_frames: 0,
                work: None,
            };
            engine.run(&queue);
        };
        thread::Builder::new().name(format!("engine-{replication}")).spawn(body)?;
        Ok(Self { commands })
    }

    /// Where the desk sends the streams that this engine waits for.
    pub(crate) fn inlet(&self) -> Sender<Message> {
        self.commands.clone()
    }

    /// An engine that has ended takes no commands, and needs none.
    pub(crate) fn command(&self, command: EngineCommand) {
        let _ = self.commands.send(Message::Command(command));
    }
}

/// The volumes of a role, open.
struct Open {
    assignment: Assignment,
    target: TargetHandle,
    locked: bool,
    /// The file system is local: only there does the lock say anything of I/O that a dead process left behind.
    lock_proves: bool,
}

struct Engine {
    replication: ReplicationId,
    epochs: Epochs,
    storages: Storages,
    applications: Applications,
    digests: DigestFiles,
    reports: UnboundedSender<Report>,
    own: Sender<Message>,
    open: Option<Open>,
    copying: Option<Copying>,
    /// A reception that is over and has not told the reader yet that all is committed: run, size, and itself.
    finished: Option<(RunId, u64, tanist_datapath::Receiver)>,
    attempts: u64,
    /// The run whose snapshot this very engine made: nothing else has written for it yet.
    prepared: Option<RunId>,
    /// A host application is being quiesced, by number. Dropped, it is given up.
    quiescing: Option<(u64, Attempt)>,
    rules: GateRules,
    /// Streams whose reception is over.
    late: LateStreams,
    /// Of what came there, refused and reported.
    late_frames: u64,
    /// What was done for the run that was worked on last.
    work: Option<(RunId, RunWork)>,
}

/// Whether the engine goes on.
#[derive(PartialEq, Eq)]
enum Next {
    Go,
    End,
}

/// Whether the I/O of a target that is to be closed has ended.
#[derive(PartialEq, Eq)]
enum Settled {
    Quiet,
    /// Nobody will ever know.
    Never,
}

impl Engine {
    fn run(mut self, queue: &Receiver<Message>) {
        loop {
            match queue.recv_timeout(PROGRESS_INTERVAL) {
                Ok(message) => {
                    if self.handle(message, queue) == Next::End {
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.report_progress();
            self.report_late_frames();
        }
    }

    fn report_late_frames(&mut self) {
        self.late.tend();
        let RefusedFrames { frames, last } = self.late.refused();
        if let Some(why) = last.filter(|_| frames > self.late_frames) {
            self.late_frames = frames;
            self.report(EngineEvent::Late(LateFrames { refused: frames, why: why.to_string() }));
        }
    }

    /// "Closed" promises that nothing of ours reaches the target later, also of what went through the page cache. While that
    /// cannot be said it is not said: the epoch stays unproven, which is the truth.
    fn settle_target(&self) -> Settled {
        let Some(device) = self.open.as_ref().map(|open| open.target.device()) else { return Settled::Quiet };
        while let Err(error) = device.flush() {
            if error.kind() == std::io::ErrorKind::UnexpectedEof && device.unresolved().is_none() {
                // Its size is another one by now; what was written is on it all the same.
                tracing::warn!(%error, "the target is closed");
                return Settled::Quiet;
            }
            if let Some(why) = device.unresolved() {
                tracing::error!(why, "the target is given up, and never said to be closed");
                return Settled::Never;
            }
            tracing::error!(%error, "the target cannot be flushed, so it is not closed; trying again");
            thread::sleep(SETTLE_PAUSE);
        }
        Settled::Quiet
    }

    fn report(&self, event: EngineEvent) {
        let report = Report { replication: self.replication, epochs: self.epochs, event };
        // The loop ends only with the process.
        let _ = self.reports.send(report);
    }

    fn handle(&mut self, message: Message, queue: &Receiver<Message>) -> Next {
        match message {
            Message::Transfer(number, event) => self.on_transfer(number, event),
            Message::Verified(number, outcome) => self.on_verified(number, outcome),
            Message::Arrival(arrival) => self.on_arrival(*arrival),
            Message::Frozen { number, run, kept, made } => self.on_frozen(number, run, kept, made),
            Message::Command(command) => return self.command(command, queue),
        }
        Next::Go
    }

    fn command(&mut self, command: EngineCommand, queue: &Receiver<Message>) -> Next {
        match command {
            EngineCommand::Open { assignment } => return self.open(*assignment),
            EngineCommand::TryLock => self.try_lock_again(),
            // No storage of this build copies by itself. What another one ordered, it cannot tell: it stays silent, and that is safe.
            EngineCommand::AskArray { .. } => {}
            EngineCommand::Prepare { run, attempt, mode, keep, application } => {
                self.prepare(run, attempt, mode, keep, application);
            }
            EngineCommand::Copy { copy, source } => self.copy(*copy, &source),
            EngineCommand::Verify { copy } => self.verify(*copy),
            EngineCommand::Keep { run, keep } => self.keep(run, keep),
            EngineCommand::Committed { run, seq } => self.committed(run, seq),
            EngineCommand::Halt { run } => self.halt(run),
            EngineCommand::Published { run } => self.digests.published(run),
            EngineCommand::Release { snapshots } => self.release_source(&snapshots),
            EngineCommand::Expire { snapshots, keep } => self.expire(snapshots, &keep),
            EngineCommand::Close { graceful, release } => {
                (self.finished, self.quiescing) = (None, None);
                self.end_copy(graceful, queue);
                self.late.end();
                if let Some(release) = release {
                    self.release_source(&release.source_snapshots);
                    self.release_target(&release.target_snapshots);
                }
                let settled = self.settle_target();
                // Dropping the target ends the last reference to its description: the lock goes with it.
                self.open = None;
                if settled == Settled::Quiet {
                    self.report(EngineEvent::Closed);
                }
                return Next::End;
            }
        }
        Next::Go
    }
}
