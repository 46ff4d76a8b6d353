//! A small installation for the tests: an authority, a server and agents with genuine identities, and links between them over
//! an in-memory stream. Nothing is mocked: the TLS, the certificates and the handshakes are the real ones.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::{ClientConfig, ServerConfig};
use serde::{Deserialize, Serialize};
use tanist_model::id::{AgentName, ClusterId};
use tanist_model::time::Timestamp;
use tanist_wire::ca::CertificateAuthority;
use tanist_wire::certificate::PeerIdentity;
use tanist_wire::connect::{self, Established, WireError};
use tanist_wire::handshake::{Admission, ClientPreamble};
use tanist_wire::identity::{Identity, PrivateKey};
use tanist_wire::refusal::Refusal;
use tanist_wire::tls::{self, LiveCertificate};
use tokio::io::DuplexStream;

pub const CLUSTER: ClusterId = ClusterId(0x7a);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Note {
    pub text: String,
}

pub fn note(text: &str) -> Note {
    Note { text: text.into() }
}

pub fn name(text: &str) -> AgentName {
    AgentName::new(text).unwrap()
}

pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    Timestamp(0).plus(since)
}

pub fn days(count: u64) -> Duration {
    Duration::from_hours(24) * u32::try_from(count).unwrap()
}

pub fn ago(duration: Duration) -> Timestamp {
    Timestamp(now().0 - i64::try_from(duration.as_micros()).unwrap())
}

pub fn authority() -> CertificateAuthority {
    CertificateAuthority::create(CLUSTER, now()).unwrap()
}

pub fn agent(authority: &CertificateAuthority, agent: &str) -> Identity {
    agent_since(authority, agent, now())
}

pub fn agent_since(authority: &CertificateAuthority, agent: &str, issued_at: Timestamp) -> Identity {
    let key = PrivateKey::generate().unwrap();
    let issued = authority.issue_agent(&key.certificate_request().unwrap(), &name(agent), issued_at).unwrap();
    Identity::new(key, issued.certificate_pem, authority.certificate_pem().to_owned()).unwrap()
}

pub fn server(authority: &CertificateAuthority) -> Identity {
    server_since(authority, now())
}

pub fn server_since(authority: &CertificateAuthority, issued_at: Timestamp) -> Identity {
    let key = PrivateKey::generate().unwrap();
    let issued = authority.issue_server(&key, &name("control"), &["localhost".into()], issued_at).unwrap();
    Identity::new(key, issued.certificate_pem, authority.certificate_pem().to_owned()).unwrap()
}

/// The configuration of the server's port.
pub fn serving(identity: &Identity) -> Arc<ServerConfig> {
    tls::server_config(LiveCertificate::new(identity), identity.anchor()).unwrap()
}

/// The configuration of an agent's port for peers.
pub fn listening(identity: &Identity) -> Arc<ServerConfig> {
    tls::peer_listener_config(LiveCertificate::new(identity), identity.anchor()).unwrap()
}

/// The configuration of an agent that dials the server.
pub fn dialling(identity: &Identity) -> Arc<ClientConfig> {
    tls::agent_client_config(LiveCertificate::new(identity), identity.anchor()).unwrap()
}

/// The configuration of an agent that dials a peer.
pub fn dialling_peer(identity: &Identity, peer: &str) -> Arc<ClientConfig> {
    tls::peer_client_config(LiveCertificate::new(identity), identity.anchor(), name(peer)).unwrap()
}

pub type Outcome = Result<Established<Note, Note>, WireError>;

/// What both sides saw.
pub struct Met {
    pub dialled: Outcome,
    pub accepted: Outcome,
}

impl Met {
    /// The refusal, as both sides saw it.
    pub fn refusal(self) -> Refusal {
        let Err(WireError::Refused { refusal: told, .. }) = self.dialled else { panic!("{:?}", self.dialled) };
        let Err(WireError::TurnedAway { refusal: recorded, .. }) = self.accepted else { panic!("{:?}", self.accepted) };
        assert_eq!(told, recorded);
        assert!(!told.hint.is_empty());
        told
    }
}

/// Two ends of a stream.
pub fn stream() -> (DuplexStream, DuplexStream) {
    tokio::io::duplex(64 << 10)
}

pub async fn meet(client: Arc<ClientConfig>, server: Arc<ServerConfig>) -> Met {
    meet_saying(client, server, ClientPreamble::new(now()), |_| Ok(())).await
}

pub async fn meet_saying(
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    preamble: ClientPreamble,
    welcome: impl FnOnce(&PeerIdentity) -> Result<(), Refusal>,
) -> Met {
    let (near, far) = stream();
    let dialled = async {
        let stream = connect::secure(near, "server", client).await?;
        connect::greet(stream, "server", &preamble).await
    };
    let accepted = async {
        let knock = connect::accept(far, "client", server).await?.knock().await?;
        knock.admit(&Admission::of_agents(CLUSTER), now(), welcome).await
    };
    let (dialled, accepted) = tokio::join!(dialled, accepted);
    Met { dialled, accepted }
}
