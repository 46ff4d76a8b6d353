//! Data streams: blocks from one agent to another, on the port of the peers. TLS says who is there and nothing else is exchanged
//! here: the first frame of the data path carries a [`crate::grant`], and the holder judges it. So a stream is as fast as TLS is,
//! and this room knows nothing of blocks.

use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::{ClientConfig, Connection};
use tokio::net::TcpStream;

use crate::certificate::PeerIdentity;
use crate::connect::{self, Incoming, WireError};
use crate::handshake::Admission;
use crate::socket::{self, Patience};
use crate::stream_halves::{self, Cut};
use crate::tls::Protocol;
use crate::tls_failure::TlsFailure;

/// An encrypted stream between two agents of one cluster.
pub struct DataStream {
    /// Who the other side is, by its verified certificate: an agent.
    pub peer: PeerIdentity,
    socket: TcpStream,
    session: Connection,
}

/// The two directions of a stream, for threads outside the runtime, and the way to end both. The halves block each on its own: a
/// waiting read never holds up a write.
pub struct StreamParts {
    /// Ends with `Ok(0)` after the other side has dropped its writer, and with an error if the stream was cut before.
    pub reader: Box<dyn io::Read + Send>,
    /// Collects what is written; `flush` sends it. Dropping it says the end to the other side if everything was flushed, and
    /// never waits: what was not flushed is not sent.
    pub writer: Box<dyn io::Write + Send>,
    /// Cuts the connection, from any thread: whoever waits in a read or a write here gets an error at once. The other side's reads
    /// end after what was sent before; its writes fail a few seconds after both halves here are dropped.
    pub shutdown: Cut,
}

impl fmt::Debug for DataStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataStream").field("peer", &self.peer).field("socket", &self.socket).finish_non_exhaustive()
    }
}

impl fmt::Debug for StreamParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StreamParts { .. }")
    }
}

/// Dials a peer's port for data, with [`crate::tls::data_client_config`]. A peer that refuses our certificate, or our identity,
/// shows that in the first read only: TLS 1.3 lets the dialling side go on before it has been judged.
///
/// # Errors
/// [`WireError`].
pub async fn dial(address: &str, config: Arc<ClientConfig>) -> Result<DataStream, WireError> {
    let (socket, session) = connect::connect_tls(address, config).await?.into_inner();
    DataStream::new(socket, session.into(), address, socket::DATA_SENDER)
}

impl Incoming<TcpStream> {
    /// The stream of [`Protocol::Data`], if it is of somebody who may have one: an agent of this cluster (that its certificate is
    /// in force, TLS has seen). There are no words for a refusal here: the other side sees the connection end.
    ///
    /// # Errors
    /// [`WireError::TurnedAway`], and [`WireError::Tls`] if the other side came for something else.
    pub fn into_data(self, admission: &Admission) -> Result<DataStream, WireError> {
        let Self { stream, address, peer, .. } = self;
        if let Err(refusal) = admission.identify(peer.as_ref()) {
            return Err(WireError::TurnedAway { address, refusal });
        }
        let (socket, session) = stream.into_inner();
        DataStream::new(socket, session.into(), &address, socket::DATA_RECEIVER)
    }
}

impl DataStream {
    fn new(socket: TcpStream, session: Connection, address: &str, patience: Patience) -> Result<Self, WireError> {
        let failed = |failure| WireError::Tls { address: address.to_owned(), failure };
        if Protocol::from_alpn(session.alpn_protocol()) != Some(Protocol::Data) {
            return Err(failed(TlsFailure::NoCommonProtocol));
        }
        let peer = connect::peer_identity(&session, address)?.ok_or_else(|| failed(TlsFailure::NoCertificate))?;
        socket::tune_data(&socket, patience).map_err(|source| WireError::Io { address: address.to_owned(), source })?;
        Ok(Self { peer, socket, session })
    }

    /// Takes the stream out of the runtime.
    ///
    /// # Errors
    /// The operating system's.
    pub fn into_parts(self) -> io::Result<StreamParts> {
        let socket = self.socket.into_std()?;
        socket.set_nonblocking(false)?;
        let (reader, writer, shutdown) = stream_halves::halves(socket, self.session);
        Ok(StreamParts { reader: Box::new(reader), writer: Box::new(writer), shutdown })
    }
}
