//! The stages of a sending: reader and encoder as in the direct form, then one who deals frames to the streams, one who writes
//! and one who listens on each stream.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::control::{Control, Halt};
use crate::dealer::{Dealer, Dealt};
use crate::encoder::Encoder;
use crate::frame::{Header, Kind};
use crate::framed::{FrameReader, FrameWriter, Payload, Received};
use crate::handover::queue;
use crate::io::BlockDevice;
use crate::knowledge::{Knowledge, Known};
use crate::lanes::{GRACE, LAST_WORDS, Lanes, Taken};
use crate::link::{Link, LinkError};
use crate::matcher::Matcher;
use crate::pool::PooledBuffer;
use crate::progress::Stage;
use crate::reader::Reader;
use crate::sender::SenderConfig;
use crate::stages::{self, Work};

/// A frame on its way to a stream.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) header: Header,
    pub(crate) payload: Outload,
}

#[derive(Debug)]
pub(crate) enum Outload {
    /// So much of the buffer.
    Block(PooledBuffer, usize),
    Small(Vec<u8>),
}

impl Outload {
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Block(buffer, length) => buffer.get(..*length).unwrap_or_default(),
            Self::Small(bytes) => bytes,
        }
    }
}

/// What the stages of a sending share.
pub(crate) struct Outbound<'a> {
    control: &'a Control,
    lanes: &'a Lanes<Outgoing>,
    config: &'a SenderConfig,
    streams: usize,
    /// Streams that the target has let in.
    admitted: AtomicUsize,
    /// Streams to which something may still be written.
    writing: AtomicUsize,
    /// Nothing more is heard on stream 0, where the target says why it gives up.
    heard_out: AtomicBool,
    /// The target has said that everything is durable and committed.
    has_all: AtomicBool,
    /// The target wants no more, and reads nothing any more.
    dismissed: AtomicBool,
    /// The links are being cut.
    over: AtomicBool,
    /// What the target has said of what it has.
    knowledge: Mutex<Knowledge>,
}

impl<'a> Outbound<'a> {
    pub(crate) fn new(
        control: &'a Control,
        lanes: &'a Lanes<Outgoing>,
        config: &'a SenderConfig,
        streams: usize,
    ) -> Self {
        let (admitted, writing) = (AtomicUsize::new(0), AtomicUsize::new(streams));
        let no = || AtomicBool::new(false);
        let (heard_out, has_all, dismissed, over) = (no(), no(), no(), no());
        let knowledge = Mutex::new(Knowledge::new(config.from_seq, config.size_bytes, config.comparison()));
        Self { control, lanes, config, streams, admitted, writing, heard_out, has_all, dismissed, over, knowledge }
    }

    /// Works until the target has all, or this is ended; whether the target has all.
    pub(crate) fn run(&self, source: &dyn BlockDevice, links: Vec<Link>) -> bool {
        let (control, config) = (self.control, self.config);
        let (counters, next) = (&control.counters, if config.compare { Stage::Compare } else { Stage::Network });
        let (from_reader, to_encoder) = queue(counters, Stage::Source, Stage::Encode);
        let (from_encoder, to_next) = queue(counters, Stage::Encode, next);
        let stretch = (config.from_seq, config.size_bytes);
        let reader = Reader::new(source, stretch, config.digests.changes(config.compare), control, from_reader);
        let encoder = Encoder::new(control, &config.digests, config.compare, config.from_seq);
        let mut work: Vec<Work<'_>> = vec![
            (Stage::Source, Box::new(move || reader.run())),
            (Stage::Encode, Box::new(move || encoder.run(&to_encoder, &from_encoder))),
        ];
        let dealer = Dealer::new(control, self.lanes, config, self.streams);
        if config.compare {
            let (from_matcher, to_dealer) = queue(counters, Stage::Compare, Stage::Network);
            let matcher = Matcher::new(control, &self.knowledge, config, from_matcher);
            work.push((Stage::Compare, Box::new(move || matcher.run(&to_next))));
            work.push((Stage::Network, Box::new(move || dealer.run(to_dealer.iter()))));
        } else {
            work.push((Stage::Network, Box::new(move || dealer.run(to_next.iter().map(Dealt::Item)))));
        }
        let mut cuts = Vec::new();
        for (stream, Link { reader, writer, shutdown }) in (0..).zip(links) {
            work.push((Stage::Network, Box::new(move || self.write(FrameWriter { stream, inner: writer }))));
            work.push((Stage::Network, Box::new(move || self.listen(FrameReader::new(stream, reader)))));
            cuts.push(shutdown);
        }
        stages::run(control, work, || {
            let finished = self.wait_for_end();
            self.over.store(true, Ordering::Release);
            control.nudge();
            self.lanes.close();
            cuts.iter().for_each(|shutdown| shutdown.shutdown());
            if finished {
                // Who says that it has all tells no more: a stage that still waits for its words would wait for ever.
                self.control.halt(Halt::Abort);
            }
            finished
        })
    }

    fn has_all(&self) -> bool {
        self.has_all.load(Ordering::Acquire)
    }

    fn wait_for_end(&self) -> bool {
        let finished = Cell::new(false);
        self.control.wait_until(None, |halt| {
            finished.set(halt == Halt::No && self.has_all());
            halt != Halt::No || finished.get()
        });
        if !finished.get() {
            self.control.wait_until(Some(LAST_WORDS), |halt| halt == Halt::Abort || self.is_taken_leave_of());
        }
        finished.get()
    }

    /// True when the target has heard why this ends: it answers by ending the streams. To cut them before could destroy what is on its
    /// way, the reason last of all.
    fn is_taken_leave_of(&self) -> bool {
        let all_said = self.writing.load(Ordering::Acquire) == 0;
        self.dismissed.load(Ordering::Acquire) || (all_said && self.heard_out.load(Ordering::Acquire))
    }

    /// Opens a stream, and writes what is dealt to it.
    fn write(&self, mut writer: FrameWriter) {
        if let Err(error) = self.write_all(&mut writer) {
            self.lose(error, true);
        }
        self.writing.fetch_sub(1, Ordering::AcqRel);
        self.control.nudge();
    }

    fn write_all(&self, writer: &mut FrameWriter) -> Result<(), LinkError> {
        self.open(writer)?;
        if !self.wait_for_admission() {
            return Ok(());
        }
        let counters = &self.control.counters;
        while let Taken::Item(frame) = self.lanes.take(usize::from(writer.stream)) {
            let written = counters.timed(Stage::Network, || writer.write(&frame.header, frame.payload.bytes()))?;
            counters.wire_bytes.add(written);
        }
        Ok(())
    }

    fn open(&self, writer: &mut FrameWriter) -> Result<(), LinkError> {
        let SenderConfig { key, grant, from_seq, size_bytes, .. } = self.config;
        let (stream, streams) = (writer.stream, u16::try_from(self.streams).unwrap_or(u16::MAX));
        let (size_bytes, from_seq, comparison) = (*size_bytes, *from_seq, self.config.comparison());
        let kind = Kind::Open { stream, streams, size_bytes, from_seq, comparison };
        self.control.counters.wire_bytes.add(writer.say(*key, kind, grant)?);
        Ok(())
    }

    /// No stream is used before all are let in; false if this is over before.
    fn wait_for_admission(&self) -> bool {
        let all = || self.admitted.load(Ordering::Acquire) == self.streams;
        self.control.wait_until(None, |halt| halt == Halt::Abort || self.over.load(Ordering::Acquire) || all());
        all()
    }

    fn listen(&self, mut reader: FrameReader) {
        let is_first = reader.stream == 0;
        if let Err(error) = self.hear_out(&mut reader) {
            self.lose(error, !is_first);
        }
        if is_first {
            self.heard_out.store(true, Ordering::Release);
            self.control.nudge();
        }
    }

    /// Listens until there is nothing more to hear.
    fn hear_out(&self, reader: &mut FrameReader) -> Result<(), LinkError> {
        self.hear_admission(reader)?;
        loop {
            let frame = self.hear(reader)?;
            match frame.header.kind {
                Kind::Durable { seq } if seq <= self.config.size_bytes => {
                    let has_all = seq == self.config.size_bytes;
                    self.has_all.store(has_all, Ordering::Release);
                    self.control.counters.durable_seq.raise(seq);
                    self.control.committed(seq);
                    if has_all {
                        return Ok(());
                    }
                }
                Kind::Stop if !self.config.rules.heeds_stop() => {}
                Kind::Stop => {
                    self.dismissed.store(true, Ordering::Release);
                    self.control.halt(Halt::Stop);
                    return Ok(());
                }
                kind if self.config.compare => self.learn(kind, frame)?,
                kind => return Err(LinkError::Unexpected { kind: kind.code() }),
            }
        }
    }

    /// Takes in what the target says of what it has.
    fn learn(&self, kind: Kind, frame: Received) -> Result<(), LinkError> {
        self.control.counters.wire_bytes.add(frame.wire_bytes());
        let Payload::Small(bytes) = frame.payload else { return Err(LinkError::Unexpected { kind: kind.code() }) };
        let digests = bytes.as_chunks().0.to_vec();
        let mut knowledge = self.knowledge.lock().unwrap_or_else(PoisonError::into_inner);
        match kind {
            Kind::Digests { offset, length } if digests.is_empty() => {
                knowledge.hear(offset, length, Known::Nothing, kind.code())?;
            }
            Kind::Digests { offset, length } => knowledge.hear(offset, length, Known::Digests(digests), kind.code())?,
            Kind::TargetZeros { offset, length } => {
                knowledge.hear(offset, length, Known::Zeros { until: offset + length }, kind.code())?;
            }
            Kind::PageDigests { offset } => knowledge.hear_pages(offset, digests, kind.code())?,
            kind => return Err(LinkError::Unexpected { kind: kind.code() }),
        }
        drop(knowledge);
        self.control.nudge();
        Ok(())
    }

    fn hear_admission(&self, reader: &mut FrameReader) -> Result<(), LinkError> {
        match self.hear(reader)?.header.kind {
            Kind::Admitted => {
                self.admitted.fetch_add(1, Ordering::AcqRel);
                self.control.nudge();
                Ok(())
            }
            kind => Err(LinkError::Unexpected { kind: kind.code() }),
        }
    }

    /// The next frame that is for this sending and no refusal.
    fn hear(&self, reader: &mut FrameReader) -> Result<Received, LinkError> {
        let frame = reader.next_small()?;
        match frame.header.kind {
            kind if frame.header.key != self.config.key => Err(LinkError::Unexpected { kind: kind.code() }),
            Kind::Refused => Err(LinkError::RefusedByTarget { reason: frame.payload.reason() }),
            Kind::Abort { .. } => Err(LinkError::EndedByPeer { reason: frame.payload.reason() }),
            _ => Ok(frame),
        }
    }

    /// A stream is of no more use. A break may be the other side's way to end, which says why on stream 0: that is waited for.
    fn lose(&self, error: LinkError, may_be_explained: bool) {
        if may_be_explained && matches!(error, LinkError::Broken { .. }) {
            let explained = || self.heard_out.load(Ordering::Acquire);
            self.control.wait_until(Some(GRACE), |halt| halt != Halt::No || explained());
        }
        if !self.has_all() {
            self.control.lose(error.into());
        }
    }
}
