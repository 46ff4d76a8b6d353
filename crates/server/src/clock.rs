//! The clocks, read where an input is handled. Decisions get the reading as an argument.

use std::sync::LazyLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tanist_model::time::{Monotonic, Now, Timestamp};

static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Both clocks. The monotonic one counts from the first reading in this process.
pub fn now() -> Now {
    Now { monotonic: Monotonic(0).plus(ORIGIN.elapsed()), wall: wall() }
}

/// The wall clock; before 1970 it stands still.
pub fn wall() -> Timestamp {
    Timestamp(0).plus(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}
