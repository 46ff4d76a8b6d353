//! A child process with its log. It dies with the value that stands for it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use tanist_model::time::Timestamp;

use crate::{signal, wait};

/// How long a process may take to end by itself.
const END_LIMIT: Duration = Duration::from_secs(20);

/// A running server or agent.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` as the leader of a group of its own; what it says is appended to `log`.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start(command: &mut Command, log: &Path) -> Self {
        let open = || -> io::Result<File> { OpenOptions::new().create(true).append(true).open(log) };
        let (out, err) = (open().expect("open a log"), open().expect("open a log"));
        command.stdin(Stdio::null()).stdout(out).stderr(err).process_group(0);
        let child = command.spawn().unwrap_or_else(|error| panic!("start {command:?}: {error}"));
        Self { child, log: log.to_owned() }
    }

    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// SIGKILL, and the moment of it; the process is reaped when this returns.
    pub fn kill(mut self) -> Timestamp {
        let at = signal::send(self.id(), Signal::KILL);
        let _ = self.child.wait();
        at
    }

    pub fn stop(&self) -> Timestamp {
        signal::send(self.id(), Signal::STOP)
    }

    pub fn wake(&self) -> Timestamp {
        signal::send(self.id(), Signal::CONT)
    }

    /// SIGTERM, and how it ended.
    pub fn terminate(mut self) -> ExitStatus {
        signal::send(self.id(), Signal::TERM);
        wait::until("a process ends after SIGTERM", END_LIMIT, || self.child.try_wait().ok().flatten())
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|ended| ended.is_some())
    }

    /// What it has read so far, in bytes: of sockets and files by calls (`rchar`) or of storage in any way (`read_bytes`), whichever is
    /// more. What io_uring reads counts as the second only.
    ///
    /// # Panics
    /// If the kernel does not say.
    #[must_use]
    pub fn read_bytes(&self) -> u64 {
        let path = format!("/proc/{}/io", self.id());
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("read {path}: {error}"));
        let counted = |what: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(what)).expect("a line for each count");
            line.trim().parse::<u64>().expect("a number of bytes")
        };
        counted("rchar:").max(counted("read_bytes:"))
    }

    /// The most memory it ever had resident, in bytes (`VmHWM`).
    ///
    /// # Panics
    /// If the kernel does not say.
    #[must_use]
    pub fn peak_memory_bytes(&self) -> u64 {
        let path = format!("/proc/{}/status", self.id());
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("read {path}: {error}"));
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a VmHWM line");
        let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number of kB");
        kibibytes << 10
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A stopped process dies of SIGKILL as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
