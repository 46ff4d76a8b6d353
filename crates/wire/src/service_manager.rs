//! What a service manager is told: that the service is ready, that its loop lives, that it stops (`sd_notify(3)`, the protocol of
//! `$NOTIFY_SOCKET`). Without a service manager nothing is said.
//!
//! The watchdog is fed by the loop that decides and by nobody on its behalf: a thread that fed it would go on doing so while the
//! loop hangs, and the process would look alive.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A status line longer than this is cut: it is one line for a person.
const STATUS_BYTES: usize = 512;

/// The way to the service manager, if there is one. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct ServiceManager(Option<Arc<Line>>);

#[derive(Debug)]
struct Line {
    socket: UnixDatagram,
    address: SocketAddr,
    /// The longest that the watchdog may go unfed.
    watchdog: Option<Duration>,
}

impl ServiceManager {
    /// As the environment says: `NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID`.
    ///
    /// # Errors
    /// The operating system's, if there is an address that cannot be used. The service manager would wait in vain.
    pub fn from_environment() -> io::Result<Self> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let Some(address) = variable("NOTIFY_SOCKET") else { return Ok(Self::default()) };
        let meant = variable("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().to_string());
        let watchdog = variable("WATCHDOG_USEC").filter(|_| meant).and_then(|text| text.parse().ok());
        Self::at(&address, watchdog.filter(|limit| *limit > 0).map(Duration::from_micros))
    }

    /// The manager that listens at `address`, a path or `@` and an abstract name, and wants to hear of the loop at least once in
    /// `watchdog`.
    ///
    /// # Errors
    /// The operating system's, or that the address is of neither form.
    pub fn at(address: &str, watchdog: Option<Duration>) -> io::Result<Self> {
        let address = match address.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None if address.starts_with('/') => SocketAddr::from_pathname(address)?,
            None => {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "NOTIFY_SOCKET is no path and no '@' name"));
            }
        };
        let socket = UnixDatagram::unbound()?;
        // Whoever decides must never wait for whoever watches.
        socket.set_nonblocking(true)?;
        Ok(Self(Some(Arc::new(Line { socket, address, watchdog }))))
    }

    /// The service does its work from now on.
    pub fn ready(&self) {
        self.say("READY=1");
    }

    /// The service ends in order from now on.
    pub fn stopping(&self) {
        self.say("STOPPING=1");
    }

    /// One line for who asks how the service is.
    pub fn status(&self, line: &str) {
        let line: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).take(STATUS_BYTES / 4).collect();
        self.say(&format!("STATUS={line}"));
    }

    /// What the loop feeds.
    #[must_use]
    pub fn watchdog(&self) -> Watchdog {
        Watchdog { manager: self.clone(), fed_at: None }
    }

    /// What does not arrive is said again, or was the last word of a service that the manager sees end anyway.
    fn say(&self, text: &str) {
        if let Some(line) = &self.0 {
            let _ = line.socket.send_to_addr(text.as_bytes(), &line.address);
        }
    }
}

/// Tells the service manager that a loop lives.
#[derive(Debug)]
pub struct Watchdog {
    manager: ServiceManager,
    fed_at: Option<Instant>,
}

impl Watchdog {
    /// To be called on every turn of the loop; tells the manager four times within the time it allows.
    pub fn alive(&mut self) {
        let Some(limit) = self.manager.0.as_ref().and_then(|line| line.watchdog) else { return };
        if self.fed_at.is_none_or(|at| at.elapsed() >= limit / 4) {
            self.fed_at = Some(Instant::now());
            self.manager.say("WATCHDOG=1");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listening() -> (tempfile::TempDir, UnixDatagram, String) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let path = path.display().to_string();
        (folder, socket, path)
    }

    fn heard(socket: &UnixDatagram) -> Option<String> {
        let mut buffer = [0; 2048];
        let length = socket.recv(&mut buffer).ok()?;
        Some(String::from_utf8(buffer[..length].to_vec()).unwrap())
    }

    #[test]
    fn the_manager_hears_what_is_said_and_one_line_of_status() {
        let (_folder, socket, path) = listening();
        let manager = ServiceManager::at(&path, None).unwrap();
        manager.ready();
        manager.status("waits\nREADY=1");
        manager.stopping();
        assert_eq!(heard(&socket).unwrap(), "READY=1");
        assert_eq!(heard(&socket).unwrap(), "STATUS=waits READY=1");
        assert_eq!(heard(&socket).unwrap(), "STOPPING=1");
        manager.watchdog().alive();
        assert_eq!(heard(&socket), None, "nobody asked for the watchdog");
    }

    #[test]
    fn the_watchdog_is_fed_at_once_and_then_at_its_pace() {
        let (_folder, socket, path) = listening();
        let mut watchdog = ServiceManager::at(&path, Some(Duration::from_hours(1))).unwrap().watchdog();
        (0..1000).for_each(|_| watchdog.alive());
        assert_eq!(heard(&socket).as_deref(), Some("WATCHDOG=1"));
        assert_eq!(heard(&socket), None);
        let mut hurried = ServiceManager::at(&path, Some(Duration::ZERO)).unwrap().watchdog();
        (0..2).for_each(|_| hurried.alive());
        assert_eq!((heard(&socket).is_some(), heard(&socket).is_some()), (true, true));
    }

    #[test]
    fn a_manager_that_does_not_listen_keeps_nobody_waiting() {
        let (_folder, _socket, path) = listening();
        let manager = ServiceManager::at(&path, None).unwrap();
        (0..10_000).for_each(|_| manager.ready());
        assert!(ServiceManager::at("relative", None).is_err());
        ServiceManager::at("@tanist-nobody-listens-here", None).unwrap().ready();
        ServiceManager::default().ready();
    }
}
