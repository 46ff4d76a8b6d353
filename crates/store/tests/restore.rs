//! The restore rule: what a backup cannot know must not be given out again, and a failed restore changes nothing.

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use support::{agent, agent_name, event, plain, put_replication, replication, wait};
use tanist_model::change::Change;
use tanist_model::event::EventCode;
use tanist_model::id::Term;
use tanist_store::{EventQuery, NUMBER_MARGIN, SqliteStore, Store, StoreError, restore};

struct World {
    directory: tempfile::TempDir,
    store: PathBuf,
    backup: PathBuf,
}

/// A store with two agents (one removed), a backup of it, and an event and two terms after the backup.
async fn world() -> World {
    let directory = tempfile::tempdir().unwrap();
    let (path, backup) = (directory.path().join("state.db"), directory.path().join("backup.db"));
    let store = SqliteStore::open(&path).await.unwrap();
    let term = store.begin_term().await.unwrap();
    let mut gone = agent("h2", 0.0);
    gone.removed = true;
    let record = put_replication(replication(1, "db", 3, Some(9)));
    let changes = vec![Change::PutAgent(agent("h1", 0.0)), Change::PutAgent(gone), record, event("early", None, None)];
    store.commit(&plain(term, changes)).await.unwrap();
    store.backup(&backup).await.unwrap();
    store.begin_term().await.unwrap();
    let term = store.begin_term().await.unwrap();
    let later = put_replication(replication(1, "db", 8, Some(10)));
    store.commit(&plain(term, vec![later, event("late", None, None)])).await.unwrap();
    store.close().await;
    World { directory, store: path, backup }
}

/// Every file but locks, by name.
fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    let named = entries.map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap()));
    named.filter(|(name, _)| !name.ends_with(".lock")).collect()
}

#[tokio::test]
async fn a_restored_store_grants_nothing_and_repeats_no_number() {
    let world = world().await;
    let report = restore(&world.backup, &world.store).await.unwrap();
    assert_eq!(report.term, Term(3 + NUMBER_MARGIN), "above the term of the store that was replaced");
    assert_eq!(report.owing, [agent_name("h1")]);
    let store = SqliteStore::open(&world.store).await.unwrap();
    let state = store.load().await.unwrap();
    assert_eq!((state.restoring, state.term), (true, report.term));
    assert_eq!(state.agents.values().map(|a| a.owes_epochs).collect::<Vec<_>>(), [true, false]);
    assert_eq!(state.replications.values().next().unwrap().epochs.target.0, 3, "as in the backup");
    let events = store.events(&EventQuery::latest(9)).await.unwrap();
    assert_eq!((events.len(), events[0].message.as_str()), (2, "early"));
    assert_eq!((events[1].code, events[1].seq.0), (EventCode::StoreRestored, 2 + NUMBER_MARGIN + 1));
    assert_eq!(store.begin_term().await.unwrap(), Term(report.term.0 + 1));
}

#[tokio::test]
async fn the_replaced_store_is_kept_whole() {
    let world = world().await;
    let replaced = restore(&world.backup, &world.store).await.unwrap().replaced.unwrap();
    let name = replaced.file_name().unwrap().to_str().unwrap();
    assert!(name.starts_with("state.db.replaced-2"), "{name}");
    let old = SqliteStore::open(&replaced).await.unwrap();
    assert_eq!(old.load().await.unwrap().term, Term(3));
    assert_eq!(old.events(&EventQuery::latest(9)).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_store_is_restored_where_there_is_none() {
    let world = world().await;
    let elsewhere = world.directory.path().join("new.db");
    let report = restore(&world.backup, &elsewhere).await.unwrap();
    assert_eq!((report.term, report.replaced), (Term(1 + NUMBER_MARGIN), None));
    assert!(SqliteStore::open(&elsewhere).await.unwrap().load().await.unwrap().restoring);
}

/// The log of a killed server must not be replayed into the restored file, whether it could be read or not.
#[tokio::test]
async fn a_log_that_was_left_behind_does_not_reach_the_restored_store() {
    for damaged in [false, true] {
        let world = world().await;
        let live = SqliteStore::open(&world.store).await.unwrap();
        let term = live.begin_term().await.unwrap();
        live.commit(&plain(term, vec![event("in the log", None, None)])).await.unwrap();
        let killed = world.directory.path().join("killed.db");
        std::fs::copy(&world.store, &killed).unwrap();
        std::fs::copy(world.store.with_extension("db-wal"), killed.with_extension("db-wal")).unwrap();
        if damaged {
            std::fs::write(&killed, b"no database at all").unwrap();
        }
        let report = restore(&world.backup, &killed).await.unwrap();
        assert!(!killed.with_extension("db-wal").exists(), "damaged: {damaged}");
        let messages: Vec<String> = SqliteStore::open(&killed)
            .await
            .unwrap()
            .events(&EventQuery::latest(9))
            .await
            .unwrap()
            .into_iter()
            .map(|event| event.message)
            .collect();
        assert_eq!((messages.len(), messages[0].as_str()), (2, "early"), "damaged: {damaged}");
        let kept = report.replaced.unwrap();
        if damaged {
            let log = kept.with_file_name(format!("{}-wal", kept.file_name().unwrap().to_str().unwrap()));
            assert!(log.metadata().unwrap().len() > 0, "its log is kept with it");
        } else {
            assert_eq!(SqliteStore::open(&kept).await.unwrap().load().await.unwrap().term, term);
        }
    }
}

#[tokio::test]
async fn what_an_interrupted_restore_left_is_no_obstacle() {
    let world = world().await;
    for suffix in ["restoring", "restoring-journal", "restoring-wal"] {
        std::fs::write(world.store.with_extension(format!("db.{suffix}")), b"left over").unwrap();
    }
    restore(&world.backup, &world.store).await.unwrap();
    assert!(files(world.directory.path()).keys().all(|name| !name.contains("restoring")));
}

#[tokio::test]
async fn a_store_in_use_is_not_replaced() {
    let world = world().await;
    let store = SqliteStore::open(&world.store).await.unwrap();
    let refused = restore(&world.backup, &world.store).await;
    assert!(matches!(refused, Err(StoreError::InUse { .. })), "{refused:?}");
    assert!(!store.load().await.unwrap().restoring);
}

#[tokio::test]
async fn what_is_no_sound_backup_changes_nothing() {
    let world = world().await;
    let sound = std::fs::read(&world.backup).unwrap();
    let mut torn = sound.clone();
    torn.truncate(sound.len() / 2);
    let mut overwritten = sound.clone();
    overwritten[4096..12288].fill(0xa5);
    let garbage = b"not a database".repeat(500);
    for bad in [torn, overwritten, garbage, Vec::new()] {
        std::fs::write(&world.backup, &bad).unwrap();
        let before = files(world.directory.path());
        let refused = restore(&world.backup, &world.store).await;
        assert!(
            matches!(refused, Err(StoreError::Damaged { .. } | StoreError::NotAStore { .. })),
            "{} bytes: {refused:?}",
            bad.len()
        );
        assert_eq!(files(world.directory.path()), before);
    }
    std::fs::remove_file(&world.backup).unwrap();
    assert!(matches!(restore(&world.backup, &world.store).await, Err(StoreError::Io { .. })));
}

const CHILD: &str = "TANIST_RESTORE_INTO";

/// This test starts itself again as the process that restores, and kills it a little later each time.
#[tokio::test]
async fn a_restore_killed_at_any_moment_leaves_the_old_store_or_the_new_one() {
    if let Ok(to) = std::env::var(CHILD) {
        let to = PathBuf::from(to);
        restore(&to.with_file_name("backup.db"), &to).await.unwrap();
        return;
    }
    let mut outcomes = std::collections::BTreeSet::new();
    for round in 0..40_u64 {
        let world = world().await;
        let name = "a_restore_killed_at_any_moment_leaves_the_old_store_or_the_new_one";
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", name]).env(CHILD, &world.store).stdout(std::process::Stdio::null());
        let mut child = command.spawn().unwrap();
        if round > 0 {
            wait::pass(Duration::from_micros(1500 * round));
            child.kill().unwrap();
        }
        child.wait().unwrap();
        let store = SqliteStore::open(&world.store).await.unwrap();
        let state = store.load().await.unwrap();
        let events: Vec<String> =
            store.events(&EventQuery::latest(9)).await.unwrap().into_iter().map(|event| event.message).collect();
        match state.restoring {
            false => assert_eq!((state.term, events), (Term(3), vec!["early".to_owned(), "late".to_owned()])),
            true => assert_eq!((state.term, events.len()), (Term(3 + NUMBER_MARGIN), 2)),
        }
        outcomes.insert(state.restoring);
    }
    assert!(outcomes.contains(&true), "the round that was not killed has restored");
}
