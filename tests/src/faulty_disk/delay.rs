//! Work that is done later, each piece in its own time: a slow disk has many orders at once, and each is slow by itself.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

type Work = Box<dyn FnOnce() + Send>;

/// Shared with the thread that does the work.
#[derive(Clone, Debug, Default)]
pub(super) struct Delays(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    /// By their moment, and by their turn within it.
    work: BTreeMap<(Instant, u64), Work>,
    turn: u64,
    ended: bool,
}

impl fmt::Debug for Waiting {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Waiting").field("work", &self.work.len()).field("ended", &self.ended).finish()
    }
}

impl Delays {
    pub(super) fn start() -> std::io::Result<Self> {
        let delays = Self::default();
        let worker = delays.clone();
        thread::Builder::new().name("slow disk".to_owned()).spawn(move || worker.work())?;
        Ok(delays)
    }

    pub(super) fn later(&self, delay: Duration, work: impl FnOnce() + Send + 'static) {
        let mut waiting = self.waiting();
        if waiting.ended {
            drop(waiting);
            return work();
        }
        waiting.turn += 1;
        let at = (Instant::now() + delay, waiting.turn);
        waiting.work.insert(at, Box::new(work));
        self.0.changed.notify_all();
    }

    /// All that waits is done now.
    pub(super) fn hurry(&self) {
        let mut waiting = self.waiting();
        let work = std::mem::take(&mut waiting.work);
        let now = Instant::now();
        waiting.work = work.into_iter().map(|((_, turn), work)| ((now, turn), work)).collect();
        self.0.changed.notify_all();
    }

    /// All that waits is done now, and nothing waits any more.
    pub(super) fn end(&self) {
        self.hurry();
        self.waiting().ended = true;
        self.0.changed.notify_all();
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        while let Some(work) = self.next() {
            work();
        }
    }

    /// Waits for the next that is due. `None` is the end.
    fn next(&self) -> Option<Work> {
        let mut waiting = self.waiting();
        loop {
            let now = Instant::now();
            let next = waiting.work.first_key_value().map(|((due, _), _)| *due);
            waiting = match next {
                Some(due) if due <= now => return waiting.work.pop_first().map(|(_, work)| work),
                Some(due) => {
                    let waited = self.0.changed.wait_timeout(waiting, due - now);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None if waiting.ended => return None,
                None => self.0.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn each_piece_of_work_waits_for_itself_and_all_can_be_hurried() {
        let delays = Delays::start().unwrap();
        let (sender, done) = mpsc::channel();
        let order = |delay, number: u32| {
            let sender = sender.clone();
            delays.later(delay, move || sender.send(number).unwrap());
        };
        order(Duration::from_secs(3600), 1);
        order(Duration::from_millis(50), 2);
        order(Duration::ZERO, 3);
        assert_eq!([done.recv().unwrap(), done.recv().unwrap()], [3, 2]);
        order(Duration::from_secs(3600), 4);
        delays.hurry();
        assert_eq!([done.recv().unwrap(), done.recv().unwrap()], [1, 4]);
        delays.end();
        order(Duration::from_secs(3600), 5);
        assert_eq!(done.recv().unwrap(), 5);
    }
}
