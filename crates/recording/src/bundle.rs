//! A bundle for whoever helps: one archive with a recording, texts, and a manifest with the digest of each file.

use std::io::{self, Read, Write};

use aws_lc_rs::digest::{SHA256, digest};
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};
use tanist_model::time::Timestamp;

use crate::folder::{SEGMENT_LIMIT, parse_name, unpacked};
use crate::machine::Role;
use crate::replay::Source;

/// How bundles are made up.
pub const FORMAT: u32 = 1;
/// The manifest's place; it comes last, since it is of all the others.
pub const MANIFEST: &str = "manifest.json";
/// Where the segments lie in a bundle.
const RECORDING: &str = "recording/";
/// The most that a bundle is believed to hold, unpacked once.
const MOST_BYTES: u64 = 2 << 30;
const MOST_FILES: usize = 10_000;

/// What is in a bundle.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Manifest {
    pub format: u32,
    pub version: String,
    pub of: Role,
    pub made_at: Timestamp,
    pub files: Vec<Listed>,
}

/// A file of a bundle.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Listed {
    pub path: String,
    pub bytes: u64,
    pub sha256: String,
}

/// Why a bundle cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    #[error("read the bundle: {0}")]
    Io(#[from] io::Error),
    #[error("it holds more than any bundle does")]
    TooLarge,
    #[error("it has no manifest: it is not a bundle, or not all of it is there")]
    NoManifest,
    #[error("its manifest is not one: {0}")]
    Manifest(#[from] serde_json::Error),
    #[error("it is made up in format {0}; this program reads format {FORMAT}")]
    Format(u32),
    #[error("{0} is not what the manifest says: it was changed, or not all of it is there")]
    Changed(String),
    #[error("{0} is not in the manifest")]
    Unlisted(String),
}

/// A bundle being made.
#[expect(missing_debug_implementations, reason = "an archive of the library has none")]
pub struct BundleWriter<W: Write> {
    archive: tar::Builder<GzEncoder<W>>,
    manifest: Manifest,
}

impl<W: Write> BundleWriter<W> {
    pub fn new(to: W, of: Role, version: &str, made_at: Timestamp) -> Self {
        let manifest = Manifest { format: FORMAT, version: version.to_owned(), of, made_at, files: Vec::new() };
        Self { archive: tar::Builder::new(GzEncoder::new(to, Compression::default())), manifest }
    }

    /// # Errors
    /// It cannot be written.
    pub fn add(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        self.put(path, bytes)?;
        let sha256 = sha256(bytes);
        self.manifest.files.push(Listed { path: path.to_owned(), bytes: bytes.len() as u64, sha256 });
        Ok(())
    }

    /// # Errors
    /// It cannot be written.
    pub fn add_segment(&mut self, number: u64, bytes: &[u8]) -> io::Result<()> {
        let ending = if bytes.starts_with(&[0x1f, 0x8b]) { ".gz" } else { "" };
        self.add(&format!("{RECORDING}{number:012}.log{ending}"), bytes)
    }

    /// # Errors
    /// It cannot be written.
    pub fn finish(mut self) -> io::Result<(W, Manifest)> {
        let manifest = serde_json::to_vec_pretty(&self.manifest)?;
        self.put(MANIFEST, &manifest)?;
        Ok((self.archive.into_inner()?.finish()?, self.manifest))
    }

    fn put(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(u64::try_from(self.manifest.made_at.0 / 1_000_000).unwrap_or(0));
        self.archive.append_data(&mut header, path, bytes)
    }
}

/// A bundle that is all there.
#[derive(Debug)]
pub struct Bundle {
    pub manifest: Manifest,
    /// By number, oldest first, as they lay on disk.
    segments: Vec<(u64, String, Vec<u8>)>,
}

impl Bundle {
    /// Reads a bundle and compares each file with the manifest.
    ///
    /// # Errors
    /// [`BundleError`].
    pub fn read(from: impl Read) -> Result<Self, BundleError> {
        let (mut files, mut segments, mut manifest) = (Vec::new(), Vec::new(), None);
        Self::each_file(from, |path, bytes| {
            if path == MANIFEST {
                manifest = Some(bytes.to_vec());
                return;
            }
            files.push(Listed { path: path.to_owned(), bytes: bytes.len() as u64, sha256: sha256(bytes) });
            if let Some((number, _)) = path.strip_prefix(RECORDING).and_then(parse_name) {
                segments.push((number, path.to_owned(), bytes.to_vec()));
            }
        })?;
        let manifest: Manifest = serde_json::from_slice(&manifest.ok_or(BundleError::NoManifest)?)?;
        check(&manifest, &files)?;
        segments.sort_by_key(|(number, ..)| *number);
        Ok(Self { manifest, segments })
    }

    /// Reads the files of a bundle one after the other, and believes nothing of them.
    ///
    /// # Errors
    /// [`BundleError`] if it is no archive, or too large.
    pub fn each_file(from: impl Read, mut look: impl FnMut(&str, &[u8])) -> Result<(), BundleError> {
        let mut archive = tar::Archive::new(MultiGzDecoder::new(from).take(MOST_BYTES));
        for (number, entry) in archive.entries()?.enumerate() {
            let mut entry = entry?;
            if number >= MOST_FILES {
                return Err(BundleError::TooLarge);
            }
            let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes)?;
            look(&path, &bytes);
        }
        // The rest of it: the checksum of the whole comes last.
        io::copy(&mut archive.into_inner(), &mut io::sink())?;
        Ok(())
    }

    /// Its segments, to replay.
    pub fn segments(&self) -> impl Iterator<Item = io::Result<Source<'_>>> {
        self.segments.iter().map(|(_, path, bytes)| Ok((path.clone(), unpacked(bytes.as_slice())?)))
    }
}

fn check(manifest: &Manifest, files: &[Listed]) -> Result<(), BundleError> {
    if manifest.format != FORMAT {
        return Err(BundleError::Format(manifest.format));
    }
    if let Some(file) = manifest.files.iter().find(|listed| !files.contains(listed)) {
        return Err(BundleError::Changed(file.path.clone()));
    }
    match files.iter().find(|file| !manifest.files.contains(file)) {
        Some(file) => Err(BundleError::Unlisted(file.path.clone())),
        None => Ok(()),
    }
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(digest(&SHA256, bytes))
}

// One segment of a bundle is a file of it.
const _: () = assert!(SEGMENT_LIMIT <= MOST_BYTES);
