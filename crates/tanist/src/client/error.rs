//! What can go wrong between this process and the server, and what the operator can do about it.

use std::error::Error;

use tanist_model::api::{Refusal, RefusalCode};
use tanist_wire::tls_failure::TlsFailure;

/// Why the server was not asked, or did not do it.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No answer: the connection failed or ended. The request may have been carried out.
    #[error("the server at {server} does not answer")]
    Unreachable { server: String, source: reqwest::Error },
    /// The server says no.
    #[error(transparent)]
    Refused(Refusal),
    /// An answer that this version does not understand.
    #[error("the answer to {asked} is not understood")]
    Answer { asked: String, source: serde_json::Error },
    /// A failure without a refusal: it does not come from a tanist server.
    #[error("{asked} failed with status {status}")]
    Status { asked: String, status: u16 },
    #[error("cannot prepare the connection to the server")]
    Setup { source: Box<dyn Error + Send + Sync> },
    #[error("cannot get random bytes for a command id")]
    Random { source: getrandom::Error },
}

impl ClientError {
    /// True if the same request may succeed a little later: the server is restarting, or waits for its store or agents.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused(refusal) => refusal.code == RefusalCode::Unavailable,
            _ => false,
        }
    }

    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.code == RefusalCode::NotFound)
    }

    /// Error, cause and hint.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        let refusal = match self {
            Self::Refused(refusal) => return refusal.clone(),
            Self::Unreachable { source, .. } if let Some(failure) = TlsFailure::in_causes(source) => {
                return Refusal::new(RefusalCode::Unavailable, self.to_string()).cause(failure.to_string()).hint(failure.hint());
            }
            Self::Unreachable { .. } => Refusal::new(RefusalCode::Unavailable, self.to_string())
                .hint("see that the server runs and that this host reaches it; agents go on meanwhile, and no data is in danger"),
            Self::Answer { .. } | Self::Status { .. } => Refusal::new(RefusalCode::Internal, self.to_string())
                .hint("see that the address is a tanist server of the same version: `tanist --version`"),
            Self::Setup { .. } => {
                Refusal::new(RefusalCode::Invalid, self.to_string()).hint("log in anew: `tanist login HOST:PORT --ca-hash HASH`")
            }
            Self::Random { .. } => Refusal::new(RefusalCode::Internal, self.to_string()),
        };
        match causes(self) {
            Some(cause) => refusal.cause(cause),
            None => refusal,
        }
    }
}

/// What an operator can use of a library's words: without the address, which is told already, and without links to its manual.
fn plain(text: &str) -> String {
    let without_links = text.split(": https://").next().unwrap_or(text);
    let says_nothing =
        without_links.starts_with("error sending request") || without_links.starts_with("client error (");
    if says_nothing { String::new() } else { without_links.to_owned() }
}

/// The chain of causes in one line, without those that only repeat what was said.
fn causes(error: &dyn Error) -> Option<String> {
    let mut parts: Vec<String> = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = plain(&cause.to_string());
        if !text.is_empty() && !parts.iter().any(|part| part.contains(&text)) {
            parts.push(text);
        }
        next = cause.source();
    }
    (!parts.is_empty()).then(|| parts.join(": "))
}
