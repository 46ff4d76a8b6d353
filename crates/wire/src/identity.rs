//! What a process is known by: a private key that never leaves its host, the certificate for it, and the authority it trusts.
//! A renewal keeps the key and replaces the certificate: one file, one rename, so that no crash separates the two.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair, PublicKeyData, SignatureAlgorithm, SigningKey};
use rustls::sign::CertifiedKey;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tanist_model::id::ClusterId;
use tanist_model::time::Timestamp;
use zeroize::Zeroizing;

use crate::certificate::{CertificateProblem, PeerIdentity, Role, TrustAnchor, der_of};
use crate::file::{self, FileError, Readers};
use crate::tls::provider;

const KEY_FILE: &str = "key.pem";
const CERTIFICATE_FILE: &str = "certificate.pem";
const AUTHORITY_FILE: &str = "ca.pem";

/// Why an identity cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("make or read the private key: {0}")]
    Key(#[from] rcgen::Error),
    #[error("read the certificate: {0}")]
    Certificate(CertificateProblem),
    #[error("read the authority's certificate: {0}")]
    Authority(CertificateProblem),
    #[error("the certificate is not for this private key: {0}")]
    ForeignKey(rustls::Error),
    #[error("the certificate is of cluster {certificate}, its authority of cluster {authority}")]
    Clusters { certificate: ClusterId, authority: ClusterId },
    #[error("the renewed certificate is {found}'s, and this is {own}")]
    OtherHolder { own: Role, found: Role },
    #[error("the renewed certificate is valid from {not_before} to {not_after}, and here it is {now}")]
    NotInForce { not_before: Timestamp, not_after: Timestamp, now: Timestamp },
    #[error(transparent)]
    File(#[from] FileError),
}

impl IdentityError {
    /// What the operator can do.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::File(error) => error.hint(),
            Self::OtherHolder { .. } => {
                "the present certificate is kept; look at the server: it signs for another name".to_owned()
            }
            Self::NotInForce { .. } => {
                "the present certificate is kept; compare this host's clock with the server's".to_owned()
            }
            Self::Key(_) | Self::Certificate(_) | Self::Authority(_) | Self::ForeignKey(_) | Self::Clusters { .. } => {
                format!(
                    "{KEY_FILE}, {CERTIFICATE_FILE} and {AUTHORITY_FILE} belong together; if one is lost or mixed up, join again \
                     with a new token"
                )
            }
        }
    }
}

/// An ECDSA P-256 key. Its text form is wiped from memory after use, and it is never shown.
pub struct PrivateKey(KeyPair);

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(..)")
    }
}

impl From<KeyPair> for PrivateKey {
    fn from(pair: KeyPair) -> Self {
        Self(pair)
    }
}

impl PublicKeyData for PrivateKey {
    fn der_bytes(&self) -> &[u8] {
        self.0.der_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.0.algorithm()
    }
}

impl SigningKey for PrivateKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.0.sign(message)
    }
}

impl PrivateKey {
    /// # Errors
    /// [`IdentityError::Key`].
    pub fn generate() -> Result<Self, IdentityError> {
        Ok(Self(KeyPair::generate()?))
    }

    /// # Errors
    /// [`IdentityError::Key`] if the text is not a PKCS #8 private key.
    pub fn from_pem(pem: &str) -> Result<Self, IdentityError> {
        Ok(Self(KeyPair::from_pem(pem)?))
    }

    #[must_use]
    pub fn to_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.0.serialize_pem())
    }

    /// A certificate request (RFC 2986, PEM). It names nobody: the authority decides the name.
    ///
    /// # Errors
    /// [`IdentityError::Key`].
    pub fn certificate_request(&self) -> Result<String, IdentityError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        Ok(params.serialize_request(&self.0)?.pem()?)
    }

    pub(crate) fn public_key_raw(&self) -> &[u8] {
        self.0.public_key_raw()
    }

    fn to_der(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.0.serialize_der()).into()
    }
}

/// Key, certificate and authority of one process.
#[derive(Debug)]
pub struct Identity {
    key: Arc<PrivateKey>,
    certificate_pem: String,
    authority_pem: String,
    anchor: TrustAnchor,
    holder: PeerIdentity,
    certified: Arc<CertifiedKey>,
}

impl Identity {
    /// # Errors
    /// [`IdentityError`] if the three parts do not belong together.
    pub fn new(key: PrivateKey, certificate_pem: String, authority_pem: String) -> Result<Self, IdentityError> {
        Self::of(Arc::new(key), certificate_pem, authority_pem)
    }

    fn of(key: Arc<PrivateKey>, certificate_pem: String, authority_pem: String) -> Result<Self, IdentityError> {
        let anchor = TrustAnchor::from_pem(&authority_pem).map_err(IdentityError::Authority)?;
        let certificate = der_of(&certificate_pem).map_err(IdentityError::Certificate)?;
        let holder = PeerIdentity::from_der(&certificate).map_err(IdentityError::Certificate)?;
        if holder.cluster != anchor.cluster() {
            return Err(IdentityError::Clusters { certificate: holder.cluster, authority: anchor.cluster() });
        }
        // The authority's certificate goes along, for clients that know only its hash.
        let chain = vec![certificate, anchor.der().clone()];
        let certified = CertifiedKey::from_der(chain, key.to_der(), &provider()).map_err(IdentityError::ForeignKey)?;
        Ok(Self { key, certificate_pem, authority_pem, anchor, holder, certified: Arc::new(certified) })
    }

    /// The same key with a new certificate, which has to be for the same holder and in force by this host's clock: one that is
    /// not would end every connection and lock this process out.
    ///
    /// # Errors
    /// [`IdentityError`]; the present identity is then the one to keep.
    pub fn renewed(&self, certificate_pem: String, now: Timestamp) -> Result<Self, IdentityError> {
        let renewed = Self::of(Arc::clone(&self.key), certificate_pem, self.authority_pem.clone())?;
        let PeerIdentity { role, not_before, not_after, .. } = &renewed.holder;
        if *role != self.holder.role {
            return Err(IdentityError::OtherHolder { own: self.holder.role.clone(), found: role.clone() });
        }
        if now < *not_before || *not_after <= now {
            return Err(IdentityError::NotInForce { not_before: *not_before, not_after: *not_after, now });
        }
        Ok(renewed)
    }

    /// Reads `key.pem`, `certificate.pem` and `ca.pem`.
    ///
    /// # Errors
    /// [`IdentityError`]; a key that others can read is refused.
    pub fn load(folder: &Path) -> Result<Self, IdentityError> {
        let key_pem = Zeroizing::new(file::read_private(&folder.join(KEY_FILE))?);
        let certificate_pem = file::read(&folder.join(CERTIFICATE_FILE))?;
        let authority_pem = file::read(&folder.join(AUTHORITY_FILE))?;
        Self::new(PrivateKey::from_pem(&key_pem)?, certificate_pem, authority_pem)
    }

    /// Writes the three files, the key with mode 0600. The certificate comes last: with it the identity is complete.
    ///
    /// # Errors
    /// [`IdentityError::File`].
    pub fn save(&self, folder: &Path) -> Result<(), IdentityError> {
        file::create_private_folder(folder)?;
        file::replace(&folder.join(KEY_FILE), self.key.to_pem().as_bytes(), Readers::Owner)?;
        file::replace(&folder.join(AUTHORITY_FILE), self.authority_pem.as_bytes(), Readers::Everyone)?;
        self.save_certificate(folder)
    }

    /// Writes the certificate alone, after a renewal: the other two files are what they were.
    ///
    /// # Errors
    /// [`IdentityError::File`]; the old certificate is untouched then.
    pub fn save_certificate(&self, folder: &Path) -> Result<(), IdentityError> {
        Ok(file::replace(&folder.join(CERTIFICATE_FILE), self.certificate_pem.as_bytes(), Readers::Everyone)?)
    }

    /// Who this process is.
    #[must_use]
    pub fn holder(&self) -> &PeerIdentity {
        &self.holder
    }

    #[must_use]
    pub fn anchor(&self) -> &TrustAnchor {
        &self.anchor
    }

    #[must_use]
    pub fn key(&self) -> &PrivateKey {
        &self.key
    }

    #[must_use]
    pub fn authority_pem(&self) -> &str {
        &self.authority_pem
    }

    /// True from two thirds of the certificate's lifetime on.
    #[must_use]
    pub fn renew_due(&self, now: Timestamp) -> bool {
        self.holder.renew_due(now)
    }

    pub(crate) fn certified(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.certified)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::time::Duration;

    use tanist_model::id::AgentName;

    use super::*;
    use crate::ca::CertificateAuthority;

    const NOW: Timestamp = Timestamp(1_795_342_800_000_000);

    fn authority() -> CertificateAuthority {
        CertificateAuthority::create(ClusterId(7), NOW).unwrap()
    }

    fn certificate(authority: &CertificateAuthority, key: &PrivateKey, now: Timestamp) -> String {
        let request = key.certificate_request().unwrap();
        authority.issue_agent(&request, &AgentName::new("h1").unwrap(), now).unwrap().certificate_pem
    }

    fn identity(authority: &CertificateAuthority) -> Identity {
        let key = PrivateKey::generate().unwrap();
        let certificate = certificate(authority, &key, NOW);
        Identity::new(key, certificate, authority.certificate_pem().to_owned()).unwrap()
    }

    #[test]
    fn an_identity_survives_its_folder_and_its_key_is_for_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("identity");
        let made = identity(&authority());
        made.save(&folder).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&folder.join(KEY_FILE))), (0o700, 0o600));
        assert_eq!(Identity::load(&folder).unwrap().holder(), made.holder());
    }

    #[test]
    fn a_renewal_keeps_the_key() {
        let authority = authority();
        let first = identity(&authority);
        let public_key = first.key().public_key_raw().to_vec();
        let later = NOW.plus(Duration::from_hours(24 * 61));
        assert!(!first.renew_due(NOW) && first.renew_due(later));
        let renewed_pem = certificate(&authority, first.key(), later);
        let second = first.renewed(renewed_pem, later).unwrap();
        assert_eq!(second.key().public_key_raw(), public_key);
        assert!(!second.renew_due(later));
    }

    #[test]
    fn a_renewal_touches_no_file_but_the_certificate() {
        let (authority, folder) = (authority(), tempfile::tempdir().unwrap());
        let first = identity(&authority);
        first.save(folder.path()).unwrap();
        let kept = || [KEY_FILE, AUTHORITY_FILE].map(|name| std::fs::metadata(folder.path().join(name)).unwrap().ino());
        let before = kept();
        let second = first.renewed(certificate(&authority, first.key(), NOW), NOW).unwrap();
        assert_ne!(second.holder().serial_hex, first.holder().serial_hex);
        second.save_certificate(folder.path()).unwrap();
        assert_eq!(kept(), before);
        // What a crash in the middle of it leaves does not count.
        std::fs::write(folder.path().join("certificate.pem.new"), "half a certi").unwrap();
        assert_eq!(Identity::load(folder.path()).unwrap().holder(), second.holder());
    }

    #[test]
    fn a_renewal_for_somebody_else_or_another_time_is_not_taken() {
        let authority = authority();
        let own = identity(&authority);
        let request = own.key().certificate_request().unwrap();
        let others = authority.issue_agent(&request, &AgentName::new("h2").unwrap(), NOW).unwrap();
        assert!(matches!(own.renewed(others.certificate_pem, NOW), Err(IdentityError::OtherHolder { .. })));
        let pem = certificate(&authority, own.key(), NOW);
        let year = Duration::from_hours(24 * 365);
        let before = Timestamp(NOW.0 - i64::try_from(year.as_micros()).unwrap());
        for now in [before, NOW.plus(year)] {
            let error = own.renewed(pem.clone(), now).unwrap_err();
            assert!(matches!(error, IdentityError::NotInForce { .. }) && error.hint().contains("clock"), "{error}");
        }
    }

    #[test]
    fn parts_that_do_not_belong_together_are_refused() {
        let (ours, theirs) = (authority(), CertificateAuthority::create(ClusterId(8), NOW).unwrap());
        let key = PrivateKey::generate().unwrap();
        let certificate = certificate(&ours, &key, NOW);
        let mixed = Identity::new(key, certificate.clone(), theirs.certificate_pem().to_owned());
        assert!(matches!(mixed, Err(IdentityError::Clusters { .. })));
        let other_key = PrivateKey::generate().unwrap();
        let mixed = Identity::new(other_key, certificate, ours.certificate_pem().to_owned());
        assert!(matches!(mixed, Err(IdentityError::ForeignKey(_))));
    }

    #[test]
    fn an_absent_identity_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let error = Identity::load(folder.path()).unwrap_err();
        assert!(error.hint().contains("join"), "{}", error.hint());
    }

    #[test]
    fn a_key_is_never_shown() {
        assert_eq!(format!("{:?}", PrivateKey::generate().unwrap()), "PrivateKey(..)");
    }
}
