//! The target's first stage: takes the frames of all streams in their order, asks the gate, and hands on what it lets in.

use std::sync::Arc;

use crate::control::Control;
use crate::digest::{BLOCK_LEN, BlockDigest, blocks};
use crate::encoder::TargetItem;
use crate::error::TransferError;
use crate::frame::Kind;
use crate::framed::{FrameReader, Payload, Received};
use crate::gate::{self, OpenRun, Refusal};
use crate::handover::Outlet;
use crate::lanes::{Lanes, Taken};
use crate::late::LateStreams;
use crate::link::LinkError;
use crate::meter::Doing;
use crate::pages::PageSet;
use crate::pool::PooledBuffer;
use crate::progress::Stage;
use crate::sampler::Sampler;
use crate::scanner::Findings;

/// Reads one stream into its lane until it ends or nobody takes what comes; whether it goes on without anybody.
pub(crate) fn read_stream(
    reader: &mut FrameReader,
    lanes: &Lanes<Received>,
    control: &Arc<Control>,
    late: &LateStreams,
) -> bool {
    let lane = usize::from(reader.stream);
    loop {
        match reader.next(|| control.take_buffer(Stage::Network)) {
            Ok(Some(frame)) => {
                control.counters.wire_bytes.add(frame.wire_bytes());
                if let Err(frame) = lanes.put(lane, frame) {
                    return late.judge(&frame.header, frame.payload());
                }
            }
            Ok(None) => return true,
            Err(error) => {
                lanes.end(lane, error);
                return false;
            }
        }
    }
}

pub(crate) struct Intake<'a> {
    pub(crate) lanes: &'a Lanes<Received>,
    pub(crate) control: &'a Control,
    pub(crate) findings: &'a Findings,
    pub(crate) run: OpenRun,
    /// Looks at some of what the source leaves out unasked.
    pub(crate) sampler: Option<Sampler<'a>>,
    pub(crate) outlet: Outlet<'a, TargetItem>,
}

impl Intake<'_> {
    /// Works until all has come, the streams end, or the writer takes no more. What was let in before a failure still becomes durable.
    pub(crate) fn run(mut self) {
        if let Err(error) = self.take_all() {
            self.control.fail(error);
        }
    }

    fn take_all(&mut self) -> Result<(), TransferError> {
        loop {
            let lane = self.run.next.0 % u64::from(self.run.streams);
            let lane = usize::try_from(lane).unwrap_or_default();
            match self.control.counters.during(Stage::Network, Doing::Input, || self.lanes.take(lane)) {
                Taken::Item(frame) => {
                    if !self.pass_on(frame)? {
                        return Ok(());
                    }
                }
                Taken::Closed => return Ok(()),
                // Everything has come; that the source does not say so any more takes nothing away from it.
                Taken::Ended(_) if self.run.position == self.run.size_bytes => return Ok(()),
                Taken::Ended(error) => return Err(error.into()),
            }
        }
    }

    /// Lets a frame in and hands it on; false if it was the last.
    fn pass_on(&mut self, frame: Received) -> Result<bool, TransferError> {
        let offset = self.run.position;
        self.run = gate::admit(&self.run, &frame.header)
            .inspect_err(|_| self.control.counters.refused_frames.add(1))
            .map_err(LinkError::from)?;
        if self.run.comparison.leaves_out() {
            self.findings.settle(self.run.position);
            self.control.nudge();
        }
        let length = frame.header.volume_bytes();
        let item = match (frame.header.kind, frame.payload) {
            (Kind::Data { digest, .. }, Payload::Block(buffer)) => {
                TargetItem::Block { offset, length: frame.header.payload_len(), buffer, digest }
            }
            (Kind::Pages { digest, .. }, Payload::Block(buffer)) => {
                let length = usize::try_from(length).unwrap_or(BLOCK_LEN);
                scattered(buffer, frame.header.payload_len(), length)
                    .map(|(buffer, pages)| TargetItem::Pages { offset, length, buffer, digest, pages })
                    .ok_or(LinkError::Unexpected { kind: frame.header.kind.code() })?
            }
            (Kind::Same { .. }, Payload::Small(digests)) => return self.pass_same(offset, length, &digests),
            (Kind::SameZeros { .. }, _) => {
                self.sampler.as_mut().map_or(Ok(()), |sampler| sampler.check_zeros(offset, length))?;
                TargetItem::SameZeros { length }
            }
            (Kind::Scan { offset, length, .. }, _) if self.findings.want(offset, offset + length) => {
                self.sampler.iter_mut().for_each(|sampler| sampler.note_asked(offset, length));
                self.control.nudge();
                return Ok(true);
            }
            (Kind::Ask { offset, chunks, .. }, _) if self.findings.answer(offset, chunks) => {
                self.control.nudge();
                return Ok(true);
            }
            (Kind::Ask { offset, .. } | Kind::Scan { offset, .. }, _) => {
                return Err(LinkError::from(Refusal::NotToCome { offset }).into());
            }
            (Kind::Zeros { .. }, _) => TargetItem::Zeros { length },
            (Kind::Abort { .. }, payload) => return Err(LinkError::EndedByPeer { reason: payload.reason() }.into()),
            _ => return Ok(false),
        };
        Ok(self.outlet.send(item).is_ok())
    }

    /// Hands on blocks that the target has; false if nobody takes them.
    fn pass_same(&mut self, offset: u64, length: u64, digests: &[u8]) -> Result<bool, TransferError> {
        for (block, digest) in blocks(offset, offset + length).zip(digests.as_chunks().0) {
            let digest = BlockDigest(*digest);
            if let Some(sampler) = &mut self.sampler {
                sampler.check(block.offset, block.length, &digest)?;
            }
            if self.outlet.send(TargetItem::Same { length: block.length, digest }).is_err() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Brings the pages of a payload to their places in the block; `None` unless they are exactly as many as the payload says.
pub(crate) fn scattered(
    mut buffer: PooledBuffer,
    payload_len: usize,
    length: usize,
) -> Option<(PooledBuffer, PageSet)> {
    let (_, set) = buffer.get(..payload_len)?.split_last_chunk()?;
    let pages = PageSet::from_bytes(set);
    let mut end = pages.total_bytes(length);
    if pages.is_empty() || end + set.len() != payload_len {
        return None;
    }
    let runs: Vec<_> = pages.byte_runs(length).collect();
    for run in runs.into_iter().rev() {
        let start = end - run.len();
        buffer.copy_within(start..end, run.start);
        end = start;
    }
    Some((buffer, pages))
}
