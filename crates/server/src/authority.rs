//! The authority at work: it signs what agents ask for, and keeps the server's own certificate young.

use std::sync::{Arc, Mutex, PoisonError};

use tanist_model::id::AgentName;
use tanist_protocol::message::{ReadOrder, ServerMessage};
use tanist_protocol::server::command::IssuedCertificate;
use tanist_wire::ca::{CaError, CertificateAuthority};
use tanist_wire::file::FileError;
use tanist_wire::grant::{self, StreamGrant};
use tanist_wire::identity::{Identity, IdentityError, PrivateKey};
use tanist_wire::tls::{self, LiveCertificate};

use crate::config::{Layout, ServerConfig};
use crate::{ServerError, clock};

/// The server's name in its certificate.
const SERVER_NAME: &str = "server";

/// Certificate authority and server identity of a running server.
#[derive(Debug)]
pub struct Authority {
    ca: CertificateAuthority,
    identity: Mutex<Identity>,
    live: Arc<LiveCertificate>,
    layout: Layout,
    config: ServerConfig,
}

impl Authority {
    /// # Errors
    /// [`ServerError::Authority`], [`ServerError::Identity`].
    pub fn load(layout: &Layout, config: &ServerConfig) -> Result<Self, ServerError> {
        let ca = of_this_build(CertificateAuthority::load(&layout.authority())?);
        let identity = load_or_make(&ca, layout, config)?;
        let live = LiveCertificate::new(&identity);
        let authority =
            Self { ca, identity: Mutex::new(identity), live, layout: layout.clone(), config: config.clone() };
        authority.renew_if_due()?;
        Ok(authority)
    }

    /// # Errors
    /// [`ServerError::Tls`].
    pub fn tls(&self) -> Result<Arc<rustls::ServerConfig>, ServerError> {
        Ok(tls::server_config(Arc::clone(&self.live), self.ca.anchor())?)
    }

    #[must_use]
    pub fn ca(&self) -> &CertificateAuthority {
        &self.ca
    }

    /// # Errors
    /// [`CaError`] if the request is not one for a key that may be signed.
    pub fn issue_agent(&self, csr_pem: &str, agent: &AgentName) -> Result<IssuedCertificate, CaError> {
        let issued = self.ca.issue_agent(csr_pem, agent, clock::wall())?;
        Ok(IssuedCertificate { serial: issued.serial_hex, expires_at: issued.not_after, pem: issued.certificate_pem })
    }

    /// Puts the signed permission into an order to send. Nothing else that the machine says needs a key.
    pub fn sign(&self, reader: &AgentName, message: &mut ServerMessage) {
        let ServerMessage::Read { stamp, order, .. } = message else { return };
        let ReadOrder::Send { run, holder, stream, grant, .. } = &mut **order else { return };
        let permission = StreamGrant {
            cluster: self.ca.cluster(),
            replication: stamp.replication,
            run: *run,
            epochs: stream.epochs,
            generation: stream.generation,
            reader: reader.clone(),
            holder: holder.agent.clone(),
            issued_at: clock::wall(),
        };
        match grant::seal(&self.ca, &permission) {
            Ok(sealed) => *grant = hex::encode(sealed),
            // Without it the holder refuses the streams and says so.
            Err(error) => tracing::error!(%error, "a stream grant cannot be signed"),
        }
    }

    /// Replaces the server's own certificate from two thirds of its life on; connections that stand are not touched. The key
    /// stays: two files cannot be replaced at once, and a crash between them would leave a server that does not start.
    ///
    /// # Errors
    /// [`ServerError`]; the old certificate stays in use then.
    pub fn renew_if_due(&self) -> Result<(), ServerError> {
        let mut identity = self.identity.lock().unwrap_or_else(PoisonError::into_inner);
        let now = clock::wall();
        if !identity.renew_due(now) {
            return Ok(());
        }
        let certificate_pem = certify(&self.ca, &self.config, identity.key())?;
        let renewed = identity.renewed(certificate_pem, now)?;
        renewed.save_certificate(&self.layout.identity())?;
        self.live.replace(&renewed);
        tracing::info!(expires_at = %renewed.holder().not_after, "the server's certificate was renewed");
        *identity = renewed;
        Ok(())
    }
}

/// Who has the authority can certify itself: a server's own identity that is lost or mixed up is made anew, and nobody has to be
/// told, because everybody knows the server by its authority. A key that others can read is for the operator to judge.
fn load_or_make(ca: &CertificateAuthority, layout: &Layout, config: &ServerConfig) -> Result<Identity, ServerError> {
    match Identity::load(&layout.identity()) {
        Ok(identity) if identity.anchor() == ca.anchor() => Ok(identity),
        Ok(_) => make_identity(ca, layout, config, "it is of another authority"),
        Err(error @ IdentityError::File(FileError::Exposed { .. })) => Err(error.into()),
        Err(error) => make_identity(ca, layout, config, &error.to_string()),
    }
}

fn make_identity(
    ca: &CertificateAuthority,
    layout: &Layout,
    config: &ServerConfig,
    reason: &str,
) -> Result<Identity, ServerError> {
    tracing::warn!(reason, "the server's own identity is not usable and is made anew");
    let identity = issue_identity(ca, config)?;
    identity.save(&layout.identity())?;
    Ok(identity)
}

/// A new key and certificate for the server.
///
/// # Errors
/// [`ServerError::Authority`] if a host of the configuration is neither a name nor an address.
pub fn issue_identity(ca: &CertificateAuthority, config: &ServerConfig) -> Result<Identity, ServerError> {
    let key = PrivateKey::generate()?;
    let certificate_pem = certify(ca, config, &key)?;
    Ok(Identity::new(key, certificate_pem, ca.certificate_pem().to_owned())?)
}

fn certify(ca: &CertificateAuthority, config: &ServerConfig, key: &PrivateKey) -> Result<String, ServerError> {
    let name = AgentName::new(SERVER_NAME)?;
    Ok(ca.issue_server(key, &name, &config.hosts(), clock::wall())?.certificate_pem)
}

/// Test builds can let certificates live for seconds; otherwise no test would see one being renewed.
#[cfg(feature = "mutations")]
pub fn of_this_build(ca: CertificateAuthority) -> CertificateAuthority {
    const TEST_LIFETIME: &str = "TANIST_TEST_CERTIFICATE_SECONDS";
    let seconds = std::env::var(TEST_LIFETIME).ok().and_then(|text| text.parse().ok());
    let Some(seconds) = seconds else { return ca };
    tracing::warn!(seconds, "{TEST_LIFETIME} is set: certificates live for seconds; for tests only");
    ca.with_lifetime(std::time::Duration::from_secs(seconds))
}

#[cfg(not(feature = "mutations"))]
pub fn of_this_build(ca: CertificateAuthority) -> CertificateAuthority {
    ca
}
