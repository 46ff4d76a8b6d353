//! How agents and operators come to be trusted: join tokens and credentials. Secrets are stored only as hashes.

use serde::{Deserialize, Serialize};

use crate::id::AgentName;
use crate::time::Timestamp;

/// BLAKE3 of a secret of 256 random bits, hexadecimal. Such secrets need no slow hash: there is nothing to guess.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretHash(pub String);

/// A one-time permission to join under a name, as stored.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct JoinToken {
    pub hash: SecretHash,
    pub agent: AgentName,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
    pub used_at: Option<Timestamp>,
    pub created_by: String,
}

/// An operator's credential, as stored.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Credential {
    pub hash: SecretHash,
    /// The operator's name in the audit log.
    pub operator: String,
    pub created_at: Timestamp,
    pub revoked: bool,
}
