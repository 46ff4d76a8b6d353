//! The bandwidth limit: a token bucket as a pure function of time.
//!
//! It lends: what is granted is paid for by the wait before the next grant. So a limit below one block a second still makes
//! progress, and a successor's first block does not wait.

use std::time::{Duration, Instant};

/// Bytes per second, never zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct BytesPerSecond(std::num::NonZeroU64);

impl BytesPerSecond {
    /// `None` for zero, which would be a stop and not a limit.
    #[must_use]
    pub fn new(bytes: u64) -> Option<Self> {
        std::num::NonZeroU64::new(bytes).map(Self)
    }

    #[must_use]
    pub fn get(self) -> u64 {
        self.0.get()
    }
}

/// How long unused bandwidth is saved up.
const BURST: Duration = Duration::from_millis(50);

/// Tokens are time: `paid_until` is when everything granted so far will have been paid for.
#[derive(Clone, Copy, Debug)]
pub struct TokenBucket {
    rate: BytesPerSecond,
    paid_until: Instant,
}

impl TokenBucket {
    #[must_use]
    pub fn new(rate: BytesPerSecond, now: Instant) -> Self {
        Self { rate, paid_until: now }
    }

    /// From when on the next request may be granted.
    #[must_use]
    pub fn ready_at(&self) -> Instant {
        self.paid_until
    }

    /// Grants `bytes` at `now`; it is paid for afterwards, by the wait before the next one.
    pub fn grant(&mut self, bytes: u64, now: Instant) {
        let start = self.paid_until.max(now.checked_sub(BURST).unwrap_or(now));
        self.paid_until = start + self.price(bytes);
    }

    fn price(&self, bytes: u64) -> Duration {
        let nanoseconds = u128::from(bytes) * 1_000_000_000 / u128::from(self.rate.get());
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX / 4))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(bytes: u64) -> BytesPerSecond {
        BytesPerSecond::new(bytes).unwrap()
    }

    #[test]
    fn a_busy_stream_keeps_to_the_rate() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(rate(10_000_000), start);
        let end = (0..100).fold(start, |now, _| {
            bucket.grant(1_000_000, now);
            bucket.ready_at().max(now)
        });
        let seconds = (end - start).as_secs_f64();
        assert!((9.9..=10.0).contains(&seconds), "{seconds}");
    }

    #[test]
    fn idle_time_saves_up_no_more_than_the_burst() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(rate(1000), start);
        let later = start + Duration::from_secs(3600);
        bucket.grant(1000, later);
        assert_eq!(bucket.ready_at(), later + Duration::from_millis(950));
    }

    #[test]
    fn a_tiny_limit_does_not_overflow() {
        let now = Instant::now();
        let mut bucket = TokenBucket::new(rate(1), now);
        assert_eq!(bucket.ready_at(), now, "the first grant is not waited for");
        bucket.grant(1 << 30, now);
        assert!(bucket.ready_at() > now);
        assert_eq!(BytesPerSecond::new(0), None);
    }
}
