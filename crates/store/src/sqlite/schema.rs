//! Migrations: forward only, each in a transaction of its own, the version kept in the database.

use std::path::Path;

use sqlx::{Connection as _, SqliteConnection};

use super::connection;
use super::failure::Failure;
use crate::StoreError;

/// In order; the first is version 1. A migration that has been released never changes.
const MIGRATIONS: &[&str] =
    &[include_str!("../../migrations/0001_initial.sql"), include_str!("../../migrations/0002_removed_epoch.sql")];

/// The version this program knows.
pub(crate) const KNOWN: i64 = MIGRATIONS.len() as i64;

const TABLES: &str = "SELECT COUNT(*) FROM sqlite_master WHERE type = 'table'";
const VERSION_TABLES: &str = "SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name = 'schema_version'";
const CREATE_VERSION: &str = "CREATE TABLE schema_version (version BIGINT NOT NULL)";

/// Refuses a database of another program or of a newer tanist before anything in it changes.
pub(crate) async fn check_before_use(path: &Path) -> Result<(), Failure> {
    let mut connection = connection::inspect(path).await?;
    let checked = version(&mut connection, path).await;
    connection.close().await?;
    checked.map(drop)
}

/// The version of a database; 0 for an empty one.
pub(crate) async fn version(connection: &mut SqliteConnection, path: &Path) -> Result<i64, Failure> {
    let count = |sql| sqlx::query_scalar::<_, i64>(sql);
    if count(VERSION_TABLES).fetch_one(&mut *connection).await? == 0 {
        let empty = count(TABLES).fetch_one(&mut *connection).await? == 0;
        return if empty { Ok(0) } else { Err(StoreError::NotAStore { path: path.to_owned() }.into()) };
    }
    let found = count("SELECT version FROM schema_version").fetch_optional(connection).await?;
    match found {
        None => Err(StoreError::NotAStore { path: path.to_owned() }.into()),
        Some(found) if found > KNOWN => {
            Err(StoreError::NewerSchema { path: path.to_owned(), found, known: KNOWN }.into())
        }
        Some(found) => Ok(found),
    }
}

/// Brings a database up to the version this program knows.
pub(crate) async fn migrate(connection: &mut SqliteConnection, path: &Path) -> Result<(), Failure> {
    let from = version(connection, path).await?;
    let todo = MIGRATIONS.iter().zip(1_i64..).filter(|(_, version)| *version > from);
    for (migration, version) in todo {
        apply(connection, migration, version).await?;
        tracing::info!(version, store = %path.display(), "the store's schema was brought up to date");
    }
    Ok(())
}

async fn apply(connection: &mut SqliteConnection, migration: &'static str, version: i64) -> Result<(), sqlx::Error> {
    connection::execute(connection, "BEGIN IMMEDIATE").await?;
    sqlx::raw_sql(migration).execute(&mut *connection).await?;
    if version == 1 {
        connection::execute(connection, CREATE_VERSION).await?;
        connection::execute(connection, "INSERT INTO schema_version (version) VALUES (0)").await?;
    }
    sqlx::query("UPDATE schema_version SET version = $1").bind(version).execute(&mut *connection).await?;
    connection::execute(connection, "COMMIT").await
}
