//! Programs of the operator: snapshot commands, scripts of host applications, alarms. Each gets a process group of its own, a limit to
//! its time and to what is kept of its words, and an end for all that it started.
//!
//! One rule carries this crate: a group is killed by its number, so the leader is not reaped before. A number that was reaped can
//! belong to a stranger.

#![forbid(unsafe_code)]

mod said;

use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

pub use self::said::Keep;
use self::said::Reading;

/// A killed process that is stuck in the kernel is not waited for longer.
const DEATH: Duration = Duration::from_secs(1);
const DEATH_PAUSE: Duration = Duration::from_millis(2);

/// What belongs to our own service: a script that spoke to the service manager would speak in our name.
const OURS_ALONE: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];

/// How a program ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    Status(i32),
    Signal(i32),
    /// The kernel would not say.
    Unknown,
}

impl Exit {
    #[must_use]
    pub fn is_well(self) -> bool {
        self == Self::Status(0)
    }

    /// What follows after "it".
    #[must_use]
    pub fn in_words(self) -> String {
        match self {
            Self::Status(status) => format!("ended with status {status}"),
            Self::Signal(signal) => format!("was ended by signal {signal}"),
            Self::Unknown => "ended, nobody knows how".to_owned(),
        }
    }
}

/// What happens to a program that was started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// Its leader has ended; what it left in the background has not.
    Ended(Exit),
    /// It said more than is kept of a whole ([`Keep::Whole`]).
    Flooded,
}

/// What is kept of the two things that a program says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Keeps {
    pub out: Keep,
    pub err: Keep,
}

/// What a program said, as far as it was kept.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Said {
    pub out: Vec<u8>,
    pub err: Vec<u8>,
}

impl Said {
    /// The last of both on one line, after a colon; empty if it said nothing.
    #[must_use]
    pub fn quote(&self) -> String {
        said::quote(&[self.out.as_slice(), b"\n", self.err.as_slice()].concat())
    }

    /// The last of its complaints on one line, after a colon; empty if it had none.
    #[must_use]
    pub fn quote_err(&self) -> String {
        said::quote(&self.err)
    }
}

/// Why a run came to no end of its own.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("could not be started: {0}")]
    Start(#[source] io::Error),
    #[error("did not end within {} s and was killed{}", limit.as_secs(), said.quote())]
    Slow { limit: Duration, said: Said },
    #[error("wrote more than is taken for an answer and was killed")]
    Flooded,
}

/// A program that was started. Everything in its group ends with this.
#[derive(Debug)]
pub struct Script {
    child: Child,
    out: Reading,
    err: Reading,
    ended: Arc<AtomicBool>,
}

impl Script {
    /// Starts a program with this on its standard input. `tell` hears from other threads what happens to it.
    ///
    /// # Errors
    /// That it cannot be started.
    pub fn start(
        mut command: Command,
        input: Vec<u8>,
        keeps: Keeps,
        tell: impl Fn(Event) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        command.current_dir("/").process_group(0);
        for name in OURS_ALONE {
            command.env_remove(name);
        }
        command.stdin(if input.is_empty() { Stdio::null() } else { Stdio::piped() });
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let tell = Arc::new(tell);
        let flooded = |tell: &Arc<_>| {
            let tell: Arc<dyn Fn(Event) + Send + Sync> = Arc::clone(tell) as _;
            move || tell(Event::Flooded)
        };
        let out = Reading::start(child.stdout.take(), keeps.out, flooded(&tell));
        let err = Reading::start(child.stderr.take(), keeps.err, flooded(&tell));
        if let Some(mut pipe) = child.stdin.take() {
            // It may decide without reading.
            spawn("script-input", move || _ = pipe.write_all(&input));
        }
        let ended = Arc::new(AtomicBool::new(false));
        let script = Self { child, out, err, ended: Arc::clone(&ended) };
        let leader = script.group();
        let body = move || {
            let exit = wait_for(leader);
            ended.store(true, Ordering::Release);
            tell(Event::Ended(exit));
        };
        // Nobody would ever hear of its end: it is not left running.
        thread::Builder::new().name("script".to_owned()).spawn(body)?;
        Ok(script)
    }

    /// Kills everything in its group, also what stays in the background, and waits for its leader for a moment.
    pub fn end(&self) {
        if let Some(group) = self.group() {
            // Nobody is left: that is what was wanted.
            let _ = kill_process_group(group, Signal::KILL);
        }
        let deadline = Instant::now() + DEATH;
        while !self.has_ended() && Instant::now() < deadline {
            thread::sleep(DEATH_PAUSE);
        }
    }

    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// What it has said up to now.
    #[must_use]
    pub fn said(&self) -> Said {
        Said { out: self.out.said(), err: self.err.said() }
    }

    fn group(&self) -> Option<Pid> {
        Pid::from_raw(i32::try_from(self.child.id()).ok()?)
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        self.end();
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        // Stuck in the kernel: a thread waits for it that nobody waits for.
        if let Some(leader) = self.group() {
            spawn("script-reaper", move || _ = waitid(WaitId::Pid(leader), WaitIdOptions::EXITED));
        }
    }
}

/// Runs a program to its end, or to a limit. Whatever it has left in its group is killed in any case.
///
/// # Errors
/// [`RunError`] if it did not come to an end of its own; how it ended is for the caller to judge.
pub fn run(command: Command, input: Vec<u8>, keeps: Keeps, limit: Duration) -> Result<(Exit, Said), RunError> {
    let (end, ended) = channel();
    let script = Script::start(command, input, keeps, move |event| _ = end.send(event)).map_err(RunError::Start)?;
    let event = ended.recv_timeout(limit);
    script.end();
    let said = script.said();
    match event {
        // Its last words may have come after its end was seen.
        Ok(Event::Ended(_)) if script.out.is_flooded() || script.err.is_flooded() => Err(RunError::Flooded),
        Ok(Event::Ended(exit)) => Ok((exit, said)),
        Ok(Event::Flooded) => Err(RunError::Flooded),
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Err(RunError::Slow { limit, said }),
    }
}

/// Waits without reaping: as long as it is not reaped, nobody else gets its number.
fn wait_for(leader: Option<Pid>) -> Exit {
    let Some(leader) = leader else { return Exit::Unknown };
    loop {
        match waitid(WaitId::Pid(leader), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
            Ok(Some(status)) => {
                let exit = status.exit_status().map(Exit::Status);
                return exit.or_else(|| status.terminating_signal().map(Exit::Signal)).unwrap_or(Exit::Unknown);
            }
            Err(rustix::io::Errno::INTR) => {}
            Ok(None) | Err(_) => return Exit::Unknown,
        }
    }
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) {
    if let Err(error) = thread::Builder::new().name(name.to_owned()).spawn(body) {
        tracing::warn!(%error, name, "a thread cannot be started: a program of the operator goes without it");
    }
}

#[cfg(test)]
mod tests;
