//! The gate: which frames a target lets in. A pure function of the open run and the frame.
//!
//! A stale writer turns dangerous when the target has moved on to other bytes. So a frame is let in only if its key *equals* the
//! open run's (an epoch that is higher but not equal is as foreign as a lower one: the target does not know what it stands
//! for), and only if it is the very next one: its number, its place, its length. Nothing is skipped, repeated or overlapped.

use tanist_model::id::{Epochs, RunId};

use crate::digest::BLOCK_BYTES;
use crate::frame::{Comparison, FrameKey, FrameNumber, Header, Kind, StreamGeneration};

/// What a target has open, and how far it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OpenRun {
    pub key: FrameKey,
    pub size_bytes: u64,
    /// How many streams the run's frames are dealt to.
    pub streams: u16,
    /// The number that the next frame has.
    pub next: FrameNumber,
    /// Where the last frame ended.
    pub position: u64,
    /// What the source may leave out.
    pub comparison: Comparison,
    /// Up to where it has asked what the target has: only on from there may it ask again.
    pub asked: u64,
    pub rules: GateRules,
}

impl OpenRun {
    /// A run of which nothing has come yet.
    #[must_use]
    pub fn new(key: FrameKey, streams: u16, size_bytes: u64, from_seq: u64, rules: GateRules) -> Self {
        Self {
            key,
            size_bytes,
            streams,
            next: FrameNumber(0),
            position: from_seq,
            comparison: Comparison::None,
            asked: from_seq,
            rules,
        }
    }
}

/// Which rule of the gate is broken: none, but in test builds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct GateRules {
    #[cfg(feature = "mutations")]
    broken: Option<GateMutation>,
}

/// A rule of the gate that a test build can break, to show that the tests notice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GateMutation {
    /// Epochs that are higher and not equal are let in.
    HigherPairAdmitted,
    /// Frames of an earlier stream generation are let in.
    OldStreamAdmitted,
    /// A source goes on although the target has asked it to stop: the gate alone keeps its frames out.
    StopUnheard,
    /// Whatever run, epochs and generation a frame names, it is let in; and sources go on although they were asked to stop.
    KeyIgnored,
}

impl GateRules {
    /// The gate as it has to be.
    pub const WHOLE: Self = Self {
        #[cfg(feature = "mutations")]
        broken: None,
    };

    /// Breaks one rule.
    #[cfg(feature = "mutations")]
    #[must_use]
    pub fn breaking(mutation: GateMutation) -> Self {
        Self { broken: Some(mutation) }
    }

    /// Whether a source does what the target asks.
    pub(crate) fn heeds_stop(self) -> bool {
        !self.breaks(GateMutation::StopUnheard)
    }

    fn breaks(self, mutation: GateMutation) -> bool {
        #[cfg(feature = "mutations")]
        return self.broken == Some(mutation) || self.broken == Some(GateMutation::KeyIgnored);
        #[cfg(not(feature = "mutations"))]
        {
            let _ = (self, mutation);
            false
        }
    }
}

/// Why a frame is not let in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    #[error("the frame belongs to run {found} and run {open} is open")]
    OtherRun { open: RunId, found: RunId },
    #[error("the frame belongs to run {found} and nothing is open")]
    NothingOpen { found: RunId },
    #[error("the frame comes from superseded epochs: {found}, and {open} are open; its agent has been replaced")]
    OldEpochs { open: Epochs, found: Epochs },
    #[error("the frame has epochs {found} and {open} are open: the target has not been granted them")]
    UnknownEpochs { open: Epochs, found: Epochs },
    #[error("the frame is late: it comes from stream generation {} and {} is open", found.0, open.0)]
    OldStream { open: StreamGeneration, found: StreamGeneration },
    #[error("the frame has stream generation {} and {} is open", found.0, open.0)]
    UnknownStream { open: StreamGeneration, found: StreamGeneration },
    #[error("frame {} came again; frame {} is next", found.0, next.0)]
    Repeated { next: FrameNumber, found: FrameNumber },
    #[error("frame {} came and frame {} is next: frames are missing", found.0, next.0)]
    Skipped { next: FrameNumber, found: FrameNumber },
    #[error("the frame begins at {offset} and everything below {position} has come already")]
    Overlap { position: u64, offset: u64 },
    #[error("the frame begins at {offset} and nothing has come from {position} on")]
    Hole { position: u64, offset: u64 },
    #[error("the frame ends past the snapshot: {length} bytes at {offset} of {size_bytes}")]
    PastEnd { offset: u64, length: u64, size_bytes: u64 },
    #[error("the frame is neither whole blocks nor the snapshot's end: {length} bytes at {offset} of {size_bytes}")]
    NotBlocks { offset: u64, length: u64, size_bytes: u64 },
    #[error("the source says that all was sent at {position}, and the snapshot has {size_bytes} bytes")]
    EndsTooEarly { position: u64, size_bytes: u64 },
    #[error("a frame of kind {kind} is not expected here")]
    OutOfPlace { kind: u8 },
    #[error(
        "the stream is for a snapshot of {found} bytes from {from_seq} on; {size_bytes} bytes from {position} on are expected"
    )]
    OtherExtent { size_bytes: u64, position: u64, found: u64, from_seq: u64 },
    #[error("the stream compares in another way than is expected: {found:?} instead of {open:?}")]
    OtherMethod { open: Comparison, found: Comparison },
    #[error("the source asks for what the target has at {offset}, which is no block that is to come")]
    NotToCome { offset: u64 },
    #[error("stream {stream} of {streams} opened; stream {expected} of {expected_streams} is expected")]
    OtherStream { stream: u16, streams: u16, expected: u16, expected_streams: u16 },
}

/// Lets the first frame of stream `index` in.
///
/// # Errors
/// Why it stays outside.
pub fn admit_open(run: &OpenRun, frame: &Header, index: u16) -> Result<(), Refusal> {
    check_key(run, &frame.key)?;
    let Kind::Open { stream, streams, size_bytes, from_seq, comparison } = frame.kind else {
        return Err(Refusal::OutOfPlace { kind: frame.kind.code() });
    };
    if comparison != run.comparison {
        return Err(Refusal::OtherMethod { open: run.comparison, found: comparison });
    }
    if (stream, streams) != (index, run.streams) {
        return Err(Refusal::OtherStream { stream, streams, expected: index, expected_streams: run.streams });
    }
    if (size_bytes, from_seq) != (run.size_bytes, run.position) {
        let OpenRun { size_bytes: expected_size, position, .. } = *run;
        return Err(Refusal::OtherExtent { size_bytes: expected_size, position, found: size_bytes, from_seq });
    }
    Ok(())
}

/// Lets a frame in: the run as it stands after it.
///
/// # Errors
/// Why it stays outside.
pub fn admit(run: &OpenRun, frame: &Header) -> Result<OpenRun, Refusal> {
    check_key(run, &frame.key)?;
    let mut asked = run.asked;
    let (number, offset) = match frame.kind {
        Kind::Data { number, offset, .. } | Kind::Zeros { number, offset, .. } | Kind::End { number, offset } => {
            (number, offset)
        }
        Kind::Same { number, offset, .. }
        | Kind::SameZeros { number, offset, .. }
        | Kind::Pages { number, offset, .. }
            if run.comparison.leaves_out() =>
        {
            (number, offset)
        }
        Kind::Ask { number, offset, .. } if run.comparison.leaves_out() => {
            (number, if is_to_come(run, offset) { run.position } else { return Err(Refusal::NotToCome { offset }) })
        }
        Kind::Scan { number, offset, length } if run.comparison == Comparison::Asked => {
            asked = check_scan(run, offset, length)?;
            (number, run.position)
        }
        Kind::Abort { number } => (number, run.position),
        _ => {
            return Err(Refusal::OutOfPlace { kind: frame.kind.code() });
        }
    };
    check_number(run.next, number)?;
    check_place(run.position, offset)?;
    let position = check_length(run, frame)?;
    Ok(OpenRun { next: FrameNumber(number.0.saturating_add(1)), position, asked, ..*run })
}

fn is_to_come(run: &OpenRun, offset: u64) -> bool {
    offset >= run.position && offset < run.size_bytes && offset.is_multiple_of(BLOCK_BYTES)
}

/// Up to where the source has asked after this: whole blocks that it has not asked for before.
fn check_scan(run: &OpenRun, offset: u64, length: u64) -> Result<u64, Refusal> {
    let end = offset.saturating_add(length);
    let whole = end == run.size_bytes || (end < run.size_bytes && end.is_multiple_of(BLOCK_BYTES));
    let is_next = is_to_come(run, offset) && offset >= run.asked;
    if whole && is_next { Ok(end) } else { Err(Refusal::NotToCome { offset }) }
}

/// Asks for a frame that came when its reception was over: `open` is what is received now.
///
/// # Errors
/// Why it stays outside.
pub fn admit_late(rules: GateRules, open: Option<&FrameKey>, found: &FrameKey) -> Result<(), Refusal> {
    match open {
        Some(open) => compare_keys(rules, open, found),
        None if rules.breaks(GateMutation::KeyIgnored) => Ok(()),
        None => Err(Refusal::NothingOpen { found: found.run }),
    }
}

fn check_key(run: &OpenRun, found: &FrameKey) -> Result<(), Refusal> {
    compare_keys(run.rules, &run.key, found)
}

fn compare_keys(rules: GateRules, open: &FrameKey, found: &FrameKey) -> Result<(), Refusal> {
    if found.run != open.run && !rules.breaks(GateMutation::KeyIgnored) {
        return Err(Refusal::OtherRun { open: open.run, found: found.run });
    }
    check_epochs(rules, open.epochs, found.epochs)?;
    check_generation(rules, open.generation, found.generation)
}

fn check_epochs(rules: GateRules, open: Epochs, found: Epochs) -> Result<(), Refusal> {
    if found == open {
        Ok(())
    } else if found.is_older_than(open) {
        if rules.breaks(GateMutation::KeyIgnored) { Ok(()) } else { Err(Refusal::OldEpochs { open, found }) }
    } else if rules.breaks(GateMutation::HigherPairAdmitted) {
        Ok(())
    } else {
        Err(Refusal::UnknownEpochs { open, found })
    }
}

fn check_generation(rules: GateRules, open: StreamGeneration, found: StreamGeneration) -> Result<(), Refusal> {
    if found == open {
        Ok(())
    } else if found < open {
        if rules.breaks(GateMutation::OldStreamAdmitted) { Ok(()) } else { Err(Refusal::OldStream { open, found }) }
    } else if rules.breaks(GateMutation::KeyIgnored) {
        Ok(())
    } else {
        Err(Refusal::UnknownStream { open, found })
    }
}

fn check_number(next: FrameNumber, found: FrameNumber) -> Result<(), Refusal> {
    match found.cmp(&next) {
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Less => Err(Refusal::Repeated { next, found }),
        std::cmp::Ordering::Greater => Err(Refusal::Skipped { next, found }),
    }
}

fn check_place(position: u64, offset: u64) -> Result<(), Refusal> {
    match offset.cmp(&position) {
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Less => Err(Refusal::Overlap { position, offset }),
        std::cmp::Ordering::Greater => Err(Refusal::Hole { position, offset }),
    }
}

/// Where the frame ends.
fn check_length(run: &OpenRun, frame: &Header) -> Result<u64, Refusal> {
    let OpenRun { position: offset, size_bytes, .. } = *run;
    let length = frame.volume_bytes();
    let end = match offset.checked_add(length) {
        Some(end) if end <= size_bytes => end,
        _ => return Err(Refusal::PastEnd { offset, length, size_bytes }),
    };
    let left = size_bytes - offset;
    let fits = match frame.kind {
        Kind::Data { .. } | Kind::Pages { .. } => length == left.min(BLOCK_BYTES),
        Kind::Zeros { .. } | Kind::Same { .. } | Kind::SameZeros { .. } => {
            length == left || length.is_multiple_of(BLOCK_BYTES)
        }
        Kind::End { .. } if left > 0 => return Err(Refusal::EndsTooEarly { position: offset, size_bytes }),
        _ => true,
    };
    if fits { Ok(end) } else { Err(Refusal::NotBlocks { offset, length, size_bytes }) }
}

#[cfg(test)]
mod tests;
