//! What can go wrong in a store: what was being done, why it failed, what the operator can do, and whether waiting can help.

use std::io;
use std::path::{Path, PathBuf};

use tanist_model::id::Term;

/// Why a store refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another server has begun a newer term. This one must stop deciding.
    #[error("this server is superseded: the store has begun term {stored}")]
    Deposed { stored: Term },
    /// The file system of the store has no room. Nothing was applied; it works again by itself once there is room.
    #[error("cannot {doing}: no space is left at {}; free some: a server that runs goes on by itself", path.display())]
    Full { doing: &'static str, path: PathBuf },
    /// Another tanist process holds the store's lock.
    #[error(
        "another tanist server{} uses this store: it holds the lock on {}; stop it first, or choose another state directory",
        holder.map(|pid| format!(" (process {pid})")).unwrap_or_default(), lock.display()
    )]
    InUse { lock: PathBuf, holder: Option<u32> },
    /// Some other program holds the database locked.
    #[error("cannot {doing}: another program keeps {} locked; end it (a database shell, a backup tool?)", path.display())]
    Busy { doing: &'static str, path: PathBuf },
    /// The database was written by a newer tanist.
    #[error(
        "{} was written by a newer tanist (schema {found}, this one knows up to {known}); install that version or restore a backup",
        path.display()
    )]
    NewerSchema { path: PathBuf, found: i64, known: i64 },
    /// A row does not hold what this table must hold.
    #[error(
        "the store is damaged: table {table}, row {key} cannot be understood; restore a backup with `tanist server restore`"
    )]
    Corrupt { table: &'static str, key: String, source: serde_json::Error },
    /// The database file itself is damaged or not a database.
    #[error("{} is not a sound database: {reason}; restore a backup with `tanist server restore`", path.display())]
    Damaged { path: PathBuf, reason: String },
    /// A sound database of something else.
    #[error("{} is not a tanist store; nothing in it was touched", path.display())]
    NotAStore { path: PathBuf },
    /// There is no store where one has to be.
    #[error(
        "the store {} is missing or empty, and a server that began without it would know neither its replications nor its \
         agents; put the file back, or bring a backup back with `tanist server restore`", path.display()
    )]
    Missing { path: PathBuf },
    /// The file to be written exists.
    #[error("{} exists and is not overwritten; choose another name", path.display())]
    Exists { path: PathBuf },
    /// A number that must never repeat has no next value.
    #[error("the {number} cannot be raised any further; numbers that fence never wrap")]
    Overflow { number: &'static str },
    /// A record that cannot be written as JSON.
    #[error("a record for table {table} cannot be written as JSON")]
    Encode { table: &'static str, source: serde_json::Error },
    /// This kind of store cannot do that.
    #[error("cannot {doing}: this kind of store has no files")]
    Unsupported { doing: &'static str },
    /// The operating system refused.
    #[error("cannot {doing}: {}", path.display())]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    /// The disk failed under the database.
    #[error("cannot {doing}: input or output failed at {}; look at the kernel's log for the disk", path.display())]
    Disk { doing: &'static str, path: PathBuf, source: Box<sqlx::Error> },
    /// The database refused in another way.
    #[error("cannot {doing}: the database {} refused", path.display())]
    Database { doing: &'static str, path: PathBuf, source: Box<sqlx::Error> },
}

impl StoreError {
    /// True if the same request can succeed later without anybody touching the store: space freed, a lock let go, a disk
    /// back. False if only an operator, or nobody, can help.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Full { .. } | Self::Busy { .. } | Self::Disk { .. })
    }

    /// An error of the operating system, told apart by what the caller can do about it.
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { doing, path: path.to_owned() },
            io::ErrorKind::AlreadyExists => Self::Exists { path: path.to_owned() },
            _ => Self::Io { doing, path: path.to_owned(), source },
        }
    }
}
