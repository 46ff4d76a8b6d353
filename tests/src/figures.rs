//! Times that were measured again and again: how they are told, and what is demanded of them.

use std::time::Duration;

/// With fewer samples, one that the machine disturbed is the 99th percentile.
const SAMPLES_FOR_A_PERCENTILE: usize = 50;

/// Measured times, shortest first.
#[derive(Clone, Debug)]
pub struct Figures(Vec<Duration>);

impl Figures {
    #[must_use]
    pub fn of(mut times: Vec<Duration>) -> Self {
        times.sort();
        Self(times)
    }

    /// By the nearest rank.
    ///
    /// # Panics
    /// If nothing was measured.
    #[must_use]
    pub fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        *self.0.get(rank - 1).expect("something was measured")
    }

    /// Prints them and demands the goal: of the 99th percentile if there are enough of them, else of the median. None may take longer
    /// than the limit, whatever else the machine does.
    ///
    /// # Panics
    /// If it is not so.
    #[track_caller]
    pub fn assert_within(&self, what: &str, goal: Duration, limit: Duration) {
        let ms = |percent| self.percentile(percent).as_millis();
        println!(
            "{what}, {} times: min {} ms, median {} ms, p90 {} ms, p99 {} ms, max {} ms",
            self.0.len(),
            ms(0),
            ms(50),
            ms(90),
            ms(99),
            ms(100)
        );
        let decisive = if self.0.len() >= SAMPLES_FOR_A_PERCENTILE { 99 } else { 50 };
        let (measured, worst) = (self.percentile(decisive), self.percentile(100));
        assert!(measured <= goal, "{what}: percentile {decisive} is {measured:?}, and {goal:?} is the goal");
        assert!(worst <= limit, "{what}: the slowest took {worst:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(millis: impl Iterator<Item = u64>) -> Figures {
        Figures::of(millis.map(Duration::from_millis).collect())
    }

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let figures = measured((1..=200).rev());
        let percentiles = [0, 1, 50, 99, 100].map(|percent| figures.percentile(percent).as_millis());
        assert_eq!(percentiles, [1, 2, 100, 198, 200]);
        assert_eq!(measured([7].into_iter()).percentile(99).as_millis(), 7);
    }

    #[test]
    fn few_are_judged_by_their_median() {
        let (goal, limit) = (Duration::from_millis(100), Duration::from_millis(900));
        measured([1, 2, 800].into_iter()).assert_within("few", goal, limit);
        let many = measured((1..=98).chain([800, 800]));
        assert!(std::panic::catch_unwind(|| many.assert_within("many", goal, limit)).is_err());
        let slow = measured([1, 2, 901].into_iter());
        assert!(std::panic::catch_unwind(|| slow.assert_within("slow", goal, limit)).is_err());
    }
}
