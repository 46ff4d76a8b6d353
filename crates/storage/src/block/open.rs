//! One device, found by its identity and open: identified a second time, since between the looking and the opening another device
//! may have taken its place.

use std::sync::Arc;

use tanist_datapath::BlockDevice;
use tanist_model::id::VolumeAddress;

use super::device::{Access, OpenDevice};
use super::seal::DeviceSeal;
use super::survey::Found;
use super::sysfs::Sysfs;
use crate::error::StorageError;
use crate::system::{LockAttempt, VolumeLock};

/// A volume that is open.
#[derive(Debug)]
pub(super) struct OpenVolume {
    pub(super) found: Found,
    pub(super) device: Arc<OpenDevice>,
    /// Which device of this boot it is.
    place: Option<String>,
}

impl OpenVolume {
    pub(super) fn open(
        sysfs: &Sysfs,
        found: Found,
        volume: &VolumeAddress,
        access: Access,
    ) -> Result<Self, StorageError> {
        let device = OpenDevice::open(&found.path, access).map_err(StorageError::io("open", volume))?;
        let now = found
            .identify(sysfs)
            .map_err(|error| StorageError::Refused { volume: volume.clone(), reason: error.to_string() })?;
        if device.number != found.number || now != found.identified {
            let reason = format!("{} became another device in this moment", found.path.display());
            return Err(StorageError::Absent { volume: volume.clone(), reason });
        }
        if device.size_bytes() == 0 {
            let reason = format!("{} has no medium", found.path.display());
            return Err(StorageError::Absent { volume: volume.clone(), reason });
        }
        Ok(Self { place: found.node.place(), found, device: Arc::new(device) })
    }

    pub(super) fn identity(&self) -> &str {
        &self.found.identified.identity
    }

    pub(super) fn seal(&self) -> DeviceSeal {
        DeviceSeal::of(&self.found.node, self.identity(), self.device.size_bytes())
    }

    pub(super) fn into_lock(self, volume: &VolumeAddress) -> ExclusiveClaim {
        ExclusiveClaim { device: self.device, place: self.place, volume: volume.clone() }
    }
}

/// O_EXCL on the description that does the I/O.
pub(super) struct ExclusiveClaim {
    device: Arc<OpenDevice>,
    place: Option<String>,
    volume: VolumeAddress,
}

impl VolumeLock for ExclusiveClaim {
    fn try_lock(&self) -> Result<LockAttempt, StorageError> {
        self.device.try_exclusive().map_err(StorageError::io("claim", &self.volume))
    }

    fn place(&self) -> Option<&str> {
        self.place.as_deref()
    }
}
