//! Refusals.

use serde::{Deserialize, Serialize};

/// A refusal: what is wrong, why, and what to do.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[error("{error}")]
pub struct Refusal {
    pub code: RefusalCode,
    /// What was refused, in one sentence.
    pub error: String,
    pub cause: Option<String>,
    /// What to do, preferably the command to type.
    pub hint: Option<String>,
}

impl Refusal {
    #[must_use]
    pub fn new(code: RefusalCode, error: impl Into<String>) -> Self {
        Self { code, error: error.into(), cause: None, hint: None }
    }

    #[must_use]
    pub fn cause(mut self, cause: impl Into<String>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// The kind of a refusal, for programs. The HTTP status follows from it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum RefusalCode {
    /// 400: the request is not valid.
    Invalid,
    /// 401: no or a wrong credential.
    Unauthorized,
    /// 403: the identity may not do this.
    Forbidden,
    /// 404: no such thing.
    NotFound,
    /// 409: the present state does not allow it.
    Conflict,
    /// 412: a guard protects data.
    Guarded,
    /// 503: the store or the agents needed are not there now; the same request may succeed later.
    Unavailable,
    /// 500: a fault of tanist.
    Internal,
}
