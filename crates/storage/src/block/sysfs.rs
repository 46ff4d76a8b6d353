//! Block devices as the kernel shows them under `/sys`: names, numbers, attributes, and who is made of whom.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{major, makedev, minor};

/// A line of an attribute is never longer; what is, is not believed.
const ATTRIBUTE_BYTES: usize = 4096;

/// The number by which the kernel knows a device, and gives to another one when that is gone.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct DeviceNumber(pub(crate) u64);

impl DeviceNumber {
    /// The number of the block special file at a path, links followed; `None` if there is none.
    pub(crate) fn at(path: &Path) -> Option<Self> {
        let found = fs::metadata(path).ok()?;
        found.file_type().is_block_device().then(|| Self(found.rdev()))
    }

    /// From `MAJOR:MINOR`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.trim().split_once(':')?;
        Some(Self(makedev(major.parse().ok()?, minor.parse().ok()?)))
    }
}

impl fmt::Display for DeviceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", major(self.0), minor(self.0))
    }
}

/// Where the kernel shows its devices; another root in tests.
#[derive(Clone, Debug)]
pub(crate) struct Sysfs {
    root: PathBuf,
}

impl Default for Sysfs {
    fn default() -> Self {
        Self { root: PathBuf::from("/sys") }
    }
}

impl Sysfs {
    #[cfg(test)]
    pub(crate) fn at(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// # Errors
    /// `NotFound` if there is no such device (any more).
    pub(crate) fn node(&self, number: DeviceNumber) -> io::Result<Node> {
        Node::at(&self.root.join("dev/block").join(number.to_string()))
    }

    /// All whole devices, in order of their names.
    pub(crate) fn disks(&self) -> io::Result<Vec<Node>> {
        nodes_in(&self.root.join("block"))
    }

    /// Whether this kernel numbers its devices without using a number twice in a boot (`diskseq`, Linux 5.15).
    pub(crate) fn has_sequence_numbers(&self) -> bool {
        self.disks().is_ok_and(|disks| disks.iter().any(|disk| disk.attribute("diskseq").is_some()))
    }
}

/// One device or partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Node {
    directory: PathBuf,
    /// The kernel's name: `sdb`, `dm-3`.
    pub(crate) name: String,
}

impl Node {
    fn at(path: &Path) -> io::Result<Self> {
        let directory = fs::canonicalize(path)?;
        let name = directory.file_name().and_then(|name| name.to_str()).ok_or(io::ErrorKind::InvalidData)?.to_owned();
        Ok(Self { directory, name })
    }

    /// An attribute without the blanks around it; `None` if it is not there, empty, too long or no text.
    pub(crate) fn attribute(&self, name: &str) -> Option<String> {
        let text = String::from_utf8(self.bytes(name)?).ok()?;
        let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
        (!text.is_empty()).then(|| text.to_owned())
    }

    pub(crate) fn bytes(&self, name: &str) -> Option<Vec<u8>> {
        fs::read(self.directory.join(name)).ok().filter(|bytes| bytes.len() <= ATTRIBUTE_BYTES)
    }

    pub(crate) fn number_of(&self, name: &str) -> Option<u64> {
        self.attribute(name)?.parse().ok()
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.directory.join(name).exists()
    }

    pub(crate) fn number(&self) -> Option<DeviceNumber> {
        DeviceNumber::parse(&self.attribute("dev")?)
    }

    /// Where its special file is, as the kernel itself makes it.
    pub(crate) fn path(&self) -> PathBuf {
        Path::new("/dev").join(self.name.replace('!', "/"))
    }

    pub(crate) fn size_bytes(&self) -> u64 {
        self.number_of("size").unwrap_or(0).saturating_mul(512)
    }

    /// The number of a partition on its disk.
    pub(crate) fn partition(&self) -> Option<u64> {
        self.number_of("partition")
    }

    /// The disk that a partition is on; a whole device is its own.
    pub(crate) fn disk(&self) -> io::Result<Self> {
        match (self.partition(), self.directory.parent()) {
            (Some(_), Some(disk)) => Self::at(disk),
            _ => Ok(self.clone()),
        }
    }

    pub(crate) fn partitions(&self) -> Vec<Self> {
        let mut inside = nodes_in(&self.directory).unwrap_or_default();
        inside.retain(|node| node.partition().is_some());
        inside
    }

    /// What a mapped or combined device is made of.
    pub(crate) fn slaves(&self) -> Vec<Self> {
        nodes_in(&self.directory.join("slaves")).unwrap_or_default()
    }

    /// What is made of this device.
    pub(crate) fn holders(&self) -> Vec<Self> {
        nodes_in(&self.directory.join("holders")).unwrap_or_default()
    }

    /// Which device this is among all that this boot has had: the number may be another's tomorrow, this is not. A partition has
    /// that of its disk.
    pub(crate) fn place(&self) -> Option<String> {
        let sequence = self.disk().ok()?.number_of("diskseq")?;
        Some(format!("{}#{sequence}", self.number()?))
    }
}

/// The devices that a directory holds or links to, in order of name.
fn nodes_in(directory: &Path) -> io::Result<Vec<Node>> {
    let entries = fs::read_dir(directory)?.flatten();
    let mut nodes: Vec<Node> =
        entries.filter_map(|entry| Node::at(&entry.path()).ok()).filter(|node| node.has("dev")).collect();
    nodes.sort_by(|left, right| left.name.cmp(&right.name));
    Ok(nodes)
}

#[cfg(test)]
pub(crate) mod fixture {
    //! A `/sys` made of plain files.

    use super::{Path, PathBuf, Sysfs, fs};

    pub(crate) struct Fixture {
        root: tempfile::TempDir,
    }

    impl Fixture {
        pub(crate) fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            for directory in ["block", "dev/block", "devices"] {
                fs::create_dir_all(root.path().join(directory)).unwrap();
            }
            Self { root }
        }

        pub(crate) fn sysfs(&self) -> Sysfs {
            Sysfs::at(self.root.path())
        }

        /// A whole device with attributes by their paths.
        pub(crate) fn disk(&self, name: &str, number: &str, attributes: &[(&str, &str)]) {
            let directory = self.root.path().join("devices").join(name);
            self.device(&directory, number, attributes);
            std::os::unix::fs::symlink(&directory, self.root.path().join("block").join(name)).unwrap();
        }

        pub(crate) fn partition(&self, disk: &str, name: &str, number: &str, index: &str) {
            let directory = self.root.path().join("devices").join(disk).join(name);
            self.device(&directory, number, &[("partition", index)]);
        }

        /// `upper` is made of `lower`.
        pub(crate) fn stack(&self, upper: &str, lower: &str) {
            let devices = self.root.path().join("devices");
            for (at, kind, other) in [(upper, "slaves", lower), (lower, "holders", upper)] {
                let links = devices.join(at).join(kind);
                fs::create_dir_all(&links).unwrap();
                let name = Path::new(other).file_name().unwrap();
                std::os::unix::fs::symlink(devices.join(other), links.join(name)).unwrap();
            }
        }

        fn device(&self, directory: &PathBuf, number: &str, attributes: &[(&str, &str)]) {
            fs::create_dir_all(directory).unwrap();
            for (name, text) in attributes.iter().chain(&[("dev", number)]) {
                let path = directory.join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, format!("{text}\n")).unwrap();
            }
            std::os::unix::fs::symlink(directory, self.root.path().join("dev/block").join(number)).unwrap();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::fixture::Fixture;
    use super::*;

    #[test]
    fn devices_are_found_by_number_and_know_their_relations() {
        let fixture = Fixture::new();
        fixture.disk("sdb", "8:16", &[("size", "2048"), ("diskseq", "7")]);
        fixture.disk("sda", "8:0", &[]);
        fixture.partition("sdb", "sdb1", "8:17", "1");
        fixture.disk("dm-0", "253:0", &[]);
        fixture.stack("dm-0", "sdb/sdb1");
        let sysfs = fixture.sysfs();
        let names: Vec<_> = sysfs.disks().unwrap().into_iter().map(|disk| disk.name).collect();
        assert_eq!(names, ["dm-0", "sda", "sdb"]);
        let partition = sysfs.node(DeviceNumber::parse("8:17").unwrap()).unwrap();
        assert_eq!((partition.partition(), partition.disk().unwrap().size_bytes()), (Some(1), 1 << 20));
        assert_eq!(partition.place().as_deref(), Some("8:17#7"));
        assert_eq!(partition.holders()[0].name, "dm-0");
        let mapped = sysfs.node(DeviceNumber::parse("253:0").unwrap()).unwrap();
        assert_eq!(mapped.slaves(), std::slice::from_ref(&partition));
        assert_eq!(mapped.place(), None, "an old kernel");
        assert_eq!(partition.disk().unwrap().partitions(), [partition]);
        assert!(sysfs.node(DeviceNumber::parse("8:99").unwrap()).is_err());
    }
}
