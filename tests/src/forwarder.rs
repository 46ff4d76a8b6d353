//! A rough line between two hosts: frames that have to take it arrive late, in another order, or not at all. A host of its own on the
//! bridge of a [`Network`](crate::network::Network): a TAP device, and a thread of the test that reads it, keeps each frame for its time and
//! sends it on. It works in user space because few kernels of build machines have netem.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tun_rs::{DeviceBuilder, Layer, SyncDevice};

use crate::random::Random;

/// An Ethernet frame with the usual MTU, and room to see that one is longer.
const LONGEST_FRAME: usize = 2048;
/// What a line holds; more is dropped, as by a router whose queue is full.
const MOST_HELD_BYTES: usize = 64 << 20;
/// Destination and source.
const ADDRESSES: usize = 12;

/// What becomes of what one host sends to another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quality {
    /// Each frame arrives so much later.
    pub delay: Duration,
    /// At most so much later still, each frame by itself: they overtake each other.
    pub jitter: Duration,
    /// Of a thousand frames so many do not arrive; 1000 is a cut.
    pub loss_per_mille: u16,
}

impl Quality {
    /// The direct way.
    pub const GOOD: Self = Self { delay: Duration::ZERO, jitter: Duration::ZERO, loss_per_mille: 0 };

    /// Nothing but late.
    #[must_use]
    pub const fn late(delay: Duration) -> Self {
        Self { delay, ..Self::GOOD }
    }

    /// Nothing but lossy.
    #[must_use]
    pub const fn lossy(loss_per_mille: u16) -> Self {
        Self { loss_per_mille, ..Self::GOOD }
    }
}

/// From the host with the first number to the one with the second.
pub(crate) type Direction = (u8, u8);

/// The hardware address of a host in this network.
pub(crate) const fn hardware_address(number: u8) -> [u8; 6] {
    [2, 0, 0, 0, 0, number]
}

/// Where a host sends what is to reach another over the forwarder.
pub(crate) const fn forwarding_address(number: u8) -> [u8; 6] {
    [2, 0, 0, 0, 0xfe, number]
}

/// Ends with its thread when it is dropped.
#[derive(Debug)]
pub(crate) struct Forwarder {
    line: Arc<Mutex<Line>>,
    /// Its end is the thread's.
    bell: UnixStream,
    thread: Option<JoinHandle<()>>,
}

impl Forwarder {
    /// A device that nothing is connected to yet, and its name.
    pub(crate) fn start() -> Result<(Self, String), String> {
        let failed = |error: io::Error| format!("a TAP device: {error}");
        let device = DeviceBuilder::new().layer(Layer::L2).enable(false).build_sync().map_err(failed)?;
        device.set_nonblocking(true).map_err(failed)?;
        let name = device.name().map_err(failed)?;
        let (bell, rung) = UnixStream::pair().map_err(failed)?;
        rung.set_nonblocking(true).map_err(failed)?;
        let line = Arc::new(Mutex::new(Line::new(Random::seeded("a rough line"))));
        let shared = Arc::clone(&line);
        let work = move || forward(&device, &shared, &rung);
        let thread = thread::Builder::new().name("forwarder".to_owned()).spawn(work).map_err(failed)?;
        Ok((Self { line, bell, thread: Some(thread) }, name))
    }

    /// What goes this way from now on is treated so.
    pub(crate) fn degrade(&self, direction: Direction, quality: Quality) {
        locked(&self.line).ways.insert(direction, Way::Rough(quality));
    }

    /// Nothing goes this way any more, and what is on it does not arrive.
    pub(crate) fn cut(&self, direction: Direction) {
        locked(&self.line).cut(direction);
    }

    /// What is still on this way arrives in its time.
    pub(crate) fn restore(&self, direction: Direction) {
        locked(&self.line).ways.remove(&direction);
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        let _ = self.bell.shutdown(std::net::Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn locked(line: &Mutex<Line>) -> MutexGuard<'_, Line> {
    line.lock().unwrap_or_else(PoisonError::into_inner)
}

fn forward(device: &SyncDevice, line: &Mutex<Line>, bell: &UnixStream) {
    let mut buffer = [0; LONGEST_FRAME];
    loop {
        let wait = {
            let mut line = locked(line);
            send_due(device, &mut line);
            line.next_due().map(|due| due.saturating_duration_since(Instant::now()))
        };
        match await_work(device, bell, wait) {
            Ok(true) => take_frames(device, line, &mut buffer),
            Ok(false) => {}
            Err(()) => return,
        }
    }
}

/// Until there is a frame, or the time is over. An error is the end.
fn await_work(device: &SyncDevice, bell: &UnixStream, wait: Option<Duration>) -> Result<bool, ()> {
    let timeout = wait.map(|wait| Timespec {
        tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(wait.subsec_nanos()),
    });
    let mut events = [PollFd::new(device, PollFlags::IN), PollFd::new(bell, PollFlags::IN)];
    match poll(&mut events, timeout.as_ref()) {
        Ok(_) if !events[1].revents().is_empty() => Err(()),
        Ok(_) => Ok(!events[0].revents().is_empty()),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(_) => Err(()),
    }
}

/// All that there are, and those that became due meanwhile are sent in between: a flood must not hold them up.
fn take_frames(device: &SyncDevice, line: &Mutex<Line>, buffer: &mut [u8]) {
    while let Ok(length) = device.recv(buffer) {
        let mut line = locked(line);
        line.take(Instant::now(), &buffer[..length]);
        send_due(device, &mut line);
    }
}

fn send_due(device: &SyncDevice, line: &mut Line) {
    while let Some(frame) = line.due(Instant::now()) {
        // A device whose network is being taken away has nobody to send to.
        let _ = device.send(&frame);
    }
}

#[derive(Clone, Copy, Debug)]
enum Way {
    Rough(Quality),
    Cut,
}

/// The frames that are under way, by the moment at which each arrives.
#[derive(Debug)]
struct Line {
    ways: BTreeMap<Direction, Way>,
    held: BTreeMap<Instant, VecDeque<(Direction, Vec<u8>)>>,
    held_bytes: usize,
    random: Random,
}

impl Line {
    fn new(random: Random) -> Self {
        Self { ways: BTreeMap::new(), held: BTreeMap::new(), held_bytes: 0, random }
    }

    /// A frame for somebody else is none of ours: a bridge shows to all what is for nobody.
    fn take(&mut self, now: Instant, frame: &[u8]) {
        let Some(direction) = direction_of(frame) else { return };
        let quality = match self.ways.get(&direction) {
            Some(Way::Rough(quality)) => *quality,
            Some(Way::Cut) => return,
            // It was on its way here when the direct way was restored.
            None => Quality::GOOD,
        };
        let is_lost = self.random.between(0, 1000) < u64::from(quality.loss_per_mille);
        if is_lost || self.held_bytes + frame.len() > MOST_HELD_BYTES {
            return;
        }
        let due = now + quality.delay + self.part_of(quality.jitter);
        self.held_bytes += frame.len();
        self.held.entry(due).or_default().push_back((direction, readdressed(frame, direction)));
    }

    fn part_of(&mut self, jitter: Duration) -> Duration {
        let nanos = u64::try_from(jitter.as_nanos()).unwrap_or(u64::MAX - 1);
        Duration::from_nanos(self.random.between(0, nanos + 1))
    }

    fn next_due(&self) -> Option<Instant> {
        self.held.first_key_value().map(|(due, _)| *due)
    }

    /// A frame whose time has come.
    fn due(&mut self, now: Instant) -> Option<Vec<u8>> {
        let mut first = self.held.first_entry().filter(|entry| *entry.key() <= now)?;
        let frame = first.get_mut().pop_front().map(|(_, frame)| frame);
        if first.get().is_empty() {
            first.remove();
        }
        self.held_bytes -= frame.as_ref().map_or(0, Vec::len);
        frame
    }

    fn cut(&mut self, direction: Direction) {
        self.ways.insert(direction, Way::Cut);
        for frames in self.held.values_mut() {
            frames.retain(|(theirs, _)| *theirs != direction);
        }
        self.held.retain(|_, frames| !frames.is_empty());
        self.held_bytes = self.held.values().flatten().map(|(_, frame)| frame.len()).sum();
    }
}

/// By whom it was sent, and to whom it is to go.
fn direction_of(frame: &[u8]) -> Option<Direction> {
    let [to, from] = [frame.get(..6)?, frame.get(6..ADDRESSES)?].map(|address| address.split_last());
    let ((to, to_prefix), (from, from_prefix)) = (to?, from?);
    let is_ours = to_prefix == &forwarding_address(0)[..5] && from_prefix == &hardware_address(0)[..5];
    is_ours.then_some((*from, *to))
}

/// The frame as it is sent on. Not under the sender's own address: the bridge would take him to be here.
fn readdressed(frame: &[u8], (from, to): Direction) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[..6].copy_from_slice(&hardware_address(to));
    frame[6..ADDRESSES].copy_from_slice(&forwarding_address(from));
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAY: Direction = (1, 2);

    fn frame(number: u8) -> Vec<u8> {
        [&forwarding_address(WAY.1)[..], &hardware_address(WAY.0), &[8, 0, number]].concat()
    }

    fn line(quality: Quality) -> Line {
        let mut line = Line::new(Random::new(7));
        line.ways.insert(WAY, Way::Rough(quality));
        line
    }

    #[test]
    fn frames_are_readdressed_and_keep_their_time_and_order() {
        let (mut line, now) = (line(Quality::late(Duration::from_millis(50))), Instant::now());
        line.take(now, &frame(1));
        line.take(now, &frame(2));
        assert_eq!(line.due(now + Duration::from_millis(49)), None);
        let sent = [&hardware_address(2)[..], &forwarding_address(1), &[8, 0, 1]].concat();
        let later = now + Duration::from_millis(50);
        assert_eq!(line.due(later), Some(sent));
        assert_eq!(line.due(later).and_then(|frame| frame.last().copied()), Some(2));
        assert_eq!((line.due(later), line.next_due(), line.held_bytes), (None, None, 0));
    }

    #[test]
    fn jitter_changes_the_order_and_stays_within_its_bound() {
        let (jitter, now) = (Duration::from_millis(10), Instant::now());
        let mut line = line(Quality { jitter, ..Quality::GOOD });
        (0..100).for_each(|number| line.take(now, &frame(number)));
        let order: Vec<u8> = std::iter::from_fn(|| line.due(now + jitter)).map(|frame| frame[14]).collect();
        assert_eq!(order.len(), 100);
        assert!(!order.is_sorted());
    }

    #[test]
    fn a_cut_takes_what_is_on_the_way_and_only_that() {
        let (mut line, now) = (line(Quality::late(Duration::from_secs(1))), Instant::now());
        line.take(now, &frame(1));
        line.cut(WAY);
        line.take(now, &frame(2));
        assert_eq!((line.next_due(), line.held_bytes), (None, 0));
        line.ways.remove(&WAY);
        line.take(now, &frame(3));
        assert!(line.due(now).is_some(), "restored");
    }

    #[test]
    fn what_is_for_others_and_what_is_no_frame_is_left_alone() {
        let (mut line, now) = (line(Quality::GOOD), Instant::now());
        line.take(now, &[&[0xff; 6][..], &hardware_address(1), &[8, 6]].concat());
        line.take(now, &frame(1)[..11]);
        line.take(now, &[]);
        assert_eq!(line.next_due(), None);
    }
}
