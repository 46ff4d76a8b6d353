//! Taking a stopped server back to a backup of its store. The epoch rule is the store's: nothing is granted afterwards until
//! every known agent has shown its highest epochs.

use std::path::Path;

use tanist_store::RestoreReport;

use crate::ServerError;
use crate::config::{Layout, ServerConfig};

/// Puts the backup in place of the store of the server in `dir`.
///
/// # Errors
/// [`ServerError::NotInitialised`]; [`ServerError::Store`] if a server runs there, or the backup is not sound. The store is then
/// as it was.
pub async fn restore(dir: &Path, backup: &Path) -> Result<RestoreReport, ServerError> {
    let layout = Layout::new(dir);
    ServerConfig::load(&layout)?;
    Ok(tanist_store::restore(backup, &layout.store()).await?)
}
