//! A directory that becomes a package: files are put there with the modes that they will have, whatever the mask of who builds.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use crate::deb::said_by;

const FILE: u32 = 0o644;
const PROGRAM: u32 = 0o755;

/// An empty directory at first.
#[derive(Debug)]
pub struct Stage {
    root: PathBuf,
}

impl Stage {
    pub fn new(root: &Path) -> anyhow::Result<Self> {
        if root.exists() {
            fs::remove_dir_all(root).with_context(|| format!("remove {}", root.display()))?;
        }
        let stage = Self { root: root.to_owned() };
        stage.directory(root)?;
        Ok(stage)
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn program(&self, place: &str, from: &Path) -> anyhow::Result<()> {
        self.put(place, &read(from)?, PROGRAM)
    }

    pub fn script(&self, place: &str, text: &str) -> anyhow::Result<()> {
        self.put(place, text.as_bytes(), PROGRAM)
    }

    pub fn text(&self, place: &str, text: &str) -> anyhow::Result<()> {
        self.put(place, text.as_bytes(), FILE)
    }

    /// Every file below `from`, at the same path below `place`.
    pub fn tree(&self, from: &Path, place: &str) -> anyhow::Result<()> {
        for path in below(from)? {
            let relative = path.strip_prefix(from)?.to_string_lossy().into_owned();
            let target = if place.is_empty() { relative } else { format!("{place}/{relative}") };
            self.put(&target, &read(&path)?, FILE)?;
        }
        Ok(())
    }

    /// A text, compressed; `place` ends in `.gz`.
    pub fn compressed(&self, place: &str, text: &str) -> anyhow::Result<()> {
        let plain = place.trim_end_matches(".gz");
        self.text(plain, text)?;
        self.compress(&self.root.join(plain))
    }

    /// Compresses the files of a directory, each by itself.
    pub fn compress_all(&self, place: &str) -> anyhow::Result<()> {
        below(&self.root.join(place))?.iter().try_for_each(|path| self.compress(path))
    }

    /// Without a time or a name inside: the same text gives the same file.
    fn compress(&self, path: &Path) -> anyhow::Result<()> {
        said_by(Command::new("gzip").args(["-9", "-n", "-f"]).arg(path)).map(drop)?;
        let mut name = path.as_os_str().to_owned();
        name.push(".gz");
        self.directory(path.parent().unwrap_or(&self.root))?;
        fs::set_permissions(&name, fs::Permissions::from_mode(FILE))
            .with_context(|| format!("compress {}", path.display()))
    }

    /// What is on the stage, but for dpkg's own files; relative, sorted.
    pub fn files(&self) -> anyhow::Result<Vec<String>> {
        let relative = |path: PathBuf| Some(path.strip_prefix(&self.root).ok()?.to_string_lossy().into_owned());
        let files = below(&self.root)?.into_iter().filter_map(relative);
        Ok(files.filter(|path| !path.starts_with("DEBIAN/")).collect())
    }

    /// What an installation takes: a KiB for each begun one of a file, and one for each directory (Debian policy 5.6.20).
    pub fn size_kib(&self) -> anyhow::Result<u64> {
        let said = said_by(Command::new("du").args(["-k", "-s", "--apparent-size"]).arg(&self.root))?;
        said.split_whitespace().next().context("du said nothing")?.parse().context("du said no number")
    }

    /// `DEBIAN/md5sums`: what `dpkg --verify` compares with.
    pub fn sums(&self) -> anyhow::Result<()> {
        let sums = said_by(Command::new("md5sum").current_dir(&self.root).arg("--").args(self.files()?))?;
        self.text("DEBIAN/md5sums", &format!("{sums}\n"))
    }

    fn put(&self, place: &str, content: &[u8], mode: u32) -> anyhow::Result<()> {
        let path = self.root.join(place);
        self.directory(path.parent().unwrap_or(&self.root))?;
        fs::write(&path, content).with_context(|| format!("write {}", path.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))
            .with_context(|| format!("write {}", path.display()))
    }

    /// Makes a directory and those above it up to the stage, each open to everybody.
    fn directory(&self, path: &Path) -> anyhow::Result<()> {
        fs::create_dir_all(path).with_context(|| format!("make {}", path.display()))?;
        for made in path.ancestors().take_while(|above| above.starts_with(&self.root)) {
            fs::set_permissions(made, fs::Permissions::from_mode(PROGRAM))?;
        }
        Ok(())
    }
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("read {}", path.display()))
}

/// The files below a directory, sorted.
fn below(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).with_context(|| format!("look into {}", directory.display()))? {
        let path = entry?.path();
        if path.is_dir() { found.extend(below(&path)?) } else { found.push(path) }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_staged_has_the_modes_of_a_package() {
        let folder = tempfile::tempdir().unwrap();
        let stage = Stage::new(&folder.path().join("stage")).unwrap();
        let tree = folder.path().join("tree/etc");
        fs::create_dir_all(&tree).unwrap();
        fs::write(tree.join("a"), "a").unwrap();
        fs::set_permissions(tree.join("a"), fs::Permissions::from_mode(0o600)).unwrap();
        stage.tree(&folder.path().join("tree"), "").unwrap();
        stage.script("DEBIAN/postinst", "#!/bin/sh\n").unwrap();
        stage.compressed("usr/share/doc/changelog.gz", "text").unwrap();
        assert_eq!(stage.files().unwrap(), ["etc/a", "usr/share/doc/changelog.gz"]);
        let mode = |place: &str| fs::metadata(stage.root().join(place)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("etc"), mode("etc/a"), mode("DEBIAN/postinst")), (0o755, 0o644, 0o755));
        assert_eq!(mode("usr/share/doc/changelog.gz"), 0o644);
        stage.sums().unwrap();
        assert!(stage.size_kib().unwrap() > 0);
        assert!(Stage::new(stage.root()).unwrap().files().unwrap().is_empty(), "it begins empty");
    }
}
