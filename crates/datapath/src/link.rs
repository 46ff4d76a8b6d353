//! One stream between two agents, as the engine needs it. It knows no sockets and no TLS: whoever has them builds a [`Link`].

use std::fmt;
use std::io::{Read, Write};
use std::sync::Arc;

use crate::frame::FrameError;
use crate::gate::Refusal;

/// One ordered, reliable stream of bytes in both directions, in three parts that work at the same time on three threads.
///
/// Whoever makes one guarantees:
/// - **Full duplex.** A read that waits never holds up a write, and a write that waits never holds up a read. (A TLS session that
///   stands behind one lock must not be locked while its socket is read or written.)
/// - **Order, and nothing in secret.** Bytes come as they were sent, or the stream breaks. `write` may buffer; `flush` hands
///   everything over. The buffers of a link are bounded: its own back pressure is the flow control.
/// - **It ends.** A peer that has vanished shows as an error in bounded time (keepalive, `TCP_USER_TIMEOUT`); nothing here has
///   a clock for that. An end in order is `Ok(0)`; it need not be told apart from a break, since frames say when all was sent.
/// - **It can be cut**, see [`Shutdown`]. What was flushed before the cut still arrives if the other side reads.
pub struct Link {
    pub reader: Box<dyn Read + Send>,
    pub writer: Box<dyn Write + Send>,
    pub shutdown: Arc<dyn Shutdown>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Link(..)")
    }
}

/// Cuts a stream from any thread.
pub trait Shutdown: Send + Sync {
    /// Both directions. A read or write in progress and every later one ends at once, with an error or the stream's end. Waits for
    /// nothing; may be called again and again. `shutdown(2)` of the socket does all of this, whatever stands above it.
    fn shutdown(&self);
}

impl<F: Fn() + Send + Sync> Shutdown for F {
    fn shutdown(&self) {
        self();
    }
}

/// Why streams between the two sides are of no more use. A new attempt, with a new generation, goes on at the last committed
/// checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error("stream {stream} to the other side broke: {cause}")]
    Broken {
        stream: u16,
        #[source]
        cause: std::io::Error,
    },
    #[error("stream {stream} from the other side cannot be understood: {cause}")]
    Damaged {
        stream: u16,
        #[source]
        cause: FrameError,
    },
    /// This side is the target and did not let a frame in.
    #[error("a frame of the source was refused: {0}")]
    Refused(#[from] Refusal),
    /// This side is the source and was not let in.
    #[error("the target refused: {reason}")]
    RefusedByTarget { reason: String },
    #[error("the other side gave up: {reason}")]
    EndedByPeer { reason: String },
    /// The other side sent what it has no reason to send.
    #[error("the other side sent a frame of kind {kind} that does not belong to this stream")]
    Unexpected { kind: u8 },
    #[error("{found} streams were given, and 1 to {limit} can be used")]
    StreamCount { found: usize, limit: u16 },
}
