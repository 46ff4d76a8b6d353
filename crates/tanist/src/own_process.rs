//! This program, started once more as a server or an agent. Whatever way a demonstration or a measurement ends, none of its processes
//! outlives it, unless that was asked for.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};

use crate::failure::Failure;

/// One process.
#[derive(Debug)]
pub(crate) struct OwnProcess {
    name: String,
    child: Child,
    keep: bool,
}

impl OwnProcess {
    /// Starts `tanist ARGS`, its log going to a file.
    pub(crate) fn start(name: &str, log: &Path, keep: bool, args: &[&str]) -> Result<Self, Failure> {
        let doing = || format!("start {name}");
        let log = File::create(log).map_err(|e| Failure::io(doing(), e))?;
        let child = Command::new(own_program()?)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|e| Failure::io(doing(), e))?;
        Ok(Self { name: name.to_owned(), child, keep })
    }

    /// Sends a signal and says when.
    pub(crate) fn signal(&self, signal: Signal) -> Result<Instant, Failure> {
        let failed = |e: rustix::io::Errno| Failure::io(format!("signal {}", self.name), e.into());
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| failed(rustix::io::Errno::SRCH))?;
        let at = Instant::now();
        kill_process(pid, signal).map_err(failed)?;
        Ok(at)
    }

    /// SIGKILL, and the end of it.
    pub(crate) fn kill(mut self) -> Result<(), Failure> {
        let killed = self.child.kill().and_then(|()| self.child.wait());
        killed.map(drop).map_err(|e| Failure::io(format!("kill {}", self.name), e))
    }

    /// How it ended, if it did so by itself.
    pub(crate) fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Leaves it running when this value ends.
    pub(crate) fn keep(&mut self) {
        self.keep = true;
    }
}

impl Drop for OwnProcess {
    fn drop(&mut self) {
        if !self.keep {
            // One that has ended already needs neither.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Runs `tanist ARGS` to its end.
pub(crate) fn once(args: &[&str]) -> Result<(), Failure> {
    let doing = || format!("run tanist {}", args.join(" "));
    let output =
        Command::new(own_program()?).args(args).stdin(Stdio::null()).output().map_err(|e| Failure::io(doing(), e))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Failure::io(doing(), std::io::Error::other(said)))
}

fn own_program() -> Result<PathBuf, Failure> {
    std::env::current_exe().map_err(|e| Failure::io("find this program", e))
}
