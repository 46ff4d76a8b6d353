//! Waiting for a condition with a deadline: the one place where the tests sleep.

use std::time::{Duration, Instant};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Looks until there is something to see, and says what was waited for if there never is.
///
/// # Panics
/// At the deadline.
pub fn until<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    until_or(limit, &mut look).unwrap_or_else(|| panic!("waited {} s in vain: {what}", limit.as_secs()))
}

/// Looks until there is something to see, or the time is over.
pub fn until_or<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(seen) = look() {
            return Some(seen);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Lets time pass where the moment itself is what a test varies, or the length of a fault.
pub fn pass(time: Duration) {
    std::thread::sleep(time);
}
