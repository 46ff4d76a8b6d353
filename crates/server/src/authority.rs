//! The authority at work: it signs what agents ask for, and keeps the server's own certificate young.

use std::sync::Arc;

use tanist_model::id::AgentName;
use tanist_protocol::server::command::IssuedCertificate;
use tanist_wire::ca::{CaError, CertificateAuthority};
use tanist_wire::identity::{Identity, PrivateKey};
use tanist_wire::tls::{self, LiveCertificate};

use crate::config::{Layout, ServerConfig};
use crate::{ServerError, clock};

/// The server's name in its certificate.
const SERVER_NAME: &str = "server";

/// Certificate authority and server identity of a running server.
#[derive(Debug)]
pub struct Authority {
    ca: CertificateAuthority,
    live: Arc<LiveCertificate>,
    layout: Layout,
    config: ServerConfig,
}

impl Authority {
    /// # Errors
    /// [`ServerError::Authority`], [`ServerError::Identity`].
    pub fn load(layout: &Layout, config: &ServerConfig) -> Result<Self, ServerError> {
        let ca = CertificateAuthority::load(&layout.authority())?;
        let live = LiveCertificate::new(&Identity::load(&layout.identity())?);
        let authority = Self { ca, live, layout: layout.clone(), config: config.clone() };
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

    /// Replaces the server's own certificate from two thirds of its life on; connections that stand are not touched.
    ///
    /// # Errors
    /// [`ServerError`]; the old certificate stays in use then.
    pub fn renew_if_due(&self) -> Result<(), ServerError> {
        if !Identity::load(&self.layout.identity())?.renew_due(clock::wall()) {
            return Ok(());
        }
        let identity = issue_identity(&self.ca, &self.config)?;
        identity.save(&self.layout.identity())?;
        self.live.replace(&identity);
        tracing::info!(expires_at = %identity.holder().not_after, "the server's certificate was renewed");
        Ok(())
    }
}

/// A new key and certificate for the server.
///
/// # Errors
/// [`ServerError::Authority`] if a host of the configuration is neither a name nor an address.
pub fn issue_identity(ca: &CertificateAuthority, config: &ServerConfig) -> Result<Identity, ServerError> {
    let key = PrivateKey::generate()?;
    let name = AgentName::new(SERVER_NAME)?;
    let issued = ca.issue_server(&key, &name, &config.hosts(), clock::wall())?;
    Ok(Identity::new(key, issued.certificate_pem, ca.certificate_pem().to_owned())?)
}
