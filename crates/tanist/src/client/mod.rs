//! Asks the server. One request, one answer; a request that changes something carries a key, so that asking again after a lost
//! connection cannot do the work twice.

pub mod context;
mod endpoints;
mod error;
pub mod tls;

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tanist_model::api::Refusal;
use tanist_model::id::CommandId;

pub use endpoints::EventQuery;
pub use error::ClientError;

use context::Context;

/// Header that carries the command id.
const IDEMPOTENCY_KEY: &str = "idempotency-key";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
const FILE_TIMEOUT: Duration = Duration::from_secs(90);
/// Waits before a change is sent again under the same key.
const RETRY_AFTER: [Duration; 3] =
    [Duration::from_millis(100), Duration::from_millis(400), Duration::from_millis(1600)];

/// A connection to one server as one operator.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    server: String,
    credential: String,
}

/// One request, ready to be sent any number of times.
struct Request {
    method: Method,
    path: String,
    body: Option<serde_json::Value>,
    key: Option<CommandId>,
    timeout: Duration,
}

impl Client {
    /// # Errors
    /// [`ClientError::Setup`] if the context's certificate authority cannot be used.
    pub fn new(context: &Context) -> Result<Self, ClientError> {
        let setup = |source: Box<dyn std::error::Error + Send + Sync>| ClientError::Setup { source };
        let tls = tls::trusting(&context.ca).map_err(|e| setup(Box::new(e)))?;
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .http1_only()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .build()
            .map_err(|e| setup(Box::new(e)))?;
        Ok(Self { http, server: context.server.clone(), credential: context.credential.clone() })
    }

    async fn get<T: DeserializeOwned>(&self, path: impl Into<String>) -> Result<T, ClientError> {
        self.get_within(path, ANSWER_TIMEOUT).await
    }

    async fn get_within<T: DeserializeOwned>(
        &self,
        path: impl Into<String>,
        timeout: Duration,
    ) -> Result<T, ClientError> {
        self.send(&Request { method: Method::GET, path: path.into(), body: None, key: None, timeout }).await
    }

    /// Asks a question that needs a body.
    async fn ask<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, ClientError> {
        self.send(&Request {
            method: Method::POST,
            path: path.to_owned(),
            body: Some(to_value(body)),
            key: None,
            timeout: ANSWER_TIMEOUT,
        })
        .await
    }

    /// Changes something, at most once however often it is sent.
    async fn change<T: DeserializeOwned>(
        &self,
        method: Method,
        path: impl Into<String>,
        body: Option<serde_json::Value>,
    ) -> Result<T, ClientError> {
        self.change_within(method, path, body, ANSWER_TIMEOUT).await
    }

    async fn change_within<T: DeserializeOwned>(
        &self,
        method: Method,
        path: impl Into<String>,
        body: Option<serde_json::Value>,
        timeout: Duration,
    ) -> Result<T, ClientError> {
        let key = Some(random_command_id()?);
        let request = Request { method, path: path.into(), body, key, timeout };
        for wait in RETRY_AFTER {
            match self.send(&request).await {
                Err(ClientError::Unreachable { .. }) => tokio::time::sleep(wait).await,
                answer => return answer,
            }
        }
        self.send(&request).await
    }

    async fn send<T: DeserializeOwned>(&self, request: &Request) -> Result<T, ClientError> {
        let unreachable = |source| ClientError::Unreachable { server: self.server.clone(), source };
        let response = self.build(request).send().await.map_err(unreachable)?;
        let status = response.status();
        let bytes = response.bytes().await.map_err(unreachable)?;
        let bytes = answer(status, &bytes, request)?;
        serde_json::from_slice(bytes).map_err(|source| ClientError::Answer { asked: request.asked(), source })
    }

    /// What is not JSON, by its whole path.
    async fn bytes(&self, path: impl Into<String>) -> Result<Vec<u8>, ClientError> {
        let unreachable = |source| ClientError::Unreachable { server: self.server.clone(), source };
        let path = path.into();
        let request = Request { method: Method::GET, path, body: None, key: None, timeout: FILE_TIMEOUT };
        let url = format!("https://{}{}", self.server, request.path);
        let asked = self.http.get(url).bearer_auth(&self.credential).timeout(request.timeout);
        let response = asked.send().await.map_err(unreachable)?;
        let status = response.status();
        let bytes = response.bytes().await.map_err(unreachable)?;
        answer(status, &bytes, &request)?;
        Ok(bytes.into())
    }

    fn build(&self, request: &Request) -> reqwest::RequestBuilder {
        let url = format!("https://{}/api/v1{}", self.server, request.path);
        let mut builder =
            self.http.request(request.method.clone(), url).bearer_auth(&self.credential).timeout(request.timeout);
        if let Some(key) = request.key {
            builder = builder.header(IDEMPOTENCY_KEY, key.to_string());
        }
        match &request.body {
            Some(body) => builder.json(body),
            None => builder,
        }
    }
}

impl Request {
    fn asked(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

/// The body of an answer that is no refusal.
fn answer<'a>(status: StatusCode, bytes: &'a [u8], request: &Request) -> Result<&'a [u8], ClientError> {
    if status.is_success() {
        return Ok(bytes);
    }
    match serde_json::from_slice::<Refusal>(bytes) {
        Ok(refusal) => Err(ClientError::Refused(refusal)),
        Err(_) => Err(ClientError::Status { asked: request.asked(), status: status.as_u16() }),
    }
}

fn random_command_id() -> Result<CommandId, ClientError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|source| ClientError::Random { source })?;
    Ok(CommandId(u128::from_be_bytes(bytes)))
}

/// The bodies are plain data with text keys; those always have a JSON form.
fn to_value(body: &impl Serialize) -> serde_json::Value {
    serde_json::to_value(body).unwrap_or_default()
}
