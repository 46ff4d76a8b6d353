//! The two clocks, read together where an input enters the machine.

use std::sync::LazyLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tanist_model::time::{Monotonic, Now, Timestamp};

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

#[must_use]
pub fn wall() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

#[must_use]
pub fn now() -> Now {
    let elapsed = START.elapsed();
    Now { monotonic: Monotonic(u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX)), wall: wall() }
}
