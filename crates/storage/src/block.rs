//! Block devices of this host as a storage system: LUNs, NVMe namespaces, logical volumes, each under its stable identity.
//!
//! Which devices is for the operator to say; nothing else is opened. Everything is looked up anew for every call, so that devices
//! that appear, vanish or change their names are seen. What was found by its identity is identified once more after it is open.

#[cfg(feature = "decoders")]
pub(crate) mod decoders;
mod device;
mod identity;
mod open;
mod seal;
mod selector;
mod survey;
pub(crate) mod sysfs;
mod usage;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tanist_datapath::BlockDevice;
use tanist_model::id::{SnapshotId, StorageName, VolumeAddress};
use tanist_model::volume::{DeviceReport, StorageCapabilities, StorageKind, StorageReport, VolumeReport};

use self::device::{Access, OpenDevice};
use self::open::OpenVolume;
use self::seal::DeviceSeal;
use self::survey::Survey;
use self::sysfs::{Node, Sysfs};
use crate::canary::Canary;
use crate::content;
use crate::error::StorageError;
use crate::sealed::SealedDevice;
use crate::system::{
    CanaryReading, OnHost, SealedIdentity, SnapshotIdentity, SourceHandle, SourceView, StorageSystem, TargetHandle,
};

pub use self::identity::IdentityError;
pub use self::selector::{DeviceSelector, IdentityPattern, SelectorError};

const NO_SNAPSHOTS: &str =
    "block devices take a snapshot command of yours (snapshots = { command = ... } in agent.toml)";

/// The devices that an operator named.
#[derive(Debug)]
pub struct BlockDevices {
    name: StorageName,
    selectors: Vec<DeviceSelector>,
    sysfs: Sysfs,
    canary: Canary,
}

impl BlockDevices {
    /// Touches nothing: a device that is not there yet is reported as such, and used when it comes.
    #[must_use]
    pub fn new(name: StorageName, selectors: Vec<DeviceSelector>) -> Self {
        Self { name, selectors, sysfs: Sysfs::default(), canary: Canary::default() }
    }

    fn survey(&self) -> Result<Survey, StorageError> {
        Survey::of(&self.sysfs, &self.selectors).map_err(StorageError::io("look for the devices of", &self.name))
    }

    fn open(&self, volume: &VolumeAddress, access: Access) -> Result<OpenVolume, StorageError> {
        if volume.system != self.name {
            return Err(StorageError::WrongSystem { volume: volume.clone(), system: self.name.clone() });
        }
        OpenVolume::open(&self.sysfs, self.survey()?.find(volume)?, volume, access)
    }

    fn look(&self, volume: &VolumeAddress) -> Result<VolumeReport, StorageError> {
        let open = self.open(volume, Access::Read)?;
        let node = &open.found.node;
        let device = DeviceReport {
            path: node.path().display().to_string(),
            logical_sector_bytes: u32::try_from(open.device.sector_bytes()).unwrap_or(u32::MAX),
            physical_sector_bytes: open.device.physical_sector_bytes,
            backed_by: open.found.identified.backed_by.clone(),
            unfit_as_target: unfit_as_target(node),
        };
        Ok(VolumeReport {
            address: volume.clone(),
            identity: open.identity().to_owned(),
            size_bytes: open.device.size_bytes(),
            read_only: is_read_only(node),
            in_use_by: usage::in_use_by(&self.sysfs, node),
            content: content::detect(&*open.device).map_err(StorageError::io("inspect", volume))?,
            error: None,
            device: Some(device),
        })
    }

    /// Who must not be written, whatever the operator says.
    fn check_target(&self, volume: &VolumeAddress) -> Result<(), StorageError> {
        let found = self.survey()?.find(volume)?;
        let read_only = || is_read_only(&found.node).then(|| "it is read-only".to_owned());
        let in_use = || usage::in_use_by(&self.sysfs, &found.node).map(|user| format!("it is in use: {user}"));
        match unfit_as_target(&found.node).or_else(read_only).or_else(in_use) {
            Some(reason) => Err(StorageError::Refused { volume: volume.clone(), reason }),
            None => Ok(()),
        }
    }

    fn seal_of(&self, volume: &VolumeAddress) -> Result<DeviceSeal, StorageError> {
        let open = self.open(volume, Access::Read)?;
        // What is still on its way to the device would later look like a write of the time after.
        open.device.sync().map_err(StorageError::io("look at", volume))?;
        Ok(open.seal())
    }
}

fn is_read_only(node: &Node) -> bool {
    node.attribute("ro").is_some_and(|flag| flag != "0")
}

fn unfit_as_target(node: &Node) -> Option<String> {
    if let Some(number) = node.partition() {
        return Some(format!("it is partition {number} of a disk; a target is a whole device or a logical volume"));
    }
    let zoned = node.attribute("queue/zoned").filter(|model| model != "none");
    zoned.map(|model| format!("it is a zoned device ({model}), which cannot be written anywhere"))
}

impl StorageSystem for BlockDevices {
    fn report(&self) -> StorageReport {
        let (location, error) = match self.survey() {
            Ok(survey) => (survey.location(&self.selectors), None),
            Err(error) => (String::new(), Some(error.to_string())),
        };
        StorageReport {
            name: self.name.clone(),
            kind: StorageKind::Block,
            location,
            identity: format!("{}/block", crate::image::machine_id()),
            capabilities: StorageCapabilities {
                snapshots: false,
                kernel_lock: self.sysfs.has_sequence_numbers(),
                reservations: false,
                outlives_host: false,
                changed_extents: false,
            },
            error,
            copy_manager: None,
            pool: None,
        }
    }

    fn volumes(&self) -> Result<Vec<VolumeReport>, StorageError> {
        let survey = self.survey()?;
        let mut reports: Vec<VolumeReport> = Vec::new();
        for name in survey.names() {
            let Ok(volume) = VolumeAddress::new(self.name.clone(), name) else { continue };
            reports
                .push(self.look(&volume).unwrap_or_else(|error| VolumeReport::unreadable(volume, error.to_string())));
        }
        Ok(reports)
    }

    fn inspect(&self, volume: &VolumeAddress) -> Result<VolumeReport, StorageError> {
        self.look(volume)
    }

    fn canary(&self, volume: &VolumeAddress) -> Result<CanaryReading, StorageError> {
        let open = self.open(volume, Access::Read)?;
        self.canary.read(&*open.device).map_err(StorageError::io("read", volume))
    }

    fn open_source(&self, volume: &VolumeAddress, view: &SourceView) -> Result<SourceHandle, StorageError> {
        let open = match view {
            SourceView::Snapshot { .. } => return Err(self.no_snapshots()),
            SourceView::Live | SourceView::Sealed { .. } => self.open(volume, Access::Read)?,
        };
        let identity = open.identity().to_owned();
        let device = Arc::clone(&open.device) as Arc<dyn BlockDevice>;
        let SourceView::Sealed { uid } = view else { return Ok(SourceHandle { device, identity }) };
        open.device.sync().map_err(StorageError::io("look at", volume))?;
        let (volume, uid) = (volume.clone(), uid.clone());
        let look = move || check(&open.seal(), &volume, &uid);
        look()?;
        Ok(SourceHandle { device: Arc::new(SealedDevice::new(device, look)), identity })
    }

    fn open_target(&self, volume: &VolumeAddress) -> Result<TargetHandle, StorageError> {
        self.check_target(volume)?;
        let open = self.open(volume, Access::ReadWrite)?;
        let identity = open.identity().to_owned();
        Ok(TargetHandle::new(Arc::clone(&open.device) as _, identity, Box::new(open.into_lock(volume))))
    }

    fn create_snapshot(&self, _volume: &VolumeAddress, _id: SnapshotId) -> Result<SnapshotIdentity, StorageError> {
        Err(self.no_snapshots())
    }

    fn delete_snapshot(&self, _volume: &VolumeAddress, _id: SnapshotId) -> Result<(), StorageError> {
        Ok(())
    }

    fn list_snapshots(&self, _volume: &VolumeAddress) -> Result<Vec<SnapshotIdentity>, StorageError> {
        Ok(Vec::new())
    }

    fn seal(&self, volume: &VolumeAddress) -> Result<SealedIdentity, StorageError> {
        let seal = self.seal_of(volume)?;
        Ok(SealedIdentity { uid: seal.uid(), size_bytes: seal.size_bytes })
    }

    /// Counts of this host say nothing of what another host has sealed.
    fn check_sealed(&self, volume: &VolumeAddress, uid: &str) -> Result<(), StorageError> {
        check(&self.seal_of(volume)?, volume, uid)
    }
}

impl OnHost for BlockDevices {
    fn path_of(&self, volume: &VolumeAddress) -> Result<PathBuf, StorageError> {
        Ok(self.survey()?.find(volume)?.node.path())
    }
}

/// A device that some other part of this crate has found.
pub(crate) fn open_device_for_reading(path: &Path) -> io::Result<Arc<dyn BlockDevice>> {
    Ok(Arc::new(OpenDevice::open(path, Access::Read)?))
}

impl BlockDevices {
    fn no_snapshots(&self) -> StorageError {
        StorageError::SnapshotsUnsupported { system: self.name.clone(), how: NO_SNAPSHOTS }
    }
}

fn check(now: &DeviceSeal, volume: &VolumeAddress, uid: &str) -> Result<(), StorageError> {
    if now.keeps(uid) { Ok(()) } else { Err(StorageError::changed(volume, uid, &now.uid())) }
}
