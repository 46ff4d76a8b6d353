//! What the end-to-end tests are made of: a cluster of real processes, faults, volumes, and the questions asked afterwards.
//!
//! Nothing here knows how tanist works inside. The tests see what an operator sees (commands and their JSON), what a kernel sees
//! (processes, signals) and what a disk holds (files).

#![forbid(unsafe_code)]

pub mod answer;
pub mod chaos;
pub mod cluster;
pub mod compare;
pub mod counter;
pub mod faulty_disk;
pub mod figures;
pub mod forwarder;
pub mod loop_device;
pub mod mounted;
pub mod nbd_server;
pub mod network;
pub mod process;
pub mod random;
pub mod scene;
pub mod signal;
pub mod story;
pub mod throttle;
pub mod twin;
pub mod volume;
pub mod wait;

/// Where the program under test is and where tests may write. Of a test, both are fixed when it is compiled.
#[derive(Clone, Copy, Debug)]
pub struct Build {
    pub program: &'static str,
    pub scratch: &'static str,
}

/// The [`Build`] of the test that says it.
#[macro_export]
macro_rules! build {
    () => {
        $crate::Build { program: env!("CARGO_BIN_EXE_tanist-test-build"), scratch: env!("CARGO_TARGET_TMPDIR") }
    };
}

/// A number that `make proof` raises and a developer may set.
///
/// # Panics
/// If the variable is not a number.
#[must_use]
pub fn setting(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")),
        Err(_) => default,
    }
}
