//! LVM thin pools as storage systems: every thin volume of one pool is a volume, and its snapshots are thin snapshots.
//!
//! Two ways lead to a volume. What moves bytes or has to be quick (canary reads, the opening of a takeover) goes to the mapped device by
//! its name, asks the kernel whether it lies in this pool, and runs no program. What is about snapshots, and the listing, asks
//! LVM. A thin pool can be active on one host only, so every agent that has one of these is on the host that the others are on.

pub(crate) mod answer;
pub(crate) mod delta;
mod metadata;
pub(crate) mod name;
mod tool;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tanist_model::byte_range::ByteRange;
use tanist_model::id::{SnapshotId, StorageName, VolumeAddress};
use tanist_model::volume::{PoolUse, StorageCapabilities, StorageKind, StorageReport, VolumeReport};

use self::answer::{Filling, LogicalVolume};
use self::metadata::DeltaTools;
use self::tool::Tool;
use crate::block::sysfs::{DeviceNumber, Sysfs};
use crate::block::{BlockDevices, DeviceSelector};
use crate::error::StorageError;
use crate::system::{
    CanaryReading, OnHost, SealedIdentity, SnapshotIdentity, SourceHandle, SourceView, StorageSystem, TargetHandle,
};

/// A thin pool, by its names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ThinPool {
    /// The volume group.
    pub group: String,
    pub pool: String,
}

/// A name that LVM would not take, or take for an option.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("\"{0}\" cannot be a name in LVM: letters, digits and + _ . -, no hyphen in front")]
pub struct LvmNameError(String);

impl ThinPool {
    /// # Errors
    /// If LVM takes no such names.
    pub fn new(group: &str, pool: &str) -> Result<Self, LvmNameError> {
        match [group, pool].into_iter().find(|name| !name::is_name(name)) {
            Some(bad) => Err(LvmNameError(bad.to_owned())),
            None => Ok(Self { group: group.to_owned(), pool: pool.to_owned() }),
        }
    }
}

impl std::fmt::Display for ThinPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.group, self.pool)
    }
}

/// The thin volumes of one pool.
#[derive(Debug)]
pub struct LvmThin {
    name: StorageName,
    pool: ThinPool,
    tool: Tool,
    sysfs: Sysfs,
    /// One for each volume that was ever opened: its canary reads are to visit all of it.
    devices: Mutex<BTreeMap<String, Arc<BlockDevices>>>,
    /// As the last listing found the pool; a report waits for no program once there is one.
    seen: Mutex<Option<Result<Filling, String>>>,
}

impl LvmThin {
    /// Touches nothing. `limit` is for each command of LVM.
    #[must_use]
    pub fn new(name: StorageName, pool: ThinPool, limit: Duration) -> Self {
        Self::with_program(name, pool, limit, "lvm")
    }

    /// The same with another program in place of `lvm`.
    #[must_use]
    pub fn with_program(name: StorageName, pool: ThinPool, limit: Duration, program: impl Into<PathBuf>) -> Self {
        let tool = Tool { program: program.into(), limit, delta: DeltaTools::default() };
        Self { name, pool, tool, sysfs: Sysfs::default(), devices: Mutex::default(), seen: Mutex::default() }
    }

    /// The same with other programs in place of `dmsetup` and `thin_delta`, and turns taken in another folder than `/run/tanist`.
    #[must_use]
    pub fn with_delta_programs(mut self, dmsetup: PathBuf, thin_delta: PathBuf, turns: PathBuf) -> Self {
        self.tool.delta = DeltaTools { dmsetup, thin_delta, turns };
        self
    }

    /// What LVM knows now; also how full the pool is.
    fn list(&self) -> Result<Vec<LogicalVolume>, StorageError> {
        let listed = self.tool.list(&self.pool.group);
        let filling = match &listed {
            Ok(volumes) => self.filling_in(volumes).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        *lock(&self.seen) = Some(filling);
        listed
    }

    fn filling_in(&self, volumes: &[LogicalVolume]) -> Result<Filling, StorageError> {
        let pool = volumes.iter().find(|volume| volume.name == self.pool.pool);
        let filling = pool.and_then(|pool| pool.filling.clone());
        filling.ok_or_else(|| StorageError::NoPool { pool: self.pool.to_string() })
    }

    fn check_address(&self, volume: &VolumeAddress) -> Result<(), StorageError> {
        if volume.system != self.name {
            return Err(StorageError::WrongSystem { volume: volume.clone(), system: self.name.clone() });
        }
        if name::is_volume(volume.volume()) { Ok(()) } else { Err(StorageError::NotFound { volume: volume.clone() }) }
    }

    /// The device of a volume, if it lies in this pool. Runs LVM only to say why not.
    fn device(&self, volume: &VolumeAddress) -> Result<Arc<BlockDevices>, StorageError> {
        self.check_address(volume)?;
        if !self.lies_in_pool(volume.volume()) {
            return Err(self.why_no_device(volume));
        }
        let mut devices = lock(&self.devices);
        if let Some(device) = devices.get(volume.volume()) {
            return Ok(Arc::clone(device));
        }
        let device = Arc::new(self.devices_at(volume, volume.volume())?);
        devices.insert(volume.volume().to_owned(), Arc::clone(&device));
        Ok(device)
    }

    /// The mapped device of a logical volume as a storage system of its own, with one volume of the name that is asked for.
    fn devices_at(&self, volume: &VolumeAddress, logical: &str) -> Result<BlockDevices, StorageError> {
        let path = name::path(&self.pool.group, logical);
        let selector = DeviceSelector::path(path, Some(volume.volume().to_owned()));
        let refused =
            |error: crate::SelectorError| StorageError::Refused { volume: volume.clone(), reason: error.to_string() };
        Ok(BlockDevices::new(self.name.clone(), vec![selector.map_err(refused)?]))
    }

    /// As the kernel has it: the device is mapped over that of the pool.
    fn lies_in_pool(&self, logical: &str) -> bool {
        let Some(number) = DeviceNumber::at(&name::path(&self.pool.group, logical)) else { return false };
        let Ok(node) = self.sysfs.node(number) else { return false };
        let pool = name::mapped_pool(&self.pool.group, &self.pool.pool);
        node.slaves().iter().any(|slave| slave.attribute("dm/name").as_ref() == Some(&pool))
    }

    fn why_no_device(&self, volume: &VolumeAddress) -> StorageError {
        let listed = match self.list() {
            Ok(listed) => listed,
            Err(error) => return error,
        };
        let what = format!("{}/{}", self.pool.group, volume.volume());
        match listed.iter().find(|logical| logical.name == volume.volume() && logical.pool == self.pool.pool) {
            None => StorageError::NotFound { volume: volume.clone() },
            Some(logical) if !logical.is_active => {
                let reason = format!("{what} is not active on this host: lvchange --activate y {what}");
                StorageError::Absent { volume: volume.clone(), reason }
            }
            Some(_) => {
                let reason = format!(
                    "{what} is active, and {} is missing",
                    name::path(&self.pool.group, volume.volume()).display()
                );
                StorageError::Absent { volume: volume.clone(), reason: format!("{reason}: vgmknodes, or look at udev") }
            }
        }
    }

    /// Ours of this volume, with what LVM says of each.
    fn snapshots_of(&self, volume: &VolumeAddress) -> Result<Vec<(SnapshotId, LogicalVolume)>, StorageError> {
        self.check_address(volume)?;
        let ours = |logical: LogicalVolume| {
            let (id, of) = logical.snapshot.clone()?;
            let is_it =
                of == volume.volume() && logical.pool == self.pool.pool && logical.name == name::of_snapshot(id);
            is_it.then_some((id, logical))
        };
        let mut found: Vec<_> = self.list()?.into_iter().filter_map(ours).collect();
        found.sort_by_key(|(id, _)| *id);
        Ok(found)
    }

    fn find_snapshot(&self, volume: &VolumeAddress, id: SnapshotId) -> Result<Option<LogicalVolume>, StorageError> {
        let found = self.snapshots_of(volume)?.into_iter().find(|(other, _)| *other == id);
        Ok(found.map(|(_, logical)| logical))
    }

    fn open_snapshot(&self, volume: &VolumeAddress, id: SnapshotId, uid: &str) -> Result<SourceHandle, StorageError> {
        let snapshot = self.find_snapshot(volume, id)?;
        let snapshot = snapshot.ok_or_else(|| StorageError::SnapshotNotFound { volume: volume.clone(), id })?;
        let mismatch = |found: String| StorageError::SnapshotMismatch {
            volume: volume.clone(),
            id,
            expected: uid.to_owned(),
            found,
        };
        if snapshot.identity != uid {
            return Err(mismatch(snapshot.identity));
        }
        if snapshot.is_writable {
            let reason =
                format!("its snapshot {id} can be written to; whoever changed that may have changed its bytes");
            return Err(StorageError::Refused { volume: volume.clone(), reason });
        }
        if !snapshot.is_active {
            self.tool.activate(&self.pool.group, &snapshot.name)?;
        }
        let source = self.devices_at(volume, &snapshot.name)?.open_source(volume, &SourceView::Live)?;
        // Between the listing and the opening it may have become another one.
        if source.identity == uid { Ok(source) } else { Err(mismatch(source.identity)) }
    }

    /// A snapshot shares everything with its volume at first, and takes room with each write after that, whoever writes.
    fn check_room(&self, volumes: &[LogicalVolume]) -> Result<(), StorageError> {
        let Filling { used, ailment } = self.filling_in(volumes)?;
        let reason = match ailment {
            Some(ailment) => format!("LVM says of it: {ailment}"),
            None if used.is_full() => format!("it is full to {}", used.in_words()),
            None => return Ok(()),
        };
        Err(StorageError::PoolFull { pool: self.pool.to_string(), reason })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn identity_of(id: SnapshotId, logical: LogicalVolume) -> SnapshotIdentity {
    SnapshotIdentity { id, uid: logical.identity, size_bytes: logical.size_bytes }
}

impl StorageSystem for LvmThin {
    fn report(&self) -> StorageReport {
        let known = lock(&self.seen).clone();
        let seen = known.unwrap_or_else(|| {
            let listed = self.list().map(drop).map_err(|error| error.to_string());
            listed.and_then(|()| lock(&self.seen).clone().unwrap_or_else(|| Err("it was not looked at".to_owned())))
        });
        let (used, error): (Option<PoolUse>, _) = match seen {
            Ok(Filling { used, ailment }) => (Some(used), ailment.map(|ailment| format!("{}: {ailment}", self.pool))),
            Err(error) => (None, Some(error)),
        };
        StorageReport {
            name: self.name.clone(),
            copy_manager: None,
            kind: StorageKind::LvmThin,
            location: match &used {
                Some(used) => format!("{}, {}", self.pool, used.in_words()),
                None => self.pool.to_string(),
            },
            // A pool of the same names on another host is another one.
            identity: format!("{}/lvm/{}", crate::image::machine_id(), self.pool),
            capabilities: StorageCapabilities {
                snapshots: true,
                kernel_lock: self.sysfs.has_sequence_numbers(),
                reservations: false,
                outlives_host: false,
                changed_extents: true,
            },
            error,
            pool: used,
        }
    }

    fn volumes(&self) -> Result<Vec<VolumeReport>, StorageError> {
        let is_volume = |logical: &LogicalVolume| {
            logical.is_thin && logical.pool == self.pool.pool && name::is_volume(&logical.name)
        };
        let mut names: Vec<String> = self.list()?.into_iter().filter(is_volume).map(|logical| logical.name).collect();
        names.sort();
        let address = |name: String| VolumeAddress::new(self.name.clone(), name).ok();
        let look = |volume: VolumeAddress| {
            self.inspect(&volume).unwrap_or_else(|error| VolumeReport::unreadable(volume, error.to_string()))
        };
        Ok(names.into_iter().filter_map(address).map(look).collect())
    }

    fn inspect(&self, volume: &VolumeAddress) -> Result<VolumeReport, StorageError> {
        self.device(volume)?.inspect(volume)
    }

    fn canary(&self, volume: &VolumeAddress) -> Result<CanaryReading, StorageError> {
        self.device(volume)?.canary(volume)
    }

    fn open_source(&self, volume: &VolumeAddress, view: &SourceView) -> Result<SourceHandle, StorageError> {
        self.check_address(volume)?;
        match view {
            SourceView::Snapshot { id, uid } => self.open_snapshot(volume, *id, uid),
            SourceView::Live | SourceView::Sealed { .. } => self.device(volume)?.open_source(volume, view),
        }
    }

    fn open_target(&self, volume: &VolumeAddress) -> Result<TargetHandle, StorageError> {
        self.device(volume)?.open_target(volume)
    }

    /// By the metadata of the pool: what two thin volumes do not share may differ.
    fn changed_since(
        &self,
        volume: &VolumeAddress,
        base: SnapshotId,
        now: &SourceView,
    ) -> Result<Option<Vec<ByteRange>>, StorageError> {
        let SourceView::Snapshot { id, uid } = now else { return Ok(None) };
        let snapshots = self.snapshots_of(volume)?;
        let of = |id| snapshots.iter().find(|(other, _)| *other == id).map(|(_, logical)| logical);
        let (Some(base), Some(now)) = (of(base), of(*id).filter(|logical| logical.identity == *uid)) else {
            return Ok(None);
        };
        // One that can be written to may have been: it is not what the recovery point was copied from any more.
        let (Some(before), Some(after)) = (base.thin_id, now.thin_id) else { return Ok(None) };
        if base.is_writable || now.is_writable || base.size_bytes != now.size_bytes {
            return Ok(None);
        }
        let thins = (before, after);
        let said = self.tool.delta(&self.pool, thins)?;
        let of_pool = |error| tool::failed("thin_delta", &self.pool.to_string(), error);
        delta::differing(&said, thins, now.size_bytes).map(Some).map_err(of_pool)
    }

    fn create_snapshot(&self, volume: &VolumeAddress, id: SnapshotId) -> Result<SnapshotIdentity, StorageError> {
        self.check_address(volume)?;
        let (group, made) = (&self.pool.group, name::of_snapshot(id));
        let before = self.list()?;
        if before.iter().any(|logical| logical.name == made) {
            return Err(StorageError::SnapshotExists { volume: volume.clone(), id });
        }
        let is_it = |logical: &&LogicalVolume| {
            logical.name == volume.volume() && logical.is_thin && logical.pool == self.pool.pool
        };
        let Some(origin) = before.iter().find(is_it) else {
            return Err(StorageError::NotFound { volume: volume.clone() });
        };
        self.check_room(&before)?;
        self.tool.snapshot(group, volume.volume(), &made, &name::tags(id, volume.volume()))?;
        // A command that ended well is believed when LVM lists what it made.
        let snapshot = self.find_snapshot(volume, id)?.filter(|snapshot| {
            snapshot.origin == origin.name && snapshot.size_bytes == origin.size_bytes && !snapshot.is_writable
        });
        let not_listed = || StorageError::Lvm {
            verb: "lvcreate",
            of: format!("{group}/{}", volume.volume()),
            why: format!("it ended well, and {made} is not listed as a read-only snapshot of that size"),
        };
        snapshot.map(|logical| identity_of(id, logical)).ok_or_else(not_listed)
    }

    fn delete_snapshot(&self, volume: &VolumeAddress, id: SnapshotId) -> Result<(), StorageError> {
        match self.find_snapshot(volume, id)? {
            None => Ok(()),
            Some(snapshot) => self.tool.remove(&self.pool.group, &snapshot.name),
        }
    }

    fn list_snapshots(&self, volume: &VolumeAddress) -> Result<Vec<SnapshotIdentity>, StorageError> {
        Ok(self.snapshots_of(volume)?.into_iter().map(|(id, logical)| identity_of(id, logical)).collect())
    }

    fn seal(&self, volume: &VolumeAddress) -> Result<SealedIdentity, StorageError> {
        self.device(volume)?.seal(volume)
    }

    fn check_sealed(&self, volume: &VolumeAddress, uid: &str) -> Result<(), StorageError> {
        self.device(volume)?.check_sealed(volume, uid)
    }
}

impl OnHost for LvmThin {
    fn path_of(&self, volume: &VolumeAddress) -> Result<PathBuf, StorageError> {
        self.device(volume)?.path_of(volume)
    }
}
