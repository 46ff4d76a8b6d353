//! Carrying peers to the server: an opaque tunnel from a peer that does not reach the server to the server that this agent reaches.
//!
//! Everything is bounded: the tunnels, those of one peer, the bytes under way, the time without a byte. What passes is the peer's
//! own TLS with the server; nothing of it can be read or changed here.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tanist_model::id::AgentName;
use tanist_wire::relay::Tunnel;
use tanist_wire::socket;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::watch::Targets;

/// Tunnels at once: as many peers as two hierarchies have.
const TUNNELS: usize = 32;
/// Of one peer: the one in use, one that takes its place, and one whose end is not seen yet.
const TUNNELS_OF_ONE: usize = 3;
/// The server answers within this time, or the peer asks somebody else.
const DIAL_LIMIT: Duration = Duration::from_secs(2);
/// Agents beat every five seconds at least, and every beat is answered: a tunnel without a byte for so long carries nobody.
const SILENCE: Duration = Duration::from_secs(30);
/// The longest that one side may take nothing of what the other has said.
const SEND_LIMIT: Duration = Duration::from_secs(5);
/// Bytes under way, in each direction.
const BUFFER_BYTES: usize = 16 << 10;

/// What this agent carries; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Relay {
    server: Arc<str>,
    /// Only peers are carried: those that the server has assigned.
    peers: watch::Receiver<Targets>,
    carried: Arc<Mutex<HashMap<AgentName, usize>>>,
}

/// A place among the tunnels; given back when dropped.
#[derive(Debug)]
struct Place {
    peer: AgentName,
    carried: Arc<Mutex<HashMap<AgentName, usize>>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut carried = self.carried.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = carried.get_mut(&self.peer) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                carried.remove(&self.peer);
            }
        }
    }
}

impl Relay {
    pub(crate) fn new(server: &str, peers: watch::Receiver<Targets>) -> Self {
        Self { server: server.into(), peers, carried: Arc::default() }
    }

    /// Carries one connection of a peer until either side ends it, or refuses it by ending it.
    pub(crate) async fn carry<T>(&self, tunnel: Tunnel<T>)
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let peer = tunnel.peer.clone();
        let place = match self.place_for(&peer) {
            Ok(place) => place,
            Err(reason) => return tracing::warn!(%peer, reason, "a peer is not carried to the server"),
        };
        let server = match timeout(DIAL_LIMIT, socket::dial(&self.server)).await {
            Ok(Ok(server)) => server,
            Ok(Err(error)) => {
                return tracing::info!(%peer, %error, "a peer cannot be carried: the server is not reached");
            }
            Err(_) => return tracing::info!(%peer, "a peer cannot be carried: the server does not answer here either"),
        };
        tracing::info!(%peer, "a peer is carried to the server");
        let ended = splice(tunnel.stream, server).await;
        let reason = ended.map_or_else(|error| error.to_string(), |()| "it was closed".to_owned());
        tracing::info!(%peer, reason, "a peer is no longer carried on this connection");
        drop(place);
    }

    fn place_for(&self, peer: &AgentName) -> Result<Place, &'static str> {
        if !self.peers.borrow().peers.iter().any(|known| known.agent == *peer) {
            return Err("it stands in no hierarchy with this agent");
        }
        let mut carried = self.carried.lock().unwrap_or_else(PoisonError::into_inner);
        if carried.values().sum::<usize>() >= TUNNELS {
            return Err("as many tunnels as there may be are open");
        }
        let own = carried.entry(peer.clone()).or_default();
        if *own >= TUNNELS_OF_ONE {
            return Err("it has as many tunnels as one peer may have");
        }
        *own += 1;
        Ok(Place { peer: peer.clone(), carried: Arc::clone(&self.carried) })
    }
}

/// Carries bytes both ways until both directions are closed in order, or one of them fails.
async fn splice<T: AsyncRead + AsyncWrite>(peer: T, server: TcpStream) -> io::Result<()> {
    let (from_peer, to_peer) = tokio::io::split(peer);
    let (from_server, to_server) = server.into_split();
    tokio::try_join!(pass(from_peer, to_server), pass(from_server, to_peer)).map(|_| ())
}

/// One direction.
async fn pass(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
    let late = |what| move |_| io::Error::new(io::ErrorKind::TimedOut, what);
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let read =
            timeout(SILENCE, from.read(&mut buffer)).await.map_err(late("it carried nothing for too long"))??;
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else {
            return to.shutdown().await;
        };
        let sent = async {
            to.write_all(bytes).await?;
            to.flush().await
        };
        timeout(SEND_LIMIT, sent).await.map_err(late("one side does not read what the other says"))??;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tanist_protocol::message::PeerAddress;
    use tokio::net::TcpListener;

    fn agent(name: &str) -> AgentName {
        AgentName::new(name).unwrap()
    }

    fn relay(peers: &[&str]) -> Relay {
        let peers = peers.iter().map(|name| PeerAddress { agent: agent(name), address: String::new() }).collect();
        Relay::new("127.0.0.1:1", watch::channel(Targets { peers, volumes: Vec::new() }).1)
    }

    #[test]
    fn only_peers_are_carried_and_each_only_so_often() {
        let relay = relay(&["b"]);
        assert!(relay.place_for(&agent("stranger")).is_err());
        let places: Vec<Place> = (0..TUNNELS_OF_ONE).map(|_| relay.place_for(&agent("b")).unwrap()).collect();
        assert!(relay.place_for(&agent("b")).is_err());
        drop(places);
        assert!(relay.place_for(&agent("b")).is_ok());
        assert!(relay.carried.lock().unwrap().is_empty(), "nothing is kept of who is gone");
    }

    #[test]
    fn there_is_an_end_to_tunnels() {
        let names: Vec<String> = (0..=TUNNELS).map(|number| format!("a{number}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let relay = relay(&names);
        let places: Vec<_> = names.iter().map(|name| relay.place_for(&agent(name))).collect();
        assert_eq!(places.iter().filter(|place| place.is_err()).count(), 1);
    }

    #[tokio::test]
    async fn bytes_pass_both_ways_and_ends_are_passed_on() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (server, accepted) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        let (mut peer, carried) = tokio::io::duplex(64);
        let splicing = tokio::spawn(splice(carried, server.unwrap()));
        let (mut far, _) = accepted.unwrap();
        let mut heard = [0; 5];
        peer.write_all(b"hello").await.unwrap();
        far.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"hello");
        far.write_all(b"again").await.unwrap();
        peer.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"again");
        drop(peer);
        assert_eq!(far.read(&mut heard).await.unwrap(), 0);
        drop(far);
        splicing.await.unwrap().unwrap();
    }
}
