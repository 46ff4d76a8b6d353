//! What a target says of itself to a source that compares: a thread that reads what is wanted of it, ahead of what is settled, sends
//! digests, and keeps those of the pages until they are asked for. Of a source that knows nothing everything is wanted from the beginning.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tanist_model::byte_range::ByteRange;

use crate::compared::ComparedTarget;
use crate::control::{Control, Halt};
use crate::digest::BLOCK_BYTES;
use crate::error::TransferError;
use crate::frame::{Comparison, Kind};
use crate::gate::OpenRun;
use crate::io::{BlockDevice, ExtentKind};
use crate::knowledge::{CHUNK_LEN, DIGESTS_BYTES, LOOKAHEAD_BYTES, PageDigest, Seed};
use crate::meter::Doing;
use crate::pages::PAGE_LEN;
use crate::progress::Stage;
use crate::transfer::TransferConfig;

/// Questions that wait to be looked after; a source has a few blocks in hand at a time.
const MOST_WANTED: usize = 64;

/// What is wanted, what was found and is to be told, what was kept, and how far the source is.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    settled: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Stretches of whole blocks that are to be looked at, ascending.
    wanted: VecDeque<(u64, u64)>,
    to_tell: VecDeque<(Kind, Vec<u8>)>,
    pages: BTreeMap<u64, Vec<PageDigest>>,
}

impl Findings {
    /// A run begins: a source without digests of its own wants to know everything.
    pub(crate) fn begin(&self, run: &OpenRun) {
        self.settled.store(run.position, Ordering::Release);
        if run.comparison == Comparison::Whole {
            self.want(run.position, run.size_bytes);
        }
    }

    /// What the target has there is to be told; false if there are too many questions.
    pub(crate) fn want(&self, offset: u64, end: u64) -> bool {
        let wanted = &mut self.lock().wanted;
        wanted.push_back((offset, end));
        wanted.len() <= MOST_WANTED
    }

    fn take_wanted(&self) -> Option<(u64, u64)> {
        self.lock().wanted.pop_front()
    }

    fn has_wanted(&self) -> bool {
        !self.lock().wanted.is_empty()
    }

    fn settled(&self) -> u64 {
        self.settled.load(Ordering::Acquire)
    }

    /// Everything below has come: its pages are not asked for any more.
    pub(crate) fn settle(&self, position: u64) {
        self.settled.store(position, Ordering::Release);
        let mut state = self.lock();
        state.pages = state.pages.split_off(&position);
    }

    /// Answers a question about a block's chunks; false if nothing is known of it.
    pub(crate) fn answer(&self, offset: u64, chunks: u16) -> bool {
        let mut state = self.lock();
        let Some(pages) = state.pages.remove(&offset) else { return false };
        let asked = pages.iter().enumerate().filter(|(page, _)| chunks >> (page * PAGE_LEN / CHUNK_LEN) & 1 == 1);
        let payload = asked.flat_map(|(_, digest)| *digest).collect();
        state.to_tell.push_back((Kind::PageDigests { offset }, payload));
        true
    }

    pub(crate) fn has_news(&self) -> bool {
        !self.lock().to_tell.is_empty()
    }

    pub(crate) fn take_news(&self) -> Option<(Kind, Vec<u8>)> {
        self.lock().to_tell.pop_front()
    }

    fn tell(&self, kind: Kind, payload: Vec<u8>) {
        self.lock().to_tell.push_back((kind, payload));
    }

    fn keep(&self, offset: u64, pages: Vec<PageDigest>) {
        self.lock().pages.insert(offset, pages);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) struct Scanner<'a> {
    target: ComparedTarget<'a>,
    pub(crate) control: &'a Control,
    pub(crate) config: &'a TransferConfig,
    pub(crate) findings: &'a Findings,
    pub(crate) seed: Seed,
    /// Where the next look is, and where the wanted stretch ends.
    position: u64,
    end: u64,
    /// Digests that are not told yet, and where they begin.
    batch: (u64, Vec<u8>),
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(
        target: &'a dyn BlockDevice,
        control: &'a Control,
        config: &'a TransferConfig,
        findings: &'a Findings,
        seed: Seed,
    ) -> Self {
        let position = config.from.seq;
        let (target, batch) = (ComparedTarget::new(target, control), (position, Vec::new()));
        Self { target, control, config, findings, seed, position, end: position, batch }
    }

    pub(crate) fn run(mut self) {
        if let Err(error) = self.scan() {
            self.control.fail(error);
        }
    }

    fn scan(&mut self) -> Result<(), TransferError> {
        while self.control.halted() == Halt::No {
            if self.position < self.end && self.is_near() {
                self.step()?;
                continue;
            }
            self.tell_batch();
            if self.position < self.end {
                self.wait(Doing::Output, || self.is_near());
            } else if let Some((offset, end)) = self.findings.take_wanted() {
                (self.position, self.end, self.batch.0) = (offset, end, offset);
            } else if self.is_over() {
                return Ok(());
            } else {
                self.wait(Doing::Input, || self.findings.has_wanted() || self.is_over());
            }
        }
        Ok(())
    }

    fn wait(&self, why: Doing, enough: impl Fn() -> bool) {
        let wait = || self.control.wait_until(None, |halt| halt != Halt::No || enough());
        self.control.counters.during(Stage::Compare, why, wait);
    }

    /// False while it is far enough ahead of what is settled.
    fn is_near(&self) -> bool {
        self.position < self.findings.settled().saturating_add(LOOKAHEAD_BYTES)
    }

    /// True when the source has no more questions.
    fn is_over(&self) -> bool {
        self.findings.settled() == self.config.size_bytes
    }

    fn step(&mut self) -> Result<(), TransferError> {
        let offset = self.position;
        let block_end = self.end.min(offset + BLOCK_BYTES);
        if self.config.unconditional.overlaps(ByteRange::new(offset, block_end)) {
            self.say(Kind::Digests { offset, length: block_end - offset }, block_end);
            return Ok(());
        }
        let hole_end = self.hole_end(block_end)?;
        if hole_end > offset {
            self.say(Kind::TargetZeros { offset, length: hole_end - offset }, hole_end);
            return Ok(());
        }
        self.digest_block(block_end - offset)?;
        if self.position - self.batch.0 >= DIGESTS_BYTES {
            self.tell_batch();
        }
        Ok(())
    }

    /// Up to where there is a hole in whole blocks that is wanted and ends before anything of which reading proves nothing.
    fn hole_end(&self, block_end: u64) -> Result<u64, TransferError> {
        let offset = self.position;
        let extent = self.target.extent_at(offset, block_end - offset)?;
        if extent.kind != ExtentKind::Hole || extent.end < block_end {
            return Ok(offset);
        }
        let (_, until) = self.config.unconditional.at(offset);
        let end = extent.end.min(until).min(self.end);
        Ok(if end == self.end { end } else { end - end % BLOCK_BYTES })
    }

    fn digest_block(&mut self, length: u64) -> Result<(), TransferError> {
        let offset = self.position;
        let bytes = self.target.read(offset, length)?;
        let pages = self.control.counters.timed(Stage::Compare, || self.seed.pages(bytes));
        self.batch.1.extend(self.seed.chunks(&pages).as_flattened());
        self.findings.keep(offset, pages);
        self.position += length;
        Ok(())
    }

    fn say(&mut self, kind: Kind, end: u64) {
        self.tell_batch();
        self.position = end;
        self.batch.0 = end;
        self.findings.tell(kind, Vec::new());
        self.control.nudge();
    }

    fn tell_batch(&mut self) {
        let (offset, payload) = (self.batch.0, std::mem::take(&mut self.batch.1));
        if !payload.is_empty() {
            let length = self.position - offset;
            self.findings.tell(Kind::Digests { offset, length }, payload);
            self.control.nudge();
        }
        self.batch.0 = self.position;
    }
}
