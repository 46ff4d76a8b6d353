//! Everything a command can fail with. Whatever it is, the operator sees error, cause and hint; programs see the same as JSON.

use std::io;
use std::process::ExitCode;

use tanist_model::api::{Refusal, RefusalCode};

use crate::client::ClientError;
use crate::client::context::ContextError;

/// The exit status of a command that waited for as long as it was told to: no failure of what it waited for. (`status` has 0 to 3.)
const STILL_GOING_ON: u8 = 4;

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
    /// What was asked for goes on; only the waiting for it has ended.
    #[error(transparent)]
    StillGoingOn(Refusal),
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
            Self::Refused(refusal) | Self::StillGoingOn(refusal) => refusal.clone(),
            Self::Io { doing, source } => {
                let refusal = Refusal::new(RefusalCode::Internal, format!("cannot {doing}")).cause(source.to_string());
                match source.kind() {
                    io::ErrorKind::AlreadyExists => {
                        refusal.hint("name a file that is not there yet: none is overwritten")
                    }
                    _ => refusal,
                }
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
        match self {
            Self::StillGoingOn(_) => ExitCode::from(STILL_GOING_ON),
            _ => ExitCode::FAILURE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_there_already_is_not_overwritten_and_another_name_helps() {
        let failure = Failure::io("make a bundle", io::ErrorKind::AlreadyExists.into());
        assert!(failure.refusal().hint.is_some_and(|hint| hint.contains("not there yet")));
    }

    #[test]
    fn waiting_long_enough_is_told_from_failing() {
        let refusal = || Refusal::new(RefusalCode::Unavailable, "it takes long");
        let code = |failure: Failure| format!("{:?}", failure.exit_code());
        assert_eq!(code(Failure::StillGoingOn(refusal())), format!("{:?}", ExitCode::from(4)));
        assert_eq!(code(Failure::Refused(refusal())), format!("{:?}", ExitCode::FAILURE));
    }
}
