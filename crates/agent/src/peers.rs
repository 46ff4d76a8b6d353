//! Peers: every agent answers the pings of the others, and pings them. What comes back is evidence, never proof.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tanist_model::id::{AgentName, ClusterId, Incarnation};
use tanist_model::takeover::PeerVerdict;
use tanist_protocol::message::{PeerAddress, PeerReport};
use tanist_wire::certificate::TrustAnchor;
use tanist_wire::connect::{self, WireError};
use tanist_wire::frame::Connection;
use tanist_wire::handshake::Admission;
use tanist_wire::socket;
use tanist_wire::tls::{self, LiveCertificate, Protocol};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;

use crate::clock;
use crate::relay::Relay;
use crate::streams::StreamDesk;

/// Connections of peers served at once; an agent has at most fifteen peers a hierarchy.
const SERVED_AT_ONCE: usize = 256;

/// Between agents.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum PeerMessage {
    Ping { number: u64 },
    Pong { number: u64, incarnation: Incarnation },
}

type PeerConnection = Connection<PeerMessage, PeerMessage>;

/// What peers come for, besides a ping.
#[derive(Clone, Debug)]
pub(crate) struct Welcoming {
    /// Of this process: what a ping is answered with.
    pub(crate) incarnation: Incarnation,
    pub(crate) desk: StreamDesk,
    pub(crate) relay: Relay,
}

/// Answers pings for the life of the process. Returns only when the listener is dead: the caller then ends the process, because an
/// agent that nobody reaches must not look alive.
pub(crate) async fn listen(
    listener: TcpListener,
    live: Arc<LiveCertificate>,
    anchor: &TrustAnchor,
    cluster: ClusterId,
    welcoming: Welcoming,
) -> io::Error {
    let config = match tls::peer_listener_config(live, anchor) {
        Ok(config) => config,
        Err(error) => return io::Error::other(error),
    };
    let places = Arc::new(tokio::sync::Semaphore::new(SERVED_AT_ONCE));
    loop {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) if is_passing(&error) => continue,
            Err(error) => return error,
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let (config, welcoming) = (Arc::clone(&config), welcoming.clone());
        tokio::spawn(async move {
            if let Err(error) = answer(stream, &address.to_string(), config, cluster, welcoming).await {
                tracing::debug!(%error, %address, "a peer's connection ended");
            }
            drop(place);
        });
    }
}

/// Errors of one connection that `accept` reports, and a shortage of descriptors.
fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(error.kind(), Kind::ConnectionAborted | Kind::ConnectionReset | Kind::Interrupted)
        || error.raw_os_error().is_some_and(|code| code == 24 || code == 23)
}

async fn answer(
    stream: TcpStream,
    address: &str,
    config: Arc<rustls::ServerConfig>,
    cluster: ClusterId,
    welcoming: Welcoming,
) -> Result<(), WireError> {
    // A socket that cannot be tuned is slower to notice a dead peer, and nothing else.
    let _ = socket::tune(&stream);
    let incoming = connect::accept(stream, address, config).await?;
    let admission = Admission::of_agents(cluster);
    let Welcoming { incarnation, desk, relay } = welcoming;
    if incoming.protocol() == Protocol::Relay {
        relay.carry(incoming.into_tunnel(&admission)?).await;
        return Ok(());
    }
    if incoming.protocol() == Protocol::Data {
        let stream = incoming.into_data(&admission)?;
        let handle = tokio::runtime::Handle::current();
        // It ends when the stream is handed over, or refused.
        let _ = tokio::task::spawn_blocking(move || desk.receive(stream, &handle)).await;
        return Ok(());
    }
    let knock = incoming.knock().await?;
    let established = knock.admit::<PeerMessage, PeerMessage>(&admission, clock::wall(), |_| Ok(())).await?;
    let mut connection = established.connection;
    while let Ok(Some(PeerMessage::Ping { number })) = connection.recv().await {
        if connection.send(&PeerMessage::Pong { number, incarnation }).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// The connection to one peer, if there is one; its lock is held for one ping.
type Link = Arc<Mutex<Option<Kept>>>;

/// Pings peers over connections that are kept between pings.
#[derive(Clone)]
pub(crate) struct Pinger {
    live: Arc<LiveCertificate>,
    anchor: Arc<TrustAnchor>,
    links: Arc<Mutex<HashMap<AgentName, Link>>>,
}

struct Kept {
    address: String,
    connection: PeerConnection,
    pings: u64,
}

impl std::fmt::Debug for Pinger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pinger")
    }
}

/// Why a ping had no answer.
enum Silence {
    Refused,
    Unreachable,
}

impl Pinger {
    pub(crate) fn new(live: Arc<LiveCertificate>, anchor: TrustAnchor) -> Self {
        Self { live, anchor: Arc::new(anchor), links: Arc::default() }
    }

    /// One round trip, or why there was none within the limit.
    pub(crate) async fn ping(&self, peer: &PeerAddress, limit: Duration) -> PeerReport {
        let started = Instant::now();
        let verdict = match tokio::time::timeout(limit, self.round_trip(peer)).await {
            Ok(Ok(incarnation)) => PeerVerdict::Reached { incarnation },
            Ok(Err(Silence::Refused)) => PeerVerdict::Refused,
            Ok(Err(Silence::Unreachable)) | Err(_) => PeerVerdict::Unreachable,
        };
        let took_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        PeerReport { peer: peer.agent.clone(), verdict, took_us, age_ms: 0 }
    }

    async fn round_trip(&self, peer: &PeerAddress) -> Result<Incarnation, Silence> {
        let link = Arc::clone(self.links.lock().await.entry(peer.agent.clone()).or_default());
        let mut link = link.lock().await;
        // Taken out while in use: a ping that is given up half way leaves no connection with an answer still to come.
        if let Some(mut kept) = link.take().filter(|kept| kept.address == peer.address)
            && let Some(incarnation) = kept.ping().await
        {
            *link = Some(kept);
            return Ok(incarnation);
        }
        let mut kept = self.dial(peer).await?;
        let incarnation = kept.ping().await.ok_or(Silence::Unreachable)?;
        *link = Some(kept);
        Ok(incarnation)
    }

    async fn dial(&self, peer: &PeerAddress) -> Result<Kept, Silence> {
        let config = tls::peer_client_config(Arc::clone(&self.live), &self.anchor, peer.agent.clone());
        let config = config.map_err(|_| Silence::Unreachable)?;
        match connect::connect::<PeerMessage, PeerMessage>(&peer.address, config, clock::wall).await {
            Ok(established) => Ok(Kept { address: peer.address.clone(), connection: established.connection, pings: 0 }),
            Err(WireError::Dial { source, .. }) if source.kind() == io::ErrorKind::ConnectionRefused => {
                Err(Silence::Refused)
            }
            Err(error) => {
                tracing::debug!(%error, peer = %peer.agent, "a peer is not reached");
                Err(Silence::Unreachable)
            }
        }
    }
}

impl Kept {
    async fn ping(&mut self) -> Option<Incarnation> {
        self.pings += 1;
        let number = self.pings;
        self.connection.send(&PeerMessage::Ping { number }).await.ok()?;
        match self.connection.recv().await {
            Ok(Some(PeerMessage::Pong { number: answered, incarnation })) if answered == number => Some(incarnation),
            _ => None,
        }
    }
}
