//! The wire format: what is encoded comes back, what is damaged is noticed, and no bytes whatever end the program.

use proptest::prelude::*;
use tanist_datapath::digest::BlockDigest;
use tanist_datapath::frame::{
    Comparison, FrameError, FrameKey, FrameNumber, GRANT_LIMIT, HEADER_BYTES, Header, Kind, REASON_LIMIT,
    StreamGeneration, reason, reason_payload,
};
use tanist_model::id::{Epoch, Epochs, RunId};

mod support;
use support::Random;

fn keys() -> impl Strategy<Value = FrameKey> {
    (any::<u64>(), any::<u32>(), any::<u32>(), any::<u64>()).prop_map(|(run, source, target, generation)| FrameKey {
        run: RunId(run),
        epochs: Epochs { source: Epoch(source), target: Epoch(target) },
        generation: StreamGeneration(generation),
    })
}

fn comparisons() -> impl Strategy<Value = Comparison> {
    prop_oneof![Just(Comparison::None), Just(Comparison::Whole), Just(Comparison::Asked)]
}

fn opens() -> impl Strategy<Value = Kind> {
    (0..4u16, 1..=4u16, any::<u64>(), any::<u64>(), comparisons()).prop_map(|(stream, streams, a, b, comparison)| {
        Kind::Open { comparison, stream: stream % streams, streams, size_bytes: a.max(b), from_seq: a.min(b) }
    })
}

fn numbers() -> impl Strategy<Value = FrameNumber> {
    any::<u64>().prop_map(FrameNumber)
}

fn blocks() -> impl Strategy<Value = Kind> {
    (numbers(), 0..u64::MAX >> 1, any::<[u8; 32]>()).prop_map(|(number, offset, digest)| Kind::Data {
        number,
        offset,
        digest: BlockDigest(digest),
    })
}

fn silent() -> impl Strategy<Value = Kind> {
    prop_oneof![
        (numbers(), 0..u64::MAX >> 1, 1..u64::MAX >> 1).prop_map(|(number, offset, length)| Kind::Zeros {
            number,
            offset,
            length
        }),
        (numbers(), any::<u64>()).prop_map(|(number, offset)| Kind::End { number, offset }),
        any::<u64>().prop_map(|seq| Kind::Durable { seq }),
        (numbers(), 0..u64::MAX >> 1, 1..u64::MAX >> 1).prop_map(|(number, offset, length)| Kind::SameZeros {
            number,
            offset,
            length
        }),
        (numbers(), any::<u64>(), 1..=u16::MAX).prop_map(|(number, offset, chunks)| Kind::Ask {
            number,
            offset,
            chunks
        }),
        (numbers(), 0..u64::MAX >> 1, 1..u64::MAX >> 1).prop_map(|(number, offset, length)| Kind::Scan {
            number,
            offset,
            length
        }),
        (0..u64::MAX >> 1, 1..u64::MAX >> 1).prop_map(|(offset, length)| Kind::TargetZeros { offset, length }),
        (0..u64::MAX >> 1, 1..u64::MAX >> 1).prop_map(|(offset, length)| Kind::Digests { offset, length }),
        Just(Kind::Admitted),
        Just(Kind::Stop),
    ]
}

fn pages() -> impl Strategy<Value = Kind> {
    (numbers(), 0..u64::MAX >> 1, 1..=1u64 << 20, any::<[u8; 32]>()).prop_map(|(number, offset, length, digest)| {
        Kind::Pages { number, offset, length, digest: BlockDigest(digest) }
    })
}

/// As many digests as blocks.
fn same() -> impl Strategy<Value = (Kind, Vec<u8>)> {
    (numbers(), 0..u64::MAX >> 1, 1..=16u64 << 20).prop_flat_map(|(number, offset, length)| {
        let digests = usize::try_from(length.div_ceil(1 << 20) * 32).unwrap();
        (Just(Kind::Same { number, offset, length }), prop::collection::vec(any::<u8>(), digests))
    })
}

fn bytes(longest: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..=longest)
}

/// Any frame: its kind and a payload that fits.
fn frames() -> impl Strategy<Value = (FrameKey, Kind, Vec<u8>)> {
    let contents = prop_oneof![
        (opens(), bytes(GRANT_LIMIT as usize)),
        (blocks(), prop::collection::vec(any::<u8>(), 1..5000)),
        (silent(), Just(Vec::new())),
        (pages(), prop::collection::vec(any::<u8>(), 33..5000)),
        same(),
        ((0..u64::MAX >> 1).prop_map(|offset| Kind::PageDigests { offset }), bytes(4096)),
        (numbers().prop_map(|number| Kind::Abort { number }), bytes(REASON_LIMIT as usize)),
        (Just(Kind::Refused), bytes(REASON_LIMIT as usize)),
    ];
    (keys(), contents).prop_map(|(key, (kind, mut payload))| {
        // Digests are whole.
        if matches!(kind, Kind::Digests { .. } | Kind::PageDigests { .. }) {
            payload.truncate(payload.len() / 16 * 16);
        }
        (key, kind, payload)
    })
}

/// A frame out of header and payload as they came.
fn decode(header: &[u8; HEADER_BYTES], payload: &[u8]) -> Result<Header, FrameError> {
    let header = Header::decode(header)?;
    header.check_payload(payload).map(|()| header)
}

proptest! {
    #[test]
    fn what_is_encoded_comes_back((key, kind, payload) in frames()) {
        let header = Header::new(key, kind, &payload).unwrap();
        let back = decode(&header.encode(), &payload).unwrap();
        prop_assert_eq!(back, header);
        prop_assert_eq!((back.key, back.kind, back.payload_len()), (key, kind, payload.len()));
    }

    #[test]
    fn a_flipped_bit_is_an_error((key, kind, payload) in frames(), at in any::<prop::sample::Index>(), bit in 0..8u8) {
        let mut wire = Header::new(key, kind, &payload).unwrap().encode().to_vec();
        wire.extend(&payload);
        let at = at.index(wire.len());
        wire[at] ^= 1 << bit;
        let (header, payload) = wire.split_first_chunk().unwrap();
        prop_assert!(decode(header, payload).is_err(), "byte {at}, bit {bit}");
    }

    #[test]
    fn a_payload_of_another_frame_is_an_error((key, kind, payload) in frames(), other in bytes(5000)) {
        prop_assume!(payload != other);
        let header = Header::new(key, kind, &payload).unwrap();
        prop_assert!(header.check_payload(&other).is_err());
    }

    #[test]
    fn arbitrary_bytes_do_no_harm(header in prop::collection::vec(any::<u8>(), HEADER_BYTES), payload in bytes(300)) {
        let header = header.first_chunk().unwrap();
        prop_assert!(decode(header, &payload).is_err());
    }
}

/// Every bit of one header, not only a sample.
#[test]
fn each_bit_of_a_header_is_guarded() {
    let key = FrameKey { run: RunId(7), epochs: Epochs::default(), generation: StreamGeneration(1) };
    let header = Header::new(key, Kind::Durable { seq: 1 << 20 }, &[]).unwrap().encode();
    for bit in 0..HEADER_BYTES * 8 {
        let mut damaged = header;
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(Header::decode(&damaged).is_err(), "bit {bit}");
    }
}

/// Headers that a careless or malicious sender could seal: the checksum is right, the values are anything.
#[test]
fn sealed_nonsense_is_refused_or_means_itself() {
    let mut accepted = 0;
    for seed in 0..20_000 {
        let mut random = Random(seed);
        let mut header = [0; HEADER_BYTES];
        if seed % 2 == 0 {
            random.fill(&mut header);
        }
        header[..6].copy_from_slice(b"TNST\x03\x00");
        header[6] = u8::try_from(random.below(26)).unwrap();
        let place = usize::try_from(random.below(114)).unwrap();
        header[6 + place] = u8::try_from(random.below(256)).unwrap();
        let seal = xxhash_rust::xxh3::xxh3_128(&header[..HEADER_BYTES - 16]).to_le_bytes();
        header[HEADER_BYTES - 16..].copy_from_slice(&seal);
        if let Ok(read) = Header::decode(&header) {
            assert_eq!(read.encode(), header, "seed {seed}: two encodings of one frame");
            assert!(read.payload_len() <= 1 << 20, "seed {seed}");
            accepted += 1;
        }
    }
    assert!(accepted > 0, "nothing got past the checksum: this test tests nothing");
}

#[test]
fn what_cannot_be_is_not_encoded() {
    let key = FrameKey { run: RunId(7), epochs: Epochs::default(), generation: StreamGeneration(1) };
    let open = |stream, streams, size_bytes, from_seq| Kind::Open {
        stream,
        streams,
        size_bytes,
        from_seq,
        comparison: Comparison::None,
    };
    let data = |offset| Kind::Data { number: FrameNumber(0), offset, digest: BlockDigest([0; 32]) };
    let refused = |kind, payload: &[u8]| Header::new(key, kind, payload).is_err();
    assert!(refused(open(1, 1, 10, 0), &[]) && refused(open(0, 5, 10, 0), &[]) && refused(open(0, 0, 10, 0), &[]));
    assert!(refused(open(0, 1, 10, 11), &[]) && refused(open(0, 1, 10, 0), &[0; 4097]));
    assert!(refused(data(0), &[]) && refused(data(0), &vec![1; (1 << 20) + 1]) && refused(data(u64::MAX), &[1]));
    assert!(refused(Kind::Zeros { number: FrameNumber(0), offset: 0, length: 0 }, &[]));
    assert!(refused(Kind::Zeros { number: FrameNumber(0), offset: 2, length: u64::MAX - 1 }, &[]));
    assert!(refused(Kind::Stop, &[1]) && refused(Kind::Digests { offset: 0, length: 1 }, &[0; 4112]));
    assert!(
        refused(Kind::Digests { offset: 0, length: 1 }, &[0; 15]) && refused(Kind::PageDigests { offset: 0 }, &[0; 17])
    );
    let number = FrameNumber(0);
    assert!(refused(Kind::Ask { number, offset: 0, chunks: 0 }, &[]));
    assert!(refused(Kind::Same { number, offset: 0, length: 2 << 20 }, &[0; 32]));
    assert!(refused(Kind::Same { number, offset: 0, length: 17 << 20 }, &[0; 17 * 32]));
    let pages = |length| Kind::Pages { number, offset: 0, length, digest: BlockDigest([0; 32]) };
    assert!(
        refused(pages(1 << 20), &[0; 32]) && refused(pages(0), &[0; 64]) && refused(pages((1 << 20) + 1), &[0; 64])
    );
}

#[test]
fn a_reason_is_cut_between_characters() {
    let long = "é".repeat(2000);
    let payload = reason_payload(&long);
    assert_eq!(payload.len(), REASON_LIMIT as usize);
    assert_eq!(reason(payload).unwrap(), "é".repeat(512));
    assert_eq!(reason(&[0xff]), Err(FrameError::NotText));
}
