//! The volumes that agents report: a source and a target for each two of them, on two storage systems that all reach.

use tanist_model::id::{IdError, StorageName, VolumeAddress};
use tanist_model::volume::{StorageCapabilities, StorageKind, StorageReport, VolumeContent, VolumeReport};
use tanist_protocol::message::CanaryReport;

const SIZE_BYTES: u64 = 1 << 30;
/// How long a read is said to have taken.
const READ_US: u64 = 100;

/// The volume that the agents of a pair would read.
///
/// # Errors
/// None for any number of a pair; the names are checked like any other's.
pub fn source_of(pair: usize) -> Result<VolumeAddress, IdError> {
    VolumeAddress::new(StorageName::new("san-a")?, format!("vol{pair}"))
}

/// The volume that the agents of a pair would write.
///
/// # Errors
/// As [`source_of`].
pub fn target_of(pair: usize) -> Result<VolumeAddress, IdError> {
    VolumeAddress::new(StorageName::new("san-b")?, format!("vol{pair}"))
}

/// What the agents of one pair reach.
#[derive(Clone, Debug)]
pub(crate) struct Volumes {
    pub(crate) storage: Vec<StorageReport>,
    pub(crate) volumes: Vec<VolumeReport>,
}

impl Volumes {
    pub(crate) fn of_pair(pair: usize) -> Result<Self, IdError> {
        let volumes = [source_of(pair)?, target_of(pair)?];
        Ok(Self {
            storage: volumes.iter().map(|volume| storage(volume.system.clone())).collect(),
            volumes: volumes.map(volume).to_vec(),
        })
    }

    /// What a read of this volume would tell.
    pub(crate) fn read(&self, address: &VolumeAddress) -> CanaryReport {
        let found = self.volumes.iter().find(|volume| volume.address == *address).cloned();
        let result = found.ok_or_else(|| "no such volume".to_owned());
        CanaryReport { address: address.clone(), result, took_us: READ_US, age_ms: 0 }
    }
}

fn volume(address: VolumeAddress) -> VolumeReport {
    VolumeReport {
        identity: format!("crowd:{address}"),
        address,
        size_bytes: SIZE_BYTES,
        read_only: false,
        in_use_by: None,
        content: VolumeContent::Blank,
        error: None,
        device: None,
    }
}

/// As a file system that hosts share: snapshots, and no lock that proves anything of another host.
fn storage(name: StorageName) -> StorageReport {
    StorageReport {
        kind: StorageKind::Memory,
        location: "simulated".to_owned(),
        identity: format!("crowd:{name}"),
        name,
        capabilities: StorageCapabilities {
            snapshots: true,
            kernel_lock: false,
            reservations: false,
            outlives_host: false,
            changed_extents: false,
        },
        copy_manager: None,
        error: None,
        pool: None,
    }
}
