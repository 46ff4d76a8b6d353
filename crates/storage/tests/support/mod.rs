//! The storage systems that the conformance suite runs over, each with a way to put a volume into it.

#![allow(dead_code, unused_imports, reason = "each test file uses its part")]

#[path = "../../../../tests/src/mounted.rs"]
mod mounted;

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tanist_datapath::BlockDevice;
use tanist_datapath::io::memory::MemoryDevice;
use tanist_model::id::{SnapshotId, StorageName, VolumeAddress};
use tanist_storage::{ImageDirectory, MemoryStorage, SourceHandle, StorageSystem};

pub use self::mounted::{BTRFS, Mounted, XFS, run};

pub fn system_name() -> StorageName {
    StorageName::new("san-a").unwrap()
}

pub fn address(volume: &str) -> VolumeAddress {
    VolumeAddress::new(system_name(), volume).unwrap()
}

pub const ID: SnapshotId = SnapshotId(7);

/// A storage system under test.
pub trait Fixture {
    fn system(&self) -> &dyn StorageSystem;
    /// Makes a volume that holds these bytes.
    fn put(&self, volume: &str, bytes: &[u8]);
    /// Writes to a volume behind the back of tanist.
    fn scribble(&self, volume: &str, offset: u64, bytes: &[u8]);
    /// Takes the bytes of a volume away and puts others of the same size under its name.
    fn replace(&self, volume: &str);
}

pub struct Memory(MemoryStorage);

impl Memory {
    pub fn new() -> Self {
        Self(MemoryStorage::new(system_name()))
    }
}

impl Fixture for Memory {
    fn system(&self) -> &dyn StorageSystem {
        &self.0
    }

    fn put(&self, volume: &str, bytes: &[u8]) {
        self.0.insert(volume, Arc::new(MemoryDevice::with_bytes(bytes)));
    }

    fn scribble(&self, volume: &str, offset: u64, bytes: &[u8]) {
        self.0.device(volume).unwrap().write_at(offset, bytes).unwrap();
    }

    fn replace(&self, volume: &str) {
        let device = self.0.device(volume).unwrap().duplicate();
        self.0.insert(volume, Arc::new(device));
    }
}

pub struct Images {
    system: ImageDirectory,
    path: PathBuf,
}

impl Images {
    pub fn in_directory(path: &Path) -> Self {
        Self { system: ImageDirectory::new(system_name(), path), path: path.to_owned() }
    }

    pub fn path(&self, volume: &str) -> PathBuf {
        self.path.join(volume)
    }
}

impl Fixture for Images {
    fn system(&self) -> &dyn StorageSystem {
        &self.system
    }

    fn put(&self, volume: &str, bytes: &[u8]) {
        std::fs::write(self.path(volume), bytes).unwrap();
    }

    fn scribble(&self, volume: &str, offset: u64, bytes: &[u8]) {
        let file = std::fs::OpenOptions::new().write(true).open(self.path(volume)).unwrap();
        file.write_all_at(bytes, offset).unwrap();
    }

    fn replace(&self, volume: &str) {
        std::fs::copy(self.path(volume), self.path("copy.tmp")).unwrap();
        std::fs::rename(self.path("copy.tmp"), self.path(volume)).unwrap();
    }
}

/// A file system of its own for a test; why it cannot be had, for the line that says that the test was skipped.
pub fn mount(mkfs: &[&str], size_bytes: u64) -> Result<Mounted, String> {
    Mounted::new(Path::new(env!("CARGO_TARGET_TMPDIR")), mkfs, size_bytes)
}

/// Bytes that are no zeros and no signature.
pub fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|i| u8::try_from((i * 31 + i / 253) % 251).unwrap() | 1).collect()
}

pub fn contents(source: &SourceHandle) -> Vec<u8> {
    contents_of(&*source.device)
}

pub fn contents_of(device: &dyn BlockDevice) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(device.size_bytes()).unwrap()];
    device.read_at(0, &mut bytes).unwrap();
    bytes
}
