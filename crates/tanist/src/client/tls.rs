//! How a server is recognised: by the certificate authority in the context, or, before there is one, by the authority's hash that
//! an operator copied from `tanist server init`.

use rustls::ClientConfig;
use tanist_model::api::{Refusal, RefusalCode};
use tanist_wire::certificate::{CaHash, CertificateProblem, TrustAnchor};
use tanist_wire::connect::{WireError, connect_tls};
use tanist_wire::tls::{ConfigError, api_client_config, pinned_client_config};

/// Why a server cannot be recognised.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    #[error("the certificate authority is not usable")]
    Authority(#[from] CertificateProblem),
    #[error("cannot set up TLS")]
    Config(#[from] ConfigError),
    #[error("the server was not recognised")]
    Wire(#[from] WireError),
    /// The verifier found it and the connection no longer shows it.
    #[error("the server at {server} does not show its certificate authority")]
    Hidden { server: String },
}

impl TrustError {
    /// Error, cause and hint.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        let refusal = Refusal::new(RefusalCode::Unauthorized, self.to_string());
        match self {
            Self::Authority(problem) => refusal.cause(problem.to_string()),
            Self::Config(error) => refusal.cause(error.to_string()).hint(error.hint()),
            Self::Wire(error) if error.retry_helps() => {
                Refusal::new(RefusalCode::Unavailable, "the server does not answer")
                    .cause(error.to_string())
                    .hint("see that the server runs and that this host reaches it")
            }
            Self::Wire(error) => refusal.cause(error.to_string()).hint(error.hint()),
            Self::Hidden { .. } => refusal.hint("see that the address is a tanist server"),
        }
    }
}

/// Trusts the servers of this authority, and nobody else.
///
/// # Errors
/// [`TrustError`] if the text is not an authority's certificate.
pub fn trusting(ca_pem: &str) -> Result<ClientConfig, TrustError> {
    let anchor = TrustAnchor::from_pem(ca_pem)?;
    Ok((*api_client_config(&anchor)?).clone())
}

/// Asks a server for the certificate of its authority, which must have this hash. The answer is PEM.
///
/// # Errors
/// [`TrustError`] if the server does not answer or is another one.
pub async fn fetch_authority(server: &str, hash: CaHash) -> Result<String, TrustError> {
    let stream = connect_tls(server, pinned_client_config(hash)?).await?;
    let (_, connection) = stream.get_ref();
    let chain = connection.peer_certificates().unwrap_or_default();
    let authority = chain.iter().find(|certificate| CaHash::of(certificate) == hash);
    let der = authority.ok_or_else(|| TrustError::Hidden { server: server.to_owned() })?;
    Ok(pem::encode(&pem::Pem::new("CERTIFICATE", der.as_ref())))
}
