//! The storage systems of `agent.toml`: what an operator writes, and what is opened for it.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tanist_model::id::StorageName;
use tanist_storage::{BlockDevices, DeviceSelector, ImageDirectory, SelectorError, StorageSystem};

use super::ConfigError;

/// One storage system. Its name is the same on every agent that reaches it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum StorageConfig {
    /// Raw image files in a mounted directory.
    Image {
        name: StorageName,
        /// Where it is mounted.
        directory: PathBuf,
    },
    /// Block devices, each of them named; never all there are.
    Block { name: StorageName, devices: Vec<DeviceConfig> },
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
            Self::Image { name, .. } | Self::Block { name, .. } => name,
        }
    }

    /// The storage system. Touches nothing of it.
    ///
    /// # Errors
    /// [`ConfigError`] if an entry cannot be used.
    pub(crate) fn open(&self) -> Result<Arc<dyn StorageSystem>, ConfigError> {
        match self {
            Self::Image { name, directory } => Ok(Arc::new(ImageDirectory::new(name.clone(), directory))),
            Self::Block { name, devices } => Ok(Arc::new(BlockDevices::new(name.clone(), selectors(name, devices)?))),
        }
    }
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
