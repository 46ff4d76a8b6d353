//! Random numbers of the operating system.

use tanist_model::id::{ClusterId, CommandId};

/// 128 bits.
///
/// # Errors
/// Only if the operating system gives none.
pub fn wide() -> Result<u128, getrandom::Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    Ok(u128::from_be_bytes(bytes))
}

/// # Errors
/// As [`wide`].
pub fn command_id() -> Result<CommandId, getrandom::Error> {
    wide().map(CommandId)
}

/// # Errors
/// As [`wide`].
pub fn cluster_id() -> Result<ClusterId, getrandom::Error> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes)?;
    Ok(ClusterId(u64::from_be_bytes(bytes)))
}
