//! A loop device over a file for one test: a block device that any Linux can have, with sectors of 512 or 4096 bytes.
//!
//! The tests of `crates/storage` take this file as a module too.

use std::path::{Path, PathBuf};
use std::process::Command;

/// An attached loop device. It is detached when this is dropped, after a panic as well.
#[derive(Debug)]
pub struct LoopDevice {
    pub path: PathBuf,
}

impl LoopDevice {
    /// Attaches the file.
    ///
    /// # Errors
    /// Why it cannot be had, in words, for the line that says that a test was skipped.
    pub fn attach(file: &Path, sector_bytes: u32) -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("loop devices need root".to_owned());
        }
        let sectors = ["--sector-size", &sector_bytes.to_string()].map(ToOwned::to_owned);
        let mut command = Command::new("losetup");
        let output = command.args(["--find", "--show"]).args(sectors).arg(file).output();
        let output = output.map_err(|error| format!("losetup: {error}"))?;
        if !output.status.success() {
            return Err(format!("losetup: {}", String::from_utf8_lossy(&output.stderr).trim()));
        }
        Ok(Self { path: PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()) })
    }

    /// Takes the file away from under the device, once nobody has it open any more.
    pub fn detach(self) {}
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        let detached = Command::new("losetup").arg("--detach").arg(&self.path).status();
        if !detached.as_ref().is_ok_and(std::process::ExitStatus::success) {
            println!("cannot detach {}: {detached:?}", self.path.display());
        }
    }
}
