//! Who a block device is, whatever the kernel calls it today: the identity that the storage itself gives it, never a name like sdb.
//!
//! In order of trust: the UUID of a mapped or combined device, the world-wide identification of a SCSI LUN or NVMe namespace (VPD
//! page 83h; NVMe Identify), the serial number of the unit. A device of several paths under device-mapper multipath has the
//! identity of its paths, so that a host with one path and a host with four agree.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::sysfs::{DeviceNumber, Node, Sysfs};
use crate::image::{FileSystem, file_identity};

/// Devices stacked deeper than this are refused.
const DEEPEST: u8 = 8;
/// With the name of its storage system it must make an address.
const LONGEST: usize = 180;

/// Why a device has no identity that could be relied on, and what helps.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("there is no such device now")]
    Gone,
    #[error(
        "{device} has no stable identity: neither world-wide identification nor serial number nor UUID; give it one \
         (a serial number in the virtual machine's definition, a UUID in dmsetup create), or use a persistent path \
         under /dev/disk/by-id"
    )]
    None { device: String },
    #[error(
        "{device} is a loop device: only the file behind it has an identity; say that this is meant, with \
         identity = \"backing-file\" beside its path in agent.toml"
    )]
    Loop { device: String },
    #[error("the file behind {device} has been deleted or replaced: detach the device and attach it anew")]
    BackingFileGone { device: String },
    #[error("the paths of {device} do not agree who it is ({paths}): look at multipath -ll")]
    PathsDisagree { device: String, paths: String },
    #[error("{device} is stacked too deep to be followed")]
    TooDeep { device: String },
    #[error("identify {device}: {cause}")]
    Io {
        device: String,
        #[source]
        cause: io::Error,
    },
}

/// A device's identity, and those of all that it is made of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Identified {
    pub(crate) identity: String,
    pub(crate) backed_by: Vec<String>,
}

impl Identified {
    fn new(identity: impl Into<String>) -> Self {
        Self { identity: identity.into(), backed_by: Vec::new() }
    }

    /// The same with what lies beneath.
    fn over(mut self, beneath: impl IntoIterator<Item = Self>) -> Self {
        for one in beneath {
            let fresh = std::iter::once(one.identity).chain(one.backed_by);
            fresh.for_each(|identity| {
                if identity != self.identity && !self.backed_by.contains(&identity) {
                    self.backed_by.push(identity);
                }
            });
        }
        self
    }
}

/// Whether loop devices count as what is behind them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Loops {
    Refused,
    ByBackingFile,
}

/// Who the device is.
pub(crate) fn identify(sysfs: &Sysfs, node: &Node, loops: Loops) -> Result<Identified, IdentityError> {
    Look { sysfs, loops, depth: 0 }.at(node)
}

/// One step down the stack of devices.
struct Look<'a> {
    sysfs: &'a Sysfs,
    loops: Loops,
    depth: u8,
}

impl Look<'_> {
    fn at(&self, node: &Node) -> Result<Identified, IdentityError> {
        let device = || node.path().display().to_string();
        if self.depth > DEEPEST {
            return Err(IdentityError::TooDeep { device: device() });
        }
        if let Some(number) = node.partition() {
            let disk = node.disk().map_err(|cause| IdentityError::Io { device: device(), cause })?;
            let disk = self.deeper().at(&disk)?;
            return Ok(Identified::new(format!("{}-part{number}", disk.identity)).over([disk]));
        }
        if node.has("loop") {
            return self.behind_loop(node);
        }
        if node.name.starts_with("loop") {
            return Err(IdentityError::Gone);
        }
        if let Some(uuid) = node.attribute("dm/uuid") {
            return self.mapped(node, &uuid);
        }
        if let Some(uuid) = node.attribute("md/uuid") {
            return Ok(Identified::new(format!("md.{}", tidy(&uuid))).over(self.beneath(node)));
        }
        let own = of_unit(node).ok_or_else(|| IdentityError::None { device: device() })?;
        Ok(Identified::new(own))
    }

    fn deeper(&self) -> Self {
        Self { sysfs: self.sysfs, loops: Loops::ByBackingFile, depth: self.depth + 1 }
    }

    /// What is beneath and has no identity cannot be met under another name.
    fn beneath(&self, node: &Node) -> Vec<Identified> {
        node.slaves().iter().filter_map(|slave| self.deeper().at(slave).ok()).collect()
    }

    fn mapped(&self, node: &Node, uuid: &str) -> Result<Identified, IdentityError> {
        if !uuid.starts_with("mpath-") {
            return Ok(Identified::new(format!("dm.{}", tidy(uuid))).over(self.beneath(node)));
        }
        let paths: Result<Vec<_>, _> = node.slaves().iter().map(|path| self.deeper().at(path)).collect();
        let paths: Vec<String> = paths?.into_iter().map(|path| path.identity).collect();
        match paths.split_first() {
            Some((first, others)) if others.iter().all(|other| other == first) => Ok(Identified::new(first.clone())),
            Some(_) => {
                Err(IdentityError::PathsDisagree { device: node.path().display().to_string(), paths: paths.join(", ") })
            }
            None => Err(IdentityError::Gone),
        }
    }

    fn behind_loop(&self, node: &Node) -> Result<Identified, IdentityError> {
        let device = node.path().display().to_string();
        if self.loops == Loops::Refused {
            return Err(IdentityError::Loop { device });
        }
        let path = node.attribute("loop/backing_file").ok_or(IdentityError::Gone)?;
        // The kernel says so of a file whose name is gone; a file may also be called so, and is then refused all the same.
        if path.ends_with(" (deleted)") {
            return Err(IdentityError::BackingFileGone { device });
        }
        let behind = self.backing(Path::new(&path), &device)?;
        let part = |name: &str| node.number_of(&format!("loop/{name}")).unwrap_or(0);
        match (part("offset"), part("sizelimit")) {
            (0, 0) => Ok(behind),
            (offset, limit) => Ok(Identified::new(format!("{}+{offset}.{limit}", behind.identity)).over([behind])),
        }
    }

    fn backing(&self, path: &Path, device: &str) -> Result<Identified, IdentityError> {
        let failed = |cause| IdentityError::Io { device: device.to_owned(), cause };
        let found = match std::fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(IdentityError::BackingFileGone { device: device.to_owned() });
            }
            found => found.map_err(failed)?,
        };
        if !found.file_type().is_block_device() {
            return of_file(path).map(Identified::new).map_err(failed);
        }
        let number = DeviceNumber::at(path).ok_or(IdentityError::Gone)?;
        self.deeper().at(&self.sysfs.node(number).map_err(failed)?)
    }
}

/// The identity that an image file has as a volume of its own: the file under a loop device is the same volume as that.
fn of_file(path: &Path) -> io::Result<String> {
    let open = |path: &Path, flags| -> io::Result<OwnedFd> {
        Ok(rustix::fs::open(path, flags | OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
    };
    let directory = path.parent().map_or_else(|| PathBuf::from("/"), Path::to_owned);
    let file_system = FileSystem::of(open(&directory, OFlags::DIRECTORY)?)?;
    file_identity(open(path, OFlags::NOFOLLOW)?, &file_system.id)
}

/// What the unit says of itself.
fn of_unit(node: &Node) -> Option<String> {
    let world_wide =
        ["wwid", "device/wwid"].iter().find_map(|name| node.attribute(name)).filter(|id| is_world_wide(id));
    world_wide.map(|id| tidy(&id)).or_else(|| serial(node))
}

/// The forms of designators that name one unit in the world (SPC-6, 7.7.6; NVMe base specification, 5.1.13). Others, like those
/// that a vendor makes up, are equal on many.
fn is_world_wide(id: &str) -> bool {
    ["naa.", "eui.", "t10.", "uuid.", "nvme."].iter().any(|kind| id.len() > kind.len() && id.starts_with(kind))
}

/// A serial number is unique for a vendor's model.
fn serial(node: &Node) -> Option<String> {
    let own = node.attribute("serial").or_else(|| node.attribute("device/serial"));
    let serial = own.or_else(|| unit_serial(&node.bytes("device/vpd_pg80")?))?;
    let of = |name: &str| node.attribute(&format!("device/{name}"));
    Some(serial_of([of("vendor"), of("model"), Some(serial)]))
}

/// Vendor, model and serial number as one identity, which is no longer than any other.
pub(super) fn serial_of(parts: [Option<String>; 3]) -> String {
    let parts: Vec<String> =
        parts.into_iter().flatten().map(|part| tidy(&part)).filter(|part| !part.is_empty()).collect();
    format!("serial.{}", parts.join(".")).chars().take(LONGEST).collect()
}

/// VPD page 80h: four bytes of header, then the number in ASCII (SPC-6, 7.7.19).
pub(super) fn unit_serial(page: &[u8]) -> Option<String> {
    let length = usize::from(u16::from_be_bytes([*page.get(2)?, *page.get(3)?]));
    let text = std::str::from_utf8(page.get(4..4 + length)?).ok()?.trim_matches([' ', '\0']);
    let says_something = text.bytes().any(|byte| byte != b'0');
    says_something.then(|| text.to_owned())
}

/// As part of an address: no blanks, no slashes, not too long. Two that differ only there are not told apart, and then refused
/// because one name means two devices.
pub(super) fn tidy(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let plain = |c: char| if c.is_ascii_graphic() && c != '/' && c != '\\' { c } else { '_' };
    words.join("_").chars().map(plain).take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use super::super::sysfs::fixture::Fixture;
    use super::*;

    const NAA: &str = "naa.6001405aaaabbbbccccddddeeee0001";

    fn identity(fixture: &Fixture, number: &str, loops: Loops) -> Result<Identified, IdentityError> {
        let sysfs = fixture.sysfs();
        identify(&sysfs, &sysfs.node(DeviceNumber::parse(number).unwrap()).unwrap(), loops)
    }

    fn found(fixture: &Fixture, number: &str) -> Identified {
        identity(fixture, number, Loops::Refused).unwrap()
    }

    #[test]
    fn units_are_known_by_what_they_say_of_themselves() {
        let fixture = Fixture::new();
        fixture.disk("sda", "8:0", &[("device/wwid", NAA), ("device/vendor", "LIO-ORG ")]);
        fixture.disk("sdb", "8:16", &[("device/wwid", "t10.ATA     QEMU HARDDISK   QM00001 ")]);
        fixture.disk("nvme0n1", "259:0", &[("wwid", "eui.0025385b71b0a1c2")]);
        fixture.disk("vda", "254:0", &[("serial", "disk/7")]);
        let page = "\0\u{80}\0\u{6} 42AB ".to_owned();
        fixture.disk("sdc", "8:32", &[("device/vpd_pg80", &page.replace('\u{80}', "x")), ("device/model", "M 1")]);
        let ids = ["8:0", "8:16", "259:0", "254:0", "8:32"].map(|number| found(&fixture, number).identity);
        let expected =
            [NAA, "t10.ATA_QEMU_HARDDISK_QM00001", "eui.0025385b71b0a1c2", "serial.disk_7", "serial.M_1.42AB"];
        assert_eq!(ids, expected);
    }

    #[test]
    fn a_unit_of_many_words_can_be_addressed_too() {
        let words = || Some("word ".repeat(40));
        assert_eq!(serial_of([words(), words(), words()]).len(), LONGEST);
    }

    #[test]
    fn who_says_nothing_reliable_is_refused_with_what_helps() {
        let fixture = Fixture::new();
        fixture.disk("zram0", "252:0", &[]);
        fixture.disk("sda", "8:0", &[("device/wwid", "0vendor says"), ("device/vpd_pg80", "abcd0000")]);
        fixture.disk("dm-0", "253:0", &[("dm/name", "scratch")]);
        for number in ["252:0", "8:0", "253:0"] {
            let refused = identity(&fixture, number, Loops::ByBackingFile).unwrap_err();
            assert!(
                matches!(refused, IdentityError::None { .. }) && refused.to_string().contains("by-id"),
                "{refused}"
            );
        }
    }

    #[test]
    fn a_stack_names_all_that_it_is_made_of() {
        let fixture = Fixture::new();
        fixture.disk("sda", "8:0", &[("device/wwid", NAA)]);
        fixture.partition("sda", "sda2", "8:2", "2");
        fixture.disk("dm-0", "253:0", &[("dm/uuid", "LVM-abc")]);
        fixture.stack("dm-0", "sda/sda2");
        let partition = format!("{NAA}-part2");
        assert_eq!(found(&fixture, "8:2"), Identified { identity: partition.clone(), backed_by: vec![NAA.to_owned()] });
        let mapped = found(&fixture, "253:0");
        assert_eq!(
            mapped,
            Identified { identity: "dm.LVM-abc".to_owned(), backed_by: vec![partition, NAA.to_owned()] }
        );
    }

    #[test]
    fn paths_and_the_device_over_them_are_one() {
        let fixture = Fixture::new();
        fixture.disk("sda", "8:0", &[("device/wwid", NAA)]);
        fixture.disk("sdb", "8:16", &[("device/wwid", NAA)]);
        fixture.disk("sdc", "8:32", &[("device/wwid", "naa.5000c50000000001")]);
        fixture.disk("dm-0", "253:0", &[("dm/uuid", "mpath-36001405")]);
        fixture.stack("dm-0", "sda");
        fixture.stack("dm-0", "sdb");
        assert_eq!(found(&fixture, "253:0"), Identified::new(NAA));
        fixture.stack("dm-0", "sdc");
        let refused = identity(&fixture, "253:0", Loops::Refused).unwrap_err();
        assert!(refused.to_string().contains("do not agree"), "{refused}");
    }

    #[test]
    fn a_loop_device_is_its_file_and_only_if_that_is_said() {
        let fixture = Fixture::new();
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("image");
        std::fs::write(&file, b"x").unwrap();
        let path = std::fs::canonicalize(&file).unwrap().display().to_string();
        fixture.disk("loop0", "7:0", &[("loop/backing_file", &path)]);
        fixture.disk("loop1", "7:1", &[("loop/backing_file", &path), ("loop/offset", "512")]);
        fixture.disk("loop2", "7:2", &[("loop/backing_file", &format!("{path} (deleted)"))]);
        fixture.disk("loop3", "7:3", &[]);
        fixture.disk("dm-0", "253:0", &[("dm/uuid", "CRYPT-1")]);
        fixture.stack("dm-0", "loop0");
        let refused = identity(&fixture, "7:0", Loops::Refused).unwrap_err().to_string();
        assert!(refused.contains("backing-file"), "{refused}");
        let whole = identity(&fixture, "7:0", Loops::ByBackingFile).unwrap();
        let part = identity(&fixture, "7:1", Loops::ByBackingFile).unwrap();
        assert_eq!(whole.identity, of_file(&file).unwrap());
        assert_eq!(part.backed_by, std::slice::from_ref(&whole.identity));
        assert_eq!(found(&fixture, "253:0").backed_by, [whole.identity], "what is beneath needs no permission");
        let gone = identity(&fixture, "7:2", Loops::ByBackingFile).unwrap_err();
        assert!(matches!(gone, IdentityError::BackingFileGone { .. }), "{gone}");
        assert!(matches!(identity(&fixture, "7:3", Loops::ByBackingFile), Err(IdentityError::Gone)));
    }
}
