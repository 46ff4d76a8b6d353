//! Aligned buffers, and a bounded pool of them: the pool is what bounds the memory of a transfer.
//!
//! O_DIRECT wants memory aligned to the device's sector. A buffer owns a little more than it needs and shows the aligned part,
//! which takes no unsafe code.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Alignment of buffers in memory, and of direct I/O on devices, in bytes. No sector in use is larger.
pub const ALIGNMENT: usize = 4096;

/// Memory that starts at a multiple of [`ALIGNMENT`].
pub struct AlignedBuffer {
    bytes: Vec<u8>,
    start: usize,
    length: usize,
}

impl AlignedBuffer {
    /// A zeroed buffer of `length` bytes.
    #[must_use]
    pub fn new(length: usize) -> Self {
        let bytes = vec![0; length + ALIGNMENT];
        let start = bytes.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        Self { bytes, start, length }
    }
}

impl Deref for AlignedBuffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.length]
    }
}

impl DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.length]
    }
}

impl fmt::Debug for AlignedBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AlignedBuffer({} bytes)", self.length)
    }
}

/// At most `limit` buffers of one length, made when first needed.
#[derive(Debug)]
pub struct Pool {
    length: usize,
    limit: usize,
    state: Mutex<PoolState>,
    returned: Condvar,
}

#[derive(Debug, Default)]
struct PoolState {
    free: Vec<AlignedBuffer>,
    made: usize,
    closed: bool,
}

impl Pool {
    #[must_use]
    pub fn new(limit: usize, length: usize) -> Arc<Self> {
        Arc::new(Self { length, limit, state: Mutex::default(), returned: Condvar::new() })
    }

    /// A buffer, waiting until one is free; `None` once the pool is closed.
    #[must_use]
    pub fn take(self: &Arc<Self>) -> Option<PooledBuffer> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            if let Some(buffer) = state.free.pop() {
                return Some(self.lend(buffer));
            }
            if state.made < self.limit {
                state.made += 1;
                return Some(self.lend(AlignedBuffer::new(self.length)));
            }
            state = self.returned.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// A buffer, if one is free now.
    #[must_use]
    pub fn try_take(self: &Arc<Self>) -> Option<PooledBuffer> {
        let mut state = self.lock();
        let buffer = if state.closed { None } else { state.free.pop() };
        match buffer {
            Some(buffer) => Some(self.lend(buffer)),
            None if state.closed || state.made >= self.limit => None,
            None => {
                state.made += 1;
                Some(self.lend(AlignedBuffer::new(self.length)))
            }
        }
    }

    /// Wakes all who wait for a buffer; none is given any more, and none is kept.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.free = Vec::new();
        drop(state);
        self.returned.notify_all();
    }

    /// How many buffers were ever made: the pool's memory is this times their length.
    #[must_use]
    pub fn made(&self) -> usize {
        self.lock().made
    }

    fn lend(self: &Arc<Self>, buffer: AlignedBuffer) -> PooledBuffer {
        PooledBuffer { buffer: Some(buffer), pool: Arc::clone(self) }
    }

    fn give_back(&self, buffer: AlignedBuffer) {
        let mut state = self.lock();
        if !state.closed {
            state.free.push(buffer);
            drop(state);
            self.returned.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, PoolState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A buffer on loan; dropping it gives it back.
#[derive(Debug)]
pub struct PooledBuffer {
    buffer: Option<AlignedBuffer>,
    pool: Arc<Pool>,
}

impl Deref for PooledBuffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.buffer.as_deref().unwrap_or_default()
    }
}

impl DerefMut for PooledBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.buffer.as_deref_mut().unwrap_or_default()
    }
}

impl Drop for PooledBuffer {
    fn drop(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            self.pool.give_back(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_and_bounded() {
        let pool = Pool::new(2, 1000);
        let (first, second) = (pool.take().unwrap(), pool.take().unwrap());
        assert!([&first, &second].iter().all(|buffer| buffer.as_ptr().align_offset(ALIGNMENT) == 0));
        let waiter = std::thread::spawn({
            let pool = Arc::clone(&pool);
            move || pool.take().is_some()
        });
        drop(first);
        assert!(waiter.join().unwrap());
        drop(second);
        assert_eq!(pool.made(), 2);
    }

    #[test]
    fn a_closed_pool_wakes_its_waiters() {
        let pool = Pool::new(1, 16);
        let held = pool.take();
        let waiter = std::thread::spawn({
            let pool = Arc::clone(&pool);
            move || pool.take().is_none()
        });
        pool.close();
        assert!(waiter.join().unwrap());
        drop(held);
    }
}
