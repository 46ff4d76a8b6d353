//! Many runs in few numbers: the median, and the least and the most beside it. A ratio is of two runs of one round, and only then of many.

use crate::record::{Record, Sample};

/// Numbers, least first; there is at least one.
#[derive(Clone, Debug, PartialEq)]
pub struct Spread(Vec<f64>);

impl Spread {
    #[must_use]
    pub fn of(mut numbers: Vec<f64>) -> Option<Self> {
        numbers.sort_by(f64::total_cmp);
        (!numbers.is_empty()).then_some(Self(numbers))
    }

    /// Of an even number, the mean of the two in the middle.
    #[must_use]
    pub fn median(&self) -> f64 {
        let middle = self.0.len() / 2;
        let upper = self.0.get(middle).copied().unwrap_or_default();
        let lower = self.0.get(middle.wrapping_sub(1)).copied().unwrap_or(upper);
        if self.0.len() % 2 == 1 { upper } else { f64::midpoint(lower, upper) }
    }

    #[must_use]
    pub fn least(&self) -> f64 {
        self.0.first().copied().unwrap_or_default()
    }

    #[must_use]
    pub fn most(&self) -> f64 {
        self.0.last().copied().unwrap_or_default()
    }

    /// `1.20 (1.10-1.35)`
    #[must_use]
    pub fn in_words(&self) -> String {
        let digits = |number: f64| if number < 100.0 { format!("{number:.2}") } else { format!("{number:.0}") };
        format!("{} ({}-{})", digits(self.median()), digits(self.least()), digits(self.most()))
    }
}

/// Of every round of a case.
#[must_use]
pub fn spread(record: &Record, row: &str, case: &str, of: impl Fn(&Sample) -> Option<f64>) -> Option<Spread> {
    Spread::of(record.runs(row, case).values().filter_map(|sample| of(sample)).collect())
}

/// Of every round in which both were measured.
#[must_use]
pub fn paired(
    record: &Record,
    row: &str,
    [case, beside]: [&str; 2],
    of: impl Fn(&Sample, &Sample) -> Option<f64>,
) -> Option<Spread> {
    let others = record.runs(row, beside);
    let pairs = record.runs(row, case).into_iter().filter_map(|(round, sample)| Some((sample, *others.get(&round)?)));
    Spread::of(pairs.filter_map(|(sample, other)| of(sample, other)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_and_its_spread() {
        assert_eq!(Spread::of(vec![3.0, 1.0, 2.0]).unwrap().in_words(), "2.00 (1.00-3.00)");
        assert_eq!(Spread::of(vec![4.0, 1.0]).unwrap().median(), 2.5);
        assert_eq!(Spread::of(vec![]), None);
    }

    #[test]
    fn a_ratio_is_of_one_round() {
        let sample = |case: &str, round, wall_s| Sample {
            row: "local".to_owned(),
            case: case.to_owned(),
            round,
            wall_s,
            cpu_s: 1.0,
            peak_mib: 1.0,
            wire_mib: None,
            again_mib: None,
        };
        let samples = vec![sample("a", 1, 2.0), sample("a", 2, 30.0), sample("b", 2, 10.0), sample("b", 1, 1.0)];
        let mut record = Record::default();
        record.samples = samples;
        let ratio = paired(&record, "local", ["a", "b"], |a, b| Some(a.wall_s / b.wall_s)).unwrap();
        assert_eq!(ratio.in_words(), "2.50 (2.00-3.00)");
    }
}
