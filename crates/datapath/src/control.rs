//! What the stages of a transfer share: whether to go on, the bandwidth limit, the window on its way to the checkpoint
//! stage, and how far past the last commit the writer is. One monitor; every wait ends when the transfer is told to stop.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::TransferError;
use crate::limit::{BytesPerSecond, TokenBucket};
use crate::meter::Doing;
use crate::pool::{Pool, PooledBuffer};
use crate::progress::{Counters, Stage};
use crate::window::Window;

/// How a transfer is being ended early.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(crate) enum Halt {
    #[default]
    No,
    /// What is in flight is finished, flushed and reported.
    Stop,
    /// Nothing more is begun.
    Abort,
}

/// Wakes what waits elsewhere than here when the transfer is ended early. May be called again and again, and must not wait.
pub(crate) type OnHalt = Box<dyn Fn(Halt) + Send + Sync>;

/// The shared part of one transfer.
pub(crate) struct Control {
    state: Mutex<State>,
    changed: Condvar,
    pub(crate) counters: Counters,
    pub(crate) pool: Arc<Pool>,
    stall_bytes: u64,
    on_halt: OnHalt,
}

#[derive(Debug, Default)]
struct State {
    halt: Halt,
    failure: Option<TransferError>,
    limit: Option<TokenBucket>,
    window: Option<Window>,
    writer_done: bool,
    /// Work handed over in windows, and committed, since the transfer began.
    offered_work: u64,
    committed_work: u64,
    /// Windows that are not committed, oldest first.
    uncommitted: VecDeque<Pending>,
}

/// What a writer wants room for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// Work that is done and not yet in any offered window.
    pub(crate) open_work: u64,
    /// Work that is to be done.
    pub(crate) work: u64,
    /// The byte of the volume up to which it writes, if it may not pass the stall window; otherwise zero.
    pub(crate) end: u64,
}

#[derive(Debug)]
struct Pending {
    end: u64,
    work: u64,
}

impl Control {
    pub(crate) fn new(
        from_seq: u64,
        pool: Arc<Pool>,
        stall_bytes: u64,
        limit: Option<BytesPerSecond>,
        on_halt: OnHalt,
    ) -> Self {
        let limit = limit.map(|rate| TokenBucket::new(rate, Instant::now()));
        let counters = Counters::starting_at(from_seq);
        counters.queue(Stage::Commit).set_limit(stall_bytes);
        Self {
            state: Mutex::new(State { limit, ..State::default() }),
            changed: Condvar::new(),
            counters,
            pool,
            stall_bytes,
            on_halt,
        }
    }

    /// Ends the transfer early. A stop can become an abort and never the other way round.
    pub(crate) fn halt(&self, how: Halt) {
        self.update(|state| state.halt = state.halt.max(how));
        self.tell(how);
    }

    /// Reaches those who do not wait on this monitor.
    fn tell(&self, how: Halt) {
        if how == Halt::Abort {
            self.pool.close();
        }
        (self.on_halt)(how);
    }

    pub(crate) fn halted(&self) -> Halt {
        self.lock().halt
    }

    pub(crate) fn is_aborted(&self) -> bool {
        self.halted() == Halt::Abort
    }

    /// Records why the transfer cannot succeed; the first reason stands. What is in flight still becomes durable if it can.
    pub(crate) fn fail(&self, error: TransferError) {
        self.update(|state| {
            state.failure.get_or_insert(error);
            state.halt = state.halt.max(Halt::Stop);
        });
        self.tell(Halt::Stop);
    }

    /// As [`fail`](Self::fail), where nothing that is in flight can be relied on.
    pub(crate) fn fail_at_once(&self, error: TransferError) {
        self.fail(error);
        self.halt(Halt::Abort);
    }

    /// As [`fail_at_once`](Self::fail_at_once), unless the transfer is being ended already: then a stream that ends is no news.
    pub(crate) fn lose(&self, error: TransferError) {
        let mut state = self.lock();
        if state.halt != Halt::No {
            return;
        }
        state.failure.get_or_insert(error);
        state.halt = Halt::Abort;
        drop(state);
        self.changed.notify_all();
        self.tell(Halt::Abort);
    }

    /// Why it fails, as far as is known.
    pub(crate) fn failure_text(&self) -> Option<String> {
        self.lock().failure.as_ref().map(ToString::to_string)
    }

    pub(crate) fn take_failure(&self) -> Option<TransferError> {
        self.lock().failure.take()
    }

    pub(crate) fn set_limit(&self, limit: Option<BytesPerSecond>) {
        self.update(|state| state.limit = limit.map(|rate| TokenBucket::new(rate, Instant::now())));
    }

    /// A buffer for a stage, waiting until one is free; `None` once the transfer is being aborted. Whoever has them all is further on.
    pub(crate) fn take_buffer(&self, stage: Stage) -> Option<PooledBuffer> {
        let wait = || self.counters.during(stage, Doing::Output, || self.pool.take());
        self.pool.try_take().or_else(wait)
    }

    /// Whether what is read has a limit now: then nothing is gained by reading ahead.
    pub(crate) fn is_limited(&self) -> bool {
        self.lock().limit.is_some()
    }

    /// Waits until the limit allows another read, and books its `bytes`; false if the transfer is to end. Every change of
    /// the limit is seen at once.
    pub(crate) fn pass_limit(&self, bytes: u64) -> bool {
        let mut state = self.lock();
        while state.halt == Halt::No {
            let now = Instant::now();
            let Some(bucket) = &mut state.limit else { return true };
            let left = bucket.ready_at().saturating_duration_since(now);
            if left.is_zero() {
                bucket.grant(bytes, now);
                return true;
            }
            let wait = || self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            let wait = || self.counters.timed(Stage::Bandwidth, wait);
            state = self.counters.during(Stage::Source, Doing::Input, wait);
        }
        false
    }

    /// Whether the checkpoint stage has taken the window before, so that the next one can be offered.
    pub(crate) fn takes_windows(&self) -> bool {
        self.lock().window.is_none()
    }

    /// Hands a window to the checkpoint stage; gives it back if that has not taken the one before.
    pub(crate) fn try_offer(&self, window: Window) -> Result<(), Window> {
        let mut state = self.lock();
        if state.window.is_some() {
            return Err(window);
        }
        self.offer(&mut state, window);
        drop(state);
        self.changed.notify_all();
        Ok(())
    }

    /// Hands over the last window, waiting for room, and ends the checkpoint stage after it.
    pub(crate) fn offer_last(&self, window: Window) {
        let mut state = self.lock();
        while state.window.is_some() && state.halt != Halt::Abort {
            state = self.wait(state);
        }
        if !window.is_empty() && state.halt != Halt::Abort {
            self.offer(&mut state, window);
        }
        drop(state);
        self.writer_done();
    }

    fn offer(&self, state: &mut State, window: Window) {
        self.counters.queue(Stage::Commit).put(window.work_bytes);
        state.offer(window);
    }

    /// Says that no further window will come, for whatever reason.
    pub(crate) fn writer_done(&self) {
        self.update(|state| state.writer_done = true);
    }

    /// The next window to make durable; `None` when there will be none.
    pub(crate) fn next_window(&self) -> Option<Window> {
        let mut state = self.lock();
        loop {
            if state.halt == Halt::Abort {
                return None;
            }
            if let Some(window) = state.window.take() {
                self.changed.notify_all();
                return Some(window);
            }
            if state.writer_done {
                return None;
            }
            state = self.counters.during(Stage::Commit, Doing::Input, || self.wait(state));
        }
    }

    /// True if this may be written now.
    pub(crate) fn has_room(&self, room: &Room) -> bool {
        self.is_room(&self.lock(), room)
    }

    fn is_room(&self, state: &State, room: &Room) -> bool {
        let committed = self.counters.committed_seq.get();
        let within = room.end <= committed.saturating_add(self.stall_bytes);
        within && state.has_room(self.stall_bytes, room.open_work + room.work)
    }

    /// Waits until there is room, or for a window to be offered; false if the transfer is to end.
    pub(crate) fn wait_for_room(&self, room: &Room) -> bool {
        let wait = || {
            let mut state = self.lock();
            loop {
                if state.halt != Halt::No {
                    return false;
                }
                let may_offer = room.open_work > 0 && state.window.is_none();
                if may_offer || self.is_room(&state, room) {
                    return true;
                }
                state = self.wait(state);
            }
        };
        // Whether it is a flush that takes so long or the caller who commits: that is the stage after this one.
        let wait = || self.counters.timed(Stage::Commit, wait);
        self.counters.during(Stage::Target, Doing::Output, wait)
    }

    /// The caller has committed the checkpoint at `seq`.
    pub(crate) fn committed(&self, seq: u64) {
        self.counters.committed_seq.raise(seq);
        self.update(|state| {
            while let Some(pending) = state.uncommitted.pop_front_if(|pending| pending.end <= seq) {
                state.committed_work += pending.work;
                self.counters.queue(Stage::Commit).take(pending.work);
            }
        });
    }

    /// Waits until `done` says so, at most for `at_most`; what it said last. It is asked after every change here and every
    /// [`nudge`](Self::nudge).
    pub(crate) fn wait_until(&self, at_most: Option<Duration>, done: impl Fn(Halt) -> bool) -> bool {
        let deadline = at_most.map(|time| Instant::now() + time);
        let mut state = self.lock();
        loop {
            if done(state.halt) {
                return true;
            }
            let Some(deadline) = deadline else {
                state = self.wait(state);
                continue;
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Says that something that is waited for by [`wait_until`](Self::wait_until), and is kept elsewhere, has changed.
    pub(crate) fn nudge(&self) {
        self.update(|_| {});
    }

    fn update(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn offer(&mut self, window: Window) {
        self.offered_work += window.work_bytes;
        self.uncommitted.push_back(Pending { end: window.end, work: window.work_bytes });
        self.window = Some(window);
    }

    fn has_room(&self, stall_bytes: u64, unoffered_work: u64) -> bool {
        self.offered_work + unoffered_work - self.committed_work <= stall_bytes
    }
}
