//! What a target tells its source: which checkpoints are committed, that it wants no more, and why it gives up. On a thread of
//! its own, so that a source that does not read holds nobody up.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::control::{Control, Halt};
use crate::error::TransferError;
use crate::frame::{FrameKey, Kind, reason_payload};
use crate::framed::FrameWriter;
use crate::link::LinkError;
use crate::scanner::Findings;

/// What there is to tell besides commits, which the [`Control`] knows. Whoever changes it nudges the control.
#[derive(Debug, Default)]
pub(crate) struct Telling {
    stop: AtomicBool,
    farewell: Mutex<Option<(Kind, String)>>,
    /// The outcome is known; nothing but commits can follow.
    ended: AtomicBool,
    /// Nobody will commit any more.
    over: AtomicBool,
    told_all: AtomicBool,
}

impl Telling {
    pub(crate) fn ask_to_stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    pub(crate) fn set_ended(&self) {
        self.ended.store(true, Ordering::Release);
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    pub(crate) fn set_over(&self) {
        self.over.store(true, Ordering::Release);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    pub(crate) fn has_told_all(&self) -> bool {
        self.told_all.load(Ordering::Acquire)
    }

    /// The last words: why the target gives up.
    pub(crate) fn say_farewell(&self, error: &TransferError) {
        let kind = match error {
            TransferError::Link(LinkError::Refused(_)) => Kind::Refused,
            _ => Kind::Abort { number: crate::frame::FrameNumber(0) },
        };
        *self.farewell.lock().unwrap_or_else(PoisonError::into_inner) = Some((kind, error.to_string()));
    }

    fn farewell(&self) -> Option<(Kind, String)> {
        self.farewell.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

pub(crate) struct Teller<'a> {
    pub(crate) control: &'a Control,
    pub(crate) telling: &'a Telling,
    pub(crate) findings: &'a Findings,
    pub(crate) key: FrameKey,
    pub(crate) writer: FrameWriter,
    /// The last commit that was told. The one it begins at is told too: it may be all there is.
    pub(crate) told_seq: Option<u64>,
    pub(crate) stop_told: bool,
}

/// The next thing to tell.
enum News {
    Durable(u64),
    Stop,
    Farewell(Kind, String),
    /// Something of what the target has.
    Finding,
    /// Nothing more will come.
    None,
}

impl Teller<'_> {
    /// Tells what there is until there can be no more, or the source cannot be reached. The stream is not ended by that.
    pub(crate) fn run(mut self) -> FrameWriter {
        while let Some(news) = self.wait_for_news() {
            if !self.tell(news) {
                break;
            }
        }
        self.telling.told_all.store(true, Ordering::Release);
        self.control.nudge();
        self.writer
    }

    fn wait_for_news(&self) -> Option<News> {
        self.control.wait_until(None, |halt| halt == Halt::Abort || self.news().is_some());
        if self.control.is_aborted() { None } else { self.news() }
    }

    /// False after the last.
    fn tell(&mut self, news: News) -> bool {
        let (kind, reason) = match news {
            News::Durable(seq) => {
                self.told_seq = Some(seq);
                (Kind::Durable { seq }, String::new())
            }
            News::Stop => {
                self.stop_told = true;
                (Kind::Stop, String::new())
            }
            News::Farewell(kind, reason) => (kind, reason),
            News::Finding => return self.tell_finding(),
            News::None => return false,
        };
        let is_last = matches!(kind, Kind::Refused | Kind::Abort { .. });
        self.writer.say(self.key, kind, reason_payload(&reason)).is_ok() && !is_last
    }

    fn tell_finding(&mut self) -> bool {
        let Some((kind, payload)) = self.findings.take_news() else { return true };
        match self.writer.say(self.key, kind, &payload) {
            Ok(sent) => self.control.counters.wire_bytes.add(sent),
            Err(_) => return false,
        }
        true
    }

    fn news(&self) -> Option<News> {
        let telling = self.telling;
        let committed = self.control.counters.committed_seq.get();
        if Some(committed) > self.told_seq {
            return Some(News::Durable(committed));
        }
        if !self.stop_told && telling.stop.load(Ordering::Acquire) {
            return Some(News::Stop);
        }
        if let Some((kind, reason)) = telling.farewell() {
            return Some(News::Farewell(kind, reason));
        }
        if self.findings.has_news() && !telling.has_ended() {
            return Some(News::Finding);
        }
        (telling.has_ended() && telling.is_over()).then_some(News::None)
    }
}
