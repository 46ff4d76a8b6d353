//! Names: of logical volumes, of the devices that the kernel makes of them, and what our snapshots are called and tagged.

use std::path::{Path, PathBuf};

use tanist_model::id::SnapshotId;

/// No volume is called so: they are ours.
const PREFIX: &str = "tanist-";
const TAG_SNAPSHOT: &str = "tanist.snapshot=";
const TAG_VOLUME: &str = "tanist.volume=";
/// lvm(8): names of group and volume together have at most 126 characters.
const LONGEST: usize = 120;

/// Letters, digits and `+_.-`, not beginning with a hyphen (lvm(8), VALID NAMES): also nothing that could be taken for an option.
pub(crate) fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+_.-".contains(&byte);
    (1..=LONGEST).contains(&text.len())
        && text.bytes().all(plain)
        && !text.starts_with('-')
        && !matches!(text, "." | "..")
}

/// A name that a volume of an operator's may have here.
pub(super) fn is_volume(text: &str) -> bool {
    is_name(text) && !text.starts_with(PREFIX)
}

pub(super) fn of_snapshot(id: SnapshotId) -> String {
    format!("{PREFIX}{id}")
}

/// What a snapshot is known by, whatever becomes of its origin. Tags take what names take, and a few signs more.
pub(crate) fn tags(id: SnapshotId, volume: &str) -> [String; 2] {
    [format!("{TAG_SNAPSHOT}{id}"), format!("{TAG_VOLUME}{volume}")]
}

pub(crate) fn snapshot_of_tags(tags: &str) -> Option<(SnapshotId, String)> {
    let of = |key: &str| tags.split(',').find_map(|tag| tag.strip_prefix(key));
    let volume = of(TAG_VOLUME).filter(|volume| is_name(volume))?;
    Some((of(TAG_SNAPSHOT)?.parse().ok()?, volume.to_owned()))
}

/// The mapped device of a volume: hyphens within a name are doubled, the parts joined by one.
pub(super) fn mapped(group: &str, volume: &str) -> String {
    format!("{}-{}", group.replace('-', "--"), volume.replace('-', "--"))
}

pub(super) fn path(group: &str, volume: &str) -> PathBuf {
    Path::new("/dev/mapper").join(mapped(group, volume))
}

/// The mapped device that thin volumes lie over: a layer of the pool.
pub(super) fn mapped_pool(group: &str, pool: &str) -> String {
    format!("{}-tpool", mapped(group, pool))
}

/// As block devices are identified by the UUID that LVM gives its mapped devices: both UUIDs without hyphens.
pub(super) fn identity(group_uuid: &str, volume_uuid: &str) -> String {
    format!("dm.LVM-{}{}", group_uuid.replace('-', ""), volume_uuid.replace('-', ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_lvm_takes_and_none_is_an_option() {
        for good in ["db", "a-b", "A+1_.x", "tanist-x"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "-f", ".", "..", "a/b", "a b", "a@b", "a,b", &"x".repeat(121)] {
            assert!(!is_name(bad), "{bad}");
        }
        assert!(is_volume("tanist") && !is_volume("tanist-1"));
    }

    #[test]
    fn devices_have_their_hyphens_doubled() {
        assert_eq!(path("vg-a", "db-1"), Path::new("/dev/mapper/vg--a-db--1"));
        assert_eq!(mapped_pool("vg", "thin-pool"), "vg-thin--pool-tpool");
    }

    #[test]
    fn a_snapshot_is_known_by_both_its_tags() {
        let id = SnapshotId(0xabc);
        let both = tags(id, "db-1").join(",");
        assert_eq!(snapshot_of_tags(&both), Some((id, "db-1".to_owned())));
        assert_eq!(snapshot_of_tags(&format!("mine,{both},other")), Some((id, "db-1".to_owned())));
        for text in ["", "tanist.volume=db", &format!("{TAG_SNAPSHOT}{id}"), "tanist.snapshot=x,tanist.volume=db"] {
            assert_eq!(snapshot_of_tags(text), None, "{text}");
        }
    }
}
