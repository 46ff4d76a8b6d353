//! The storage systems of this host, by name.

use std::collections::BTreeMap;
use std::sync::Arc;

use tanist_model::id::{StorageName, VolumeAddress};
use tanist_model::volume::{StorageReport, VolumeReport};
use tanist_storage::StorageSystem;

use crate::config::{ConfigError, StorageConfig};

/// Volumes that an agent lists at most: with room to spare in a frame of 1 MiB.
const LISTED_VOLUMES: usize = 1000;

/// Shared by the watch, the engines and the link.
#[derive(Clone)]
pub(crate) struct Storages(Arc<BTreeMap<StorageName, Arc<dyn StorageSystem>>>);

impl std::fmt::Debug for Storages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Storages {
    /// # Errors
    /// [`ConfigError`] if one of them is configured in a way that cannot be used.
    pub(crate) fn open(configs: &[StorageConfig]) -> Result<Self, ConfigError> {
        let open = |config: &StorageConfig| Ok((config.name().clone(), config.open()?));
        Ok(Self(Arc::new(configs.iter().map(open).collect::<Result<_, ConfigError>>()?)))
    }

    /// # Errors
    /// In words for the operator, if this host has no such storage system.
    pub(crate) fn of(&self, volume: &VolumeAddress) -> Result<Arc<dyn StorageSystem>, String> {
        let system = self.0.get(&volume.system).cloned();
        system.ok_or_else(|| format!("this host has no storage system {}", volume.system))
    }

    /// What this host can see, up to [`LISTED_VOLUMES`]: the list travels in one message. A volume beyond it can be used all the
    /// same; it is not listed. Blocks.
    pub(crate) fn inventory(&self) -> (Vec<StorageReport>, Vec<VolumeReport>) {
        let mut reports = Vec::new();
        let mut volumes = Vec::new();
        for system in self.0.values() {
            // A report may rest on what the listing has found.
            match system.volumes() {
                Ok(found) => volumes.extend(found),
                Err(error) => tracing::warn!(%error, "a storage system cannot be listed"),
            }
            reports.push(system.report());
        }
        if volumes.len() > LISTED_VOLUMES {
            tracing::warn!(found = volumes.len(), listed = LISTED_VOLUMES, "not every volume is listed");
            volumes.truncate(LISTED_VOLUMES);
        }
        (reports, volumes)
    }
}
