//! The link to the server: dialled, kept, dialled again. The loop sees connections come and go; it never waits for one.

use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use tanist_protocol::message::{AgentMessage, ServerMessage};
use tanist_wire::connect::{Established, WireError, connect};
use tanist_wire::frame::{Receiver, Sender};
use tanist_wire::refusal::RefusalCode;
use tokio::sync::mpsc;

use crate::clock;

/// First pause before dialling again; doubled up to the limit.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Pause after a refusal that only an operator can end.
const HOPELESS_PAUSE: Duration = Duration::from_secs(10);
/// Messages that wait for a slow link; more means that the link is as good as dead.
const QUEUE: usize = 256;
/// The longest that one message may take to be sent.
const SEND_LIMIT: Duration = Duration::from_secs(5);

/// What the link tells the loop.
#[derive(Debug)]
pub(crate) enum LinkEvent {
    /// Messages for the server go into this queue until the link is lost.
    Up(mpsc::Sender<AgentMessage>),
    Message(ServerMessage),
    Down,
    /// The server has removed this agent.
    Removed,
}

/// Keeps a link to the server for the life of the agent.
pub(crate) async fn keep(server: String, config: Arc<ClientConfig>, events: mpsc::Sender<LinkEvent>) {
    let mut pause = FIRST_PAUSE;
    loop {
        match connect::<ServerMessage, AgentMessage>(&server, Arc::clone(&config), clock::wall).await {
            Ok(established) => {
                tracing::info!(server, "connected");
                pause = FIRST_PAUSE;
                let reason = serve(established, &events).await;
                tracing::warn!(server, reason, "the link to the server ended");
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

/// Serves one connection until it ends, and says why.
async fn serve(established: Established<ServerMessage, AgentMessage>, events: &mpsc::Sender<LinkEvent>) -> String {
    let (receiver, sender) = established.connection.split();
    let (outbox, queue) = mpsc::channel(QUEUE);
    if events.send(LinkEvent::Up(outbox)).await.is_err() {
        return "the agent ends".to_owned();
    }
    tokio::select! {
        reason = read(receiver, events) => reason,
        reason = write(sender, queue) => reason,
    }
}

async fn read(mut receiver: Receiver<ServerMessage>, events: &mpsc::Sender<LinkEvent>) -> String {
    loop {
        match receiver.recv().await {
            Ok(Some(message)) => {
                if events.send(LinkEvent::Message(message)).await.is_err() {
                    return "the agent ends".to_owned();
                }
            }
            Ok(None) => return "the server closed it".to_owned(),
            Err(error) => return error.to_string(),
        }
    }
}

async fn write(mut sender: Sender<AgentMessage>, mut queue: mpsc::Receiver<AgentMessage>) -> String {
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
