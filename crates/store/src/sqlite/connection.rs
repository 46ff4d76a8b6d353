//! How a database is opened, copied and made durable: the only place that knows SQLite from other databases.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::pool::PoolOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Sqlite, SqliteConnection, SqlitePool};

use super::failure::Failure;
use super::lock::suffixed;
use crate::StoreError;

/// How long a connection waits for a lock of another program before it gives up.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// A log that a long backup or a burst made large is cut back to this.
const LOG_BYTES_KEPT: &str = "67108864";

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        .disable_statement_logging()
}

pub(crate) async fn writer_pool(path: &Path) -> Result<SqlitePool, sqlx::Error> {
    let options = options(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("journal_size_limit", LOG_BYTES_KEPT);
    guarded(1).connect_with(options).await
}

pub(crate) fn reader_pool(path: &Path) -> SqlitePool {
    guarded(2).connect_lazy_with(options(path).read_only(true))
}

/// A caller that stops waiting can leave its transaction open on the connection (also inside sqlx 0.9 itself, when a `begin`
/// is cancelled), where the next user would continue it. So every connection is rolled back before it is handed out.
fn guarded(connections: u32) -> PoolOptions<Sqlite> {
    PoolOptions::new()
        .max_connections(connections)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .before_acquire(|connection, _| {
            Box::pin(async move {
                roll_back(connection).await;
                Ok(true)
            })
        })
}

/// Without an open transaction SQLite refuses a rollback, which is what is wanted then.
async fn roll_back(connection: &mut SqliteConnection) {
    let _ = execute(connection, "ROLLBACK").await;
}

/// One connection to look at a database that must not change.
pub(crate) async fn inspect(path: &Path) -> Result<SqliteConnection, sqlx::Error> {
    options(path).read_only(true).connect().await
}

/// One connection that may write, in whatever mode the database is.
pub(crate) async fn as_it_is(path: &Path) -> Result<SqliteConnection, sqlx::Error> {
    options(path).connect().await
}

/// One connection that works in the database file alone, without a log beside it.
pub(crate) async fn single_file(path: &Path) -> Result<SqliteConnection, sqlx::Error> {
    options(path).journal_mode(SqliteJournalMode::Delete).synchronous(SqliteSynchronous::Full).connect().await
}

pub(crate) async fn execute(connection: &mut SqliteConnection, sql: &'static str) -> Result<(), sqlx::Error> {
    sqlx::query(sql).execute(connection).await.map(drop)
}

/// Creates an empty file that only its owner can read: the store knows hashes of secrets. An existing one is left alone.
pub(crate) fn create_private(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other.map(drop),
    }
}

/// A file in the making. Removed when dropped, so that nothing half done stays behind an error or a cancelled caller.
#[derive(Debug)]
pub(crate) struct Partial(pub(crate) PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        remove_with_journals(&self.0);
    }
}

/// Removes a database that nobody uses, with what SQLite may have left beside it.
pub(crate) fn remove_with_journals(path: &Path) {
    for suffix in ["-journal", "-wal", "-shm", ""] {
        let _ = std::fs::remove_file(suffixed(path, suffix));
    }
}

/// Writes a consistent copy to a new file. It is made under another name first, so that it appears whole or not at all.
pub(crate) async fn copy_into(connection: &mut SqliteConnection, to: &Path) -> Result<(), Failure> {
    if to.symlink_metadata().is_ok() {
        return Err(StoreError::Exists { path: to.to_owned() }.into());
    }
    let path = suffixed(to, &format!(".partial-{}", std::process::id()));
    let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    created.map_err(StoreError::io("create the copy", &path))?;
    let partial = Partial(path);
    vacuum_into(connection, &partial.0).await?;
    Ok(publish(&partial.0, to)?)
}

/// Writes a consistent copy over an empty file, durably.
pub(crate) async fn vacuum_into(connection: &mut SqliteConnection, empty: &Path) -> Result<(), Failure> {
    let name = empty.to_str().ok_or_else(|| not_text(empty))?;
    sqlx::query("VACUUM INTO $1").bind(name).execute(connection).await?;
    Ok(sync(empty).map_err(StoreError::io("flush the copy", empty))?)
}

/// A link refuses an existing name, which a rename would replace.
fn publish(partial: &Path, to: &Path) -> Result<(), StoreError> {
    std::fs::hard_link(partial, to).map_err(StoreError::io("name the copy", to))?;
    sync_directory_of(to).map_err(StoreError::io("flush the directory of", to))
}

fn not_text(path: &Path) -> StoreError {
    let source = io::Error::new(io::ErrorKind::InvalidFilename, "the name is not valid UTF-8");
    StoreError::Io { doing: "create the copy", path: path.to_owned(), source }
}

pub(crate) fn sync(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Makes names in the directory of a file durable.
pub(crate) fn sync_directory_of(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    sync(parent.unwrap_or(Path::new(".")))
}
