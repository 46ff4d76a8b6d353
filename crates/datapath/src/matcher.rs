//! The stage of a sending that leaves out what the target holds already, by what the target says of itself.
//!
//! A block whose chunks all agree is answered with its digest alone. Of the others the pages are asked for, and only the differing ones
//! are sent. A few blocks wait for their pages at a time, so that the way there and back costs no time of its own.

use std::collections::VecDeque;
use std::sync::mpsc::TryRecvError;
use std::sync::{Mutex, PoisonError};

use crate::control::{Control, Halt};
use crate::dealer::Dealt;
use crate::digest::{BLOCK_BYTES, BLOCK_LEN, BlockDigest, is_zero};
use crate::encoder::TargetItem;
use crate::frame::Comparison;
use crate::handover::{Inlet, Outlet};
use crate::knowledge::{CHUNK_LEN, DIGESTS_BYTES, Knowledge, Known, PageDigest, Seed};
use crate::meter::Doing;
use crate::pages::{PAGE_LEN, PAGES, PageSet};
use crate::pool::PooledBuffer;
use crate::progress::Stage;
use crate::sender::SenderConfig;

/// Blocks that wait for their pages at a time: half of the pool.
const WAITING_BLOCKS: usize = 6;
/// With more differing pages than this a block is sent whole.
const MOST_PAGES: usize = PAGES * 7 / 8;

/// A block of data: its place and length, its bytes and its digest.
struct Block {
    offset: u64,
    length: usize,
    buffer: PooledBuffer,
    digest: BlockDigest,
}

/// A block whose chunks differ, the digests of its pages, and which chunks differ.
struct Waiting {
    block: Block,
    own: Vec<PageDigest>,
    chunks: u16,
}

enum Pending {
    Ready(TargetItem),
    /// What the target has in its place is not known yet.
    Unknown(Block),
    /// Its pages were asked for.
    Waiting(Waiting),
    /// Zeros up to this byte. Nothing is taken in behind them before they are settled: they may reach far.
    Zeros {
        end: u64,
    },
}

/// What has come is settled in its order, and nothing is waited for but by the first of what is pending: whatever lies before it has been
/// dealt, so that the target, which looks only so far ahead of what has come, looks there.
pub(crate) struct Matcher<'a> {
    pub(crate) control: &'a Control,
    pub(crate) knowledge: &'a Mutex<Knowledge>,
    seed: Seed,
    outlet: Outlet<'a, Dealt>,
    /// The target tells what it is asked for, and nothing by itself.
    asks: bool,
    /// Where what has been taken in ends.
    taken: u64,
    /// Where what is settled ends.
    settled: u64,
    pending: VecDeque<Pending>,
}

impl<'a> Matcher<'a> {
    pub(crate) fn new(
        control: &'a Control,
        knowledge: &'a Mutex<Knowledge>,
        config: &SenderConfig,
        outlet: Outlet<'a, Dealt>,
    ) -> Self {
        let (seed, asks) = (Seed::of(&config.key), config.comparison() == Comparison::Asked);
        let (taken, settled) = (config.from_seq, config.from_seq);
        Self { control, knowledge, seed, outlet, asks, taken, settled, pending: VecDeque::new() }
    }

    /// Works until the encoder has no more, nobody takes what comes, or the sending ends.
    pub(crate) fn run(mut self, inlet: &Inlet<'_, TargetItem>) {
        let mut more = true;
        while more || !self.pending.is_empty() {
            let Some(after) = self.fill(inlet, more) else { return };
            more = after;
            if self.learn().is_none() {
                return;
            }
            let Some(next) = self.pending.pop_front() else { continue };
            if self.settle(next).is_none() {
                return;
            }
        }
    }

    /// Takes in what has come, up to its bound; whether more can come, `None` if this is over.
    fn fill(&mut self, inlet: &Inlet<'_, TargetItem>, more: bool) -> Option<bool> {
        while more && self.has_room() {
            let item = if self.pending.is_empty() { inlet.recv().map_err(Into::into) } else { inlet.try_recv() };
            match item {
                Ok(item) => self.take(item)?,
                Err(TryRecvError::Empty) => return Some(true),
                Err(TryRecvError::Disconnected) => return Some(false),
            }
        }
        Some(more)
    }

    fn has_room(&self) -> bool {
        self.pending.len() < WAITING_BLOCKS && !matches!(self.pending.back(), Some(Pending::Zeros { .. }))
    }

    fn take(&mut self, item: TargetItem) -> Option<()> {
        let offset = self.taken;
        self.taken += item.volume_bytes();
        let pending = match item {
            TargetItem::Block { length, buffer, digest, .. } => {
                self.scan(offset, self.taken)?;
                Pending::Unknown(Block { offset, length, buffer, digest })
            }
            TargetItem::Zeros { .. } => Pending::Zeros { end: self.taken },
            other => Pending::Ready(other),
        };
        self.pending.push_back(pending);
        Some(())
    }

    /// Asks what the target has there, if it does not tell of itself.
    fn scan(&self, offset: u64, end: u64) -> Option<()> {
        if self.asks { self.outlet.send(Dealt::Scan { offset, length: end - offset }).ok() } else { Some(()) }
    }

    /// Asks for the pages of what is pending, as far as is known where they differ: nobody waits for those answers yet.
    fn learn(&mut self) -> Option<()> {
        for place in 0..self.pending.len() {
            let Some(Pending::Unknown(block)) = self.pending.get(place) else { continue };
            if !self.lock().reaches(block.offset) {
                return Some(());
            }
            let Some(Pending::Unknown(block)) = self.pending.remove(place) else { return None };
            let known = self.lock().at(block.offset);
            let compared = self.compare(block, known)?;
            self.pending.insert(place, compared);
        }
        Some(())
    }

    /// Waits for what there is to know, and hands on what becomes of it.
    fn settle(&mut self, pending: Pending) -> Option<()> {
        match pending {
            Pending::Ready(item) => self.hand_on(item),
            Pending::Zeros { end } => self.settle_zeros(end),
            Pending::Unknown(block) => {
                let known = self.known(block.offset)?;
                let compared = self.compare(block, known)?;
                self.settle(compared)
            }
            Pending::Waiting(waiting) => {
                let offset = waiting.block.offset;
                self.wait(|knowledge| knowledge.has_pages(offset))?;
                let theirs = self.lock().take_pages(offset);
                self.hand_on(differing(waiting, &theirs))
            }
        }
    }

    fn hand_on(&mut self, item: TargetItem) -> Option<()> {
        self.settled += item.volume_bytes();
        self.outlet.send(Dealt::Item(item)).ok()
    }

    fn compare(&self, block: Block, known: Known) -> Option<Pending> {
        let theirs = match known {
            Known::Digests(theirs) => theirs,
            Known::Zeros { until } if until >= block.offset + block.length as u64 => return Some(over_zeros(block)),
            Known::Zeros { .. } | Known::Nothing => return Some(whole(block)),
        };
        let bytes = block.buffer.split_at(block.length).0;
        let own = self.control.counters.timed(Stage::Compare, || self.seed.pages(bytes));
        let ours = self.seed.chunks(&own);
        let differing = ours.iter().zip(&theirs).enumerate().filter(|(_, (ours, theirs))| ours != theirs);
        let chunks = differing.fold(0, |set, (chunk, _)| set | 1 << chunk);
        if ours.len() != theirs.len() {
            return Some(whole(block));
        }
        if chunks == 0 {
            return Some(Pending::Ready(TargetItem::Same { length: block.length as u64, digest: block.digest }));
        }
        self.outlet.send(Dealt::Ask { offset: block.offset, chunks }).ok()?;
        Some(Pending::Waiting(Waiting { block, own, chunks }))
    }

    /// Zeros up to `end`: those that the target has are left as they are.
    fn settle_zeros(&mut self, end: u64) -> Option<()> {
        let mut scanned = self.settled;
        while self.settled < end {
            if scanned <= self.settled {
                scanned = end.min(self.settled + DIGESTS_BYTES);
                self.scan(self.settled, scanned)?;
            }
            let block_end = end.min(self.settled + BLOCK_BYTES);
            let (same, until) = match self.known(self.settled)? {
                Known::Nothing => (false, block_end),
                Known::Zeros { until } => (true, until.min(end)),
                Known::Digests(theirs) => (theirs == self.zero_chunks(block_end - self.settled), block_end),
            };
            let length = until - self.settled;
            self.hand_on(if same { TargetItem::SameZeros { length } } else { TargetItem::Zeros { length } })?;
        }
        Some(())
    }

    fn zero_chunks(&self, length: u64) -> Vec<PageDigest> {
        let length = usize::try_from(length).unwrap_or(BLOCK_LEN).min(BLOCK_LEN);
        self.seed.chunks(&self.seed.pages(&vec![0; length]))
    }

    fn known(&self, offset: u64) -> Option<Known> {
        self.wait(|knowledge| knowledge.reaches(offset))?;
        Some(self.lock().at(offset))
    }

    /// Waits for what is to be heard; `None` if this ends before.
    fn wait(&self, heard: impl Fn(&Knowledge) -> bool) -> Option<()> {
        self.control.counters.during(Stage::Compare, Doing::Input, || {
            self.control.wait_until(None, |halt| halt != Halt::No || heard(&self.lock()));
        });
        heard(&self.lock()).then_some(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Knowledge> {
        self.knowledge.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The target's pages of the chunks that were asked for, one after the other, against the same of the source.
fn differing(waiting: Waiting, theirs: &[PageDigest]) -> TargetItem {
    let Waiting { block: Block { offset, length, buffer, digest }, own, chunks } = waiting;
    let asked = own.iter().enumerate().filter(|(page, _)| chunks >> (page * PAGE_LEN / CHUNK_LEN) & 1 == 1);
    let mut pages = PageSet::default();
    let mut count = 0;
    for ((page, ours), theirs) in asked.clone().zip(theirs) {
        count += 1;
        if ours != theirs {
            pages.insert(page);
        }
    }
    let complete = count == theirs.len() && count == asked.count();
    if !complete || pages.is_empty() || pages.count() > MOST_PAGES {
        return TargetItem::Block { offset, length, buffer, digest };
    }
    TargetItem::Pages { offset, length, buffer, digest, pages }
}

/// The target has zeros in its place: the pages that are none.
fn over_zeros(block: Block) -> Pending {
    let mut pages = PageSet::default();
    let data = block.buffer.split_at(block.length).0.chunks(PAGE_LEN).enumerate().filter(|(_, page)| !is_zero(page));
    data.for_each(|(page, _)| pages.insert(page));
    if pages.is_empty() || pages.count() > MOST_PAGES {
        return whole(block);
    }
    let Block { offset, length, buffer, digest } = block;
    Pending::Ready(TargetItem::Pages { offset, length, buffer, digest, pages })
}

fn whole(block: Block) -> Pending {
    let Block { offset, length, buffer, digest } = block;
    Pending::Ready(TargetItem::Block { offset, length, buffer, digest })
}
