//! What was measured, one run a line, as tab-separated values. Lines before them say how it came about.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context as _, bail};

const HEAD: &str = "row\tcase\tround\twall_s\tcpu_s\tpeak_mib\twire_mib\tagain_mib";
const THREADS_HEAD: &str = "row\tcase\tround\tprocess\tthread\tcpu_s";
/// Where nothing could be measured.
const NONE: &str = "-";

/// One run of one case.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub row: String,
    pub case: String,
    pub round: u64,
    pub wall_s: f64,
    pub cpu_s: f64,
    pub peak_mib: f64,
    pub wire_mib: Option<f64>,
    /// What a run passed more than once.
    pub again_mib: Option<f64>,
}

/// What the threads of one name took in one run.
#[derive(Clone, Debug, PartialEq)]
pub struct ThreadTime {
    pub row: String,
    pub case: String,
    pub round: u64,
    pub process: String,
    pub thread: String,
    pub cpu_s: f64,
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// In the order in which they were noted.
    about: Vec<(String, String)>,
    pub samples: Vec<Sample>,
}

impl Record {
    pub fn note(&mut self, what: &str, value: impl Into<String>) {
        self.about.push((what.to_owned(), value.into()));
    }

    #[must_use]
    pub fn about(&self, what: &str) -> Option<&str> {
        self.about.iter().find(|(name, _)| name == what).map(|(_, value)| value.as_str())
    }

    /// What was noted under names that begin so, without that beginning.
    pub fn notes<'a>(&'a self, begin: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.about.iter().filter_map(move |(name, value)| Some((name.strip_prefix(begin)?, value.as_str())))
    }

    /// The runs of a case, by round.
    #[must_use]
    pub fn runs(&self, row: &str, case: &str) -> BTreeMap<u64, &Sample> {
        let its = self.samples.iter().filter(|sample| sample.row == row && sample.case == case);
        its.map(|sample| (sample.round, sample)).collect()
    }

    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (what, value) in &self.about {
            let _ = writeln!(text, "# {what}: {value}");
        }
        let _ = writeln!(text, "{HEAD}");
        for s in &self.samples {
            let (wire, again) = (optional(s.wire_mib), optional(s.again_mib));
            let _ = writeln!(
                text,
                "{}\t{}\t{}\t{:.3}\t{:.3}\t{:.1}\t{wire}\t{again}",
                s.row, s.case, s.round, s.wall_s, s.cpu_s, s.peak_mib
            );
        }
        text
    }

    /// # Errors
    /// If it is no such text, with the line.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let mut record = Self::default();
        let mut lines = text.lines();
        for line in lines.by_ref() {
            match line.strip_prefix("# ").and_then(|note| note.split_once(": ")) {
                Some((what, value)) => record.note(what, value),
                None if line == HEAD => break,
                None => bail!("{line:?} stands before the runs"),
            }
        }
        for line in lines {
            record.samples.push(sample(line).with_context(|| format!("{line:?} is no run"))?);
        }
        Ok(record)
    }
}

fn optional(value: Option<f64>) -> String {
    value.map_or_else(|| NONE.to_owned(), |value| format!("{value:.2}"))
}

fn sample(line: &str) -> anyhow::Result<Sample> {
    let words: Vec<&str> = line.split('\t').collect();
    let [row, case, round, wall, cpu, peak, wire, again] = words[..] else { bail!("it has {} values", words.len()) };
    let maybe = |text: &str| if text == NONE { Ok(None) } else { number(text).map(Some) };
    Ok(Sample {
        row: row.to_owned(),
        case: case.to_owned(),
        round: round.parse()?,
        wall_s: number(wall)?,
        cpu_s: number(cpu)?,
        peak_mib: number(peak)?,
        wire_mib: maybe(wire)?,
        again_mib: maybe(again)?,
    })
}

fn number(text: &str) -> anyhow::Result<f64> {
    let number: f64 = text.parse()?;
    if number.is_finite() && number >= 0.0 { Ok(number) } else { bail!("{text} is no measure") }
}

#[must_use]
pub fn threads_text(times: &[ThreadTime]) -> String {
    let mut text = format!("{THREADS_HEAD}\n");
    for t in times {
        let _ = writeln!(text, "{}\t{}\t{}\t{}\t{}\t{:.4}", t.row, t.case, t.round, t.process, t.thread, t.cpu_s);
    }
    text
}

/// # Errors
/// If it is no such text, with the line.
pub fn parse_threads(text: &str) -> anyhow::Result<Vec<ThreadTime>> {
    let mut lines = text.lines();
    if lines.next() != Some(THREADS_HEAD) {
        bail!("the threads begin with the line {THREADS_HEAD:?}");
    }
    lines.map(|line| thread(line).with_context(|| format!("{line:?} is no thread"))).collect()
}

fn thread(line: &str) -> anyhow::Result<ThreadTime> {
    let words: Vec<&str> = line.split('\t').collect();
    let [row, case, round, process, thread, cpu] = words[..] else { bail!("it has {} values", words.len()) };
    let [row, case, process, thread] = [row, case, process, thread].map(ToOwned::to_owned);
    Ok(ThreadTime { row, case, round: round.parse()?, process, thread, cpu_s: number(cpu)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_a_broken_line_is_refused() {
        let mut record = Record::default();
        record.note("cpus", "2");
        record.note("tool dd", "9.1");
        let sample = |round, wire_mib| Sample {
            row: "local".to_owned(),
            case: "dd".to_owned(),
            round,
            wall_s: 1.5,
            cpu_s: 0.25,
            peak_mib: 3.0,
            wire_mib,
            again_mib: None,
        };
        record.samples = vec![sample(1, None), sample(2, Some(7.25))];
        let read = Record::parse(&record.text()).unwrap();
        assert_eq!((read.about("cpus"), read.samples.clone()), (Some("2"), record.samples.clone()));
        assert_eq!(read.notes("tool ").collect::<Vec<_>>(), [("dd", "9.1")]);
        assert_eq!(read.runs("local", "dd").len(), 2);
        for broken in
            ["local\tdd\t1\t1.0\t1.0\t1.0\t-", "local\tdd\t1\t-1\t1\t1\t-\t-", "local\tdd\t1\tNaN\t1\t1\t-\t-"]
        {
            assert!(Record::parse(&format!("{}{broken}\n", record.text())).is_err(), "{broken}");
        }
        assert!(Record::parse("local\tdd\n").is_err());
    }

    #[test]
    fn threads_are_read_as_they_were_written() {
        let [row, case, process, thread] = ["local", "tanist", "h5", "source"].map(ToOwned::to_owned);
        let times = [ThreadTime { row, case, round: 1, process, thread, cpu_s: 0.125 }];
        assert_eq!(parse_threads(&threads_text(&times)).unwrap(), times);
        assert!(parse_threads("row\n").is_err());
    }
}
