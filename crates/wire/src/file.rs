//! Files that must be whole or absent: keys and certificates are replaced by rename, never written in place, so that a crash in
//! the middle of a renewal leaves the old identity and not half of one.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A file of an identity could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("{doing} {}: {source}", path.display())]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    /// The file holds a private key and somebody else may read it.
    #[error("{} can be read by others (mode {mode:03o})", path.display())]
    Exposed { path: PathBuf, mode: u32 },
}

impl FileError {
    /// What the operator can do.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Io { path, source, .. } if source.kind() == io::ErrorKind::NotFound => {
                format!(
                    "if this host has never had an identity in {}: join, or initialise the server, first; if it had one, put the file \
                     back from your copy",
                    folder(path).display()
                )
            }
            Self::Io { path, .. } => format!("check owner, mode and free space of {}", folder(path).display()),
            Self::Exposed { path, .. } => {
                format!("consider the key disclosed if others use this host; then: chmod 600 {}", path.display())
            }
        }
    }
}

/// Who may read a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Readers {
    /// Mode 0600: private keys.
    Owner,
    /// Mode 0644: certificates.
    Everyone,
}

impl Readers {
    fn mode(self) -> u32 {
        match self {
            Self::Owner => 0o600,
            Self::Everyone => 0o644,
        }
    }
}

/// Replaces `path` by `content`, durably and at once. The mode is in force before the first byte is written.
///
/// # Errors
/// [`FileError::Io`]; the old content is untouched then.
pub fn replace(path: &Path, content: &[u8], readers: Readers) -> Result<(), FileError> {
    let temporary = temporary_beside(path);
    write_new(&temporary, content, readers).map_err(at("write", &temporary))?;
    std::fs::rename(&temporary, path).map_err(at("replace", path))?;
    sync_folder(folder(path)).map_err(at("make durable", path))
}

/// Reads a text that anybody may read.
///
/// # Errors
/// [`FileError::Io`].
pub fn read(path: &Path) -> Result<String, FileError> {
    std::fs::read_to_string(path).map_err(at("read", path))
}

/// Reads a secret, and refuses one that group or others can read.
///
/// # Errors
/// [`FileError`].
pub fn read_private(path: &Path) -> Result<String, FileError> {
    let found = std::fs::metadata(path).map_err(at("read", path))?;
    if !found.is_file() {
        return Err(at("read", path)(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file")));
    }
    let mode = found.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(FileError::Exposed { path: path.to_owned(), mode });
    }
    read(path)
}

/// Makes a folder that only its owner can enter, with its parents.
///
/// # Errors
/// [`FileError::Io`].
pub fn create_private_folder(path: &Path) -> Result<(), FileError> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(at("create folder", path))
}

fn write_new(path: &Path, content: &[u8], readers: Readers) -> io::Result<()> {
    // What a crash left behind may carry another mode: start from nothing.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(readers.mode()).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

fn temporary_beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    path.with_file_name(name)
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn at(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    let path = path.to_owned();
    move |source| FileError::Io { doing, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode_of(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_secret_is_for_its_owner_only_and_is_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        replace(&path, b"one", Readers::Owner).unwrap();
        std::fs::write(folder.path().join("key.pem.new"), b"left behind by a crash").unwrap();
        replace(&path, b"two", Readers::Owner).unwrap();
        assert_eq!((read_private(&path).unwrap().as_str(), mode_of(&path)), ("two", 0o600));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    /// What is said to be done about it must harm nobody: `chmod 600` of a directory would.
    #[test]
    fn a_directory_is_no_secret_file() {
        let folder = tempfile::tempdir().unwrap();
        let error = read_private(folder.path()).unwrap_err();
        assert!(error.to_string().contains("it is not a file"), "{error}");
        assert!(!error.hint().contains("chmod"), "{}", error.hint());
    }

    #[test]
    fn an_exposed_secret_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        replace(&path, b"key", Readers::Everyone).unwrap();
        let error = read_private(&path).unwrap_err();
        assert!(matches!(error, FileError::Exposed { mode: 0o644, .. }), "{error}");
        assert!(error.hint().contains("chmod 600"));
    }
}
