//! The server's durable state behind one trait: what is committed here survives any crash, and what a superseded server
//! commits has no effect.
//!
//! [`SqliteStore`] is for production, [`MemoryStore`] for tests and the simulator. One conformance suite
//! (`tests/conformance.rs`) runs over both.

#![forbid(unsafe_code)]

mod error;
mod events;
mod memory;
mod restore;
mod sql;
mod sqlite;

use std::path::Path;

use async_trait::async_trait;
use tanist_model::change::{GroupOutcome, Transaction};
use tanist_model::event::Event;
use tanist_model::id::Term;
use tanist_model::state::State;

pub use error::StoreError;
pub use events::{EventQuery, EventRetention, EventWindow};
pub use memory::{MemoryStore, StoreFailure};
pub use restore::{NUMBER_MARGIN, RestoreReport, restore};
pub use sqlite::SqliteStore;

/// The largest term or event number that every implementation can hold: SQL knows signed 64 bits only.
pub const NUMBER_MAX: u64 = i64::MAX as u64;

/// Where the server keeps everything that must outlive it.
#[async_trait]
pub trait Store: Send + Sync + std::fmt::Debug {
    /// The whole state but the event log, as of one moment.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] names the row that does not parse.
    async fn load(&self) -> Result<State, StoreError>;

    /// Raises the stored term by one, durably: from here on, every server of a lower term is deposed.
    ///
    /// # Errors
    /// [`StoreError::Overflow`] rather than a number that repeats.
    async fn begin_term(&self) -> Result<Term, StoreError>;

    /// Applies a transaction durably: when this returns `Ok`, it is on disk. Each group stands or falls by its own condition,
    /// in order, and sees what the groups before it did.
    ///
    /// After an error nothing of it is visible. One caveat of every log: if the error is of the disk itself, the transaction
    /// may turn up complete after a crash; repeat it or raise the term before relying on either.
    ///
    /// # Errors
    /// [`StoreError::Deposed`] if the stored term is not the transaction's; otherwise see [`StoreError::is_transient`].
    async fn commit(&self, transaction: &Transaction) -> Result<Vec<GroupOutcome>, StoreError>;

    /// Events in the order of their numbers.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] names the event that does not parse.
    async fn events(&self, query: &EventQuery) -> Result<Vec<Event>, StoreError>;

    /// Writes a consistent copy to a new file while the store is in use. The copy appears whole and durable or not at all.
    ///
    /// # Errors
    /// [`StoreError::Exists`] if something has that name; nothing is overwritten.
    async fn backup(&self, to: &Path) -> Result<(), StoreError>;
}
