//! Who on this host uses a device: a mount, swap, another device that is made of it, a loop device over it. A mount in another
//! name space is not seen here; it holds the device exclusively, and the opening fails.

use std::fs;
use std::path::Path;

use super::sysfs::{DeviceNumber, Node, Sysfs};

/// The user that matters most, in words; `None` if there is none. A disk is used where one of its partitions is.
pub(super) fn in_use_by(sysfs: &Sysfs, node: &Node) -> Option<String> {
    let partitions = node.partitions();
    let parts: Vec<&Node> = std::iter::once(node).chain(&partitions).collect();
    let numbers: Vec<DeviceNumber> = parts.iter().filter_map(|part| part.number()).collect();
    let is_part = |number: DeviceNumber| numbers.contains(&number);
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    mounted(&read("/proc/self/mountinfo"), &is_part)
        .or_else(|| parts.iter().find_map(|part| held(part)))
        .or_else(|| swap(&read("/proc/swaps"), &is_part))
        .or_else(|| under_loop(sysfs, &is_part))
        .or_else(|| same_file(sysfs, node))
}

/// By the number of the device, or by its path where the file system has a number of its own (Btrfs).
pub(super) fn mounted(table: &str, is_part: &dyn Fn(DeviceNumber) -> bool) -> Option<String> {
    let mounts: Vec<&str> = table.lines().filter_map(|line| mount_point(line, is_part)).collect();
    let root = mounts.iter().find(|place| **place == "/").map(|_| "it holds this host's root file system".to_owned());
    root.or_else(|| mounts.first().map(|place| format!("mounted at {place}")))
}

/// `ID PARENT MAJOR:MINOR ROOT MOUNTPOINT OPTIONS... - TYPE SOURCE OPTIONS`, see proc_pid_mountinfo(5).
fn mount_point<'a>(line: &'a str, is_part: &dyn Fn(DeviceNumber) -> bool) -> Option<&'a str> {
    let (left, right) = line.split_once(" - ")?;
    let mut fields = left.split(' ').skip(2);
    let (number, place) = (fields.next()?, fields.nth(1)?);
    let by_number = DeviceNumber::parse(number).is_some_and(is_part);
    let source = Path::new(right.split(' ').nth(1)?);
    (by_number || source.is_absolute() && DeviceNumber::at(source).is_some_and(is_part)).then_some(place)
}

fn held(node: &Node) -> Option<String> {
    let holder = node.holders().into_iter().next()?;
    let name = holder.attribute("dm/name").unwrap_or_else(|| holder.name.clone());
    let what = match holder.attribute("dm/uuid") {
        Some(uuid) if uuid.starts_with("LVM-") => "logical volume",
        Some(uuid) if uuid.starts_with("mpath-") => "multipath device",
        Some(uuid) if uuid.starts_with("CRYPT-") => "encrypted device",
        _ if holder.has("md") => "software RAID",
        _ => "device",
    };
    Some(format!("{what} {name} is made of it"))
}

/// One line of heading, then `PATH TYPE SIZE USED PRIORITY`, see proc_swaps(5).
fn swap(table: &str, is_part: &dyn Fn(DeviceNumber) -> bool) -> Option<String> {
    let paths = table.lines().skip(1).filter_map(|line| line.split_whitespace().next());
    let is_it = |path: &str| DeviceNumber::at(Path::new(path)).is_some_and(is_part);
    paths.into_iter().any(is_it).then(|| "this host swaps to it".to_owned())
}

fn under_loop(sysfs: &Sysfs, is_part: &dyn Fn(DeviceNumber) -> bool) -> Option<String> {
    let disks = sysfs.disks().ok()?;
    let over = disks.iter().find(|disk| {
        let path = disk.attribute("loop/backing_file");
        path.and_then(|path| DeviceNumber::at(Path::new(&path))).is_some_and(is_part)
    })?;
    Some(format!("{} lies over it", over.path().display()))
}

/// Another loop device over the same file: what is written to the one shows in the other.
fn same_file(sysfs: &Sysfs, node: &Node) -> Option<String> {
    let file = node.attribute("loop/backing_file")?;
    let other = sysfs
        .disks()
        .ok()?
        .into_iter()
        .find(|disk| disk.name != node.name && disk.attribute("loop/backing_file").as_ref() == Some(&file))?;
    Some(format!("{} lies over the same file", other.path().display()))
}

#[cfg(test)]
mod tests {
    use super::super::sysfs::fixture::Fixture;
    use super::*;

    fn number(text: &str) -> DeviceNumber {
        DeviceNumber::parse(text).unwrap()
    }

    #[test]
    fn a_mount_is_seen_by_its_number() {
        let table = "22 1 8:2 / / rw - ext4 /dev/none rw\n36 22 8:17 / /mnt/a rw shared:1 - xfs /dev/none rw\n";
        let user = |text| mounted(table, &|found| found == number(text));
        assert_eq!(user("8:17").as_deref(), Some("mounted at /mnt/a"));
        assert!(user("8:2").unwrap().contains("root file system"));
        assert_eq!(user("8:1"), None);
    }

    #[test]
    fn what_is_made_of_a_partition_uses_the_disk() {
        let fixture = Fixture::new();
        fixture.disk("sdb", "8:16", &[]);
        fixture.partition("sdb", "sdb1", "8:17", "1");
        fixture.disk("sdc", "8:32", &[]);
        fixture.disk("dm-0", "253:0", &[("dm/uuid", "LVM-x"), ("dm/name", "vg-data")]);
        fixture.stack("dm-0", "sdb/sdb1");
        let sysfs = fixture.sysfs();
        let user = |text: &str| in_use_by(&sysfs, &sysfs.node(number(text)).unwrap());
        assert_eq!(user("8:16").as_deref(), Some("logical volume vg-data is made of it"));
        assert_eq!(user("8:32"), None);
    }

    #[test]
    fn two_loop_devices_over_one_file_use_each_other() {
        let fixture = Fixture::new();
        for (name, number) in [("loop100", "7:100"), ("loop101", "7:101")] {
            fixture.disk(name, number, &[("loop/backing_file", "/images/a")]);
        }
        let sysfs = fixture.sysfs();
        let user = in_use_by(&sysfs, &sysfs.node(number("7:101")).unwrap());
        assert_eq!(user.as_deref(), Some("/dev/loop100 lies over the same file"));
    }
}
