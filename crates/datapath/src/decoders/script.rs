//! Any bytes as a conversation: what they leave unsaid is as the open run wants it, so that a few bytes lead far in and each can lead astray.

use tanist_model::id::{Epoch, Epochs, RunId};

use crate::digest::{BLOCK_BYTES, BLOCK_LEN, BlockDigest};
use crate::frame::{Comparison, FrameKey, FrameNumber, Header, Kind, StreamGeneration};
use crate::gate::{GateRules, OpenRun};

/// Sizes of volumes: a short one, ends that are no whole block, and one that no memory could hold.
const SIZES: [u64; 6] = [5000, BLOCK_BYTES, BLOCK_BYTES + 700, 3 * BLOCK_BYTES + 5000, 1 << 40, u64::MAX];

/// Bytes that are being read as choices.
pub(super) struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn choice(&mut self) -> u8 {
        self.byte().unwrap_or_default()
    }

    fn number(&mut self) -> u64 {
        let mut number = [0; 8];
        number.iter_mut().for_each(|byte| *byte = self.choice());
        u64::from_le_bytes(number)
    }

    /// Mostly none.
    pub(super) fn difference(&mut self) -> isize {
        match self.choice() {
            200.. => 1,
            150.. => -1,
            100..150 => isize::from(self.choice()) * 41,
            _ => 0,
        }
    }

    pub(super) fn open_run(&mut self) -> OpenRun {
        self.open_run_of(&SIZES)
    }

    /// A run of one of these sizes that begins at one of its blocks.
    pub(super) fn open_run_of(&mut self, sizes: &[u64]) -> OpenRun {
        let choice = self.choice();
        let size_bytes = sizes[usize::from(choice) % sizes.len()];
        let comparison = [Comparison::None, Comparison::Whole, Comparison::Asked][usize::from(choice / 8 % 3)];
        let begins = (u64::from(choice / 64) * BLOCK_BYTES).min(size_bytes / BLOCK_BYTES * BLOCK_BYTES);
        let run = OpenRun::new(self.key(), 1, size_bytes, begins, GateRules::WHOLE);
        OpenRun { comparison, ..run }
    }

    fn key(&mut self) -> FrameKey {
        let epochs = Epochs { source: Epoch(5), target: Epoch(3) };
        FrameKey { run: RunId(9), epochs, generation: StreamGeneration(u64::from(self.choice())) }
    }

    /// The run's own key, or one that differs in one place.
    fn key_like(&mut self, run: &OpenRun) -> FrameKey {
        let mut key = run.key;
        match self.choice() {
            0xf0 => key.run = RunId(self.number()),
            0xf1 => key.epochs.source = Epoch(u32::from(self.choice())),
            0xf2 => key.epochs.target = Epoch(u32::from(self.choice())),
            0xf3 => key.generation = StreamGeneration(self.number()),
            _ => {}
        }
        key
    }

    /// Where the run goes on, or elsewhere.
    pub(super) fn offset(&mut self, run: &OpenRun) -> u64 {
        let block = BLOCK_BYTES;
        match self.choice() {
            0xff => self.number(),
            0xfe => run.size_bytes,
            0xfd => run.position.wrapping_sub(block),
            blocks @ 0xe0.. => run.position.wrapping_add(u64::from(blocks - 0xdf) * block),
            0xdf => run.position.wrapping_add(1),
            _ => run.position,
        }
    }

    pub(super) fn length(&mut self, run: &OpenRun) -> u64 {
        let left = run.size_bytes.saturating_sub(run.position);
        match self.choice() {
            0xff => self.number(),
            0xfe => left,
            0xfd => left.wrapping_add(1),
            0xfc => 0,
            blocks => left.min((u64::from(blocks) + 1) * BLOCK_BYTES),
        }
    }

    /// The next frame, and its payload; `None` at the end, or if there can be no such frame.
    pub(super) fn frame(&mut self, run: &OpenRun) -> Option<(Header, Vec<u8>)> {
        let code = self.byte()?;
        let key = self.key_like(run);
        let number = match self.choice() {
            0xff => FrameNumber(self.number()),
            0xfe => FrameNumber(run.next.0.wrapping_sub(1)),
            0xfd => FrameNumber(run.next.0.wrapping_add(1)),
            _ => run.next,
        };
        let (offset, length) = (self.offset(run), self.length(run));
        let payload = self.payload(code, run, length);
        let kind = self.kind(code, run, (number, offset, length), &payload);
        Some((Header::new(key, kind, &payload).ok()?, payload))
    }

    fn kind(&mut self, code: u8, run: &OpenRun, place: (FrameNumber, u64, u64), payload: &[u8]) -> Kind {
        let (number, offset, length) = place;
        let digest = BlockDigest::of(payload);
        match code % 17 {
            0 => Kind::Open {
                stream: u16::from(self.choice() / 0xff),
                streams: run.streams,
                size_bytes: run.size_bytes,
                from_seq: offset,
                comparison: run.comparison,
            },
            1 => Kind::Data { number, offset, digest },
            2 => Kind::Zeros { number, offset, length },
            3 => Kind::End { number, offset },
            4 => Kind::Abort { number },
            5 => Kind::Same { number, offset, length },
            6 => Kind::SameZeros { number, offset, length },
            7 => Kind::Pages { number, offset, length: length.min(BLOCK_BYTES), digest },
            8 => Kind::Ask { number, offset, chunks: u16::from(self.choice()) + 1 },
            9 => Kind::Scan { number, offset, length },
            10 => Kind::Admitted,
            11 => Kind::Refused,
            12 => Kind::Durable { seq: offset },
            13 => Kind::Stop,
            14 => Kind::Digests { offset, length },
            15 => Kind::PageDigests { offset },
            _ => Kind::TargetZeros { offset, length },
        }
    }

    /// One that a frame of this kind and length may have.
    fn payload(&mut self, code: u8, run: &OpenRun, length: u64) -> Vec<u8> {
        let left = usize::try_from(run.size_bytes.saturating_sub(run.position)).unwrap_or(usize::MAX).min(BLOCK_LEN);
        let blocks = usize::try_from(length.div_ceil(BLOCK_BYTES).min(16)).unwrap_or(16);
        match code % 17 {
            1 => vec![self.choice(); left.saturating_add_signed(self.difference()).min(BLOCK_LEN)],
            4 | 11 => vec![b'x'; usize::from(self.choice())],
            5 => vec![7; 32 * blocks],
            7 => self.pages(left),
            14 => vec![3; 16 * usize::from(self.choice())],
            15 => vec![4; 16 * usize::from(self.choice())],
            _ => Vec::new(),
        }
    }

    /// Some pages of a block, and which they are.
    fn pages(&mut self, length: usize) -> Vec<u8> {
        let mut set = crate::pages::PageSet::default();
        (0..self.choice() % 8).for_each(|_| set.insert(usize::from(self.choice())));
        let bytes = set.total_bytes(length).saturating_add_signed(self.difference());
        let mut payload = vec![self.choice(); bytes.min(BLOCK_LEN - 32)];
        payload.extend(set.to_bytes());
        payload
    }
}
