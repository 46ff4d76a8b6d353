//! The TLS configurations: 1.3 only, one authority, no session tickets. Which of the protocols on a port is meant is told by
//! ALPN (RFC 7301), so that the server needs one port for control and for the API.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::client::ResolvesClientCert;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{ClientHello, ResolvesServerCert, VerifierBuilderError, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{ClientConfig, ConfigBuilder, ServerConfig, SignatureScheme, WantsVerifier};
use tanist_model::id::AgentName;

use crate::certificate::{CaHash, Expected, TrustAnchor};
use crate::identity::Identity;
use crate::verify::{IdentityVerifier, Trust, roots};

/// What a connection carries, as ALPN names it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Protocol {
    /// An agent's control connection to the server. Certificate required.
    Control,
    /// The HTTPS API. Bearer credential instead of a certificate; also whatever names no protocol.
    Http,
    /// A connection between agents. Certificates on both sides.
    Peer,
    /// A stream of blocks between agents, on the same port ([`crate::stream`]). Certificates on both sides.
    Data,
    /// A connection to the server that a peer carries, on the same port ([`crate::relay`]). Certificates on both sides.
    Relay,
}

impl Protocol {
    #[must_use]
    pub fn alpn(self) -> &'static [u8] {
        match self {
            Self::Control => b"tanist/1",
            Self::Http => b"http/1.1",
            Self::Peer => b"tanist-peer/1",
            Self::Data => b"tanist-data/1",
            Self::Relay => b"tanist-relay/1",
        }
    }

    /// The protocol agreed on in a handshake; without any it is HTTP, whose older clients know no ALPN.
    #[must_use]
    pub fn from_alpn(alpn: Option<&[u8]>) -> Option<Self> {
        let Some(alpn) = alpn else { return Some(Self::Http) };
        [Self::Control, Self::Http, Self::Peer, Self::Data, Self::Relay].into_iter().find(|p| p.alpn() == alpn)
    }
}

/// A configuration could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("set up TLS: {0}")]
    Tls(#[from] rustls::Error),
    #[error("set up the verification of certificates: {0}")]
    Verifier(#[from] VerifierBuilderError),
}

impl ConfigError {
    /// What the operator can do.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        "ca.pem is not usable as an authority: restore it, or join again with a new token"
    }
}

/// The identity that every configuration made from it shows, so that a renewal takes effect in all of them without a restart.
pub struct LiveCertificate(RwLock<Arc<CertifiedKey>>);

impl fmt::Debug for LiveCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LiveCertificate(..)")
    }
}

impl LiveCertificate {
    #[must_use]
    pub fn new(identity: &Identity) -> Arc<Self> {
        Arc::new(Self(RwLock::new(identity.certified())))
    }

    /// Shows this identity from the next handshake on; connections that stand are not touched.
    pub fn replace(&self, identity: &Identity) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = identity.certified();
    }

    fn current(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ResolvesServerCert for LiveCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}

impl ResolvesClientCert for LiveCertificate {
    fn resolve(&self, _authorities: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// The server's one port: control and HTTPS. A certificate is optional here and required by the control handshake, which can say
/// why it refuses; one that is shown has to be of our authority.
///
/// # Errors
/// [`ConfigError`].
pub fn server_config(live: Arc<LiveCertificate>, anchor: &TrustAnchor) -> Result<Arc<ServerConfig>, ConfigError> {
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(anchor)?), provider());
    let builder = server_builder()?.with_client_cert_verifier(verifier.allow_unauthenticated().build()?);
    Ok(finish_server(builder.with_cert_resolver(live), &[Protocol::Control, Protocol::Http]))
}

/// An agent's port for its peers, their pings, their data and their way to the server: a certificate of our authority is required.
///
/// # Errors
/// [`ConfigError`].
pub fn peer_listener_config(
    live: Arc<LiveCertificate>,
    anchor: &TrustAnchor,
) -> Result<Arc<ServerConfig>, ConfigError> {
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(anchor)?), provider());
    let builder = server_builder()?.with_client_cert_verifier(verifier.build()?);
    Ok(finish_server(builder.with_cert_resolver(live), &[Protocol::Peer, Protocol::Data, Protocol::Relay]))
}

/// An agent that dials its server.
///
/// # Errors
/// [`ConfigError`].
pub fn agent_client_config(live: Arc<LiveCertificate>, anchor: &TrustAnchor) -> Result<Arc<ClientConfig>, ConfigError> {
    identified_client(live, anchor, Expected::Server, Protocol::Control)
}

/// An agent that dials one certain peer; any other agent at that address is refused.
///
/// # Errors
/// [`ConfigError`].
pub fn peer_client_config(
    live: Arc<LiveCertificate>,
    anchor: &TrustAnchor,
    peer: AgentName,
) -> Result<Arc<ClientConfig>, ConfigError> {
    identified_client(live, anchor, Expected::Agent(peer), Protocol::Peer)
}

/// An agent that dials one certain peer for a data stream ([`crate::stream::dial`]).
///
/// # Errors
/// [`ConfigError`].
pub fn data_client_config(
    live: Arc<LiveCertificate>,
    anchor: &TrustAnchor,
    peer: AgentName,
) -> Result<Arc<ClientConfig>, ConfigError> {
    identified_client(live, anchor, Expected::Agent(peer), Protocol::Data)
}

/// An agent that wants one certain peer to carry it to the server ([`crate::relay::connect`]).
///
/// # Errors
/// [`ConfigError`].
pub fn relay_client_config(
    live: Arc<LiveCertificate>,
    anchor: &TrustAnchor,
    peer: AgentName,
) -> Result<Arc<ClientConfig>, ConfigError> {
    identified_client(live, anchor, Expected::Agent(peer), Protocol::Relay)
}

/// A client of the API that knows the authority.
///
/// # Errors
/// [`ConfigError`].
pub fn api_client_config(anchor: &TrustAnchor) -> Result<Arc<ClientConfig>, ConfigError> {
    anonymous_client(Trust::Known(anchor.clone()))
}

/// A client of the API that knows the authority's hash only: `agent join` and `login`.
///
/// # Errors
/// [`ConfigError`].
pub fn pinned_client_config(ca_hash: CaHash) -> Result<Arc<ClientConfig>, ConfigError> {
    anonymous_client(Trust::Pinned(ca_hash))
}

/// The cryptography in use: aws-lc, AES-128-GCM first, since it is the fastest that is strong enough.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    use aws_lc_rs::cipher_suite::{TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256};
    let cipher_suites = vec![TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256];
    Arc::new(CryptoProvider { cipher_suites, ..aws_lc_rs::default_provider() })
}

fn server_builder() -> Result<ConfigBuilder<ServerConfig, WantsVerifier>, ConfigError> {
    Ok(ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13])?)
}

fn finish_server(mut config: ServerConfig, protocols: &[Protocol]) -> Arc<ServerConfig> {
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.alpn().to_vec()).collect();
    // A ticket that the client has not read when it closes turns the close into a reset, and the last message is lost.
    config.send_tls13_tickets = 0;
    config.ignore_client_order = true;
    Arc::new(config)
}

fn client_builder(
    trust: Trust,
    expected: Expected,
) -> Result<ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>, ConfigError> {
    let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13])?;
    Ok(builder.dangerous().with_custom_certificate_verifier(IdentityVerifier::new(trust, expected)))
}

fn identified_client(
    live: Arc<LiveCertificate>,
    anchor: &TrustAnchor,
    expected: Expected,
    protocol: Protocol,
) -> Result<Arc<ClientConfig>, ConfigError> {
    let builder = client_builder(Trust::Known(anchor.clone()), expected)?;
    Ok(finish_client(builder.with_client_cert_resolver(live), protocol))
}

fn anonymous_client(trust: Trust) -> Result<Arc<ClientConfig>, ConfigError> {
    Ok(finish_client(client_builder(trust, Expected::Server)?.with_no_client_auth(), Protocol::Http))
}

fn finish_client(mut config: ClientConfig, protocol: Protocol) -> Arc<ClientConfig> {
    config.alpn_protocols = vec![protocol.alpn().to_vec()];
    config.enable_sni = false;
    Arc::new(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_are_known_by_their_alpn() {
        for protocol in [Protocol::Control, Protocol::Http, Protocol::Peer, Protocol::Data, Protocol::Relay] {
            assert_eq!(Protocol::from_alpn(Some(protocol.alpn())), Some(protocol));
        }
        assert_eq!(Protocol::from_alpn(None), Some(Protocol::Http));
        assert_eq!(Protocol::from_alpn(Some(b"h2")), None);
    }
}
