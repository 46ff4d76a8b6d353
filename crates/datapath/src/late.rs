//! What still comes on streams whose reception is over.
//!
//! A source agent that was stopped and wakes goes on where it was: it finishes the frame in its hand and sends the next. Were its streams cut
//! as soon as the target turns to something else, nobody would ever see it. So they are heard on for a while: what comes is
//! asked at the gate like anything else, refused, counted, and then its stream is cut. Nothing here has a device to write to.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::arrival::Cut;
use crate::frame::{FrameKey, Header};
use crate::framed::{FrameReader, FrameWriter};
use crate::gate::{self, GateRules, Refusal};

/// Receptions whose streams are heard on; the oldest gives way.
const MOST_RECEPTIONS: usize = 8;

/// How long streams are heard on: longer than a host usually stays stopped.
const LONGEST: Duration = Duration::from_secs(600);

/// Hears streams of one replication after their reception, until it is dropped. Clones are the same.
#[derive(Clone, Default)]
pub struct LateStreams(Arc<Shared>);

#[derive(Default)]
struct Shared {
    rules: GateRules,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What is received now.
    open: Option<FrameKey>,
    refused: RefusedFrames,
    streams: VecDeque<Heard>,
    #[cfg(feature = "mutations")]
    target: Option<std::sync::Weak<dyn crate::io::BlockDevice>>,
}

/// How many frames were not let in, and why the last one was not.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RefusedFrames {
    pub frames: u64,
    pub last: Option<Refusal>,
}

/// The streams of one reception.
struct Heard {
    since: Instant,
    cuts: Arc<Vec<Cut>>,
    /// Dropping one would tell the source that the stream has ended.
    _writers: Vec<FrameWriter>,
}

impl Drop for Heard {
    fn drop(&mut self) {
        self.cuts.iter().for_each(Cut::cut);
    }
}

impl LateStreams {
    #[must_use]
    pub fn new(rules: GateRules) -> Self {
        Self(Arc::new(Shared { rules, state: Mutex::default() }))
    }

    /// From now on frames of this key, and no others, belong to what is received.
    pub(crate) fn open(&self, key: FrameKey) {
        self.lock().open = Some(key);
    }

    /// Nothing of this key is taken any more.
    pub(crate) fn close(&self, key: FrameKey) {
        let mut state = self.lock();
        state.open = state.open.filter(|open| *open != key);
    }

    /// Hears on, instead of cutting.
    pub(crate) fn keep(&self, cuts: Arc<Vec<Cut>>, writers: Vec<FrameWriter>) {
        let mut state = self.lock();
        state.streams.push_back(Heard { since: Instant::now(), cuts, _writers: writers });
        let surplus = state.streams.len().saturating_sub(MOST_RECEPTIONS);
        let oldest: Vec<Heard> = state.streams.drain(..surplus).collect();
        drop((state, oldest));
    }

    /// Cuts the streams that were heard long enough. To be called now and then.
    pub fn tend(&self) {
        let mut state = self.lock();
        let due = state.streams.iter().take_while(|heard| heard.since.elapsed() > LONGEST).count();
        let due: Vec<Heard> = state.streams.drain(..due).collect();
        drop((state, due));
    }

    /// What was not let in so far.
    #[must_use]
    pub fn refused(&self) -> RefusedFrames {
        self.lock().refused
    }

    /// Cuts all.
    pub fn end(&self) {
        let all = std::mem::take(&mut self.lock().streams);
        drop(all);
    }

    /// Hears a stream until a frame of it is refused, or it ends.
    pub(crate) fn hear(&self, mut reader: FrameReader) {
        let mut payload = Vec::new();
        while let Ok(header) = reader.next_unpooled(&mut payload) {
            if !self.judge(&header, &payload) {
                return;
            }
        }
    }

    /// Asks the gate; false if the frame is refused. What belongs to the reception that is just ending is merely not needed any more.
    pub(crate) fn judge(&self, header: &Header, payload: &[u8]) -> bool {
        let mut state = self.lock();
        match gate::admit_late(self.0.rules, state.open.as_ref(), &header.key) {
            Ok(()) => {
                self.land(state, header, payload);
                true
            }
            Err(refusal) => {
                tracing::warn!(%refusal, "a late frame was refused");
                state.refused = RefusedFrames { frames: state.refused.frames + 1, last: Some(refusal) };
                false
            }
        }
    }

    #[cfg(not(feature = "mutations"))]
    #[expect(clippy::unused_self, reason = "the same signature as in a test build")]
    fn land(&self, _: MutexGuard<'_, State>, _: &Header, _: &[u8]) {}

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Without the gate nothing stands between a late frame and the target: test builds show what that would mean.
#[cfg(feature = "mutations")]
impl LateStreams {
    pub(crate) fn write_without_gate(&self, target: &Arc<dyn crate::io::BlockDevice>) {
        self.lock().target = Some(Arc::downgrade(target));
    }

    fn land(&self, state: MutexGuard<'_, State>, header: &Header, payload: &[u8]) {
        let is_open = state.open.as_ref() == Some(&header.key);
        let target = state.target.as_ref().and_then(std::sync::Weak::upgrade);
        drop(state);
        if let (false, Some(target), crate::frame::Kind::Data { offset, .. }) = (is_open, target, header.kind) {
            let mut aligned = crate::pool::AlignedBuffer::new(payload.len());
            aligned.copy_from_slice(payload);
            let landed = target.write_at(offset, &aligned).and_then(|()| target.flush());
            tracing::warn!(offset, ?landed, "a late frame was written: the gate is switched off");
        }
    }
}

impl fmt::Debug for LateStreams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LateStreams").field("refused", &self.refused()).finish_non_exhaustive()
    }
}
