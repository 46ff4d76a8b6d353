//! The epochs that this agent was granted, over its restarts. A cache for a restored server; nothing of safety rests on it.

use std::path::{Path, PathBuf};

use tanist_model::id::{Epochs, ReplicationId};
use tanist_wire::file::{self, Readers};

/// Grants remembered at most; the oldest are forgotten.
const REMEMBERED: usize = 200;

#[derive(Debug)]
pub(crate) struct Ledger {
    path: PathBuf,
    granted: Vec<(ReplicationId, Epochs)>,
}

impl Ledger {
    /// Reads the ledger; one that cannot be read is an empty one, and said so in the log.
    pub(crate) fn open(folder: &Path) -> Self {
        let path = folder.join("granted.json");
        let granted = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                tracing::warn!(%error, path = %path.display(), "the ledger of granted epochs cannot be read; starting a new one");
                Vec::new()
            }),
            Err(_) => Vec::new(),
        };
        Self { path, granted }
    }

    pub(crate) fn granted(&self) -> Vec<(ReplicationId, Epochs)> {
        self.granted.clone()
    }

    pub(crate) fn remember(&mut self, replication: ReplicationId, epochs: Epochs) {
        self.granted.push((replication, epochs));
        let surplus = self.granted.len().saturating_sub(REMEMBERED);
        self.granted.drain(..surplus);
        let written = serde_json::to_vec(&self.granted)
            .map_err(|e| e.to_string())
            .and_then(|bytes| file::replace(&self.path, &bytes, Readers::Owner).map_err(|e| e.to_string()));
        if let Err(error) = written {
            tracing::warn!(error, "the ledger of granted epochs cannot be written");
        }
    }
}
