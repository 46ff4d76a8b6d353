//! A storage system in the memory of one process, for tests and the simulator. It makes snapshots, locks like a kernel, and
//! its devices fail on command.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tanist_datapath::io::memory::{FaultyOperation, MemoryDevice};
use tanist_datapath::{BlockDevice, Extent};
use tanist_model::id::{SnapshotId, StorageName, VolumeAddress};
use tanist_model::volume::{StorageCapabilities, StorageKind, StorageReport, VolumeReport};

use crate::canary::Canary;
use crate::content;
use crate::error::StorageError;
use crate::sealed::SealedDevice;
use crate::system::{
    CanaryReading, LockAttempt, SealedIdentity, SnapshotIdentity, SourceHandle, SourceView, StorageSystem,
    TargetHandle, VolumeLock,
};

/// Volumes by name.
pub struct MemoryStorage {
    name: StorageName,
    capabilities: StorageCapabilities,
    canary: Canary,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    volumes: BTreeMap<String, Volume>,
    snapshots: BTreeMap<(String, SnapshotId), Snapshot>,
    /// Identities given so far; none is given twice.
    identities: u64,
}

#[derive(Clone)]
struct Volume {
    identity: String,
    device: Arc<MemoryDevice>,
    /// Alive while some open target holds the lock.
    lock: Arc<Mutex<Weak<LockToken>>>,
}

struct Snapshot {
    uid: String,
    device: Arc<MemoryDevice>,
}

struct LockToken;

impl MemoryStorage {
    /// An empty system that can make snapshots and whose locks prove what they should.
    #[must_use]
    pub fn new(name: StorageName) -> Self {
        Self::with_capabilities(
            name,
            StorageCapabilities {
                snapshots: true,
                kernel_lock: true,
                reservations: false,
                outlives_host: false,
                changed_extents: false,
            },
        )
    }

    #[must_use]
    pub fn with_capabilities(name: StorageName, capabilities: StorageCapabilities) -> Self {
        Self { name, capabilities, canary: Canary::default(), state: Mutex::default() }
    }

    /// Puts a volume there, in place of one of that name if there is one.
    pub fn insert(&self, name: &str, device: Arc<MemoryDevice>) {
        let mut state = self.lock();
        let identity = state.new_identity(&self.name);
        state.volumes.insert(name.to_owned(), Volume { identity, device, lock: Arc::default() });
    }

    /// The device behind a volume: to look at it, or to make it fail.
    #[must_use]
    pub fn device(&self, name: &str) -> Option<Arc<MemoryDevice>> {
        self.lock().volumes.get(name).map(|volume| Arc::clone(&volume.device))
    }

    fn volume(&self, address: &VolumeAddress) -> Result<Volume, StorageError> {
        if address.system != self.name {
            return Err(StorageError::WrongSystem { volume: address.clone(), system: self.name.clone() });
        }
        let found = self.lock().volumes.get(address.volume()).cloned();
        found.ok_or_else(|| StorageError::NotFound { volume: address.clone() })
    }

    fn open_snapshot(&self, volume: &VolumeAddress, id: SnapshotId, uid: &str) -> Result<SourceHandle, StorageError> {
        let state = self.lock();
        let Some(snapshot) = state.snapshots.get(&key(volume, id)) else {
            return Err(StorageError::SnapshotNotFound { volume: volume.clone(), id });
        };
        if snapshot.uid != uid {
            let (expected, found) = (uid.to_owned(), snapshot.uid.clone());
            return Err(StorageError::SnapshotMismatch { volume: volume.clone(), id, expected, found });
        }
        Ok(SourceHandle { device: Arc::clone(&snapshot.device) as _, identity: snapshot.uid.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn new_identity(&mut self, system: &StorageName) -> String {
        self.identities += 1;
        format!("memory/{system}/{}", self.identities)
    }
}

fn key(volume: &VolumeAddress, id: SnapshotId) -> (String, SnapshotId) {
    (volume.volume().to_owned(), id)
}

impl Volume {
    /// Counts of what changes bytes stand for the times of a file.
    fn seal(&self) -> SealedIdentity {
        let changes = self.device.calls(FaultyOperation::Write) + self.device.calls(FaultyOperation::Zero);
        SealedIdentity { uid: format!("{}/{changes}", self.identity), size_bytes: self.device.size_bytes() }
    }

    fn report(&self, address: VolumeAddress) -> Result<VolumeReport, StorageError> {
        let content = content::detect(&*self.device).map_err(StorageError::io("inspect", &address))?;
        Ok(VolumeReport {
            address,
            identity: self.identity.clone(),
            size_bytes: self.device.size_bytes(),
            read_only: false,
            in_use_by: None,
            content,
            error: None,
            device: None,
        })
    }
}

impl StorageSystem for MemoryStorage {
    fn report(&self) -> StorageReport {
        StorageReport {
            name: self.name.clone(),
            kind: StorageKind::Memory,
            location: "memory".to_owned(),
            identity: format!("memory/{}", self.name),
            capabilities: self.capabilities,
            error: None,
            copy_manager: None,
            pool: None,
        }
    }

    fn volumes(&self) -> Result<Vec<VolumeReport>, StorageError> {
        let volumes = self.lock().volumes.clone();
        let address = |name: String| VolumeAddress::new(self.name.clone(), name).ok();
        volumes.into_iter().filter_map(|(name, volume)| Some(volume.report(address(name)?))).collect()
    }

    fn inspect(&self, volume: &VolumeAddress) -> Result<VolumeReport, StorageError> {
        self.volume(volume)?.report(volume.clone())
    }

    fn canary(&self, volume: &VolumeAddress) -> Result<CanaryReading, StorageError> {
        self.canary.read(&*self.volume(volume)?.device).map_err(StorageError::io("read", volume))
    }

    fn open_source(&self, volume: &VolumeAddress, view: &SourceView) -> Result<SourceHandle, StorageError> {
        if let SourceView::Snapshot { id, uid } = view {
            return self.open_snapshot(volume, *id, uid);
        }
        let opened = self.volume(volume)?;
        let identity = opened.identity.clone();
        let SourceView::Sealed { uid } = view else { return Ok(SourceHandle { device: opened.device, identity }) };
        let device = Arc::clone(&opened.device) as Arc<dyn BlockDevice>;
        let (volume, uid) = (volume.clone(), uid.clone());
        let look = move || {
            let found = opened.seal().uid;
            if found == uid { Ok(()) } else { Err(StorageError::changed(&volume, &uid, &found)) }
        };
        look()?;
        Ok(SourceHandle { device: Arc::new(SealedDevice::new(device, look)), identity })
    }

    fn open_target(&self, volume: &VolumeAddress) -> Result<TargetHandle, StorageError> {
        let opened = self.volume(volume)?;
        let description = Arc::new(Description { volume: opened.clone(), token: Mutex::default() });
        Ok(TargetHandle::new(Arc::clone(&description) as _, opened.identity, Box::new(description)))
    }

    fn create_snapshot(&self, volume: &VolumeAddress, id: SnapshotId) -> Result<SnapshotIdentity, StorageError> {
        if !self.capabilities.snapshots {
            return Err(StorageError::SnapshotsUnsupported {
                system: self.name.clone(),
                how: "this memory was made without",
            });
        }
        let device = Arc::new(self.volume(volume)?.device.duplicate());
        let mut state = self.lock();
        if state.snapshots.contains_key(&key(volume, id)) {
            return Err(StorageError::SnapshotExists { volume: volume.clone(), id });
        }
        let identity = SnapshotIdentity { id, uid: state.new_identity(&self.name), size_bytes: device.size_bytes() };
        state.snapshots.insert(key(volume, id), Snapshot { uid: identity.uid.clone(), device });
        Ok(identity)
    }

    fn delete_snapshot(&self, volume: &VolumeAddress, id: SnapshotId) -> Result<(), StorageError> {
        self.lock().snapshots.remove(&key(volume, id));
        Ok(())
    }

    fn list_snapshots(&self, volume: &VolumeAddress) -> Result<Vec<SnapshotIdentity>, StorageError> {
        let state = self.lock();
        let of_volume = state.snapshots.iter().filter(|((name, _), _)| name == volume.volume());
        Ok(of_volume
            .map(|((_, id), found)| SnapshotIdentity {
                id: *id,
                uid: found.uid.clone(),
                size_bytes: found.device.size_bytes(),
            })
            .collect())
    }

    fn seal(&self, volume: &VolumeAddress) -> Result<SealedIdentity, StorageError> {
        Ok(self.volume(volume)?.seal())
    }
}

/// What a kernel calls an open file description: the I/O and the lock lie on it, and end together.
struct Description {
    volume: Volume,
    token: Mutex<Option<Arc<LockToken>>>,
}

impl VolumeLock for Arc<Description> {
    fn try_lock(&self) -> Result<LockAttempt, StorageError> {
        let mut mine = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        let mut holder = self.volume.lock.lock().unwrap_or_else(PoisonError::into_inner);
        if mine.is_none() && holder.strong_count() == 0 {
            let token = Arc::new(LockToken);
            *holder = Arc::downgrade(&token);
            *mine = Some(token);
        }
        Ok(if mine.is_some() { LockAttempt::Held } else { LockAttempt::HeldByAnother })
    }
}

impl BlockDevice for Description {
    fn size_bytes(&self) -> u64 {
        self.volume.device.size_bytes()
    }

    fn is_direct(&self) -> bool {
        self.volume.device.is_direct()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.volume.device.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.volume.device.write_at(offset, bytes)
    }

    fn zero_range(&self, offset: u64, length: u64) -> io::Result<()> {
        self.volume.device.zero_range(offset, length)
    }

    fn flush(&self) -> io::Result<()> {
        self.volume.device.flush()
    }

    fn extent_at(&self, offset: u64) -> io::Result<Extent> {
        self.volume.device.extent_at(offset)
    }
}

impl fmt::Debug for MemoryStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStorage").field("name", &self.name).finish_non_exhaustive()
    }
}
