//! A server in a directory of its own, and an operator who asks it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::Method;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tanist_model::api::{EventPage, Refusal, ReplicationView, StatusView, TokenCreated};
use tanist_model::enrolment::Credential;
use tanist_model::event::{Event, EventCode};
use tanist_model::id::AgentName;
use tanist_model::state::State;
use tanist_model::time::Timestamp;
use tanist_server::{InitOptions, Initialised, Server, ServerError, init};
use tanist_store::{MemoryStore, Store, StoreError};
use tanist_wire::certificate::TrustAnchor;
use tanist_wire::identity::{Identity, PrivateKey};
use tanist_wire::tls;
use tanist_wire::token::{JoinRequest, JoinResponse};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Longer than anything here takes; a test that waits so long has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub fn now() -> Timestamp {
    Timestamp(0).plus(SystemTime::now().duration_since(UNIX_EPOCH).unwrap())
}

pub fn name(text: &str) -> AgentName {
    AgentName::new(text).unwrap()
}

/// A running server.
pub struct Running {
    pub address: String,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), ServerError>>,
}

impl Running {
    pub fn of(server: Server) -> Self {
        let address = server.local_address().to_string();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(server.serve(async move {
            let _ = stopped.await;
        }));
        Self { address, stop, task }
    }

    /// Ends it in order.
    pub async fn stop(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap().unwrap();
    }

    /// Ends it wherever it is.
    pub async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }

    /// Waits until it ends by itself.
    pub async fn end(self) -> Result<(), ServerError> {
        tokio::time::timeout(PATIENCE, self.task).await.unwrap().unwrap()
    }
}

/// An installation and its operator.
pub struct World {
    folder: TempDir,
    pub made: Initialised,
    pub server: Option<Running>,
    http: reqwest::Client,
}

impl World {
    /// A server over the store that comes with it.
    pub async fn start() -> Self {
        let mut world = Self::initialised().await;
        world.run().await;
        world
    }

    /// A server over a store in memory that knows the operator, and what else `change` puts there.
    pub async fn start_in_memory(change: impl FnOnce(&mut State)) -> (Self, Arc<MemoryStore>) {
        let mut world = Self::initialised().await;
        let mut state = world.first_state();
        change(&mut state);
        let store = Arc::new(MemoryStore::with_state(state));
        let shared = Arc::clone(&store) as Arc<dyn Store>;
        world.server = Some(Running::of(Server::bind_with_store(&world.dir(), shared).unwrap()));
        (world, store)
    }

    /// What a store holds that knows the operator and nothing else.
    pub fn first_state(&self) -> State {
        let (hash, operator) = (self.made.credential.hash(), self.made.operator.clone());
        let credential = Credential { hash: hash.clone(), operator, created_at: now(), revoked: false };
        let mut state = State::default();
        state.credentials.insert(hash, credential);
        state
    }

    pub async fn initialised() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (dir, listen) = (folder.path().join("server"), "127.0.0.1:0".parse().unwrap());
        let made = init(InitOptions { dir, listen, advertise: vec!["127.0.0.1:0".into()] }).await.unwrap();
        let config = tls::api_client_config(&TrustAnchor::from_pem(&made.ca_pem).unwrap()).unwrap();
        let http = reqwest::Client::builder().tls_backend_preconfigured((*config).clone()).no_proxy().build().unwrap();
        Self { folder, made, server: None, http }
    }

    /// Adds to the server's configuration; it counts from the next start.
    pub fn configure(&self, text: &str) {
        let path = self.dir().join("server.toml");
        let before = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, format!("{before}\n{text}")).unwrap();
    }

    pub fn dir(&self) -> PathBuf {
        self.folder.path().join("server")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts the server anew; the one before may still be letting its store go.
    pub async fn run(&mut self) {
        let server = tokio::time::timeout(PATIENCE, async {
            loop {
                match Server::bind(&self.dir()).await {
                    Err(ServerError::Store(StoreError::InUse { .. })) => tokio::task::yield_now().await,
                    other => return other.unwrap(),
                }
            }
        });
        self.server = Some(Running::of(server.await.unwrap()));
    }

    pub fn address(&self) -> &str {
        &self.server.as_ref().unwrap().address
    }

    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("https://{}{path}", self.address())).timeout(PATIENCE)
    }

    fn authorised(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.request(method, &format!("/api/v1{path}")).bearer_auth(self.made.credential.reveal())
    }

    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> T {
        answer(self.authorised(Method::GET, path)).await.unwrap()
    }

    pub async fn try_get<T: DeserializeOwned>(&self, path: &str) -> Result<T, (u16, Refusal)> {
        answer(self.authorised(Method::GET, path)).await
    }

    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: Value) -> Result<T, (u16, Refusal)> {
        answer(self.authorised(Method::POST, path).json(&body)).await
    }

    pub async fn post_keyed<T: DeserializeOwned>(
        &self,
        path: &str,
        body: Value,
        key: &str,
    ) -> Result<T, (u16, Refusal)> {
        answer(self.authorised(Method::POST, path).header("idempotency-key", key).json(&body)).await
    }

    pub async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, (u16, Refusal)> {
        answer(self.authorised(Method::DELETE, path)).await
    }

    pub async fn token(&self, agent: &str) -> TokenCreated {
        self.post("/tokens", json!({ "agent": agent })).await.unwrap()
    }

    /// What a host does to join; it has no credential.
    pub async fn try_join(&self, token: &str, agent: Option<&str>) -> Result<Identity, (u16, Refusal)> {
        let key = PrivateKey::generate().unwrap();
        let agent = agent.map(name);
        let request = JoinRequest {
            token: token.parse().unwrap(),
            agent: agent.clone(),
            csr_pem: key.certificate_request().unwrap(),
            wall: now(),
        };
        let response: JoinResponse = answer(self.request(Method::POST, "/api/v1/join").json(&request)).await?;
        Ok(response.into_identity(key, agent.as_ref(), self.made.ca_hash).unwrap())
    }

    pub async fn join(&self, agent: &str) -> Identity {
        let token = self.token(agent).await;
        self.try_join(&token.token, Some(agent)).await.unwrap()
    }

    pub async fn replication(&self) -> ReplicationView {
        self.get("/replications/db").await
    }

    pub async fn status(&self) -> StatusView {
        self.get("/status").await
    }

    pub async fn all_events(&self) -> Vec<Event> {
        self.get::<EventPage>("/events?limit=1000").await.events
    }

    /// Waits for an event, from the beginning of the log.
    pub async fn event(&self, code: EventCode) -> Event {
        let mut after = 0;
        loop {
            let page: EventPage = self.get(&format!("/events?after={after}&limit=1000&wait_seconds=15")).await;
            if let Some(event) = page.events.iter().find(|event| event.code == code) {
                return event.clone();
            }
            assert!(!page.events.is_empty(), "no event {code} came");
            after = page.last.0;
        }
    }

    /// Asks until the answer is as it should be.
    pub async fn until<T, F: Future<Output = T>>(&self, ask: impl Fn() -> F, good: impl Fn(&T) -> bool) -> T {
        let asked = async {
            loop {
                let answer = ask().await;
                if good(&answer) {
                    return answer;
                }
                // What never waits could not be given up.
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, asked).await.expect("it never became so")
    }

    pub async fn until_replication(&self, good: impl Fn(&ReplicationView) -> bool) -> ReplicationView {
        self.until(|| self.replication(), good).await
    }
}

async fn answer<T: DeserializeOwned>(request: reqwest::RequestBuilder) -> Result<T, (u16, Refusal)> {
    let response = request.send().await.unwrap();
    let (status, bytes) = (response.status(), response.bytes().await.unwrap());
    if status.is_success() {
        return Ok(serde_json::from_slice(&bytes).unwrap());
    }
    Err((status.as_u16(), serde_json::from_slice(&bytes).unwrap()))
}
