//! The link to the server: dialled, kept, dialled again, directly or through a peer. Which way is the protocol's to decide
//! ([`WayFinder`]); here its steps are carried out. The loop sees connections come and go; it never waits for one.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use tanist_model::id::AgentName;
use tanist_model::time::Monotonic;
use tanist_protocol::agent::way::{Attempt, DialFailure, Ended, Way, WayFinder, WayStep};
use tanist_protocol::message::{AgentMessage, PeerAddress, ServerMessage};
use tanist_protocol::timers::Timers;
use tanist_wire::certificate::TrustAnchor;
use tanist_wire::connect::{Established, WireError, connect};
use tanist_wire::frame::{Receiver, Sender};
use tanist_wire::refusal::RefusalCode;
use tanist_wire::relay::{self, CarriedError};
use tanist_wire::tls::{self, LiveCertificate};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinHandle, JoinSet};

use crate::clock;
use crate::renewal::Serial;

/// Messages that wait for a slow link; more means that the link is as good as dead.
const QUEUE: usize = 256;
/// The longest that one message may take to be sent.
const SEND_LIMIT: Duration = Duration::from_secs(5);
/// While nothing is due.
const LONG: Duration = Duration::from_hours(1);

type Control = Established<ServerMessage, AgentMessage>;

/// What the link tells the loop.
#[derive(Debug)]
pub enum LinkEvent {
    /// Messages for the server go into this queue until the link is lost, or replaced by the next of these.
    Up {
        outbox: mpsc::Sender<AgentMessage>,
        shown: Serial,
        /// The peer that carries it.
        through: Option<AgentName>,
    },
    Message(ServerMessage),
    Down,
    /// The server has removed this agent.
    Removed,
}

/// How an attempt went.
struct Dialled {
    attempt: Attempt,
    way: Way,
    result: Result<(Control, Serial), DialError>,
}

/// Why an attempt led to nothing, by the way it took.
#[derive(Debug, thiserror::Error)]
enum DialError {
    #[error("{0}")]
    Direct(#[from] WireError),
    #[error("{0}")]
    Carried(#[from] CarriedError),
    #[error("prepare TLS for a relay: {0}")]
    Tls(#[from] tls::ConfigError),
}

impl DialError {
    fn hint(&self) -> &str {
        match self {
            Self::Direct(error) => error.hint(),
            Self::Carried(error) => error.hint(),
            Self::Tls(error) => error.hint(),
        }
    }

    /// The server's own word, if the attempt got so far.
    fn of_server(&self) -> Option<&WireError> {
        match self {
            Self::Direct(source) | Self::Carried(CarriedError::Server { source, .. }) => Some(source),
            Self::Carried(CarriedError::Relay(_)) | Self::Tls(_) => None,
        }
    }

    fn kind(&self) -> DialFailure {
        match self.of_server() {
            Some(error) if !error.retry_helps() => DialFailure::Unwanted,
            Some(WireError::Dial { source, .. }) if source.kind() == std::io::ErrorKind::ConnectionRefused => {
                DialFailure::Refused
            }
            _ => DialFailure::Silent,
        }
    }

    fn is_removal(&self) -> bool {
        let removed = |error: &WireError| matches!(error, WireError::Refused { refusal, .. } if refusal.code == RefusalCode::Removed);
        self.of_server().is_some_and(removed)
    }
}

/// What happens on a connection.
enum Word {
    /// The beat of this number goes out.
    Said(u64),
    Heard(ServerMessage),
    Over(Ended, String),
}

/// A connection that is served. Its sockets close when this is dropped.
struct Conversation {
    attempt: Attempt,
    task: JoinHandle<()>,
    outbox: mpsc::WeakSender<AgentMessage>,
    /// Set when another connection is to take its place: the agent drops its own end at once, and a connection that closed before the
    /// server has heard of the new one would look like a death.
    held_open: Option<mpsc::Sender<AgentMessage>>,
}

impl Conversation {
    fn held_open(mut self) -> Self {
        self.held_open = self.outbox.upgrade();
        self
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// How the server and the relays are reached.
#[derive(Clone, Debug)]
pub struct Dialler {
    /// `HOST:PORT`.
    pub server: String,
    pub config: Arc<ClientConfig>,
    pub live: Arc<LiveCertificate>,
    pub anchor: TrustAnchor,
}

impl Dialler {
    async fn dial(&self, way: &Way, address: Option<&str>) -> Result<Control, DialError> {
        let (Way::Through(relay), Some(address)) = (way, address) else {
            return Ok(connect(&self.server, Arc::clone(&self.config), clock::wall).await?);
        };
        let to_relay = tls::relay_client_config(Arc::clone(&self.live), &self.anchor, relay.clone())?;
        Ok(relay::connect(address, to_relay, Arc::clone(&self.config), clock::wall).await?)
    }
}

/// The link.
pub struct Link {
    dialler: Dialler,
    /// Of the certificate that the next connection shows.
    serial: watch::Receiver<Serial>,
    finder: WayFinder,
    dials: JoinSet<Dialled>,
    under_way: HashMap<Attempt, AbortHandle>,
    /// What an attempt has led to, until it is decided what becomes of it.
    fresh: Option<(Attempt, Control, Serial)>,
    words: mpsc::Receiver<(Attempt, Word)>,
    speaker: mpsc::Sender<(Attempt, Word)>,
    present: Option<Conversation>,
    /// It stays open until the server has spoken on the present one: an end before that would look like the end of the agent.
    replaced: Option<Conversation>,
    events: mpsc::Sender<LinkEvent>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Link(..)")
    }
}

/// The loop has ended, and with it the agent.
struct AgentEnds;

impl Link {
    /// `serial`: of the certificate that the next connection shows. `acquaintances`: the peers of an earlier process of the agent.
    /// `entropy`: for how long it pauses between attempts.
    #[must_use]
    pub fn new(
        dialler: Dialler,
        serial: watch::Receiver<Serial>,
        timers: Timers,
        acquaintances: Vec<PeerAddress>,
        entropy: u128,
        events: mpsc::Sender<LinkEvent>,
    ) -> Self {
        let (speaker, words) = mpsc::channel(QUEUE);
        Self {
            dialler,
            serial,
            finder: WayFinder::new(timers, now(), acquaintances).spread_by(entropy),
            dials: JoinSet::new(),
            under_way: HashMap::new(),
            fresh: None,
            words,
            speaker,
            present: None,
            replaced: None,
            events,
        }
    }

    /// Keeps a link to the server for the life of the agent. What was said last is sent before this returns.
    pub async fn keep(mut self) {
        let events = self.events.clone();
        loop {
            let next = tokio::select! {
                biased;
                () = events.closed() => Err(AgentEnds),
                next = self.happen() => next,
            };
            if next.is_err() {
                break;
            }
        }
        if let Some(mut present) = self.present.take() {
            // The queue has ended: what is in it goes out, then a goodbye.
            self.words.close();
            let _ = (&mut present.task).await;
        }
    }

    async fn happen(&mut self) -> Result<(), AgentEnds> {
        let pause = self.finder.deadline().map_or(LONG, |due| due.since(now()));
        let steps = tokio::select! {
            Some((attempt, word)) = self.words.recv() => self.on_word(attempt, word).await?,
            Some(dialled) = self.dials.join_next() => match dialled {
                Ok(dialled) => self.on_dialled(dialled).await?,
                // Given up on purpose.
                Err(_) => Vec::new(),
            },
            Ok(()) = self.serial.changed() => self.finder.renew(now()),
            () = tokio::time::sleep(pause) => self.finder.tick(now()),
        };
        for step in steps {
            self.carry_out(step).await?;
        }
        Ok(())
    }

    async fn on_dialled(&mut self, dialled: Dialled) -> Result<Vec<WayStep>, AgentEnds> {
        let Dialled { attempt, way, result } = dialled;
        self.under_way.remove(&attempt);
        match result {
            Ok((control, shown)) => {
                self.fresh = Some((attempt, control, shown));
                Ok(self.finder.established(now(), attempt))
            }
            Err(error) => {
                note(&error, &way);
                if error.is_removal() {
                    self.tell(LinkEvent::Removed).await?;
                }
                Ok(self.finder.failed(now(), attempt, error.kind()))
            }
        }
    }

    async fn on_word(&mut self, attempt: Attempt, word: Word) -> Result<Vec<WayStep>, AgentEnds> {
        if self.present.as_ref().is_none_or(|present| present.attempt != attempt) {
            return Ok(Vec::new());
        }
        match word {
            Word::Said(number) => Ok(self.finder.beat_said(now(), number)),
            Word::Heard(message) => {
                self.replaced = None;
                let steps = self.finder.heard(now(), &message);
                // It says that the way is open, and that is all.
                if !matches!(message, ServerMessage::Heard { .. }) {
                    self.tell(LinkEvent::Message(message)).await?;
                }
                Ok(steps)
            }
            Word::Over(how, reason) => {
                tracing::warn!(server = self.dialler.server, reason, "the link to the server ended");
                self.present = None;
                self.replaced = None;
                self.tell(LinkEvent::Down).await?;
                Ok(self.finder.ended(now(), attempt, how))
            }
        }
    }

    async fn carry_out(&mut self, step: WayStep) -> Result<(), AgentEnds> {
        match step {
            WayStep::Dial { attempt, way, address } => self.dial(attempt, way, address),
            WayStep::Drop(attempt) => {
                self.fresh.take_if(|(fresh, ..)| *fresh == attempt);
                if let Some(dial) = self.under_way.remove(&attempt) {
                    dial.abort();
                }
            }
            WayStep::Take { attempt, way } => {
                if let Some((_, control, shown)) = self.fresh.take_if(|(fresh, ..)| *fresh == attempt) {
                    self.take(attempt, &way, control, shown).await?;
                }
            }
        }
        Ok(())
    }

    /// Dials, and remembers what it shows. A renewal in this very moment may have been shown already: then one connection more is
    /// made than needed.
    fn dial(&mut self, attempt: Attempt, way: Way, address: Option<String>) {
        let shown = self.serial.borrow_and_update().clone();
        let dialler = self.dialler.clone();
        let handle = self.dials.spawn(async move {
            let result = dialler.dial(&way, address.as_deref()).await.map(|control| (control, shown));
            Dialled { attempt, way, result }
        });
        self.under_way.insert(attempt, handle);
    }

    async fn take(&mut self, attempt: Attempt, way: &Way, control: Control, shown: Serial) -> Result<(), AgentEnds> {
        let relay = way.relay().map(AgentName::as_str);
        tracing::info!(server = self.dialler.server, relay, "connected");
        let (outbox, queue) = mpsc::channel(QUEUE);
        let (receiver, sender) = control.connection.split();
        let task = tokio::spawn(converse(attempt, (receiver, sender), queue, self.speaker.clone()));
        let next = Conversation { attempt, task, outbox: outbox.downgrade(), held_open: None };
        self.replaced = self.present.replace(next).map(Conversation::held_open);
        self.tell(LinkEvent::Up { outbox, shown, through: way.relay().cloned() }).await
    }

    async fn tell(&mut self, event: LinkEvent) -> Result<(), AgentEnds> {
        self.events.send(event).await.map_err(|_| AgentEnds)
    }
}

fn now() -> Monotonic {
    clock::now().monotonic
}

fn note(error: &DialError, way: &Way) {
    let hint = error.hint();
    match (way, error.kind()) {
        (_, DialFailure::Unwanted) => {
            tracing::error!(%error, hint, "the server does not take this agent; trying again")
        }
        (Way::Direct, _) => tracing::info!(%error, hint, "no link to the server yet; trying again"),
        (Way::Through(relay), _) => tracing::info!(%error, %relay, "a peer does not carry this agent to the server"),
    }
}

/// Serves one connection until it ends, and says why.
async fn converse(
    attempt: Attempt,
    (mut receiver, mut sender): (Receiver<ServerMessage>, Sender<AgentMessage>),
    queue: mpsc::Receiver<AgentMessage>,
    words: mpsc::Sender<(Attempt, Word)>,
) {
    let (how, reason) = tokio::select! {
        ended = read(attempt, &mut receiver, &words) => ended,
        reason = write(attempt, &mut sender, queue, &words) => (Ended::Lost, reason),
    };
    // Nobody listens any more when the agent ends.
    let _ = words.send((attempt, Word::Over(how, reason))).await;
}

async fn read(
    attempt: Attempt,
    receiver: &mut Receiver<ServerMessage>,
    words: &mpsc::Sender<(Attempt, Word)>,
) -> (Ended, String) {
    let mut refused = false;
    loop {
        match receiver.recv().await {
            Ok(Some(message)) => {
                refused = matches!(message, ServerMessage::Refused { .. });
                if words.send((attempt, Word::Heard(message))).await.is_err() {
                    // The agent ends: what is still to be said is said.
                    std::future::pending::<()>().await;
                }
            }
            Ok(None) | Err(_) if refused => return (Ended::Refused, "the server refused it".to_owned()),
            Ok(None) => return (Ended::Lost, "the server closed it".to_owned()),
            Err(error) => return (Ended::Lost, error.to_string()),
        }
    }
}

async fn write(
    attempt: Attempt,
    sender: &mut Sender<AgentMessage>,
    mut queue: mpsc::Receiver<AgentMessage>,
    words: &mpsc::Sender<(Attempt, Word)>,
) -> String {
    while let Some(message) = queue.recv().await {
        // Before it is sent: a connection that takes nothing more is silent from then on.
        if let AgentMessage::Heartbeat(beat) = &message {
            let _ = words.send((attempt, Word::Said(beat.number))).await;
        }
        match tokio::time::timeout(SEND_LIMIT, sender.send(&message)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return error.to_string(),
            Err(_) => return format!("the server took nothing for {} s", SEND_LIMIT.as_secs()),
        }
    }
    // A goodbye that does not arrive is noticed all the same.
    let _ = sender.close().await;
    "the agent dropped it".to_owned()
}
