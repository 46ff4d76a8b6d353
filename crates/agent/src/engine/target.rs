//! Whether the volume that is open as the target is still the one at its address, whole.
//!
//! What is written goes to what was opened, wherever its address leads by now. A file that was removed, a LUN that was mapped anew, a
//! volume that was cut off and brought to its old size again: what was copied may be gone, although it was flushed and read back.

use tanist_protocol::message::RunFailureKind;
use tanist_storage::StorageError;

use super::Engine;

impl Engine {
    /// # Errors
    /// That it is another volume, or smaller than when it was opened. A path that fails is no such thing: what was opened shows that
    /// itself.
    pub(super) fn check_target(&self) -> Result<(), (RunFailureKind, String)> {
        let Some(open) = self.open.as_ref() else { return Ok(()) };
        let (address, opened) = (&open.assignment.target, &open.target);
        let Ok(system) = self.storages.of(address) else { return Ok(()) };
        let changed = |what: String| Err((RunFailureKind::TargetChanged, what));
        match system.inspect(address) {
            Ok(seen) if seen.identity != opened.identity() => changed(format!(
                "another volume stands at {address} by now: {} instead of {}",
                seen.identity,
                opened.identity()
            )),
            Ok(seen) if seen.size_bytes < opened.device().size_bytes() => changed(format!(
                "{address} had {} bytes when it was opened and has {} now",
                opened.device().size_bytes(),
                seen.size_bytes
            )),
            Err(StorageError::NotFound { .. } | StorageError::NotAVolume { .. }) => {
                changed(format!("{address} is not there any more; what is written now, nobody could ever open"))
            }
            Ok(_) | Err(_) => Ok(()),
        }
    }
}
