//! Riding out a store that cannot be written: nothing is decided, nothing is granted, and once it can be written again
//! everything is decided anew from what it holds.
//!
//! Beats are still taken, so that nobody looks silent afterwards; whatever they would lead to is thrown away.

use std::time::Duration;

use tanist_model::change::{Change, Condition, Group, Transaction};
use tanist_model::event::{EventCode, NewEvent};
use tanist_model::state::State;
use tanist_model::time::Timestamp;
use tanist_protocol::server::{ConnectionId, Input};
use tanist_store::StoreError;

use super::handle::Mail;
use super::{Core, deposed, is_beat, unavailable};
use crate::error::in_full;
use crate::{ServerError, clock};

/// Time between two attempts to write.
const RETRY: Duration = Duration::from_secs(1);
/// Mail kept for afterwards. What is beyond it is lost, as on a bad line: agents say it again.
const HELD: usize = 4096;

/// Why the store cannot be written, and since when.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trouble {
    pub since: Timestamp,
    pub reason: String,
}

impl Core {
    /// Waits until the store can be written again.
    pub(super) async fn ride_out(&mut self, error: &StoreError) -> Result<(), ServerError> {
        tracing::error!(error = in_full(error), "the store cannot be written; no grants are given");
        self.metrics.store_failing(true);
        let refusal = unavailable(error);
        self.trouble = Some(Trouble { since: clock::wall(), reason: in_full(error) });
        let durable = self.store.load().await.ok();
        self.restore_mirror(durable.as_ref())?;
        let mut retry = tokio::time::interval_at(tokio::time::Instant::now() + RETRY, RETRY);
        loop {
            self.watchdog.alive();
            tokio::select! {
                _ = retry.tick() => if self.try_again().await? { break },
                Some(query) = self.ends.queries.recv() => query(&self.moment()),
                Some(mail) = self.ends.mail.recv() => self.hold(mail, durable.as_ref(), &refusal)?,
            }
        }
        self.metrics.store_failing(false);
        tracing::info!("the store can be written again");
        Ok(())
    }

    fn restore_mirror(&mut self, durable: Option<&State>) -> Result<(), ServerError> {
        durable.map_or(Ok(()), |state| self.machine.reload(clock::now(), state.clone()).map_err(deposed))
    }

    fn hold(
        &mut self,
        mail: Mail,
        durable: Option<&State>,
        refusal: &tanist_model::api::Refusal,
    ) -> Result<(), ServerError> {
        match mail {
            // The asker may be gone by now.
            Mail::Command { reply, .. } => drop(reply.send(Err(refusal.clone()))),
            Mail::Input(input) if is_beat(&input) => return self.take_beat(input, durable),
            Mail::Input(Input::Message { .. } | Input::Note(_)) if self.backlog.len() >= HELD => {}
            Mail::Input(Input::Disconnected { connection, .. }) if self.is_held(connection) => self.unhold(connection),
            mail => self.backlog.push_back(mail),
        }
        Ok(())
    }

    /// Whether this connection came about meanwhile.
    fn is_held(&self, connection: ConnectionId) -> bool {
        self.backlog.iter().any(|mail| matches!(mail, Mail::Connected { connection: held, .. } if *held == connection))
    }

    /// It came and went: nobody needs to know, and however often that happens it takes no room.
    fn unhold(&mut self, gone: ConnectionId) {
        self.backlog.retain(|mail| match mail {
            Mail::Connected { connection, .. } | Mail::Input(Input::Message { connection, .. }) => *connection != gone,
            _ => true,
        });
    }

    fn take_beat(&mut self, beat: Input, durable: Option<&State>) -> Result<(), ServerError> {
        if durable.is_some() && !self.machine.handle(clock::now(), beat).is_empty() {
            self.restore_mirror(durable)?;
        }
        Ok(())
    }

    /// Writes down what happened; if that succeeds, the trouble is over.
    async fn try_again(&mut self) -> Result<bool, ServerError> {
        let transaction = self.story();
        match self.store.commit(&transaction).await {
            Ok(outcomes) => self.journal.record(&transaction, &outcomes, &self.metrics),
            Err(error @ StoreError::Deposed { .. }) => return Err(deposed(error)),
            Err(_) => return Ok(false),
        }
        self.ends.announce_events(&transaction);
        let Ok(state) = self.store.load().await else { return Ok(false) };
        self.machine.reload(clock::now(), state).map_err(deposed)?;
        self.trouble = None;
        Ok(true)
    }

    fn story(&self) -> Transaction {
        let now = clock::wall();
        let trouble = self.trouble.clone().unwrap_or(Trouble { since: now, reason: "unknown".to_owned() });
        let lasted = now.since(trouble.since).as_secs();
        let changes = vec![
            event(trouble.since, EventCode::StoreFailing, trouble.reason),
            event(now, EventCode::StoreRecovered, format!("it could not be written for {lasted} s")),
        ];
        Transaction { term: self.term, groups: vec![Group { condition: Condition::Term, changes }] }
    }
}

fn event(at: Timestamp, code: EventCode, message: String) -> Change {
    Change::AppendEvent(NewEvent { at, code, replication: None, agent: None, actor: "server".to_owned(), message })
}
