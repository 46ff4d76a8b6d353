//! From the model to rows, inside a transaction that the caller has begun and will commit.

use serde::Serialize;
use sqlx::SqliteConnection;
use tanist_model::agent::AgentRecord;
use tanist_model::change::{Change, CommandResult, Condition, Group, GroupOutcome, Transaction};
use tanist_model::event::NewEvent;
use tanist_model::history::{self, Touched};
use tanist_model::id::{Epochs, Incarnation, ReplicationId, Term};
use tanist_model::recovery_point::RecoveryPoint;
use tanist_model::replication::ReplicationRecord;
use tanist_model::run::RunRecord;
use tanist_model::state::State;
use tanist_model::takeover::TakeoverRecord;

use super::failure::Failure;
use super::read;
use crate::{EventRetention, NUMBER_MAX, StoreError, sql};

const HISTORY: i64 = State::HISTORY_PER_REPLICATION as i64;
const COMMANDS: i64 = State::COMMAND_RESULTS as i64;

/// One open transaction: what it has touched, and the event numbers it gives.
pub(crate) struct Writer<'c> {
    db: &'c mut SqliteConnection,
    touched: Touched,
    numbers: Option<EventNumbers>,
}

#[derive(Clone, Copy)]
struct EventNumbers {
    before: u64,
    last: u64,
}

impl<'c> Writer<'c> {
    pub(crate) fn new(db: &'c mut SqliteConnection) -> Self {
        Self { db, touched: Touched::default(), numbers: None }
    }

    /// The term first, then each group by its own condition.
    pub(crate) async fn transaction(&mut self, transaction: &Transaction) -> Result<Vec<GroupOutcome>, Failure> {
        let stored = Term(read::number(self.db, "term").await?);
        if stored != transaction.term {
            return Err(StoreError::Deposed { stored }.into());
        }
        let mut outcomes = Vec::with_capacity(transaction.groups.len());
        for group in &transaction.groups {
            outcomes.push(self.group(group).await?);
        }
        Ok(outcomes)
    }

    async fn group(&mut self, group: &Group) -> Result<GroupOutcome, Failure> {
        if !self.allows(&group.condition).await? {
            return Ok(GroupOutcome::Refused);
        }
        for change in &group.changes {
            self.apply(change).await?;
        }
        Ok(GroupOutcome::Applied)
    }

    async fn allows(&mut self, condition: &Condition) -> Result<bool, Failure> {
        match condition {
            Condition::Term => Ok(true),
            Condition::NameFree { name } => {
                let taken: i64 =
                    sqlx::query_scalar(sql::COUNT_NAME).bind(name.as_str()).fetch_one(&mut *self.db).await?;
                Ok(taken == 0)
            }
            Condition::Current { replication, epochs, incarnation } => {
                self.is_current(*replication, *epochs, *incarnation).await
            }
        }
    }

    async fn is_current(
        &mut self,
        replication: ReplicationId,
        epochs: Epochs,
        incarnation: Option<Incarnation>,
    ) -> Result<bool, Failure> {
        let select = sqlx::query_as(sql::READ_CURRENT).bind(replication.to_string());
        let stored: Option<(i64, i64, Option<String>)> = select.fetch_optional(&mut *self.db).await?;
        let expected = (epochs.source.0.into(), epochs.target.0.into(), incarnation.map(|i| i.to_string()));
        Ok(stored == Some(expected))
    }

    pub(crate) async fn apply(&mut self, change: &Change) -> Result<(), Failure> {
        self.touched.note(change);
        match change {
            Change::PutAgent(agent) => self.put_agent(agent).await,
            Change::PutReplication(replication) => self.put_replication(replication).await,
            Change::DeleteReplication(id) => self.delete_replication(*id).await,
            Change::PutRun(run) => self.put_run(run).await,
            Change::PutRecoveryPoint(point) => self.put_recovery_point(point).await,
            Change::PutTakeover(takeover) => self.put_takeover(takeover).await,
            Change::PutCommandResult(result) => self.put_command(result).await,
            Change::PutToken(token) => self.put("tokens", sql::PUT_TOKEN, &token.hash.0, token).await,
            Change::PutCredential(known) => self.put("credentials", sql::PUT_CREDENTIAL, &known.hash.0, known).await,
            Change::SetRestoring(restoring) => write_number(self.db, "restoring", u64::from(*restoring)).await,
            Change::NoteRemovedEpoch(epoch) => raise_number(self.db, "removed_epoch", u64::from(epoch.0)).await,
            Change::AppendEvent(event) => self.append(event).await,
        }
    }

    async fn put<T: Serialize>(
        &mut self,
        table: &'static str,
        sql: &'static str,
        key: &str,
        record: &T,
    ) -> Result<(), Failure> {
        sqlx::query(sql).bind(key).bind(encode(table, record)?).execute(&mut *self.db).await?;
        Ok(())
    }

    async fn put_agent(&mut self, agent: &AgentRecord) -> Result<(), Failure> {
        self.put("agents", sql::PUT_AGENT, agent.name.as_str(), agent).await
    }

    async fn put_replication(&mut self, record: &ReplicationRecord) -> Result<(), Failure> {
        sqlx::query(sql::PUT_REPLICATION)
            .bind(record.id.to_string())
            .bind(record.name.as_str())
            .bind(i64::from(record.epochs.source.0))
            .bind(i64::from(record.epochs.target.0))
            .bind(record.holder.as_ref().map(|holder| holder.incarnation.to_string()))
            .bind(record.run.map(|run| run.to_string()))
            .bind(record.target_dirty.map(|run| run.to_string()))
            .bind(record.published.map(|run| run.to_string()))
            .bind(encode("replications", record)?)
            .execute(&mut *self.db)
            .await?;
        Ok(())
    }

    async fn delete_replication(&mut self, id: ReplicationId) -> Result<(), Failure> {
        for statement in sql::DELETE_REPLICATION {
            sqlx::query(statement).bind(id.to_string()).execute(&mut *self.db).await?;
        }
        Ok(())
    }

    async fn put_run(&mut self, run: &RunRecord) -> Result<(), Failure> {
        let insert = sqlx::query(sql::PUT_RUN).bind(run.replication.to_string()).bind(run.id.to_string());
        let insert = insert.bind(history::finished_at(run).map(|at| at.0)).bind(encode("runs", run)?);
        insert.execute(&mut *self.db).await?;
        Ok(())
    }

    async fn put_recovery_point(&mut self, point: &RecoveryPoint) -> Result<(), Failure> {
        let insert =
            sqlx::query(sql::PUT_RECOVERY_POINT).bind(point.replication.to_string()).bind(point.run.to_string());
        let insert = insert.bind(history::gone_since(point).map(|at| at.0)).bind(encode("recovery_points", point)?);
        insert.execute(&mut *self.db).await?;
        Ok(())
    }

    async fn put_takeover(&mut self, takeover: &TakeoverRecord) -> Result<(), Failure> {
        let insert = sqlx::query(sql::PUT_TAKEOVER).bind(takeover.replication.to_string());
        let insert = insert.bind(i64::from(takeover.epochs.target.0)).bind(encode("takeovers", takeover)?);
        insert.execute(&mut *self.db).await?;
        Ok(())
    }

    async fn put_command(&mut self, result: &CommandResult) -> Result<(), Failure> {
        let insert = sqlx::query(sql::PUT_COMMAND).bind(result.id.to_string()).bind(result.at.0);
        insert.bind(encode("commands", result)?).execute(&mut *self.db).await?;
        Ok(())
    }

    async fn append(&mut self, event: &NewEvent) -> Result<(), Failure> {
        let mut numbers = self.numbers().await?;
        numbers.last = raised(numbers.last, 1, "event number")?;
        self.numbers = Some(numbers);
        sqlx::query(sql::ADD_EVENT)
            .bind(numbers.last.cast_signed())
            .bind(event.replication.as_ref().map(|(_, name)| name.as_str()))
            .bind(event.agent.as_ref().map(|agent| agent.as_str()))
            .bind(encode("events", event)?)
            .execute(&mut *self.db)
            .await?;
        Ok(())
    }

    async fn numbers(&mut self) -> Result<EventNumbers, Failure> {
        match self.numbers {
            Some(numbers) => Ok(numbers),
            None => {
                let last = read::number(self.db, "last_event").await?;
                Ok(EventNumbers { before: last, last })
            }
        }
    }

    /// Writes the last event number and prunes what the transaction made too long.
    pub(crate) async fn finish(mut self, retention: EventRetention) -> Result<(), Failure> {
        self.prune_history().await?;
        let Some(numbers) = self.numbers else { return Ok(()) };
        write_number(self.db, "last_event", numbers.last).await?;
        if retention.is_due(numbers.before, numbers.last) {
            sqlx::query(sql::PRUNE_EVENTS).bind(i64::from(retention.kept)).execute(&mut *self.db).await?;
        }
        Ok(())
    }

    async fn prune_history(&mut self) -> Result<(), Failure> {
        let touched = std::mem::take(&mut self.touched);
        let kinds = [
            (sql::PRUNE_RUNS, touched.runs),
            (sql::PRUNE_RECOVERY_POINTS, touched.recovery_points),
            (sql::PRUNE_TAKEOVERS, touched.takeovers),
        ];
        for (statement, replications) in kinds {
            for id in replications {
                sqlx::query(statement).bind(id.to_string()).bind(HISTORY).execute(&mut *self.db).await?;
            }
        }
        if touched.commands {
            sqlx::query(sql::PRUNE_COMMANDS).bind(COMMANDS).execute(&mut *self.db).await?;
        }
        Ok(())
    }
}

/// Raises the stored term and returns it.
pub(crate) async fn raise_term(db: &mut SqliteConnection, by: u64) -> Result<Term, Failure> {
    let term = raised(read::number(db, "term").await?, by, "term")?;
    write_number(db, "term", term).await?;
    Ok(Term(term))
}

/// A number raised by so much, unless it would leave what SQL can hold.
pub(crate) fn raised(number: u64, by: u64, name: &'static str) -> Result<u64, StoreError> {
    let raised = number.checked_add(by).filter(|raised| *raised <= NUMBER_MAX);
    raised.ok_or(StoreError::Overflow { number: name })
}

/// Sets a number of the whole store; the caller keeps it within [`NUMBER_MAX`].
pub(crate) async fn write_number(db: &mut SqliteConnection, name: &'static str, value: u64) -> Result<(), Failure> {
    sqlx::query(sql::WRITE_NUMBER).bind(name).bind(value.cast_signed()).execute(db).await?;
    Ok(())
}

async fn raise_number(db: &mut SqliteConnection, name: &'static str, value: u64) -> Result<(), Failure> {
    sqlx::query(sql::RAISE_NUMBER).bind(name).bind(value.cast_signed()).execute(db).await?;
    Ok(())
}

fn encode<T: Serialize>(table: &'static str, record: &T) -> Result<String, StoreError> {
    serde_json::to_string(record).map_err(|source| StoreError::Encode { table, source })
}
