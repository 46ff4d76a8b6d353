//! A file system made for one test on a loop device: XFS and Btrfs have reflinks, the disk of a developer's machine may not.
//!
//! The tests of `crates/storage` take this file as a module too: there is one way to make and to take away such a mount.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// How to make the file systems with reflinks.
pub const XFS: &[&str] = &["mkfs.xfs", "-q", "-m", "reflink=1"];
pub const BTRFS: &[&str] = &["mkfs.btrfs", "-q"];

/// A mounted file system. It is unmounted and its loop device given back when this is dropped, after a panic as well.
#[derive(Debug)]
pub struct Mounted {
    _directory: TempDir,
    pub path: PathBuf,
}

impl Mounted {
    /// Makes the file system in an image file below `scratch`.
    ///
    /// # Errors
    /// Why it cannot be had, in words, for the line that says that a test was skipped.
    pub fn new(scratch: &Path, mkfs: &[&str], size_bytes: u64) -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("mounting needs root".to_owned());
        }
        let (program, options) = mkfs.split_first().ok_or("no file system was named")?;
        let directory = TempDir::with_prefix_in("mounted-", scratch).map_err(|error| error.to_string())?;
        let (image, path) = (directory.path().join("image"), directory.path().join("mount"));
        std::fs::create_dir(&path).map_err(|error| error.to_string())?;
        let file = std::fs::File::create(&image).map_err(|error| error.to_string())?;
        file.set_len(size_bytes).map_err(|error| error.to_string())?;
        run(Command::new(program).args(options).arg(&image))?;
        run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&path))?;
        Ok(Self { _directory: directory, path })
    }
}

impl Drop for Mounted {
    /// mount(8) made the loop device one that goes with its last user. A mount that is still in use leaves the tree of directories
    /// now, and ends with that use.
    fn drop(&mut self) {
        let unmount = |options: &[&str]| run(Command::new("umount").args(options).arg(&self.path));
        if let Err(error) = unmount(&[]).or_else(|_| unmount(&["--lazy"])) {
            println!("cannot unmount {}: {error}", self.path.display());
        }
    }
}

/// Runs a program to its end.
///
/// # Errors
/// What it said, if it could not be started or failed.
pub fn run(command: &mut Command) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("{program}: {error}"))?;
    let complaint = || format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim());
    if output.status.success() { Ok(()) } else { Err(complaint()) }
}
