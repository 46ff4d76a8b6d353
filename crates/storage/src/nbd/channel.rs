//! A byte stream to a server in both directions at once, plain or in TLS.
//!
//! Two threads share a connection: one sends, one receives. Of TLS they share the state under a lock that nobody holds while it waits
//! for the socket: were it held by a sender whose server reads nothing before its answer is taken, nobody would take it.

use std::io::{self, Read, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustls::ClientConnection;

use super::place::Socket;

/// What is read from the socket at once, bytes.
const READ_LEN: usize = 64 << 10;
/// What is encrypted at once, bytes: bounds what is held twice.
const SEND_LEN: usize = 256 << 10;

type Session = Arc<Mutex<ClientConnection>>;

fn locked(session: &Session) -> MutexGuard<'_, ClientConnection> {
    session.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The half that sends.
#[derive(Debug)]
pub(super) struct Sender {
    socket: Socket,
    session: Option<Session>,
}

/// The half that receives.
#[derive(Debug)]
pub(super) struct Receiver {
    socket: Socket,
    session: Option<Session>,
    buffer: Box<[u8]>,
    /// What of the buffer was received and not read yet.
    left: std::ops::Range<usize>,
    /// Until when a read may wait; as long as it takes if there is none.
    deadline: Option<Instant>,
}

/// Both halves, as long as one thread has them.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) sender: Sender,
    pub(super) receiver: Receiver,
}

impl Channel {
    /// Everything on it until [`Self::open_ended`] has to be over by the deadline.
    pub(super) fn new(socket: Socket, deadline: Instant) -> io::Result<Self> {
        let receiver = Receiver {
            socket: socket.again()?,
            session: None,
            buffer: vec![0; READ_LEN].into_boxed_slice(),
            left: 0..0,
            deadline: Some(deadline),
        };
        Ok(Self { sender: Sender { socket, session: None }, receiver })
    }

    fn deadline(&self) -> Instant {
        self.receiver.deadline.unwrap_or_else(Instant::now)
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sender.send(bytes, self.deadline())
    }

    /// Goes over to TLS. What the server sent before it, unasked, is no part of it and ends it.
    pub(super) fn start_tls(&mut self, mut session: ClientConnection) -> io::Result<()> {
        if !self.receiver.left.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the server went on in the clear"));
        }
        let deadline = self.deadline();
        session.set_buffer_limit(None);
        while session.is_handshaking() {
            self.sender.socket.write_by(&pending(&mut session)?, deadline)?;
            if session.is_handshaking() {
                self.receiver.refill()?;
                if self.receiver.left.is_empty() {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                self.receiver.feed(&mut session)?;
            }
        }
        let session = Arc::new(Mutex::new(session));
        self.sender.session = Some(Arc::clone(&session));
        self.receiver.session = Some(session);
        self.sender.send(&[], deadline)
    }

    /// From now on reads wait as long as it takes: who waits for an answer has a limit of his own.
    pub(super) fn open_ended(mut self) -> io::Result<(Sender, Receiver)> {
        self.receiver.deadline = None;
        self.receiver.socket.limit_reads(None)?;
        Ok((self.sender, self.receiver))
    }
}

/// What TLS wants sent.
fn pending(session: &mut ClientConnection) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while session.wants_write() {
        session.write_tls(&mut bytes)?;
    }
    Ok(bytes)
}

impl Sender {
    /// All of it, until the deadline. After an error the other side may have got any part of it.
    pub(super) fn send(&mut self, bytes: &[u8], deadline: Instant) -> io::Result<()> {
        let Some(session) = &self.session else { return self.socket.write_by(bytes, deadline) };
        let mut left = bytes;
        loop {
            let (now, rest) = left.split_at(left.len().min(SEND_LEN));
            let sealed = {
                let mut session = locked(session);
                session.writer().write_all(now)?;
                pending(&mut session)?
            };
            self.socket.write_by(&sealed, deadline)?;
            left = rest;
            if left.is_empty() {
                return Ok(());
            }
        }
    }

    /// Another handle on the socket, to end it from elsewhere.
    pub(super) fn socket(&self) -> io::Result<Socket> {
        self.socket.again()
    }

    /// Says in TLS that nothing follows.
    pub(super) fn close(&mut self, deadline: Instant) {
        if let Some(session) = &self.session {
            locked(session).send_close_notify();
            // Who does not take the goodbye goes without it.
            let _ = self.send(&[], deadline);
        }
    }
}

impl Receiver {
    /// Something new from the socket, into the buffer.
    fn receive(&mut self) -> io::Result<usize> {
        loop {
            if let Some(deadline) = self.deadline {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                self.socket.limit_reads(Some(left.max(Duration::from_millis(1))))?;
            }
            match (&self.socket).read(&mut self.buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(io::ErrorKind::TimedOut.into()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                received => return received,
            }
        }
    }

    /// Something to read in the buffer; nothing only at the end of the stream.
    fn refill(&mut self) -> io::Result<()> {
        if self.left.is_empty() {
            self.left = 0..self.receive()?;
        }
        Ok(())
    }

    /// Gives TLS some of what is in the buffer. It takes no more than it can hold until that is read from it.
    fn feed(&mut self, session: &mut ClientConnection) -> io::Result<()> {
        let mut here = self.buffer.get(self.left.clone()).unwrap_or_default();
        self.left.start += session.read_tls(&mut here)?;
        session.process_new_packets().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        Ok(())
    }

    fn read_sealed(&mut self, session: &Session, out: &mut [u8]) -> io::Result<usize> {
        loop {
            match locked(session).reader().read(out) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
            self.refill()?;
            self.feed(&mut locked(session))?;
        }
    }

    fn read_plain(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.left.is_empty() {
            if out.len() >= self.buffer.len() && self.deadline.is_none() {
                // What fills the reader's buffer needs no other.
                return (&self.socket).read(out);
            }
            self.refill()?;
        }
        let here = self.buffer.get(self.left.clone()).unwrap_or_default();
        let taken = here.len().min(out.len());
        out.split_at_mut(taken).0.copy_from_slice(here.split_at(taken).0);
        self.left.start += taken;
        Ok(taken)
    }
}

impl Read for Receiver {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self.session.clone() {
            Some(session) => self.read_sealed(&session, out),
            None => self.read_plain(out),
        }
    }
}
