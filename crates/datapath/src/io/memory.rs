//! A device in memory that fails on command, for tests and the simulator.
//!
//! It keeps two layers, like a disk behind a volatile cache: what was written is readable at once, and survives
//! [`power_loss`](MemoryDevice::power_loss) only after a good flush. A *failed* flush does what Linux does: the dirty pages
//! become clean without having been written, so a read still shows them and the next flush succeeds.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{BlockDevice, Extent, ExtentKind, check_range};

const PAGE: u64 = 4096;
const PAGE_LEN: usize = 4096;

type Page = Box<[u8]>;

/// What an operation does instead of succeeding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// It fails with `EIO`.
    Error,
    /// It succeeds, and the first byte it moves is flipped.
    Corrupt,
    /// It succeeds after this time.
    Delay(Duration),
}

/// The operations that can be made to fail.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum FaultyOperation {
    Read,
    Write,
    Zero,
    Flush,
}

/// A sparse device of fixed size.
#[derive(Debug)]
pub struct MemoryDevice {
    size_bytes: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default, Clone)]
struct State {
    /// What a power loss leaves.
    durable: BTreeMap<u64, Page>,
    /// What a read sees.
    visible: BTreeMap<u64, Page>,
    /// Pages that the next good flush makes durable.
    dirty: BTreeSet<u64>,
    /// How often each operation was called.
    calls: BTreeMap<FaultyOperation, u64>,
    faults: BTreeMap<(FaultyOperation, u64), Fault>,
    every: BTreeMap<FaultyOperation, Fault>,
}

impl MemoryDevice {
    /// A device of zeros.
    #[must_use]
    pub fn new(size_bytes: u64) -> Self {
        Self { size_bytes, state: Mutex::default() }
    }

    /// A device that durably holds these bytes; pages of zeros are holes.
    #[must_use]
    pub fn with_bytes(bytes: &[u8]) -> Self {
        let device = Self::new(bytes.len() as u64);
        let mut state = device.lock();
        for (index, page) in (0..).zip(bytes.chunks(PAGE_LEN)) {
            if !crate::digest::is_zero(page) {
                state.put(index, 0, page);
            }
        }
        state.sync();
        drop(state);
        device
    }

    /// An independent device with the same visible bytes, all durable, and no faults: a snapshot.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        let visible = self.lock().visible.clone();
        let state = State { durable: visible.clone(), visible, ..State::default() };
        Self { size_bytes: self.size_bytes, state: Mutex::new(state) }
    }

    /// Makes the `nth` call (from 1, counted since the device was made) of an operation misbehave.
    pub fn fail_nth(&self, operation: FaultyOperation, nth: u64, fault: Fault) {
        self.lock().faults.insert((operation, nth), fault);
    }

    /// Makes every call of an operation misbehave, until [`heal`](Self::heal).
    pub fn fail_every(&self, operation: FaultyOperation, fault: Fault) {
        self.lock().every.insert(operation, fault);
    }

    /// Ends all faults.
    pub fn heal(&self) {
        let mut state = self.lock();
        state.faults.clear();
        state.every.clear();
    }

    /// How often an operation was called.
    #[must_use]
    pub fn calls(&self, operation: FaultyOperation) -> u64 {
        self.lock().calls.get(&operation).copied().unwrap_or(0)
    }

    /// Forgets what was not flushed.
    pub fn power_loss(&self) {
        let mut state = self.lock();
        state.visible = state.durable.clone();
        state.dirty.clear();
    }

    /// The bytes that a power loss would leave, from `[0, length)`.
    ///
    /// # Panics
    /// If `length` does not fit into memory.
    #[must_use]
    pub fn durable_bytes(&self, length: u64) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(length).expect("a test device fits into memory")];
        copy_out(&self.lock().durable, 0, &mut bytes);
        bytes
    }

    /// Counts a call and finds its fault; the delay is slept here, outside the lock.
    fn begin(&self, operation: FaultyOperation) -> io::Result<Option<Fault>> {
        let fault = self.lock().count(operation);
        match fault {
            Some(Fault::Error) => Err(io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error())),
            Some(Fault::Delay(delay)) => {
                std::thread::sleep(delay);
                Ok(None)
            }
            other => Ok(other),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn count(&mut self, operation: FaultyOperation) -> Option<Fault> {
        let calls = self.calls.entry(operation).or_default();
        *calls += 1;
        self.faults.remove(&(operation, *calls)).or_else(|| self.every.get(&operation).copied())
    }

    fn put(&mut self, index: u64, within: usize, bytes: &[u8]) {
        let page = self.visible.entry(index).or_insert_with(|| vec![0; PAGE_LEN].into_boxed_slice());
        page[within..within + bytes.len()].copy_from_slice(bytes);
        self.dirty.insert(index);
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) {
        for (index, within, piece) in page_pieces(offset, bytes.len() as u64) {
            let start = usize::try_from(index * PAGE + within as u64 - offset).unwrap_or(0);
            self.put(index, within, &bytes[start..start + piece]);
        }
    }

    fn zero(&mut self, offset: u64, length: u64) {
        let whole = offset.div_ceil(PAGE)..(offset + length) / PAGE;
        for index in self.pages_in(whole.clone()) {
            self.visible.remove(&index);
            self.dirty.insert(index);
        }
        let (head_end, tail_start) =
            (offset.next_multiple_of(PAGE).min(offset + length), whole.end.max(whole.start) * PAGE);
        self.zero_part(offset, head_end);
        self.zero_part(tail_start.max(head_end), offset + length);
    }

    /// The pages that exist in either layer: zeroing what already reads as zeros still has to reach the disk.
    fn pages_in(&self, range: std::ops::Range<u64>) -> BTreeSet<u64> {
        if range.is_empty() {
            return BTreeSet::new();
        }
        let layers = [&self.visible, &self.durable];
        layers.into_iter().flat_map(|layer| layer.range(range.clone()).map(|(index, _)| *index)).collect()
    }

    /// Zeros less than a page where the page exists.
    fn zero_part(&mut self, from: u64, to: u64) {
        let length = usize::try_from(to.saturating_sub(from)).unwrap_or(0);
        let page = from / PAGE;
        if length > 0 && (self.visible.contains_key(&page) || self.durable.contains_key(&page)) {
            self.write(from, &vec![0; length]);
        }
    }

    fn sync(&mut self) {
        for index in std::mem::take(&mut self.dirty) {
            match self.visible.get(&index) {
                Some(page) => self.durable.insert(index, page.clone()),
                None => self.durable.remove(&index),
            };
        }
    }
}

/// The page number, place in the page and length of each piece of a range.
fn page_pieces(offset: u64, length: u64) -> impl Iterator<Item = (u64, usize, usize)> {
    let (mut at, end) = (offset, offset + length);
    std::iter::from_fn(move || {
        let within = at % PAGE;
        let piece = (PAGE - within).min(end - at);
        let result = (at / PAGE, usize::try_from(within).unwrap_or(0), usize::try_from(piece).unwrap_or(0));
        at += piece;
        (piece > 0).then_some(result)
    })
}

fn copy_out(pages: &BTreeMap<u64, Page>, offset: u64, buffer: &mut [u8]) {
    let mut done = 0;
    for (index, within, piece) in page_pieces(offset, buffer.len() as u64) {
        let to = &mut buffer[done..done + piece];
        match pages.get(&index) {
            Some(page) => to.copy_from_slice(&page[within..within + piece]),
            None => to.fill(0),
        }
        done += piece;
    }
}

impl BlockDevice for MemoryDevice {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn is_direct(&self) -> bool {
        true
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        check_range(self.size_bytes, offset, buffer.len() as u64)?;
        let fault = self.begin(FaultyOperation::Read)?;
        copy_out(&self.lock().visible, offset, buffer);
        if let (Some(Fault::Corrupt), Some(byte)) = (fault, buffer.first_mut()) {
            *byte ^= 1;
        }
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        check_range(self.size_bytes, offset, bytes.len() as u64)?;
        let fault = self.begin(FaultyOperation::Write)?;
        let mut state = self.lock();
        state.write(offset, bytes);
        if let (Some(Fault::Corrupt), Some(byte)) = (fault, bytes.first()) {
            state.write(offset, &[byte ^ 1]);
        }
        Ok(())
    }

    fn zero_range(&self, offset: u64, length: u64) -> io::Result<()> {
        check_range(self.size_bytes, offset, length)?;
        let fault = self.begin(FaultyOperation::Zero)?;
        let mut state = self.lock();
        state.zero(offset, length);
        if fault == Some(Fault::Corrupt) {
            state.write(offset, &[1]);
        }
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        let outcome = self.begin(FaultyOperation::Flush);
        let mut state = self.lock();
        match outcome {
            Ok(_) => state.sync(),
            Err(_) => state.dirty.clear(),
        }
        outcome.map(|_| ())
    }

    fn extent_at(&self, offset: u64) -> io::Result<Extent> {
        check_range(self.size_bytes, offset, 0)?;
        let state = self.lock();
        let mut pages = state.visible.range(offset / PAGE..).map(|(index, _)| *index);
        let clamp = |kind, page: u64| Extent { kind, end: page.saturating_mul(PAGE).min(self.size_bytes) };
        match pages.next() {
            None => Ok(clamp(ExtentKind::Hole, u64::MAX)),
            Some(first) if first > offset / PAGE => Ok(clamp(ExtentKind::Hole, first)),
            Some(first) => {
                let last = pages.zip(first + 1..).take_while(|(page, next)| page == next).count() as u64;
                Ok(clamp(ExtentKind::Data, first + last + 1))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_flush_leaves_clean_pages_that_are_not_on_disk() {
        let device = MemoryDevice::new(10_000);
        device.write_at(5_000, b"lost").unwrap();
        device.fail_nth(FaultyOperation::Flush, 1, Fault::Error);
        assert!(device.flush().is_err());
        device.flush().unwrap();
        let mut seen = [0; 4];
        device.read_at(5_000, &mut seen).unwrap();
        assert_eq!(&seen, b"lost");
        device.power_loss();
        device.read_at(5_000, &mut seen).unwrap();
        assert_eq!(seen, [0; 4]);
    }

    #[test]
    fn zeroing_any_range_zeros_exactly_that_range() {
        for (offset, length) in
            [(0, 20_000), (1, 4_095), (1, 10), (4_096, 4_096), (4_000, 9_000), (8_192, 1), (19_999, 1)]
        {
            let device = MemoryDevice::with_bytes(&[7; 20_000]);
            device.zero_range(offset, length).unwrap();
            let mut seen = vec![0; 20_000];
            device.read_at(0, &mut seen).unwrap();
            let zeroed = offset..offset + length;
            assert!((0..).zip(&seen).all(|(i, byte)| (*byte == 0) == zeroed.contains(&i)), "{offset}+{length}");
        }
    }

    #[test]
    fn extents_follow_what_is_allocated() {
        let device = MemoryDevice::new(100_000);
        device.write_at(8_192, &[1; 5_000]).unwrap();
        assert_eq!(device.extent_at(0).unwrap(), Extent { kind: ExtentKind::Hole, end: 8_192 });
        assert_eq!(device.extent_at(9_000).unwrap(), Extent { kind: ExtentKind::Data, end: 16_384 });
        assert_eq!(device.extent_at(16_384).unwrap(), Extent { kind: ExtentKind::Hole, end: 100_000 });
    }
}
