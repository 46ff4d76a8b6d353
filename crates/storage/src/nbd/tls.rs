//! TLS towards a server of NBD ("TLS support"): the authorities that an operator names, and a certificate of this client if it has one.
//!
//! Whoever configured TLS never speaks without it: a server that does not offer it is refused, so that nobody in between can take it
//! away ("FORCEDTLS mode").

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};

/// What an operator says of TLS with a server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NbdTls {
    /// Certificates of the authorities that may vouch for the server, in PEM.
    pub authorities: PathBuf,
    /// The certificate that this client shows and its key, in PEM, if the server asks for one.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The name in the server's certificate, if it is not the host that is dialled.
    pub server_name: Option<String>,
}

/// Why TLS cannot be had from what is configured, in words.
type Why = String;

impl NbdTls {
    /// A connection, before its handshake. The files are read now: a renewed certificate counts from the next connection on.
    pub(super) fn begin(&self, host: Option<&str>) -> Result<ClientConnection, Why> {
        let name = self.server_name.as_deref().or(host);
        let name = name.ok_or("tls needs server_name: a socket has no host whose name the certificate could bear")?;
        let name =
            ServerName::try_from(name.to_owned()).map_err(|_| format!("\"{name}\" cannot stand in a certificate"))?;
        ClientConnection::new(Arc::new(self.config()?), name).map_err(|error| error.to_string())
    }

    fn config(&self) -> Result<ClientConfig, Why> {
        let mut roots = RootCertStore::empty();
        let (added, _) = roots.add_parsable_certificates(certificates(&self.authorities)?);
        if added == 0 {
            return Err(format!("{} holds no authority's certificate", self.authorities.display()));
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
        let builder = builder.with_root_certificates(roots);
        let Some((certificate, key)) = &self.identity else { return Ok(builder.with_no_client_auth()) };
        let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| format!("read {}: {error}", key.display()))?;
        let shown = builder.with_client_auth_cert(certificates(certificate)?, secret);
        shown.map_err(|error| format!("{} with {}: {error}", certificate.display(), key.display()))
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Why> {
    let unread = |error| format!("read {}: {error}", path.display());
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(unread)?.collect();
    match found.map_err(unread)? {
        found if found.is_empty() => Err(format!("{} holds no certificate", path.display())),
        found => Ok(found),
    }
}
