//! How far a sink has come in the log of events, durable in a file of its own. It is written after a delivery: what a crash leaves
//! between the two is delivered again, under the same identity.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tanist_model::id::{AlarmName, EventSeq};
use tanist_model::time::Timestamp;
use tanist_wire::file::{self, FileError, Readers};

use crate::judge::Open;

/// What is remembered of a sink.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Bookmark {
    /// Every event up to this one is delivered, or was none for this sink.
    pub seq: EventSeq,
    /// Since when deliveries fail, if that was told.
    #[serde(default)]
    pub failing_since: Option<Timestamp>,
    #[serde(default)]
    pub open: Vec<Open>,
}

/// Where a sink's bookmark is kept.
#[must_use]
pub fn file_of(folder: &Path, alarm: &AlarmName) -> PathBuf {
    folder.join(format!("{alarm}.json"))
}

impl Bookmark {
    /// `None` for a sink that has none yet. One that does not parse counts as none: what it knew is lost, and said by the caller.
    ///
    /// # Errors
    /// [`FileError`] if there is one that cannot be read.
    pub fn load(path: &Path) -> Result<Option<Self>, FileError> {
        if !path.exists() {
            return Ok(None);
        }
        Ok(serde_json::from_str(&file::read(path)?).ok())
    }

    /// # Errors
    /// [`FileError`]; the old one stands then.
    pub fn save(&self, path: &Path) -> Result<(), FileError> {
        let text = serde_json::to_string(self).unwrap_or_default();
        file::replace(path, text.as_bytes(), Readers::Owner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bookmark_survives_its_file_and_a_damaged_one_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = file_of(folder.path(), &"noc".parse().unwrap());
        assert_eq!(Bookmark::load(&path).unwrap(), None);
        let bookmark = Bookmark { seq: EventSeq(7), failing_since: Some(Timestamp(3)), open: Vec::new() };
        bookmark.save(&path).unwrap();
        assert_eq!(Bookmark::load(&path).unwrap(), Some(bookmark));
        std::fs::write(&path, "{").unwrap();
        assert_eq!(Bookmark::load(&path).unwrap(), None);
    }
}
