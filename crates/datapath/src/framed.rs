//! Frames on a link: reading and writing whole frames, with blocks in buffers of the pool.

use std::io::{self, Read, Write};

use crate::frame::{self, FrameError, FrameKey, HEADER_BYTES, Header, Kind};
use crate::link::LinkError;
use crate::pool::PooledBuffer;

/// What came with a header.
#[derive(Debug)]
pub(crate) enum Payload {
    Block(PooledBuffer),
    /// A grant, a reason, or nothing.
    Small(Vec<u8>),
}

/// A frame as it came; its checksums are right.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) header: Header,
    pub(crate) payload: Payload,
}

impl Payload {
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Block(buffer) => buffer,
            Self::Small(bytes) => bytes,
        }
    }

    /// The text in the payload of a frame that has one.
    pub(crate) fn reason(&self) -> String {
        match self {
            Self::Small(bytes) => frame::reason(bytes).unwrap_or("(a reason that is no text)").to_owned(),
            Self::Block(_) => String::new(),
        }
    }
}

impl Received {
    /// What came behind the header.
    pub(crate) fn payload(&self) -> &[u8] {
        self.payload.bytes().get(..self.header.payload_len()).unwrap_or_default()
    }

    pub(crate) fn wire_bytes(&self) -> u64 {
        (HEADER_BYTES + self.header.payload_len()) as u64
    }
}

/// The reading half of a stream.
pub(crate) struct FrameReader {
    pub(crate) stream: u16,
    pub(crate) inner: Box<dyn Read + Send>,
    /// A header whose block found no buffer.
    half_read: Option<Header>,
}

impl FrameReader {
    pub(crate) fn new(stream: u16, inner: Box<dyn Read + Send>) -> Self {
        Self { stream, inner, half_read: None }
    }

    /// The next frame; `None` if no buffer is lent any more. A block waits for its buffer before it is read, which is how a slow target holds
    /// the source back.
    pub(crate) fn next(&mut self, lend: impl FnOnce() -> Option<PooledBuffer>) -> Result<Option<Received>, LinkError> {
        let header = self.header()?;
        if !matches!(header.kind, Kind::Data { .. } | Kind::Pages { .. }) {
            return self.with_small(header).map(Some);
        }
        let Some(mut buffer) = lend() else {
            self.half_read = Some(header);
            return Ok(None);
        };
        let (bytes, _) = buffer.split_at_mut(header.payload_len());
        self.fill(bytes)?;
        header.check_payload(bytes).map_err(|cause| self.damaged(cause))?;
        Ok(Some(Received { header, payload: Payload::Block(buffer) }))
    }

    /// The next frame when nobody lends buffers any more: its header; its payload is left in `payload`.
    pub(crate) fn next_unpooled(&mut self, payload: &mut Vec<u8>) -> Result<Header, LinkError> {
        let header = match self.half_read.take() {
            Some(header) => header,
            None => self.header()?,
        };
        payload.resize(header.payload_len(), 0);
        self.fill(payload)?;
        header.check_payload(payload).map_err(|cause| self.damaged(cause))?;
        Ok(header)
    }

    /// The next frame where no blocks are expected.
    pub(crate) fn next_small(&mut self) -> Result<Received, LinkError> {
        let header = self.header()?;
        if matches!(header.kind, Kind::Data { .. } | Kind::Pages { .. }) {
            return Err(LinkError::Unexpected { kind: header.kind.code() });
        }
        self.with_small(header)
    }

    fn with_small(&mut self, header: Header) -> Result<Received, LinkError> {
        let mut bytes = vec![0; header.payload_len()];
        self.fill(&mut bytes)?;
        header.check_payload(&bytes).map_err(|cause| self.damaged(cause))?;
        Ok(Received { header, payload: Payload::Small(bytes) })
    }

    fn header(&mut self) -> Result<Header, LinkError> {
        let mut bytes = [0; HEADER_BYTES];
        self.fill(&mut bytes)?;
        Header::decode(&bytes).map_err(|cause| self.damaged(cause))
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), LinkError> {
        self.inner.read_exact(bytes).map_err(|cause| LinkError::Broken { stream: self.stream, cause: named(cause) })
    }

    fn damaged(&self, cause: FrameError) -> LinkError {
        LinkError::Damaged { stream: self.stream, cause }
    }
}

fn named(cause: io::Error) -> io::Error {
    if cause.kind() == io::ErrorKind::UnexpectedEof {
        return io::Error::new(io::ErrorKind::UnexpectedEof, "the other side closed it");
    }
    cause
}

/// The writing half of a stream.
pub(crate) struct FrameWriter {
    pub(crate) stream: u16,
    pub(crate) inner: Box<dyn Write + Send>,
}

impl FrameWriter {
    /// Writes a frame and hands it over; how many bytes it was.
    pub(crate) fn write(&mut self, header: &Header, payload: &[u8]) -> Result<u64, LinkError> {
        let bytes = header.encode();
        let written =
            self.inner.write_all(&bytes).and_then(|()| self.inner.write_all(payload)).and_then(|()| self.inner.flush());
        written.map_err(|cause| LinkError::Broken { stream: self.stream, cause })?;
        Ok((bytes.len() + payload.len()) as u64)
    }

    /// Makes a frame and writes it.
    pub(crate) fn say(&mut self, key: FrameKey, kind: Kind, payload: &[u8]) -> Result<u64, LinkError> {
        let header =
            Header::new(key, kind, payload).map_err(|cause| LinkError::Damaged { stream: self.stream, cause })?;
        self.write(&header, payload)
    }
}
