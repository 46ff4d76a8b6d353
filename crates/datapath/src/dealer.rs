//! Numbers the frames of a sending and deals them to its streams in turn.

use crate::control::Control;
use crate::digest::{BLOCK_BYTES, BlockDigest};
use crate::encoder::TargetItem;
use crate::frame::{FrameNumber, Header, Kind, SAME_BLOCKS, reason_payload};
use crate::handover::Load;
use crate::lanes::Lanes;
use crate::link::LinkError;
use crate::outbound::{Outgoing, Outload};
use crate::pages::PageSet;
use crate::pool::PooledBuffer;
use crate::sender::SenderConfig;

/// What is to be said next.
pub(crate) enum Dealt {
    Item(TargetItem),
    /// Which pages the target has in these chunks of a block that is sent later.
    Ask {
        offset: u64,
        chunks: u16,
    },
    /// What the target has in these blocks that are sent later.
    Scan {
        offset: u64,
        length: u64,
    },
}

impl Load for Dealt {
    fn held_bytes(&self) -> u64 {
        if let Self::Item(item) = self { item.held_bytes() } else { 0 }
    }
}

pub(crate) struct Dealer<'a> {
    control: &'a Control,
    lanes: &'a Lanes<Outgoing>,
    config: &'a SenderConfig,
    streams: usize,
    number: FrameNumber,
    /// Where the next frame begins.
    offset: u64,
    /// Digests of blocks from there on that the target has, not dealt yet; and how much of the volume they are.
    same: (Vec<u8>, u64),
}

impl<'a> Dealer<'a> {
    pub(crate) fn new(
        control: &'a Control,
        lanes: &'a Lanes<Outgoing>,
        config: &'a SenderConfig,
        streams: usize,
    ) -> Self {
        let (number, offset, same) = (FrameNumber(0), config.from_seq, (Vec::new(), 0));
        Self { control, lanes, config, streams, number, offset, same }
    }

    pub(crate) fn run(mut self, inlet: impl Iterator<Item = Dealt>) {
        for dealt in inlet {
            if self.deal(dealt).is_none() {
                return;
            }
        }
        if self.deal_same().is_some() {
            self.deal_last();
            self.lanes.finish();
        }
    }

    /// `None` if nobody takes it.
    fn deal(&mut self, dealt: Dealt) -> Option<()> {
        match dealt {
            Dealt::Ask { offset, chunks } => {
                self.put(Kind::Ask { number: self.number, offset, chunks }, Outload::Small(Vec::new()))
            }
            Dealt::Scan { offset, length } => {
                self.put(Kind::Scan { number: self.number, offset, length }, Outload::Small(Vec::new()))
            }
            Dealt::Item(TargetItem::Same { length, digest }) => self.gather(length, digest),
            Dealt::Item(item) => {
                self.deal_same()?;
                self.deal_item(item)
            }
        }
    }

    /// Blocks that the target has are named together, a few at a time.
    fn gather(&mut self, length: u64, digest: BlockDigest) -> Option<()> {
        self.same.0.extend(digest.0);
        self.same.1 += length;
        self.control.counters.same_bytes.add(length);
        if self.same.1 >= SAME_BLOCKS * BLOCK_BYTES { self.deal_same() } else { Some(()) }
    }

    fn deal_same(&mut self) -> Option<()> {
        let (digests, length) = std::mem::take(&mut self.same);
        if length == 0 {
            return Some(());
        }
        let (number, offset) = (self.number, self.offset);
        self.put(Kind::Same { number, offset, length }, Outload::Small(digests))
    }

    fn deal_item(&mut self, item: TargetItem) -> Option<()> {
        let (number, offset) = (self.number, self.offset);
        match item {
            TargetItem::Zeros { length } => {
                self.put(Kind::Zeros { number, offset, length }, Outload::Small(Vec::new()))
            }
            TargetItem::SameZeros { length } => {
                self.control.counters.same_bytes.add(length);
                self.put(Kind::SameZeros { number, offset, length }, Outload::Small(Vec::new()))
            }
            TargetItem::Block { length, buffer, digest, .. } => {
                self.put(Kind::Data { number, offset, digest }, Outload::Block(buffer, length))
            }
            TargetItem::Pages { length, buffer, digest, pages, .. } => {
                let (buffer, payload_len) = gathered(buffer, length, pages);
                self.control.counters.same_bytes.add((length - pages.total_bytes(length)) as u64);
                let kind = Kind::Pages { number, offset, length: length as u64, digest };
                self.put(kind, Outload::Block(buffer, payload_len))
            }
            TargetItem::Same { length, digest } => self.gather(length, digest),
        }
    }

    /// Says that this was all, or why it was not.
    fn deal_last(&mut self) {
        let (number, offset) = (self.number, self.offset);
        let (kind, reason) = match self.control.failure_text() {
            None if offset == self.config.size_bytes => (Kind::End { number, offset }, String::new()),
            None => (Kind::Abort { number }, "the source was asked to stop".to_owned()),
            Some(reason) => (Kind::Abort { number }, reason),
        };
        self.put(kind, Outload::Small(reason_payload(&reason).to_vec()));
    }

    fn put(&mut self, kind: Kind, payload: Outload) -> Option<()> {
        let header = match Header::new(self.config.key, kind, payload.bytes()) {
            Ok(header) => header,
            Err(cause) => {
                self.control.fail_at_once(LinkError::Damaged { stream: 0, cause }.into());
                return None;
            }
        };
        let lane = usize::try_from(self.number.0 % self.streams as u64).unwrap_or_default();
        self.number = FrameNumber(self.number.0 + 1);
        self.offset += header.volume_bytes();
        self.lanes.put(lane, Outgoing { header, payload }).ok()
    }
}

/// The block's pages, one after the other at the beginning of the buffer, and behind them which they are; how long that is.
fn gathered(mut buffer: PooledBuffer, length: usize, pages: PageSet) -> (PooledBuffer, usize) {
    let mut end = 0;
    for run in pages.byte_runs(length) {
        let run_len = run.len();
        buffer.copy_within(run, end);
        end += run_len;
    }
    let set = pages.to_bytes();
    if let Some(place) = buffer.get_mut(end..end + set.len()) {
        place.copy_from_slice(&set);
    }
    (buffer, end + set.len())
}
