//! Direct I/O with several requests in flight, by io_uring(7), where the kernel lets us.
//!
//! Every byte goes through the one description of the device that holds its lock: the kernel frees that lock only when the last request on
//! it is over, also after a kill, and the proof of quiet rests on that. What direct I/O cannot move (the odd tail of a file) is done by
//! the device itself, alone.

mod ring;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::OnceLock;

use self::ring::{Outcome, Ring};
use super::BlockDevice;
use super::queue::{Completion, DEPTH, IoQueue, OneAtATime, Request, perform};

/// A device on an open description that may be exchanged, or change its flags, while nothing is in flight.
pub trait DirectFile: BlockDevice {
    /// The description, which stays as it is for as long as this is held.
    type Held<'a>: AsFd
    where
        Self: 'a;

    fn hold(&self) -> Self::Held<'_>;

    /// Whether the whole of it can be moved around the page cache.
    fn moves_directly(&self, offset: u64, bytes: &[u8]) -> bool;
}

/// How this process does direct I/O.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Engine {
    /// io_uring, several requests at a time.
    Uring,
    /// Blocking calls, one at a time; and why.
    Blocking { reason: String },
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uring => f.write_str("io_uring"),
            Self::Blocking { reason } => write!(f, "blocking calls: {reason}"),
        }
    }
}

/// What the kernel lets this process do; asked once.
pub fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| match Ring::new(DEPTH as u32) {
        Ok(_) => Engine::Uring,
        Err(error) => Engine::Blocking { reason: format!("io_uring is refused: {error}") },
    })
}

/// A queue on the device: a ring, or one request at a time where there is none to be had.
pub fn queue_on<D: DirectFile>(device: &D) -> Box<dyn IoQueue + '_> {
    let ring = match engine() {
        Engine::Uring if device.is_direct() => Ring::new(DEPTH as u32).ok(),
        _ => None,
    };
    match ring {
        Some(ring) => Box::new(UringQueue { device, held: None, ring, over: VecDeque::new() }),
        None => Box::new(OneAtATime::new(device)),
    }
}

struct UringQueue<'a, D: DirectFile> {
    device: &'a D,
    /// While anything is in flight.
    held: Option<D::Held<'a>>,
    ring: Ring,
    over: VecDeque<Completion>,
}

impl<D: DirectFile> IoQueue for UringQueue<'_, D> {
    fn depth(&self) -> usize {
        DEPTH
    }

    fn in_flight(&self) -> usize {
        self.ring.in_flight() + self.over.len()
    }

    fn begin(&mut self, request: Request) -> io::Result<()> {
        let directly = |piece: Range<usize>| {
            let at = request.offset + piece.start as u64;
            self.device.moves_directly(at, request.bytes().get(piece).unwrap_or_default())
        };
        if !request.pieces().all(directly) {
            return self.do_alone(request);
        }
        let held = self.held.get_or_insert_with(|| self.device.hold());
        self.ring.begin(held.as_fd(), request)
    }

    fn next(&mut self) -> io::Result<Option<Completion>> {
        if self.over.is_empty() {
            let Some((request, outcome)) = self.ring.take()? else { return Ok(None) };
            if self.ring.in_flight() == 0 {
                self.held = None;
            }
            match outcome {
                Outcome::Over(result) => self.over.push_back(Completion { request, result }),
                Outcome::Short => self.do_alone(request)?,
            }
        }
        Ok(self.over.pop_front())
    }
}

impl<D: DirectFile> UringQueue<'_, D> {
    /// Waits for all that is in flight first: the device may have to change its description for it.
    fn do_alone(&mut self, request: Request) -> io::Result<()> {
        let mut again = self.drain()?;
        again.push(request);
        self.over.extend(again.into_iter().map(|request| perform(self.device, request)));
        Ok(())
    }

    /// Waits for all that is in flight; what has to be done again.
    fn drain(&mut self) -> io::Result<Vec<Request>> {
        let mut again = Vec::new();
        while let Some((request, outcome)) = self.ring.take()? {
            match outcome {
                Outcome::Over(result) => self.over.push_back(Completion { request, result }),
                Outcome::Short => again.push(request),
            }
        }
        self.held = None;
        Ok(again)
    }
}
