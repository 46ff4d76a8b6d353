//! Messages on a stream: a length of four bytes (big endian), then one JSON value. A receiver believes the length no further than
//! its limit and makes room only for bytes that have arrived, so an announcement costs the other side nothing. Unknown fields
//! are ignored, which is how version N speaks with N-1. After an error the stream's position means nothing: the connection ends.

use std::fmt;
use std::io;
use std::marker::PhantomData;

use bytes::{Buf, BufMut, BytesMut};
use futures_util::{SinkExt, StreamExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tanist_model::excerpt::excerpt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::codec::{Decoder, Encoder, FramedRead, FramedWrite};

use crate::tls_failure::TlsFailure;

/// The largest message, bytes of JSON.
pub const FRAME_LIMIT: usize = 1 << 20;
/// The same before the other side is known to be welcome.
pub const PREAMBLE_LIMIT: usize = 16 << 10;
const HEADER_BYTES: usize = 4;
/// Ten thousand idle agents wait on one server: small buffers that grow when needed.
const BUFFER_BYTES: usize = 1 << 10;

/// Why no further message can be exchanged.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    #[error("the other side announced a message of {length} bytes, and {limit} is the limit")]
    TooLarge { length: usize, limit: usize },
    #[error("a message to send has {length} bytes, and {limit} is the limit")]
    TooLargeToSend { length: usize, limit: usize },
    #[error("a message of {length} bytes cannot be read: {}", excerpt(&source.to_string()))]
    Unparsable { length: usize, source: serde_json::Error },
    #[error("a message cannot be written: {0}")]
    Unwritable(serde_json::Error),
    #[error("the connection ended in the middle of a message, after {received} bytes")]
    Truncated { received: usize },
    #[error("the connection has already failed")]
    Failed,
    #[error("{0}")]
    Tls(TlsFailure),
    #[error("{0}")]
    Io(io::Error),
}

impl FrameError {
    /// What the operator can do.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } | Self::Unparsable { .. } => {
                "compare the versions on both sides: they should differ by one at most"
            }
            Self::TooLargeToSend { .. } | Self::Unwritable(_) => "this is a fault of tanist: please report it",
            Self::Tls(failure) => failure.hint(),
            Self::Truncated { .. } | Self::Failed | Self::Io(_) => {
                "the process or the network at the other end failed; it is dialled again"
            }
        }
    }
}

impl From<io::Error> for FrameError {
    fn from(error: io::Error) -> Self {
        TlsFailure::in_io(&error).map_or_else(|| Self::Io(error), Self::Tls)
    }
}

/// The frame format for messages `M`.
pub(crate) struct JsonFrames<M> {
    limit: usize,
    message: PhantomData<fn(M) -> M>,
}

impl<M> JsonFrames<M> {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, message: PhantomData }
    }
}

impl<M: DeserializeOwned> Decoder for JsonFrames<M> {
    type Item = M;
    type Error = FrameError;

    fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<M>, FrameError> {
        let Some(header) = buffer.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let length = usize::try_from(u32::from_be_bytes(*header)).unwrap_or(usize::MAX);
        if length > self.limit {
            return Err(FrameError::TooLarge { length, limit: self.limit });
        }
        let Some(body) = buffer.get(HEADER_BYTES..HEADER_BYTES + length) else { return Ok(None) };
        let message = serde_json::from_slice(body).map_err(|source| FrameError::Unparsable { length, source })?;
        buffer.advance(HEADER_BYTES + length);
        Ok(Some(message))
    }

    fn decode_eof(&mut self, buffer: &mut BytesMut) -> Result<Option<M>, FrameError> {
        match self.decode(buffer)? {
            None if !buffer.is_empty() => Err(FrameError::Truncated { received: buffer.len() }),
            message => Ok(message),
        }
    }
}

impl<M: Serialize> Encoder<&M> for JsonFrames<M> {
    type Error = FrameError;

    fn encode(&mut self, message: &M, buffer: &mut BytesMut) -> Result<(), FrameError> {
        let body = serde_json::to_vec(message).map_err(FrameError::Unwritable)?;
        let too_large = || FrameError::TooLargeToSend { length: body.len(), limit: self.limit };
        let length = u32::try_from(body.len()).map_err(|_| too_large())?;
        if body.len() > self.limit {
            return Err(too_large());
        }
        buffer.reserve(HEADER_BYTES + body.len());
        buffer.put_u32(length);
        buffer.extend_from_slice(&body);
        Ok(())
    }
}

/// The receiving half of a connection.
pub struct Receiver<R> {
    frames: FramedRead<Box<dyn AsyncRead + Send + Unpin>, JsonFrames<R>>,
    failed: bool,
}

impl<R> fmt::Debug for Receiver<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("failed", &self.failed).finish_non_exhaustive()
    }
}

impl<R: DeserializeOwned> Receiver<R> {
    /// The next message; `None` when the other side has closed in order. A process that dies closes its socket without the
    /// word that TLS wants (RFC 8446, 6.1): that is [`FrameError::Io`]. Safe to cancel: nothing received is lost.
    ///
    /// # Errors
    /// [`FrameError`], and from then on always [`FrameError::Failed`].
    pub async fn recv(&mut self) -> Result<Option<R>, FrameError> {
        if self.failed {
            return Err(FrameError::Failed);
        }
        let received = self.frames.next().await.transpose();
        self.failed = received.is_err();
        received
    }
}

/// The sending half of a connection.
pub struct Sender<S> {
    frames: FramedWrite<Box<dyn AsyncWrite + Send + Unpin>, JsonFrames<S>>,
}

impl<S> fmt::Debug for Sender<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sender(..)")
    }
}

impl<S: Serialize> Sender<S> {
    /// Sends and flushes one message. If this is cancelled the message may go out with the next one, whole.
    ///
    /// # Errors
    /// [`FrameError`].
    pub async fn send(&mut self, message: &S) -> Result<(), FrameError> {
        self.frames.send(message).await
    }

    /// Closes in order: the other side gets everything sent, then the end.
    ///
    /// # Errors
    /// [`FrameError::Io`].
    pub async fn close(&mut self) -> Result<(), FrameError> {
        SinkExt::<&S>::close(&mut self.frames).await
    }
}

/// A connection that receives messages `R` and sends messages `S`.
#[derive(Debug)]
pub struct Connection<R, S> {
    receiver: Receiver<R>,
    sender: Sender<S>,
}

impl<R: DeserializeOwned, S: Serialize> Connection<R, S> {
    /// Over any stream, with a limit for each message in bytes.
    pub fn over<T>(stream: T, limit: usize) -> Self
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (input, output) = tokio::io::split(stream);
        let frames = FramedRead::with_capacity(Box::new(input) as _, JsonFrames::new(limit), BUFFER_BYTES);
        let receiver = Receiver { frames, failed: false };
        let frames = FramedWrite::with_capacity(Box::new(output) as _, JsonFrames::new(limit), BUFFER_BYTES);
        Self { receiver, sender: Sender { frames } }
    }

    /// See [`Receiver::recv`].
    ///
    /// # Errors
    /// [`FrameError`].
    pub async fn recv(&mut self) -> Result<Option<R>, FrameError> {
        self.receiver.recv().await
    }

    /// See [`Sender::send`].
    ///
    /// # Errors
    /// [`FrameError`].
    pub async fn send(&mut self, message: &S) -> Result<(), FrameError> {
        self.sender.send(message).await
    }

    /// See [`Sender::close`].
    ///
    /// # Errors
    /// [`FrameError::Io`].
    pub async fn close(&mut self) -> Result<(), FrameError> {
        self.sender.close().await
    }

    /// The halves, for a task each. The connection lasts until both are dropped.
    #[must_use]
    pub fn split(self) -> (Receiver<R>, Sender<S>) {
        (self.receiver, self.sender)
    }

    /// The same connection for other messages, from here on. What has been received already is kept.
    #[must_use]
    pub(crate) fn speaking<R2, S2>(self, limit: usize) -> Connection<R2, S2>
    where
        R2: DeserializeOwned,
        S2: Serialize,
    {
        let Receiver { frames, failed } = self.receiver;
        let receiver = Receiver { frames: frames.map_decoder(|_| JsonFrames::new(limit)), failed };
        let sender = Sender { frames: self.sender.frames.map_encoder(|_| JsonFrames::new(limit)) };
        Connection { receiver, sender }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop, proptest};
    use serde::Deserialize;
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Note {
        text: String,
    }

    fn note(text: &str) -> Note {
        Note { text: text.into() }
    }

    fn frame(body: &[u8]) -> Vec<u8> {
        let mut bytes = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
        bytes.extend_from_slice(body);
        bytes
    }

    async fn received(bytes: &[u8]) -> (Result<Option<Note>, FrameError>, Connection<Note, Note>) {
        let (mut raw, ours) = tokio::io::duplex(4 << 20);
        raw.write_all(bytes).await.unwrap();
        drop(raw);
        let mut connection = Connection::over(ours, FRAME_LIMIT);
        (connection.recv().await, connection)
    }

    #[tokio::test]
    async fn messages_pass_in_both_directions_and_by_halves() {
        let (left, right) = tokio::io::duplex(64);
        let mut left = Connection::<Note, Note>::over(left, FRAME_LIMIT);
        let (mut receiver, mut sender) = Connection::<Note, Note>::over(right, FRAME_LIMIT).split();
        let echo = tokio::spawn(async move {
            while let Some(note) = receiver.recv().await.unwrap() {
                sender.send(&note).await.unwrap();
            }
            sender.close().await.unwrap();
        });
        for text in ["one", "two", &"long ".repeat(1000)] {
            left.send(&note(text)).await.unwrap();
            assert_eq!(left.recv().await.unwrap(), Some(note(text)));
        }
        left.close().await.unwrap();
        assert!(left.recv().await.unwrap().is_none());
        echo.await.unwrap();
    }

    #[tokio::test]
    async fn unknown_fields_are_ignored() {
        let (message, _) = received(&frame(br#"{"text":"n","since":"N+1"}"#)).await;
        assert_eq!(message.unwrap(), Some(note("n")));
    }

    #[tokio::test]
    async fn an_oversized_frame_is_refused_before_it_arrives() {
        let announced = u32::try_from(FRAME_LIMIT + 1).unwrap().to_be_bytes();
        let (message, mut connection) = received(&announced).await;
        assert!(
            matches!(message, Err(FrameError::TooLarge { length, limit: FRAME_LIMIT }) if length == FRAME_LIMIT + 1)
        );
        assert!(matches!(connection.recv().await, Err(FrameError::Failed)));
    }

    #[tokio::test]
    async fn garbage_ends_the_connection() {
        let mut bytes = frame(b"not json");
        bytes.extend(frame(br#"{"text":"after"}"#));
        let (message, mut connection) = received(&bytes).await;
        assert!(matches!(message, Err(FrameError::Unparsable { length: 8, .. })));
        assert!(matches!(connection.recv().await, Err(FrameError::Failed)));
    }

    #[tokio::test]
    async fn a_truncated_frame_is_no_orderly_end() {
        let whole = frame(br#"{"text":"n"}"#);
        for cut in 1..whole.len() {
            let (message, _) = received(&whole[..cut]).await;
            assert!(matches!(message, Err(FrameError::Truncated { received }) if received == cut), "{cut}");
        }
        assert!(received(&[]).await.0.unwrap().is_none());
    }

    #[tokio::test]
    async fn an_oversized_message_is_not_sent() {
        let (left, mut right) = tokio::io::duplex(64);
        let mut left = Connection::<Note, Note>::over(left, 16);
        assert!(matches!(
            left.send(&note("longer than that")).await,
            Err(FrameError::TooLargeToSend { limit: 16, .. })
        ));
        drop(left);
        let mut rest = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut right, &mut rest).await.unwrap();
        assert!(rest.is_empty());
    }

    proptest! {
        #[test]
        fn random_bytes_neither_panic_nor_cost_memory(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..64), 0..32),
        ) {
            let mut decoder = JsonFrames::<serde_json::Value>::new(64);
            let mut buffer = BytesMut::new();
            let sent: usize = chunks.iter().map(Vec::len).sum();
            for chunk in chunks {
                buffer.extend_from_slice(&chunk);
                while let Ok(Some(_)) = decoder.decode(&mut buffer) {}
                // Only what arrived is kept: no room is made for what a header merely announces.
                assert!(buffer.capacity() <= 2 * sent.max(64));
            }
            let _ = decoder.decode_eof(&mut buffer);
        }

        #[test]
        fn any_split_of_the_stream_gives_the_same_messages(
            texts in prop::collection::vec(".{0,20}", 0..8),
            step in 1_usize..20,
        ) {
            let mut bytes = BytesMut::new();
            let sent: Vec<Note> = texts.iter().map(|text| note(text)).collect();
            for note in &sent {
                JsonFrames::new(FRAME_LIMIT).encode(note, &mut bytes).unwrap();
            }
            let mut decoder = JsonFrames::<Note>::new(FRAME_LIMIT);
            let (mut buffer, mut received) = (BytesMut::new(), Vec::new());
            for piece in bytes.chunks(step) {
                buffer.extend_from_slice(piece);
                received.extend(std::iter::from_fn(|| decoder.decode(&mut buffer).unwrap()));
            }
            assert_eq!(received, sent);
        }
    }
}
