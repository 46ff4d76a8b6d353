//! How long to wait before what failed is tried again.

use std::time::Duration;

/// Each failure in a row doubles the wait, up to a cap. Up to a quarter of it is taken off, by how much depends on the key alone:
/// replications that fail together (a storage system is away) do not come back in the same second, and a wait computed
/// again is the same wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Backoff {
    /// The wait after the first failure, before the quarter.
    pub first: Duration,
    /// No wait is longer.
    pub cap: Duration,
}

impl Default for Backoff {
    /// From five seconds to ten minutes.
    fn default() -> Self {
        Self { first: Duration::from_secs(5), cap: Duration::from_secs(600) }
    }
}

impl Backoff {
    /// The wait after `failures` in a row; none after none. `key` is the identity of what is tried, a replication for example.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tanist_model::schedule::Backoff;
    ///
    /// let backoff = Backoff { first: Duration::from_secs(4), cap: Duration::from_secs(60) };
    /// assert_eq!(backoff.retry_after(0, 7), Duration::ZERO);
    /// assert!((3..=4).contains(&backoff.retry_after(1, 7).as_secs()));
    /// assert!((45..=60).contains(&backoff.retry_after(100, 7).as_secs()));
    /// ```
    #[must_use]
    pub fn retry_after(self, failures: u32, key: u64) -> Duration {
        let Some(doublings) = failures.checked_sub(1) else { return Duration::ZERO };
        let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
        let longest = self.first.saturating_mul(factor).min(self.cap);
        longest.saturating_sub(share(longest / 4, scatter(key, failures)))
    }
}

/// `numerator / 2^32` of a duration, rounded down.
fn share(whole: Duration, numerator: u32) -> Duration {
    let nanos = (whole.as_nanos() * u128::from(numerator)) >> 32;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// The finalizer of SplitMix64: neighbouring keys and failures give unrelated numbers.
fn scatter(key: u64, failures: u32) -> u32 {
    let mut z = key ^ u64::from(failures).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    u32::try_from((z ^ (z >> 31)) >> 32).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn waits_lie_between_three_quarters_and_the_whole(failures in 1..200_u32, key: u64) {
            let whole = Duration::from_secs(5).saturating_mul(2_u32.saturating_pow(failures - 1)).min(Duration::from_secs(600));
            let wait = Backoff::default().retry_after(failures, key);
            prop_assert!(wait <= whole && wait >= whole * 3 / 4, "{wait:?} of {whole:?}");
        }

        #[test]
        fn a_further_failure_never_shortens_the_wait_below_the_cap(failures in 0..7_u32, key: u64) {
            let backoff = Backoff::default();
            prop_assert!(backoff.retry_after(failures + 1, key) > backoff.retry_after(failures, key));
        }
    }

    #[test]
    fn keys_are_spread_over_the_quarter() {
        let backoff = Backoff { first: Duration::from_secs(400), cap: Duration::from_secs(400) };
        let waits: BTreeSet<u64> = (0..1000).map(|key| backoff.retry_after(1, key).as_secs()).collect();
        assert!(waits.len() > 95, "1000 keys come back in {} different seconds of 100", waits.len());
    }

    #[test]
    fn no_number_overflows() {
        let endless = Backoff { first: Duration::MAX, cap: Duration::MAX };
        assert!(endless.retry_after(u32::MAX, u64::MAX) > Duration::from_secs(u64::MAX / 2));
    }
}
