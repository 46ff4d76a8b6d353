//! A sealed source, read block by block: bytes are handed on only if the volume still looked sealed after they were read.
//!
//! A look at the end of a run is not enough. An agent that was stopped for minutes and wakes up superseded goes on reading for
//! the moment until it hears of it; if the source has changed meanwhile, it would write bytes of another state over a published
//! one. What passes here is of the sealed state, whenever it is written.

use std::io;
use std::sync::Arc;

use tanist_datapath::{BlockDevice, Extent};

/// Looks whether the volume is as it was sealed.
type Look = Box<dyn Fn() -> Result<(), crate::StorageError> + Send + Sync>;

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

    /// A hole is data too: zeros that are written to the target.
    fn extent_at(&self, offset: u64) -> io::Result<Extent> {
        let extent = self.device.extent_at(offset)?;
        self.still_sealed()?;
        Ok(extent)
    }
}
