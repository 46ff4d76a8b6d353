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
use crate::pages::PAGES;

/// The most stretches that the pages of a block make: every other one.
const MOST_PIECES: u32 = (PAGES / 2) as u32;

/// A ring with room for a few requests.
pub(super) struct Ring {
    ring: IoUring,
    slots: Vec<Option<Slot>>,
}

/// A request and what is known of its pieces.
struct Slot {
    request: Request,
    /// With the kernel.
    pieces: usize,
    outcome: Outcome,
}

/// What became of a request.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Every piece is moved, or the first error of one.
    Over(io::Result<()>),
    /// A piece ended early, as it may at the end of a file or by a signal: the device knows how to go on after a short transfer.
    Short,
}

impl Outcome {
    /// With one more piece of `length` bytes, of which so many were moved.
    fn and(self, moved: io::Result<usize>, length: usize) -> Self {
        match (self, moved) {
            (Self::Over(Err(first)), _) => Self::Over(Err(first)),
            (_, Err(error)) if !matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {
                Self::Over(Err(error))
            }
            (Self::Over(Ok(())), Ok(moved)) if moved == length => Self::Over(Ok(())),
            _ => Self::Short,
        }
    }
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
        Ok(Self { ring: IoUring::new(depth * MOST_PIECES)?, slots })
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
        let (direction, offset) = (request.direction, request.offset);
        let pieces = request.pieces();
        let slot = slot.insert(Slot { request, pieces: 0, outcome: Outcome::Over(Ok(())) });
        for piece in pieces {
            let (file, at, length) = (types::Fd(file.as_raw_fd()), offset + piece.start as u64, piece.len() as u32);
            let memory = slot.request.buffer[piece].as_mut_ptr();
            let entry = match direction {
                Direction::Read => opcode::Read::new(file, memory, length).offset(at).build(),
                Direction::Write => opcode::Write::new(file, memory, length).offset(at).build(),
            };
            let entry = entry.user_data(u64::from(length) << 32 | number as u64);
            // SAFETY: `memory` is valid for `length` bytes, no other piece has any of them, and it stays where it is: it belongs to the slot,
            // which only `take` empties, after the kernel's completions of all its pieces. The file is open during this call, in which the
            // kernel takes the entry and its own hold on the file.
            unsafe { self.ring.submission().push(&entry) }.map_err(|_| io::ErrorKind::QuotaExceeded)?;
            slot.pieces += 1;
        }
        while !self.ring.submission().is_empty() {
            passing(self.ring.submit())?;
        }
        Ok(())
    }

    /// Waits until a request is over. `None` if none is in flight.
    ///
    /// # Errors
    /// The kernel does not answer; of what is in flight nothing is known any more.
    pub(super) fn take(&mut self) -> io::Result<Option<(Request, Outcome)>> {
        while self.in_flight() > 0 {
            if let Some(over) = self.slots.iter_mut().find(|slot| slot.as_ref().is_some_and(|slot| slot.pieces == 0)) {
                return Ok(over.take().map(|slot| (slot.request, slot.outcome)));
            }
            let completion = self.ring.completion().next();
            let Some(completion) = completion else {
                passing(self.ring.submit_and_wait(1))?;
                continue;
            };
            let (number, length) = (completion.user_data() as u32 as usize, (completion.user_data() >> 32) as usize);
            if let Some(slot) = self.slots.get_mut(number).and_then(Option::as_mut) {
                let moved = usize::try_from(completion.result());
                let moved = moved.map_err(|_| io::Error::from_raw_os_error(-completion.result()));
                let so_far = std::mem::replace(&mut slot.outcome, Outcome::Short);
                (slot.outcome, slot.pieces) = (so_far.and(moved, length), slot.pieces.saturating_sub(1));
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
