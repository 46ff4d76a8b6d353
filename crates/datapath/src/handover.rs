//! The queues between the stages: bounded, and with a measure of who waits at which end and of how much lies in them.

use std::sync::mpsc::{Receiver, RecvError, RecvTimeoutError, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::time::Duration;

use tanist_model::stage::Stage;

use crate::digest::BLOCK_BYTES;
use crate::meter::Doing;
use crate::progress::Counters;

/// Items between two stages. Blocks are bounded by the pool; this bounds what carries no buffer.
const QUEUE_ITEMS: usize = 8;

/// Something on its way between two stages.
pub(crate) trait Load {
    /// The memory that it keeps: its block, if it has one.
    fn held_bytes(&self) -> u64;
}

/// Nobody takes what is handed on any more.
#[derive(Debug)]
pub(crate) struct Gone;

pub(crate) struct Outlet<'a, T> {
    sender: SyncSender<T>,
    counters: &'a Counters,
    from: Stage,
    to: Stage,
}

pub(crate) struct Inlet<'a, T> {
    receiver: Receiver<T>,
    counters: &'a Counters,
    stage: Stage,
}

/// A queue from one stage to the next.
pub(crate) fn queue<T: Load>(counters: &Counters, from: Stage, to: Stage) -> (Outlet<'_, T>, Inlet<'_, T>) {
    let (sender, receiver) = sync_channel(QUEUE_ITEMS);
    counters.queue(to).set_limit(QUEUE_ITEMS as u64 * BLOCK_BYTES);
    (Outlet { sender, counters, from, to }, Inlet { receiver, counters, stage: to })
}

impl<T: Load> Outlet<'_, T> {
    /// Hands on an item, waiting for room.
    pub(crate) fn send(&self, item: T) -> Result<(), Gone> {
        // Counted first: the other end may take it before this one goes on.
        self.counters.queue(self.to).put(item.held_bytes());
        match self.sender.try_send(item) {
            Ok(()) => Ok(()),
            Err(TrySendError::Disconnected(_)) => Err(Gone),
            Err(TrySendError::Full(item)) => {
                let send = || self.sender.send(item).map_err(|_| Gone);
                self.counters.during(self.from, Doing::Output, send)
            }
        }
    }
}

impl<T: Load> Inlet<'_, T> {
    /// The next item, waiting for it.
    pub(crate) fn recv(&self) -> Result<T, RecvError> {
        let item = match self.receiver.try_recv() {
            Ok(item) => item,
            Err(_) => self.counters.during(self.stage, Doing::Input, || self.receiver.recv())?,
        };
        Ok(self.taken(item))
    }

    /// The next item, waiting so long at most.
    pub(crate) fn recv_timeout(&self, at_most: Duration) -> Result<T, RecvTimeoutError> {
        let item = match self.receiver.try_recv() {
            Ok(item) => item,
            Err(_) => self.counters.during(self.stage, Doing::Input, || self.receiver.recv_timeout(at_most))?,
        };
        Ok(self.taken(item))
    }

    /// The next item if it is there.
    pub(crate) fn try_recv(&self) -> Result<T, TryRecvError> {
        self.receiver.try_recv().map(|item| self.taken(item))
    }

    /// All items until there will be no more.
    pub(crate) fn iter(&self) -> impl Iterator<Item = T> {
        std::iter::from_fn(|| self.recv().ok())
    }

    fn taken(&self, item: T) -> T {
        self.counters.queue(self.stage).take(item.held_bytes());
        item
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Load for u64 {
        fn held_bytes(&self) -> u64 {
            *self
        }
    }

    #[test]
    fn whoever_waits_is_known_and_what_lies_between_as_well() {
        let counters = Counters::default();
        let (outlet, inlet) = queue(&counters, Stage::Source, Stage::Encode);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while counters.snapshot().stages[Stage::Encode as usize].time.input.is_zero() {}
                let outlet = outlet;
                (0..20).for_each(|_| assert!(outlet.send(BLOCK_BYTES).is_ok()));
            });
            assert_eq!(inlet.recv(), Ok(BLOCK_BYTES));
            while counters.snapshot().stages[Stage::Source as usize].time.output.is_zero() {}
            assert_eq!(inlet.iter().count(), 19);
        });
        let fill = counters.queue(Stage::Encode).read();
        assert_eq!((fill.bytes, fill.takings, fill.limit_bytes), (0, 20, QUEUE_ITEMS as u64 * BLOCK_BYTES));
    }

    #[test]
    fn nobody_is_waited_for_who_is_gone() {
        let counters = Counters::default();
        let (outlet, inlet) = queue::<u64>(&counters, Stage::Source, Stage::Encode);
        drop(inlet);
        assert!(outlet.send(1).is_err());
        let (outlet, inlet) = queue::<u64>(&counters, Stage::Source, Stage::Encode);
        drop(outlet);
        assert_eq!(inlet.recv(), Err(RecvError));
        assert_eq!(inlet.recv_timeout(Duration::from_secs(9)), Err(RecvTimeoutError::Disconnected));
    }
}
