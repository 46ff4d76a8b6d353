//! The recorder: lines from the loop, a bounded queue, and a thread that writes.
//!
//! The loop never waits. What the queue has no room for, or the disk refuses, is lost and said to be; recording goes on with a new segment,
//! which begins with the whole machine.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use tanist_model::time::{Monotonic, Now};

use crate::entry::{Before, FORMAT, Header};
use crate::folder::Folder;
use crate::machine::Machine;

mod disk;

use disk::Disk;

/// A recording that may take less is none.
pub const LEAST_LIMIT: u64 = 1 << 20;
pub const MOST_LIMIT: u64 = 1 << 30;
/// Lines that may wait for the disk.
const QUEUE: usize = 4096;
/// Bytes that may wait for the disk.
const QUEUE_BYTES: u64 = 16 << 20;
/// Between two attempts to go on after a failure; doubled with each failure that follows, up to some five minutes. An attempt copies the whole
/// machine, and a machine that is too large for its recording stays so.
const RETRY: Duration = Duration::from_secs(5);
const MOST_DOUBLINGS: u32 = 6;

/// Where a recording lies, and how much room it may take.
#[derive(Clone, Debug)]
pub struct Settings {
    pub folder: Folder,
    /// Of all segments together, on disk. Zero: nothing is recorded.
    pub limit_bytes: u64,
    pub version: &'static str,
}

impl Settings {
    /// Whether a limit of an operator's can be.
    ///
    /// # Errors
    /// Why not.
    pub fn check(limit_bytes: u64) -> Result<(), String> {
        match limit_bytes {
            0 | LEAST_LIMIT..=MOST_LIMIT => Ok(()),
            other => Err(format!("{other} is neither 0 (nothing is recorded) nor from {LEAST_LIMIT} to {MOST_LIMIT}")),
        }
    }
}

type Encode = Box<dyn FnOnce() -> serde_json::Result<Vec<u8>> + Send>;

enum Message {
    Line(Vec<u8>),
    /// Too long to be encoded in the loop.
    Later(Encode),
    Opening(Opening),
}

struct Opening {
    header: Header,
    machine: Encode,
    /// Numbers the openings of this process.
    number: u64,
    /// Inputs that the loop could not hand over since the opening before.
    lost: u64,
}

/// What loop and thread know of each other.
#[derive(Debug, Default)]
struct Shared {
    /// The opening after which the disk refused something: nothing is written before the next one.
    failed: AtomicU64,
    queued_bytes: AtomicU64,
    opening_bytes: AtomicU64,
}

/// The loop's end.
#[derive(Debug)]
pub struct Recorder(Option<Active>);

#[derive(Debug)]
struct Active {
    queue: Option<SyncSender<Message>>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    version: &'static str,
    limit_bytes: u64,
    /// Openings so far.
    openings: u64,
    /// Bytes since the last one; `None` while there is none to build on.
    since_opening: Option<u64>,
    /// Inputs that were not handed over since then.
    lost: u64,
    failed_at: Option<Monotonic>,
    /// Failures since the last segment that came to its end.
    failures: u32,
}

impl Recorder {
    /// Records nothing.
    #[must_use]
    pub fn off() -> Self {
        Self(None)
    }

    /// Begins to record. A folder that cannot be used is told in the log, and keeps nobody from starting.
    #[must_use]
    pub fn start(settings: Settings) -> Self {
        if settings.limit_bytes == 0 {
            return Self::off();
        }
        let limit_bytes = settings.limit_bytes.clamp(LEAST_LIMIT, MOST_LIMIT);
        let shared = Arc::new(Shared::default());
        let (queue, lines) = sync_channel(QUEUE);
        let disk = Disk::new(settings.folder, limit_bytes);
        let thread = std::thread::Builder::new().name("recording".to_owned());
        let with = Arc::clone(&shared);
        match thread.spawn(move || Writer { disk, shared: with, opening: 0, lost: 0, broken: true }.run(&lines)) {
            Ok(thread) => Self(Some(Active {
                queue: Some(queue),
                shared,
                thread: Some(thread),
                version: settings.version,
                limit_bytes,
                openings: 0,
                since_opening: None,
                lost: 0,
                failed_at: None,
                failures: 0,
            })),
            Err(error) => {
                tracing::error!(%error, "nothing is recorded: no thread for it");
                Self::off()
            }
        }
    }

    /// True if what comes next can be written; the machine is written first if it has to be.
    pub(crate) fn is_ready<M: Machine>(&mut self, machine: &M, now: Now) -> bool {
        self.0.as_mut().is_some_and(|active| active.is_ready(machine, now))
    }

    /// Waits until the disk has refused something.
    #[cfg(test)]
    fn wait_for_failure(&self) {
        let active = self.0.as_ref().expect("an active recorder");
        while active.shared.failed.load(Ordering::Acquire) != active.openings {
            std::thread::yield_now();
        }
    }

    pub(crate) fn push(&mut self, line: serde_json::Result<Vec<u8>>) {
        let Some(active) = &mut self.0 else { return };
        match line {
            Ok(line) => {
                active.since_opening = active.since_opening.map(|bytes| bytes + line.len() as u64);
                active.send(Message::Line(line));
            }
            Err(error) => active.lose(&error.to_string()),
        }
    }

    pub(crate) fn push_later(&mut self, encode: impl FnOnce() -> serde_json::Result<Vec<u8>> + Send + 'static) {
        if let Some(active) = &mut self.0 {
            active.send(Message::Later(Box::new(encode)));
        }
    }
}

impl Active {
    fn is_ready<M: Machine>(&mut self, machine: &M, now: Now) -> bool {
        if self.since_opening.is_some() && self.shared.failed.load(Ordering::Acquire) == self.openings {
            (self.since_opening, self.failed_at) = (None, Some(now.monotonic));
            self.failures += 1;
        }
        let enough = (self.limit_bytes / 16).max(self.shared.opening_bytes.load(Ordering::Relaxed));
        if self.since_opening.is_some_and(|bytes| bytes < enough) {
            return true;
        }
        let pause = RETRY * (1 << self.failures.saturating_sub(1).min(MOST_DOUBLINGS));
        let waits = self.failed_at.is_some_and(|at| now.monotonic.since(at) < pause);
        // A whole machine is copied only for a queue that will take it.
        let has_room = self.shared.queued_bytes.load(Ordering::Relaxed) < QUEUE_BYTES / 2;
        if !waits && has_room && self.open(machine, now) {
            return true;
        }
        self.since_opening = None;
        self.lost += 1;
        false
    }

    fn open<M: Machine>(&mut self, machine: &M, now: Now) -> bool {
        let before = match (self.openings, self.since_opening) {
            (0, _) => Before::Start,
            (_, Some(_)) => Before::Continues,
            (_, None) => Before::Gap { lost: self.lost },
        };
        let version = self.version.to_owned();
        let header = Header { format: FORMAT, version, role: M::ROLE, before, begun: now.wall };
        let copy = machine.clone();
        let machine: Encode = Box::new(move || serde_json::to_vec(&copy));
        let number = self.openings + 1;
        if !self.send(Message::Opening(Opening { header, machine, number, lost: self.lost })) {
            return false;
        }
        if matches!(before, Before::Continues) {
            self.failures = 0;
        }
        (self.openings, self.since_opening, self.lost, self.failed_at) = (number, Some(0), 0, None);
        true
    }

    fn send(&mut self, message: Message) -> bool {
        let bytes = message.bytes();
        let queued = self.shared.queued_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let sent = queued <= QUEUE_BYTES && self.queue.as_ref().is_some_and(|queue| queue.try_send(message).is_ok());
        if !sent {
            self.shared.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.lose("the disk is too slow");
        }
        sent
    }

    fn lose(&mut self, why: &str) {
        self.lost += 1;
        if self.since_opening.take().is_some() {
            tracing::error!(why, "the recording has a gap: what happens now is not in it");
        }
    }
}

impl Message {
    fn bytes(&self) -> u64 {
        if let Self::Line(line) = self { line.len() as u64 } else { 0 }
    }
}

impl Drop for Active {
    /// What was recorded is written before a process ends in order.
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(thread) = self.thread.take() {
            // It has told what went wrong.
            let _ = thread.join();
        }
    }
}

/// The thread's end.
struct Writer {
    disk: Disk,
    shared: Arc<Shared>,
    /// The last opening that was to be written.
    opening: u64,
    /// Inputs that were handed over and not written, since the last opening that was.
    lost: u64,
    /// Nothing is written before the next opening.
    broken: bool,
}

impl Writer {
    fn run(mut self, lines: &Receiver<Message>) {
        while let Ok(message) = lines.recv() {
            let queued = message.bytes();
            let written = match message {
                Message::Opening(opening) => self.open(opening),
                message => self.append(message),
            };
            if let Err(error) = written {
                self.broken = true;
                self.shared.failed.store(self.opening, Ordering::Release);
                tracing::error!(%error, "the recording cannot be written: what happens now is not in it");
            }
            self.shared.queued_bytes.fetch_sub(queued, Ordering::Relaxed);
        }
    }

    fn open(&mut self, opening: Opening) -> io::Result<()> {
        let Opening { mut header, machine, number, lost } = opening;
        (self.opening, self.broken) = (number, true);
        self.lost += lost;
        if self.lost > 0 {
            header.before = Before::Gap { lost: self.lost };
        }
        let machine = machine()?;
        self.shared.opening_bytes.store(machine.len() as u64, Ordering::Relaxed);
        self.disk.open(&header, &machine)?;
        if let Before::Gap { lost } = header.before {
            tracing::warn!(lost, "the recording goes on after a gap");
        }
        (self.broken, self.lost) = (false, 0);
        Ok(())
    }

    fn append(&mut self, message: Message) -> io::Result<()> {
        if self.broken {
            self.lost += 1;
            return Ok(());
        }
        let line = match message {
            Message::Line(line) => line,
            Message::Later(encode) => encode()?,
            Message::Opening(_) => return Ok(()),
        };
        self.disk.append(&line).inspect_err(|_| self.lost += 1)
    }
}

#[cfg(test)]
mod tests;
