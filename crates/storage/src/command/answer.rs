//! What a snapshot command answers: JSON on standard output, of which nothing is believed before it was looked at.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use tanist_model::excerpt::excerpt;
use tanist_model::id::SnapshotId;

/// The version of what is asked and answered.
pub(super) const VERSION: u32 = 1;
/// A volume with more snapshots than this is not listed.
const MOST_SNAPSHOTS: usize = 10_000;
const LONGEST_UID: usize = 200;
const LONGEST_PATH: usize = 4096;

/// Why an answer is none.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AnswerError {
    #[error("its answer is not the JSON that was asked for: {0}")]
    NotJson(String),
    #[error("it answered in version {0} of the protocol, and this is version {VERSION}")]
    Version(u32),
    #[error("it answered about snapshot {found}, asked about {asked}")]
    AnotherSnapshot { asked: SnapshotId, found: String },
    #[error("its uid {0:?} is none: 1 to {LONGEST_UID} visible ASCII characters without blanks")]
    Uid(String),
    #[error("its path {0:?} is none: absolute, without .. in it")]
    Path(String),
    #[error("it says that the snapshot has {found} bytes, and the volume has {expected}")]
    Size { found: u64, expected: u64 },
    #[error("it names snapshot {0} twice")]
    Twice(SnapshotId),
    #[error("it names more than {MOST_SNAPSHOTS} snapshots")]
    TooMany,
}

/// A snapshot as the command knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    pub(crate) id: SnapshotId,
    pub(crate) uid: String,
    /// Where it can be read on this host.
    pub(crate) path: PathBuf,
    pub(crate) size_bytes: u64,
}

#[derive(Deserialize)]
struct Created {
    version: u32,
    snapshot: RawEntry,
}

#[derive(Deserialize)]
struct Deleted {
    version: u32,
}

#[derive(Deserialize)]
struct Listed {
    version: u32,
    snapshots: Vec<RawEntry>,
}

#[derive(Deserialize)]
struct RawEntry {
    id: String,
    uid: String,
    path: String,
    size_bytes: u64,
}

impl RawEntry {
    fn checked(self) -> Result<Option<Entry>, AnswerError> {
        // What has no id of ours was not made for us: another's snapshot of the volume is nobody's error.
        let Ok(id) = self.id.parse() else { return Ok(None) };
        let is_uid = (1..=LONGEST_UID).contains(&self.uid.len()) && self.uid.bytes().all(|b| b.is_ascii_graphic());
        if !is_uid {
            return Err(AnswerError::Uid(short(&self.uid)));
        }
        let path = Path::new(&self.path);
        let goes_up = path.components().any(|part| part == std::path::Component::ParentDir);
        if !path.is_absolute() || goes_up || self.path.len() > LONGEST_PATH || self.path.contains('\0') {
            return Err(AnswerError::Path(short(&self.path)));
        }
        Ok(Some(Entry { id, uid: self.uid, path: PathBuf::from(self.path), size_bytes: self.size_bytes }))
    }
}

pub(crate) fn created(answer: &[u8], asked: SnapshotId, size_bytes: u64) -> Result<Entry, AnswerError> {
    let Created { version, snapshot } = parse(answer)?;
    check_version(version)?;
    let found = short(&snapshot.id);
    let entry = snapshot.checked()?.filter(|entry| entry.id == asked);
    let entry = entry.ok_or(AnswerError::AnotherSnapshot { asked, found })?;
    if entry.size_bytes != size_bytes {
        return Err(AnswerError::Size { found: entry.size_bytes, expected: size_bytes });
    }
    Ok(entry)
}

pub(crate) fn deleted(answer: &[u8]) -> Result<(), AnswerError> {
    check_version(parse::<Deleted>(answer)?.version)
}

/// In order of their ids.
pub(crate) fn listed(answer: &[u8]) -> Result<Vec<Entry>, AnswerError> {
    let Listed { version, snapshots } = parse(answer)?;
    check_version(version)?;
    if snapshots.len() > MOST_SNAPSHOTS {
        return Err(AnswerError::TooMany);
    }
    let entries: Result<Vec<_>, _> = snapshots.into_iter().map(RawEntry::checked).collect();
    let mut entries: Vec<Entry> = entries?.into_iter().flatten().collect();
    entries.sort_by_key(|entry| entry.id);
    match entries.windows(2).find(|pair| matches!(pair, [left, right] if left.id == right.id)) {
        Some(pair) => Err(AnswerError::Twice(pair[0].id)),
        None => Ok(entries),
    }
}

fn parse<'a, T: Deserialize<'a>>(answer: &'a [u8]) -> Result<T, AnswerError> {
    serde_json::from_slice(answer).map_err(|error| AnswerError::NotJson(excerpt(&error.to_string())))
}

fn check_version(version: u32) -> Result<(), AnswerError> {
    if version == VERSION { Ok(()) } else { Err(AnswerError::Version(version)) }
}

fn short(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: SnapshotId = SnapshotId(7);

    fn entry(id: &str, uid: &str, path: &str, size: u64) -> String {
        format!(r#"{{"id":"{id}","uid":"{uid}","path":"{path}","size_bytes":{size}}}"#)
    }

    fn create(entry: &str) -> Result<Entry, AnswerError> {
        created(format!(r#"{{"version":1,"snapshot":{entry}}}"#).as_bytes(), ID, 512)
    }

    #[test]
    fn an_answer_is_taken_only_whole_and_of_what_was_asked() {
        let id = ID.to_string();
        let good = create(&entry(&id, "array-7", "/dev/mapper/s7", 512)).unwrap();
        assert_eq!((good.id, good.uid.as_str(), good.path), (ID, "array-7", PathBuf::from("/dev/mapper/s7")));
        let other = SnapshotId(8).to_string();
        for (bad, complaint) in [
            (entry(&other, "u", "/s", 512), "asked about"),
            (entry("seven", "u", "/s", 512), "asked about"),
            (entry(&id, "", "/s", 512), "its uid"),
            (entry(&id, "a b", "/s", 512), "its uid"),
            (entry(&id, &"u".repeat(201), "/s", 512), "its uid"),
            (entry(&id, "u", "s", 512), "its path"),
            (entry(&id, "u", "/a/../b", 512), "its path"),
            (entry(&id, "u", "/s", 511), "has 511 bytes, and the volume has 512"),
            ("{}".to_owned(), "missing field"),
        ] {
            let error = create(&bad).unwrap_err().to_string();
            assert!(error.contains(complaint), "{bad}: {error}");
        }
        for garbage in ["", "ok", "{", "[]", r#"{"version":1}"#, "\u{feff}{}"] {
            assert!(matches!(created(garbage.as_bytes(), ID, 512), Err(AnswerError::NotJson(_))), "{garbage}");
        }
        let newer = r#"{"version":2,"snapshots":[]}"#;
        assert_eq!(listed(newer.as_bytes()), Err(AnswerError::Version(2)));
        assert!(deleted(br#"{"version":1}"#).is_ok() && deleted(b"").is_err());
    }

    #[test]
    fn a_list_names_each_snapshot_once_and_others_not_at_all() {
        let list =
            |entries: &[String]| listed(format!(r#"{{"version":1,"snapshots":[{}]}}"#, entries.join(",")).as_bytes());
        let of = |id: u64| entry(&SnapshotId(id).to_string(), "u", "/s", 512);
        let ids: Vec<_> = list(&[of(9), entry("nightly", "", "", 0), of(3)]).unwrap().iter().map(|e| e.id).collect();
        assert_eq!(ids, [SnapshotId(3), SnapshotId(9)]);
        assert_eq!(list(&[of(9), of(9)]), Err(AnswerError::Twice(SnapshotId(9))));
        let many: Vec<String> = (0..=MOST_SNAPSHOTS as u64).map(of).collect();
        assert_eq!(list(&many), Err(AnswerError::TooMany));
    }
}
