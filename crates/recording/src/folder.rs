//! The folder of a recording: numbered segments, the last of them open, the others compressed.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write as _};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;

/// The largest segment that is read, unpacked.
pub const SEGMENT_LIMIT: u64 = 1 << 30;
/// How a compressed file begins.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// A segment as it lies there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Segment {
    pub number: u64,
    pub path: PathBuf,
    pub bytes: u64,
    pub closed: bool,
}

/// The folder.
#[derive(Clone, Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// That of a server's or agent's directory.
    #[must_use]
    pub fn of(directory: &Path) -> Self {
        Self(directory.join("recording"))
    }

    /// One by its own path.
    #[must_use]
    pub fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn create(&self) -> io::Result<()> {
        fs::create_dir_all(&self.0)?;
        #[cfg(unix)]
        fs::set_permissions(&self.0, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
        Ok(())
    }

    /// The segments, oldest first. Of a number that is there twice the closed one counts: it became whole before it got its name.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn segments(&self) -> io::Result<Vec<Segment>> {
        let mut segments = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some((number, closed)) = name.to_str().and_then(parse_name) else { continue };
            // It may have made room meanwhile.
            let Ok(metadata) = entry.metadata() else { continue };
            segments.push(Segment { number, path: entry.path(), bytes: metadata.len(), closed });
        }
        segments.sort_by_key(|segment| (segment.number, !segment.closed));
        segments.dedup_by_key(|segment| segment.number);
        Ok(segments)
    }

    pub(crate) fn open_path(&self, number: u64) -> PathBuf {
        self.0.join(format!("{number:012}.log"))
    }

    fn closed_path(&self, number: u64) -> PathBuf {
        self.0.join(format!("{number:012}.log.gz"))
    }

    /// Compresses a segment and removes it; returns what is left of its size.
    pub(crate) fn close(&self, number: u64) -> io::Result<u64> {
        let (open, closed) = (self.open_path(number), self.closed_path(number));
        let part = closed.with_extension("part");
        let mut encoder = GzEncoder::new(File::create(&part)?, Compression::new(3));
        io::copy(&mut File::open(&open)?, &mut encoder)?;
        let mut file = encoder.finish()?;
        file.flush()?;
        // Before the only other copy goes.
        file.sync_all()?;
        let bytes = file.metadata()?.len();
        fs::rename(&part, &closed)?;
        fs::remove_file(&open)?;
        Ok(bytes)
    }

    /// Removes what a killed process left between two steps.
    pub(crate) fn tidy(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.0)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "part") {
                fs::remove_file(&path)?;
            }
        }
        let segments = self.segments()?;
        for segment in segments.iter().filter(|segment| segment.closed) {
            match fs::remove_file(self.open_path(segment.number)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// The number of a segment by the name of its file, and whether it is closed.
#[must_use]
pub fn parse_name(name: &str) -> Option<(u64, bool)> {
    let (digits, closed) = match name.strip_suffix(".log.gz") {
        Some(digits) => (digits, true),
        None => (name.strip_suffix(".log")?, false),
    };
    let plain = digits.len() == 12 && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok())?.map(|number| (number, closed))
}

/// The lines of a segment, compressed or not, and never more than [`SEGMENT_LIMIT`] bytes of them.
///
/// # Errors
/// It cannot be read.
pub fn unpacked<'a>(mut bytes: impl Read + 'a) -> io::Result<Box<dyn BufRead + 'a>> {
    let mut magic = Vec::new();
    bytes.by_ref().take(2).read_to_end(&mut magic)?;
    let is_packed = magic == GZIP;
    let whole = io::Cursor::new(magic).chain(bytes);
    Ok(if is_packed {
        Box::new(BufReader::new(MultiGzDecoder::new(whole).take(SEGMENT_LIMIT)))
    } else {
        Box::new(BufReader::new(whole.take(SEGMENT_LIMIT)))
    })
}
