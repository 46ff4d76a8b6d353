//! The durable store: one SQLite database, one process, one writer.
//!
//! Write-ahead log with `synchronous=FULL`, so that a commit is on disk when it returns. A lock file held for the life of the
//! store keeps a second server out; the term inside every transaction keeps a superseded one from having any effect.

pub(crate) mod connection;
pub(crate) mod failure;
pub(crate) mod lock;
pub(crate) mod read;
pub(crate) mod schema;
#[cfg(test)]
mod tests;
pub(crate) mod write;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use sqlx::SqlitePool;
use tanist_model::change::{GroupOutcome, Transaction};
use tanist_model::event::Event;
use tanist_model::id::Term;
use tanist_model::state::State;

use crate::{EventQuery, EventRetention, Store, StoreError};
use failure::Failure;
use lock::StoreLock;
use write::Writer;

/// The server's state in an SQLite database.
#[derive(Debug)]
pub struct SqliteStore {
    path: PathBuf,
    /// One connection: SQLite has one writer, and waiting here is fairer than its busy handler.
    writer: SqlitePool,
    /// Reads and backups do not hold up commits.
    readers: SqlitePool,
    retention: EventRetention,
    /// Last, so that it is let go after the connections.
    _lock: StoreLock,
}

impl SqliteStore {
    /// Opens the store, creates it where there is none, and brings its schema up to date.
    ///
    /// # Errors
    /// [`StoreError::InUse`] if another process has it; [`StoreError::NewerSchema`], [`StoreError::NotAStore`] or
    /// [`StoreError::Damaged`] if the file is not for this program, which is then left as it is.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_with(path, EventRetention::default()).await
    }

    /// [`open`](Self::open) of a store that has to be there: one made anew in its place would know nothing.
    ///
    /// # Errors
    /// [`StoreError::Missing`] if there is none, or an empty file; else as for `open`.
    pub async fn open_existing(path: &Path) -> Result<Self, StoreError> {
        match path.metadata() {
            Ok(found) if found.len() > 0 => Self::open(path).await,
            Err(error) if error.kind() != ErrorKind::NotFound => Err(StoreError::io("open the store", path)(error)),
            _ => Err(StoreError::Missing { path: path.to_owned() }),
        }
    }

    /// [`open`](Self::open) with another bound on the event log.
    ///
    /// # Errors
    /// As for `open`.
    pub async fn open_with(path: &Path, retention: EventRetention) -> Result<Self, StoreError> {
        let lock = StoreLock::acquire(path)?;
        connection::create_private(path).map_err(StoreError::io("create the store", path))?;
        let opened = Self::open_locked(path).await;
        let (writer, readers) = opened.map_err(|failure| failure.at(path, "open the store"))?;
        Ok(Self { path: path.to_owned(), writer, readers, retention, _lock: lock })
    }

    async fn open_locked(path: &Path) -> Result<(SqlitePool, SqlitePool), Failure> {
        schema::check_before_use(path).await?;
        let writer = connection::writer_pool(path).await?;
        schema::migrate(&mut *writer.acquire().await?, path).await?;
        Ok((writer, connection::reader_pool(path)))
    }

    /// Ends every connection and lets the lock go. Dropping the store does the same, a moment later.
    pub async fn close(self) {
        self.readers.close().await;
        self.writer.close().await;
    }

    async fn try_load(&self) -> Result<State, Failure> {
        let mut connection = self.readers.acquire().await?;
        connection::execute(&mut connection, "BEGIN").await?;
        let state = read::state(&mut connection).await?;
        connection::execute(&mut connection, "COMMIT").await?;
        Ok(state)
    }

    async fn try_begin_term(&self) -> Result<Term, Failure> {
        let mut connection = self.writer.acquire().await?;
        connection::execute(&mut connection, "BEGIN IMMEDIATE").await?;
        let term = write::raise_term(&mut connection, 1).await?;
        connection::execute(&mut connection, "COMMIT").await?;
        Ok(term)
    }

    // Whatever ends this early, an error or a caller that no longer waits, leaves a transaction open: the pool's guard rolls
    // it back before the connection is used again.
    async fn try_commit(&self, transaction: &Transaction) -> Result<Vec<GroupOutcome>, Failure> {
        let mut connection = self.writer.acquire().await?;
        connection::execute(&mut connection, "BEGIN IMMEDIATE").await?;
        let mut writer = Writer::new(&mut connection);
        let outcomes = writer.transaction(transaction).await?;
        writer.finish(self.retention).await?;
        connection::execute(&mut connection, "COMMIT").await?;
        Ok(outcomes)
    }

    async fn try_events(&self, query: &EventQuery) -> Result<Vec<Event>, Failure> {
        read::events(&mut *self.readers.acquire().await?, query).await
    }

    async fn try_backup(&self, to: &Path) -> Result<(), Failure> {
        connection::copy_into(&mut *self.readers.acquire().await?, to).await
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn load(&self) -> Result<State, StoreError> {
        self.try_load().await.map_err(|failure| failure.at(&self.path, "load the state"))
    }

    async fn begin_term(&self) -> Result<Term, StoreError> {
        self.try_begin_term().await.map_err(|failure| failure.at(&self.path, "begin a term"))
    }

    async fn commit(&self, transaction: &Transaction) -> Result<Vec<GroupOutcome>, StoreError> {
        self.try_commit(transaction).await.map_err(|failure| failure.at(&self.path, "commit"))
    }

    async fn events(&self, query: &EventQuery) -> Result<Vec<Event>, StoreError> {
        self.try_events(query).await.map_err(|failure| failure.at(&self.path, "read events"))
    }

    async fn backup(&self, to: &Path) -> Result<(), StoreError> {
        self.try_backup(to).await.map_err(|failure| failure.at(to, "back up the store"))
    }
}
