//! The target's first stage: takes the frames of all streams in their order, asks the gate, and hands on what it lets in.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use crate::control::Control;
use crate::encoder::TargetItem;
use crate::frame::Kind;
use crate::framed::{FrameReader, Payload, Received};
use crate::gate::{self, OpenRun};
use crate::lanes::{Lanes, Taken};
use crate::link::LinkError;
use crate::progress::Stage;

/// Reads one stream into its lane until it ends or nobody takes what comes.
pub(crate) fn read_stream(mut reader: FrameReader, lanes: &Lanes<Received>, control: &Arc<Control>) {
    let lane = usize::from(reader.stream);
    loop {
        match reader.next(&control.pool) {
            Ok(Some(frame)) => {
                control.counters.wire_bytes.add(frame.wire_bytes());
                if !lanes.put(lane, frame) {
                    return;
                }
            }
            Ok(None) => return,
            Err(error) => return lanes.end(lane, error),
        }
    }
}

pub(crate) struct Intake<'a> {
    pub(crate) lanes: &'a Lanes<Received>,
    pub(crate) control: &'a Control,
    pub(crate) run: OpenRun,
    pub(crate) outlet: SyncSender<TargetItem>,
}

impl Intake<'_> {
    /// Works until all has come, the streams end, or the writer takes no more. What was let in before a failure still becomes durable.
    pub(crate) fn run(mut self) {
        if let Err(error) = self.take_all() {
            self.control.fail(error.into());
        }
    }

    fn take_all(&mut self) -> Result<(), LinkError> {
        loop {
            let lane = self.run.next.0 % u64::from(self.run.streams);
            let lane = usize::try_from(lane).unwrap_or_default();
            match self.control.counters.timed(Stage::Network, || self.lanes.take(lane)) {
                Taken::Item(frame) => {
                    if !self.pass_on(frame)? {
                        return Ok(());
                    }
                }
                Taken::Closed => return Ok(()),
                // Everything has come; that the source does not say so any more takes nothing away from it.
                Taken::Ended(_) if self.run.position == self.run.size_bytes => return Ok(()),
                Taken::Ended(error) => return Err(error),
            }
        }
    }

    /// Lets a frame in and hands it on; false if it was the last.
    fn pass_on(&mut self, frame: Received) -> Result<bool, LinkError> {
        let offset = self.run.position;
        self.run =
            gate::admit(&self.run, &frame.header).inspect_err(|_| self.control.counters.refused_frames.add(1))?;
        let item = match (frame.header.kind, frame.payload) {
            (Kind::Data { digest, .. }, Payload::Block(buffer)) => {
                TargetItem::Block { offset, length: frame.header.payload_len(), buffer, digest }
            }
            (Kind::Zeros { length, .. }, _) => TargetItem::Zeros { length },
            (Kind::Abort { .. }, payload) => return Err(LinkError::EndedByPeer { reason: payload.reason() }),
            _ => return Ok(false),
        };
        Ok(self.outlet.send(item).is_ok())
    }
}
