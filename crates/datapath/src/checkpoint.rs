//! The last stage: makes a window durable, proves it, and only then reports it.
//!
//! The order is the rule: every write of the window completed, then the flush, then the read-back, then the event. A flush
//! that fails ends the transfer: nothing since the checkpoint can be relied on, and flushing again would lie.

use tanist_model::policy::VerifyMode;
use tanist_model::run::Checkpoint;

use crate::control::Control;
use crate::digest::{advance, advance_zeros};
use crate::error::TransferError;
use crate::io::BlockDevice;
use crate::progress::Stage;
use crate::verify::{Expected, ReadBack};
use crate::window::{Part, Window};

pub(crate) struct Checkpointer<'a> {
    pub(crate) target: &'a dyn BlockDevice,
    pub(crate) control: &'a Control,
    pub(crate) verify: VerifyMode,
    pub(crate) checkpoint: Checkpoint,
}

impl Checkpointer<'_> {
    /// Works until the writer is done; the last durable checkpoint.
    pub(crate) fn run(mut self, on_durable: impl Fn(Checkpoint)) -> Checkpoint {
        let mut read_back = ReadBack::new(self.target);
        while let Some(window) = self.control.next_window() {
            match self.make_durable(&window, &mut read_back) {
                Ok(true) => on_durable(self.checkpoint),
                Ok(false) => break,
                Err(error) => {
                    self.control.fail_at_once(error);
                    break;
                }
            }
        }
        self.checkpoint
    }

    /// False if the transfer was aborted on the way.
    fn make_durable(&mut self, window: &Window, read_back: &mut ReadBack<'_>) -> Result<bool, TransferError> {
        let counters = &self.control.counters;
        counters
            .timed(Stage::Commit, || self.target.flush())
            .map_err(|cause| TransferError::Flush { checkpoint_seq: self.checkpoint.seq, cause })?;
        if self.verify != VerifyMode::Off && !counters.timed(Stage::Commit, || self.verify_window(window, read_back))? {
            return Ok(false);
        }
        self.checkpoint = chain(self.checkpoint, window);
        counters.durable_seq.raise(self.checkpoint.seq);
        Ok(true)
    }

    fn verify_window(&self, window: &Window, read_back: &mut ReadBack<'_>) -> Result<bool, TransferError> {
        let (mut offset, mut verified_bytes) = (window.start, 0);
        for part in window.parts.iter().flat_map(short_parts) {
            if self.control.is_aborted() {
                return Ok(false);
            }
            match part {
                Part::Data { length, digest } => {
                    read_back.expect(Expected { offset, length, pages: None, digest })?;
                }
                Part::Zeros { length } => read_back.expect_zeros(offset, length)?,
                Part::Pages { length, pages, written: digest, .. } => {
                    read_back.expect(Expected { offset, length, pages: Some(pages), digest })?;
                }
                Part::Same { .. } | Part::SameZeros { .. } => {}
            }
            offset += part.length();
            verified_bytes += part.written_bytes();
        }
        read_back.settle()?;
        self.control.counters.verified_bytes.add(verified_bytes);
        Ok(true)
    }
}

/// The part itself, or long zeros in stretches that an abort need not wait for.
fn short_parts(part: &Part) -> impl Iterator<Item = Part> {
    const STRETCH_BYTES: u64 = 1 << 30;
    let part = *part;
    let pieces = if matches!(part, Part::Zeros { .. }) { part.length().div_ceil(STRETCH_BYTES) } else { 1 };
    (0..pieces).map(move |i| match part {
        Part::Data { .. } | Part::Pages { .. } | Part::Same { .. } | Part::SameZeros { .. } => part,
        Part::Zeros { length } => Part::Zeros { length: (length - i * STRETCH_BYTES).min(STRETCH_BYTES) },
    })
}

fn chain(from: Checkpoint, window: &Window) -> Checkpoint {
    window.parts.iter().fold(from, |at, part| match part {
        Part::Data { length, digest } | Part::Same { length, digest } | Part::Pages { length, digest, .. } => {
            advance(at, *length, digest)
        }
        Part::Zeros { length } | Part::SameZeros { length } => advance_zeros(at, at.seq + length),
    })
}
