//! The third stage: writes data, zeros what is zero, and cuts the stream into windows for the checkpoint stage.
//!
//! A window is cut by work done or by time, whichever comes first; the first one early, so that a successor's first durable
//! write comes at once. If the checkpoint stage is busy the window simply grows: copying goes on until the stall limit.

use std::io;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use tanist_model::replication::Side;

use crate::control::{Control, Room};
use crate::digest::{BLOCK_BYTES, PagesDigest};
use crate::encoder::TargetItem;
use crate::error::{Operation, TransferError};
use crate::handover::Inlet;
use crate::io::queue::{Direction, IoQueue, Request};
use crate::io::{BlockDevice, ExtentKind};
use crate::progress::Stage;
use crate::transfer::TransferConfig;
use crate::window::{Part, Window};

/// The longest stretch zeroed by one call: a device that must write zeros byte by byte shall still notice an abort.
const ZERO_CALL_BYTES: u64 = 1 << 30;

/// How far zeros are taken at once where they must stay within the stall window; a part of the smallest that can be set.
const ZERO_STEP_BYTES: u64 = BLOCK_BYTES;

/// How soon an idle writer looks again whether the checkpoint stage is free.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Why the writer leaves its loop without an error.
enum Ended {
    /// The encoder has no more.
    Complete,
    /// A stop while it waited for a commit: what is still in the queue is dropped.
    Halted,
}

pub(crate) struct Writer<'a> {
    target: &'a dyn BlockDevice,
    /// Writes of blocks, or of their pages, that may be in flight. Nothing else is asked of the target by this thread meanwhile.
    writes: Box<dyn IoQueue + 'a>,
    control: &'a Control,
    config: &'a TransferConfig,
    window: Window,
    /// Zeros at the end of the window that are not zeroed yet: they wait for the zeros after them.
    pending_zeros: u64,
    cut_at: Instant,
    first: bool,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(target: &'a dyn BlockDevice, control: &'a Control, config: &'a TransferConfig) -> Self {
        let window = Window::starting_at(config.from.seq);
        Self {
            target,
            writes: target.queue(),
            control,
            config,
            window,
            pending_zeros: 0,
            cut_at: Instant::now(),
            first: true,
        }
    }

    pub(crate) fn run(mut self, inlet: &Inlet<'_, TargetItem>) {
        match self.write_all(inlet).and_then(|_| self.apply_zeros()).and_then(|()| self.settle()) {
            Ok(()) => self.control.offer_last(self.window),
            Err(error) => {
                self.control.fail(error);
                self.control.writer_done();
            }
        }
    }

    fn write_all(&mut self, inlet: &Inlet<'_, TargetItem>) -> Result<Ended, TransferError> {
        loop {
            match inlet.recv_timeout(self.until_due()) {
                Ok(_) if self.control.is_aborted() => return Ok(Ended::Halted),
                Ok(item) => {
                    if !self.take(item)? {
                        return Ok(Ended::Halted);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(Ended::Complete),
            }
            self.cut_if_due()?;
        }
    }

    /// Handles an item when there is room for it; false if the transfer is to end. Long zeros are taken in steps, so that what is
    /// zeroed stays within the stall window too.
    fn take(&mut self, item: TargetItem) -> Result<bool, TransferError> {
        let TargetItem::Zeros { length } = item else {
            return Ok(self.find_room(&item)? && self.handle(item).map(|()| true)?);
        };
        let step = if self.config.compare { ZERO_STEP_BYTES } else { u64::MAX };
        let mut left = length;
        while left > 0 {
            let piece = TargetItem::Zeros { length: left.min(step) };
            left -= piece.volume_bytes();
            if !self.find_room(&piece)? {
                return Ok(false);
            }
            self.handle(piece)?;
        }
        Ok(true)
    }

    fn handle(&mut self, item: TargetItem) -> Result<(), TransferError> {
        if let TargetItem::Zeros { length } = item {
            self.pending_zeros += length;
            return Ok(());
        }
        self.apply_zeros()?;
        let part = self.apply(item)?;
        self.grow(part);
        Ok(())
    }

    fn apply(&mut self, item: TargetItem) -> Result<Part, TransferError> {
        let counters = &self.control.counters;
        let same = |length| counters.same_bytes.add(length);
        Ok(match item {
            TargetItem::Block { offset, length, buffer, digest } => {
                self.begin(Request::whole(Direction::Write, offset, length, buffer))?;
                Part::Data { length: length as u64, digest }
            }
            TargetItem::Pages { offset, length, buffer, digest, pages } => {
                let written = PagesDigest::of(buffer.split_at(length).0, pages);
                same((length - pages.total_bytes(length)) as u64);
                self.begin(Request { direction: Direction::Write, offset, length, pages: Some(pages), buffer })?;
                Part::Pages { length: length as u64, digest, pages, written }
            }
            TargetItem::Same { length, digest } => {
                same(length);
                Part::Same { length, digest }
            }
            TargetItem::SameZeros { length } => {
                same(length);
                Part::SameZeros { length }
            }
            TargetItem::Zeros { length } => Part::Zeros { length },
        })
    }

    /// Begins a write when there is room for it.
    fn begin(&mut self, request: Request) -> Result<(), TransferError> {
        while self.writes.in_flight() >= self.writes.depth() {
            self.finish_one()?;
        }
        let failed = failed_write(request.offset, request.length as u64);
        self.control.counters.timed(Stage::Target, || self.writes.begin(request)).map_err(failed)
    }

    /// Waits for every write that is in flight: before what was written is offered, and before anything else is asked of the target.
    fn settle(&mut self) -> Result<(), TransferError> {
        while self.writes.in_flight() > 0 {
            self.finish_one()?;
        }
        Ok(())
    }

    fn finish_one(&mut self) -> Result<(), TransferError> {
        let over = self.control.counters.timed(Stage::Target, || self.writes.next());
        let Some(over) = over.map_err(failed_write(self.window.start, 0))? else { return Ok(()) };
        over.result.map_err(failed_write(over.request.offset, over.request.length as u64))?;
        self.control.counters.written_bytes.add(over.request.moved_bytes());
        Ok(())
    }

    /// Zeros what is pending. An abort in between leaves the rest; the window then never counts.
    fn apply_zeros(&mut self) -> Result<(), TransferError> {
        let (start, end) = (self.window.end, self.window.end + self.pending_zeros);
        if start < end {
            self.settle()?;
        }
        let mut at = start;
        while at < end && !self.control.is_aborted() {
            at += self.zero_piece(at, end)?;
        }
        if start < end {
            self.grow(Part::Zeros { length: end - start });
        }
        self.pending_zeros = 0;
        Ok(())
    }

    /// Zeros the beginning of `[at, end)`, or skips it where it is known to be zero; how much it was.
    fn zero_piece(&self, at: u64, end: u64) -> Result<u64, TransferError> {
        let counters = &self.control.counters;
        let (is_hole, piece_end) = self.known_zero(at, end)?;
        if is_hole {
            counters.skipped_bytes.add(piece_end - at);
            return Ok(piece_end - at);
        }
        let length = (piece_end - at).min(ZERO_CALL_BYTES);
        counters.timed(Stage::Target, || self.target.zero_range(at, length)).map_err(TransferError::io(
            Side::Target,
            Operation::Zero,
            at,
            length,
        ))?;
        counters.zeroed_bytes.add(length);
        Ok(length)
    }

    /// Whether the target is known, by looking now, to hold zeros from `at`, and up to where that answer goes.
    fn known_zero(&self, at: u64, end: u64) -> Result<(bool, u64), TransferError> {
        if !self.config.skip_target_holes {
            return Ok((false, end));
        }
        let failed = TransferError::io(Side::Target, Operation::MapExtents, at, end - at);
        let extent = self.control.counters.timed(Stage::Target, || self.target.extent_at(at)).map_err(failed)?;
        Ok((extent.kind == ExtentKind::Hole, extent.end.clamp(at + 1, end)))
    }

    fn grow(&mut self, part: Part) {
        self.window.push(part);
        self.control.counters.written_seq.raise(self.window.end);
    }

    /// Waits while the item would bring the writer too far past the last commit; false if the transfer is to end.
    fn find_room(&mut self, item: &TargetItem) -> Result<bool, TransferError> {
        let mut room = Room { open_work: self.window.work_bytes, work: 2 * BLOCK_BYTES, end: self.write_end(item) };
        while !self.control.has_room(&room) {
            self.cut()?;
            room.open_work = self.window.work_bytes;
            if !self.control.wait_for_room(&room) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Up to where the item is written, where that counts: a successor writes the stall window past the checkpoint whole, so nothing
    /// may be written beyond it, however much in between was left as it is. Without a comparison it writes everything anyway.
    fn write_end(&self, item: &TargetItem) -> u64 {
        let writes = !matches!(item, TargetItem::Same { .. } | TargetItem::SameZeros { .. });
        let begins = self.window.end + self.pending_zeros;
        if self.config.compare && writes { begins + item.volume_bytes() } else { 0 }
    }

    fn until_due(&self) -> Duration {
        let interval = if self.first { self.config.first_checkpoint_interval } else { self.config.checkpoint_interval };
        let left = (self.cut_at + interval).saturating_duration_since(Instant::now());
        // Overdue means that the checkpoint stage is busy or that there is nothing to cut: look again soon.
        if left.is_zero() { LOOK_AGAIN } else { left }
    }

    fn is_due(&self) -> bool {
        let (work, interval) = if self.first {
            (self.config.first_checkpoint_bytes, self.config.first_checkpoint_interval)
        } else {
            (self.config.checkpoint_bytes, self.config.checkpoint_interval)
        };
        self.window.work_bytes >= work || self.cut_at.elapsed() >= interval
    }

    fn cut_if_due(&mut self) -> Result<(), TransferError> {
        if self.is_due() { self.cut() } else { Ok(()) }
    }

    /// Offers the window as it is, if the checkpoint stage is free to take it.
    fn cut(&mut self) -> Result<(), TransferError> {
        self.apply_zeros()?;
        if self.window.is_empty() || self.control.is_aborted() || !self.control.takes_windows() {
            return Ok(());
        }
        self.settle()?;
        let next = Window::starting_at(self.window.end);
        match self.control.try_offer(std::mem::replace(&mut self.window, next)) {
            Ok(()) => {
                self.cut_at = Instant::now();
                self.first = false;
            }
            Err(refused) => self.window = refused,
        }
        Ok(())
    }
}

fn failed_write(offset: u64, length: u64) -> impl Fn(io::Error) -> TransferError {
    TransferError::io(Side::Target, Operation::Write, offset, length)
}
