//! What a failed TLS handshake means in words an operator can act on. The library says which rule was broken; this says what
//! that means here, on the side that refused as well as on the side that only got an alert.

use std::error::Error;
use std::io;

use rustls::{AlertDescription, CertificateError, OtherError};
use rustls_pki_types::UnixTime;
use tanist_model::time::Timestamp;

use crate::certificate::{CaHash, CertificateProblem, IdentityMismatch, from_seconds};

/// Why no secure connection came about.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TlsFailure {
    #[error("its certificate was not issued by this installation's authority")]
    ForeignAuthority,
    #[error("its certificate expired at {not_after}, and here it is {now}")]
    Expired { not_after: Timestamp, now: Timestamp },
    #[error("its certificate is valid from {not_before} on, and here it is {now}")]
    NotYetValid { not_before: Timestamp, now: Timestamp },
    #[error("its certificate is genuine, but {0}")]
    Mismatch(#[from] IdentityMismatch),
    #[error("it shows no authority with the hash {expected}")]
    Pin { expected: CaHash },
    #[error("its certificate cannot be used: {0}")]
    Certificate(#[from] CertificateProblem),
    #[error("it shows no certificate")]
    NoCertificate,
    #[error("it refused the certificate shown to it: {0}")]
    RefusedByPeer(PeerVerdict),
    #[error("it serves none of the protocols asked for on this port")]
    NoCommonProtocol,
    #[error("it does not speak TLS")]
    NotTls,
    #[error("{0}")]
    Other(rustls::Error),
}

/// What the other side's alert says of our certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PeerVerdict {
    #[error("it was issued by an authority that is not its own")]
    ForeignAuthority,
    #[error("it has expired, or is not valid yet by the other side's clock")]
    Expired,
    #[error("a certificate is required")]
    NoCertificate,
    #[error("it is not the certificate expected")]
    Unexpected,
}

impl TlsFailure {
    /// The failure inside an I/O error, if TLS caused it.
    #[must_use]
    pub fn in_io(error: &io::Error) -> Option<Self> {
        error.get_ref()?.downcast_ref::<rustls::Error>().map(Self::of)
    }

    /// The failure anywhere in an error's causes: HTTP libraries wrap it more than once, and put it into words that are of no
    /// use to an operator.
    #[must_use]
    pub fn in_causes(error: &(dyn Error + 'static)) -> Option<Self> {
        std::iter::successors(Some(error), |&error| beneath(error))
            .find_map(|error| error.downcast_ref::<rustls::Error>())
            .map(Self::of)
    }

    /// What the operator can do.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::ForeignAuthority => {
                "is this the right address? After `server init` was run anew, every host has to join again with a new token"
            }
            Self::Expired { .. } => {
                "compare both clocks; if they are right, the other host was away too long and has to join again"
            }
            Self::NotYetValid { .. } => "this host's clock is behind: correct it",
            Self::Mismatch(_) => "compare the address with `tanist agent list`: another process answers there",
            Self::Pin { .. } => {
                "compare the address and --ca-hash with what `tanist token create` printed; if both are right, somebody else \
                 answers at that address"
            }
            Self::Certificate(_) | Self::NoCertificate => "only tanist's own processes are expected at the other end",
            Self::RefusedByPeer(verdict) => verdict.hint(),
            Self::NoCommonProtocol => "compare the port: the server's and the agents' ports serve different protocols",
            Self::NotTls => "compare address and port: something else listens there",
            Self::Other(_) => "try again; if it stays, compare the versions on both sides",
        }
    }

    pub(crate) fn of(error: &rustls::Error) -> Self {
        use rustls::Error;
        match error {
            Error::InvalidCertificate(reason) => Self::of_certificate(reason, error),
            Error::AlertReceived(alert) => Self::of_alert(*alert, error),
            Error::NoCertificatesPresented => Self::NoCertificate,
            Error::NoApplicationProtocol => Self::NoCommonProtocol,
            Error::InvalidMessage(_) => Self::NotTls,
            other => Self::Other(other.clone()),
        }
    }

    fn of_certificate(reason: &CertificateError, error: &rustls::Error) -> Self {
        match reason {
            // A bad signature is an authority of the same name with another key.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::ForeignAuthority,
            CertificateError::ExpiredContext { time, not_after } => {
                Self::Expired { not_after: timestamp(*not_after), now: timestamp(*time) }
            }
            CertificateError::NotValidYetContext { time, not_before } => {
                Self::NotYetValid { not_before: timestamp(*not_before), now: timestamp(*time) }
            }
            CertificateError::Other(OtherError(cause)) => {
                cause.downcast_ref::<Self>().cloned().unwrap_or_else(|| Self::Other(error.clone()))
            }
            _ => Self::Other(error.clone()),
        }
    }

    fn of_alert(alert: AlertDescription, error: &rustls::Error) -> Self {
        match alert {
            AlertDescription::UnknownCA | AlertDescription::DecryptError => {
                Self::RefusedByPeer(PeerVerdict::ForeignAuthority)
            }
            AlertDescription::CertificateExpired => Self::RefusedByPeer(PeerVerdict::Expired),
            AlertDescription::CertificateRequired => Self::RefusedByPeer(PeerVerdict::NoCertificate),
            AlertDescription::CertificateUnknown
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate => Self::RefusedByPeer(PeerVerdict::Unexpected),
            AlertDescription::NoApplicationProtocol => Self::NoCommonProtocol,
            _ => Self::Other(error.clone()),
        }
    }
}

impl PeerVerdict {
    fn hint(self) -> &'static str {
        match self {
            Self::ForeignAuthority => {
                "this host belongs to another installation; to use it here: `tanist agent join` with a new token"
            }
            Self::Expired => "compare both clocks; if they are right, join again with a new token",
            Self::NoCertificate => "join first: `tanist token create` on the server prints the line to type here",
            Self::Unexpected => {
                "the other side expected somebody else at this address: compare with `tanist agent list`"
            }
        }
    }
}

/// What an error wraps. An I/O error does not name the error inside it as its source, only that one's source.
fn beneath<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    let inside = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    inside.map(|inside| inside as &(dyn Error + 'static)).or_else(|| error.source())
}

/// How the verifiers hand a failure of ours through the TLS library.
impl From<TlsFailure> for rustls::Error {
    fn from(failure: TlsFailure) -> Self {
        Self::InvalidCertificate(CertificateError::Other(OtherError(std::sync::Arc::new(failure))))
    }
}

fn timestamp(time: UnixTime) -> Timestamp {
    from_seconds(i64::try_from(time.as_secs()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the request failed")]
    struct Wrapped(#[source] io::Error);

    #[test]
    fn a_failure_is_found_however_deep_it_is_wrapped() {
        let expected = "0".repeat(64).parse::<CaHash>().unwrap();
        let inner = io::Error::new(io::ErrorKind::InvalidData, rustls::Error::from(TlsFailure::Pin { expected }));
        let error = Wrapped(io::Error::other(Wrapped(inner)));
        assert_eq!(TlsFailure::in_causes(&error), Some(TlsFailure::Pin { expected }));
        assert_eq!(TlsFailure::in_causes(&Wrapped(io::Error::other("refused"))), None);
    }
}
