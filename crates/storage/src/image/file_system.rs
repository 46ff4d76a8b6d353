//! The file system under the images: whether its locks prove anything, and an identity that two hosts agree on exactly when
//! they reach the same one.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use rustix::fs::{StatVfsMountFlags, major, minor};

/// Kernel file systems whose files only this host can have open. (Numbers as in linux/magic.h, and of OpenZFS.)
const LOCAL_MAGICS: [u64; 7] = [
    0xef53,      // ext4
    0x5846_5342, // XFS
    0x9123_683e, // Btrfs
    0x0102_1994, // tmpfs
    0x794c_7630, // overlayfs
    0x2fc1_2fc1, // ZFS
    0xf2f5_2010, // F2FS
];

/// What is known of a mounted file system.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct FileSystem {
    pub(crate) id: String,
    /// A lock held by any process on any of its files is seen by every process that can open them. What is not known to be
    /// local is taken not to be: NFS, CIFS, FUSE, Ceph, GFS2, OCFS2.
    pub(crate) is_local: bool,
    pub(crate) is_read_only: bool,
}

impl FileSystem {
    pub(crate) fn of(directory: impl AsFd) -> io::Result<Self> {
        // The width and sign of the field differ between architectures; magics are 32 bits.
        #[allow(clippy::cast_sign_loss, clippy::unnecessary_cast, clippy::allow_attributes)]
        let magic = rustix::fs::fstatfs(directory.as_fd())?.f_type as u64 & 0xffff_ffff;
        let is_local = LOCAL_MAGICS.contains(&magic);
        let device = rustix::fs::fstat(directory.as_fd())?.st_dev;
        let general = rustix::fs::fstatvfs(directory.as_fd())?;
        let own_id = || format!("{:016x}", general.f_fsid);
        let id = if is_local {
            format!("{}/{}", machine_id(), uuid_of(device).unwrap_or_else(own_id))
        } else {
            mount_source(device).unwrap_or_else(own_id)
        };
        Ok(Self { id, is_local, is_read_only: general.f_flag.contains(StatVfsMountFlags::RDONLY) })
    }
}

/// A local file system is on one host; disks cloned with their UUID are told apart by it.
pub(crate) fn machine_id() -> String {
    fs::read_to_string("/etc/machine-id").map(|text| text.trim().to_owned()).unwrap_or_default()
}

/// The UUID that udev knows for the device. The file system's own number would do, but on XFS it is the device's number,
/// which may change with every boot.
fn uuid_of(device: u64) -> Option<String> {
    let entries = fs::read_dir("/dev/disk/by-uuid").ok()?;
    let is_it = |entry: &fs::DirEntry| fs::metadata(entry.path()).is_ok_and(|link| link.rdev() == device);
    entries.flatten().find(is_it)?.file_name().into_string().ok()
}

/// What is mounted, as the mount table names it: `server:/export` for NFS.
fn mount_source(device: u64) -> Option<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let number = format!("{}:{}", major(device), minor(device));
    table.lines().find_map(|line| source_in(line, &number))
}

/// `ID PARENT MAJOR:MINOR ROOT MOUNTPOINT OPTIONS... - TYPE SOURCE OPTIONS`, see proc_pid_mountinfo(5).
pub(super) fn source_in(line: &str, device: &str) -> Option<String> {
    let (left, right) = line.split_once(" - ")?;
    let mut right = right.split(' ');
    let (kind, source) = (right.next()?, right.next()?);
    let is_it = left.split(' ').nth(2)? == device;
    is_it.then(|| format!("{kind}:{source}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_table_line_gives_its_source() {
        let line = "36 35 0:52 / /mnt/images rw,relatime shared:1 - nfs4 nas:/export/images rw,vers=4.2";
        assert_eq!(source_in(line, "0:52").as_deref(), Some("nfs4:nas:/export/images"));
        assert_eq!(source_in(line, "0:5"), None);
        assert_eq!(source_in("36 35 0:52 / /mnt rw", "0:52"), None);
    }

    #[test]
    fn the_same_file_system_has_the_same_identity() {
        let directory = tempfile::tempdir().unwrap();
        let [one, two] = [(), ()].map(|()| FileSystem::of(fs::File::open(directory.path()).unwrap()).unwrap());
        assert_eq!(one, two);
        assert!(!fs::File::open("/proc").map(|proc| FileSystem::of(proc).unwrap().is_local).unwrap());
    }
}
