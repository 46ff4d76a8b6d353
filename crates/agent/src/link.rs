//! The link to the server: dialled, kept, dialled again. The loop sees connections come and go; it never waits for one.

use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use tanist_protocol::message::{AgentMessage, ServerMessage};
use tanist_wire::connect::{Established, WireError, connect};
use tanist_wire::frame::{Receiver, Sender};
use tanist_wire::refusal::RefusalCode;
use tokio::sync::{mpsc, watch};

use crate::clock;
use crate::renewal::Serial;

/// First pause before dialling again; doubled up to the limit.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Pause after a refusal that only an operator can end.
const HOPELESS_PAUSE: Duration = Duration::from_secs(10);
/// Pause after the server has ended a connection with a refusal: two processes that claim to be one agent must not take turns at once.
const REFUSED_PAUSE: Duration = Duration::from_secs(5);
/// Messages that wait for a slow link; more means that the link is as good as dead.
const QUEUE: usize = 256;
/// The longest that one message may take to be sent.
const SEND_LIMIT: Duration = Duration::from_secs(5);

type Control = Established<ServerMessage, AgentMessage>;

/// What the link tells the loop.
#[derive(Debug)]
pub(crate) enum LinkEvent {
    /// Messages for the server go into this queue until the link is lost, or replaced by the next of these.
    Up {
        outbox: mpsc::Sender<AgentMessage>,
        shown: Serial,
    },
    Message(ServerMessage),
    Down,
    /// The server has removed this agent.
    Removed,
}

/// How a connection ended.
enum Ended {
    Lost(String),
    /// The machine has heard, and logged, why.
    Refused,
}

impl Ended {
    fn reason(&self) -> &str {
        match self {
            Self::Lost(reason) => reason,
            Self::Refused => "the server refused it",
        }
    }
}

/// The way to the server.
pub(crate) struct Link {
    server: String,
    config: Arc<ClientConfig>,
    /// Of the certificate that the next connection shows.
    serial: watch::Receiver<Serial>,
}

impl Link {
    pub(crate) fn new(server: String, config: Arc<ClientConfig>, serial: watch::Receiver<Serial>) -> Self {
        Self { server, config, serial }
    }

    /// Keeps a link to the server for the life of the agent.
    pub(crate) async fn keep(mut self, events: mpsc::Sender<LinkEvent>) {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.dial().await {
                Ok(dialled) => {
                    tracing::info!(server = self.server, "connected");
                    pause = FIRST_PAUSE;
                    let ended = self.serve(dialled, &events).await;
                    tracing::warn!(server = self.server, reason = ended.reason(), "the link to the server ended");
                    if matches!(ended, Ended::Refused) {
                        pause = REFUSED_PAUSE;
                    }
                    if events.send(LinkEvent::Down).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    note(&error);
                    if !error.retry_helps() {
                        pause = HOPELESS_PAUSE;
                    }
                    let told = if is_removal(&error) {
                        events.send(LinkEvent::Removed).await.is_ok()
                    } else {
                        !events.is_closed()
                    };
                    if !told {
                        return;
                    }
                }
            }
            tokio::time::sleep(pause).await;
            pause = if pause > LONGEST_PAUSE { LONGEST_PAUSE } else { (pause * 2).min(LONGEST_PAUSE) };
        }
    }

    /// A connection, and what it has shown. A renewal in this very moment may have been shown already: then one connection more
    /// is made than needed.
    async fn dial(&mut self) -> Result<(Control, Serial), WireError> {
        let shown = self.serial.borrow_and_update().clone();
        let control = connect(&self.server, Arc::clone(&self.config), clock::wall).await?;
        Ok((control, shown))
    }

    /// Serves one connection until it ends, and says why. After a renewal the next connection takes its place.
    async fn serve(&mut self, mut dialled: (Control, Serial), events: &mpsc::Sender<LinkEvent>) -> Ended {
        let mut replaced = None;
        loop {
            let (control, shown) = dialled;
            let (mut receiver, mut sender) = control.connection.split();
            let (outbox, queue) = mpsc::channel(QUEUE);
            if events.send(LinkEvent::Up { outbox, shown }).await.is_err() {
                return Ended::Lost("the agent ends".to_owned());
            }
            dialled = tokio::select! {
                ended = read(&mut receiver, events, replaced.take()) => return ended,
                reason = write(&mut sender, queue) => return Ended::Lost(reason),
                next = self.successor() => next,
            };
            replaced = Some((receiver, sender));
        }
    }

    /// Once the certificate is another: a connection that shows it.
    async fn successor(&mut self) -> (Control, Serial) {
        if self.serial.changed().await.is_err() {
            // The loop has ended, and with it soon the link.
            std::future::pending::<()>().await;
        }
        loop {
            match self.dial().await {
                Ok(dialled) => {
                    tracing::info!(server = self.server, "connected anew, with the renewed certificate");
                    return dialled;
                }
                Err(error) => note(&error),
            }
            tokio::time::sleep(HOPELESS_PAUSE).await;
        }
    }
}

fn is_removal(error: &WireError) -> bool {
    matches!(error, WireError::Refused { refusal, .. } if refusal.code == RefusalCode::Removed)
}

fn note(error: &WireError) {
    let hint = error.hint();
    if error.retry_helps() {
        tracing::info!(%error, hint, "no link to the server yet; trying again");
    } else {
        tracing::error!(%error, hint, "the server does not take this agent; trying again");
    }
}

/// A connection that is replaced stays open until the server has answered on the new one: an end before that would look like the
/// end of the agent.
async fn read(
    receiver: &mut Receiver<ServerMessage>,
    events: &mpsc::Sender<LinkEvent>,
    mut replaced: Option<(Receiver<ServerMessage>, Sender<AgentMessage>)>,
) -> Ended {
    let mut refused = false;
    loop {
        match receiver.recv().await {
            Ok(Some(message)) => {
                drop(replaced.take());
                refused = matches!(message, ServerMessage::Refused { .. });
                if events.send(LinkEvent::Message(message)).await.is_err() {
                    return Ended::Lost("the agent ends".to_owned());
                }
            }
            Ok(None) | Err(_) if refused => return Ended::Refused,
            Ok(None) => return Ended::Lost("the server closed it".to_owned()),
            Err(error) => return Ended::Lost(error.to_string()),
        }
    }
}

async fn write(sender: &mut Sender<AgentMessage>, mut queue: mpsc::Receiver<AgentMessage>) -> String {
    while let Some(message) = queue.recv().await {
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
