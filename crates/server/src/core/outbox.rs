//! What is on its way to agents. An agent that does not read is disconnected; it never holds up the loop.

use std::collections::HashMap;
use std::sync::Arc;

use tanist_protocol::message::ServerMessage;
use tanist_protocol::server::ConnectionId;
use tokio::sync::{Notify, mpsc};

/// Messages that may wait for one agent.
const ROOM: usize = 256;

/// A queue makes room for dozens of messages before the first one waits. Ten thousand idle agents have none that wait.
pub type BoxedMessage = Box<ServerMessage>;

/// The loop's end of a connection. Dropping it lets what waits go out and then closes the connection.
#[derive(Debug)]
pub struct Outbox {
    messages: mpsc::Sender<BoxedMessage>,
    sever: Arc<Notify>,
}

/// The connection's end.
#[derive(Debug)]
pub struct Outgoing {
    pub messages: mpsc::Receiver<BoxedMessage>,
    /// The connection is to end at once, whatever waits.
    pub severed: Arc<Notify>,
}

impl Outbox {
    #[must_use]
    pub fn new() -> (Self, Outgoing) {
        let (sender, messages) = mpsc::channel(ROOM);
        let sever = Arc::new(Notify::new());
        (Self { messages: sender, sever: Arc::clone(&sever) }, Outgoing { messages, severed: sever })
    }
}

/// All of them.
#[derive(Debug, Default)]
pub struct Outboxes(HashMap<ConnectionId, Outbox>);

impl Outboxes {
    pub fn insert(&mut self, connection: ConnectionId, outbox: Outbox) {
        self.0.insert(connection, outbox);
    }

    pub fn remove(&mut self, connection: ConnectionId) {
        self.0.remove(&connection);
    }

    /// Puts a message on its way; why the connection had to be ended, if it had.
    pub fn send(&mut self, connection: ConnectionId, message: ServerMessage) -> Option<&'static str> {
        let outbox = self.0.get(&connection)?;
        let Err(error) = outbox.messages.try_send(Box::new(message)) else { return None };
        outbox.sever.notify_one();
        self.0.remove(&connection);
        match error {
            mpsc::error::TrySendError::Full(_) => Some("it did not read what it was sent"),
            // Its own task reports the end, and knows the reason.
            mpsc::error::TrySendError::Closed(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tanist_model::id::{ClusterId, Term};

    const HELLO: ServerMessage = ServerMessage::Welcome { term: Term(1), cluster: ClusterId(1), answers_beats: true };

    #[tokio::test]
    async fn an_agent_that_does_not_read_is_severed_once() {
        let mut outboxes = Outboxes::default();
        let (outbox, outgoing) = Outbox::new();
        outboxes.insert(ConnectionId(1), outbox);
        for _ in 0..ROOM {
            assert_eq!(outboxes.send(ConnectionId(1), HELLO), None);
        }
        assert!(outboxes.send(ConnectionId(1), HELLO).is_some());
        outgoing.severed.notified().await;
        assert_eq!(outboxes.send(ConnectionId(1), HELLO), None);
    }

    #[tokio::test]
    async fn what_waits_still_goes_out_when_a_connection_is_closed() {
        let mut outboxes = Outboxes::default();
        let (outbox, mut outgoing) = Outbox::new();
        outboxes.insert(ConnectionId(1), outbox);
        outboxes.send(ConnectionId(1), HELLO);
        outboxes.remove(ConnectionId(1));
        assert_eq!(outgoing.messages.recv().await, Some(Box::new(HELLO)));
        assert_eq!(outgoing.messages.recv().await, None);
    }
}
