//! What stays at the storage when a replication goes whose agents can no longer clean up.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::{SnapshotId, VolumeAddress};
use crate::replication::Side;

/// A snapshot that tanist has made for a replication.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Remnant {
    pub side: Side,
    pub volume: VolumeAddress,
    /// Its name at the storage holds this id.
    pub snapshot: SnapshotId,
    /// The storage system's own identity of it; unknown of one that was asked for and never reported.
    pub uid: Option<String>,
    /// False if it may have been removed already, or never been made: nobody has said.
    pub certain: bool,
}

impl fmt::Display for Remnant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.snapshot, self.volume)?;
        self.uid.iter().try_for_each(|uid| write!(f, " (uid {uid})"))
    }
}

/// `2 snapshots: a of san-b/v, b of san-b/v; and perhaps c of san-a/v`; `None` if nothing was made.
#[must_use]
pub fn in_words(remnants: &[Remnant]) -> Option<String> {
    let list = |certain| {
        let of_it: Vec<String> = remnants.iter().filter(|r| r.certain == certain).map(ToString::to_string).collect();
        (!of_it.is_empty()).then(|| {
            let noun = if of_it.len() == 1 { "snapshot" } else { "snapshots" };
            format!("{noun} {}", of_it.join(", "))
        })
    };
    match (list(true), list(false)) {
        (Some(there), Some(perhaps)) => Some(format!("{there}; and, if not removed before, {perhaps}")),
        (Some(there), None) => Some(there),
        (None, Some(perhaps)) => Some(format!("perhaps {perhaps}")),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_to_be_there_comes_first() {
        let remnant = |id, certain: bool| Remnant {
            side: Side::Target,
            volume: "san-b/vol9".parse().unwrap(),
            snapshot: SnapshotId(id),
            uid: certain.then(|| "u1".to_owned()),
            certain,
        };
        assert_eq!(in_words(&[]), None);
        let (there, perhaps) = (remnant(1, true), remnant(2, false));
        let words = in_words(&[there.clone(), perhaps.clone()]).unwrap();
        assert_eq!(words, format!("snapshot {there}; and, if not removed before, snapshot {perhaps}"));
        assert!(there.to_string().ends_with(" of san-b/vol9 (uid u1)"), "{there}");
        assert_eq!(in_words(std::slice::from_ref(&perhaps)).unwrap(), format!("perhaps snapshot {perhaps}"));
    }
}
