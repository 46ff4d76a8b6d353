//! Opening what a snapshot command says is a snapshot: a file or a device, never for writing, and never the volume itself.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use tanist_datapath::BlockDevice;
use tanist_datapath::io::blocking::BlockingFile;

use crate::block::open_device_for_reading;

/// Why something that can be opened is no snapshot.
#[derive(Debug, thiserror::Error)]
enum NoSnapshot {
    #[error("it is neither a file nor a block device")]
    NotReadable,
    #[error("it is the volume itself, which is still written to")]
    TheVolume,
    #[error("it has {found} bytes instead of {expected}")]
    Size { found: u64, expected: u64 },
}

/// Opens it, if it is a file or device of that size and not what stands at `volume`.
pub(super) fn open(path: &Path, size_bytes: u64, volume: Option<&Path>) -> io::Result<Arc<dyn BlockDevice>> {
    let found = fs::metadata(path)?;
    if volume.and_then(|path| fs::metadata(path).ok()).is_some_and(|volume| is_same(&found, &volume)) {
        return Err(io::Error::other(NoSnapshot::TheVolume));
    }
    let device: Arc<dyn BlockDevice> = if found.file_type().is_block_device() {
        open_device_for_reading(path)?
    } else if found.is_file() {
        Arc::new(open_file(path)?)
    } else {
        return Err(io::Error::other(NoSnapshot::NotReadable));
    };
    match device.size_bytes() {
        found if found == size_bytes => Ok(device),
        found => Err(io::Error::other(NoSnapshot::Size { found, expected: size_bytes })),
    }
}

fn is_same(left: &fs::Metadata, right: &fs::Metadata) -> bool {
    if left.file_type().is_block_device() && right.file_type().is_block_device() {
        return left.rdev() == right.rdev();
    }
    (left.dev(), left.ino()) == (right.dev(), right.ino())
}

fn open_file(path: &Path) -> io::Result<BlockingFile> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let open = |flags| rustix::fs::open(path, flags, Mode::empty());
    let descriptor = match open(flags | OFlags::DIRECT) {
        Err(Errno::INVAL) => open(flags)?,
        opened => opened?,
    };
    let file = File::from(descriptor);
    // Between the look and the opening it may have become something else.
    if !file.metadata()?.is_file() {
        return Err(io::Error::other(NoSnapshot::NotReadable));
    }
    BlockingFile::new(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_volume_itself_is_no_snapshot_of_it_and_neither_is_another_size() {
        let folder = tempfile::tempdir().unwrap();
        let [volume, copy, link] = ["volume", "copy", "link"].map(|name| folder.path().join(name));
        fs::write(&volume, [1; 512]).unwrap();
        fs::write(&copy, [1; 512]).unwrap();
        fs::hard_link(&volume, &link).unwrap();
        let says = |path: &Path, size| open(path, size, Some(&volume)).map(|_| ()).map_err(|error| error.to_string());
        assert_eq!(says(&copy, 512), Ok(()));
        for path in [&volume, &link] {
            assert!(says(path, 512).unwrap_err().contains("the volume itself"), "{}", path.display());
        }
        assert!(says(&copy, 511).unwrap_err().contains("512 bytes instead of 511"));
        assert!(says(folder.path(), 512).unwrap_err().contains("neither a file"));
    }
}
