//! From rows to the model. What does not parse is named by table and key, never skipped.

use serde::de::{DeserializeOwned, Error as _};
use sqlx::{AssertSqlSafe, SqliteConnection};
use tanist_model::change::Change;
use tanist_model::event::{Event, NewEvent};
use tanist_model::id::{Epoch, EventSeq, Term};
use tanist_model::replication::ReplicationRecord;
use tanist_model::state::State;

use super::failure::Failure;
use crate::events::placed;
use crate::{EventQuery, EventWindow, StoreError, sql};

/// The whole state; call it inside a transaction, so that all rows are of one moment.
pub(crate) async fn state(db: &mut SqliteConnection) -> Result<State, Failure> {
    let mut state = State {
        term: Term(number(db, "term").await?),
        restoring: number(db, "restoring").await? != 0,
        removed_epoch: removed_epoch(db).await?,
        ..State::default()
    };
    replications(db, &mut state).await?;
    table(db, &mut state, "agents", sql::READ_AGENTS, Change::PutAgent).await?;
    table(db, &mut state, "runs", sql::READ_RUNS, Change::PutRun).await?;
    table(db, &mut state, "recovery_points", sql::READ_RECOVERY_POINTS, Change::PutRecoveryPoint).await?;
    table(db, &mut state, "takeovers", sql::READ_TAKEOVERS, Change::PutTakeover).await?;
    table(db, &mut state, "commands", sql::READ_COMMANDS, Change::PutCommandResult).await?;
    table(db, &mut state, "tokens", sql::READ_TOKENS, Change::PutToken).await?;
    table(db, &mut state, "credentials", sql::READ_CREDENTIALS, Change::PutCredential).await?;
    Ok(state)
}

/// A number of the whole store.
pub(crate) async fn number(db: &mut SqliteConnection, name: &'static str) -> Result<u64, Failure> {
    let found: Option<i64> = sqlx::query_scalar(sql::READ_NUMBER).bind(name).fetch_optional(db).await?;
    let value = found.and_then(|value| u64::try_from(value).ok());
    Ok(value.ok_or_else(|| corrupt("meta", name, serde_json::Error::custom("missing or negative")))?)
}

async fn removed_epoch(db: &mut SqliteConnection) -> Result<Epoch, Failure> {
    let epoch = u32::try_from(number(db, "removed_epoch").await?);
    Ok(Epoch(epoch.map_err(|_| corrupt("meta", "removed_epoch", serde_json::Error::custom("more than 32 bits")))?))
}

async fn table<T: DeserializeOwned>(
    db: &mut SqliteConnection,
    state: &mut State,
    table: &'static str,
    sql: &'static str,
    change: fn(T) -> Change,
) -> Result<(), Failure> {
    let rows: Vec<(String, String)> = sqlx::query_as(sql).fetch_all(db).await?;
    for (key, body) in rows {
        state.apply(&change(decode(table, &key, &body)?));
    }
    Ok(())
}

type ReplicationRow = (String, String, i64, i64, Option<String>, String);

/// Conditions are judged by columns and decisions by bodies, so the two must agree.
async fn replications(db: &mut SqliteConnection, state: &mut State) -> Result<(), Failure> {
    let rows: Vec<ReplicationRow> = sqlx::query_as(sql::READ_REPLICATIONS).fetch_all(db).await?;
    for (id, name, source, target, incarnation, body) in rows {
        let record: ReplicationRecord = decode("replications", &id, &body)?;
        let holder = record.holder.as_ref().map(|holder| holder.incarnation.to_string());
        let columns = (name.as_str(), source, target, incarnation);
        if columns != (record.name.as_str(), record.epochs.source.0.into(), record.epochs.target.0.into(), holder) {
            let reason = serde_json::Error::custom("its columns and its body disagree");
            return Err(corrupt("replications", &id, reason).into());
        }
        state.apply(&Change::PutReplication(Box::new(record)));
    }
    Ok(())
}

pub(crate) async fn events(db: &mut SqliteConnection, query: &EventQuery) -> Result<Vec<Event>, Failure> {
    let filters =
        [query.replication.as_ref().map(|name| name.as_str()), query.agent.as_ref().map(|name| name.as_str())];
    // Built from constant parts only; values are bound.
    let text = events_sql(filters.map(|filter| filter.is_some()), query.window);
    let mut select = sqlx::query_as(AssertSqlSafe(text)).bind(limit(query.window));
    select = select.bind(i64::try_from(query.after.0).unwrap_or(i64::MAX));
    for filter in filters.into_iter().flatten() {
        select = select.bind(filter);
    }
    let rows: Vec<(i64, String)> = select.fetch_all(db).await?;
    let mut events = rows.into_iter().map(event).collect::<Result<Vec<_>, _>>()?;
    events.sort_unstable_by_key(|event| event.seq);
    Ok(events)
}

/// `$1` is the limit, `$2` the number to start after, then the filters that are asked for.
fn events_sql([by_replication, by_agent]: [bool; 2], window: EventWindow) -> String {
    let mut text = String::from("SELECT seq, body FROM events WHERE seq > $2");
    if by_replication {
        text.push_str(" AND replication = $3");
    }
    if by_agent {
        text.push_str(if by_replication { " AND agent = $4" } else { " AND agent = $3" });
    }
    text.push_str(match window {
        EventWindow::First(_) => " ORDER BY seq LIMIT $1",
        EventWindow::Latest(_) => " ORDER BY seq DESC LIMIT $1",
    });
    text
}

fn limit(window: EventWindow) -> i64 {
    match window {
        EventWindow::First(limit) | EventWindow::Latest(limit) => limit.into(),
    }
}

fn event((seq, body): (i64, String)) -> Result<Event, StoreError> {
    let new: NewEvent = decode("events", &seq.to_string(), &body)?;
    let number = u64::try_from(seq);
    let number = number.map_err(|_| corrupt("events", &seq.to_string(), serde_json::Error::custom("negative")))?;
    Ok(placed(EventSeq(number), new))
}

fn decode<T: DeserializeOwned>(table: &'static str, key: &str, body: &str) -> Result<T, StoreError> {
    serde_json::from_str(body).map_err(|source| corrupt(table, key, source))
}

fn corrupt(table: &'static str, key: &str, source: serde_json::Error) -> StoreError {
    StoreError::Corrupt { table, key: key.to_owned(), source }
}
