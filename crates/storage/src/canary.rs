//! Canary reads: small, real, and never twice in a row at the same place, so that no cache of the storage answers for ever.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use tanist_datapath::pool::{ALIGNMENT, AlignedBuffer};
use tanist_datapath::{BlockDevice, ExtentKind};

use crate::system::CanaryReading;

const LENGTH: u64 = ALIGNMENT as u64;

/// Chooses the places.
#[derive(Debug, Default)]
pub(crate) struct Canary {
    reads: AtomicU64,
}

impl Canary {
    /// Reads once. A hole would be answered without the storage, so the next data after the place is taken, or else the hole.
    pub(crate) fn read(&self, device: &dyn BlockDevice) -> io::Result<CanaryReading> {
        let place = place(self.reads.fetch_add(1, Ordering::Relaxed), device.size_bytes());
        let extent = device.extent_at(place)?;
        let skips = extent.kind == ExtentKind::Hole && extent.end < device.size_bytes();
        let offset = if skips { extent.end - extent.end % LENGTH } else { place };
        let length_bytes = LENGTH.min(device.size_bytes() - offset);
        let mut buffer = AlignedBuffer::new(ALIGNMENT);
        device.read_at(offset, buffer.split_at_mut(usize::try_from(length_bytes).unwrap_or(0)).0)?;
        Ok(CanaryReading { offset, length_bytes })
    }
}

/// The place of the nth read: steps by the golden ratio visit all of the volume evenly.
fn place(nth: u64, size_bytes: u64) -> u64 {
    let fraction = u128::from(nth.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let sector = (fraction * u128::from(size_bytes / LENGTH)) >> 64;
    u64::try_from(sector).unwrap_or(0) * LENGTH
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_rotate_and_stay_inside() {
        for size in [0, 1, 4096, 8192, 1_000_003] {
            assert!((0..1000).all(|nth| place(nth, size) + LENGTH <= size.max(LENGTH)), "{size}");
        }
        let places: std::collections::BTreeSet<u64> = (0..100).map(|nth| place(nth, 1 << 40)).collect();
        assert_eq!(places.len(), 100);
    }
}
