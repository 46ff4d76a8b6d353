//! The storage systems of `agent.toml`: what an operator writes, and what is opened for it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tanist_model::id::StorageName;
use tanist_storage::{
    BlockDevices, CommandSnapshots, DeviceSelector, ImageDirectory, LvmThin, NbdExports, OnHost, SelectorError,
    SnapshotCommand, StorageSystem, ThinPool,
};

use super::ConfigError;
use super::nbd::NbdConfig;

/// One storage system. Its name is the same on every agent that reaches it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum StorageConfig {
    /// Raw image files in a mounted directory.
    Image {
        name: StorageName,
        /// Where it is mounted.
        directory: PathBuf,
        /// Who makes snapshots, instead of reflinks.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        snapshots: Option<SnapshotConfig>,
    },
    /// Block devices, each of them named; never all there are.
    Block {
        name: StorageName,
        devices: Vec<DeviceConfig>,
        /// Who makes snapshots; without, there are none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        snapshots: Option<SnapshotConfig>,
    },
    /// The thin volumes of one LVM thin pool, whose snapshots are thin snapshots (docs/operations/lvm-thin.md).
    LvmThin {
        name: StorageName,
        /// The volume group.
        group: String,
        /// The thin pool in it.
        pool: String,
        /// How long each command of LVM may take: `60s`, `2m`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        timeout: Option<CallLimit>,
    },
    /// The exports of one server of NBD (docs/operations/nbd.md).
    Nbd(NbdConfig),
}

/// How long each command of LVM may take. Killing one is worse than waiting: it may leave a device suspended.
const LVM_LIMIT: Duration = Duration::from_secs(120);

/// A program of the operator's that makes snapshots (docs/operations/snapshot-command.md).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotConfig {
    /// Absolute; called with one argument.
    pub command: PathBuf,
    /// How long each call may take: `30s`, `2m`.
    #[serde(default)]
    pub timeout: CallLimit,
}

/// How long a program may take, written with its unit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CallLimit(Duration);

/// A limit that cannot be one.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("\"{0}\" is no time limit: 1s to 60m, a number with s or m")]
pub struct CallLimitError(String);

impl Default for CallLimit {
    fn default() -> Self {
        Self(Duration::from_secs(30))
    }
}

impl TryFrom<String> for CallLimit {
    type Error = CallLimitError;

    fn try_from(text: String) -> Result<Self, CallLimitError> {
        let seconds = match text.strip_suffix('m') {
            Some(minutes) => minutes.parse::<u64>().ok().and_then(|minutes| minutes.checked_mul(60)),
            None => text.strip_suffix('s').and_then(|seconds| seconds.parse().ok()),
        };
        let seconds = seconds.filter(|seconds| (1..=3600).contains(seconds));
        seconds.map(|seconds| Self(Duration::from_secs(seconds))).ok_or(CallLimitError(text))
    }
}

impl From<CallLimit> for Duration {
    fn from(limit: CallLimit) -> Self {
        limit.0
    }
}

impl From<CallLimit> for String {
    fn from(limit: CallLimit) -> Self {
        format!("{}s", limit.0.as_secs())
    }
}

/// The devices that may be touched: one by its persistent path, or all whose identity matches.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceConfig {
    /// A link under `/dev/disk` or `/dev/mapper`; or any path to a loop device, with `identity` beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// An identity in which `*` stands for any characters.
    #[serde(default, rename = "match", skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// What makes a loop device the volume that it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<BackingFile>,
    /// The volume's name in its storage system, instead of the identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<String>,
}

/// A loop device has no identity of its own; that it is to be known by the file behind it has to be said.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BackingFile {
    BackingFile,
}

impl StorageConfig {
    #[must_use]
    pub fn name(&self) -> &StorageName {
        match self {
            Self::Image { name, .. } | Self::Block { name, .. } | Self::LvmThin { name, .. } => name,
            Self::Nbd(config) => &config.name,
        }
    }

    /// The storage system. Touches nothing of it.
    ///
    /// # Errors
    /// [`ConfigError`] if an entry cannot be used.
    pub(crate) fn open(&self) -> Result<Arc<dyn StorageSystem>, ConfigError> {
        match self {
            Self::Image { name, directory, snapshots } => {
                with_snapshots(name, ImageDirectory::new(name.clone(), directory), snapshots.as_ref())
            }
            Self::Block { name, devices, snapshots } => {
                let devices = BlockDevices::new(name.clone(), selectors(name, devices)?);
                with_snapshots(name, devices, snapshots.as_ref())
            }
            Self::LvmThin { name, group, pool, timeout } => {
                let pool = ThinPool::new(group, pool)
                    .map_err(|cause| ConfigError::ThinPool { system: name.clone(), cause })?;
                Ok(Arc::new(LvmThin::new(name.clone(), pool, timeout.map_or(LVM_LIMIT, |limit| limit.0))))
            }
            Self::Nbd(config) => {
                let server =
                    config.server().map_err(|cause| ConfigError::Nbd { system: config.name.clone(), cause })?;
                Ok(Arc::new(NbdExports::new(config.name.clone(), server)))
            }
        }
    }
}

fn with_snapshots<S: OnHost + 'static>(
    name: &StorageName,
    storage: S,
    snapshots: Option<&SnapshotConfig>,
) -> Result<Arc<dyn StorageSystem>, ConfigError> {
    let Some(config) = snapshots else { return Ok(Arc::new(storage)) };
    if !config.command.is_absolute() {
        return Err(ConfigError::SnapshotCommand { system: name.clone(), command: config.command.clone() });
    }
    let command = SnapshotCommand { program: config.command.clone(), limit: config.timeout.0 };
    Ok(Arc::new(CommandSnapshots::new(storage, command)))
}

fn selectors(system: &StorageName, devices: &[DeviceConfig]) -> Result<Vec<DeviceSelector>, ConfigError> {
    if devices.is_empty() {
        return Err(ConfigError::NoDevices(system.clone()));
    }
    devices.iter().map(|device| device.selector(system)).collect()
}

impl DeviceConfig {
    fn selector(&self, system: &StorageName) -> Result<DeviceSelector, ConfigError> {
        let selector: Result<_, SelectorError> = match (&self.path, &self.pattern) {
            (Some(path), None) if self.identity.is_some() => DeviceSelector::backing_file(path, self.volume.clone()),
            (Some(path), None) => DeviceSelector::path(path, self.volume.clone()),
            (None, Some(pattern)) if self.identity.is_none() && self.volume.is_none() => {
                DeviceSelector::identity(pattern)
            }
            _ => return Err(ConfigError::PathOrMatch(system.clone())),
        };
        selector.map_err(|cause| ConfigError::Device { system: system.clone(), cause })
    }
}
