//! The one place with unsafe code: requests to the kernel that outlive the call which begins them.
//!
//! What makes it sound: a request owns its buffer, in a slot that is emptied only when the kernel has said that the request is over; the
//! buffer's memory is on the heap and does not move with its owner; the ring is let go only after the last request, or, if the kernel
//! does not answer for one, the request's buffer is never freed. The kernel keeps the file of a request until that is over.
#![allow(unsafe_code)]

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use io_uring::{IoUring, opcode, types};

use crate::io::queue::{Direction, Request};

/// A ring with room for a few requests.
pub(super) struct Ring {
    ring: IoUring,
    slots: Vec<Option<Request>>,
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring").field("in_flight", &self.in_flight()).finish_non_exhaustive()
    }
}

impl Ring {
    /// # Errors
    /// The kernel refuses rings: it has none, its configuration forbids them (`kernel.io_uring_disabled`), or a container does.
    pub(super) fn new(depth: u32) -> io::Result<Self> {
        let slots = std::iter::repeat_with(|| None).take(depth as usize).collect();
        Ok(Self { ring: IoUring::new(depth)?, slots })
    }

    pub(super) fn in_flight(&self) -> usize {
        self.slots.iter().flatten().count()
    }

    /// Hands a request to the kernel, if there is a slot for it.
    ///
    /// # Errors
    /// The kernel's. The request stays in its slot then, since whether the kernel has taken it is not known: the ring is of no use any more.
    pub(super) fn begin(&mut self, file: BorrowedFd<'_>, request: Request) -> io::Result<()> {
        let free = self.slots.iter_mut().enumerate().find(|(_, slot)| slot.is_none());
        let (number, slot) = free.ok_or(io::ErrorKind::QuotaExceeded)?;
        let request = slot.insert(request);
        let length = u32::try_from(request.length.min(request.buffer.len())).unwrap_or(u32::MAX);
        let (file, memory) = (types::Fd(file.as_raw_fd()), request.buffer.as_mut_ptr());
        let entry = match request.direction {
            Direction::Read => opcode::Read::new(file, memory, length).offset(request.offset).build(),
            Direction::Write => opcode::Write::new(file, memory, length).offset(request.offset).build(),
        };
        let entry = entry.user_data(number as u64);
        // SAFETY: `memory` is valid for `length` bytes and stays where it is: it belongs to the slot, which only `take` empties, after the
        // kernel's completion. The file is open during this call, in which the kernel takes the entry and its own hold on the file.
        if unsafe { self.ring.submission().push(&entry) }.is_err() {
            // The kernel never saw it: nothing is waited for.
            self.slots[number] = None;
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        while !self.ring.submission().is_empty() {
            passing(self.ring.submit())?;
        }
        Ok(())
    }

    /// Waits until a request is over: how many bytes were moved. `None` if none is in flight.
    ///
    /// # Errors
    /// The kernel does not answer; of what is in flight nothing is known any more.
    pub(super) fn take(&mut self) -> io::Result<Option<(Request, io::Result<usize>)>> {
        while self.in_flight() > 0 {
            let completion = self.ring.completion().next();
            let Some(completion) = completion else {
                passing(self.ring.submit_and_wait(1))?;
                continue;
            };
            let slot = usize::try_from(completion.user_data()).ok().and_then(|number| self.slots.get_mut(number));
            if let Some(request) = slot.and_then(Option::take) {
                let moved = usize::try_from(completion.result());
                return Ok(Some((request, moved.map_err(|_| io::Error::from_raw_os_error(-completion.result())))));
            }
        }
        Ok(None)
    }
}

/// A signal, or a kernel that is out of memory for the moment, is no answer.
fn passing(entered: io::Result<usize>) -> io::Result<()> {
    match entered {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock | io::ErrorKind::ResourceBusy
            ) =>
        {
            Ok(())
        }
        result => result.map(|_| ()),
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        while let Ok(Some(_)) = self.take() {}
        // Left over only by a kernel that does not answer: what it may still write to is never used for anything else.
        self.slots.drain(..).flatten().for_each(std::mem::forget);
    }
}
