//! What can only be shown from inside: a database that may not grow, and a caller that stops waiting.

use std::path::PathBuf;

use tanist_model::agent::{AgentRecord, AgentSlot, Penalty};
use tanist_model::change::{Change, CommandResult, Condition, Group, Transaction};
use tanist_model::id::{AgentName, CommandId, Term};
use tanist_model::time::Timestamp;

use super::{SqliteStore, connection};
use crate::{Store, StoreError};

fn results(term: Term, ids: std::ops::Range<u128>) -> Transaction {
    let body = serde_json::Value::String("x".repeat(2000));
    let put = |id| Change::PutCommandResult(CommandResult { id: CommandId(id), at: Timestamp(0), body: body.clone() });
    Transaction { term, groups: vec![Group { condition: Condition::Term, changes: ids.map(put).collect() }] }
}

fn agent() -> Change {
    Change::PutAgent(AgentRecord {
        name: AgentName::new("h1").unwrap(),
        slot: AgentSlot(1),
        certificate_serial: String::new(),
        previous_serial: None,
        certificate_expires_at: Timestamp(0),
        joined_at: Timestamp(0),
        removed: false,
        drained: false,
        penalty: Penalty::default(),
        host: None,
        listen_address: None,
        owes_epochs: false,
    })
}

async fn store() -> (tempfile::TempDir, PathBuf, SqliteStore) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.db");
    let store = SqliteStore::open(&path).await.unwrap();
    (directory, path, store)
}

async fn limit_pages(store: &SqliteStore, sql: &'static str) {
    let limit: i64 = sqlx::query_scalar(sql).fetch_one(&store.writer).await.unwrap();
    assert!(limit > 0);
}

#[tokio::test]
async fn a_database_that_may_not_grow_is_full_and_recovers() {
    let (_directory, path, store) = store().await;
    let term = store.begin_term().await.unwrap();
    // SQLite sets the limit to the present size if it is asked for less.
    limit_pages(&store, "PRAGMA max_page_count = 1").await;
    let mut with_agent = results(term, 0..50);
    with_agent.groups[0].changes.insert(0, agent());
    let error = store.commit(&with_agent).await.unwrap_err();
    assert!(matches!(&error, StoreError::Full { path: full, .. } if *full == path), "{error:?}");
    assert!(error.is_transient());
    let state = store.load().await.unwrap();
    assert!(state.commands.is_empty() && state.agents.is_empty(), "nothing is half applied");
    limit_pages(&store, "PRAGMA max_page_count = 1000000").await;
    store.commit(&with_agent).await.unwrap();
    assert_eq!(store.load().await.unwrap().commands.len(), 50);
}

/// Dropped at whatever await it has come to, a commit is applied as a whole or not at all, and never holds up the next one.
#[tokio::test]
async fn a_commit_that_nobody_waits_for_leaves_nothing_open() {
    let (_directory, _path, store) = store().await;
    let term = store.begin_term().await.unwrap();
    for polls in 0..60_u32 {
        let first = u128::from(polls) * 10;
        let transaction = results(term, first..first + 5);
        let mut commit = Box::pin(store.commit(&transaction));
        let mut left = polls;
        std::future::poll_fn(|context| {
            left = left.saturating_sub(1);
            if left == 0 { std::task::Poll::Ready(()) } else { commit.as_mut().poll(context).map(drop) }
        })
        .await;
        drop(commit);
        let mark = CommandId(first + 9);
        store.commit(&results(term, mark.0..mark.0 + 1)).await.unwrap();
        let commands = store.load().await.unwrap().commands;
        let applied = commands.keys().filter(|id| (first..first + 5).contains(&id.0)).count();
        assert!(applied == 0 || applied == 5, "after {polls} polls {applied} of 5 were applied");
        assert!(commands.contains_key(&mark));
    }
}

#[tokio::test]
async fn an_abandoned_transaction_is_rolled_back_before_the_next_use() {
    let (_directory, _path, store) = store().await;
    let term = store.begin_term().await.unwrap();
    {
        let mut connection = store.writer.acquire().await.unwrap();
        connection::execute(&mut connection, "BEGIN IMMEDIATE").await.unwrap();
        connection::execute(&mut connection, "UPDATE meta SET value = 77 WHERE name = 'term'").await.unwrap();
    }
    store.commit(&results(term, 0..1)).await.unwrap();
    assert_eq!(store.load().await.unwrap().term, term);
}

/// A store made anew in the place of one that is gone would grant epochs that were granted already.
#[tokio::test]
async fn a_store_that_has_to_be_there_is_never_made() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.db");
    let missing = SqliteStore::open_existing(&path).await.unwrap_err();
    assert!(matches!(&missing, StoreError::Missing { path: gone } if *gone == path), "{missing:?}");
    assert!(!path.exists() && missing.to_string().contains("tanist server restore"), "{missing}");
    std::fs::write(&path, "").unwrap();
    assert!(matches!(SqliteStore::open_existing(&path).await.unwrap_err(), StoreError::Missing { .. }));
    std::fs::remove_file(&path).unwrap();
    SqliteStore::open(&path).await.unwrap().close().await;
    SqliteStore::open_existing(&path).await.unwrap();
}
