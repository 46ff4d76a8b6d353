//! A stream that has come to a target and said what it wants, before anybody has decided whether it is let in.
//!
//! The grant it brings was signed by the server; the engine cannot judge it. So the caller accepts each stream here, checks the
//! grant, finds the run that is open, gathers the streams that belong together, and starts a [`crate::Receiver`] with them. A
//! stream that is not wanted is refused with a reason; one that is only dropped is cut.

use std::fmt;
use std::sync::Arc;

use crate::frame::{Comparison, FrameKey, Header, Kind, reason_payload};
use crate::framed::{FrameReader, FrameWriter, Payload};
use crate::gate::{self, GateRules, OpenRun, Refusal};
use crate::link::{Link, LinkError, Shutdown};

/// A stream whose first frame was read.
pub struct Arrival {
    pub(crate) header: Header,
    pub(crate) reader: FrameReader,
    pub(crate) writer: FrameWriter,
    pub(crate) cut: Cut,
    stream: u16,
    streams: u16,
    grant: Vec<u8>,
}

/// Cuts its stream when it is dropped.
pub(crate) struct Cut(Arc<dyn Shutdown>);

impl Cut {
    pub(crate) fn new(shutdown: Arc<dyn Shutdown>) -> Self {
        Self(shutdown)
    }

    pub(crate) fn cut(&self) {
        self.0.shutdown();
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        self.cut();
    }
}

impl Arrival {
    /// Reads the first frame. It waits as long as the other side lets it: the caller cuts the link when a deadline has passed.
    ///
    /// # Errors
    /// [`LinkError`]; the link is cut then.
    pub fn accept(link: Link) -> Result<Self, LinkError> {
        let Link { reader, writer, shutdown } = link;
        let cut = Cut(shutdown);
        let mut reader = FrameReader::new(0, reader);
        let frame = reader.next_small()?;
        let (Kind::Open { stream, streams, .. }, Payload::Small(grant)) = (frame.header.kind, frame.payload) else {
            return Err(Refusal::OutOfPlace { kind: frame.header.kind.code() }.into());
        };
        reader.stream = stream;
        let writer = FrameWriter { stream, inner: writer };
        Ok(Self { header: frame.header, reader, writer, cut, stream, streams, grant })
    }

    /// Whose stream it says it is. Believed only as far as the grant bears it out.
    #[must_use]
    pub fn key(&self) -> FrameKey {
        self.header.key
    }

    /// Which of the run's streams it is, from zero, and how many there are to be.
    #[must_use]
    pub fn place(&self) -> (u16, u16) {
        (self.stream, self.streams)
    }

    /// What the server signed; opaque here.
    #[must_use]
    pub fn grant(&self) -> &[u8] {
        &self.grant
    }

    /// Asks the gate whether the stream belongs to what is open. The receiver asks again.
    ///
    /// # Errors
    /// Why it does not; to be told by [`refuse`](Self::refuse), and counted.
    pub fn check(&self, key: FrameKey, size_bytes: u64, from_seq: u64, rules: GateRules) -> Result<(), Refusal> {
        let comparison = comparison_of(&self.header);
        let run = OpenRun { comparison, ..OpenRun::new(key, self.streams, size_bytes, from_seq, rules) };
        gate::admit_open(&run, &self.header, self.stream)
    }

    /// Tells the source why it is not let in, and ends the stream.
    pub fn refuse(mut self, reason: &str) {
        // A source that is gone already does not hear it, and needs not.
        let _ = self.writer.say(self.header.key, Kind::Refused, reason_payload(reason));
    }
}

impl fmt::Debug for Arrival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arrival").field("header", &self.header).finish_non_exhaustive()
    }
}

/// What the source of a stream leaves out. Whether it may, the receiver knows.
pub(crate) fn comparison_of(header: &Header) -> Comparison {
    match header.kind {
        Kind::Open { comparison, .. } => comparison,
        _ => Comparison::None,
    }
}
