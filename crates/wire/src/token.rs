//! Secrets by which hosts and operators come to be trusted, and the bodies of `POST /api/v1/join`.
//!
//! A secret is 256 random bits as text. The store keeps its BLAKE3 only and finds it *by* that hash, so nothing compares secrets
//! byte by byte and there is no comparison to time: what an attacker could learn from the speed of a look-up is a prefix of a
//! hash, which does not help to find its input. A slow hash would add nothing either, as there is nothing to guess.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use tanist_model::enrolment::SecretHash;
use tanist_model::id::{AgentName, ClusterId};
use tanist_model::time::Timestamp;
use zeroize::Zeroizing;

use crate::certificate::{CaHash, CertificateProblem, Role, TrustAnchor};
use crate::identity::{Identity, IdentityError, PrivateKey};

const SECRET_BYTES: usize = 32;

/// A text is not a secret of the kind asked for. The text itself is not repeated: it may be a secret with a typing error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is not a {what}: {prefix} and 64 hexadecimal digits are expected")]
pub struct SecretError {
    pub what: &'static str,
    pub prefix: &'static str,
}

macro_rules! secret {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Zeroizing<String>);

        impl $name {
            /// What its text begins with, so that a secret found somewhere tells what it opens.
            pub const PREFIX: &'static str = $prefix;

            /// # Errors
            /// Only if the operating system gives no random numbers.
            pub fn generate() -> Result<Self, getrandom::Error> {
                let mut bits = Zeroizing::new([0; SECRET_BYTES]);
                getrandom::fill(bits.as_mut())?;
                let digits = Zeroizing::new(hex::encode(bits.as_ref()));
                Ok(Self(Zeroizing::new([$prefix, &digits].concat())))
            }

            /// What the store keeps.
            #[must_use]
            pub fn hash(&self) -> SecretHash {
                SecretHash(blake3::hash(self.0.as_bytes()).to_hex().to_string())
            }

            /// The secret as text, to be shown once.
            #[must_use]
            pub fn reveal(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!($prefix, ".."))
            }
        }

        impl FromStr for $name {
            type Err = SecretError;
            fn from_str(text: &str) -> Result<Self, SecretError> {
                let digits = text.trim().strip_prefix($prefix).filter(|digits| is_secret(digits));
                let digits = digits.ok_or(SecretError { what: $what, prefix: $prefix })?;
                Ok(Self(Zeroizing::new([$prefix, digits].concat())))
            }
        }

        impl TryFrom<String> for $name {
            type Error = SecretError;
            fn try_from(text: String) -> Result<Self, SecretError> {
                Zeroizing::new(text).parse()
            }
        }

        impl From<$name> for String {
            fn from(secret: $name) -> Self {
                secret.reveal().to_owned()
            }
        }
    };
}

secret!(
    /// Lets one host join, once, under the name it was made for.
    JoinSecret, "tjt_", "join token"
);
secret!(
    /// An operator's credential: the bearer token of the API.
    OperatorSecret, "tcr_", "credential"
);

fn is_secret(digits: &str) -> bool {
    digits.len() == 2 * SECRET_BYTES && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// What a host sends to join.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct JoinRequest {
    /// The one-time token, as `tanist token create` printed it: `tjt_` and 64 hexadecimal digits.
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub token: JoinSecret,
    /// The name that the host believes it was given, if it was told one. The token's own decides, and they have to agree.
    #[serde(default)]
    pub agent: Option<AgentName>,
    /// A PKCS #10 request (RFC 2986), PEM. Only its key is used.
    pub csr_pem: String,
    /// The host's clock at the moment of sending.
    pub wall: Timestamp,
}

/// What a host gets that may join.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct JoinResponse {
    pub certificate_pem: String,
    pub ca_pem: String,
    pub cluster: ClusterId,
    /// Where the agent dials from now on, `HOST:PORT`.
    pub server_address: String,
}

/// The answer to a join is not what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    #[error("the server's authority has the hash {found}, and {expected} was expected")]
    Authority { expected: CaHash, found: CaHash },
    #[error("the server's authority cannot be read: {0}")]
    AuthorityUnreadable(#[from] CertificateProblem),
    #[error("the certificate received is {found}'s, not {}", expected.as_ref().map_or("an agent's".to_owned(), |name| format!("agent {name}'s")))]
    Name { expected: Option<AgentName>, found: Role },
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

impl JoinError {
    /// What the operator can do.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Authority { .. } | Self::AuthorityUnreadable(_) => {
                "do not go on: compare address and --ca-hash with what `tanist token create` printed"
            }
            Self::Name { .. } | Self::Identity(_) => "nothing was written; make a new token and join again",
        }
    }
}

impl JoinResponse {
    /// The identity of the host that joined, checked against everything the host knows already.
    ///
    /// # Errors
    /// [`JoinError`]; the host then keeps nothing.
    pub fn into_identity(
        self,
        key: PrivateKey,
        agent: Option<&AgentName>,
        ca_hash: CaHash,
    ) -> Result<Identity, JoinError> {
        let found = TrustAnchor::from_pem(&self.ca_pem)?.hash();
        if found != ca_hash {
            return Err(JoinError::Authority { expected: ca_hash, found });
        }
        let identity = Identity::new(key, self.certificate_pem, self.ca_pem)?;
        match identity.holder().agent() {
            Some(name) if agent.is_none_or(|agent| name == agent) => Ok(identity),
            _ => Err(JoinError::Name { expected: agent.cloned(), found: identity.holder().role.clone() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ca::CertificateAuthority;

    const NOW: Timestamp = Timestamp(1_795_342_800_000_000);

    fn name(text: &str) -> AgentName {
        AgentName::new(text).unwrap()
    }

    #[test]
    fn secrets_survive_text_and_are_stored_by_hash_only() {
        let secret = JoinSecret::generate().unwrap();
        let again: JoinSecret = secret.reveal().parse().unwrap();
        assert_eq!(again.hash(), secret.hash());
        assert_ne!(JoinSecret::generate().unwrap().hash(), secret.hash());
        assert_eq!(secret.hash().0.len(), 64);
        assert!(!secret.reveal().contains(&secret.hash().0));
        assert_eq!(format!("{secret:?}"), "tjt_..");
    }

    #[test]
    fn one_kind_of_secret_is_not_another() {
        let secret = OperatorSecret::generate().unwrap();
        let error = secret.reveal().parse::<JoinSecret>().unwrap_err();
        assert_eq!(error.what, "join token");
        for bad in ["", "tjt_", "tjt_00", &format!("tjt_{}", "G".repeat(64))] {
            assert!(bad.parse::<JoinSecret>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_join_gives_an_identity_only_from_the_authority_and_under_the_name_expected() {
        let authority = CertificateAuthority::create(ClusterId(7), NOW).unwrap();
        let join = |asked: &str, ca_hash: CaHash| {
            let key = PrivateKey::generate().unwrap();
            let issued = authority.issue_agent(&key.certificate_request().unwrap(), &name("h1"), NOW).unwrap();
            let response = JoinResponse {
                certificate_pem: issued.certificate_pem,
                ca_pem: authority.certificate_pem().into(),
                cluster: authority.cluster(),
                server_address: "control:7443".into(),
            };
            response.into_identity(key, Some(&name(asked)), ca_hash)
        };
        assert_eq!(join("h1", authority.ca_hash()).unwrap().holder().agent(), Some(&name("h1")));
        assert!(matches!(join("h2", authority.ca_hash()), Err(JoinError::Name { .. })));
        assert!(matches!(join("h1", CaHash::of(b"another")), Err(JoinError::Authority { .. })));
    }

    #[test]
    fn bodies_with_unknown_fields_are_read() {
        let secret = JoinSecret::generate().unwrap();
        let text = format!(
            r#"{{"token":"{}","agent":"h1","csr_pem":"","wall":"2026-11-22T10:00:00Z","colour":"blue"}}"#,
            secret.reveal()
        );
        assert_eq!(serde_json::from_str::<JoinRequest>(&text).unwrap().token, secret);
    }
}
