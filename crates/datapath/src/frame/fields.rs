//! The bytes of a frame's header: where each field stands, and the checksums. What the fields mean is not known here.
//!
//! Little-endian, without gaps. The header's own checksum is its last field, so that a length is believed only after it; the
//! checksum of the payload lies under it, so that header and payload cannot be exchanged one for one.

use xxhash_rust::xxh3::xxh3_128;

use super::FrameError;

/// Size of the header of a frame.
pub const HEADER_BYTES: usize = 136;
const SEALED_BYTES: usize = HEADER_BYTES - size_of::<u128>();

const MAGIC: [u8; 4] = *b"TNST";
/// Of the format. A change of the layout or of a meaning raises it.
pub const VERSION: u16 = 3;

/// The fields of a header as they stand on the wire, after magic and version.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Fields {
    pub(super) kind: u8,
    /// Of the first frame: what is left out. Compression will be another.
    pub(super) flags: u8,
    pub(super) run: u128,
    pub(super) source_epoch: u32,
    pub(super) target_epoch: u32,
    pub(super) generation: u64,
    pub(super) number: u64,
    pub(super) offset: u64,
    pub(super) raw_length: u64,
    pub(super) payload_length: u32,
    pub(super) stream: u16,
    pub(super) streams: u16,
    pub(super) digest: [u8; 32],
    pub(super) payload_checksum: u128,
}

impl Fields {
    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        let (sealed, checksum) = header.split_at_mut(SEALED_BYTES);
        self.lay_out(Layout(sealed));
        checksum.copy_from_slice(&xxh3_128(sealed).to_le_bytes());
        header
    }

    fn lay_out(&self, to: Layout<'_>) {
        to.put(&MAGIC)
            .put(&VERSION.to_le_bytes())
            .put(&[self.kind, self.flags])
            .put(&self.run.to_le_bytes())
            .put(&self.source_epoch.to_le_bytes())
            .put(&self.target_epoch.to_le_bytes())
            .put(&self.generation.to_le_bytes())
            .put(&self.number.to_le_bytes())
            .put(&self.offset.to_le_bytes())
            .put(&self.raw_length.to_le_bytes())
            .put(&self.payload_length.to_le_bytes())
            .put(&self.stream.to_le_bytes())
            .put(&self.streams.to_le_bytes())
            .put(&self.digest)
            .put(&self.payload_checksum.to_le_bytes());
    }

    pub(super) fn decode(header: &[u8; HEADER_BYTES]) -> Result<Self, FrameError> {
        let mut from = Cursor(header);
        if from.take() != MAGIC {
            return Err(FrameError::Magic);
        }
        let version = u16::from_le_bytes(from.take());
        if version != VERSION {
            return Err(FrameError::Version { found: version });
        }
        let (sealed, checksum) = header.split_at(SEALED_BYTES);
        if checksum != xxh3_128(sealed).to_le_bytes() {
            return Err(FrameError::HeaderChecksum);
        }
        Ok(Self::pick_up(from))
    }

    /// In the order of [`lay_out`](Self::lay_out): the fields of a literal are evaluated as they are written.
    fn pick_up(mut from: Cursor<'_>) -> Self {
        let [kind, flags] = from.take();
        Self {
            kind,
            flags,
            run: u128::from_le_bytes(from.take()),
            source_epoch: u32::from_le_bytes(from.take()),
            target_epoch: u32::from_le_bytes(from.take()),
            generation: u64::from_le_bytes(from.take()),
            number: u64::from_le_bytes(from.take()),
            offset: u64::from_le_bytes(from.take()),
            raw_length: u64::from_le_bytes(from.take()),
            payload_length: u32::from_le_bytes(from.take()),
            stream: u16::from_le_bytes(from.take()),
            streams: u16::from_le_bytes(from.take()),
            digest: from.take(),
            payload_checksum: u128::from_le_bytes(from.take()),
        }
    }
}

/// Checksum of a payload.
pub(super) fn checksum(payload: &[u8]) -> u128 {
    xxh3_128(payload)
}

/// Room for fields that are not laid out yet.
struct Layout<'a>(&'a mut [u8]);

impl Layout<'_> {
    fn put(self, field: &[u8]) -> Self {
        let (to, rest) = self.0.split_at_mut(field.len());
        to.copy_from_slice(field);
        Self(rest)
    }
}

/// Bytes that are not picked up yet.
struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let Some((field, rest)) = self.0.split_first_chunk() else { return [0; N] };
        self.0 = rest;
        *field
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The layout is a promise to the other version of the program: this test is changed only together with `VERSION`.
    #[test]
    fn the_layout_is_frozen() {
        let fields = Fields {
            kind: 1,
            flags: 2,
            run: 3,
            source_epoch: 4,
            target_epoch: 5,
            generation: 6,
            number: 7,
            offset: 8,
            raw_length: 9,
            payload_length: 10,
            stream: 11,
            streams: 12,
            digest: [13; 32],
            payload_checksum: 14,
        };
        let bytes = fields.encode();
        let places = [(6, 1), (7, 2), (8, 3), (24, 4), (28, 5), (32, 6), (40, 7), (48, 8), (56, 9), (64, 10), (68, 11)];
        for (place, value) in places.into_iter().chain([(70, 12), (72, 13), (103, 13), (104, 14)]) {
            assert_eq!(bytes[place], value, "at {place}");
        }
        assert_eq!(&bytes[..6], b"TNST\x03\x00");
        assert_eq!(Fields::decode(&bytes).unwrap(), fields);
    }

    #[test]
    fn another_version_is_named() {
        let mut bytes = Fields::default().encode();
        bytes[4] = 1;
        assert!(matches!(Fields::decode(&bytes), Err(FrameError::Version { found: 1 })));
    }
}
