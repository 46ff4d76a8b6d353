//! What a block device looks like, for a source that nobody is to write to during a run.
//!
//! A device has no time of last write. The kernel counts what this host has written through it since it appeared, so a write from
//! here shows. One from another host does not, and neither does one made before a successor on another host goes on: there the
//! operator's word stands alone.

use std::fs;

use super::sysfs::Node;

/// Separates what a uid consists of; no identity contains it.
const BETWEEN: char = '|';

/// What a sealed device looked like.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct DeviceSeal {
    pub(super) identity: String,
    pub(super) size_bytes: u64,
    /// Boot and device in which the count was taken; counts of two places have nothing to do with each other.
    place: String,
    /// Sectors written and discarded; none where the host does not count.
    written: Option<u64>,
}

impl DeviceSeal {
    pub(super) fn of(node: &Node, identity: &str, size_bytes: u64) -> Self {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let place = node.place().map_or_else(String::new, |place| format!("{}:{place}", boot.trim()));
        Self { identity: identity.to_owned(), size_bytes, written: written(node), place }
    }

    pub(super) fn uid(&self) -> String {
        let written = self.written.map_or_else(|| "-".to_owned(), |sectors| sectors.to_string());
        [&self.identity, &self.size_bytes.to_string(), &self.place, &written]
            .map(String::as_str)
            .join(&BETWEEN.to_string())
    }

    pub(super) fn of_uid(uid: &str) -> Option<Self> {
        let mut parts = uid.rsplitn(4, BETWEEN);
        let (written, place) = (parts.next()?.parse().ok(), parts.next()?.to_owned());
        let size_bytes = parts.next()?.parse().ok()?;
        Some(Self { identity: parts.next()?.to_owned(), size_bytes, place, written })
    }

    /// Whether a device that was sealed under that uid may be this one, unchanged.
    pub(super) fn keeps(&self, uid: &str) -> bool {
        let Some(sealed) = Self::of_uid(uid) else { return false };
        let comparable = !self.place.is_empty() && sealed.place == self.place;
        let unwritten =
            !comparable || self.written.is_none() || sealed.written.is_none() || sealed.written == self.written;
        sealed.identity == self.identity && sealed.size_bytes == self.size_bytes && unwritten
    }
}

/// Fields 7 (sectors written) and 14 (sectors discarded) of the statistics, see the kernel's Documentation/block/stat.rst. Where
/// they are switched off they stand still.
fn written(node: &Node) -> Option<u64> {
    if node.disk().ok()?.number_of("queue/iostats") == Some(0) {
        return None;
    }
    let statistics = node.attribute("stat")?;
    let field = |number: usize| statistics.split_whitespace().nth(number - 1)?.parse::<u64>().ok();
    Some(field(7)?.wrapping_add(field(14).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::super::sysfs::DeviceNumber;
    use super::super::sysfs::fixture::Fixture;
    use super::*;

    fn seal(sequence: &str, statistics: &str, size_bytes: u64) -> DeviceSeal {
        let fixture = Fixture::new();
        fixture.disk("sda", "8:0", &[("diskseq", sequence), ("stat", statistics)]);
        let node = fixture.sysfs().node(DeviceNumber::parse("8:0").unwrap()).unwrap();
        DeviceSeal::of(&node, "naa.1|2", size_bytes)
    }

    #[test]
    fn a_write_from_this_host_shows_and_another_hosts_count_says_nothing() {
        let before = "9 0 9 0 1 0 80 0 0 0 0 0 0 8 0 0 0";
        let sealed = seal("5", before, 4096);
        assert_eq!(DeviceSeal::of_uid(&sealed.uid()), Some(sealed.clone()));
        let keeps = |now: &DeviceSeal| now.keeps(&sealed.uid());
        assert!(keeps(&seal("5", "11 0 99 0 1 0 80 0 0 0 0 0 0 8 0 0 0", 4096)), "it was read");
        assert!(!keeps(&seal("5", "9 0 9 0 2 0 88 0 0 0 0 0 0 8 0 0 0", 4096)), "it was written");
        assert!(!keeps(&seal("5", "9 0 9 0 1 0 80 0 0 0 0 0 1 16 0 0 0", 4096)), "it was discarded");
        assert!(!keeps(&seal("5", before, 8192)));
        assert!(keeps(&seal("6", "0 0 0 0 0 0 0 0", 4096)), "another device of the same volume");
        assert!(!sealed.keeps("naa.1"), "not a seal");
    }
}
