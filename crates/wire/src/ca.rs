//! The installation's own certificate authority. It exists so that no operator has to run one: `server init` makes it, the server
//! signs with it, and everybody trusts it and nothing else. It writes identities itself; what a request says of names is
//! ignored, because the join token decided the name.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType,
    SerialNumber, SigningKey,
};
use tanist_model::id::{AgentName, ClusterId};
use tanist_model::time::Timestamp;

use crate::certificate::{
    CaHash, CertificateProblem, Role, TrustAnchor, authority_uri, from_seconds, member_uri, whole_seconds,
};
use crate::file::{self, FileError, Readers};
use crate::identity::PrivateKey;

/// Life of a member's certificate.
pub const MEMBER_LIFETIME: Duration = Duration::from_hours(24 * 90);
/// Life of the authority's own certificate.
pub const AUTHORITY_LIFETIME: Duration = Duration::from_hours(24 * 3652);
/// A certificate is valid this long before it was made, for hosts whose clock is behind; a short life has a tenth of it at most,
/// so that a certificate is never due for renewal when it is new.
pub const CLOCK_SKEW: Duration = Duration::from_hours(1);
/// More than any honest request of one P-256 key needs, bytes.
const REQUEST_LIMIT: usize = 16 << 10;
/// RFC 5280 dates end with the year 9999.
const LAST_SECOND: u64 = 253_402_300_799;

const CERTIFICATE_FILE: &str = "ca.pem";
const KEY_FILE: &str = "ca-key.pem";

/// What the authority could not do.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    #[error("make a certificate: {0}")]
    Sign(#[from] rcgen::Error),
    #[error("read the authority's certificate: {0}")]
    Certificate(#[from] CertificateProblem),
    #[error("the authority's key does not belong to its certificate")]
    ForeignKey,
    #[error("the certificate request is not valid: {0}")]
    Request(rcgen::Error),
    #[error("the certificate request has {0} bytes, more than {REQUEST_LIMIT}")]
    RequestTooLarge(usize),
    #[error("the certificate request is not for an ECDSA P-256 key")]
    RequestKey,
    #[error("'{0}' is neither a host name nor an address")]
    Host(String),
    #[error("no random numbers: {0}")]
    Random(#[from] getrandom::Error),
    #[error(transparent)]
    File(#[from] FileError),
}

impl CaError {
    /// What the operator can do.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Certificate(_) | Self::ForeignKey => {
                format!("restore {CERTIFICATE_FILE} and {KEY_FILE} of the server's authority from the same backup")
            }
            Self::Request(_) | Self::RequestTooLarge(_) | Self::RequestKey => {
                "send the request that `tanist agent join` makes; only a tanist agent is expected here".into()
            }
            Self::Host(_) => "give names such as control.example.org or addresses such as 192.0.2.1".into(),
            Self::Sign(_) | Self::Random(_) => "this is a fault of the host or of tanist: please report it".into(),
            Self::File(error) => error.hint(),
        }
    }
}

/// A certificate that the authority has just made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Issued {
    pub certificate_pem: String,
    /// As [`crate::certificate::PeerIdentity::serial_hex`].
    pub serial_hex: String,
    pub not_after: Timestamp,
}

/// The authority: its certificate, its key, and how long what it issues lives.
#[derive(Debug)]
pub struct CertificateAuthority {
    issuer: Issuer<'static, PrivateKey>,
    certificate_pem: String,
    anchor: TrustAnchor,
    lifetime: Duration,
}

impl CertificateAuthority {
    /// Makes a new authority for a new cluster.
    ///
    /// # Errors
    /// [`CaError::Sign`], [`CaError::Random`].
    pub fn create(cluster: ClusterId, now: Timestamp) -> Result<Self, CaError> {
        let key = PrivateKey::from(KeyPair::generate()?);
        let params = authority_params(cluster, now)?;
        let certificate_pem = params.self_signed(&key)?.pem();
        Self::from_parts(certificate_pem, key)
    }

    /// # Errors
    /// [`CaError`] if the texts are not an authority's certificate and its key.
    pub fn from_pem(certificate_pem: &str, key_pem: &str) -> Result<Self, CaError> {
        Self::from_parts(certificate_pem.to_owned(), PrivateKey::from(KeyPair::from_pem(key_pem)?))
    }

    /// # Errors
    /// [`CaError`]; a key that others can read is refused.
    pub fn load(folder: &Path) -> Result<Self, CaError> {
        let key_pem = zeroize::Zeroizing::new(file::read_private(&folder.join(KEY_FILE))?);
        Self::from_pem(&file::read(&folder.join(CERTIFICATE_FILE))?, &key_pem)
    }

    /// Writes `ca.pem` and, with mode 0600, `ca-key.pem`.
    ///
    /// # Errors
    /// [`CaError::File`].
    pub fn save(&self, folder: &Path) -> Result<(), CaError> {
        file::create_private_folder(folder)?;
        file::replace(&folder.join(KEY_FILE), self.issuer.key().to_pem().as_bytes(), Readers::Owner)?;
        file::replace(&folder.join(CERTIFICATE_FILE), self.certificate_pem.as_bytes(), Readers::Everyone)?;
        Ok(())
    }

    /// The same authority with another life for what it issues from now on.
    #[must_use]
    pub fn with_lifetime(self, lifetime: Duration) -> Self {
        Self { lifetime, ..self }
    }

    /// Signs a server's key. `hosts` are names and addresses for clients that check them (a browser, curl); tanist's own clients
    /// check the identity instead.
    ///
    /// # Errors
    /// [`CaError::Host`], [`CaError::Sign`].
    pub fn issue_server(
        &self,
        key: &PrivateKey,
        name: &AgentName,
        hosts: &[String],
        now: Timestamp,
    ) -> Result<Issued, CaError> {
        let hosts = hosts.iter().map(|host| host_name(host)).collect::<Result<Vec<_>, _>>()?;
        self.issue(key, &Role::Server(name.to_string()), hosts, now)
    }

    /// Signs an agent's key, out of a request that proves possession of it (RFC 2986).
    ///
    /// # Errors
    /// [`CaError::Request`], [`CaError::RequestTooLarge`], [`CaError::RequestKey`], [`CaError::Sign`].
    pub fn issue_agent(&self, request_pem: &str, agent: &AgentName, now: Timestamp) -> Result<Issued, CaError> {
        if request_pem.len() > REQUEST_LIMIT {
            return Err(CaError::RequestTooLarge(request_pem.len()));
        }
        let request = CertificateSigningRequestParams::from_pem(request_pem).map_err(CaError::Request)?;
        if request.public_key.algorithm() != &PKCS_ECDSA_P256_SHA256 {
            return Err(CaError::RequestKey);
        }
        self.issue(&request.public_key, &Role::Agent(agent.clone()), Vec::new(), now)
    }

    /// What a host needs to recognise this authority without having its certificate: `--ca-hash`.
    #[must_use]
    pub fn ca_hash(&self) -> CaHash {
        self.anchor.hash()
    }

    #[must_use]
    pub fn anchor(&self) -> &TrustAnchor {
        &self.anchor
    }

    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    #[must_use]
    pub fn cluster(&self) -> ClusterId {
        self.anchor.cluster()
    }

    /// Signs something else than a certificate; what it is for has to be part of the message.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.issuer.key().sign(message)
    }

    fn from_parts(certificate_pem: String, key: PrivateKey) -> Result<Self, CaError> {
        let anchor = TrustAnchor::from_pem(&certificate_pem)?;
        if !anchor.is_certified(key.public_key_raw()) {
            return Err(CaError::ForeignKey);
        }
        let issuer = Issuer::from_ca_cert_der(anchor.der(), key)?;
        Ok(Self { issuer, certificate_pem, anchor, lifetime: MEMBER_LIFETIME })
    }

    fn issue(
        &self,
        key: &impl PublicKeyData,
        role: &Role,
        hosts: Vec<SanType>,
        now: Timestamp,
    ) -> Result<Issued, CaError> {
        let serial = random_serial()?;
        let mut params = dated(now, self.lifetime);
        let not_after = from_seconds(params.not_after.unix_timestamp());
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        params.distinguished_name = common_name(&role.to_string());
        params.subject_alt_names = hosts;
        params.subject_alt_names.push(SanType::URI(member_uri(self.cluster(), role).try_into()?));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // Both uses for everybody: agents dial and listen. What somebody is stands in the URI, and only there.
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate_pem = params.signed_by(key, &self.issuer)?.pem();
        Ok(Issued { certificate_pem, serial_hex: hex::encode(serial), not_after })
    }
}

fn authority_params(cluster: ClusterId, now: Timestamp) -> Result<CertificateParams, CaError> {
    let mut params = dated(now, AUTHORITY_LIFETIME);
    params.serial_number = Some(SerialNumber::from_slice(&random_serial()?));
    // The cluster in the subject keeps two installations' authorities apart: a stranger is then an unknown issuer.
    params.distinguished_name = common_name(&format!("authority of {cluster}"));
    params.subject_alt_names = vec![SanType::URI(authority_uri(cluster).try_into()?)];
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn dated(now: Timestamp, lifetime: Duration) -> CertificateParams {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let bounded = |seconds: u64| Duration::from_secs(seconds.min(LAST_SECOND));
    let now = whole_seconds(now);
    let skew = CLOCK_SKEW.min(lifetime / 10);
    let mut params = CertificateParams::default();
    params.not_before = epoch + bounded(now.saturating_sub(skew).as_secs());
    params.not_after = epoch + bounded(now.saturating_add(lifetime).as_secs());
    params
}

fn common_name(text: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "tanist");
    name.push(DnType::CommonName, text);
    name
}

fn host_name(host: &str) -> Result<SanType, CaError> {
    match host.parse::<IpAddr>() {
        Ok(address) => Ok(SanType::IpAddress(address)),
        Err(_) if rustls_pki_types::DnsName::try_from(host).is_ok() => Ok(SanType::DnsName(host.try_into()?)),
        Err(_) => Err(CaError::Host(host.to_owned())),
    }
}

/// 128 bits, of which 126 are random: positive (RFC 5280, 4.1.2.2) and always of the same length.
fn random_serial() -> Result<[u8; 16], CaError> {
    let mut serial = [0; 16];
    getrandom::fill(&mut serial)?;
    serial[0] = serial[0] & 0x3f | 0x40;
    Ok(serial)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificate::PeerIdentity;

    const NOW: Timestamp = Timestamp(1_795_342_800_123_456);

    fn authority() -> CertificateAuthority {
        CertificateAuthority::create(ClusterId(7), NOW).unwrap()
    }

    fn h1() -> AgentName {
        AgentName::new("h1").unwrap()
    }

    #[test]
    fn an_agent_gets_the_name_of_its_token_whatever_it_asks_for() {
        let key = PrivateKey::generate().unwrap();
        let mut wish = CertificateParams::new(vec!["control.example.org".into()]).unwrap();
        wish.distinguished_name = common_name("server control");
        wish.subject_alt_names.push(SanType::URI(authority_uri(ClusterId(7)).try_into().unwrap()));
        let request = wish.serialize_request(&key).unwrap().pem().unwrap();

        let issued = authority().issue_agent(&request, &h1(), NOW).unwrap();
        let holder = PeerIdentity::from_pem(&issued.certificate_pem).unwrap();
        assert_eq!(holder.role, Role::Agent(h1()));
        assert_eq!(
            (holder.cluster, &holder.serial_hex, holder.not_after),
            (ClusterId(7), &issued.serial_hex, issued.not_after)
        );
        assert_eq!(issued.not_after, from_seconds(1_795_342_800).plus(MEMBER_LIFETIME));
        assert_eq!(holder.not_before.plus(CLOCK_SKEW), from_seconds(1_795_342_800));
    }

    #[test]
    fn a_short_life_is_renewed_at_two_thirds_too() {
        let authority = authority().with_lifetime(Duration::from_secs(30));
        let request = PrivateKey::generate().unwrap().certificate_request().unwrap();
        let issued = authority.issue_agent(&request, &h1(), NOW).unwrap();
        let holder = PeerIdentity::from_pem(&issued.certificate_pem).unwrap();
        assert!(!holder.renew_due(NOW.plus(Duration::from_secs(15))));
        assert!(holder.renew_due(NOW.plus(Duration::from_secs(20))));
    }

    #[test]
    fn serial_numbers_differ() {
        let authority = authority();
        let request = PrivateKey::generate().unwrap().certificate_request().unwrap();
        let serial = || authority.issue_agent(&request, &h1(), NOW).unwrap().serial_hex;
        let (one, two) = (serial(), serial());
        assert_ne!(one, two);
        assert_eq!((one.len(), two.len()), (32, 32));
    }

    #[test]
    fn bad_requests_are_refused() {
        let authority = authority();
        let refuse = |request: &str| authority.issue_agent(request, &h1(), NOW).unwrap_err();
        assert!(matches!(refuse("nonsense"), CaError::Request(_)));
        assert!(matches!(refuse(&"x".repeat(REQUEST_LIMIT + 1)), CaError::RequestTooLarge(_)));

        let other = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let request = CertificateParams::default().serialize_request(&other).unwrap().pem().unwrap();
        assert!(matches!(refuse(&request), CaError::RequestKey));
    }

    #[test]
    fn a_server_may_have_names_and_addresses() {
        let key = PrivateKey::generate().unwrap();
        let name = AgentName::new("control").unwrap();
        let issue = |hosts: &[String]| authority().issue_server(&key, &name, hosts, NOW);
        let issued = issue(&["control.example.org".into(), "192.0.2.1".into(), "::1".into()]).unwrap();
        assert_eq!(PeerIdentity::from_pem(&issued.certificate_pem).unwrap().role, Role::Server("control".into()));
        assert!(matches!(issue(&["two words".into()]), Err(CaError::Host(_))));
    }

    #[test]
    fn an_authority_survives_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        let made = authority();
        made.save(folder.path()).unwrap();
        let loaded = CertificateAuthority::load(folder.path()).unwrap();
        assert_eq!((loaded.cluster(), loaded.ca_hash()), (ClusterId(7), made.ca_hash()));

        authority().save(&folder.path().join("other")).unwrap();
        std::fs::copy(folder.path().join("other/ca-key.pem"), folder.path().join("ca-key.pem")).unwrap();
        assert!(matches!(CertificateAuthority::load(folder.path()), Err(CaError::ForeignKey)));
    }

    #[test]
    fn a_member_is_no_authority() {
        let authority = authority();
        let request = PrivateKey::generate().unwrap().certificate_request().unwrap();
        let issued = authority.issue_agent(&request, &h1(), NOW).unwrap();
        assert_eq!(TrustAnchor::from_pem(&issued.certificate_pem), Err(CertificateProblem::NotAuthority));
        assert!(matches!(PeerIdentity::from_pem(authority.certificate_pem()), Err(CertificateProblem::BadIdentity(_))));
    }
}
