//! Volumes and the storage systems that hold them, as agents report them.

use serde::{Deserialize, Serialize};

use crate::id::{StorageName, VolumeAddress};

/// What kind of storage system an agent reaches.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum StorageKind {
    /// Raw image files in a mounted directory.
    Image,
    /// Block devices of the hosts: LUNs, NVMe namespaces, logical volumes.
    Block,
    /// Thin volumes of one LVM thin pool of a host.
    LvmThin,
    /// Exports of a server of NBD.
    Nbd,
    /// Volumes in the memory of one process; for tests and the simulator.
    Memory,
}

/// What a storage system can do for tanist, found out by trying and never assumed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct StorageCapabilities {
    /// Immutable point-in-time copies in constant time (reflink for image files).
    pub snapshots: bool,
    /// A lock on the I/O descriptor proves quiet between processes of one boot of one host: the file system is local, or the
    /// kernel numbers its block devices.
    pub kernel_lock: bool,
    /// Its volumes can be reserved for one writer, and keep that through a loss of power.
    #[serde(default)]
    pub reservations: bool,
    /// What a host has asked of it may be carried out when the host is gone: a new boot of that host proves nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub outlives_host: bool,
    /// It may be asked what changed at a volume since a snapshot; whether it can tell of one volume is seen by asking.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub changed_extents: bool,
}

/// A storage system as one agent sees it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct StorageReport {
    pub name: StorageName,
    pub kind: StorageKind,
    /// Where it is, in its own words: the directory of image files, how many block devices are configured and there.
    pub location: String,
    /// Equal on two agents only if both reach the same storage.
    pub identity: String,
    pub capabilities: StorageCapabilities,
    /// Who copies between its volumes and those of any other storage system with the same, on a host's order and without it; `None` if
    /// nobody does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy_manager: Option<String>,
    /// Why it cannot be used now, if it cannot.
    pub error: Option<String>,
    /// How full it is, where volumes share what is there and can use it up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<PoolUse>,
}

/// How full a pool is that thin volumes and their snapshots share. Percent, rounded up.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct PoolUse {
    /// What the storage calls it: `vg0/pool`.
    pub pool: String,
    pub data_percent: u8,
    /// A pool whose metadata is full stands still, however much room there is for data.
    pub metadata_percent: u8,
}

impl PoolUse {
    /// From here on people are told.
    pub const NEARLY_FULL_PERCENT: u8 = 80;
    /// From here on nothing that takes more room is begun.
    pub const FULL_PERCENT: u8 = 95;

    #[must_use]
    pub fn is_nearly_full(&self) -> bool {
        self.fuller() >= Self::NEARLY_FULL_PERCENT
    }

    /// Clearly so: a pool at the limit would be told again and again.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.fuller() + 5 < Self::NEARLY_FULL_PERCENT
    }

    #[must_use]
    pub fn is_full(&self) -> bool {
        self.fuller() >= Self::FULL_PERCENT
    }

    fn fuller(&self) -> u8 {
        self.data_percent.max(self.metadata_percent)
    }

    /// `12 % data, 3 % metadata`.
    #[must_use]
    pub fn in_words(&self) -> String {
        format!("{} % data, {} % metadata", self.data_percent, self.metadata_percent)
    }
}

/// What was found at the beginning of a volume: a reason to ask before overwriting it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum VolumeContent {
    /// No allocated data, or only zeros where signatures live.
    Blank,
    /// A known signature: a file system, partition table, LVM member, encrypted container.
    Signature(String),
    /// Data without a signature that tanist knows.
    Data,
}

/// A volume as one agent sees it, with the result of its last canary read.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct VolumeReport {
    pub address: VolumeAddress,
    /// Equal for two addresses only if they are one volume (file system and inode for an image file, WWID for a LUN).
    pub identity: String,
    pub size_bytes: u64,
    pub read_only: bool,
    /// Where it is mounted or what else of the host uses it; empty if nothing does.
    pub in_use_by: Option<String>,
    pub content: VolumeContent,
    /// Why the last canary read failed, if it did.
    pub error: Option<String>,
    /// What is known besides of a volume that is a block device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceReport>,
}

impl VolumeReport {
    /// A volume that is there and cannot be looked into. Its content is taken for data: the careful guess.
    #[must_use]
    pub fn unreadable(address: VolumeAddress, error: String) -> Self {
        Self {
            address,
            identity: String::new(),
            size_bytes: 0,
            read_only: true,
            in_use_by: None,
            content: VolumeContent::Data,
            error: Some(error),
            device: None,
        }
    }
}

/// A block device as its host knows it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct DeviceReport {
    /// The kernel's name for it now, for people: `/dev/sdb`. The next boot may give another.
    pub path: String,
    /// What I/O begins and ends at multiples of.
    pub logical_sector_bytes: u32,
    pub physical_sector_bytes: u32,
    /// The identities of what it is made of, all the way down: the disk of a partition, the members of a mapped device, the file
    /// behind a loop device.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backed_by: Vec<String>,
    /// Why it must never become a target, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unfit_as_target: Option<String>,
}

impl VolumeReport {
    /// What writes must begin and end at multiples of; 1 where any byte can be written.
    #[must_use]
    pub fn sector_bytes(&self) -> u64 {
        self.device.as_ref().map_or(1, |device| u64::from(device.logical_sector_bytes.max(1)))
    }

    /// Whether the volume with this identity is this one, or lies beneath it.
    #[must_use]
    pub fn is_made_of(&self, identity: &str) -> bool {
        let beneath = self.device.iter().flat_map(|device| &device.backed_by);
        std::iter::once(&self.identity).chain(beneath).any(|own| own == identity)
    }

    /// Whether a write to one of the two may show in the other.
    #[must_use]
    pub fn shares_bytes_with(&self, other: &Self) -> bool {
        self.is_made_of(&other.identity) || other.is_made_of(&self.identity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(identity: &str, backed_by: &[&str]) -> VolumeReport {
        VolumeReport {
            address: "san-a/v".parse().unwrap(),
            identity: identity.to_owned(),
            size_bytes: 0,
            read_only: false,
            in_use_by: None,
            content: VolumeContent::Blank,
            error: None,
            device: Some(DeviceReport {
                path: "/dev/x".to_owned(),
                logical_sector_bytes: 512,
                physical_sector_bytes: 4096,
                backed_by: backed_by.iter().map(ToString::to_string).collect(),
                unfit_as_target: None,
            }),
        }
    }

    #[test]
    fn a_volume_shares_bytes_with_what_it_is_made_of_and_with_nothing_beside_it() {
        let (disk, first, second) = (volume("d", &[]), volume("d-part1", &["d"]), volume("d-part2", &["d"]));
        let mapped = volume("m", &["d-part1", "d"]);
        assert!(disk.shares_bytes_with(&disk) && disk.shares_bytes_with(&first) && mapped.shares_bytes_with(&disk));
        assert!(first.shares_bytes_with(&mapped), "either way round");
        assert!(!first.shares_bytes_with(&second) && !mapped.shares_bytes_with(&second));
    }

    #[test]
    fn a_pool_is_as_full_as_the_fuller_of_the_two() {
        let pool = |data_percent, metadata_percent| PoolUse { pool: "a/b".to_owned(), data_percent, metadata_percent };
        assert!(!pool(79, 3).is_nearly_full() && pool(80, 3).is_nearly_full() && pool(3, 80).is_nearly_full());
        assert!(!pool(94, 94).is_full() && pool(95, 3).is_full() && pool(3, 95).is_full());
    }

    #[test]
    fn a_report_of_an_older_agent_has_no_device() {
        let text = r#"{"address":"san-a/v","identity":"i","size_bytes":1,"read_only":false,"in_use_by":null,
            "content":"blank","error":null}"#;
        let report: VolumeReport = serde_json::from_str(text).unwrap();
        assert_eq!((report.device.is_none(), report.sector_bytes()), (true, 1));
    }
}
