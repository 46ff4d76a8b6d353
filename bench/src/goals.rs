//! What was set as a goal, row by row, and whether it is kept. Of several rounds the median decides.

use crate::ratio::{Spread, paired, spread};
use crate::record::{Record, Sample};

/// What a row is about.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    pub name: &'static str,
    pub title: &'static str,
    /// What all of its cases are compared with.
    pub beside: &'static str,
}

/// In the order of the page.
pub const ROWS: [Row; 7] = [
    Row { name: "local", title: "A full copy on one host, durable", beside: "dd" },
    Row { name: "network", title: "A full copy over the network", beside: "nbdcopy, TCP" },
    Row { name: "same-warm", title: "Nothing changed, both volumes in the cache", beside: "probe" },
    Row { name: "same-cold", title: "Nothing changed, neither in the cache", beside: "probe" },
    Row { name: "changed-warm", title: "1 % of the 4 KiB blocks changed, both in the cache", beside: "probe" },
    Row { name: "killed", title: "Killed when half is durable, over the network", beside: "full copy" },
    Row { name: "memory", title: "The memory of an agent with its default settings", beside: "one run" },
];

/// Rows of the table of goals that nothing here measures.
pub const NOT_BUILT: [(&str, &str); 2] = [
    ("1 % changed, changed extents known: at most 0.1 of the full scan", "not measured: no case of it yet"),
    (
        "10,000 idle agents on one server: at most 5 % of a core and 20 KiB a connection; 1,000 takeovers at once",
        "measured by `tanist bench server`: [how many agents a server bears](scale.md)",
    ),
];

/// What is measured for a goal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    /// Wall time, as a multiple of another case's.
    Wall,
    /// CPU of both ends, as a multiple of another case's.
    Cpu,
    /// CPU seconds of both ends for each GiB of the volume.
    CpuPerGib,
    /// MiB sent for each GiB of the volume.
    WirePerGib,
    /// MiB sent beyond what another case sends.
    WireBeyond,
    /// MiB that a run passed again.
    Again,
    /// The most MiB in memory.
    Peak,
    /// The same beyond another case's, for each of two further runs.
    PeakBeyond,
}

/// One goal.
#[derive(Clone, Copy, Debug)]
pub struct Goal {
    pub row: &'static str,
    pub case: &'static str,
    pub what: What,
    /// The other case, where there is one.
    pub beside: &'static str,
    pub most: f64,
}

const fn goal(row: &'static str, case: &'static str, what: What, beside: &'static str, most: f64) -> Goal {
    Goal { row, case, what, beside, most }
}

const STORED: &str = "tanist, stored digests";

pub const GOALS: [Goal; 22] = [
    goal("local", "tanist", What::Wall, "dd", 1.0),
    goal("local", "tanist", What::Cpu, "dd", 1.5),
    goal("local", "tanist, defaults", What::Wall, "dd", 1.6),
    goal("local", "tanist, defaults", What::Cpu, "dd", 2.2),
    goal("network", "tanist", What::Wall, "nbdcopy, TCP", 1.05),
    goal("network", "tanist", What::CpuPerGib, "", 1.2),
    goal("same-warm", "tanist", What::Wall, "probe", 1.15),
    goal("same-warm", "tanist", What::WirePerGib, "", 0.5),
    goal("same-warm", STORED, What::Wall, "tanist", 0.6),
    goal("same-cold", "tanist", What::Wall, "probe", 1.05),
    goal("same-cold", "tanist", What::CpuPerGib, "", 0.45),
    goal("same-cold", STORED, What::Wall, "tanist", 0.6),
    goal("changed-warm", "tanist", What::Wall, "probe", 1.6),
    goal("changed-warm", "tanist", What::WirePerGib, "", 12.0),
    goal("killed", "reader killed", What::Again, "", 256.0),
    goal("killed", "reader killed", What::WireBeyond, "full copy", 256.0),
    goal("killed", "reader killed", What::Wall, "full copy", 0.6),
    goal("killed", "holder killed", What::Again, "", 256.0),
    goal("killed", "holder killed", What::WireBeyond, "full copy", 256.0),
    goal("killed", "holder killed", What::Wall, "full copy", 0.6),
    goal("memory", "one run", What::Peak, "", 64.0),
    goal("memory", "200 GiB, sparse", What::Peak, "", 64.0),
];

/// Beside the one before: it has another unit.
pub const FURTHER_RUN: Goal = goal("memory", "three runs at once", What::PeakBeyond, "one run", 24.0);

/// All of them.
pub fn all() -> impl Iterator<Item = Goal> {
    GOALS.into_iter().chain([FURTHER_RUN])
}

impl Goal {
    /// What came out, if it was measured.
    #[must_use]
    pub fn result(&self, record: &Record) -> Option<Spread> {
        let gib = record.about("size_mib")?.parse::<f64>().ok()? / 1024.0;
        let alone = |of: fn(&Sample) -> Option<f64>| spread(record, self.row, self.case, of);
        let both = |of: fn(&Sample, &Sample) -> Option<f64>| paired(record, self.row, [self.case, self.beside], of);
        match self.what {
            What::Wall => both(|ours, other| Some(ours.wall_s / other.wall_s)),
            What::Cpu => both(|ours, other| Some(ours.cpu_s / other.cpu_s)),
            What::CpuPerGib => spread(record, self.row, self.case, |ours| Some(ours.cpu_s / gib)),
            What::WirePerGib => spread(record, self.row, self.case, |ours| Some(ours.wire_mib? / gib)),
            What::WireBeyond => both(|ours, other| Some((ours.wire_mib? - other.wire_mib?).max(0.0))),
            What::Again => alone(|ours| ours.again_mib),
            What::Peak => alone(|ours| Some(ours.peak_mib)),
            What::PeakBeyond => both(|ours, other| Some((ours.peak_mib - other.peak_mib).max(0.0) / 2.0)),
        }
    }

    #[must_use]
    pub fn is_kept(&self, result: &Spread) -> bool {
        result.median() <= self.most
    }

    /// `wall time at most 1 x dd`
    #[must_use]
    pub fn in_words(&self) -> String {
        let (most, beside) = (self.most, self.beside);
        match self.what {
            What::Wall => format!("wall time at most {most} of {beside}"),
            What::Cpu => format!("CPU at most {most} of {beside}"),
            What::CpuPerGib => format!("CPU of both ends at most {most} s a GiB"),
            What::WirePerGib => format!("sent at most {most} MiB a GiB"),
            What::WireBeyond => format!("sent at most {most} MiB beyond a {beside}"),
            What::Again => format!("passed again at most {most} MiB"),
            What::Peak => format!("memory at most {most} MiB"),
            What::PeakBeyond => format!("memory at most {most} MiB more for each further run"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_goal_belongs_to_a_case_of_its_row() {
        for goal in all() {
            let names: Vec<&str> = crate::cases::of(goal.row).iter().map(|case| case.name()).collect();
            assert!(names.contains(&goal.case), "{goal:?}");
            assert!(goal.beside.is_empty() || names.contains(&goal.beside), "{goal:?}");
        }
        for row in ROWS {
            assert!(crate::cases::of(row.name).iter().any(|case| case.name() == row.beside), "{row:?}");
        }
    }

    #[test]
    fn the_median_decides() {
        let mut record = Record::default();
        record.note("size_mib", "2048");
        for (round, cpu_s) in [(1, 2.0), (2, 2.5), (3, 9.0)] {
            record.samples.push(Sample {
                row: "network".to_owned(),
                case: "tanist".to_owned(),
                round,
                wall_s: 1.0,
                cpu_s,
                peak_mib: 1.0,
                wire_mib: None,
                again_mib: None,
            });
        }
        let goal = GOALS.into_iter().find(|goal| goal.row == "network" && goal.what == What::CpuPerGib).unwrap();
        let result = goal.result(&record).unwrap();
        assert_eq!((result.in_words().as_str(), goal.is_kept(&result)), ("1.25 (1.00-4.50)", false));
        assert!(Goal { most: 1.3, ..goal }.is_kept(&result));
    }
}
