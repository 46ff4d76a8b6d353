//! Where a server of NBD listens, and how it is reached.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The port that is registered for NBD.
const PORT: u16 = 10809;

/// Where a server listens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NbdPlace {
    Tcp {
        host: String,
        port: u16,
    },
    /// A socket in the file system of this host.
    Unix(PathBuf),
}

/// An address that cannot be one.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PlaceError {
    #[error("\"{0}\" is no address of a server: HOST, HOST:PORT, or [ADDRESS]:PORT for IPv6")]
    Address(String),
    #[error("the socket \"{path}\" has to be an absolute path of at most 107 bytes", path = .0.display())]
    Socket(PathBuf),
}

impl NbdPlace {
    /// `HOST`, `HOST:PORT` or `[ADDRESS]:PORT`; without a port it is 10809.
    ///
    /// # Errors
    /// [`PlaceError::Address`].
    pub fn tcp(address: &str) -> Result<Self, PlaceError> {
        let wrong = || PlaceError::Address(address.chars().take(100).collect());
        let (host, port) = match address.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
                (host, port.parse().map_err(|_| wrong())?)
            }
            _ => (address, PORT),
        };
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let sound = |b: u8| b.is_ascii_alphanumeric() || b"-._:%".contains(&b);
        let bracketed = bare.len() < host.len();
        if bare.is_empty() || !bare.bytes().all(sound) || port == 0 || bare.contains(':') && !bracketed {
            return Err(wrong());
        }
        Ok(Self::Tcp { host: bare.to_owned(), port })
    }

    /// A path that fits into the address of a socket (`unix(7)`).
    ///
    /// # Errors
    /// [`PlaceError::Socket`].
    pub fn unix(path: &Path) -> Result<Self, PlaceError> {
        let fits = path.is_absolute() && (2..=107).contains(&path.as_os_str().len());
        if fits { Ok(Self::Unix(path.to_owned())) } else { Err(PlaceError::Socket(path.to_owned())) }
    }

    /// The name that a certificate has to bear, if nothing else is said.
    pub(super) fn host(&self) -> Option<&str> {
        match self {
            Self::Tcp { host, .. } => Some(host),
            Self::Unix(_) => None,
        }
    }

    /// Tries every address that the host has, within the limit together.
    pub(super) fn connect(&self, limit: Duration) -> io::Result<Socket> {
        match self {
            Self::Unix(path) => connect_unix(path, limit),
            Self::Tcp { host, port } => {
                let deadline = Instant::now() + limit;
                let mut last = io::ErrorKind::AddrNotAvailable.into();
                for address in (host.as_str(), *port).to_socket_addrs()? {
                    let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
                    match TcpStream::connect_timeout(&address, left) {
                        Ok(stream) => {
                            stream.set_nodelay(true)?;
                            return Ok(Socket::Tcp(stream));
                        }
                        Err(error) => last = error,
                    }
                }
                Err(last)
            }
        }
    }
}

/// Between two attempts at a socket whose queue of waiting clients is full.
const QUEUE_PAUSE: Duration = Duration::from_millis(20);

/// A blocking connect to a full queue would wait without end; the socket is not made to block before it is connected.
fn connect_unix(path: &Path, limit: Duration) -> io::Result<Socket> {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
    let deadline = Instant::now() + limit;
    let address = SocketAddrUnix::new(path)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    while let Err(error) = rustix::net::connect(&socket, &address) {
        if error != rustix::io::Errno::AGAIN || Instant::now() >= deadline {
            return Err(error.into());
        }
        std::thread::sleep(QUEUE_PAUSE);
    }
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(Socket::Unix(stream))
}

impl fmt::Display for NbdPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "nbd://[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "nbd://{host}:{port}"),
            Self::Unix(path) => write!(f, "nbd+unix://{}", path.display()),
        }
    }
}

/// A connected socket. Clones are the same connection.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    pub(super) fn again(&self) -> io::Result<Self> {
        match self {
            Self::Tcp(stream) => stream.try_clone().map(Self::Tcp),
            Self::Unix(stream) => stream.try_clone().map(Self::Unix),
        }
    }

    /// Wakes whoever reads from or writes to it, here and in every clone.
    pub(super) fn shut(&self) {
        // One that is down already is what was wanted.
        let _ = match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Both),
            Self::Unix(stream) => stream.shutdown(Shutdown::Both),
        };
    }

    /// Of each read; `None` waits as long as it takes.
    pub(super) fn limit_reads(&self, limit: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_read_timeout(limit),
            Self::Unix(stream) => stream.set_read_timeout(limit),
        }
    }

    fn limit_writes(&self, limit: Duration) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_write_timeout(Some(limit)),
            Self::Unix(stream) => stream.set_write_timeout(Some(limit)),
        }
    }

    fn write_some(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => (&*stream).write(bytes),
            Self::Unix(stream) => (&*stream).write(bytes),
        }
    }

    /// All of it, until the deadline.
    pub(super) fn write_by(&self, mut bytes: &[u8], deadline: Instant) -> io::Result<()> {
        while !bytes.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.limit_writes(left)?;
            match self.write_some(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => bytes = bytes.split_at(written).1,
                Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Read for &Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => (&*stream).read(buffer),
            Socket::Unix(stream) => (&*stream).read(buffer),
        }
    }
}
