//! The one loop: inputs come in from links, engines and watches; the machine decides; what it decides is carried out here.

use std::collections::HashMap;

#[cfg(feature = "mutations")]
use tanist_datapath::gate::GateMutation;
use tanist_datapath::gate::GateRules;
use tanist_model::application::{ApplicationReport, ThawReport};
use tanist_model::id::{Epochs, ReplicationId};
use tanist_model::volume::{StorageReport, VolumeReport};
use tanist_protocol::agent::{
    AgentMachine, Effect, EngineCommand, EngineEvent, EngineSource, Input, ReaderCommand, ReaderEvent,
};
use tanist_protocol::driver::{Interpreter, Step};
use tanist_protocol::message::{AgentMessage, RunFailureKind, ServerMessage};
#[cfg(feature = "mutations")]
use tanist_protocol::mutation::Mutation;
use tanist_protocol::mutation::Mutations;
use tanist_recording::Recorded;
use tanist_wire::service_manager::ServiceManager;
use tokio::sync::{mpsc, watch};

use crate::application::{Applications, MarkOrder};
use crate::clock;
use crate::digests::DigestFolder;
use crate::engine::{EngineHandle, Report};
use crate::ledger::Ledger;
use crate::link::LinkEvent;
use crate::reader::{Dialler, Means, ReaderHandle, ReaderReport};
use crate::renewal::Renewal;
use crate::storages::Storages;
use crate::streams::{Expected, StreamDesk};
use crate::watch::{Seen, Targets, Watcher};

/// How often the inventory is looked at anew, in ticks of the machine.
const INVENTORY_EVERY_TICKS: u32 = 80;

/// Where inputs come from.
pub(crate) struct Inlets {
    pub(crate) link: mpsc::Receiver<LinkEvent>,
    pub(crate) reports: mpsc::UnboundedReceiver<Report>,
    pub(crate) readings: mpsc::UnboundedReceiver<ReaderReport>,
    pub(crate) seen: mpsc::Receiver<Seen>,
    pub(crate) thaws: mpsc::UnboundedReceiver<ThawReport>,
}

/// Where effects go.
pub(crate) struct Outlets {
    pub(crate) reports: mpsc::UnboundedSender<Report>,
    pub(crate) readings: mpsc::UnboundedSender<ReaderReport>,
    pub(crate) desk: StreamDesk,
    pub(crate) dialler: Dialler,
    pub(crate) seen: mpsc::Sender<Seen>,
    pub(crate) targets: watch::Sender<Targets>,
    pub(crate) watcher: Watcher,
    pub(crate) storages: Storages,
    pub(crate) applications: Applications,
    pub(crate) digests: DigestFolder,
    pub(crate) ledger: Ledger,
    pub(crate) renewal: Renewal,
    pub(crate) manager: ServiceManager,
    #[cfg(feature = "mutations")]
    pub(crate) resumption: Option<crate::resume::Resumption>,
}

/// The machine with everything it acts upon.
pub(crate) struct Core {
    machine: Recorded<AgentMachine>,
    interpreter: Interpreter<Effect>,
    rules: GateRules,
    outlets: Outlets,
    link: Option<mpsc::Sender<AgentMessage>>,
    engines: HashMap<(ReplicationId, Epochs), EngineHandle>,
    readers: HashMap<(ReplicationId, Epochs), ReaderHandle>,
    inventory: (Vec<StorageReport>, Vec<VolumeReport>, Vec<ApplicationReport>),
    ticks: u32,
    done: bool,
}

/// The gate as it has to be, but in a test build that switches it off.
fn gate_rules(mutations: Mutations) -> GateRules {
    #[cfg(feature = "mutations")]
    if mutations.breaks(Mutation::GateAdmitsOldStream) {
        return GateRules::breaking(GateMutation::KeyIgnored);
    }
    #[cfg(feature = "mutations")]
    if mutations.breaks(Mutation::StopUnheard) {
        return GateRules::breaking(GateMutation::StopUnheard);
    }
    let _ = mutations;
    GateRules::WHOLE
}

impl Core {
    pub(crate) fn new(machine: Recorded<AgentMachine>, mutations: Mutations, outlets: Outlets) -> Self {
        Self {
            machine,
            interpreter: Interpreter::new(mutations),
            rules: gate_rules(mutations),
            outlets,
            link: None,
            engines: HashMap::new(),
            readers: HashMap::new(),
            inventory: (Vec::new(), Vec::new(), Vec::new()),
            ticks: 0,
            done: false,
        }
    }

    /// Runs until the machine says that every role has ended after `leave`. Then the link gets no more messages and closes.
    pub(crate) async fn run(mut self, mut inlets: Inlets, leave: impl Future<Output = ()>) {
        let mut pace = tokio::time::interval(self.machine.tick_interval());
        pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        tokio::pin!(leave);
        let mut leaving = false;
        let mut watchdog = self.outlets.manager.watchdog();
        self.outlets.manager.ready();
        while !self.done {
            watchdog.alive();
            tokio::select! {
                biased;
                () = &mut leave, if !leaving => {
                    leaving = true;
                    tracing::info!("handing over every role, then stopping");
                    self.outlets.manager.stopping();
                    self.feed(Input::Leave);
                }
                Some(report) = inlets.reports.recv() => self.on_report(report),
                Some(report) = inlets.readings.recv() => self.on_reading(report),
                Some(report) = inlets.thaws.recv() => self.feed(Input::Thawed(report)),
                Some(event) = inlets.link.recv() => self.on_link(event),
                Some(seen) = inlets.seen.recv() => self.on_seen(seen),
                _ = pace.tick() => self.on_tick(),
            }
        }
    }

    fn on_report(&mut self, report: Report) {
        if matches!(report.event, EngineEvent::Closed | EngineEvent::OpenFailed { .. }) {
            self.engines.remove(&(report.replication, report.epochs));
        }
        let Report { replication, epochs, event } = report;
        self.feed(Input::Engine { replication, epochs, event });
    }

    fn on_reading(&mut self, report: ReaderReport) {
        if report.event == ReaderEvent::Closed {
            self.readers.remove(&(report.replication, report.epochs));
        }
        let ReaderReport { replication, epochs, event } = report;
        self.feed(Input::Reader { replication, epochs, event });
    }

    fn on_link(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Up { outbox, shown, through } => {
                self.link = Some(outbox);
                self.outlets.renewal.linked(shown);
                self.outlets.manager.status("connected to the server");
                let (storage, volumes, applications) = self.inventory.clone();
                self.feed(Input::Connected { storage, volumes, applications, through });
            }
            LinkEvent::Message(message) => self.hear(message),
            LinkEvent::Removed => self.feed(Input::Removed),
            LinkEvent::Down => {
                self.link = None;
                self.outlets.manager.status("not connected to the server; trying again");
                self.feed(Input::Disconnected);
            }
        }
    }

    #[cfg(not(feature = "mutations"))]
    fn hear(&mut self, message: ServerMessage) {
        self.feed(Input::Message(message));
    }

    #[cfg(feature = "mutations")]
    fn hear(&mut self, message: ServerMessage) {
        let heard = match self.outlets.resumption.as_mut() {
            Some(resumption) => resumption.hear(message),
            None => vec![message],
        };
        heard.into_iter().for_each(|message| self.feed(Input::Message(message)));
    }

    fn on_seen(&mut self, seen: Seen) {
        match seen {
            Seen::Routine { canaries, peers } => self.feed(Input::Seen { canaries, peers }),
            Seen::Survey { survey, canaries, peers } => {
                self.say(AgentMessage::Surveyed { survey, canaries, peers });
            }
            Seen::Inventory { storage, volumes, applications } => {
                let inventory = (storage.clone(), volumes.clone(), applications.clone());
                if self.inventory == inventory {
                    return;
                }
                self.inventory = inventory;
                self.say(AgentMessage::Inventory { storage, volumes, applications });
            }
        }
    }

    fn on_tick(&mut self) {
        self.feed(Input::Tick);
        if self.ticks.is_multiple_of(INVENTORY_EVERY_TICKS) {
            tokio::spawn(self.outlets.watcher.clone().inventory(self.outlets.seen.clone()));
        }
        if let Some(request) = self.outlets.renewal.request_if_due(clock::now()) {
            self.say(request);
        }
        self.ticks = self.ticks.wrapping_add(1);
    }

    fn feed(&mut self, input: Input) {
        let output = self.machine.handle(clock::now(), input);
        self.interpreter.load(self.machine.highest_term(), output);
        while let Some(step) = self.interpreter.next_step() {
            match step {
                Step::Perform(effect) => self.perform(effect),
                // An agent keeps nothing that must survive it, so its machine commits nothing.
                Step::Commit(_) => self.interpreter.commit_failed(),
            }
        }
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Send(message) => self.say(message),
            Effect::Engine { replication, epochs, command } => self.command_engine(replication, epochs, command),
            Effect::Reader { replication, epochs, command } => self.command_reader(replication, epochs, command),
            Effect::Watch { peers, volumes } => {
                self.outlets.targets.send_replace(Targets { peers, volumes });
            }
            Effect::Look => self.outlets.watcher.look_at_once(),
            Effect::Survey { survey, peers, volumes, inventory } => {
                let (watcher, seen) = (self.outlets.watcher.clone(), self.outlets.seen.clone());
                tokio::spawn(async move {
                    if inventory {
                        watcher.clone().inventory(seen.clone()).await;
                    }
                    watcher.survey(survey, Targets { peers, volumes }, seen).await;
                });
            }
            Effect::Remember { replication, epochs } => self.outlets.ledger.remember(replication, epochs),
            Effect::InstallCertificate { pem } => self.outlets.renewal.install(pem, clock::wall()),
            Effect::ForgetMark { attempt } => self.outlets.applications.tell_keeper(MarkOrder::Forget(attempt)),
            Effect::LookForMark { replication, attempt, application } => {
                self.outlets.applications.tell_keeper(MarkOrder::Ask { replication, attempt, application });
            }
            Effect::Refused { reason } => tracing::error!(reason, "the server refuses this agent; trying again"),
            Effect::Exit => self.done = true,
        }
    }

    fn say(&mut self, message: AgentMessage) {
        let Some(link) = &self.link else { return };
        if let Err(error) = link.try_send(message) {
            tracing::warn!(%error, "the link to the server is stuck and is dropped");
            self.link = None;
        }
    }

    fn command_engine(&mut self, replication: ReplicationId, epochs: Epochs, command: EngineCommand) {
        if matches!(command, EngineCommand::Open { .. }) {
            match self.start_engine(replication, epochs) {
                Ok(engine) => {
                    self.engines.insert((replication, epochs), engine);
                }
                Err(error) => {
                    let event = EngineEvent::OpenFailed { reason: format!("start an engine: {error}") };
                    // The loop itself is the receiver: the queue is open.
                    let _ = self.outlets.reports.send(Report { replication, epochs, event });
                    return;
                }
            }
        }
        let Some(engine) = self.engines.get(&(replication, epochs)) else { return };
        if let EngineCommand::Copy { copy, source: EngineSource::Stream { stream, reader } } = &command {
            let (run, stream, size_bytes) = (copy.run, *stream, copy.snapshot.size_bytes);
            let expected = Expected { run, stream, size_bytes, reader: reader.clone(), engine: engine.inlet() };
            // Before the server can hear that we wait.
            self.outlets.desk.expect(replication, expected);
        }
        engine.command(command);
    }

    fn command_reader(&mut self, replication: ReplicationId, epochs: Epochs, command: ReaderCommand) {
        let key = (replication, epochs);
        if !self.readers.contains_key(&key) {
            match self.start_reader(replication, epochs) {
                Ok(reader) => drop(self.readers.insert(key, reader)),
                Err(error) => return self.reader_failed(replication, epochs, &command, &error),
            }
        }
        if let Some(reader) = self.readers.get(&key) {
            reader.command(command);
        }
    }

    fn start_engine(&self, replication: ReplicationId, epochs: Epochs) -> std::io::Result<EngineHandle> {
        let Outlets { storages, applications, digests, reports, .. } = &self.outlets;
        let (storages, applications) = (storages.clone(), applications.clone());
        let digests = digests.of(replication);
        EngineHandle::start(replication, epochs, storages, applications, digests, self.rules, reports.clone())
    }

    fn start_reader(&self, replication: ReplicationId, epochs: Epochs) -> std::io::Result<ReaderHandle> {
        let Outlets { storages, applications, digests, dialler, readings, .. } = &self.outlets;
        let (storages, applications) = (storages.clone(), applications.clone());
        let (digests, dialler, rules) = (digests.of(replication), dialler.clone(), self.rules);
        let means = Means { storages, applications, digests, dialler, rules };
        ReaderHandle::start(replication, epochs, means, readings.clone())
    }

    fn reader_failed(
        &self,
        replication: ReplicationId,
        epochs: Epochs,
        command: &ReaderCommand,
        error: &std::io::Error,
    ) {
        let reason = format!("start an engine: {error}");
        let event = match command {
            ReaderCommand::Prepare { run, .. } | ReaderCommand::Send { run, .. } => {
                ReaderEvent::Failed { run: *run, kind: RunFailureKind::Io, reason }
            }
            ReaderCommand::Rest | ReaderCommand::Published { .. } | ReaderCommand::Release { .. } => return,
            ReaderCommand::Close => ReaderEvent::Closed,
        };
        // The loop itself is the receiver: the queue is open.
        let _ = self.outlets.readings.send(ReaderReport { replication, epochs, event });
    }
}
