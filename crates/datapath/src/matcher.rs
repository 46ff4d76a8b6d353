//! The stage of a sending that leaves out what the target holds already, by what the target says of itself.
//!
//! A block whose chunks all agree is answered with its digest alone. Of the others the pages are asked for, and only the differing ones
//! are sent. A few blocks wait for their pages at a time, so that the way there and back costs no time of its own.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError};
use std::sync::{Mutex, PoisonError};

use crate::control::{Control, Halt};
use crate::dealer::Dealt;
use crate::digest::{BLOCK_BYTES, BLOCK_LEN, BlockDigest, is_zero};
use crate::encoder::TargetItem;
use crate::knowledge::{CHUNK_LEN, Knowledge, Known, PageDigest, Seed};
use crate::pages::{PAGE_LEN, PAGES, PageSet};
use crate::pool::PooledBuffer;
use crate::progress::Stage;

/// Blocks that wait for their pages at a time: half of the pool.
const WAITING_BLOCKS: usize = 6;
/// With more differing pages than this a block is sent whole.
const MOST_PAGES: usize = PAGES * 7 / 8;

/// A block whose chunks differ: its place and length, its bytes, digest and digests of its pages, and which chunks differ.
struct Waiting {
    offset: u64,
    length: usize,
    buffer: PooledBuffer,
    digest: BlockDigest,
    own: Vec<PageDigest>,
    chunks: u16,
}

enum Pending {
    Ready(TargetItem),
    Waiting(Box<Waiting>),
}

pub(crate) struct Matcher<'a> {
    pub(crate) control: &'a Control,
    pub(crate) knowledge: &'a Mutex<Knowledge>,
    pub(crate) seed: Seed,
    pub(crate) position: u64,
    pub(crate) outlet: SyncSender<Dealt>,
    pending: VecDeque<Pending>,
}

impl<'a> Matcher<'a> {
    pub(crate) fn new(
        control: &'a Control,
        knowledge: &'a Mutex<Knowledge>,
        (seed, position): (Seed, u64),
        outlet: SyncSender<Dealt>,
    ) -> Self {
        Self { control, knowledge, seed, position, outlet, pending: VecDeque::new() }
    }

    /// Works until the encoder has no more, nobody takes what comes, or the sending ends.
    pub(crate) fn run(mut self, inlet: Receiver<TargetItem>) {
        let mut more = true;
        while more || !self.pending.is_empty() {
            let Some(after) = self.fill(&inlet, more) else { return };
            more = after;
            let Some(next) = self.pending.pop_front() else { continue };
            let Some(item) = self.resolve(next) else { return };
            if self.outlet.send(Dealt::Item(item)).is_err() {
                return;
            }
        }
    }

    /// Takes in what has come, up to its bound; whether more can come, `None` if this is over.
    fn fill(&mut self, inlet: &Receiver<TargetItem>, more: bool) -> Option<bool> {
        while more && self.pending.len() < WAITING_BLOCKS {
            let item = if self.pending.is_empty() { inlet.recv().map_err(Into::into) } else { inlet.try_recv() };
            match item {
                Ok(item) => self.take(item)?,
                Err(TryRecvError::Empty) => return Some(true),
                Err(TryRecvError::Disconnected) => return Some(false),
            }
        }
        Some(more)
    }

    fn take(&mut self, item: TargetItem) -> Option<()> {
        match item {
            TargetItem::Block { offset, length, buffer, digest } => {
                let pending = self.block(Waiting { offset, length, buffer, digest, own: Vec::new(), chunks: 0 })?;
                self.position = offset + length as u64;
                self.pending.push_back(pending);
            }
            TargetItem::Zeros { length } => self.zeros(self.position + length)?,
            other => {
                self.position += other.volume_bytes();
                self.pending.push_back(Pending::Ready(other));
            }
        }
        Some(())
    }

    fn block(&mut self, mut block: Waiting) -> Option<Pending> {
        let theirs = match self.known(block.offset)? {
            Known::Digests(theirs) => theirs,
            Known::Zeros { until } if until >= block.offset + block.length as u64 => return Some(over_zeros(block)),
            Known::Zeros { .. } | Known::Nothing => return Some(whole(block)),
        };
        block.own =
            self.control.counters.timed(Stage::Compare, || self.seed.pages(block.buffer.split_at(block.length).0));
        let ours = self.seed.chunks(&block.own);
        let differing = ours.iter().zip(&theirs).enumerate().filter(|(_, (ours, theirs))| ours != theirs);
        block.chunks = differing.fold(0, |set, (chunk, _)| set | 1 << chunk);
        if ours.len() != theirs.len() {
            return Some(whole(block));
        }
        if block.chunks == 0 {
            return Some(Pending::Ready(TargetItem::Same { length: block.length as u64, digest: block.digest }));
        }
        let asked = Dealt::Ask { offset: block.offset, chunks: block.chunks };
        self.outlet.send(asked).ok()?;
        Some(Pending::Waiting(Box::new(block)))
    }

    /// Zeros up to `end`: those that the target has are left as they are.
    fn zeros(&mut self, end: u64) -> Option<()> {
        while self.position < end {
            let block_end = end.min(self.position + BLOCK_BYTES);
            let (same, until) = match self.known(self.position)? {
                Known::Nothing => (false, block_end),
                Known::Zeros { until } => (true, until.min(end)),
                Known::Digests(theirs) => (theirs == self.zero_chunks(block_end - self.position), block_end),
            };
            let length = until - self.position;
            let item = if same { TargetItem::SameZeros { length } } else { TargetItem::Zeros { length } };
            self.position = until;
            // What waits before it is sent first.
            if self.pending.is_empty() {
                self.outlet.send(Dealt::Item(item)).ok()?;
            } else {
                self.pending.push_back(Pending::Ready(item));
            }
            while self.pending.len() > WAITING_BLOCKS {
                let next = self.pending.pop_front()?;
                let item = self.resolve(next)?;
                self.outlet.send(Dealt::Item(item)).ok()?;
            }
        }
        Some(())
    }

    fn zero_chunks(&self, length: u64) -> Vec<PageDigest> {
        let length = usize::try_from(length).unwrap_or(BLOCK_LEN).min(BLOCK_LEN);
        self.seed.chunks(&self.seed.pages(&vec![0; length]))
    }

    fn resolve(&mut self, pending: Pending) -> Option<TargetItem> {
        let block = match pending {
            Pending::Ready(item) => return Some(item),
            Pending::Waiting(block) => *block,
        };
        self.wait(|knowledge| knowledge.has_pages(block.offset))?;
        let theirs = self.lock().take_pages(block.offset);
        Some(self.differing(block, &theirs))
    }

    /// The target's pages of the chunks that were asked for, one after the other, against the same of the source.
    fn differing(&self, block: Waiting, theirs: &[PageDigest]) -> TargetItem {
        let Waiting { offset, length, buffer, digest, own, chunks } = block;
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

    fn known(&self, offset: u64) -> Option<Known> {
        self.wait(|knowledge| knowledge.reaches(offset))?;
        Some(self.lock().at(offset))
    }

    /// Waits for what is to be heard; `None` if this ends before.
    fn wait(&self, heard: impl Fn(&Knowledge) -> bool) -> Option<()> {
        self.control.counters.timed(Stage::Compare, || {
            self.control.wait_until(None, |halt| halt != Halt::No || heard(&self.lock()));
        });
        heard(&self.lock()).then_some(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Knowledge> {
        self.knowledge.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The target has zeros in its place: the pages that are none.
fn over_zeros(block: Waiting) -> Pending {
    let mut pages = PageSet::default();
    let data = block.buffer.split_at(block.length).0.chunks(PAGE_LEN).enumerate().filter(|(_, page)| !is_zero(page));
    data.for_each(|(page, _)| pages.insert(page));
    if pages.is_empty() || pages.count() > MOST_PAGES {
        return whole(block);
    }
    let Waiting { offset, length, buffer, digest, .. } = block;
    Pending::Ready(TargetItem::Pages { offset, length, buffer, digest, pages })
}

fn whole(block: Waiting) -> Pending {
    let Waiting { offset, length, buffer, digest, .. } = block;
    Pending::Ready(TargetItem::Block { offset, length, buffer, digest })
}
