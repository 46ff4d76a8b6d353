//! A connection to the server that a peer carries. Between the agent and its peer there is a TLS stream of the two; inside of it the
//! agent and the server speak exactly what they would speak directly, with a TLS of their own from end to end. So the peer sees
//! lengths and times and nothing else: it can delay and cut, and it can neither read nor forge, in either direction.

use std::fmt;
use std::sync::Arc;

use rustls::ClientConfig;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tanist_model::id::AgentName;
use tanist_model::time::Timestamp;
use tokio_rustls::server;

use crate::certificate::PeerIdentity;
use crate::connect::{Established, Incoming, WireError, connect_tls, greet, secure};
use crate::handshake::{Admission, ClientPreamble};
use crate::refusal::Refusal;

/// Why there is no connection through a relay.
#[derive(Debug, thiserror::Error)]
pub enum CarriedError {
    /// The relay itself was not reached, or did not want to.
    #[error("through a relay: {0}")]
    Relay(WireError),
    /// The relay carried; what the server said, or that nothing came back.
    #[error("through the relay {relay}: {source}")]
    Server { relay: String, source: WireError },
}

impl CarriedError {
    /// What the operator can do.
    #[must_use]
    pub fn hint(&self) -> &str {
        match self {
            Self::Relay(source) | Self::Server { source, .. } => source.hint(),
        }
    }
}

/// Reaches the server through the peer at `relay`, with [`crate::tls::relay_client_config`] to the peer and
/// [`crate::tls::agent_client_config`] to the server.
///
/// # Errors
/// [`CarriedError`].
pub async fn connect<R, S>(
    relay: &str,
    to_relay: Arc<ClientConfig>,
    to_server: Arc<ClientConfig>,
    clock: impl FnOnce() -> Timestamp,
) -> Result<Established<R, S>, CarriedError>
where
    R: DeserializeOwned,
    S: Serialize,
{
    let failed = |source| CarriedError::Server { relay: relay.to_owned(), source };
    let tunnel = connect_tls(relay, to_relay).await.map_err(CarriedError::Relay)?;
    let stream = secure(tunnel, "the server", to_server).await.map_err(failed)?;
    greet(stream, "the server", &ClientPreamble::new(clock())).await.map_err(failed)
}

/// A peer that wants to be carried to the server.
pub struct Tunnel<T> {
    pub peer: AgentName,
    /// What it says to the server, and what the server says to it: opaque.
    pub stream: server::TlsStream<T>,
}

impl<T> fmt::Debug for Tunnel<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tunnel").field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl<T> Incoming<T> {
    /// The tunnel of [`crate::tls::Protocol::Relay`], if it is of an agent of this cluster. There are no words for a refusal here:
    /// the other side sees the connection end, and asks another peer.
    ///
    /// # Errors
    /// [`WireError::TurnedAway`].
    pub fn into_tunnel(self, admission: &Admission) -> Result<Tunnel<T>, WireError> {
        let Self { stream, address, peer, .. } = self;
        let agent = admission.identify(peer.as_ref()).map(PeerIdentity::agent);
        match agent.and_then(|agent| agent.cloned().ok_or_else(Refusal::no_certificate)) {
            Ok(peer) => Ok(Tunnel { peer, stream }),
            Err(refusal) => Err(WireError::TurnedAway { address, refusal }),
        }
    }
}
