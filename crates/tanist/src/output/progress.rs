//! The progress of a run: a bar on a terminal, a line now and then elsewhere, nothing for programs.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tanist_model::api::{RunView, RunWaiting};
use tanist_model::run::RunState;
use tanist_model::time::Timestamp;

use super::show::{percent, speed};
use super::{Screen, screen, units, words};

/// A plain line at least so often while bytes move.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Shows a run while it is waited for.
#[derive(Debug)]
pub enum Progress {
    Bar(ProgressBar),
    Lines(LineLog),
    Silent,
}

impl Progress {
    #[must_use]
    pub fn new(screen: &Screen) -> Self {
        if screen.is_json() {
            Self::Silent
        } else if std::io::stderr().is_terminal() {
            Self::Bar(bar())
        } else {
            Self::Lines(LineLog::default())
        }
    }

    /// The run as it is now.
    pub fn show(&mut self, run: &RunView) {
        match self {
            Self::Bar(bar) => update(bar, run),
            Self::Lines(log) => log.line(run, screen::now()).into_iter().for_each(|line| tell(&line)),
            Self::Silent => {}
        }
    }

    /// A copy that is no run and knows only how far it is.
    pub fn passed(&mut self, done_bytes: u64, size_bytes: u64) {
        match self {
            Self::Bar(bar) => {
                bar.set_length(size_bytes);
                bar.set_position(done_bytes);
                bar.set_message(part(done_bytes, size_bytes));
            }
            Self::Lines(log) => {
                log.part(done_bytes, size_bytes, screen::now()).into_iter().for_each(|line| tell(&line))
            }
            Self::Silent => {}
        }
    }

    /// Something besides the run itself: the server is away, the server is back.
    pub fn say(&self, text: &str) {
        match self {
            Self::Bar(bar) => bar.println(text),
            Self::Lines(_) => tell(text),
            Self::Silent => {}
        }
    }

    pub fn end(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

/// A closed standard error is no reason to stop waiting.
fn tell(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30.green} {msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(0).with_style(style.progress_chars("━╸─"))
}

fn update(bar: &ProgressBar, run: &RunView) {
    bar.set_length(run.size_bytes);
    bar.set_position(run.done_bytes);
    bar.set_message(message(run, screen::now()));
}

fn part(done_bytes: u64, size_bytes: u64) -> String {
    format!("{} of {}", units::bytes(done_bytes), units::bytes(size_bytes))
}

/// How a run stands, in one line: how fast it goes, or what it waits for and since when.
#[must_use]
pub fn message(run: &RunView, now: Timestamp) -> String {
    let on = run.agent.as_ref().map(|agent| format!(" on {agent}")).unwrap_or_default();
    let state = words::run_state(run.state);
    match &run.waiting {
        // Nothing has moved yet: there is no speed to tell.
        Some(waiting) if run.state == RunState::SnapshotPending => format!("{state}{on}; {}", waits(waiting, now)),
        Some(waiting) => format!("{state}{on}: {}; {}", speed(run), waits(waiting, now)),
        None => format!("{state}{on}: {}", speed(run)),
    }
}

/// `since 2026-11-22 14:03:22Z (12 s) it waits for agent h1 to make it`.
#[must_use]
pub fn waits(waiting: &RunWaiting, now: Timestamp) -> String {
    format!(
        "since {} ({}) it waits for {}",
        units::clock(waiting.since),
        units::duration(now.since(waiting.since)),
        waiting.what
    )
}

/// Decides when a plain line is due: when something changed, at each tenth, and every ten seconds.
#[derive(Debug, Default)]
pub struct LineLog {
    last: Option<Line>,
}

#[derive(Debug)]
struct Line {
    state: Option<RunState>,
    agent: Option<String>,
    tenth: u64,
    waits_for: Option<String>,
    at: Timestamp,
}

impl LineLog {
    /// The line to print, if one is due.
    pub fn line(&mut self, run: &RunView, now: Timestamp) -> Option<String> {
        let agent = run.agent.as_ref().map(ToString::to_string);
        let waits_for = run.waiting.as_ref().map(|waiting| waiting.what.clone());
        let due = self.is_due(Line { state: Some(run.state), agent, tenth: percent(run) / 10, waits_for, at: now });
        due.then(|| format!("run {}, {}", units::short(&run.id), message(run, now)))
    }

    /// The same for a copy that is no run.
    fn part(&mut self, done_bytes: u64, size_bytes: u64, now: Timestamp) -> Option<String> {
        let tenth = done_bytes.saturating_mul(10).checked_div(size_bytes).unwrap_or(10);
        let due = self.is_due(Line { state: None, agent: None, tenth, waits_for: None, at: now });
        due.then(|| part(done_bytes, size_bytes))
    }

    fn is_due(&mut self, next: Line) -> bool {
        if self.last.as_ref().is_some_and(|last| !next.is_due_after(last)) {
            return false;
        }
        self.last = Some(next);
        true
    }
}

impl Line {
    fn is_due_after(&self, last: &Self) -> bool {
        self.state != last.state
            || self.agent != last.agent
            || self.tenth != last.tenth
            || self.waits_for != last.waits_for
            || self.at.since(last.at) >= LINE_EVERY
    }
}
