//! What is on a volume: nothing, something with a name, or something without.

use std::io;

use tanist_datapath::digest::is_zero;
use tanist_datapath::pool::AlignedBuffer;
use tanist_datapath::{BlockDevice, ExtentKind};
use tanist_model::volume::VolumeContent;

use crate::signature::{self, Ends, HEAD_BYTES, TAIL_BYTES};

const SECTOR: u64 = 4096;
/// How many allocated stretches in between are looked at, and how much of each.
const SAMPLES: usize = 32;
const SAMPLE_BYTES: u64 = 64 << 10;

/// Looks at both ends for signatures, and at samples of what is allocated in between for data.
///
/// # Errors
/// The device's.
pub fn detect(device: &dyn BlockDevice) -> io::Result<VolumeContent> {
    let size_bytes = device.size_bytes();
    let tail_offset = size_bytes.saturating_sub(TAIL_BYTES) / SECTOR * SECTOR;
    let head = read(device, 0, HEAD_BYTES.min(size_bytes))?;
    let tail = read(device, tail_offset, size_bytes - tail_offset)?;
    if let Some(name) = signature::find(&Ends { size_bytes, head: &head, tail: &tail, tail_offset }) {
        return Ok(VolumeContent::Signature(name.to_owned()));
    }
    let has_data = !is_zero(&head) || !is_zero(&tail) || has_data_between(device, head.len() as u64, tail_offset)?;
    Ok(if has_data { VolumeContent::Data } else { VolumeContent::Blank })
}

fn has_data_between(device: &dyn BlockDevice, from: u64, to: u64) -> io::Result<bool> {
    // A long stretch is looked at in many places: on a device without holes it is the only one there is.
    let stride = ((to.saturating_sub(from) / SAMPLES as u64).max(SAMPLE_BYTES) / SECTOR + 1) * SECTOR;
    let mut at = from;
    let mut samples = 0;
    while at < to && samples < SAMPLES {
        let extent = device.extent_at(at)?;
        if extent.kind == ExtentKind::Data {
            samples += 1;
            let end = extent.end.min(to).min(at + SAMPLE_BYTES);
            if !is_zero(&read(device, at, end.saturating_sub(at))?) {
                return Ok(true);
            }
        }
        at = match extent.kind {
            ExtentKind::Data => extent.end.min(at + stride).max(at + 1),
            ExtentKind::Hole => extent.end.max(at + 1),
        };
    }
    Ok(false)
}

fn read(device: &dyn BlockDevice, offset: u64, length: u64) -> io::Result<AlignedBuffer> {
    let mut buffer = AlignedBuffer::new(usize::try_from(length).map_err(io::Error::other)?);
    device.read_at(offset, &mut buffer)?;
    Ok(buffer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tanist_datapath::io::memory::MemoryDevice;

    #[test]
    fn blank_data_and_signatures_are_told_apart() {
        for size in [0, 1, 5000, 8 << 20] {
            assert_eq!(detect(&MemoryDevice::new(size)).unwrap(), VolumeContent::Blank);
        }
        for place in [0, 3 << 20, (8 << 20) - 1] {
            let device = MemoryDevice::new(8 << 20);
            device.write_at(place, &[1]).unwrap();
            assert_eq!(detect(&device).unwrap(), VolumeContent::Data, "{place}");
        }
        let device = MemoryDevice::new(8 << 20);
        device.write_at(0, b"XFSB").unwrap();
        assert_eq!(detect(&device).unwrap(), VolumeContent::Signature("XFS file system".to_owned()));
    }

    #[test]
    fn zeros_that_were_written_are_blank() {
        let device = MemoryDevice::new(8 << 20);
        device.write_at(2 << 20, &[0; 9000]).unwrap();
        assert_eq!(detect(&device).unwrap(), VolumeContent::Blank);
    }
}
