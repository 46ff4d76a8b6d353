//! Everything a command can fail with. Whatever it is, the operator sees error, cause and hint; programs see the same as JSON.

use std::io;
use std::process::ExitCode;

use tanist_model::api::{Refusal, RefusalCode};

use crate::client::ClientError;
use crate::client::context::ContextError;

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Context(#[from] ContextError),
    /// Refused here, before or after the server was asked.
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("{doing}")]
    Io { doing: String, source: io::Error },
}

impl Failure {
    /// An I/O failure and what was being done.
    #[must_use]
    pub fn io(doing: impl Into<String>, source: io::Error) -> Self {
        Self::Io { doing: doing.into(), source }
    }

    /// Error, cause and hint.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        match self {
            Self::Client(error) => error.refusal(),
            Self::Context(error) => error.refusal(),
            Self::Refused(refusal) => refusal.clone(),
            Self::Io { doing, source } => {
                Refusal::new(RefusalCode::Internal, format!("cannot {doing}")).cause(source.to_string())
            }
        }
    }

    /// Whoever read our output went away, as in `tanist events | head`: no failure of ours.
    #[must_use]
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::BrokenPipe)
    }

    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::FAILURE
    }
}
