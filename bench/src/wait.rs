//! Waiting for a condition, with a deadline. Nothing else here lets time pass.

use std::time::{Duration, Instant};

use anyhow::bail;

const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What the condition gives, once it gives something.
///
/// # Errors
/// If it gives nothing until the limit.
pub fn until<T>(what: &str, limit: Duration, mut condition: impl FnMut() -> Option<T>) -> anyhow::Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = condition() {
            return Ok(value);
        }
        if Instant::now() >= deadline {
            bail!("{what}: not within {} s", limit.as_secs());
        }
        std::thread::park_timeout(LOOK_EVERY);
    }
}
