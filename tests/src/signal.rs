//! The faults that are sent: a process killed, stopped, woken.

use rustix::process::{Pid, Signal, kill_process};
use tanist_model::time::Timestamp;

/// The wall clock, to measure faults against the records of the server on the same machine.
#[must_use]
pub fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp(0).plus(since)
}

/// Sends a signal, and tells when.
///
/// # Panics
/// If there is no such process: the test believed one.
pub fn send(process: u32, signal: Signal) -> Timestamp {
    let pid = i32::try_from(process).ok().and_then(Pid::from_raw).expect("a process id");
    let at = now();
    kill_process(pid, signal).unwrap_or_else(|error| panic!("{signal:?} to process {process}: {error}"));
    at
}
