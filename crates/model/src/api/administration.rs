//! Tokens, credentials, backups and recordings.

use serde::{Deserialize, Serialize};

use crate::id::AgentName;
use crate::time::Timestamp;

/// `POST /tokens`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct CreateToken {
    pub agent: AgentName,
}

/// The answer to `POST /tokens`. The secret is shown once and stored only as a hash.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct TokenCreated {
    pub agent: AgentName,
    pub token: String,
    pub expires_at: Timestamp,
    pub ca_hash: String,
    /// Where the server listens, as it knows itself.
    pub address: String,
}

/// `GET /whoami`: what `login` checks.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct WhoAmI {
    pub operator: String,
    pub cluster: String,
    pub version: String,
}

/// A piece of the server's recording.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct RecordedSegment {
    pub number: u64,
    /// As it lies there.
    pub bytes: u64,
    /// Nothing is added to it any more.
    pub closed: bool,
}

/// `POST /backup`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct BackupTo {
    /// An absolute path on the server's host; the file must not exist.
    pub path: String,
}
