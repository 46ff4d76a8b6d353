//! The engine of a reader: a thread that freezes the source, sends what it froze to the holder, and removes it at the end.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender as Queue, channel};
use std::thread;

use tanist_datapath::gate::GateRules;
use tanist_datapath::limit::BytesPerSecond;
use tanist_datapath::{Link, Progress, Sender, SenderConfig, SenderEvent, TransferError};
use tanist_model::id::{ApplicationName, Epochs, ReplicationId, RunId, SnapshotId};
use tanist_model::policy::{SourceMode, StreamCount};
use tanist_model::run::{BoundSnapshot, RunMethod};
use tanist_model::work::RunWork;
use tanist_protocol::agent::{ReaderCommand, ReaderEvent};
use tanist_protocol::message::{PeerAddress, ReadAssignment, RunFailureKind, StreamKey};
use tanist_storage::StorageError;
use tanist_wire::certificate::TrustAnchor;
use tanist_wire::tls::{self, LiveCertificate};
use tokio::sync::mpsc::UnboundedSender;

use crate::application::{Applications, Attempt, Moment};
use crate::digests::DigestFiles;
use crate::measured::{Measured, PROGRESS_INTERVAL};
use crate::source::{Frozen, changes_of, freeze, kind_of_opening, release, same_volume, view_of};
use crate::storages::Storages;
use crate::streams::{key_of, link_of};

/// How a reader dials holders.
#[derive(Clone)]
pub(crate) struct Dialler {
    live: Arc<LiveCertificate>,
    anchor: TrustAnchor,
    handle: tokio::runtime::Handle,
}

impl Dialler {
    pub(crate) fn new(live: Arc<LiveCertificate>, anchor: TrustAnchor, handle: tokio::runtime::Handle) -> Self {
        Self { live, anchor, handle }
    }

    /// Blocks, for the time limits of the handshake at most.
    fn dial(&self, holder: &PeerAddress, streams: StreamCount) -> Result<Vec<Link>, String> {
        (0..u8::from(streams)).map(|_| self.dial_one(holder)).collect()
    }

    fn dial_one(&self, holder: &PeerAddress) -> Result<Link, String> {
        let config = tls::data_client_config(Arc::clone(&self.live), &self.anchor, holder.agent.clone())
            .map_err(|error| error.to_string())?;
        let dialled = self.handle.block_on(tanist_wire::stream::dial(&holder.address, config));
        let stream = dialled.map_err(|error| error.to_string())?;
        stream.into_parts().map(link_of).map_err(|error| error.to_string())
    }
}

/// A report with its sender.
#[derive(Debug)]
pub(crate) struct ReaderReport {
    pub(crate) replication: ReplicationId,
    pub(crate) epochs: Epochs,
    pub(crate) event: ReaderEvent,
}

enum Message {
    Command(ReaderCommand),
    /// From the sending with this number; an earlier one's words are ignored.
    Ended(u64, SenderEvent),
    /// The attempt with this number at a snapshot of a quiesced source is over.
    Frozen {
        number: u64,
        run: RunId,
        made: Result<BoundSnapshot, (RunFailureKind, String)>,
    },
}

/// The handle that the agent's loop keeps.
pub(crate) struct ReaderHandle {
    commands: Queue<Message>,
}

/// One sending.
struct Sending {
    number: u64,
    run: RunId,
    assignment: Box<ReadAssignment>,
    snapshot: BoundSnapshot,
    sender: Sender,
    measured: Measured,
}

/// What a reader works with.
pub(crate) struct Means {
    pub(crate) storages: Storages,
    pub(crate) applications: Applications,
    pub(crate) digests: DigestFiles,
    pub(crate) dialler: Dialler,
    pub(crate) rules: GateRules,
}

struct ReaderEngine {
    replication: ReplicationId,
    epochs: Epochs,
    means: Means,
    reports: UnboundedSender<ReaderReport>,
    own: Queue<Message>,
    sending: Option<Sending>,
    /// A host application is being quiesced, by number. Dropped, it is given up.
    quiescing: Option<(u64, Attempt)>,
    attempts: u64,
}

impl ReaderHandle {
    /// Starts the thread. It ends after it has reported [`ReaderEvent::Closed`].
    pub(crate) fn start(
        replication: ReplicationId,
        epochs: Epochs,
        means: Means,
        reports: UnboundedSender<ReaderReport>,
    ) -> std::io::Result<Self> {
        let (commands, queue) = channel();
        let own = commands.clone();
        let body = move || {
            let (sending, quiescing, attempts) = (None, None, 0);
            let engine = ReaderEngine { replication, epochs, means, reports, own, sending, quiescing, attempts };
            engine.run(&queue);
        };
        thread::Builder::new().name(format!("reader-{replication}")).spawn(body)?;
        Ok(Self { commands })
    }

    /// An engine that has ended takes no commands, and needs none.
    pub(crate) fn command(&self, command: ReaderCommand) {
        let _ = self.commands.send(Message::Command(command));
    }
}

impl ReaderEngine {
    fn run(mut self, queue: &Receiver<Message>) {
        loop {
            match queue.recv_timeout(PROGRESS_INTERVAL) {
                Ok(Message::Command(ReaderCommand::Close)) => {
                    (self.sending, self.quiescing) = (None, None);
                    return self.report(ReaderEvent::Closed);
                }
                Ok(Message::Command(command)) => self.obey(command),
                Ok(Message::Ended(number, event)) => self.on_ended(number, event),
                Ok(Message::Frozen { number, run, made }) => {
                    if self.quiescing.take_if(|(own, _)| *own == number).is_some() {
                        self.prepared(run, made);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.report_progress();
        }
    }

    fn report(&self, event: ReaderEvent) {
        // The loop ends only with the process.
        let _ = self.reports.send(ReaderReport { replication: self.replication, epochs: self.epochs, event });
    }

    fn obey(&mut self, command: ReaderCommand) {
        match command {
            ReaderCommand::Prepare { assignment, run, attempt, mode, application } => {
                self.prepare(&assignment, run, attempt, mode, application);
            }
            ReaderCommand::Send { assignment, run, snapshot, method, holder, stream, grant } => {
                // The one before ends first: its I/O and its streams with it.
                (self.sending, self.quiescing) = (None, None);
                let begun = self.send(assignment, (run, method), snapshot, &holder, &stream, &grant);
                if let Err((kind, reason)) = begun {
                    self.report(ReaderEvent::Failed { run, kind, reason });
                }
            }
            ReaderCommand::Rest => (self.sending, self.quiescing) = (None, None),
            ReaderCommand::Published { run } => self.means.digests.published(run),
            ReaderCommand::Release { assignment, snapshots } => {
                release(&self.means.storages, &assignment.source, &snapshots)
            }
            ReaderCommand::Close => {}
        }
    }

    fn prepare(
        &mut self,
        assignment: &ReadAssignment,
        run: RunId,
        attempt: SnapshotId,
        mode: SourceMode,
        application: Option<ApplicationName>,
    ) {
        self.quiescing = None;
        if let Err(reason) = self.check_volume(assignment) {
            return self.prepared(run, Err((RunFailureKind::Snapshot, reason)));
        }
        let (storages, volume) = (self.means.storages.clone(), assignment.source.clone());
        let freeze = move || freeze(&storages, &volume, attempt, mode);
        let Some(application) = application else {
            let made = freeze().map(Frozen::keep).map_err(|reason| (RunFailureKind::Snapshot, reason));
            return self.prepared(run, made);
        };
        let (replication, epochs) = (self.replication, self.epochs);
        let (name, source) = (assignment.name.clone(), assignment.source.clone());
        let moment = Moment { replication, name, run, attempt, epochs, source };
        self.attempts += 1;
        let (number, own) = (self.attempts, self.own.clone());
        let done = move |made| drop(own.send(Message::Frozen { number, run, made }));
        match self.means.applications.begin(&application, &moment, freeze, done) {
            Ok(attempt) => self.quiescing = Some((number, attempt)),
            Err(reason) => self.prepared(run, Err((RunFailureKind::Quiesce, reason))),
        }
    }

    fn prepared(&self, run: RunId, made: Result<BoundSnapshot, (RunFailureKind, String)>) {
        self.report(match made {
            Ok(snapshot) => ReaderEvent::SnapshotMade { run, snapshot },
            Err((kind, reason)) => ReaderEvent::Failed { run, kind, reason },
        });
    }

    fn check_volume(&self, assignment: &ReadAssignment) -> Result<(), String> {
        let seen =
            self.means.storages.of(&assignment.source)?.inspect(&assignment.source).map_err(|e| e.to_string())?;
        same_volume("source", &assignment.source_identity, &seen.identity)
    }

    fn send(
        &mut self,
        assignment: Box<ReadAssignment>,
        (run, method): (RunId, RunMethod),
        snapshot: BoundSnapshot,
        holder: &PeerAddress,
        stream: &StreamKey,
        grant: &str,
    ) -> Result<(), (RunFailureKind, String)> {
        let grant =
            hex::decode(grant).map_err(|e| (RunFailureKind::Link, format!("the grant is not hexadecimal: {e}")))?;
        self.check_volume(&assignment).map_err(|reason| (RunFailureKind::Io, reason))?;
        let system = self.means.storages.of(&assignment.source).map_err(|reason| (RunFailureKind::Io, reason))?;
        let source = system
            .open_source(&assignment.source, &view_of(&snapshot))
            .map_err(|error| (kind_of_opening(&error), error.to_string()))?;
        let mut digests = self.means.digests.of_copy(run, method, snapshot.size_bytes);
        digests.changes = changes_of(&*system, &assignment.source, &snapshot, method, &digests);
        let links =
            self.means.dialler.dial(holder, assignment.streams).map_err(|reason| (RunFailureKind::Link, reason))?;
        let config = SenderConfig {
            key: key_of(run, stream),
            grant,
            from_seq: stream.from,
            compare: method.compares(),
            digests,
            size_bytes: snapshot.size_bytes,
            limit: assignment.bandwidth_bytes_per_second.and_then(BytesPerSecond::new),
            rules: self.means.rules,
        };
        self.attempts += 1;
        let (number, own) = (self.attempts, self.own.clone());
        let sender = Sender::start(source.device, config, links, move |event| {
            let _ = own.send(Message::Ended(number, event));
        });
        let measured = Measured::starting_at(Progress::default());
        self.sending = Some(Sending { number, run, assignment, snapshot, sender, measured });
        Ok(())
    }

    fn on_ended(&mut self, number: u64, event: SenderEvent) {
        let Some(sending) = self.sending.take_if(|s| s.number == number) else { return };
        if let SenderEvent::Failed(error) = event {
            let (kind, reason) = self.why_failed(&sending, &error);
            tracing::warn!(reason, run = %sending.run, "the sending failed");
            self.report(ReaderEvent::Failed { run: sending.run, kind, reason });
        }
    }

    fn why_failed(&self, sending: &Sending, error: &TransferError) -> (RunFailureKind, String) {
        let changed = self.why_source_changed(sending);
        match error {
            _ if changed.is_some() => (RunFailureKind::SourceChanged, changed.unwrap_or_default()),
            TransferError::Link(_) => (RunFailureKind::Link, error.to_string()),
            TransferError::Untold { .. } => (RunFailureKind::ChangesUntold, error.to_string()),
            _ => (RunFailureKind::Io, error.to_string()),
        }
    }

    fn why_source_changed(&self, sending: &Sending) -> Option<String> {
        if sending.snapshot.mode != SourceMode::Sealed {
            return None;
        }
        let volume = &sending.assignment.source;
        match self.means.storages.of(volume).ok()?.check_sealed(volume, &sending.snapshot.uid) {
            Err(error @ StorageError::SourceChanged { .. }) => Some(error.to_string()),
            _ => None,
        }
    }

    fn report_progress(&mut self) {
        let Some(sending) = self.sending.as_mut() else { return };
        if !sending.measured.is_due() {
            return;
        }
        let now = sending.sender.progress();
        sending.measured.note(now, |progress| progress.read_bytes);
        // The holder counts what was done.
        let progress = sending.measured.progress(now.durable_seq, RunWork::default());
        let run = sending.run;
        self.report(ReaderEvent::Progress { run, progress });
    }
}
