//! Who else on this host uses an image file: a loop device, its mount, or a process that holds a lock.
//!
//! Everything is read from the kernel's tables. Trying a lock to see whether one is held would for that moment hold it, and a
//! successor that tries to prove its predecessor quiet in the same moment would fail.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{major, minor};

/// The user of the file that matters most, in words; `None` if there is none.
pub(super) fn in_use_by(file: impl AsFd) -> io::Result<Option<String>> {
    let stat = rustix::fs::fstat(file)?;
    Ok(loop_device_of(stat.st_dev, stat.st_ino).or_else(|| lock_holder(stat.st_dev, stat.st_ino)))
}

/// The loop device over this file, with its mount if it has one.
fn loop_device_of(device: u64, inode: u64) -> Option<String> {
    let entries = fs::read_dir("/sys/block").ok()?;
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let name = names.filter(|name| name.starts_with("loop")).find(|name| is_over(name, device, inode))?;
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    Some(match mount_point(&mounts, &name) {
        Some(place) => format!("mounted at {place} through /dev/{name}"),
        None => format!("attached as /dev/{name}"),
    })
}

fn is_over(name: &str, device: u64, inode: u64) -> bool {
    let Ok(path) = fs::read_to_string(format!("/sys/block/{name}/loop/backing_file")) else { return false };
    fs::metadata(Path::new(path.trim_end_matches('\n'))).is_ok_and(|file| (file.dev(), file.ino()) == (device, inode))
}

/// Where a loop device, or a partition of it, is mounted.
pub(super) fn mount_point(mounts: &str, loop_name: &str) -> Option<String> {
    let device = format!("/dev/{loop_name}");
    let is_it =
        |source: &str| source.strip_prefix(&device).is_some_and(|rest| rest.is_empty() || rest.starts_with('p'));
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let (source, place) = (fields.next()?, fields.next()?);
        is_it(source).then(|| place.to_owned())
    })
}

/// Another process that holds a lock on the file, or waits for one.
fn lock_holder(device: u64, inode: u64) -> Option<String> {
    let table = fs::read_to_string("/proc/locks").ok()?;
    let file = format!("{:02x}:{:02x}:{inode}", major(device), minor(device));
    let process = table.lines().filter_map(|line| process_in(line, &file)).find(|pid| *pid != std::process::id())?;
    Some(format!("locked by process {process}"))
}

/// `NUMBER: KIND MODE ACCESS PID MAJOR:MINOR:INODE START END`, see proc_locks(5).
pub(super) fn process_in(line: &str, file: &str) -> Option<u32> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let position = fields.iter().position(|field| *field == file)?;
    fields.get(position.checked_sub(1)?)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_table_names_the_process() {
        let line = "1: FLOCK  ADVISORY  WRITE 708 08:01:12345 0 EOF";
        assert_eq!(process_in(line, "08:01:12345"), Some(708));
        assert_eq!(process_in(line, "08:01:1234"), None);
        let waiting = "1: -> FLOCK  ADVISORY  WRITE 709 08:01:12345 0 EOF";
        assert_eq!(process_in(waiting, "08:01:12345"), Some(709));
    }

    #[test]
    fn the_mount_table_names_the_place() {
        let mounts = "/dev/loop12 /mnt/a ext4 rw 0 0\n/dev/loop1p2 /mnt/b xfs rw 0 0\n";
        assert_eq!(mount_point(mounts, "loop1").as_deref(), Some("/mnt/b"));
        assert_eq!(mount_point(mounts, "loop12").as_deref(), Some("/mnt/a"));
        assert_eq!(mount_point(mounts, "loop2"), None);
    }
}
