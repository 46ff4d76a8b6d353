//! The order of frames over several streams, without a buffer for those that come too early.
//!
//! Frame *n* goes to stream *n mod count*, and the receiver takes frames from the streams in that order. Each stream has a lane
//! here with room for one frame, on either side. A stream that runs ahead fills its lane, the thread that reads it waits with one
//! more frame in its hand, and then the stream's own flow control (TCP's window) holds the sender's thread of that stream, and
//! at last the one who deals. So no side needs to sort anything, and what comes early is bounded by two blocks a stream.
//!
//! Nobody waits for ever: the receiver waits only for the lowest frame it does not have. That frame was dealt before any higher
//! one, so its sender's thread holds it or has sent it, and nothing stands before it on its stream. It needs a buffer: the other
//! streams hold two each at most, six of twelve, and whatever the writer holds comes back without a new frame.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::link::LinkError;

/// How long a frame that may still be on its way is waited for when another stream has broken: the reason why the other side gave up may
/// be in it.
pub(crate) const GRACE: Duration = Duration::from_millis(250);

/// How long a side that ends may still try to say so to one that does not listen.
pub(crate) const LAST_WORDS: Duration = Duration::from_secs(1);

/// One place for each stream.
#[derive(Debug)]
pub(crate) struct Lanes<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

#[derive(Debug)]
struct State<T> {
    lanes: Vec<Lane<T>>,
    /// No more will be put.
    finished: bool,
    /// No more will be taken either.
    closed: bool,
}

#[derive(Debug)]
struct Lane<T> {
    waiting: Option<T>,
    ended: Option<LinkError>,
}

/// What a lane has.
#[derive(Debug)]
pub(crate) enum Taken<T> {
    Item(T),
    /// Its stream, or another one, came to an end.
    Ended(LinkError),
    /// There will be nothing more.
    Closed,
}

impl<T> Lanes<T> {
    pub(crate) fn new(count: u16) -> Self {
        let lanes = (0..count).map(|_| Lane { waiting: None, ended: None }).collect();
        Self { state: Mutex::new(State { lanes, finished: false, closed: false }), changed: Condvar::new() }
    }

    /// Puts an item, waiting for room; gives it back if nobody will take it.
    pub(crate) fn put(&self, lane: usize, item: T) -> Result<(), T> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return Err(item);
            }
            match state.lanes.get_mut(lane) {
                None => return Err(item),
                Some(lane) if lane.waiting.is_none() => {
                    lane.waiting = Some(item);
                    self.changed.notify_all();
                    return Ok(());
                }
                Some(_) => state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// Takes the next item of a lane, waiting for it.
    pub(crate) fn take(&self, lane: usize) -> Taken<T> {
        let mut state = self.lock();
        let mut deadline = None;
        loop {
            if let Some(taken) = state.take_now(lane) {
                self.changed.notify_all();
                return taken;
            }
            let wait = if state.has_ended() {
                let until = *deadline.get_or_insert_with(|| Instant::now() + GRACE);
                until.saturating_duration_since(Instant::now())
            } else {
                Duration::MAX
            };
            if wait.is_zero() {
                return state.any_end();
            }
            state = self.wait(state, wait);
        }
    }

    /// Says that nothing more will come on this stream.
    pub(crate) fn end(&self, lane: usize, error: LinkError) {
        if let Some(lane) = self.lock().lanes.get_mut(lane) {
            lane.ended.get_or_insert(error);
        }
        self.changed.notify_all();
    }

    /// Says that nothing more will be put; what is there can still be taken.
    pub(crate) fn finish(&self) {
        self.lock().finished = true;
        self.changed.notify_all();
    }

    /// Drops what is there, and wakes everybody.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let dropped: Vec<_> = state.lanes.iter_mut().filter_map(|lane| lane.waiting.take()).collect();
        drop(state);
        drop(dropped);
        self.changed.notify_all();
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State<T>>, at_most: Duration) -> MutexGuard<'a, State<T>> {
        if at_most == Duration::MAX {
            return self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        self.changed.wait_timeout(state, at_most).unwrap_or_else(PoisonError::into_inner).0
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> State<T> {
    fn take_now(&mut self, lane: usize) -> Option<Taken<T>> {
        if self.closed {
            return Some(Taken::Closed);
        }
        let Some(lane) = self.lanes.get_mut(lane) else { return Some(Taken::Closed) };
        if let Some(item) = lane.waiting.take() {
            return Some(Taken::Item(item));
        }
        if let Some(error) = lane.ended.take() {
            return Some(Taken::Ended(error));
        }
        self.finished.then_some(Taken::Closed)
    }

    fn has_ended(&self) -> bool {
        self.lanes.iter().any(|lane| lane.ended.is_some())
    }

    fn any_end(&mut self) -> Taken<T> {
        self.lanes.iter_mut().find_map(|lane| lane.ended.take()).map_or(Taken::Closed, Taken::Ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(stream: u16) -> LinkError {
        LinkError::Broken { stream, cause: std::io::ErrorKind::BrokenPipe.into() }
    }

    #[test]
    fn a_lane_holds_one_item_and_keeps_the_order() {
        let lanes = Lanes::new(2);
        std::thread::scope(|scope| {
            scope.spawn(|| assert!([0, 2, 4].iter().all(|n| lanes.put(0, *n).is_ok())));
            scope.spawn(|| assert!([1, 3, 5].iter().all(|n| lanes.put(1, *n).is_ok())));
            for n in 0..6 {
                assert!(matches!(lanes.take(n % 2), Taken::Item(item) if item == n));
            }
        });
    }

    #[test]
    fn what_came_before_the_end_of_a_stream_is_still_taken() {
        let lanes = Lanes::new(2);
        assert!(lanes.put(0, 1).is_ok());
        lanes.end(0, broken(0));
        lanes.end(1, broken(1));
        assert!(matches!(lanes.take(0), Taken::Item(1)));
        assert!(matches!(lanes.take(0), Taken::Ended(LinkError::Broken { stream: 0, .. })));
    }

    #[test]
    fn a_stream_that_stays_silent_after_another_broke_is_not_waited_for_for_ever() {
        let lanes = Lanes::<u8>::new(2);
        lanes.end(1, broken(1));
        assert!(matches!(lanes.take(0), Taken::Ended(LinkError::Broken { stream: 1, .. })));
    }

    #[test]
    fn closing_wakes_those_who_put_and_those_who_take() {
        let lanes = Lanes::new(2);
        assert!(lanes.put(0, 1).is_ok());
        std::thread::scope(|scope| {
            let putting = scope.spawn(|| lanes.put(0, 2));
            let taking = scope.spawn(|| lanes.take(1));
            lanes.close();
            assert_eq!(putting.join().unwrap(), Err(2));
            assert!(matches!(taking.join().unwrap(), Taken::Closed));
        });
        assert!(matches!(lanes.take(0), Taken::Closed));
    }

    #[test]
    fn finished_lanes_are_emptied_first() {
        let lanes = Lanes::new(1);
        assert!(lanes.put(0, 1).is_ok());
        lanes.finish();
        assert!(matches!(lanes.take(0), Taken::Item(1)));
        assert!(matches!(lanes.take(0), Taken::Closed));
    }
}
