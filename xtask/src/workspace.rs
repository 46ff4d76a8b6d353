//! The checkout as the checks see it: its pages, its manifests, its source files. Only reading happens here.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::manifest::{Manifest, WorkspaceDependencies};

/// A file of text: Rust, or a page.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Source {
    /// Relative to the checkout, with `/` between the parts.
    pub path: String,
    pub text: String,
}

/// Where the fuzz targets are.
const FUZZ: &str = "fuzz";

/// A checkout.
#[derive(Clone, Debug)]
pub struct Workspace {
    root: PathBuf,
}

impl Workspace {
    /// The checkout that this program was built from.
    pub fn of_this_checkout() -> Self {
        Self::at(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
    }

    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// A directory of the checkout, by its path from the root.
    pub fn directory(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// A page at the root of the checkout.
    pub fn page(&self, name: &str) -> anyhow::Result<String> {
        read(&self.root.join(name))
    }

    /// The directories of the crates, by name: those below `crates/`, and the three rooms beside it.
    pub fn rooms(&self) -> anyhow::Result<Vec<Room>> {
        let mut rooms = Vec::new();
        for directory in directories(&self.root.join("crates"))? {
            let name = file_name(&directory);
            rooms.push(Room { path: format!("crates/{name}"), name, directory });
        }
        for name in ["bench", "tests", "xtask"] {
            let directory = self.root.join(name);
            if directory.join("Cargo.toml").is_file() {
                rooms.push(Room { path: name.to_owned(), name: name.to_owned(), directory });
            }
        }
        Ok(rooms)
    }

    /// Every crate's manifest.
    pub fn manifests(&self) -> anyhow::Result<Vec<Manifest>> {
        let shared = WorkspaceDependencies::parse(&self.page("Cargo.toml")?)?;
        self.rooms()?
            .iter()
            .map(|room| Manifest::parse(room, &read(&room.directory.join("Cargo.toml"))?, &shared))
            .collect()
    }

    /// Every Rust file of every crate, those of the fuzz targets included: they are a workspace of their own, under the same rules.
    pub fn sources(&self) -> anyhow::Result<Vec<Source>> {
        let mut sources = Vec::new();
        for room in self.rooms()? {
            collect(&room.directory, &room.path, "rs", &mut sources)?;
        }
        let fuzz = self.root.join(FUZZ);
        if fuzz.is_dir() {
            collect(&fuzz, FUZZ, "rs", &mut sources)?;
        }
        Ok(sources)
    }

    /// The pages for people: those at the root of the checkout, everything below `docs/`, and that of the fuzz targets.
    pub fn pages(&self) -> anyhow::Result<Vec<Source>> {
        let mut pages = Vec::new();
        for file in entries(&self.root)?.iter().filter(|entry| entry.is_file() && has_extension(entry, "md")) {
            pages.push(Source { path: file_name(file), text: read(file)? });
        }
        collect(&self.root.join("docs"), "docs", "md", &mut pages)?;
        let targets = format!("{FUZZ}/README.md");
        if self.holds(&targets) {
            pages.push(Source { text: self.page(&targets)?, path: targets });
        }
        Ok(pages)
    }

    /// True if there is a file or directory at a path relative to the checkout.
    pub fn holds(&self, path: &str) -> bool {
        self.root.join(path.trim_start_matches('/')).exists()
    }
}

/// The directory of a crate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Room {
    /// As ARCHITECTURE.md names it.
    pub name: String,
    /// Relative to the checkout.
    pub path: String,
    pub directory: PathBuf,
}

fn collect(directory: &Path, path: &str, extension: &str, sources: &mut Vec<Source>) -> anyhow::Result<()> {
    for entry in entries(directory)? {
        let name = file_name(&entry);
        let inner = format!("{path}/{name}");
        if entry.is_dir() && name != "target" {
            collect(&entry, &inner, extension, sources)?;
        } else if has_extension(&entry, extension) {
            sources.push(Source { path: inner, text: read(&entry)? });
        }
    }
    Ok(())
}

fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found == extension)
}

fn directories(parent: &Path) -> anyhow::Result<Vec<PathBuf>> {
    Ok(entries(parent)?.into_iter().filter(|entry| entry.is_dir()).collect())
}

/// What a directory holds, in the order of the names, so that a report reads the same everywhere.
fn entries(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let context = || format!("list {}", directory.display());
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).with_context(context)? {
        paths.push(entry.with_context(context)?.path());
    }
    paths.sort();
    Ok(paths)
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
