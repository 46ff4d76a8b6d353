//! An agent on its control connection: who it is, its first message, then messages both ways until either side ends it.
//!
//! The end is reported at once and with its true reason: how fast a takeover begins depends on it.

use std::net::SocketAddr;
use std::time::Duration;

use tanist_model::agent::ShownCertificate;
use tanist_model::id::AgentName;
use tanist_model::state::State;
use tanist_protocol::message::{AgentMessage, ServerMessage};
use tanist_protocol::server::{Command, ConnectionId, Input};
use tanist_wire::certificate::PeerIdentity;
use tanist_wire::connect::{Established, Incoming, STEP_LIMIT, WireError};
use tanist_wire::frame::{Receiver, Sender};
use tanist_wire::refusal::{Refusal, RefusalCode};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::Door;
use super::reason::why_ended;
use crate::core::{BoxedMessage, Outbox};
use crate::{clock, random};

/// Silence after which a connection is given up. Agents beat every five seconds at least; suspicion comes long before.
const SILENCE: Duration = Duration::from_secs(30);

type Control = Established<AgentMessage, ServerMessage>;

pub async fn serve(incoming: Incoming<TcpStream>, from: SocketAddr, door: &Door) {
    let agent = incoming.peer().and_then(PeerIdentity::agent).cloned();
    match Box::pin(admit(incoming, door)).await {
        Ok(control) => converse(control, from, door).await,
        Err(error) => door.refusals.failed(&door.core, from, agent, &error),
    }
}

async fn admit(incoming: Incoming<TcpStream>, door: &Door) -> Result<Control, WireError> {
    let knock = incoming.knock().await?;
    let standing = standing(knock.peer().cloned(), door).await;
    knock.admit(&door.admission, clock::wall(), |_| standing).await
}

/// What the store knows of the certificate shown.
async fn standing(peer: Option<PeerIdentity>, door: &Door) -> Result<(), Refusal> {
    // Without an agent's certificate the rules of the port refuse, and say why.
    let Some(peer) = peer.filter(|peer| peer.agent().is_some()) else { return Ok(()) };
    let verdict = door.core.query(move |moment| judge(moment.machine.state(), &peer)).await;
    verdict
        .unwrap_or_else(|stopping| Err(Refusal::new(RefusalCode::Other, stopping.error, "it is tried again by itself")))
}

fn judge(state: &State, peer: &PeerIdentity) -> Result<(), Refusal> {
    let Some(agent) = peer.agent() else { return Ok(()) };
    let Some(record) = state.agents.get(agent).filter(|record| !record.removed) else {
        return Err(Refusal::removed(agent));
    };
    if record.accepts(&shown(peer)) { Ok(()) } else { Err(Refusal::revoked(agent, &peer.serial_hex)) }
}

fn shown(peer: &PeerIdentity) -> ShownCertificate {
    ShownCertificate { serial: peer.serial_hex.clone(), expires_at: peer.not_after }
}

async fn converse(control: Control, from: SocketAddr, door: &Door) {
    let peer = control.peer;
    let Some(agent) = peer.agent().cloned() else { return };
    let (mut receiver, sender) = control.connection.split();
    let hello = match timeout(STEP_LIMIT, receiver.recv()).await {
        Ok(Ok(Some(AgentMessage::Hello(hello)))) => hello,
        other => {
            // An agent that has found two ways at once uses one of them.
            tracing::debug!(%agent, %from, ?other, "an agent did not introduce itself");
            return;
        }
    };
    let connection = door.number();
    let (outbox, outgoing) = Outbox::new();
    let input = Input::Connected { agent: agent.clone(), connection, certificate: shown(&peer), hello };
    door.core.connected(input, connection, outbox).await;
    let (heard, beats) = watch::channel(0);
    let speaker = Speaker { agent: &agent, peer: &peer, from, connection, heard };
    let reason = tokio::select! {
        reason = listen(&mut receiver, &speaker, door) => reason,
        reason = speak(sender, outgoing.messages, beats) => reason,
        () = outgoing.severed.notified() => "it did not read what it was sent".to_owned(),
    };
    // The socket closes when the halves are dropped; what the loop needs to know must not wait for that.
    door.core.input(Input::Disconnected { agent, connection, reason }).await;
}

/// Who is on a connection, and by which certificate.
struct Speaker<'a> {
    agent: &'a AgentName,
    peer: &'a PeerIdentity,
    from: SocketAddr,
    connection: ConnectionId,
    /// The number of the last beat. It is answered here and not by the machine: the answer says that the way is open in both
    /// directions, also while the store is slow.
    heard: watch::Sender<u64>,
}

/// Hands on what the agent says; returns why it ended.
async fn listen(receiver: &mut Receiver<AgentMessage>, speaker: &Speaker<'_>, door: &Door) -> String {
    let (agent, connection) = (speaker.agent, speaker.connection);
    loop {
        let message = match timeout(SILENCE, receiver.recv()).await {
            Ok(Ok(Some(message))) => message,
            Ok(Ok(None)) => return "the agent closed it".to_owned(),
            Ok(Err(error)) => return why_ended(&error),
            Err(_) => return format!("it was silent for {} s", SILENCE.as_secs()),
        };
        match message {
            AgentMessage::RenewCertificate { csr_pem } => {
                if let Err(refusal) = renew(speaker, &csr_pem, door).await {
                    return refusal.message;
                }
            }
            message => {
                if let AgentMessage::Heartbeat(beat) = &message {
                    speaker.heard.send_replace(beat.number);
                }
                door.core.input(Input::Message { agent: agent.clone(), connection, message }).await;
            }
        }
    }
}

/// Sends what the loop says until it says no more, and answers beats; returns why it ended.
async fn speak(
    mut sender: Sender<ServerMessage>,
    mut messages: mpsc::Receiver<BoxedMessage>,
    mut beats: watch::Receiver<u64>,
) -> String {
    while let Some(message) = next_word(&mut messages, &mut beats).await {
        match timeout(STEP_LIMIT, sender.send(message.as_ref())).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return why_ended(&error),
            Err(_) => return "it did not read what it was sent".to_owned(),
        }
    }
    // The connection is over either way; the goodbye is a courtesy.
    let _ = timeout(STEP_LIMIT, sender.close()).await;
    "the server closed it".to_owned()
}

/// What to say next; `None` when the loop says no more.
async fn next_word(
    messages: &mut mpsc::Receiver<BoxedMessage>,
    beats: &mut watch::Receiver<u64>,
) -> Option<BoxedMessage> {
    loop {
        tokio::select! {
            message = messages.recv() => return message,
            Ok(()) = beats.changed() => {
                let number = *beats.borrow_and_update();
                if number > 0 {
                    return Some(Box::new(ServerMessage::Heard { number }));
                }
            }
        }
    }
}

/// Issues a new certificate for the one shown on this connection, which must still be in force: a connection can outlive what
/// it was admitted by, and a host whose name was given to another must not get a certificate for it.
///
/// # Errors
/// The [`Refusal`] for which the connection has to end; what merely failed is asked for again by the agent.
async fn renew(speaker: &Speaker<'_>, csr_pem: &str, door: &Door) -> Result<(), Refusal> {
    let Speaker { agent, peer, from, .. } = *speaker;
    if let Err(refusal) = standing(Some(peer.clone()), door).await {
        let error = WireError::TurnedAway { address: from.to_string(), refusal: refusal.clone() };
        door.refusals.failed(&door.core, from, Some(agent.clone()), &error);
        return Err(refusal);
    }
    let issued = match door.authority.issue_agent(csr_pem, agent) {
        Ok(issued) => issued,
        Err(error) => {
            tracing::warn!(%agent, %error, "a certificate is not renewed");
            return Ok(());
        }
    };
    let Ok(id) = random::command_id() else { return Ok(()) };
    let command = Command::RenewCertificate { agent: agent.clone(), issued };
    if let Err(refusal) = door.core.command(id, agent.as_str(), command).await {
        tracing::warn!(%agent, %refusal, "a certificate is not renewed");
    }
    Ok(())
}
