//! What is asked of SQLite alone: durability, one process, full disks, backups, and databases it must refuse.

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use sqlx::{Connection as _, SqliteConnection};
use support::{agent, command, event, plain, put_replication, replication};
use tanist_model::change::Change;
use tanist_model::id::{EventSeq, Term};
use tanist_model::state::State;
use tanist_store::{EventQuery, NUMBER_MAX, SqliteStore, Store, StoreError};

fn directory() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.db");
    (directory, path)
}

fn sample(term: Term) -> tanist_model::change::Transaction {
    let record = put_replication(replication(1, "db", 3, Some(9)));
    plain(term, vec![Change::PutAgent(agent("h1", 1.37)), record, event("happened", Some("db"), None)])
}

async fn raw(path: &Path, sql: &'static str) {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path).create_if_missing(true);
    let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
    sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

#[tokio::test]
async fn what_is_committed_is_there_after_a_reopen() {
    let (_directory, path) = directory();
    let store = SqliteStore::open(&path).await.unwrap();
    let term = store.begin_term().await.unwrap();
    store.commit(&sample(term)).await.unwrap();
    let state = store.load().await.unwrap();
    store.close().await;
    let store = SqliteStore::open(&path).await.unwrap();
    assert_eq!(store.load().await.unwrap(), state);
    assert_eq!(store.begin_term().await.unwrap(), Term(term.0 + 1));
    store.commit(&plain(Term(term.0 + 1), vec![event("next", None, None)])).await.unwrap();
    let seqs: Vec<u64> = store.events(&EventQuery::latest(9)).await.unwrap().iter().map(|e| e.seq.0).collect();
    assert_eq!(seqs, [1, 2]);
}

/// The files as they are at one moment are what a killed process leaves behind.
#[tokio::test]
async fn what_is_committed_survives_a_kill() {
    let (_directory, path) = directory();
    let store = SqliteStore::open(&path).await.unwrap();
    let term = store.begin_term().await.unwrap();
    for step in 0..20_i64 {
        store.commit(&plain(term, vec![Change::PutCommandResult(command(step as u128, step, "x"))])).await.unwrap();
        let (_image_directory, image) = directory();
        std::fs::copy(&path, &image).unwrap();
        std::fs::copy(path.with_extension("db-wal"), image.with_extension("db-wal")).unwrap();
        let found = SqliteStore::open(&image).await.unwrap().load().await.unwrap();
        assert_eq!(found.commands.len() as i64, step + 1);
    }
}

#[tokio::test]
async fn a_dropped_store_can_be_opened_again() {
    let (_directory, path) = directory();
    let store = SqliteStore::open(&path).await.unwrap();
    let term = store.begin_term().await.unwrap();
    store.commit(&sample(term)).await.unwrap();
    let state = store.load().await.unwrap();
    drop(store);
    assert_eq!(SqliteStore::open(&path).await.unwrap().load().await.unwrap(), state);
}

#[tokio::test]
async fn a_second_server_is_refused_and_told_why() {
    let (_directory, path) = directory();
    let store = SqliteStore::open(&path).await.unwrap();
    let error = SqliteStore::open(&path).await.unwrap_err();
    assert!(matches!(error, StoreError::InUse { .. }) && !error.is_transient());
    let told = error.to_string();
    assert!(told.contains("state.db.lock") && told.contains(&std::process::id().to_string()), "{told}");
    store.close().await;
    SqliteStore::open(&path).await.unwrap();
}

#[tokio::test]
async fn another_program_that_holds_the_database_is_waited_for_then_named() {
    let (_directory, path) = directory();
    let store = SqliteStore::open(&path).await.unwrap();
    let mut other =
        SqliteConnection::connect_with(&sqlx::sqlite::SqliteConnectOptions::new().filename(&path)).await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    let error = store.begin_term().await.unwrap_err();
    assert!(matches!(error, StoreError::Busy { .. }) && error.is_transient(), "{error:?}");
    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
    assert_eq!(store.begin_term().await.unwrap(), Term(1));
}

#[tokio::test]
async fn the_files_are_for_their_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let (directory, path) = directory();
    let store = SqliteStore::open(&path).await.unwrap();
    store.begin_term().await.unwrap();
    store.backup(&directory.path().join("backup.db")).await.unwrap();
    for entry in std::fs::read_dir(directory.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o077, 0, "{:?}", entry.file_name());
    }
}

#[tokio::test]
async fn numbers_never_wrap() {
    let (_directory, path) = directory();
    SqliteStore::open(&path).await.unwrap().close().await;
    raw(&path, "UPDATE meta SET value = 9223372036854775807 WHERE name IN ('term', 'last_event')").await;
    let store = SqliteStore::open(&path).await.unwrap();
    assert!(matches!(store.begin_term().await, Err(StoreError::Overflow { number: "term" })));
    let refused = store.commit(&sample(Term(NUMBER_MAX))).await;
    assert!(matches!(refused, Err(StoreError::Overflow { number: "event number" })), "{refused:?}");
    assert_eq!(store.load().await.unwrap(), State { term: Term(NUMBER_MAX), ..State::default() });
}

#[tokio::test]
async fn a_row_that_cannot_be_understood_is_named() {
    for (sql, table, key) in [
        ("UPDATE agents SET body = '{\"name\":\"h1\"}'", "agents", "h1"),
        ("UPDATE replications SET body = 'x'", "replications", "0000000000000001"),
        ("UPDATE replications SET target_epoch = 99", "replications", "0000000000000001"),
        ("DELETE FROM meta WHERE name = 'term'", "meta", "term"),
    ] {
        let (_directory, path) = directory();
        let store = SqliteStore::open(&path).await.unwrap();
        let term = store.begin_term().await.unwrap();
        store.commit(&sample(term)).await.unwrap();
        store.close().await;
        raw(&path, sql).await;
        let error = SqliteStore::open(&path).await.unwrap().load().await.unwrap_err();
        assert!(matches!(&error, StoreError::Corrupt { table: t, key: k, .. } if *t == table && k == key), "{error:?}");
    }
}

#[tokio::test]
async fn a_newer_schema_is_refused_untouched() {
    let (_directory, path) = directory();
    SqliteStore::open(&path).await.unwrap().close().await;
    raw(&path, "UPDATE schema_version SET version = 1000").await;
    let before = std::fs::read(&path).unwrap();
    let error = SqliteStore::open(&path).await.unwrap_err();
    assert!(matches!(error, StoreError::NewerSchema { found: 1000, .. }), "{error:?}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn a_database_of_something_else_is_refused_untouched() {
    let (_directory, path) = directory();
    raw(&path, "CREATE TABLE recipes (name TEXT)").await;
    let before = std::fs::read(&path).unwrap();
    let error = SqliteStore::open(&path).await.unwrap_err();
    assert!(matches!(error, StoreError::NotAStore { .. }), "{error:?}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_untouched() {
    let (_directory, path) = directory();
    let garbage = b"this is not a database, however long one looks at it".repeat(100);
    std::fs::write(&path, &garbage).unwrap();
    let error = SqliteStore::open(&path).await.unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
    assert_eq!(std::fs::read(&path).unwrap(), garbage);
}

#[tokio::test]
async fn a_backup_made_while_writing_is_one_moment_of_the_store() {
    let (directory, path) = directory();
    let store = Arc::new(SqliteStore::open(&path).await.unwrap());
    let term = store.begin_term().await.unwrap();
    let (writing, stop) = (Arc::clone(&store), Arc::new(std::sync::atomic::AtomicBool::new(false)));
    let stopped = Arc::clone(&stop);
    let writer = tokio::spawn(async move {
        let mut step = 0_i64;
        while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
            let result = Change::PutCommandResult(command(step as u128, step, "x"));
            writing.commit(&plain(term, vec![result, event("x", None, None)])).await.unwrap();
            step += 1;
        }
        step
    });
    let mut sizes = Vec::new();
    for n in 0..5 {
        let backup = directory.path().join(format!("backup-{n}.db"));
        store.backup(&backup).await.unwrap();
        let copy = SqliteStore::open(&backup).await.unwrap();
        let commands = copy.load().await.unwrap().commands.len();
        let events = copy.events(&EventQuery::after(EventSeq(0), 10_000)).await.unwrap().len();
        assert_eq!(commands.min(State::COMMAND_RESULTS), events.min(State::COMMAND_RESULTS));
        sizes.push(commands);
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(writer.await.unwrap() > 0);
    assert!(sizes.is_sorted(), "{sizes:?}");
}

#[tokio::test]
async fn a_backup_overwrites_nothing_and_leaves_nothing_half_done() {
    let (directory, path) = directory();
    let store = SqliteStore::open(&path).await.unwrap();
    let taken = directory.path().join("taken");
    std::fs::write(&taken, "precious").unwrap();
    assert!(matches!(store.backup(&taken).await, Err(StoreError::Exists { .. })));
    assert_eq!(std::fs::read(&taken).unwrap(), b"precious");
    let nowhere = directory.path().join("missing/backup.db");
    assert!(matches!(store.backup(&nowhere).await, Err(StoreError::Io { .. })));
    let names = std::fs::read_dir(directory.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    assert!(names.filter(|name| name.contains("partial")).count() == 0);
}

/// A file system of two megabytes, where this process may mount one.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let arguments = ["-t", "tmpfs", "-o", "size=2m", "tmpfs"];
        let mounted = Command::new("mount").args(arguments).arg(directory.path()).output();
        mounted.is_ok_and(|output| output.status.success()).then(|| Self(directory))
    }

    fn fill(&self) -> PathBuf {
        use std::io::Write as _;
        let ballast = self.0.path().join("ballast");
        let mut file = std::fs::File::create(&ballast).unwrap();
        while file.write_all(&[1; 4096]).is_ok() {}
        ballast
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).output();
    }
}

/// On a real full file system. Where none can be mounted, the same is shown with a database that may not grow, from inside.
#[tokio::test]
async fn a_full_disk_is_said_applies_nothing_and_heals_by_itself() {
    let Some(disk) = SmallDisk::mount() else { return };
    let path = disk.0.path().join("state.db");
    let store = SqliteStore::open(&path).await.unwrap();
    let term = store.begin_term().await.unwrap();
    store.commit(&sample(term)).await.unwrap();
    let before = store.load().await.unwrap();
    let ballast = disk.fill();
    let large = "x".repeat(4000);
    let burst = (0..100).map(|n| Change::PutCommandResult(command(n, 1, &large))).collect();
    let burst = plain(term, burst);
    let error = store.commit(&burst).await.unwrap_err();
    assert!(matches!(error, StoreError::Full { .. }) && error.is_transient(), "{error:?}");
    assert_eq!(store.load().await.unwrap(), before, "reads go on, nothing is half applied");
    let error = store.backup(&disk.0.path().join("backup.db")).await.unwrap_err();
    assert!(matches!(error, StoreError::Full { .. }), "{error:?}");
    std::fs::remove_file(ballast).unwrap();
    store.commit(&burst).await.unwrap();
    assert_eq!(store.load().await.unwrap().commands.len(), 100);
    store.close().await;
}
