//! Measured takeovers, one a line, as tab-separated values: the fault, milliseconds since it, and bytes. Lines before them say how they came about.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};

const HEAD: &str = "fault\tdetected_ms\tfenced_ms\twrote_ms\tagain_bytes";

/// What a file holds.
#[derive(Debug, Default)]
pub struct Measured {
    about: BTreeMap<String, String>,
    rows: BTreeMap<String, Row>,
}

/// The takeovers after one kind of fault.
#[derive(Clone, Debug, Default)]
pub struct Row {
    pub fault: String,
    pub takeovers: usize,
    pub detected: Times,
    pub fenced: Times,
    pub wrote: Times,
    pub most_again_bytes: u64,
}

/// Milliseconds, shortest first.
#[derive(Clone, Debug, Default)]
pub struct Times(Vec<f64>);

impl Times {
    fn add(&mut self, ms: f64) {
        let place = self.0.partition_point(|other| *other <= ms);
        self.0.insert(place, ms);
    }

    /// By the nearest rank; zero if there are none.
    pub fn percentile(&self, percent: usize) -> f64 {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        self.0.get(rank - 1).copied().unwrap_or_default()
    }

    pub fn most(&self) -> f64 {
        self.percentile(100)
    }

    /// Median and 99th percentile.
    pub fn in_words(&self) -> String {
        let digits = |ms: f64| if ms < 10.0 { format!("{ms:.1}") } else { format!("{ms:.0}") };
        format!("{} / {}", digits(self.percentile(50)), digits(self.percentile(99)))
    }
}

impl Measured {
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let mut measured = Self::default();
        let mut lines = text.lines();
        let head = lines.by_ref().find(|line| measured.note(line).is_none());
        if head != Some(HEAD) {
            bail!("the takeovers begin with the line {HEAD:?}");
        }
        for line in lines {
            measured.add(line).with_context(|| format!("{line:?} is no takeover"))?;
        }
        Ok(measured)
    }

    /// `# what: value`
    fn note(&mut self, line: &str) -> Option<()> {
        let (what, value) = line.strip_prefix("# ")?.split_once(": ")?;
        self.about.insert(what.to_owned(), value.to_owned());
        Some(())
    }

    fn add(&mut self, line: &str) -> anyhow::Result<()> {
        let words: Vec<&str> = line.split('\t').collect();
        let [fault, detected, fenced, wrote, again] = words[..] else { bail!("it has {} values", words.len()) };
        let times = [detected, fenced, wrote].map(str::parse::<f64>);
        let [Ok(detected), Ok(fenced), Ok(wrote)] = times else { bail!("its times are no numbers") };
        if !(0.0 <= detected && detected <= fenced && fenced <= wrote && wrote.is_finite()) {
            bail!("its moments do not follow each other");
        }
        let row = self.rows.entry(fault.to_owned()).or_default();
        row.fault = fault.to_owned();
        row.takeovers += 1;
        row.most_again_bytes = row.most_again_bytes.max(again.parse()?);
        row.detected.add(detected);
        row.fenced.add(fenced);
        row.wrote.add(wrote);
        Ok(())
    }

    pub fn about(&self, what: &str) -> Option<&str> {
        self.about.get(what).map(String::as_str)
    }

    pub fn row(&self, fault: &str) -> Option<Row> {
        self.rows.get(fault).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_and_a_broken_line_is_refused() {
        let file = |lines: &str| format!("# cpus: 2\n{HEAD}\n{lines}");
        let takeovers: String = (1..=200).rev().map(|n| format!("crash\t0.5\t1.0\t{n}.0\t{n}\n")).collect();
        let measured = Measured::parse(&file(&takeovers)).unwrap();
        let row = measured.row("crash").unwrap();
        assert_eq!((measured.about("cpus"), row.takeovers, row.most_again_bytes), (Some("2"), 200, 200));
        assert_eq!([1, 50, 99, 100].map(|percent| row.wrote.percentile(percent)), [2.0, 100.0, 198.0, 200.0]);
        assert_eq!(row.detected.in_words(), "0.5 / 0.5");
        for broken in
            ["crash\t1\t2\t3", "crash\t2\t1\t3\t0", "crash\t-1\t2\t3\t0", "crash\t1\t2\tNaN\t0", "crash\t1\t2\t3\tx"]
        {
            assert!(Measured::parse(&file(broken)).is_err(), "{broken}");
        }
        assert!(Measured::parse("crash\t1\t2\t3\t4").is_err());
    }
}
