//! The blocking halves of a data stream. They share one TLS session, which is locked to encrypt and decrypt and never while a
//! socket is waited for, so that neither direction can hold up the other; and they need no runtime, so that blocks do not
//! compete with beats for its threads.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::SendFlags;
use rustls::Connection;

/// Read from the socket at once, at most.
const READ_BUFFER: usize = 256 << 10;
/// Collected before it is encrypted and sent; also how much is encrypted at once, which is how long the other half may wait.
const WRITE_BUFFER: usize = 256 << 10;

/// How long the end of a stream may take in the background, and how much of it is read at once.
const LINGER: Duration = Duration::from_secs(5);
const LINGER_BUFFER: usize = 64 << 10;

/// Cuts a connection from any thread.
pub type Cut = Arc<dyn Fn() + Send + Sync>;

type Session = Arc<Mutex<Connection>>;

/// A socket that is read on for a moment after both halves are gone: closing it with unread bytes would reset the connection, and
/// what was flushed and is still on its way would be lost with it.
struct Socket(TcpStream);

impl Drop for Socket {
    fn drop(&mut self) {
        let Ok(socket) = self.0.try_clone() else { return };
        // Without a thread it is closed now, which is no worse than a connection that breaks.
        let _ = thread::Builder::new().name("stream-end".into()).spawn(move || linger(socket));
    }
}

/// Reads until the other side has ended too, within a limit.
fn linger(mut socket: TcpStream) {
    let deadline = Instant::now() + LINGER;
    let mut discarded = vec![0; LINGER_BUFFER];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        // A limit of zero is an error to the socket, and the end here.
        if socket.set_read_timeout(Some(left)).is_err() || !matches!(socket.read(&mut discarded), Ok(1..)) {
            return;
        }
    }
}

/// The halves of a connection whose TLS handshake is done, over a blocking socket.
pub(crate) fn halves(socket: TcpStream, mut session: Connection) -> (ReadHalf, WriteHalf, Cut) {
    // What is encrypted is taken out at once; the limit would only cut writes short.
    session.set_buffer_limit(None);
    let (socket, session) = (Arc::new(Socket(socket)), Arc::new(Mutex::new(session)));
    let reader = ReadHalf {
        socket: Arc::clone(&socket),
        session: Arc::clone(&session),
        received: vec![0; READ_BUFFER],
        from: 0,
        to: 0,
    };
    let cut = cut(Arc::downgrade(&socket));
    let writer = WriteHalf { socket, session, plain: Vec::new(), sealed: Vec::new() };
    (reader, writer, cut)
}

/// Weak, so that whoever keeps it for later does not keep the connection open.
fn cut(socket: Weak<Socket>) -> Cut {
    Arc::new(move || {
        if let Some(socket) = socket.upgrade() {
            // An error says that it is not connected any more.
            let _ = socket.0.shutdown(Shutdown::Both);
        }
    })
}

fn lock(session: &Session) -> io::Result<MutexGuard<'_, Connection>> {
    session.lock().map_err(|_| io::Error::other("the other direction of this stream has panicked"))
}

/// Decrypts what arrives.
pub(crate) struct ReadHalf {
    socket: Arc<Socket>,
    session: Session,
    /// Read from the socket; between `from` and `to`, TLS has not taken it yet.
    received: Vec<u8>,
    from: usize,
    to: usize,
}

impl Read for ReadHalf {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        loop {
            if let Some(count) = self.decrypted(into)? {
                return Ok(count);
            }
            self.receive()?;
        }
    }
}

impl ReadHalf {
    /// Plain bytes out of what has been received; `None` if more has to come first.
    fn decrypted(&mut self, into: &mut [u8]) -> io::Result<Option<usize>> {
        let mut session = lock(&self.session)?;
        loop {
            match session.reader().read(into) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return done.map(Some),
            }
            let mut rest = self.received.get(self.from..self.to).unwrap_or_default();
            if rest.is_empty() {
                return Ok(None);
            }
            session.read_tls(&mut rest)?;
            self.from = self.to - rest.len();
            process(&mut session)?;
        }
    }

    /// Waits for the socket, and tells TLS if that has ended.
    fn receive(&mut self) -> io::Result<()> {
        (self.from, self.to) = (0, (&self.socket.0).read(&mut self.received)?);
        if self.to == 0 {
            let mut session = lock(&self.session)?;
            session.read_tls(&mut io::empty())?;
            process(&mut session)?;
        }
        Ok(())
    }
}

fn process(session: &mut Connection) -> io::Result<()> {
    session.process_new_packets().map(drop).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Collects, encrypts and sends.
pub(crate) struct WriteHalf {
    socket: Arc<Socket>,
    session: Session,
    /// Written and not sent.
    plain: Vec<u8>,
    /// Kept for its memory only; empty between two sends.
    sealed: Vec<u8>,
}

impl Write for WriteHalf {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.plain.len() >= WRITE_BUFFER {
            self.flush()?;
        }
        let taken = bytes.get(..WRITE_BUFFER - self.plain.len()).unwrap_or(bytes);
        if taken.len() == WRITE_BUFFER {
            self.send(taken)?;
        } else {
            self.plain.extend_from_slice(taken);
        }
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.plain.is_empty() {
            return Ok(());
        }
        let mut plain = std::mem::take(&mut self.plain);
        let sent = self.send(&plain);
        // After an error too: some of it may have gone, and it must not go twice.
        plain.clear();
        self.plain = plain;
        sent
    }
}

impl WriteHalf {
    fn send(&mut self, plain: &[u8]) -> io::Result<()> {
        self.sealed.clear();
        seal(&mut *lock(&self.session)?, plain, &mut self.sealed)?;
        (&self.socket.0).write_all(&self.sealed)
    }

    /// Says the end as TLS has it, if that goes without waiting.
    fn say_end(&self) -> io::Result<()> {
        let mut session = lock(&self.session)?;
        session.send_close_notify();
        let mut sealed = Vec::new();
        seal(&mut session, &[], &mut sealed)?;
        rustix::net::send(&self.socket.0, &sealed, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?;
        Ok(())
    }
}

fn seal(session: &mut Connection, plain: &[u8], sealed: &mut Vec<u8>) -> io::Result<()> {
    session.writer().write_all(plain)?;
    while session.wants_write() {
        session.write_tls(sealed)?;
    }
    Ok(())
}

impl Drop for WriteHalf {
    fn drop(&mut self) {
        // Without the end of TLS the other side takes the end of the socket for what it is then: a stream cut off.
        if self.plain.is_empty() {
            let _ = self.say_end();
        }
        let _ = self.socket.0.shutdown(Shutdown::Write);
    }
}
