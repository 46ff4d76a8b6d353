//! From SQLite's result codes to what the server and its operator can do about them.

use std::path::{Path, PathBuf};

use crate::StoreError;

// Primary result codes, https://www.sqlite.org/rescode.html; the low byte of an extended code.
const SQLITE_BUSY: i32 = 5;
const SQLITE_LOCKED: i32 = 6;
const SQLITE_IOERR: i32 = 10;
const SQLITE_CORRUPT: i32 = 11;
const SQLITE_FULL: i32 = 13;
const SQLITE_CANTOPEN: i32 = 14;
const SQLITE_NOTADB: i32 = 26;

/// Below this much room a failed write is taken for a full disk: SQLite reports some of those as plain I/O errors (growing
/// the shared memory file, creating the log).
const NO_ROOM_BYTES: u64 = 64 * 1024;

/// An error on its way out: of the database, not yet judged, or one that already says what it is.
#[derive(Debug)]
pub(crate) enum Failure {
    Sql(sqlx::Error),
    Store(StoreError),
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Failure {
    /// The error for the caller, who was doing this to that file.
    pub(crate) fn at(self, path: &Path, doing: &'static str) -> StoreError {
        match self {
            Self::Store(error) => error,
            Self::Sql(error) => judge(error, path.to_owned(), doing),
        }
    }
}

fn judge(error: sqlx::Error, path: PathBuf, doing: &'static str) -> StoreError {
    match primary_code(&error) {
        Some(SQLITE_FULL) => StoreError::Full { doing, path },
        Some(SQLITE_IOERR | SQLITE_CANTOPEN) if has_no_room(&path) => StoreError::Full { doing, path },
        Some(SQLITE_IOERR) => StoreError::Disk { doing, path, source: Box::new(error) },
        Some(SQLITE_BUSY | SQLITE_LOCKED) => StoreError::Busy { doing, path },
        Some(SQLITE_CORRUPT | SQLITE_NOTADB) => StoreError::Damaged { path, reason: error.to_string() },
        None if matches!(error, sqlx::Error::PoolTimedOut) => StoreError::Busy { doing, path },
        _ => StoreError::Database { doing, path, source: Box::new(error) },
    }
}

fn primary_code(error: &sqlx::Error) -> Option<i32> {
    let code: i32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(code & 0xff)
}

fn has_no_room(path: &Path) -> bool {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    rustix::fs::statvfs(directory).is_ok_and(|fs| fs.f_bavail.saturating_mul(fs.f_frsize) < NO_ROOM_BYTES)
}
