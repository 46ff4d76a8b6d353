//! What came of a schedule: the injector's log, what was found wrong, and how to play it again.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tanist_model::time::Timestamp;

use super::schedule::{Fault, Schedule};

/// A line of the injector's log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Injected {
    /// Its number in the schedule, from 1.
    pub number: usize,
    pub round: usize,
    pub fault: Fault,
    /// The agent that was struck, if it was one.
    pub agent: Option<String>,
    /// The replications that it acted for at that moment.
    pub acts_for: Vec<String>,
    /// The replications whose source it read for another agent.
    pub reads_for: Vec<String>,
    /// It reached the server itself.
    pub direct: bool,
    /// Of a disk, and of who reads: a run that it was in the way of was not over when it was sound again.
    pub hinders: bool,
    pub at: Timestamp,
    pub healed_at: Option<Timestamp>,
}

impl Injected {
    /// How long it lasted; one that did not end lasted for ever.
    #[must_use]
    pub fn lasted(&self) -> Duration {
        self.healed_at.map_or(Duration::MAX, |healed| healed.since(self.at))
    }
}

impl fmt::Display for Injected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, round, fault, at, .. } = self;
        write!(f, "fault {number} (round {round}, {}", fault.name())?;
        if let Some(agent) = &self.agent {
            write!(f, " of {agent}")?;
        }
        if !self.acts_for.is_empty() {
            write!(f, ", acting for {}", self.acts_for.join(", "))?;
        }
        if !self.reads_for.is_empty() {
            write!(f, ", reading for {}", self.reads_for.join(", "))?;
        }
        match self.healed_at {
            Some(healed) => write!(f, ", {at}, {} ms)", healed.since(*at).as_millis()),
            None => write!(f, ", {at}, not healed)"),
        }
    }
}

/// What kind of thing was found.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Found {
    /// A target that does not hold what was published.
    Corruption,
    /// A fault that has not its one trace in the records, or a trace without a fault.
    Untruth,
    /// What has to come about did not.
    Stuck,
}

impl Found {
    fn name(self) -> &'static str {
        match self {
            Self::Corruption => "corruption",
            Self::Untruth => "untruth",
            Self::Stuck => "stuck",
        }
    }
}

/// Something that is wrong, in words.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    pub found: Found,
    pub text: String,
}

impl Finding {
    #[must_use]
    pub fn new(found: Found, text: impl Into<String>) -> Self {
        Self { found, text: text.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.found.name(), self.text)
    }
}

/// A schedule that was played.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    pub schedule: Schedule,
    /// Why it was not played at all, if it was not.
    pub skipped: Option<String>,
    pub injected: Vec<Injected>,
    pub findings: Vec<Finding>,
    /// Runs that were published and compared.
    pub runs: usize,
    pub takeovers: usize,
    pub took: Duration,
}

impl Outcome {
    #[must_use]
    pub fn of(schedule: &Schedule) -> Self {
        let took = Duration::ZERO;
        let (injected, findings) = (Vec::new(), Vec::new());
        Self { schedule: schedule.clone(), skipped: None, injected, findings, runs: 0, takeovers: 0, took }
    }

    #[must_use]
    pub fn has(&self, found: Found) -> bool {
        self.findings.iter().any(|finding| finding.found == found)
    }

    /// How many faults of each kind were injected.
    #[must_use]
    pub fn kinds(&self) -> BTreeMap<&'static str, usize> {
        let mut kinds = BTreeMap::new();
        self.injected.iter().for_each(|injected| *kinds.entry(injected.fault.name()).or_default() += 1);
        kinds
    }

    /// The log and the findings, for people.
    #[must_use]
    pub fn story(&self) -> String {
        let lines = self.injected.iter().map(ToString::to_string);
        let lines = lines.chain(self.findings.iter().map(ToString::to_string));
        lines.map(|line| line + "\n").collect()
    }

    /// Writes the schedule beside others that failed, and gives the command that plays it again.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn keep(&self, folder: &Path) -> Result<String, String> {
        let file = self.file(folder);
        let complaint = |error| format!("write {}: {error}", file.display());
        std::fs::create_dir_all(folder).map_err(complaint)?;
        std::fs::write(&file, self.schedule.to_json()).map_err(complaint)?;
        Ok(format!("make chaos SCHEDULE={}", file.display()))
    }

    fn file(&self, folder: &Path) -> PathBuf {
        folder.join(format!("failed-{}-{}.json", self.schedule.seed, self.schedule.faults.len()))
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(reason) = &self.skipped {
            return write!(f, "skipped: {reason}");
        }
        let Self { injected, findings, runs, takeovers, took, .. } = self;
        let (faults, wrong) = (injected.len(), findings.len());
        write!(
            f,
            "{faults} faults, {runs} runs compared, {takeovers} takeovers, {} s; {wrong} findings",
            took.as_secs()
        )
    }
}
