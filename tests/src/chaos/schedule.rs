//! A schedule of faults: what the file says, and what of it is refused before anything is started.

use std::path::Path;

use serde::{Deserialize, Serialize};

/// More faults than anybody waits for.
pub const MOST_FAULTS: usize = 2000;
const LONGEST_MS: u64 = 60_000;
/// A fault that strikes into others strikes soon.
const LONGEST_PAUSE_MS: u64 = 30_000;

/// A cluster, its volumes, and the faults that strike it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// For who reads the file.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub about: String,
    /// Decides what the volumes hold.
    pub seed: u64,
    pub cluster: Shape,
    pub faults: Vec<Planned>,
}

/// What is struck.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    pub agents: u8,
    pub hosts: Hosts,
    #[serde(default)]
    pub form: Form,
    #[serde(default)]
    pub volumes: Volumes,
    #[serde(default)]
    pub source: Source,
    /// What lies on a disk that can be made to fail, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub faulty: Option<Faulty>,
    #[serde(default = "one")]
    pub replications: u8,
    pub size_mib: u64,
    /// A run has to be slow enough to have a middle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_mib_per_second: Option<u64>,
    /// A rule that the test build breaks: a negative control.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub without: Option<RuleOff>,
}

fn one() -> u8 {
    1
}

/// Where the processes believe to be, and whether a real network lies between them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hosts {
    /// All on this one: the kernel lock proves things between them.
    One,
    /// Each agent believes to be on a machine of its own.
    Own,
    /// A network namespace each: needs root.
    Network,
}

/// Who reaches what.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// Every agent reaches both volumes.
    #[default]
    Direct,
    /// The first half reaches the source only, the others the target only.
    Networked,
    /// The first reaches both, then one the source only, one the target only, and so on.
    Hybrid,
}

/// What the volumes are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Volumes {
    #[default]
    Image,
    /// Block devices over files: need root.
    Loop,
}

/// What is said of the sources: nobody writes to them during a run either way.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// A reader that wakes notices what was written since, and often sends nothing more.
    #[default]
    Sealed,
    /// A reader that wakes goes on.
    Live,
}

/// What lies on the faulty disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Faulty {
    /// Both storage systems: all agents see the same disk.
    Storage,
    /// The server's state.
    Store,
}

/// A rule that is not in force, in one kind of process.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleOff {
    pub program: Program,
    pub rule: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Program {
    Server,
    Agents,
}

/// One fault, when it strikes and how long it lasts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Planned {
    pub when: Moment,
    pub fault: Fault,
    pub lasts: Lasts,
}

/// When a fault strikes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Moment {
    /// A round begins: all is well, the sources have changed, and the first replication's new run has come so far.
    ProgressPercent(u8),
    /// So long after the fault before it struck: both belong to one round.
    AfterMs(u64),
}

/// How long a fault lasts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Lasts {
    Ms(u64),
    /// Until the run after this one is published or waits for proof; then it ends in a moment in which no server runs.
    ThroughNextRun,
}

/// What fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Fault {
    /// SIGKILL; the agent is started again at the end.
    Kill { aim: Aim },
    /// SIGSTOP, and SIGCONT at the end.
    Stop { aim: Aim },
    /// SIGSTOP, and another process of the same agent is started in its place, as by a supervisor that takes it for dead.
    Supplant { aim: Aim },
    /// Nothing passes between the agent and others.
    Cut { aim: Aim, from: From, way: Way },
    /// Nothing passes between the agent and anybody.
    Isolate { aim: Aim },
    /// The way to the server is cut and healed so many times, each as long as the fault lasts.
    Flap { aim: Aim, times: u8 },
    /// The way between the agent and the server is slow or loses packets, in both directions.
    Degrade { aim: Aim, delay_ms: u64, jitter_ms: u64, loss_per_mille: u16 },
    /// SIGKILL of the server; it is started again at the end.
    KillServer,
    /// SIGSTOP of the server.
    StopServer,
    /// The faulty disk fails.
    Disk {
        fails: Failure,
        #[serde(default)]
        delay_ms: u64,
    },
}

/// Which agent of the first replication is struck: the role as it is when the fault strikes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Aim {
    Acting,
    Reader,
    Standby,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum From {
    Server,
    Peers,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    Both,
    /// What the agent sends is lost.
    Out,
    /// What is sent to the agent is lost.
    In,
}

/// How the faulty disk fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Failure {
    ReadErrors,
    WriteErrors,
    Full,
    Slow,
    FailedSync,
}

impl Fault {
    /// It changes what the ways of an agent are like.
    #[must_use]
    pub fn is_of_network(self) -> bool {
        matches!(self, Self::Cut { .. } | Self::Isolate { .. } | Self::Flap { .. } | Self::Degrade { .. })
    }

    /// The name of the kind, as in the file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill { .. } => "kill",
            Self::Stop { .. } => "stop",
            Self::Supplant { .. } => "supplant",
            Self::Cut { .. } => "cut",
            Self::Isolate { .. } => "isolate",
            Self::Flap { .. } => "flap",
            Self::Degrade { .. } => "degrade",
            Self::KillServer => "kill-server",
            Self::StopServer => "stop-server",
            Self::Disk { fails: Failure::ReadErrors, .. } => "disk-read-errors",
            Self::Disk { fails: Failure::WriteErrors, .. } => "disk-write-errors",
            Self::Disk { fails: Failure::Full, .. } => "disk-full",
            Self::Disk { fails: Failure::Slow, .. } => "disk-slow",
            Self::Disk { fails: Failure::FailedSync, .. } => "disk-failed-sync",
        }
    }

    #[must_use]
    pub fn aim(self) -> Option<Aim> {
        match self {
            Self::Kill { aim }
            | Self::Stop { aim }
            | Self::Supplant { aim }
            | Self::Cut { aim, .. }
            | Self::Isolate { aim }
            | Self::Flap { aim, .. }
            | Self::Degrade { aim, .. } => Some(aim),
            Self::KillServer | Self::StopServer | Self::Disk { .. } => None,
        }
    }

    fn needs_network(self) -> bool {
        matches!(self, Self::Cut { .. } | Self::Isolate { .. } | Self::Flap { .. } | Self::Degrade { .. })
    }
}

impl Schedule {
    /// # Errors
    /// What is wrong with the text, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let schedule: Self = serde_json::from_str(text).map_err(|error| format!("this is no schedule: {error}"))?;
        schedule.check()?;
        Ok(schedule)
    }

    /// # Errors
    /// Why the file cannot be played, with its name.
    pub fn read(file: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(file).map_err(|error| format!("read {}: {error}", file.display()))?;
        Self::parse(&text).map_err(|error| format!("{}: {error}", file.display()))
    }

    /// The text of the file.
    ///
    /// # Panics
    /// Never: every schedule can be written.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a schedule is JSON") + "\n"
    }

    /// The same with every rule in force.
    #[must_use]
    pub fn with_every_rule(mut self) -> Self {
        self.cluster.without = None;
        self
    }

    /// Whether only root can play it.
    #[must_use]
    pub fn needs_root(&self) -> bool {
        let shape = &self.cluster;
        shape.hosts == Hosts::Network || shape.volumes == Volumes::Loop || shape.faulty.is_some()
    }

    /// # Errors
    /// What is out of bounds or contradicts itself.
    pub fn check(&self) -> Result<(), String> {
        self.cluster.check()?;
        if self.faults.is_empty() || self.faults.len() > MOST_FAULTS {
            return Err(format!("{} faults: between 1 and {MOST_FAULTS} can be played", self.faults.len()));
        }
        if !matches!(self.faults[0].when, Moment::ProgressPercent(_)) {
            return Err("fault 1 follows no other: say `progress_percent`".to_owned());
        }
        self.faults.iter().zip(1..).try_for_each(|(planned, number)| planned.check(number, &self.cluster))
    }
}

impl Shape {
    fn check(&self) -> Result<(), String> {
        let within = |what: &str, value: u64, from: u64, to: u64| {
            let is_within = (from..=to).contains(&value);
            is_within
                .then_some(())
                .ok_or_else(|| format!("cluster: {what} = {value}: between {from} and {to} is possible"))
        };
        let least = if self.form == Form::Direct { 2 } else { 3 };
        within("agents", u64::from(self.agents), least, 8)?;
        within("replications", u64::from(self.replications), 1, 4)?;
        within("size_mib", self.size_mib, 8, 4096)?;
        within("limit_mib_per_second", self.limit_mib_per_second.unwrap_or(1), 1, 4096)?;
        if self.volumes == Volumes::Loop && self.form != Form::Direct {
            return Err("cluster: block devices are reached by every agent: form has to be direct".to_owned());
        }
        Ok(())
    }
}

impl Planned {
    fn check(&self, number: usize, shape: &Shape) -> Result<(), String> {
        let refuse = |why: String| Err(format!("fault {number} ({}): {why}", self.fault.name()));
        match self.when {
            Moment::ProgressPercent(percent) if percent > 95 => {
                return refuse(format!("progress_percent = {percent}: a run is over soon after 95"));
            }
            Moment::AfterMs(ms) if ms > LONGEST_PAUSE_MS => {
                return refuse(format!("after_ms = {ms}: at most {LONGEST_PAUSE_MS} can lie between two faults"));
            }
            Moment::ProgressPercent(_) | Moment::AfterMs(_) => {}
        }
        match self.lasts {
            Lasts::Ms(ms) if ms > LONGEST_MS => {
                return refuse(format!("lasts {ms} ms: {LONGEST_MS} ms is the longest"));
            }
            Lasts::ThroughNextRun if !matches!(self.fault, Fault::Stop { .. } | Fault::Supplant { .. }) => {
                return refuse("only a stopped agent can sleep through the next run".to_owned());
            }
            Lasts::Ms(_) if matches!(self.fault, Fault::Supplant { .. }) => {
                return refuse(
                    "who is supplanted sleeps through the next run: say `\"lasts\": \"through_next_run\"`".to_owned(),
                );
            }
            Lasts::Ms(_) | Lasts::ThroughNextRun => {}
        }
        if self.fault.needs_network() && shape.hosts != Hosts::Network {
            return refuse("there is no network between the hosts: say `\"hosts\": \"network\"`".to_owned());
        }
        match self.fault {
            Fault::Disk { .. } if shape.faulty.is_none() => {
                refuse("nothing lies on a faulty disk: say `\"faulty\": \"storage\"` or `\"store\"`".to_owned())
            }
            Fault::Disk { delay_ms, .. } if delay_ms > LONGEST_MS => {
                refuse(format!("delay_ms = {delay_ms}: {LONGEST_MS} is the longest"))
            }
            Fault::Degrade { loss_per_mille, delay_ms, jitter_ms, .. }
                if loss_per_mille > 1000 || delay_ms > 10_000 || jitter_ms > delay_ms =>
            {
                refuse("loss_per_mille is at most 1000, delay_ms at most 10000, jitter_ms at most delay_ms".to_owned())
            }
            Fault::Kill { .. } if shape.faulty == Some(Faulty::Storage) && shape.volumes == Volumes::Image => {
                let why = "no lock on a file system in user space proves a dead agent quiet";
                refuse(format!("{why}, and no operator is there to say so: say `\"volumes\": \"loop\"`"))
            }
            Fault::Degrade { loss_per_mille: 0, delay_ms: 0, .. } => {
                refuse("without delay and loss nothing is degraded".to_owned())
            }
            Fault::Supplant { .. } if shape.hosts == Hosts::Network => {
                refuse("its port is on this host: say `\"hosts\": \"one\"`".to_owned())
            }
            Fault::Flap { times, .. } if times == 0 || times > 50 => refuse("times is between 1 and 50".to_owned()),
            Fault::Kill { aim: Aim::Reader } | Fault::Stop { aim: Aim::Reader } if shape.form == Form::Direct => {
                refuse("in the direct form nobody reads for another agent: aim at `acting`".to_owned())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: &str = r#"{
        "seed": 7,
        "cluster": { "agents": 3, "hosts": "network", "size_mib": 32, "limit_mib_per_second": 16 },
        "faults": [
            { "when": { "progress_percent": 30 }, "fault": { "kind": "kill", "aim": "acting" }, "lasts": { "ms": 1500 } },
            { "when": { "after_ms": 20 }, "fault": { "kind": "kill-server" }, "lasts": { "ms": 10 } },
            { "when": { "progress_percent": 5 }, "fault": { "kind": "stop", "aim": "acting" }, "lasts": "through_next_run" },
            { "when": { "progress_percent": 5 }, "fault": { "kind": "cut", "aim": "standby", "from": "server", "way": "out" },
              "lasts": { "ms": 3000 } }
        ]
    }"#;

    #[test]
    fn a_schedule_is_read_as_it_is_written() {
        let schedule = Schedule::parse(SOUND).unwrap();
        assert_eq!(Schedule::parse(&schedule.to_json()).unwrap(), schedule);
        assert_eq!(schedule.faults[2].lasts, Lasts::ThroughNextRun);
    }

    #[test]
    fn what_cannot_be_played_is_refused_in_words() {
        let wrong = [
            ("\"seed\": 7", "\"sed\": 7", "unknown field `sed`"),
            ("\"agents\": 3", "\"agents\": 1", "agents = 1"),
            ("\"size_mib\": 32", "\"size_mib\": 0", "size_mib = 0"),
            ("\"progress_percent\": 30", "\"after_ms\": 30", "fault 1 follows no other"),
            ("\"progress_percent\": 30", "\"progress_percent\": 99", "fault 1 (kill): progress_percent = 99"),
            ("\"ms\": 1500", "\"ms\": 61000", "fault 1 (kill): lasts 61000 ms"),
            ("\"ms\": 1500 }", "\"ms\": 1500, \"or\": 2 }", "this is no schedule"),
            ("\"kind\": \"kill\",", "\"kind\": \"slay\",", "unknown variant `slay`"),
            ("\"aim\": \"standby\", ", "\"aim\": \"standby\", \"at\": 3, ", "unknown field `at`"),
            ("\"network\"", "\"own\"", "fault 4 (cut): there is no network"),
            ("\"aim\": \"acting\" }, \"lasts\": { \"ms\"", "\"aim\": \"reader\" }, \"lasts\": { \"ms\"", "direct form"),
            ("{ \"kind\": \"kill-server\" }", "{ \"kind\": \"disk\", \"fails\": \"full\" }", "faulty disk"),
            (
                "\"kind\": \"kill-server\" }, \"lasts\": { \"ms\": 10 }",
                "\"kind\": \"kill-server\" }, \"lasts\": \"through_next_run\"",
                "only a stopped agent",
            ),
        ];
        for (sound, broken, complaint) in wrong {
            assert!(SOUND.contains(sound), "{sound}");
            let refusal = Schedule::parse(&SOUND.replacen(sound, broken, 1)).unwrap_err();
            assert!(refusal.contains(complaint), "'{complaint}' in '{refusal}'");
        }
    }
}
