//! What can go wrong between a client and a server of NBD: what was being done, why it failed, what to do.

use std::io;
use std::time::Duration;

/// The longest piece of a server's own words that is passed on, bytes.
const WORDS_LIMIT: usize = 200;

/// Why a server of NBD was not reached, not understood, or did not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum NbdError {
    #[error("{server} is not reached: {why}; is the server running, and its address right?")]
    Unreachable { server: String, why: String },
    #[error(
        "{server} does not speak NBD as it is spoken today: {why}; is it a server of NBD, with the fixed newstyle handshake?"
    )]
    NotNewstyle { server: String, why: &'static str },
    #[error("{server} asks for TLS: give its storage system tls = {{ ca = ... }} in agent.toml")]
    TlsWanted { server: String },
    #[error("TLS with {server} failed: {why}; nothing was sent without it")]
    Tls { server: String, why: String },
    #[error("{server} exports nothing of the name \"{export}\"{said}")]
    NoExport { server: String, export: String, said: String },
    #[error("{server} refuses {what}: {why}")]
    Refused { server: String, what: &'static str, why: String },
    #[error(
        "the server broke the protocol: {0}; its connection was given up, please report it to whoever makes that server"
    )]
    Malformed(String),
    #[error("no answer to the request {what} within {} s (timeout of the storage system in agent.toml)", .limit.as_secs())]
    TimedOut { what: String, limit: Duration },
    #[error("the connection to the server was lost: {0}")]
    Lost(String),
    #[error("the server failed the request {what}: {why}")]
    Server { what: String, code: u32, why: String },
    #[error("the export had {from} bytes when it was opened and has {to} now")]
    Resized { from: u64, to: u64 },
    #[error("the export is not the one that was opened: {0}")]
    Changed(&'static str),
    #[error(
        "{requests} unanswered when the connection was lost ({why}): the server may still carry them out, so nothing more is \
         written through this handle and its I/O is not over. End what the server still does (restart it), then restart this agent; \
         `tanist replication show` says what is waited for"
    )]
    Unresolved { requests: String, why: String },
    #[error("{0} unanswered and past the time limit: the server may still carry them out")]
    Overdue(String),
    #[error(
        "the connection was lost ({0}) before what was written was flushed: nothing since the last flush is taken as durable"
    )]
    Unflushed(String),
}

impl NbdError {
    pub(super) fn malformed(why: impl Into<String>) -> Self {
        Self::Malformed(why.into())
    }

    /// Of a socket in the middle of something.
    pub(super) fn of_socket(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Lost("the server closed it".to_owned()),
            _ => Self::Lost(error.to_string()),
        }
    }

    /// Whether the connection that it came over can be used on.
    pub(super) fn spares_connection(&self) -> bool {
        matches!(self, Self::Server { code, .. } if *code != code::SHUTDOWN)
    }
}

/// Error values of replies ("Error values").
pub(super) mod code {
    pub(in crate::nbd) const PERMISSION: u32 = 1;
    pub(in crate::nbd) const INVALID: u32 = 22;
    pub(in crate::nbd) const NO_SPACE: u32 = 28;
    pub(in crate::nbd) const OVERFLOW: u32 = 75;
    pub(in crate::nbd) const NOT_SUPPORTED: u32 = 95;
    pub(in crate::nbd) const SHUTDOWN: u32 = 108;
}

/// An error value in words, with what the server said besides.
pub(super) fn in_words(error: u32, said: &str) -> String {
    let words = match error {
        code::PERMISSION => "not permitted (the export may be read-only)",
        5 => "input/output error",
        12 => "it has no memory",
        code::INVALID => "invalid request",
        code::NO_SPACE => "no space left",
        code::OVERFLOW => "too large",
        code::NOT_SUPPORTED => "not supported",
        code::SHUTDOWN => "it is being shut down",
        _ => return format!("error {error}{}", quoted(said.as_bytes())),
    };
    format!("{words}{}", quoted(said.as_bytes()))
}

/// A server's own words, cut and made harmless for a terminal; nothing if it said nothing.
pub(super) fn quoted(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(said);
    let clean: String = text.chars().filter(|c| !c.is_control()).take(WORDS_LIMIT).collect();
    if clean.is_empty() { String::new() } else { format!(": \"{clean}\"") }
}

impl From<NbdError> for io::Error {
    fn from(error: NbdError) -> Self {
        use io::ErrorKind as Kind;
        let kind = match &error {
            NbdError::TimedOut { .. } | NbdError::Overdue(_) => Kind::TimedOut,
            NbdError::Unreachable { .. } => Kind::NotConnected,
            NbdError::Lost(_) | NbdError::Unflushed(_) => Kind::ConnectionReset,
            NbdError::Resized { .. } => Kind::UnexpectedEof,
            NbdError::Malformed(_) => Kind::InvalidData,
            NbdError::Server { code: code::PERMISSION, .. } => Kind::PermissionDenied,
            NbdError::Server { code: code::NO_SPACE, .. } => Kind::StorageFull,
            NbdError::Server { code: code::INVALID, .. } => Kind::InvalidInput,
            _ => Kind::Other,
        };
        Self::new(kind, error)
    }
}
