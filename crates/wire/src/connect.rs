//! From a socket to a connection on which both sides know who the other is. Every step has a time limit, so that a client that
//! says nothing cannot hold a place, and a failure is told in words before the socket closes wherever TLS allows it.

use std::fmt;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, CommonState, ServerConfig};
use rustls_pki_types::ServerName;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tanist_model::time::Timestamp;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use crate::certificate::{CertificateProblem, PeerIdentity};
use crate::frame::{Connection, FRAME_LIMIT, FrameError, PREAMBLE_LIMIT};
use crate::handshake::{Admission, Answer, ClientPreamble, Version};
use crate::refusal::Refusal;
use crate::socket;
use crate::tls::Protocol;
use crate::tls_failure::TlsFailure;

/// The longest that any one step may take.
pub const STEP_LIMIT: Duration = Duration::from_secs(5);
/// After a failed handshake the socket is read for so long, or so far, before it is closed: closing it with unread bytes would
/// reset the connection and could destroy the alert that says why.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: u64 = 64 << 10;

/// A step on the way to a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    Dial,
    Tls,
    Preamble,
    Answer,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dial => "dialling",
            Self::Tls => "the TLS handshake",
            Self::Preamble => "the first message",
            Self::Answer => "the answer to the first message",
        })
    }
}

/// Why there is no connection. `address` is the other side's.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    #[error("dial {address}: {source}")]
    Dial { address: String, source: io::Error },
    #[error("connect with {address}: {step} took longer than {} s", STEP_LIMIT.as_secs())]
    Timeout { address: String, step: Step },
    #[error("connect with {address} securely: {failure}")]
    Tls { address: String, failure: TlsFailure },
    #[error("connect with {address}: {source}")]
    Io { address: String, source: io::Error },
    #[error("exchange messages with {address}: {source}")]
    Frame { address: String, source: FrameError },
    #[error("connect with {address}: it closed the connection during {step}")]
    Closed { address: String, step: Step },
    /// The other side refused us.
    #[error("{address} refused: {refusal}")]
    Refused { address: String, refusal: Refusal },
    /// We refused the other side, and told it so, except on a data stream, which has no words for it; for the audit log.
    #[error("{address} was refused: {refusal}")]
    TurnedAway { address: String, refusal: Refusal },
    #[error("{address} chose protocol version {}, which was not offered", version.0)]
    Version { address: String, version: Version },
}

impl WireError {
    /// What the operator can do.
    #[must_use]
    pub fn hint(&self) -> &str {
        match self {
            Self::Dial { .. } => "is the other process running, and is the way to its port open? It is tried again",
            Self::Timeout { .. } | Self::Closed { .. } | Self::Io { .. } => {
                "the other side or the network is overloaded or gone, or something else listens there; it is tried again"
            }
            Self::Tls { failure, .. } => failure.hint(),
            Self::Frame { source, .. } => source.hint(),
            Self::Refused { refusal, .. } | Self::TurnedAway { refusal, .. } => &refusal.hint,
            Self::Version { .. } => "upgrade the older side: releases that follow each other work together",
        }
    }

    /// True if the same attempt may succeed later without anybody's help.
    #[must_use]
    pub fn retry_helps(&self) -> bool {
        match self {
            Self::Dial { .. } | Self::Timeout { .. } | Self::Closed { .. } | Self::Io { .. } | Self::Frame { .. } => {
                true
            }
            // Another process may hold the address for a while; the right one may come back to it.
            Self::Tls { failure, .. } => !matches!(failure, TlsFailure::RefusedByPeer(_) | TlsFailure::Pin { .. }),
            Self::Refused { refusal, .. } | Self::TurnedAway { refusal, .. } => refusal.code.retry_helps(),
            Self::Version { .. } => false,
        }
    }
}

/// A connection on which both sides have agreed.
#[derive(Debug)]
pub struct Established<R, S> {
    pub connection: Connection<R, S>,
    /// Who the other side is, by its verified certificate.
    pub peer: PeerIdentity,
    pub version: Version,
}

/// Dials a server or a peer, and does the whole handshake. `clock` is read when the first message is sent.
///
/// # Errors
/// [`WireError`].
pub async fn connect<R, S>(
    address: &str,
    config: Arc<ClientConfig>,
    clock: impl FnOnce() -> Timestamp,
) -> Result<Established<R, S>, WireError>
where
    R: DeserializeOwned,
    S: Serialize,
{
    let stream = connect_tls(address, config).await?;
    greet(stream, address, &ClientPreamble::new(clock())).await
}

/// Dials with TLS and no more: for the HTTPS API, and for streams with a handshake of their own.
///
/// # Errors
/// [`WireError`].
pub async fn connect_tls(address: &str, config: Arc<ClientConfig>) -> Result<client::TlsStream<TcpStream>, WireError> {
    let stream = within(Step::Dial, address, socket::dial(address)).await?;
    let stream = stream.map_err(|source| WireError::Dial { address: address.to_owned(), source })?;
    secure(stream, address, config).await
}

/// The TLS handshake of the dialling side, over any stream.
///
/// # Errors
/// [`WireError::Tls`], [`WireError::Timeout`], [`WireError::Io`].
pub async fn secure<T>(stream: T, address: &str, config: Arc<ClientConfig>) -> Result<client::TlsStream<T>, WireError>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    // Identities are verified, not names: this one is never looked at and never sent.
    let name = ServerName::IpAddress(std::net::Ipv4Addr::UNSPECIFIED.into());
    let attempt = TlsConnector::from(config).connect(name, stream);
    within(Step::Tls, address, attempt).await?.map_err(|error| tls_error(address, error))
}

/// The first messages of the dialling side, over a TLS stream.
///
/// # Errors
/// [`WireError`]; [`WireError::Refused`] carries the other side's words.
pub async fn greet<R, S, T>(
    stream: client::TlsStream<T>,
    address: &str,
    preamble: &ClientPreamble,
) -> Result<Established<R, S>, WireError>
where
    R: DeserializeOwned,
    S: Serialize,
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let peer = peer_identity(stream.get_ref().1, address)?.ok_or_else(|| no_certificate(address))?;
    let mut connection = Connection::<Answer, ClientPreamble>::over(stream, PREAMBLE_LIMIT);
    // A side that refused our certificate may be gone already: its alert, which says more, is then still there to be read.
    let sent = within(Step::Preamble, address, connection.send(preamble)).await?;
    let answer = within(Step::Answer, address, connection.recv()).await?;
    let answer = answer.map_err(|error| frame_error(address, error))?;
    sent.map_err(|error| frame_error(address, error))?;
    let version = accepted(answer, address, preamble)?;
    Ok(Established { connection: connection.speaking(FRAME_LIMIT), peer, version })
}

/// A connection that somebody opened, after TLS and before anything is admitted.
#[derive(Debug)]
pub struct Incoming<T> {
    pub(crate) stream: server::TlsStream<T>,
    pub(crate) address: String,
    protocol: Protocol,
    pub(crate) peer: Option<PeerIdentity>,
}

/// The TLS handshake of the listening side, over any stream. `address` is the other side's, for errors.
///
/// # Errors
/// [`WireError::Tls`], [`WireError::Timeout`], [`WireError::Io`].
pub async fn accept<T>(stream: T, address: &str, config: Arc<ServerConfig>) -> Result<Incoming<T>, WireError>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let attempt = TlsAcceptor::from(config).accept(stream).into_fallible();
    match within(Step::Tls, address, attempt).await? {
        Ok(stream) => Incoming::new(stream, address),
        Err((error, stream)) => {
            linger(stream).await;
            Err(tls_error(address, error))
        }
    }
}

impl<T> Incoming<T> {
    fn new(stream: server::TlsStream<T>, address: &str) -> Result<Self, WireError> {
        let state: &CommonState = stream.get_ref().1;
        let failed = |failure| WireError::Tls { address: address.to_owned(), failure };
        let protocol =
            Protocol::from_alpn(state.alpn_protocol()).ok_or_else(|| failed(TlsFailure::NoCommonProtocol))?;
        let peer = peer_identity(state, address)?;
        Ok(Self { stream, address: address.to_owned(), protocol, peer })
    }

    /// What the other side came for.
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Who it is, if it has shown a certificate.
    #[must_use]
    pub fn peer(&self) -> Option<&PeerIdentity> {
        self.peer.as_ref()
    }

    /// The stream, for [`Protocol::Http`].
    #[must_use]
    pub fn into_stream(self) -> server::TlsStream<T> {
        self.stream
    }
}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Incoming<T> {
    /// Waits for the first message.
    ///
    /// # Errors
    /// [`WireError::Timeout`], [`WireError::Frame`], [`WireError::Closed`].
    pub async fn knock(self) -> Result<Knock, WireError> {
        let Self { stream, address, peer, .. } = self;
        let mut connection = Connection::over(stream, PREAMBLE_LIMIT);
        let preamble = within(Step::Preamble, &address, connection.recv()).await?;
        let preamble = preamble.map_err(|error| frame_error(&address, error))?;
        let closed = || WireError::Closed { address: address.clone(), step: Step::Preamble };
        let preamble = preamble.ok_or_else(closed)?;
        Ok(Knock { connection, preamble, peer, address })
    }
}

/// Somebody at the door, who has said what it speaks and waits for an answer.
#[derive(Debug)]
pub struct Knock {
    connection: Connection<ClientPreamble, Answer>,
    preamble: ClientPreamble,
    peer: Option<PeerIdentity>,
    address: String,
}

impl Knock {
    #[must_use]
    pub fn preamble(&self) -> &ClientPreamble {
        &self.preamble
    }

    #[must_use]
    pub fn peer(&self) -> Option<&PeerIdentity> {
        self.peer.as_ref()
    }

    /// Answers: admits, or refuses with the reason. `welcome` adds what only the caller knows: revoked, removed.
    ///
    /// # Errors
    /// [`WireError::TurnedAway`] with the refusal sent; [`WireError::Timeout`], [`WireError::Frame`].
    pub async fn admit<R, S>(
        self,
        admission: &Admission,
        now: Timestamp,
        welcome: impl FnOnce(&PeerIdentity) -> Result<(), Refusal>,
    ) -> Result<Established<R, S>, WireError>
    where
        R: DeserializeOwned,
        S: Serialize,
    {
        let verdict = admission.judge(self.peer.as_ref(), &self.preamble, now);
        let verdict = verdict.and_then(|(peer, version)| welcome(peer).map(|()| (peer.clone(), version)));
        match verdict {
            Ok((peer, version)) => self.accept(peer, version).await,
            Err(refusal) => self.refuse(refusal).await,
        }
    }

    async fn accept<R, S>(mut self, peer: PeerIdentity, version: Version) -> Result<Established<R, S>, WireError>
    where
        R: DeserializeOwned,
        S: Serialize,
    {
        let sent = within(Step::Answer, &self.address, self.connection.send(&Answer::Accepted { version })).await?;
        sent.map_err(|error| frame_error(&self.address, error))?;
        Ok(Established { connection: self.connection.speaking(FRAME_LIMIT), peer, version })
    }

    async fn refuse<E>(mut self, refusal: Refusal) -> Result<E, WireError> {
        let answer = Answer::Refused(refusal.clone());
        let told = async {
            self.connection.send(&answer).await?;
            self.connection.close().await
        };
        // Whether the refusal arrives changes nothing here: it is refused.
        let _ = within(Step::Answer, &self.address, told).await;
        Err(WireError::TurnedAway { address: self.address, refusal })
    }
}

fn accepted(answer: Option<Answer>, address: &str, preamble: &ClientPreamble) -> Result<Version, WireError> {
    let address = address.to_owned();
    match answer {
        Some(Answer::Accepted { version }) if preamble.versions.contains(version) => Ok(version),
        Some(Answer::Accepted { version }) => Err(WireError::Version { address, version }),
        Some(Answer::Refused(refusal)) => Err(WireError::Refused { address, refusal }),
        None => Err(WireError::Closed { address, step: Step::Answer }),
    }
}

pub(crate) fn peer_identity(state: &CommonState, address: &str) -> Result<Option<PeerIdentity>, WireError> {
    let Some(certificate) = state.peer_certificates().and_then(<[_]>::first) else { return Ok(None) };
    let unusable =
        |problem: CertificateProblem| WireError::Tls { address: address.to_owned(), failure: problem.into() };
    PeerIdentity::from_der(certificate).map(Some).map_err(unusable)
}

fn no_certificate(address: &str) -> WireError {
    WireError::Tls { address: address.to_owned(), failure: TlsFailure::NoCertificate }
}

fn tls_error(address: &str, error: io::Error) -> WireError {
    let address = address.to_owned();
    match TlsFailure::in_io(&error) {
        Some(failure) => WireError::Tls { address, failure },
        None => WireError::Io { address, source: error },
    }
}

fn frame_error(address: &str, error: FrameError) -> WireError {
    let address = address.to_owned();
    match error {
        FrameError::Tls(failure) => WireError::Tls { address, failure },
        source => WireError::Frame { address, source },
    }
}

async fn within<O>(step: Step, address: &str, work: impl Future<Output = O>) -> Result<O, WireError> {
    let late = |_| WireError::Timeout { address: address.to_owned(), step };
    tokio::time::timeout(STEP_LIMIT, work).await.map_err(late)
}

async fn linger<T: AsyncRead + AsyncWrite + Unpin>(mut stream: T) {
    let drain = async {
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(LINGER_BYTES), &mut tokio::io::sink()).await
    };
    // The connection has failed already; how its end goes is of no interest.
    let _ = tokio::time::timeout(LINGER, drain).await;
}
