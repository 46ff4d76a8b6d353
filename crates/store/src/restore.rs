//! Going back to a backup without going back in time.
//!
//! A backup knows nothing of the epochs that were granted after it. So the restored store says that it is being restored (no
//! grants until every known agent has shown its highest epochs), and its term and event numbers continue far above anything
//! that can have been given. The store is replaced by one rename: a kill at any moment leaves the old one or the new one.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use sqlx::{Connection as _, SqliteConnection};
use tanist_model::change::Change;
use tanist_model::event::{EventCode, NewEvent};
use tanist_model::id::{AgentName, Term};
use tanist_model::state::State;
use tanist_model::time::Timestamp;

use crate::sqlite::connection::{self, Partial};
use crate::sqlite::failure::Failure;
use crate::sqlite::lock::{StoreLock, suffixed};
use crate::sqlite::write::{self, Writer};
use crate::sqlite::{read, schema};
use crate::{EventRetention, StoreError};

/// By how much a restore raises the term and the event numbers: more than can have been given between backup and restore.
pub const NUMBER_MARGIN: u64 = 1_000_000;

/// What a restore did, for the operator.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RestoreReport {
    /// The term that the restored store has begun; the next server has a higher one.
    pub term: Term,
    /// The agents that must show their epochs before anything is granted.
    pub owing: Vec<AgentName>,
    /// Where the replaced store is kept, if there was one.
    pub replaced: Option<PathBuf>,
}

/// The highest numbers that a store has given.
#[derive(Clone, Copy, Default)]
struct Numbers {
    term: u64,
    last_event: u64,
}

/// Replaces the store at `to` by the backup, under the rule above. No server may be running on it.
///
/// # Errors
/// [`StoreError::InUse`] if one is; [`StoreError::Damaged`], [`StoreError::NotAStore`], [`StoreError::NewerSchema`] or
/// [`StoreError::Corrupt`] if the backup is not a sound store. The store at `to` is then as it was.
pub async fn restore(backup: &Path, to: &Path) -> Result<RestoreReport, StoreError> {
    let _lock = StoreLock::acquire(to)?;
    let now = now();
    let old = fold_log(to).await?;
    let prepared = Partial(suffixed(to, ".restoring"));
    connection::remove_with_journals(&prepared.0);
    copy_sound(backup, &prepared.0).await.map_err(|failure| failure.at(backup, "read the backup"))?;
    let marked = mark_restored(&prepared.0, backup, old, now).await;
    let (term, owing) = marked.map_err(|failure| failure.at(&prepared.0, "prepare the restored store"))?;
    let replaced = set_aside(to, now)?;
    std::fs::rename(&prepared.0, to).map_err(StoreError::io("put the restored store in place", to))?;
    connection::sync_directory_of(to).map_err(StoreError::io("flush the directory of", to))?;
    Ok(RestoreReport { term, owing, replaced })
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(0).plus(since)
}

/// Brings the log of the store that is to be replaced into its file, so that the file alone is the store. One that cannot be
/// read any more is no obstacle: it may be the very reason for the restore.
async fn fold_log(to: &Path) -> Result<Numbers, StoreError> {
    if !to.exists() {
        return Ok(Numbers::default());
    }
    let Ok(mut old) = connection::as_it_is(to).await else { return Ok(Numbers::default()) };
    let folded = sqlx::query_as::<_, (i64, i64, i64)>("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&mut old).await;
    let numbers = numbers(&mut old).await;
    let _ = old.close().await;
    match (folded, numbers) {
        (_, Err(_)) => Ok(Numbers::default()),
        (Ok((0, _, _)), Ok(numbers)) => Ok(numbers),
        (Ok(_), Ok(_)) => Err(StoreError::Busy { doing: REPLACE, path: to.to_owned() }),
        (Err(error), Ok(_)) => Err(Failure::Sql(error).at(to, REPLACE)),
    }
}

const REPLACE: &str = "replace the store";

async fn numbers(db: &mut SqliteConnection) -> Result<Numbers, Failure> {
    Ok(Numbers { term: read::number(db, "term").await?, last_event: read::number(db, "last_event").await? })
}

/// Copies a backup that is sound from its pages to its schema.
async fn copy_sound(backup: &Path, to: &Path) -> Result<(), Failure> {
    backup.metadata().map_err(StoreError::io("read the backup", backup))?;
    let mut db = connection::inspect(backup).await?;
    check_integrity(&mut db, backup).await?;
    if schema::version(&mut db, backup).await? == 0 {
        return Err(StoreError::NotAStore { path: backup.to_owned() }.into());
    }
    connection::create_private(to).map_err(StoreError::io("create the restored store", to))?;
    connection::vacuum_into(&mut db, to).await?;
    Ok(db.close().await?)
}

async fn check_integrity(db: &mut SqliteConnection, path: &Path) -> Result<(), Failure> {
    let finding: String = sqlx::query_scalar("PRAGMA integrity_check(1)").fetch_one(db).await?;
    match finding.as_str() {
        "ok" => Ok(()),
        _ => Err(StoreError::Damaged { path: path.to_owned(), reason: finding }.into()),
    }
}

/// Writes the restore rule into the prepared copy. Loading it shows that every row of the backup can be understood.
async fn mark_restored(
    prepared: &Path,
    backup: &Path,
    old: Numbers,
    now: Timestamp,
) -> Result<(Term, Vec<AgentName>), Failure> {
    let mut db = connection::single_file(prepared).await?;
    schema::migrate(&mut db, prepared).await?;
    connection::execute(&mut db, "BEGIN IMMEDIATE").await?;
    let state = read::state(&mut db).await?;
    let term = raise_numbers(&mut db, old).await?;
    let owing = mark_agents(&mut db, &state, event(backup, term, now)).await?;
    connection::execute(&mut db, "COMMIT").await?;
    db.close().await?;
    connection::sync(prepared).map_err(StoreError::io("flush", prepared))?;
    Ok((term, owing))
}

async fn raise_numbers(db: &mut SqliteConnection, old: Numbers) -> Result<Term, Failure> {
    let own = numbers(db).await?;
    let term = write::raised(own.term.max(old.term), NUMBER_MARGIN, "term")?;
    let last_event = write::raised(own.last_event.max(old.last_event), NUMBER_MARGIN, "event number")?;
    write::write_number(db, "term", term).await?;
    write::write_number(db, "last_event", last_event).await?;
    Ok(Term(term))
}

async fn mark_agents(db: &mut SqliteConnection, state: &State, event: NewEvent) -> Result<Vec<AgentName>, Failure> {
    let mut writer = Writer::new(db);
    let mut owing = Vec::new();
    for agent in state.agents.values().filter(|agent| !agent.removed) {
        let mut agent = agent.clone();
        agent.owes_epochs = true;
        owing.push(agent.name.clone());
        writer.apply(&Change::PutAgent(agent)).await?;
    }
    writer.apply(&Change::SetRestoring(true)).await?;
    writer.apply(&Change::AppendEvent(event)).await?;
    writer.finish(EventRetention::default()).await?;
    Ok(owing)
}

fn event(backup: &Path, term: Term, now: Timestamp) -> NewEvent {
    NewEvent {
        at: now,
        code: EventCode::StoreRestored,
        replication: None,
        agent: None,
        actor: "restore".to_owned(),
        message: format!("the store was restored from {}; it continues above term {term}", backup.display()),
    }
}

/// Keeps what is to be replaced under a second name, then takes away the log, which must never meet the new file: it would be
/// replayed into it. A store that is sound has none by now; of a damaged one the log is kept beside it.
fn set_aside(to: &Path, now: Timestamp) -> Result<Option<PathBuf>, StoreError> {
    if !to.exists() {
        return Ok(None);
    }
    let kept = suffixed(to, &format!(".replaced-{}", compact(now)));
    for suffix in ["", "-wal"] {
        let (from, to) = (suffixed(to, suffix), suffixed(&kept, suffix));
        if from.exists() {
            std::fs::hard_link(from, &to).map_err(StoreError::io("keep the replaced store", &to))?;
        }
    }
    connection::sync_directory_of(to).map_err(StoreError::io("flush the directory of", to))?;
    for suffix in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(suffixed(to, suffix));
    }
    Ok(Some(kept))
}

fn compact(time: Timestamp) -> String {
    time.to_string().replace(['-', ':'], "")
}
