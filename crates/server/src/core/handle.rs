//! The way to the loop: mail that it decides on, and questions that it answers between two decisions.

use std::fmt;

use tanist_model::api::{Refusal, RefusalCode};
use tanist_model::change::{Change, Transaction};
use tanist_model::event::NewEvent;
use tanist_model::id::CommandId;
use tanist_protocol::server::{Answer, Command, ConnectionId, Input, ServerMachine};
use tokio::sync::{mpsc, oneshot, watch};

use super::{MAILBOX, Outbox, QUERY_BOX, Trouble, bounded};

/// The answer to a command.
pub type Reply = oneshot::Sender<Result<Answer, Refusal>>;
/// A question: it looks at the machine between two decisions and must be quick.
pub type Query = Box<dyn FnOnce(&Moment<'_>) + Send>;

/// The machine between two decisions.
#[derive(Clone, Copy, Debug)]
pub struct Moment<'a> {
    pub machine: &'a ServerMachine,
    /// Why the store cannot be written, if it cannot.
    pub trouble: Option<&'a Trouble>,
}

/// Something for the machine to decide on.
#[derive(Debug)]
pub enum Mail {
    Connected { input: Input, connection: ConnectionId, outbox: Outbox },
    Command { id: CommandId, actor: String, command: Box<Command>, reply: Reply },
    Input(Input),
}

/// The loop's ends of its channels.
pub struct Ends {
    pub mail: mpsc::Receiver<Mail>,
    pub queries: mpsc::Receiver<Query>,
    events: watch::Sender<()>,
}

impl fmt::Debug for Ends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ends(..)")
    }
}

impl Ends {
    /// Wakes who waits for events, if there are any in the transaction.
    pub fn announce_events(&self, transaction: &Transaction) {
        let mut changes = transaction.groups.iter().flat_map(|group| &group.changes);
        if changes.any(|change| matches!(change, Change::AppendEvent(_))) {
            self.events.send_replace(());
        }
    }
}

/// Speaks to the loop. Cheap to clone.
#[derive(Clone)]
pub struct CoreHandle {
    mail: mpsc::Sender<Mail>,
    queries: mpsc::Sender<Query>,
    events: watch::Receiver<()>,
}

impl fmt::Debug for CoreHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CoreHandle(..)")
    }
}

pub fn channel() -> (CoreHandle, Ends) {
    let (mail, mail_end) = bounded(MAILBOX);
    let (queries, query_end) = bounded(QUERY_BOX);
    let (announce, events) = watch::channel(());
    (CoreHandle { mail, queries, events }, Ends { mail: mail_end, queries: query_end, events: announce })
}

impl CoreHandle {
    /// An agent has introduced itself.
    pub async fn connected(&self, input: Input, connection: ConnectionId, outbox: Outbox) {
        self.post(Mail::Connected { input, connection, outbox }).await;
    }

    pub async fn input(&self, input: Input) {
        self.post(Mail::Input(input)).await;
    }

    /// A remark for the audit log; lost if the loop is overloaded.
    pub fn note(&self, event: NewEvent) {
        if self.mail.try_send(Mail::Input(Input::Note(event))).is_err() {
            tracing::warn!("an event was not recorded: the server is overloaded or stops");
        }
    }

    /// Has a command decided and carried out.
    ///
    /// # Errors
    /// The [`Refusal`] of the machine, or that the server is stopping.
    pub async fn command(&self, id: CommandId, actor: &str, command: Command) -> Result<Answer, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.post(Mail::Command { id, actor: actor.to_owned(), command: Box::new(command), reply }).await;
        answer.await.unwrap_or_else(|_| Err(stopping()))
    }

    /// Looks at the machine between two decisions.
    ///
    /// # Errors
    /// A [`Refusal`] if the server is stopping.
    pub async fn query<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Moment<'_>) -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let (reply, answer) = oneshot::channel();
        let query: Query = Box::new(move |moment| {
            // Whoever asked may be gone by now.
            let _ = reply.send(ask(moment));
        });
        self.queries.send(query).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())
    }

    /// Changes whenever events have been committed.
    #[must_use]
    pub fn events(&self) -> watch::Receiver<()> {
        self.events.clone()
    }

    async fn post(&self, mail: Mail) {
        // The loop is gone only when the whole server is; there is nobody left to tell.
        let _ = self.mail.send(mail).await;
    }
}

fn stopping() -> Refusal {
    Refusal::new(RefusalCode::Unavailable, "the server is stopping").hint("try again in a moment")
}
