//! The epochs that this agent was granted, over its restarts, for a server whose store was restored from a backup: it goes on
//! above all that agents show. Nothing else rests on it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use tanist_model::id::{Epochs, ReplicationId};
use tanist_protocol::agent::GRANTS_REMEMBERED;
use tanist_wire::file::{self, Readers};

pub(crate) type Granted = BTreeMap<ReplicationId, Vec<Epochs>>;

#[derive(Debug)]
pub(crate) struct Ledger {
    path: PathBuf,
    granted: Granted,
}

impl Ledger {
    /// Reads the ledger. There is none before the first grant; one that cannot be read is an error, because an agent that has
    /// forgotten its epochs must not claim to have shown them.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        let path = folder.join("granted.json");
        let granted = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Granted::new(),
            Err(error) => return Err(error),
        };
        Ok(Self { path, granted })
    }

    pub(crate) fn granted(&self) -> Vec<(ReplicationId, Epochs)> {
        self.granted.iter().flat_map(|(id, list)| list.iter().map(|epochs| (*id, *epochs))).collect()
    }

    pub(crate) fn remember(&mut self, replication: ReplicationId, epochs: Epochs) {
        let list = self.granted.entry(replication).or_default();
        list.push(epochs);
        let surplus = list.len().saturating_sub(GRANTS_REMEMBERED);
        list.drain(..surplus);
        let written = serde_json::to_vec(&self.granted)
            .map_err(|e| e.to_string())
            .and_then(|bytes| file::replace(&self.path, &bytes, Readers::Owner).map_err(|e| e.to_string()));
        if let Err(error) = written {
            tracing::warn!(error, "the ledger of granted epochs cannot be written");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tanist_model::id::Epoch;

    fn epochs(number: u32) -> Epochs {
        Epochs { source: Epoch(number), target: Epoch(number) }
    }

    #[test]
    fn the_highest_epoch_of_a_quiet_replication_is_never_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(folder.path()).unwrap();
        ledger.remember(ReplicationId(1), epochs(7));
        for number in 1..100 {
            ledger.remember(ReplicationId(2), epochs(number));
        }
        let again = Ledger::open(folder.path()).unwrap().granted();
        assert!(again.contains(&(ReplicationId(1), epochs(7))));
        assert!(again.contains(&(ReplicationId(2), epochs(99))));
        assert_eq!(again.len(), 1 + GRANTS_REMEMBERED);
    }

    #[test]
    fn a_ledger_that_cannot_be_read_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("granted.json"), "[").unwrap();
        assert!(Ledger::open(folder.path()).is_err());
    }
}
