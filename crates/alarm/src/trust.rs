//! Whom a sink trusts: the system's certificate authorities, or those of a file.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::DeliveryError;

/// The certificates of the authorities.
pub fn authorities(file: Option<&Path>) -> Result<Vec<CertificateDer<'static>>, DeliveryError> {
    let wrong = DeliveryError::Trust;
    let Some(file) = file else {
        let found = rustls_native_certs::load_native_certs();
        return match found.certs.is_empty() {
            true => Err(wrong(
                "this host has no certificates of authorities (ca-certificates); or name a ca_file".to_owned(),
            )),
            false => Ok(found.certs),
        };
    };
    let unread = |error| wrong(format!("{}: {error}", file.display()));
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file).map_err(unread)?.collect();
    match found.map_err(unread)? {
        found if found.is_empty() => Err(wrong(format!("{} holds no certificate", file.display()))),
        found => Ok(found),
    }
}

/// TLS that trusts them.
pub fn client_config(file: Option<&Path>) -> Result<ClientConfig, DeliveryError> {
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(authorities(file)?);
    if added == 0 {
        return Err(DeliveryError::Trust("none of the certificates is an authority's".to_owned()));
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(|e| DeliveryError::Trust(e.to_string()))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
