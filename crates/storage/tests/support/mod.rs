//! The storage systems that the conformance suite runs over, each with a way to put a volume into it.

#![allow(dead_code, unused_imports, reason = "each test file uses its part")]

#[path = "../../../../tests/src/loop_device.rs"]
mod loop_device;
#[path = "../../../../tests/src/mounted.rs"]
mod mounted;
#[path = "../../../../tests/src/wait.rs"]
pub mod wait;

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tanist_datapath::BlockDevice;
use tanist_datapath::io::memory::MemoryDevice;
use tanist_model::id::{SnapshotId, StorageName, VolumeAddress};
use tanist_storage::{
    BlockDevices, CommandSnapshots, DeviceSelector, ImageDirectory, MemoryStorage, SnapshotCommand, SourceHandle,
    StorageSystem,
};

pub use self::loop_device::LoopDevice;
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
    fn system(&self) -> Arc<dyn StorageSystem>;
    /// What volumes consist of.
    fn sector_bytes(&self) -> usize {
        1
    }
    /// That many bytes, rounded up to whole sectors.
    fn whole(&self, bytes: usize) -> usize {
        bytes.next_multiple_of(self.sector_bytes())
    }
    /// Makes a volume that holds these bytes.
    fn put(&self, volume: &str, bytes: &[u8]);
    /// Writes to a volume behind the back of tanist.
    fn scribble(&self, volume: &str, offset: u64, bytes: &[u8]);
    /// Takes the bytes of a volume away and puts others of the same size under its name.
    fn replace(&self, volume: &str);
}

pub struct Memory(Arc<MemoryStorage>);

impl Memory {
    pub fn new() -> Self {
        Self(Arc::new(MemoryStorage::new(system_name())))
    }
}

impl Fixture for Memory {
    fn system(&self) -> Arc<dyn StorageSystem> {
        Arc::clone(&self.0) as _
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
    system: Arc<ImageDirectory>,
    path: PathBuf,
}

impl Images {
    pub fn in_directory(path: &Path) -> Self {
        Self { system: Arc::new(ImageDirectory::new(system_name(), path)), path: path.to_owned() }
    }

    pub fn path(&self, volume: &str) -> PathBuf {
        self.path.join(volume)
    }
}

impl Fixture for Images {
    fn system(&self) -> Arc<dyn StorageSystem> {
        Arc::clone(&self.system) as _
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

/// Loop devices, each behind a link with the name of its volume, as udev makes links.
pub struct Blocks {
    directory: tempfile::TempDir,
    sector_bytes: u32,
    state: Mutex<Devices>,
}

struct Devices {
    attached: BTreeMap<String, LoopDevice>,
    system: Arc<BlockDevices>,
    files: u32,
}

impl Blocks {
    /// Why they cannot be had is for the line that says that a test was skipped.
    pub fn new(sector_bytes: u32) -> Result<Self, String> {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).map_err(|error| error.to_string())?;
        let probe = directory.path().join("probe");
        std::fs::write(&probe, [0; 4096]).map_err(|error| error.to_string())?;
        LoopDevice::attach(&probe, sector_bytes)?;
        let system = Arc::new(BlockDevices::new(system_name(), Vec::new()));
        let state = Mutex::new(Devices { attached: BTreeMap::new(), system, files: 0 });
        Ok(Self { directory, sector_bytes, state })
    }

    /// The link that leads to the device.
    pub fn link(&self, volume: &str) -> PathBuf {
        self.directory.path().join(format!("{volume}.link"))
    }

    /// The device itself.
    pub fn device(&self, volume: &str) -> PathBuf {
        std::fs::canonicalize(self.link(volume)).unwrap()
    }

    /// The file behind a device that was just put there.
    pub fn file(&self, volume: &str) -> PathBuf {
        self.directory.path().join(format!("{volume}.{}", self.state.lock().unwrap().files))
    }

    /// Takes a device away, as when a cable is pulled; its link goes as well, as udev has it. Its number is the next one's.
    pub fn detach(&self, volume: &str) {
        std::fs::remove_file(self.link(volume)).unwrap();
        self.state.lock().unwrap().attached.remove(volume);
    }

    /// How an operator would name these volumes.
    pub fn selectors<'a>(&self, volumes: impl Iterator<Item = &'a String>) -> Vec<DeviceSelector> {
        volumes.map(|name| DeviceSelector::backing_file(self.link(name), Some(name.clone())).unwrap()).collect()
    }
}

impl Fixture for Blocks {
    fn system(&self) -> Arc<dyn StorageSystem> {
        Arc::clone(&self.state.lock().unwrap().system) as _
    }

    fn sector_bytes(&self) -> usize {
        usize::try_from(self.sector_bytes).unwrap()
    }

    fn put(&self, volume: &str, bytes: &[u8]) {
        let mut state = self.state.lock().unwrap();
        state.files += 1;
        let file = self.directory.path().join(format!("{volume}.{}", state.files));
        std::fs::write(&file, bytes).unwrap();
        let device = LoopDevice::attach(&file, self.sector_bytes).unwrap();
        let fresh = self.directory.path().join("fresh.link");
        std::os::unix::fs::symlink(&device.path, &fresh).unwrap();
        std::fs::rename(fresh, self.link(volume)).unwrap();
        if state.attached.insert(volume.to_owned(), device).is_none() {
            let selectors = self.selectors(state.attached.keys());
            state.system = Arc::new(BlockDevices::new(system_name(), selectors));
        }
    }

    fn scribble(&self, volume: &str, offset: u64, bytes: &[u8]) {
        let device = std::fs::OpenOptions::new().write(true).open(self.link(volume)).unwrap();
        device.write_all_at(bytes, offset).unwrap();
        device.sync_all().unwrap();
    }

    fn replace(&self, volume: &str) {
        let bytes = std::fs::read(self.link(volume)).unwrap();
        self.put(volume, &bytes);
    }
}

/// A storage system whose snapshots the sample command of `config/snapshots` makes.
pub struct ByCommand<F> {
    pub storage: F,
    pub directory: tempfile::TempDir,
    program: PathBuf,
    wrap: fn(&F, SnapshotCommand) -> Arc<dyn StorageSystem>,
}

impl<F> ByCommand<F> {
    pub fn new(storage: F, wrap: fn(&F, SnapshotCommand) -> Arc<dyn StorageSystem>) -> Self {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/snapshots/copy");
        let copies = directory.path().join("copies");
        let text = format!("SNAPSHOT_DIRECTORY={} exec {} \"$@\"", copies.display(), sample.display());
        let program = program_in(directory.path(), "sample", &text);
        Self { storage, directory, program, wrap }
    }

    /// The same storage with another program, of this text.
    pub fn with(&self, text: &str, limit: Duration) -> Arc<dyn StorageSystem> {
        let program = program_in(self.directory.path(), "other", text);
        (self.wrap)(&self.storage, SnapshotCommand { program, limit })
    }

    /// How to call the sample from a program of another text.
    pub fn sample(&self) -> String {
        self.program.display().to_string()
    }
}

pub fn program_in(directory: &Path, name: &str, text: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let path = directory.join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

pub fn images_by_command(directory: &Path) -> ByCommand<Images> {
    ByCommand::new(Images::in_directory(directory), |images, command| {
        Arc::new(CommandSnapshots::new(ImageDirectory::new(system_name(), &images.path), command))
    })
}

pub fn blocks_by_command(blocks: Blocks) -> ByCommand<Blocks> {
    ByCommand::new(blocks, |blocks, command| {
        let names: Vec<String> = blocks.state.lock().unwrap().attached.keys().cloned().collect();
        Arc::new(CommandSnapshots::new(BlockDevices::new(system_name(), blocks.selectors(names.iter())), command))
    })
}

impl<F: Fixture> Fixture for ByCommand<F> {
    fn system(&self) -> Arc<dyn StorageSystem> {
        let limit = Duration::from_secs(60);
        (self.wrap)(&self.storage, SnapshotCommand { program: self.program.clone(), limit })
    }

    fn sector_bytes(&self) -> usize {
        self.storage.sector_bytes()
    }

    fn put(&self, volume: &str, bytes: &[u8]) {
        self.storage.put(volume, bytes);
    }

    fn scribble(&self, volume: &str, offset: u64, bytes: &[u8]) {
        self.storage.scribble(volume, offset, bytes);
    }

    fn replace(&self, volume: &str) {
        self.storage.replace(volume);
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
