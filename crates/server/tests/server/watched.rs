//! What a service manager sees of a server: that it is ready, that its loop lives, and that a loop which hangs falls silent although
//! the rest of the process is well.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::Method;
use serde_json::json;
use tanist_model::api::TokenCreated;
use tanist_model::change::{GroupOutcome, Transaction};
use tanist_model::event::Event;
use tanist_model::id::Term;
use tanist_model::state::State;
use tanist_server::Server;
use tanist_store::{EventQuery, MemoryStore, Store, StoreError};
use tanist_wire::service_manager::ServiceManager;
use tokio::sync::watch;

use crate::world::{PATIENCE, Running, World};

const WATCHDOG: Duration = Duration::from_secs(1);

/// A store whose disk does not answer while `stuck`.
#[derive(Debug)]
struct SlowDisk {
    store: MemoryStore,
    stuck: watch::Receiver<bool>,
}

#[async_trait]
impl Store for SlowDisk {
    async fn load(&self) -> Result<State, StoreError> {
        self.store.load().await
    }

    async fn begin_term(&self) -> Result<Term, StoreError> {
        self.store.begin_term().await
    }

    async fn commit(&self, transaction: &Transaction) -> Result<Vec<GroupOutcome>, StoreError> {
        self.stuck.clone().wait_for(|stuck| !stuck).await.unwrap();
        self.store.commit(transaction).await
    }

    async fn events(&self, query: &EventQuery) -> Result<Vec<Event>, StoreError> {
        self.store.events(query).await
    }

    async fn backup(&self, to: &Path) -> Result<(), StoreError> {
        self.store.backup(to).await
    }
}

/// The manager's end. A word that does not come within `limit` is `None`.
fn next_word(socket: &UnixDatagram, limit: Duration) -> Option<String> {
    let mut buffer = [0; 256];
    socket.set_read_timeout(Some(limit)).unwrap();
    let length = socket.recv(&mut buffer).ok()?;
    Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

/// Listens until nothing was said for as long as the manager would wait before it kills.
fn silence_comes(socket: &UnixDatagram) -> bool {
    (0..100).any(|_| next_word(socket, WATCHDOG).is_none())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loop_that_hangs_falls_silent() {
    let mut world = World::initialised().await;
    let socket = UnixDatagram::bind(world.path("notify")).unwrap();
    let manager = ServiceManager::at(world.path("notify").to_str().unwrap(), Some(WATCHDOG)).unwrap();
    let (stick, stuck) = watch::channel(false);
    let store = Arc::new(SlowDisk { store: MemoryStore::with_state(world.first_state()), stuck });
    let server = Server::bind_with_store(&world.dir(), store).unwrap().supervised_by(manager);
    world.server = Some(Running::of(server));

    let heard: Vec<String> = (0..4).map_while(|_| next_word(&socket, PATIENCE)).collect();
    assert!(heard.contains(&"READY=1".to_owned()) && heard.contains(&"WATCHDOG=1".to_owned()), "{heard:?}");
    stick.send_replace(true);
    let watching = async {
        let (silent, socket) = tokio::task::spawn_blocking(|| (silence_comes(&socket), socket)).await.unwrap();
        let health = world.request(Method::GET, "/api/v1/openapi.json").send().await.unwrap();
        assert!(health.status().is_success(), "the process as a whole is well");
        stick.send_replace(false);
        (silent, socket)
    };
    // Something to commit.
    let (made, (silent, socket)) =
        tokio::join!(world.post::<TokenCreated>("/tokens", json!({ "agent": "h1" })), watching);
    assert!(silent, "the watchdog was fed on behalf of a loop that hangs");
    made.unwrap();
    assert_eq!(next_word(&socket, PATIENCE).as_deref(), Some("WATCHDOG=1"), "the loop goes on");
    world.server.take().unwrap().stop().await;
    let goodbye = (0..100).map_while(|_| next_word(&socket, PATIENCE)).find(|word| word == "STOPPING=1");
    assert!(goodbye.is_some());
}
