//! Whether the other end of a connection we dial is who we mean. The usual rule (the certificate names the host dialled) is
//! replaced by a stricter one: issued by our authority alone, of our cluster, in the expected role. So addresses may change
//! freely, and a genuine agent cannot pass for the server.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::{DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::certificate::{CaHash, Expected, PeerIdentity, TrustAnchor};
use crate::tls::provider;
use crate::tls_failure::TlsFailure;

/// How the authority is known.
#[derive(Debug, Clone)]
pub(crate) enum Trust {
    Known(TrustAnchor),
    /// By its hash alone: the server shows the certificate, and it has to match.
    Pinned(CaHash),
}

impl Trust {
    fn anchor(&self, shown: &[CertificateDer<'_>]) -> Result<TrustAnchor, TlsFailure> {
        match self {
            Self::Known(anchor) => Ok(anchor.clone()),
            Self::Pinned(hash) => {
                let pinned = shown.iter().find(|der| CaHash::of(der) == *hash);
                let der = pinned.ok_or(TlsFailure::Pin { expected: *hash })?;
                Ok(TrustAnchor::from_der(der.clone().into_owned())?)
            }
        }
    }
}

/// Verifies chain, validity, cluster and role of whoever answers.
#[derive(Debug)]
pub(crate) struct IdentityVerifier {
    trust: Trust,
    expected: Expected,
    algorithms: WebPkiSupportedAlgorithms,
}

impl IdentityVerifier {
    pub(crate) fn new(trust: Trust, expected: Expected) -> Arc<Self> {
        Arc::new(Self { trust, expected, algorithms: provider().signature_verification_algorithms })
    }
}

impl ServerCertVerifier for IdentityVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _dialled: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let anchor = self.trust.anchor(intermediates)?;
        let certificate = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(
            &certificate,
            &roots(&anchor)?,
            intermediates,
            now,
            self.algorithms.all,
        )?;
        let holder = PeerIdentity::from_der(end_entity).map_err(TlsFailure::from)?;
        self.expected.check(anchor.cluster(), &holder).map_err(TlsFailure::from)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is never offered here".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// A root store with one authority in it.
pub(crate) fn roots(anchor: &TrustAnchor) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    roots.add(anchor.der().clone())?;
    Ok(roots)
}
