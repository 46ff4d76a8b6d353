//! The third stage: writes data, zeros what is zero, and cuts the stream into windows for the checkpoint stage.
//!
//! A window is cut by work done or by time, whichever comes first; the first one early, so that a successor's first durable
//! write comes at once. If the checkpoint stage is busy the window simply grows: copying goes on until the stall limit.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use tanist_model::replication::Side;

use crate::control::Control;
use crate::digest::BLOCK_BYTES;
use crate::encoder::TargetItem;
use crate::error::{Operation, TransferError};
use crate::io::{BlockDevice, ExtentKind};
use crate::pool::PooledBuffer;
use crate::progress::Stage;
use crate::transfer::TransferConfig;
use crate::window::{Part, Window};

/// The longest stretch zeroed by one call: a device that must write zeros byte by byte shall still notice an abort.
const ZERO_CALL_BYTES: u64 = 1 << 30;

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
        Self { target, control, config, window, pending_zeros: 0, cut_at: Instant::now(), first: true }
    }

    pub(crate) fn run(mut self, inlet: Receiver<TargetItem>) {
        match self.write_all(&inlet).and_then(|_| self.apply_zeros()) {
            Ok(()) => self.control.offer_last(self.window),
            Err(error) => {
                self.control.fail(error);
                self.control.writer_done();
            }
        }
    }

    fn write_all(&mut self, inlet: &Receiver<TargetItem>) -> Result<Ended, TransferError> {
        loop {
            match inlet.recv_timeout(self.until_due()) {
                Ok(_) if self.control.is_aborted() => return Ok(Ended::Halted),
                Ok(item) if !self.find_room()? => {
                    drop(item);
                    return Ok(Ended::Halted);
                }
                Ok(item) => self.handle(item)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(Ended::Complete),
            }
            self.cut_if_due()?;
        }
    }

    fn handle(&mut self, item: TargetItem) -> Result<(), TransferError> {
        match item {
            TargetItem::Zeros { length } => {
                self.pending_zeros += length;
                Ok(())
            }
            TargetItem::Block { offset, length, buffer, digest } => {
                self.apply_zeros()?;
                self.write(offset, &buffer, length)?;
                self.grow(Part::Data { length: length as u64, digest });
                Ok(())
            }
        }
    }

    fn write(&self, offset: u64, buffer: &PooledBuffer, length: usize) -> Result<(), TransferError> {
        let counters = &self.control.counters;
        counters
            .timed(Stage::Target, || self.target.write_at(offset, buffer.split_at(length).0))
            .map_err(TransferError::io(Side::Target, Operation::Write, offset, length as u64))?;
        counters.written_bytes.add(length as u64);
        Ok(())
    }

    /// Zeros what is pending. An abort in between leaves the rest; the window then never counts.
    fn apply_zeros(&mut self) -> Result<(), TransferError> {
        let (start, end) = (self.window.end, self.window.end + self.pending_zeros);
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

    /// Waits while the writer is too far past the last commit; false if the transfer is to end.
    fn find_room(&mut self) -> Result<bool, TransferError> {
        while !self.control.has_room(self.window.work_bytes, 2 * BLOCK_BYTES) {
            self.cut()?;
            if !self.control.wait_for_room(self.window.work_bytes, 2 * BLOCK_BYTES) {
                return Ok(false);
            }
        }
        Ok(true)
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
        if self.window.is_empty() || self.control.is_aborted() {
            return Ok(());
        }
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
