//! Frames: the one wire format between a source agent and a target agent. Pure: bytes in, values out, no I/O.
//!
//! A frame is a fixed header and at most one block of payload. The header names the run, the epochs and the stream generation
//! in every frame, so that the gate (see [`crate::gate`]) can refuse each frame by itself. Decoding is strict: every field is
//! checked against its bounds, a field that a kind does not use must be zero, and there is exactly one encoding of a frame.
//!
//! ```text
//! source -> target   Open (first on each stream; payload: the signed grant), Data, Zeros, End, Abort (payload: why);
//!                    of what the target has: Same, SameZeros, Pages, Ask, Scan
//! target -> source   Admitted, Refused (payload: why), Durable, Stop, Abort (payload: why);
//!                    of what it has: Digests, PageDigests, TargetZeros
//! ```

mod fields;

use std::fmt;

use tanist_model::id::{Epoch, Epochs, RunId};

use crate::digest::{BLOCK_BYTES, BlockDigest};
use fields::{Fields, checksum};

pub use fields::{HEADER_BYTES, VERSION};

/// The most streams one run may use.
pub const MAX_STREAMS: u16 = 4;
/// The longest grant.
pub const GRANT_LIMIT: u32 = 4 << 10;
/// The longest reason.
pub const REASON_LIMIT: u32 = 1 << 10;
const BLOCK_LIMIT: u32 = 1 << 20;
/// The most blocks that one frame says to be the same.
pub const SAME_BLOCKS: u64 = 16;
const SAME_LIMIT: u32 = 32 * SAME_BLOCKS as u32;
/// Size of a digest of a chunk or page.
const DIGEST_BYTES: u32 = 16;
/// Of the chunks of 16 blocks, or of the pages of one.
const DIGESTS_LIMIT: u32 = DIGEST_BYTES * 256;
const PAGE_SET_LEN: u32 = (crate::pages::PAGES / 8) as u32;

/// Counts how often the streams of a run were opened anew; only grows within a run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct StreamGeneration(pub u64);

/// Counts the frames of a run's streams together, from zero in each generation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct FrameNumber(pub u64);

/// Whose frame it is. Two frames belong together only if their keys are equal.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FrameKey {
    pub run: RunId,
    pub epochs: Epochs,
    pub generation: StreamGeneration,
}

impl fmt::Display for FrameKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "run {}, epochs {}, stream generation {}", self.run, self.epochs, self.generation.0)
    }
}

/// What a source leaves out, and how it learns what the target has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Comparison {
    /// Nothing: everything is sent.
    #[default]
    None,
    /// The target tells what it has, from the beginning to the end.
    Whole,
    /// The source has digests of what the target held before, and asks where they do not suffice.
    Asked,
}

impl Comparison {
    const ALL: [Self; 3] = [Self::None, Self::Whole, Self::Asked];

    /// Whether anything is left out.
    #[must_use]
    pub fn leaves_out(self) -> bool {
        self != Self::None
    }
}

/// What a frame says. The payload, where there is one, is beside it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// The first frame of each stream. Payload: the grant that the server signed, opaque here.
    Open { stream: u16, streams: u16, size_bytes: u64, from_seq: u64, comparison: Comparison },
    /// One block. Payload: its bytes.
    Data { number: FrameNumber, offset: u64, digest: BlockDigest },
    /// Any number of blocks of zeros.
    Zeros { number: FrameNumber, offset: u64, length: u64 },
    /// Blocks that the target has already. Payload: the digest of each.
    Same { number: FrameNumber, offset: u64, length: u64 },
    /// Any number of blocks of zeros that the target has already.
    SameZeros { number: FrameNumber, offset: u64, length: u64 },
    /// One block of which the target has some pages already. Payload: the other pages, one after the other, and which they are.
    Pages { number: FrameNumber, offset: u64, length: u64, digest: BlockDigest },
    /// Which pages has the target in these chunks of 64 KiB of a block? It stands for no part of the volume.
    Ask { number: FrameNumber, offset: u64, chunks: u16 },
    /// What has the target in these blocks? It stands for no part of the volume.
    Scan { number: FrameNumber, offset: u64, length: u64 },
    /// The whole was sent, in as many frames as this one's number says.
    End { number: FrameNumber, offset: u64 },
    /// The side that sends it gives up. Payload: why.
    Abort { number: FrameNumber },
    /// The target has let this stream in.
    Admitted,
    /// The target has not let this stream, or a frame of it, in. Payload: why.
    Refused,
    /// Everything below is durable, and committed at the server.
    Durable { seq: u64 },
    /// The target asks for no more.
    Stop,
    /// What the target has. Payload: the digests of its chunks of 64 KiB; nothing, where reading it proves nothing.
    Digests { offset: u64, length: u64 },
    /// The answer to [`Kind::Ask`]. Payload: the digests of the pages.
    PageDigests { offset: u64 },
    /// Zeros that the target has.
    TargetZeros { offset: u64, length: u64 },
}

/// The header of a frame: everything but the bytes of its payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    pub key: FrameKey,
    pub kind: Kind,
    payload_length: u32,
    payload_checksum: u128,
}

/// Why bytes are no frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FrameError {
    #[error("what arrived is no frame of tanist")]
    Magic,
    #[error(
        "the frame has version {found} of the format, and {VERSION} is spoken here: use the same version of tanist on both sides"
    )]
    Version { found: u16 },
    #[error("the checksum of a frame's header is wrong: it was damaged on the way")]
    HeaderChecksum,
    #[error("the checksum of a frame's payload is wrong: it was damaged on the way")]
    PayloadChecksum,
    #[error("the frame is of kind {0}, which is not known here")]
    Kind(u8),
    #[error("a field of the frame has a value that its kind {0} does not allow")]
    Field(u8),
    #[error("the frame announces {length} bytes of payload, and its kind {kind} has {limit} at most")]
    PayloadTooLong { kind: u8, length: u64, limit: u32 },
    #[error("the frame has {found} bytes of payload and announces {announced}")]
    PayloadLength { announced: u32, found: u64 },
    #[error("the reason in the frame is no text")]
    NotText,
}

impl Kind {
    /// As it stands on the wire.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            Self::Open { .. } => 1,
            Self::Data { .. } => 2,
            Self::Zeros { .. } => 3,
            Self::End { .. } => 4,
            Self::Abort { .. } => 5,
            Self::Same { .. } => 6,
            Self::SameZeros { .. } => 7,
            Self::Pages { .. } => 8,
            Self::Ask { .. } => 9,
            Self::Scan { .. } => 10,
            Self::Admitted => 16,
            Self::Refused => 17,
            Self::Durable { .. } => 18,
            Self::Stop => 19,
            Self::Digests { .. } => 20,
            Self::PageDigests { .. } => 21,
            Self::TargetZeros { .. } => 22,
        }
    }

    /// How many bytes of payload a frame of this kind may have.
    fn payload_limit(&self) -> u32 {
        match self {
            Self::Open { .. } => GRANT_LIMIT,
            Self::Data { .. } | Self::Pages { .. } => BLOCK_LIMIT,
            Self::Same { .. } => SAME_LIMIT,
            Self::Digests { .. } | Self::PageDigests { .. } => DIGESTS_LIMIT,
            Self::Abort { .. } | Self::Refused => REASON_LIMIT,
            _ => 0,
        }
    }

    /// Whether its fields agree with each other. Whether they agree with the run is the gate's question.
    fn is_sound(&self, payload_length: u32) -> bool {
        match *self {
            Self::Open { stream, streams, size_bytes, from_seq, .. } => {
                stream < streams && streams <= MAX_STREAMS && from_seq <= size_bytes
            }
            Self::Data { offset, .. } => payload_length > 0 && ends_in_range(offset, payload_length.into()),
            Self::Zeros { offset, length, .. }
            | Self::SameZeros { offset, length, .. }
            | Self::Scan { offset, length, .. }
            | Self::TargetZeros { offset, length } => length > 0 && ends_in_range(offset, length),
            Self::Digests { offset, length } => {
                length > 0 && ends_in_range(offset, length) && payload_length.is_multiple_of(DIGEST_BYTES)
            }
            Self::PageDigests { .. } => payload_length.is_multiple_of(DIGEST_BYTES),
            Self::Same { offset, length, .. } => {
                let digests = length.div_ceil(BLOCK_BYTES).checked_mul(32);
                length > 0 && ends_in_range(offset, length) && digests == Some(payload_length.into())
            }
            Self::Pages { offset, length, .. } => {
                length > 0 && length <= BLOCK_BYTES && payload_length > PAGE_SET_LEN && ends_in_range(offset, length)
            }
            Self::Ask { chunks, .. } => chunks > 0,
            _ => true,
        }
    }

    fn from_fields(fields: &Fields) -> Result<Self, FrameError> {
        let (number, offset) = (FrameNumber(fields.number), fields.offset);
        Ok(match fields.kind {
            1 => Self::Open {
                comparison: *Comparison::ALL.get(usize::from(fields.flags)).ok_or(FrameError::Field(fields.kind))?,
                stream: fields.stream,
                streams: fields.streams,
                size_bytes: fields.raw_length,
                from_seq: offset,
            },
            2 => Self::Data { number, offset, digest: BlockDigest(fields.digest) },
            3 => Self::Zeros { number, offset, length: fields.raw_length },
            4 => Self::End { number, offset },
            5 => Self::Abort { number },
            6 => Self::Same { number, offset, length: fields.raw_length },
            7 => Self::SameZeros { number, offset, length: fields.raw_length },
            8 => Self::Pages { number, offset, length: fields.raw_length, digest: BlockDigest(fields.digest) },
            9 => {
                let chunks = u16::try_from(fields.raw_length).map_err(|_| FrameError::Field(fields.kind))?;
                Self::Ask { number, offset, chunks }
            }
            10 => Self::Scan { number, offset, length: fields.raw_length },
            16 => Self::Admitted,
            17 => Self::Refused,
            18 => Self::Durable { seq: offset },
            19 => Self::Stop,
            20 => Self::Digests { offset, length: fields.raw_length },
            21 => Self::PageDigests { offset },
            22 => Self::TargetZeros { offset, length: fields.raw_length },
            unknown => return Err(FrameError::Kind(unknown)),
        })
    }

    /// Sets the fields that this kind uses.
    fn fill(&self, fields: &mut Fields) {
        fields.kind = self.code();
        match *self {
            Self::Open { stream, streams, size_bytes, from_seq, comparison } => {
                fields.flags = comparison as u8;
                (fields.stream, fields.streams) = (stream, streams);
                (fields.raw_length, fields.offset) = (size_bytes, from_seq);
            }
            Self::Data { number, offset, digest } => {
                (fields.number, fields.offset) = (number.0, offset);
                (fields.raw_length, fields.digest) = (fields.payload_length.into(), digest.0);
            }
            Self::Pages { number, offset, length, digest } => {
                (fields.number, fields.offset) = (number.0, offset);
                (fields.raw_length, fields.digest) = (length, digest.0);
            }
            Self::Ask { number, offset, chunks } => {
                (fields.number, fields.offset, fields.raw_length) = (number.0, offset, chunks.into());
            }
            Self::Digests { offset, length } | Self::TargetZeros { offset, length } => {
                (fields.offset, fields.raw_length) = (offset, length);
            }
            Self::PageDigests { offset } => fields.offset = offset,
            Self::Zeros { number, offset, length }
            | Self::Same { number, offset, length }
            | Self::SameZeros { number, offset, length }
            | Self::Scan { number, offset, length } => {
                (fields.number, fields.offset, fields.raw_length) = (number.0, offset, length);
            }
            Self::End { number, offset } => (fields.number, fields.offset) = (number.0, offset),
            Self::Abort { number } => fields.number = number.0,
            Self::Durable { seq } => fields.offset = seq,
            Self::Admitted | Self::Refused | Self::Stop => {}
        }
    }
}

fn ends_in_range(offset: u64, length: u64) -> bool {
    offset.checked_add(length).is_some()
}

impl Header {
    /// The header of a frame with this payload.
    ///
    /// # Errors
    /// [`FrameError`] if there can be no such frame.
    pub fn new(key: FrameKey, kind: Kind, payload: &[u8]) -> Result<Self, FrameError> {
        let too_long = |_| too_long(&kind, payload.len() as u64);
        let payload_length = u32::try_from(payload.len()).map_err(too_long)?;
        Self { key, kind, payload_length, payload_checksum: checksum(payload) }.checked()
    }

    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        self.fields().encode()
    }

    /// # Errors
    /// [`FrameError`] unless the bytes are the encoding of a header.
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, FrameError> {
        let fields = Fields::decode(bytes)?;
        let run = u64::try_from(fields.run).map_err(|_| FrameError::Field(fields.kind))?;
        let epochs = Epochs { source: Epoch(fields.source_epoch), target: Epoch(fields.target_epoch) };
        let key = FrameKey { run: RunId(run), epochs, generation: StreamGeneration(fields.generation) };
        let Fields { payload_length, payload_checksum, .. } = fields;
        let header = Self { key, kind: Kind::from_fields(&fields)?, payload_length, payload_checksum }.checked()?;
        // What a kind does not use is zero, and what it says twice it says alike.
        if header.fields() == fields { Ok(header) } else { Err(FrameError::Field(fields.kind)) }
    }

    /// How many bytes of payload follow the header.
    #[must_use]
    pub fn payload_len(&self) -> usize {
        self.payload_length as usize
    }

    /// How many bytes of the volume the frame stands for.
    #[must_use]
    pub fn volume_bytes(&self) -> u64 {
        match self.kind {
            Kind::Data { .. } => self.payload_length.into(),
            Kind::Zeros { length, .. }
            | Kind::Same { length, .. }
            | Kind::SameZeros { length, .. }
            | Kind::Pages { length, .. } => length,
            _ => 0,
        }
    }

    /// # Errors
    /// [`FrameError`] unless this is the payload that the header was made for.
    pub fn check_payload(&self, payload: &[u8]) -> Result<(), FrameError> {
        if payload.len() != self.payload_len() {
            let found = payload.len() as u64;
            return Err(FrameError::PayloadLength { announced: self.payload_length, found });
        }
        if checksum(payload) == self.payload_checksum { Ok(()) } else { Err(FrameError::PayloadChecksum) }
    }

    fn checked(self) -> Result<Self, FrameError> {
        if self.payload_length > self.kind.payload_limit() {
            return Err(too_long(&self.kind, self.payload_length.into()));
        }
        if self.kind.is_sound(self.payload_length) { Ok(self) } else { Err(FrameError::Field(self.kind.code())) }
    }

    fn fields(&self) -> Fields {
        let mut fields = Fields {
            run: self.key.run.0.into(),
            source_epoch: self.key.epochs.source.0,
            target_epoch: self.key.epochs.target.0,
            generation: self.key.generation.0,
            payload_length: self.payload_length,
            payload_checksum: self.payload_checksum,
            ..Fields::default()
        };
        self.kind.fill(&mut fields);
        fields
    }
}

fn too_long(kind: &Kind, length: u64) -> FrameError {
    FrameError::PayloadTooLong { kind: kind.code(), length, limit: kind.payload_limit() }
}

/// As much of a reason as a frame may carry.
#[must_use]
pub fn reason_payload(reason: &str) -> &[u8] {
    reason.get(..reason.floor_char_boundary(REASON_LIMIT as usize)).unwrap_or_default().as_bytes()
}

/// The reason in a payload.
///
/// # Errors
/// [`FrameError::NotText`].
pub fn reason(payload: &[u8]) -> Result<&str, FrameError> {
    std::str::from_utf8(payload).map_err(|_| FrameError::NotText)
}

const _: () = assert!(BLOCK_LIMIT as u64 == BLOCK_BYTES);
