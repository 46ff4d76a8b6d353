//! How much the server starts at once, and what it calls slow. The operator's to set; they bound load, never what is safe.

use serde::{Deserialize, Serialize};

/// The limits of a server, with the product's defaults.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Limits {
    /// Runs in progress at once.
    pub runs: u32,
    /// Runs in progress at once whose target one agent writes.
    pub runs_per_agent: u32,
    /// A run that commits less than this per second is slow, whatever it did before.
    pub slow_bytes_per_second: u64,
}

impl Limits {
    pub const DEFAULT: Self = Self { runs: 100, runs_per_agent: 8, slow_bytes_per_second: 1 << 20 };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}
