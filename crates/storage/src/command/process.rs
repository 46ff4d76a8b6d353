//! One call of an operator's program: in a process group of its own, with a limit of time, and a limit to what it may say.

use std::io::{self, Read};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitIdStatus, kill_process_group, waitid};

/// An answer that is longer is none.
pub(super) const ANSWER_BYTES: usize = 1 << 20;
/// Of what it says besides, the beginning is kept: with most programs the cause stands first.
const COMPLAINT_BYTES: usize = 8 << 10;
/// Of that, so much goes into a sentence.
const QUOTED_CHARS: usize = 400;
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// What was written just before the end is still in the pipe.
const DRAIN: Duration = Duration::from_millis(500);

/// Where programs of the system are found, whatever the agent's own environment is.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How a call ended that was not ended by us.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Ended {
    /// None if a signal ended it.
    pub(super) status: Option<i32>,
    pub(super) answer: Vec<u8>,
    /// What it said on standard error, on one line.
    pub(super) complaint: String,
}

/// Why there is nothing to be judged.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    #[error("it could not be started: {0}")]
    Start(#[source] io::Error),
    #[error("it did not end within {limit_seconds} s and was killed{complaint}", limit_seconds = limit.as_secs())]
    Slow { limit: Duration, complaint: String },
    #[error("it wrote more than {ANSWER_BYTES} bytes and was killed")]
    Flood,
    #[error("it cannot be waited for: {0}")]
    Wait(#[source] io::Error),
}

/// Runs the program to its end, or to a limit. Whatever it has left in its group is killed in any case.
pub(super) fn call(
    program: &Path,
    verb: &str,
    environment: &[(&str, String)],
    limit: Duration,
) -> Result<Ended, CallError> {
    let mut command = Command::new(program);
    command.arg(verb).env_clear().env("PATH", PATH).envs(environment.iter().map(|(name, value)| (name, value)));
    command.current_dir("/").process_group(0);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(CallError::Start)?;
    // One byte more than is allowed shows that there was more.
    let answer = read(child.stdout.take(), ANSWER_BYTES + 1, false);
    let complaint = read(child.stderr.take(), COMPLAINT_BYTES, true);
    Call { child, answer, complaint, limit }.end()
}

struct Call {
    child: Child,
    answer: Receiver<Vec<u8>>,
    complaint: Receiver<Vec<u8>>,
    limit: Duration,
}

impl Call {
    fn end(self) -> Result<Ended, CallError> {
        let mut answer = None;
        let ended = self.wait(&mut answer);
        // Also what it left in the background: it would hold the pipes open for ever.
        self.kill_group();
        let answer = answer.or_else(|| self.answer.recv_timeout(DRAIN).ok()).unwrap_or_default();
        let complaint = one_line(&self.complaint.recv_timeout(DRAIN).unwrap_or_default());
        let limit = self.limit;
        self.reap();
        match ended? {
            Some(_) if answer.len() > ANSWER_BYTES => Err(CallError::Flood),
            Some(status) => Ok(Ended { status: status.exit_status(), answer, complaint }),
            None if complaint.is_empty() => Err(CallError::Slow { limit, complaint }),
            None => Err(CallError::Slow { limit, complaint: format!("; it said: {complaint}") }),
        }
    }

    /// How it ended; `None` if the time is over. A flood ends the waiting at once.
    fn wait(&self, answer: &mut Option<Vec<u8>>) -> Result<Option<WaitIdStatus>, CallError> {
        let deadline = Instant::now() + self.limit;
        loop {
            if let Some(status) = self.has_ended().map_err(|error| CallError::Wait(error.into()))? {
                return Ok(Some(status));
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            match answer {
                Some(answer) if answer.len() > ANSWER_BYTES => return Err(CallError::Flood),
                Some(_) => thread::sleep(LOOK_AGAIN),
                None => *answer = self.answer.recv_timeout(LOOK_AGAIN).ok(),
            }
        }
    }

    fn leader(&self) -> Option<Pid> {
        Pid::from_raw(i32::try_from(self.child.id()).ok()?)
    }

    /// Without reaping it: as long as it is not reaped, nobody else gets its number, and the group can be killed by it.
    fn has_ended(&self) -> Result<Option<WaitIdStatus>, rustix::io::Errno> {
        let Some(leader) = self.leader() else { return Err(rustix::io::Errno::CHILD) };
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        match waitid(WaitId::Pid(leader), options) {
            Err(rustix::io::Errno::INTR) => Ok(None),
            found => found,
        }
    }

    fn kill_group(&self) {
        if let Some(leader) = self.leader() {
            // Nobody is left: that is what was wanted.
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }

    /// One that is stuck in the kernel is waited for by a thread that nobody waits for.
    fn reap(mut self) {
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            let reaper = thread::Builder::new().name("snapshot-command".to_owned()).spawn(move || self.child.wait());
            if let Err(error) = reaper {
                tracing::warn!(%error, "a snapshot command that was killed stays as a zombie");
            }
        }
    }
}

/// Reads in a thread of its own up to a bound, and with `on` also the rest, without keeping it.
fn read(pipe: Option<impl Read + Send + 'static>, bound: usize, on: bool) -> Receiver<Vec<u8>> {
    let (tell, told) = channel();
    let body = move || {
        let Some(mut pipe) = pipe else { return };
        let mut kept = Vec::new();
        // What broke off is judged by what came.
        let _ = pipe.by_ref().take(bound as u64).read_to_end(&mut kept);
        let _ = tell.send(kept);
        if on {
            let _ = io::copy(&mut pipe, &mut io::sink());
        }
    };
    if let Err(error) = thread::Builder::new().name("snapshot-answer".to_owned()).spawn(body) {
        tracing::warn!(%error, "what a snapshot command says cannot be read");
    }
    told
}

fn one_line(said: &[u8]) -> String {
    let said = String::from_utf8_lossy(said);
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    lines.join(" / ").chars().map(plain).take(QUOTED_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    /// A program that runs this text.
    fn program(text: &str) -> tempfile::TempPath {
        use std::io::Write as _;
        use std::os::unix::fs::PermissionsExt as _;
        let mut file = tempfile::NamedTempFile::new().unwrap();
        write!(file, "#!/bin/sh\n{text}\n").unwrap();
        file.as_file().set_permissions(std::fs::Permissions::from_mode(0o755)).unwrap();
        file.into_temp_path()
    }

    fn run(text: &str, limit: Duration) -> Result<Ended, CallError> {
        let environment = [("TANIST_VOLUME", "a b".to_owned())];
        call(&program(text), "create", &environment, limit)
    }

    #[test]
    fn what_it_says_is_kept_apart_and_its_environment_is_ours_alone() {
        let ended =
            run("echo \"$1 $TANIST_VOLUME$HOME\"; echo 'no space' >&2; echo on array >&2; exit 7", LONG).unwrap();
        assert_eq!(ended.status, Some(7));
        assert_eq!(ended.answer, b"create a b\n");
        assert_eq!(ended.complaint, "no space / on array");
        assert_eq!(run("kill -9 $$", LONG).unwrap().status, None);
        assert!(matches!(call(Path::new("/does/not/exist"), "list", &[], LONG), Err(CallError::Start(_))));
    }

    fn lives(pid: &str) -> bool {
        let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        state.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
    }

    #[test]
    fn one_that_hangs_is_killed_with_all_that_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let pids = folder.path().join("pids");
        let begun = Instant::now();
        let text = format!("sleep 300 & echo $! > {0}; echo $$ >> {0}; echo waiting >&2; wait", pids.display());
        let slow = run(&text, Duration::from_secs(1)).unwrap_err().to_string();
        assert!(slow.contains("within 1 s") && slow.ends_with("it said: waiting"), "{slow}");
        assert!(begun.elapsed() < LONG);
        for pid in std::fs::read_to_string(pids).unwrap().lines() {
            while lives(pid) {
                assert!(begun.elapsed() < LONG, "{pid} goes on");
                thread::yield_now();
            }
        }
    }

    #[test]
    fn a_flood_ends_it_at_once_and_one_of_complaints_does_not_matter() {
        let begun = Instant::now();
        assert!(matches!(run("yes", LONG), Err(CallError::Flood)));
        assert!(begun.elapsed() < LONG);
        let ended = run("head -c 5000000 /dev/zero | tr '\\0' x >&2; echo '{}'", LONG).unwrap();
        assert_eq!((ended.status, ended.answer.as_slice()), (Some(0), &b"{}\n"[..]));
        assert_eq!(ended.complaint.len(), QUOTED_CHARS);
    }

    /// What stays in the background would hold the pipe open for ever.
    #[test]
    fn what_it_leaves_behind_is_not_waited_for() {
        let begun = Instant::now();
        let ended = run("sleep 300 & echo '{}'", LONG).unwrap();
        assert_eq!(ended.answer, b"{}\n");
        assert!(begun.elapsed() < LONG);
    }

    #[test]
    fn one_that_says_nothing_more_and_hangs_is_killed_too() {
        let slow = run("exec >&- 2>&-; sleep 300", Duration::from_secs(1)).unwrap_err();
        assert!(matches!(slow, CallError::Slow { .. }), "{slow}");
    }
}
