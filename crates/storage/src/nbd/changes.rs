//! What a dirty bitmap of qemu says: which stretches of an export were written to since the bitmap began.
//!
//! The context `qemu:dirty-bitmap:NAME` is described in qemu's own document on NBD, its use in the protocol document, "Metadata querying".
//! A server may say of any stretch that it is dirty; that it is not, it may say only if nothing of it was written.

use tanist_model::byte_range::ByteRange;

use super::client::Client;
use super::error::NbdError;
use super::reply::Stretch;
use super::request::{Command, Request};

/// What the server is asked about at once, bytes.
const WINDOW: u32 = 1 << 30;
/// Stretches nearer to each other than this become one, bytes: it bounds how many there are, and nobody copies less at once.
const NEAR: u64 = 1 << 20;

const STATE_DIRTY: u32 = 1;

/// The name of the context for a bitmap.
pub(super) fn context(bitmap: &str) -> String {
    format!("qemu:dirty-bitmap:{bitmap}")
}

/// The dirty stretches of a whole export, in order; `None` if it has no such context.
///
/// # Errors
/// As a request's, and that the server's answers lead nowhere.
pub(super) fn dirty(client: &Client, context: &str) -> Result<Option<Vec<ByteRange>>, NbdError> {
    let (size_bytes, minimum) = (client.opened().size_bytes, u64::from(client.opened().blocks.minimum));
    if client.opened().contexts.iter().all(|known| known.name != context) {
        return Ok(None);
    }
    let mut found = Vec::new();
    let mut at = 0;
    while at < size_bytes {
        let length = u64::from(WINDOW).min(size_bytes - at);
        let length = u32::try_from(length).unwrap_or(WINDOW);
        let heard = client.status(Request { command: Command::BlockStatus, offset: at, length }, context)?;
        let end = note(&mut found, at, &heard, size_bytes);
        // The next question begins at a whole block; what is heard twice is noted once.
        let next = if end == size_bytes { end } else { end - end % minimum };
        if next <= at {
            return Err(NbdError::malformed("the status of blocks does not go on"));
        }
        at = next;
    }
    Ok(Some(found))
}

/// Adds the dirty ones of these stretches, which begin at an offset; where they end.
fn note(found: &mut Vec<ByteRange>, begin: u64, stretches: &[Stretch], size_bytes: u64) -> u64 {
    let mut at = begin;
    for stretch in stretches {
        let end = at.saturating_add(u64::from(stretch.length)).min(size_bytes);
        if stretch.flags & STATE_DIRTY != 0 && at < end {
            match found.last_mut().filter(|last| at <= last.end.saturating_add(NEAR)) {
                Some(last) => last.end = last.end.max(end),
                None => found.push(ByteRange::new(at, end)),
            }
        }
        at = end;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn stretch(length: u64, flags: u32) -> Stretch {
        Stretch { length: u32::try_from(length).unwrap(), flags }
    }

    #[test]
    fn dirty_stretches_are_kept_apart_unless_they_are_near() {
        let mut found = Vec::new();
        let heard = [stretch(MIB, 1), stretch(MIB, 0), stretch(4096, 3), stretch(MIB + 1, 2), stretch(8 * MIB, 1)];
        let end = note(&mut found, MIB, &heard, 10 * MIB);
        assert_eq!(end, 10 * MIB, "nothing lies past the export");
        let second = 4 * MIB + 4096 + 1;
        assert_eq!(found, [ByteRange::new(MIB, 3 * MIB + 4096), ByteRange::new(second, 10 * MIB)]);
        assert_eq!(note(&mut found, 10 * MIB, &[stretch(4096, 1)], 10 * MIB), 10 * MIB);
        assert_eq!(found.len(), 2);
    }
}
