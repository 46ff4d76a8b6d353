//! A sealed source, read block by block: bytes are handed on only if the volume still looked sealed after they were read.
//!
//! A look at the end of a run is not enough. An agent that was stopped for minutes and wakes up superseded goes on reading for
//! the moment until it hears of it; if the source has changed meanwhile, it would write bytes of another state over a published
//! one. What passes here is of the sealed state, whenever it is written.

use std::io;
use std::sync::Arc;

use tanist_datapath::io::queue::{Completion, Direction, IoQueue, Request};
use tanist_datapath::{BlockDevice, Extent};
use tanist_model::quantity::count;
use tanist_model::time::Timestamp;

/// Looks whether the volume is as it was sealed.
type Look = Box<dyn Fn() -> Result<(), crate::StorageError> + Send + Sync>;

/// What a file looks like, as far as a change of its bytes shows in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Seal<'a> {
    pub(crate) identity: &'a str,
    pub(crate) size_bytes: u64,
    /// Time of last write (mtime): seconds and nanoseconds.
    pub(crate) written: (i64, u32),
    /// Time of last change of bytes or attributes (ctime).
    pub(crate) changed: (i64, u32),
}

impl<'a> Seal<'a> {
    pub(crate) fn uid(&self) -> String {
        let (written, changed) = (self.written, self.changed);
        format!("{}/{}/{}.{:09}/{}.{:09}", self.identity, self.size_bytes, written.0, written.1, changed.0, changed.1)
    }

    /// None for the uid of a storage system whose volumes are not files.
    pub(crate) fn of_uid(uid: &'a str) -> Option<Self> {
        let mut parts = uid.rsplitn(4, '/');
        let (changed, written) = (time(parts.next()?)?, time(parts.next()?)?);
        let size_bytes = parts.next()?.parse().ok()?;
        Some(Self { identity: parts.next()?, size_bytes, written, changed })
    }

    fn difference(&self, now: &Self) -> String {
        if self.identity != now.identity {
            return "another file stands under its name".to_owned();
        }
        if self.size_bytes != now.size_bytes {
            return format!("its size went from {} to {}", self.size_bytes, count(now.size_bytes, "byte"));
        }
        if self.written != now.written {
            return format!("it was written to at {}", clock(now.written));
        }
        format!(
            "only its ctime moved, to {}: it got another mode, owner, link or name, or its time was set back after a write",
            clock(now.changed)
        )
    }
}

fn time(text: &str) -> Option<(i64, u32)> {
    let (seconds, nanoseconds) = text.split_once('.')?;
    Some((seconds.parse().ok()?, nanoseconds.parse().ok()?))
}

fn clock((seconds, nanoseconds): (i64, u32)) -> String {
    let micros = seconds.saturating_mul(1_000_000).saturating_add(i64::from(nanoseconds / 1000));
    Timestamp(micros).to_string()
}

/// How a volume differs from what it was when it was sealed, in words that end a sentence.
pub(crate) fn what_changed(sealed: &str, found: &str) -> String {
    match (Seal::of_uid(sealed), Seal::of_uid(found)) {
        (Some(sealed), Some(found)) => sealed.difference(&found),
        _ => "it was written to".to_owned(),
    }
}

pub(crate) struct SealedDevice {
    device: Arc<dyn BlockDevice>,
    look: Look,
}

impl SealedDevice {
    pub(crate) fn new(
        device: Arc<dyn BlockDevice>,
        look: impl Fn() -> Result<(), crate::StorageError> + Send + Sync + 'static,
    ) -> Self {
        Self { device, look: Box::new(look) }
    }

    fn still_sealed(&self) -> io::Result<()> {
        (self.look)().map_err(io::Error::other)
    }
}

impl BlockDevice for SealedDevice {
    fn size_bytes(&self) -> u64 {
        self.device.size_bytes()
    }

    fn sector_bytes(&self) -> u64 {
        self.device.sector_bytes()
    }

    fn is_direct(&self) -> bool {
        self.device.is_direct()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.device.read_at(offset, buffer)?;
        self.still_sealed()
    }

    fn write_at(&self, _offset: u64, _bytes: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn zero_range(&self, _offset: u64, _length: u64) -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    fn queue(&self) -> Box<dyn IoQueue + '_> {
        Box::new(SealedReads { reads: self.device.queue(), source: self })
    }

    /// A hole is data too: zeros that are written to the target.
    fn extent_at(&self, offset: u64) -> io::Result<Extent> {
        let extent = self.device.extent_at(offset)?;
        self.still_sealed()?;
        Ok(extent)
    }
}

/// Each read is looked after when it is over, whenever it was begun.
struct SealedReads<'a> {
    reads: Box<dyn IoQueue + 'a>,
    source: &'a SealedDevice,
}

impl IoQueue for SealedReads<'_> {
    fn depth(&self) -> usize {
        self.reads.depth()
    }

    fn in_flight(&self) -> usize {
        self.reads.in_flight()
    }

    fn begin(&mut self, request: Request) -> io::Result<()> {
        match request.direction {
            Direction::Read => self.reads.begin(request),
            Direction::Write => Err(io::ErrorKind::PermissionDenied.into()),
        }
    }

    fn next(&mut self) -> io::Result<Option<Completion>> {
        let over = self.reads.next()?;
        Ok(over.map(|over| Completion { result: over.result.and_then(|()| self.source.still_sealed()), ..over }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEALED: Seal<'_> =
        Seal { identity: "0:31/77@5.000000001", size_bytes: 4096, written: (10, 5), changed: (1_795_356_180, 6) };

    fn difference(found: Seal<'_>) -> String {
        what_changed(&SEALED.uid(), &found.uid())
    }

    #[test]
    fn a_uid_is_read_as_it_was_written() {
        assert_eq!(SEALED.uid(), "0:31/77@5.000000001/4096/10.000000005/1795356180.000000006");
        assert_eq!(Seal::of_uid(&SEALED.uid()), Some(SEALED));
        assert_eq!(Seal::of_uid("memory/7"), None);
    }

    #[test]
    fn what_changed_is_named_and_nothing_else() {
        assert_eq!(difference(Seal { identity: "0:31/78", ..SEALED }), "another file stands under its name");
        assert_eq!(difference(Seal { size_bytes: 1, written: (11, 0), ..SEALED }), "its size went from 4096 to 1 byte");
        let written = difference(Seal { written: (1_795_356_181, 0), changed: (1_795_356_181, 0), ..SEALED });
        assert_eq!(written, "it was written to at 2026-11-22T14:03:01.000000Z");
        let touched = difference(Seal { changed: (1_795_356_182, 0), ..SEALED });
        assert!(touched.contains("only its ctime moved, to 2026-11-22T14:03:02"), "{touched}");
        assert!(!touched.contains("written to at"), "{touched}");
        assert_eq!(what_changed("memory/7", "memory/8"), "it was written to");
    }
}
