//! The guard: a process of its own that runs the scripts of one attempt, and runs `after` whatever becomes of the agent.
//!
//! It runs both scripts itself, so that exactly one process ever decides to thaw, and so that a `before` that is still at work ends
//! before `after` begins. It thaws when the agent asks for it, when the agent's pipe closes, when the limit has passed, and when it is
//! itself told to stop.

use std::io::{self, BufRead as _, BufReader, Read as _, Write};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tanist_model::application::ThawCause;
use tanist_script::{Exit, Script};
use tokio::signal::unix::{SignalKind, signal};

use super::mark::{HeldMark, Outcome, Task, quiesced_ms, try_sole};
use super::script::{self, cannot_start};
use crate::clock;

/// The argument with which the program is a guard and nothing else.
pub const GUARD_COMMAND: &str = "application-guard";

/// How often `after` is tried at once.
const THAW_ATTEMPTS: u32 = 3;
const LONGEST_TASK: u64 = 1 << 20;
/// Between two looks whether another attempt has done with the application.
const SOLE_PAUSE: Duration = Duration::from_millis(20);

/// What the agent says after the task.
pub(super) const THAW: &str = "thaw";
pub(super) const GIVE_UP: &str = "give-up";

/// What a guard says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Telling {
    /// Nothing was done.
    Refused { reason: String },
    /// `before` has ended well.
    Quiesced,
    /// `before` has not; `after` follows.
    Failed { reason: String },
    /// `after` is over.
    Thawed(Outcome),
}

/// What happens to a guard.
#[derive(Debug)]
enum Event {
    Word(String),
    /// The agent's pipe is closed.
    AgentGone,
    Stop,
    Ended(Exit),
}

/// Runs a guard over standard input and output until its application is thawed.
#[must_use]
pub fn guard() -> ExitCode {
    // A session of its own: what is meant for the agent's group or terminal does not reach it.
    let _ = rustix::process::setsid();
    let (events, queue) = channel();
    // Before anything is quiesced: a signal that is not caught ends the guard.
    if let Err(error) = catch_signals(events.clone()) {
        return refuse(format!("catch signals: {error}"));
    }
    let mut input = BufReader::new(io::stdin());
    let task = match read_task(&mut input) {
        Ok(task) => task,
        Err(error) => return refuse(format!("read the task: {error}")),
    };
    let words = events.clone();
    let listener = move || {
        for word in input.lines().map_while(Result::ok) {
            let _ = words.send(Event::Word(word));
        }
        let _ = words.send(Event::AgentGone);
    };
    if let Err(error) = thread::Builder::new().name("words".to_owned()).spawn(listener) {
        return refuse(format!("listen to the agent: {error}"));
    }
    Guard { events, queue, output: io::stdout() }.serve(task);
    ExitCode::SUCCESS
}

fn refuse(reason: String) -> ExitCode {
    tell(&mut io::stdout(), &Telling::Refused { reason });
    ExitCode::FAILURE
}

fn read_task(input: &mut BufReader<io::Stdin>) -> io::Result<Task> {
    let mut line = String::new();
    input.take(LONGEST_TASK).read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}

fn catch_signals(events: Sender<Event>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let caught = {
        let _entered = runtime.enter();
        [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()].map(signal)
    };
    let [terminate, interrupt, hangup] = caught;
    let (mut terminate, mut interrupt, mut hangup) = (terminate?, interrupt?, hangup?);
    let body = move || {
        runtime.block_on(async move {
            loop {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                    _ = hangup.recv() => {}
                }
                let _ = events.send(Event::Stop);
            }
        });
    };
    thread::Builder::new().name("signals".to_owned()).spawn(body).map(drop)
}

/// The agent may be gone: nobody has to hear it.
fn tell(output: &mut impl Write, telling: &Telling) {
    if let Ok(mut line) = serde_json::to_vec(telling) {
        line.push(b'\n');
        let _ = output.write_all(&line).and_then(|()| output.flush());
    }
}

struct Guard<W> {
    events: Sender<Event>,
    queue: Receiver<Event>,
    output: W,
}

impl<W: Write> Guard<W> {
    fn tell(&mut self, telling: &Telling) {
        tell(&mut self.output, telling);
    }

    fn serve(&mut self, mut task: Task) {
        let sole = match self.await_sole(&task) {
            Ok(sole) => sole,
            Err(reason) => return self.tell(&Telling::Refused { reason }),
        };
        task.since = clock::wall();
        let mark = match HeldMark::place(task) {
            Ok(mark) => mark,
            Err(error) => {
                return self.tell(&Telling::Refused { reason: format!("leave a mark on disk: {error}") });
            }
        };
        let (cause, before) = self.hold(&mark.task);
        let stuck = before.as_ref().is_some_and(|before| !before.has_ended());
        let mut outcome = thaw(&mark.task, &mark.task.after, cause);
        if let Some(before) = before.as_ref().filter(|_| stuck) {
            outcome = thaw_once_more(&mark.task, before, outcome);
        }
        // A session that `before` has left open ends now at the latest.
        drop(before);
        // Should this fail, the mark stays owed, and `after` is run once more.
        let _ = mark.settle(&outcome);
        drop((mark, sole));
        self.tell(&Telling::Thawed(outcome));
    }

    /// Another attempt may have the application quiesced, or be thawing it.
    fn await_sole(&mut self, task: &Task) -> Result<std::fs::File, String> {
        let deadline = Instant::now() + task.limit * 2;
        loop {
            match try_sole(&task.folder, &task.application) {
                Ok(Some(sole)) => return Ok(sole),
                Err(error) => return Err(format!("lock the application: {error}")),
                Ok(None) if Instant::now() >= deadline => {
                    return Err("another attempt has it quiesced or is thawing it".to_owned());
                }
                Ok(None) => {}
            }
            match self.queue.recv_timeout(SOLE_PAUSE) {
                Err(RecvTimeoutError::Timeout) => {}
                _ => return Err("it was given up before it began".to_owned()),
            }
        }
    }

    /// Runs `before` and keeps the application quiesced; why it is to be thawed, and what is left of `before`.
    fn hold(&mut self, task: &Task) -> (ThawCause, Option<Script>) {
        let deadline = Instant::now() + task.limit;
        let events = self.events.clone();
        let ended = move |exit| drop(events.send(Event::Ended(exit)));
        let before = match script::start(&task.before, &task.environment_of("before"), ended) {
            Ok(before) => before,
            Err(error) => {
                let reason = format!("its before script {}", cannot_start(&task.before, &error));
                self.tell(&Telling::Failed { reason });
                return (ThawCause::BeforeFailed, None);
            }
        };
        let cause = match self.next(deadline) {
            Happened::Ended(exit) if exit.is_well() => {
                self.tell(&Telling::Quiesced);
                return (self.until_thaw(deadline), Some(before));
            }
            Happened::Ended(exit) => {
                let reason = format!("its before script {}{}", exit.in_words(), before.said().quote());
                self.tell(&Telling::Failed { reason });
                ThawCause::BeforeFailed
            }
            Happened::Thaw(ThawCause::LimitPassed) => {
                before.end();
                let seconds = task.limit.as_secs();
                let said = before.said().quote();
                let reason = format!("its before script did not end within {seconds} s and was killed{said}");
                self.tell(&Telling::Failed { reason });
                ThawCause::LimitPassed
            }
            Happened::Thaw(cause) => {
                self.tell(&Telling::Failed { reason: "it was given up".to_owned() });
                cause
            }
        };
        // Nothing of it may quiesce once `after` has begun.
        before.end();
        (cause, Some(before))
    }

    fn until_thaw(&mut self, deadline: Instant) -> ThawCause {
        loop {
            if let Happened::Thaw(cause) = self.next(deadline) {
                return cause;
            }
        }
    }

    fn next(&mut self, deadline: Instant) -> Happened {
        loop {
            let event = match self.queue.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(event) => event,
                Err(_) => return Happened::Thaw(ThawCause::LimitPassed),
            };
            return match event {
                Event::Ended(exit) => Happened::Ended(exit),
                Event::AgentGone => Happened::Thaw(ThawCause::AgentGone),
                Event::Stop => Happened::Thaw(ThawCause::HostStops),
                Event::Word(word) if word == THAW => Happened::Thaw(ThawCause::SnapshotDone),
                Event::Word(word) if word == GIVE_UP => Happened::Thaw(ThawCause::GivenUp),
                Event::Word(_) => continue,
            };
        }
    }
}

enum Happened {
    Ended(Exit),
    Thaw(ThawCause),
}

/// A `before` that was stuck in the kernel when it was killed may have quiesced after `after`.
fn thaw_once_more(task: &Task, before: &Script, outcome: Outcome) -> Outcome {
    if before.has_ended() {
        return thaw(task, &task.after, outcome.cause);
    }
    let stuck = "its before script was killed and does not end".to_owned();
    Outcome { failure: outcome.failure.or(Some(stuck)), ..outcome }
}

/// Runs `after`, some times if need be.
pub(super) fn thaw(task: &Task, after: &[String], cause: ThawCause) -> Outcome {
    let environment = task.environment_of("after");
    let mut failure = None;
    for _ in 0..THAW_ATTEMPTS {
        failure = script::run(after, &environment, task.limit).err().map(|how| format!("its after script {how}"));
        if failure.is_none() {
            break;
        }
    }
    Outcome { cause, quiesced_ms: quiesced_ms(task.since), failure, at: clock::wall() }
}

#[cfg(test)]
mod tests;
