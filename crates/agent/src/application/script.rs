//! One script: in a process group of its own, with a limit, its output kept up to a bound.

use std::io::{self, Read};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

/// The end of what a script says is kept: errors stand last.
const KEPT_BYTES: usize = 16 << 10;
/// Of that, so much goes into a sentence.
const QUOTED_CHARS: usize = 600;
/// What was written just before the end is still in the pipe. A process that stays in the background holds it open for ever.
const DRAIN: Duration = Duration::from_millis(200);
/// A killed process that is stuck in the kernel is not waited for longer.
const DEATH: Duration = Duration::from_secs(1);
const DEATH_PAUSE: Duration = Duration::from_millis(2);

/// How a script ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Exit {
    Status(i32),
    Signal(i32),
    /// The kernel would not say.
    Unknown,
}

impl Exit {
    pub(super) fn is_well(self) -> bool {
        self == Self::Status(0)
    }

    pub(super) fn in_words(self) -> String {
        match self {
            Self::Status(status) => format!("ended with status {status}"),
            Self::Signal(signal) => format!("was ended by signal {signal}"),
            Self::Unknown => "ended, nobody knows how".to_owned(),
        }
    }
}

/// A script that was started. Its group is killed with it.
#[derive(Debug)]
pub(super) struct Script {
    child: Child,
    said: Arc<Mutex<Vec<u8>>>,
    drained: Receiver<()>,
    ended: Arc<AtomicBool>,
}

impl Script {
    /// `ended` is called once, from another thread.
    ///
    /// # Errors
    /// If the program cannot be started.
    pub(super) fn start(
        command: &[String],
        environment: &[(String, String)],
        ended: impl FnOnce(Exit) + Send + 'static,
    ) -> io::Result<Self> {
        let (program, arguments) = command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let mut command = Command::new(program);
        command.args(arguments).envs(environment.iter().cloned()).current_dir("/").process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let said = Arc::default();
        let (end, drained) = channel();
        keep(child.stdout.take(), &said, end.clone());
        keep(child.stderr.take(), &said, end);
        let group = group_of(&child);
        let over = Arc::new(AtomicBool::new(false));
        let script = Self { child, said, drained, ended: Arc::clone(&over) };
        let body = move || {
            let exit = wait_for(group);
            over.store(true, Ordering::Release);
            ended(exit);
        };
        thread::Builder::new().name("script".to_owned()).spawn(body)?;
        Ok(script)
    }

    /// Runs one to its end, or to the limit.
    ///
    /// # Errors
    /// In words with the last of its output, if it did not end well.
    pub(super) fn run(command: &[String], environment: &[(String, String)], limit: Duration) -> Result<(), String> {
        let (end, ended) = channel();
        let tell = move |exit| _ = end.send(exit);
        let started = Self::start(command, environment, tell);
        let script = started.map_err(|error| cannot_start(command, &error))?;
        match ended.recv_timeout(limit) {
            Ok(exit) if exit.is_well() => Ok(()),
            Ok(exit) => Err(format!("{}{}", exit.in_words(), script.quote())),
            Err(_) => {
                script.end();
                Err(format!("did not end within {} s and was killed{}", limit.as_secs(), script.quote()))
            }
        }
    }

    /// Kills everything in its group, also what stays in the background, and waits for its leader for a moment.
    pub(super) fn end(&self) {
        // The leader is not reaped before, so the number is still its own.
        if let Some(group) = group_of(&self.child) {
            // Nobody is left: that is what was wanted.
            let _ = kill_process_group(group, Signal::KILL);
        }
        let deadline = Instant::now() + DEATH;
        while !self.has_ended() && Instant::now() < deadline {
            thread::sleep(DEATH_PAUSE);
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// The last of what it said, on one line, after a colon; empty if it said nothing.
    pub(super) fn quote(&self) -> String {
        let _ = self.drained.recv_timeout(DRAIN).and_then(|()| self.drained.recv_timeout(DRAIN));
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner).clone();
        quote(&String::from_utf8_lossy(&said))
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        self.end();
        // One that is stuck in the kernel is left to init.
        let _ = self.child.try_wait();
    }
}

pub(super) fn cannot_start(command: &[String], error: &io::Error) -> String {
    format!("could not be started: {}: {error}", command.first().map_or("", String::as_str))
}

fn group_of(child: &Child) -> Option<Pid> {
    Pid::from_raw(i32::try_from(child.id()).ok()?)
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

/// Reads to the end, however much comes, and keeps the last of it.
fn keep(pipe: Option<impl Read + Send + 'static>, said: &Arc<Mutex<Vec<u8>>>, end: Sender<()>) {
    let Some(mut pipe) = pipe else { return };
    let said = Arc::clone(said);
    let body = move || {
        let mut chunk = [0; 4096];
        while let Ok(length @ 1..) = pipe.read(&mut chunk) {
            let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
            said.extend_from_slice(&chunk[..length]);
            let surplus = said.len().saturating_sub(KEPT_BYTES);
            said.drain(..surplus);
        }
        let _ = end.send(());
    };
    if let Err(error) = thread::Builder::new().name("output".to_owned()).spawn(body) {
        tracing::warn!(%error, "what a script says cannot be read");
    }
}

fn quote(said: &str) -> String {
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let line: String = lines.join(" / ").chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let skip = line.chars().count().saturating_sub(QUOTED_CHARS);
    let last: String = line.chars().skip(skip).collect();
    match (last.is_empty(), skip) {
        (true, _) => String::new(),
        (false, 0) => format!(": {last}"),
        (false, _) => format!(": ...{last}"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn shell(text: &str) -> Vec<String> {
        ["/bin/sh", "-c", text].map(ToOwned::to_owned).to_vec()
    }

    fn run(text: &str, limit: Duration) -> Result<(), String> {
        Script::run(&shell(text), &[("TANIST_PHASE".to_owned(), "before".to_owned())], limit)
    }

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn a_script_that_ends_badly_is_quoted() {
        assert_eq!(run("true", LONG), Ok(()));
        let failed = run("echo $TANIST_PHASE; echo no such table >&2; exit 3", LONG).unwrap_err();
        assert_eq!(failed, "ended with status 3: before / no such table");
        assert_eq!(run("kill -9 $$", LONG).unwrap_err(), "was ended by signal 9");
        let missing = Script::run(&["/does/not/exist".to_owned()], &[], LONG).unwrap_err();
        assert!(missing.starts_with("could not be started: /does/not/exist: "), "{missing}");
    }

    #[test]
    fn a_flood_is_read_to_its_end_and_only_its_last_part_kept() {
        let failed = run("head -c 50000000 /dev/zero | tr '\\0' x; echo; echo the end; exit 1", LONG).unwrap_err();
        assert!(failed.contains(": ...x") && failed.ends_with(" / the end"), "{failed}");
        assert!(failed.len() < 1000);
    }

    #[test]
    fn the_whole_group_dies_at_the_limit() {
        let folder = tempfile::tempdir().unwrap();
        let pids = folder.path().join("pids");
        let begun = Instant::now();
        let text = format!("sleep 300 & echo $! > {0}; echo $$ >> {0}; wait", pids.display());
        let failed = run(&text, Duration::from_secs(1)).unwrap_err();
        assert!(failed.contains("did not end within 1 s"), "{failed}");
        assert!(begun.elapsed() < LONG);
        let pids = std::fs::read_to_string(pids).unwrap();
        assert_eq!(pids.lines().count(), 2);
        for pid in pids.lines() {
            wait_dead(pid);
        }
    }

    /// A killed process takes a moment; as a zombie it is dead.
    fn wait_dead(pid: &str) {
        let stat = || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let deadline = Instant::now() + LONG;
        while stat().rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z')) {
            assert!(Instant::now() < deadline, "it goes on: {}", stat());
            thread::yield_now();
        }
    }

    #[test]
    fn what_a_script_leaves_in_the_background_is_not_waited_for_and_ends_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let pid = folder.path().join("pid");
        let (end, ended) = channel();
        let text = format!("sleep 300 & echo $! > {}", pid.display());
        let script = Script::start(&shell(&text), &[], move |exit| _ = end.send(exit)).unwrap();
        assert_eq!(ended.recv_timeout(LONG), Ok(Exit::Status(0)));
        let pid = std::fs::read_to_string(pid).unwrap();
        let stat = || std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        assert!(!stat().is_empty(), "a session that it holds open stays");
        drop(script);
        wait_dead(pid.trim());
    }
}
