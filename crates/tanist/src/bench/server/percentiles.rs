//! A distribution of times in five numbers.

use std::time::Duration;

use serde::Serialize;

/// Of so many times; by nearest rank.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub(super) struct Percentiles {
    pub(super) count: usize,
    pub(super) median_ms: f64,
    pub(super) p90_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) most_ms: f64,
}

impl Percentiles {
    /// `None` of no times at all.
    pub(super) fn of(mut times: Vec<Duration>) -> Option<Self> {
        times.sort_unstable();
        let most = times.last()?;
        let at = |percent: usize| {
            let rank = (times.len() * percent).div_ceil(100).max(1);
            times.get(rank - 1).copied().map_or(0.0, milliseconds)
        };
        Some(Self {
            count: times.len(),
            median_ms: at(50),
            p90_ms: at(90),
            p99_ms: at(99),
            most_ms: milliseconds(*most),
        })
    }
}

/// To a tenth.
fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 10_000.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_time_that_was_measured() {
        let times = (1..=200).rev().map(Duration::from_millis).collect();
        let of = Percentiles::of(times).unwrap();
        assert_eq!((of.count, of.median_ms, of.p90_ms, of.p99_ms, of.most_ms), (200, 100.0, 180.0, 198.0, 200.0));
        let one = Percentiles::of(vec![Duration::from_micros(1250)]).unwrap();
        assert_eq!((one.median_ms, one.p99_ms), (1.3, 1.3));
        assert_eq!(Percentiles::of(Vec::new()), None);
    }
}
