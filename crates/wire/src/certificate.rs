//! Who a certificate says somebody is. The identity is one URI in the subject alternative names (as SPIFFE does it),
//! `tanist://CLUSTER/agent/NAME` or `tanist://CLUSTER/server/NAME`: addresses may change freely, and the role is written in one
//! place only. Everything read here came over the network, so nothing is believed before a chain has been verified.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, alg_id};
use serde::{Deserialize, Serialize};
use tanist_model::excerpt::excerpt;
use tanist_model::id::{AgentName, ClusterId};
use tanist_model::time::Timestamp;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use crate::tls::provider;

const SCHEME: &str = "tanist://";

/// What the holder of a certificate may be.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Role {
    Agent(AgentName),
    /// The management server, by its own name; under the same rules as an agent's.
    Server(String),
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent(name) => write!(f, "agent {name}"),
            Self::Server(name) => write!(f, "server {name}"),
        }
    }
}

/// The holder of a verified certificate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerIdentity {
    pub cluster: ClusterId,
    pub role: Role,
    /// Lower-case hexadecimal without leading zero bytes; compared with the store's to see a revocation.
    pub serial_hex: String,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
}

/// Why a certificate says nothing about its holder.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CertificateProblem {
    #[error("it is not a PEM text with a certificate")]
    NotPem,
    #[error("it is not an X.509 certificate")]
    NotX509,
    #[error("it names no tanist identity (a URI tanist://CLUSTER/ROLE/NAME)")]
    NoIdentity,
    #[error("it names more than one tanist identity")]
    SeveralIdentities,
    #[error("'{0}' is not a tanist identity")]
    BadIdentity(String),
    #[error("it is not the certificate of an authority")]
    NotAuthority,
}

impl PeerIdentity {
    /// Reads the identity out of a certificate whose chain the caller has verified, or will.
    ///
    /// # Errors
    /// [`CertificateProblem`].
    pub fn from_der(der: &[u8]) -> Result<Self, CertificateProblem> {
        let certificate = parse(der)?;
        let uri = identity_uri(&certificate)?;
        let (cluster, role) = parse_member(uri).ok_or_else(|| CertificateProblem::BadIdentity(excerpt(uri)))?;
        Ok(Self {
            cluster,
            role,
            serial_hex: serial_hex(certificate.tbs_certificate.raw_serial()),
            not_before: from_seconds(certificate.validity().not_before.timestamp()),
            not_after: from_seconds(certificate.validity().not_after.timestamp()),
        })
    }

    /// # Errors
    /// [`CertificateProblem`].
    pub fn from_pem(pem: &str) -> Result<Self, CertificateProblem> {
        Self::from_der(&der_of(pem)?)
    }

    /// The agent's name, if the holder is an agent.
    #[must_use]
    pub fn agent(&self) -> Option<&AgentName> {
        match &self.role {
            Role::Agent(name) => Some(name),
            Role::Server(_) => None,
        }
    }

    /// When a renewal is due: at two thirds of the lifetime, which leaves a month of 90 days for a server that is away.
    #[must_use]
    pub fn renew_at(&self) -> Timestamp {
        let lifetime = self.not_after.since(self.not_before);
        self.not_before.plus(lifetime / 3 * 2)
    }

    #[must_use]
    pub fn renew_due(&self, now: Timestamp) -> bool {
        now >= self.renew_at()
    }
}

/// Whom a side expects to meet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Expected {
    Server,
    AnyAgent,
    /// A peer link goes to one agent and to no other.
    Agent(AgentName),
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server => f.write_str("the server"),
            Self::AnyAgent => f.write_str("an agent"),
            Self::Agent(name) => write!(f, "agent {name}"),
        }
    }
}

/// A genuine certificate of somebody else.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum IdentityMismatch {
    #[error("it belongs to cluster {found}, and this is cluster {expected}")]
    Cluster { expected: ClusterId, found: ClusterId },
    #[error("it is {found}'s, and {expected} was expected")]
    Role { expected: Expected, found: Role },
    #[error("it is agent {found}'s, and agent {expected} was expected")]
    Agent { expected: AgentName, found: AgentName },
}

impl Expected {
    /// # Errors
    /// [`IdentityMismatch`] if the holder is of another cluster, in another role, or another agent.
    pub fn check(&self, cluster: ClusterId, holder: &PeerIdentity) -> Result<(), IdentityMismatch> {
        if holder.cluster != cluster {
            return Err(IdentityMismatch::Cluster { expected: cluster, found: holder.cluster });
        }
        match (self, &holder.role) {
            (Self::Server, Role::Server(_)) | (Self::AnyAgent, Role::Agent(_)) => Ok(()),
            (Self::Agent(expected), Role::Agent(found)) if expected == found => Ok(()),
            (Self::Agent(expected), Role::Agent(found)) => {
                Err(IdentityMismatch::Agent { expected: expected.clone(), found: found.clone() })
            }
            (_, found) => Err(IdentityMismatch::Role { expected: self.clone(), found: found.clone() }),
        }
    }
}

/// BLAKE3 of an authority's certificate (its DER form), hexadecimal as text. Typed once by hand or copied with the join line, it
/// lets a host that knows nothing yet recognise its server.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CaHash([u8; 32]);

/// A text is not a certificate authority's hash.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "'{0}' is not a certificate authority's hash: 64 hexadecimal digits are expected, as `token create` prints them"
)]
pub struct CaHashError(String);

impl CaHash {
    #[must_use]
    pub fn of(der: &[u8]) -> Self {
        Self(*blake3::hash(der).as_bytes())
    }
}

impl fmt::Display for CaHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&hex::encode(self.0))
    }
}

impl fmt::Debug for CaHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CaHash({self})")
    }
}

impl FromStr for CaHash {
    type Err = CaHashError;
    fn from_str(text: &str) -> Result<Self, CaHashError> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text.trim(), &mut bytes).map_err(|_| CaHashError(excerpt(text)))?;
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for CaHash {
    type Error = CaHashError;
    fn try_from(text: String) -> Result<Self, CaHashError> {
        text.parse()
    }
}

impl From<CaHash> for String {
    fn from(hash: CaHash) -> Self {
        hash.to_string()
    }
}

/// The certificate of the one authority that an installation trusts. It names the cluster, so that whoever holds it knows which
/// cluster its server has to be of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TrustAnchor {
    der: CertificateDer<'static>,
    cluster: ClusterId,
    not_before: Timestamp,
    not_after: Timestamp,
}

impl TrustAnchor {
    /// # Errors
    /// [`CertificateProblem`] if this is not the certificate of a tanist authority.
    pub fn from_der(der: CertificateDer<'static>) -> Result<Self, CertificateProblem> {
        let certificate = parse(&der)?;
        let cluster = authority_cluster(&certificate)?;
        let validity = certificate.validity();
        let (not_before, not_after) = (validity.not_before.timestamp(), validity.not_after.timestamp());
        Ok(Self { cluster, not_before: from_seconds(not_before), not_after: from_seconds(not_after), der })
    }

    /// # Errors
    /// [`CertificateProblem`].
    pub fn from_pem(pem: &str) -> Result<Self, CertificateProblem> {
        Self::from_der(der_of(pem)?)
    }

    #[must_use]
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    #[must_use]
    pub fn hash(&self) -> CaHash {
        CaHash::of(&self.der)
    }

    /// From when to when the certificate is valid.
    #[must_use]
    pub fn validity(&self) -> (Timestamp, Timestamp) {
        (self.not_before, self.not_after)
    }

    #[must_use]
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// True if this authority's key made that signature over that message (ECDSA P-256 with SHA-256, the one kind it makes).
    pub(crate) fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        let known = provider().signature_verification_algorithms.all;
        let ours = known.iter().find(|algorithm| {
            algorithm.public_key_alg_id() == alg_id::ECDSA_P256 && algorithm.signature_alg_id() == alg_id::ECDSA_SHA256
        });
        let (Some(ours), Ok(certificate)) = (ours, parse(&self.der)) else { return false };
        let public_key = &certificate.public_key().subject_public_key.data;
        ours.verify_signature(public_key, message, signature).is_ok()
    }

    /// True if this certificate is for that public key (the bits of its subject public key).
    pub(crate) fn is_certified(&self, public_key: &[u8]) -> bool {
        parse(&self.der).is_ok_and(|certificate| certificate.public_key().subject_public_key.data == public_key)
    }
}

/// The URI of a member.
pub(crate) fn member_uri(cluster: ClusterId, role: &Role) -> String {
    match role {
        Role::Agent(name) => format!("{SCHEME}{cluster}/agent/{name}"),
        Role::Server(name) => format!("{SCHEME}{cluster}/server/{name}"),
    }
}

/// The URI of the authority itself.
pub(crate) fn authority_uri(cluster: ClusterId) -> String {
    format!("{SCHEME}{cluster}/authority")
}

pub(crate) fn der_of(pem: &str) -> Result<CertificateDer<'static>, CertificateProblem> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| CertificateProblem::NotPem)
}

/// The start of a UNIX second as a timestamp; certificates know no finer time.
pub(crate) fn from_seconds(seconds: i64) -> Timestamp {
    Timestamp(seconds.saturating_mul(1_000_000))
}

/// Time since the UNIX epoch in whole seconds, zero before it.
pub(crate) fn whole_seconds(time: Timestamp) -> Duration {
    Duration::from_secs(time.since(Timestamp(0)).as_secs())
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, CertificateProblem> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(CertificateProblem::NotX509),
    }
}

fn identity_uri<'a>(certificate: &'a X509Certificate<'_>) -> Result<&'a str, CertificateProblem> {
    let names = certificate.subject_alternative_name().map_err(|_| CertificateProblem::NotX509)?;
    let names = names.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
    let mut ours = names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) if uri.starts_with(SCHEME) => Some(*uri),
        _ => None,
    });
    match (ours.next(), ours.next()) {
        (Some(uri), None) => Ok(uri),
        (None, _) => Err(CertificateProblem::NoIdentity),
        (Some(_), Some(_)) => Err(CertificateProblem::SeveralIdentities),
    }
}

fn split_uri(uri: &str) -> Option<(ClusterId, &str)> {
    let (cluster, path) = uri.strip_prefix(SCHEME)?.split_once('/')?;
    Some((cluster.parse().ok()?, path))
}

pub(crate) fn parse_member(uri: &str) -> Option<(ClusterId, Role)> {
    let (cluster, path) = split_uri(uri)?;
    let (role, name) = path.split_once('/')?;
    let name = AgentName::new(name).ok()?;
    match role {
        "agent" => Some((cluster, Role::Agent(name))),
        "server" => Some((cluster, Role::Server(name.into()))),
        _ => None,
    }
}

fn authority_cluster(certificate: &X509Certificate<'_>) -> Result<ClusterId, CertificateProblem> {
    let uri = identity_uri(certificate)?;
    match split_uri(uri) {
        Some((cluster, "authority")) if certificate.is_ca() => Ok(cluster),
        _ => Err(CertificateProblem::NotAuthority),
    }
}

fn serial_hex(raw: &[u8]) -> String {
    let significant = raw.iter().position(|byte| *byte != 0).and_then(|start| raw.get(start..));
    hex::encode(significant.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop, proptest};

    const CLUSTER: ClusterId = ClusterId(0xc1);

    fn identity(role: Role) -> PeerIdentity {
        let day = Duration::from_hours(24);
        let start = Timestamp(0);
        PeerIdentity {
            cluster: CLUSTER,
            role,
            serial_hex: "01".into(),
            not_before: start,
            not_after: start.plus(day * 90),
        }
    }

    fn agent(name: &str) -> Role {
        Role::Agent(AgentName::new(name).unwrap())
    }

    #[test]
    fn a_uri_is_read_back_as_it_was_written() {
        for role in [agent("h1"), Role::Server("control".into())] {
            assert_eq!(parse_member(&member_uri(CLUSTER, &role)), Some((CLUSTER, role)));
        }
    }

    #[test]
    fn other_uris_are_no_identity() {
        let prefix = format!("{SCHEME}{CLUSTER}");
        for path in
            ["", "/", "/agent", "/agent/", "/agent/H1", "/agent/a/b", "/operator/x", "/authority", "/agent/../x"]
        {
            assert_eq!(parse_member(&format!("{prefix}{path}")), None, "{path}");
        }
        assert_eq!(parse_member("tanist://c1/agent/h1"), None);
    }

    #[test]
    fn renewal_is_due_at_two_thirds() {
        let holder = identity(agent("h1"));
        let sixtieth_day = Timestamp(0).plus(Duration::from_hours(24 * 60));
        assert_eq!(holder.renew_at(), sixtieth_day);
        assert!(holder.renew_due(sixtieth_day));
        assert!(!holder.renew_due(Timestamp(sixtieth_day.0 - 1)));
    }

    #[test]
    fn only_the_expected_holder_passes() {
        let h1 = identity(agent("h1"));
        let h2 = AgentName::new("h2").unwrap();
        assert_eq!(Expected::AnyAgent.check(CLUSTER, &h1), Ok(()));
        assert!(matches!(Expected::Server.check(CLUSTER, &h1), Err(IdentityMismatch::Role { .. })));
        assert!(matches!(Expected::Agent(h2).check(CLUSTER, &h1), Err(IdentityMismatch::Agent { .. })));
        assert!(matches!(Expected::AnyAgent.check(ClusterId(2), &h1), Err(IdentityMismatch::Cluster { .. })));
    }

    #[test]
    fn a_hash_survives_text() {
        let hash = CaHash::of(b"certificate");
        assert_eq!(hash.to_string().parse::<CaHash>(), Ok(hash));
        assert!("abcd".parse::<CaHash>().is_err());
    }

    fn genuine_der() -> Vec<u8> {
        let authority = crate::ca::CertificateAuthority::create(CLUSTER, Timestamp(0)).unwrap();
        let request = crate::identity::PrivateKey::generate().unwrap().certificate_request().unwrap();
        let issued = authority.issue_agent(&request, &AgentName::new("h1").unwrap(), Timestamp(0)).unwrap();
        der_of(&issued.certificate_pem).unwrap().to_vec()
    }

    #[test]
    fn a_damaged_certificate_is_read_without_harm_and_never_as_an_authority() {
        let genuine = genuine_der();
        for position in 0..genuine.len() {
            for mask in [0x01, 0x80, 0xff] {
                let mut damaged = genuine.clone();
                damaged[position] ^= mask;
                let _ = PeerIdentity::from_der(&damaged);
                assert!(TrustAnchor::from_der(damaged.into()).is_err());
            }
            assert!(PeerIdentity::from_der(&genuine[..position]).is_err());
        }
    }

    proptest! {
        #[test]
        fn random_bytes_are_never_a_certificate(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
            assert!(PeerIdentity::from_der(&bytes).is_err());
        }
    }
}
