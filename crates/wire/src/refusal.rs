//! Being turned away, with a reason. The text is written by the side that refuses and shown to the operator of the side that is
//! refused, so it carries what happened and what to do; the code is for programs and for the audit log.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tanist_model::id::AgentName;
use tanist_model::time::Timestamp;

use crate::certificate::IdentityMismatch;
use crate::handshake::{CLOCK_TOLERANCE, VersionRange};

/// The stable reason of a refusal.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalCode {
    /// No protocol version in common.
    UnknownVersion,
    /// The clocks differ by more than [`CLOCK_TOLERANCE`].
    ClockTooFar,
    /// No certificate was shown where one is required.
    NoCertificate,
    /// The certificate of the other side's authority is not ours.
    WrongAuthority,
    WrongCluster,
    WrongRole,
    /// Another certificate of this agent is in force.
    Revoked,
    /// The agent was removed by an operator.
    Removed,
    /// The agent asked for something of a replication whose hierarchies it is not in.
    NotYours,
    TokenUnknown,
    TokenUsed,
    TokenExpired,
    /// A reason that a newer version gives; its text says which.
    #[serde(other)]
    Other,
}

impl RefusalCode {
    /// True if the same attempt may succeed later without anybody's help.
    #[must_use]
    pub fn retry_helps(self) -> bool {
        // A clock is set right and a server is upgraded while the agent waits; an identity does not change by waiting.
        matches!(self, Self::ClockTooFar | Self::UnknownVersion | Self::Other)
    }
}

/// An answer that ends the connection.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error, Serialize, Deserialize)]
#[error("{message}")]
pub struct Refusal {
    pub code: RefusalCode,
    /// What, and why, in one sentence.
    pub message: String,
    /// What to do.
    pub hint: String,
}

impl Refusal {
    pub fn new(code: RefusalCode, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: hint.into() }
    }

    #[must_use]
    pub fn unknown_version(theirs: VersionRange, ours: VersionRange) -> Self {
        let message = format!("protocol versions {theirs} are offered, and {ours} are spoken here");
        Self::new(
            RefusalCode::UnknownVersion,
            message,
            "upgrade the older side: releases that follow each other work together",
        )
    }

    #[must_use]
    pub fn clock_too_far(theirs: Timestamp, ours: Timestamp) -> Self {
        let message = format!(
            "the clocks are {} s apart ({theirs} there, {ours} here), and {} s is the limit",
            apart(theirs, ours).as_secs(),
            CLOCK_TOLERANCE.as_secs()
        );
        Self::new(
            RefusalCode::ClockTooFar,
            message,
            "set the clock that is wrong, best by NTP on both hosts; it is tried again",
        )
    }

    #[must_use]
    pub fn no_certificate() -> Self {
        let hint = "`tanist token create` on the server prints the line with which a host joins";
        Self::new(RefusalCode::NoCertificate, "no certificate was shown, and this protocol requires one", hint)
    }

    #[must_use]
    pub fn revoked(agent: &AgentName, serial_hex: &str) -> Self {
        let message = format!("certificate {serial_hex} of agent {agent} is revoked");
        let hint =
            format!("if this host is to be {agent} again: `tanist token create {agent}` on the server, then join");
        Self::new(RefusalCode::Revoked, message, hint)
    }

    #[must_use]
    pub fn removed(agent: &AgentName) -> Self {
        let hint = format!("to bring it back: `tanist token create {agent}` on the server, then join");
        Self::new(RefusalCode::Removed, format!("agent {agent} was removed from this installation"), hint)
    }

    #[must_use]
    pub fn mismatch(mismatch: &IdentityMismatch) -> Self {
        let (code, hint) = match mismatch {
            IdentityMismatch::Cluster { .. } => {
                (RefusalCode::WrongCluster, "dial the server of the cluster that this host joined, or join this one")
            }
            IdentityMismatch::Role { .. } | IdentityMismatch::Agent { .. } => {
                (RefusalCode::WrongRole, "use the identity that was made for this purpose, in a folder of its own")
            }
        };
        Self::new(code, format!("the certificate is genuine, but {mismatch}"), hint)
    }
}

/// How far two clocks are apart, whichever is ahead.
pub(crate) fn apart(one: Timestamp, other: Timestamp) -> Duration {
    one.since(other).max(other.since(one))
}
