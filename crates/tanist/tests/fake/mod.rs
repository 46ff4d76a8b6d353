//! A small server over real TLS that says what a test wants: each request takes the next scripted answer for its path.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use serde_json::Value;
use tanist::client::context::Context;
use tanist_model::id::{AgentName, ClusterId};
use tanist_wire::ca::CertificateAuthority;
use tanist_wire::identity::{Identity, PrivateKey};
use tanist_wire::tls::{LiveCertificate, server_config};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// What a request gets.
#[derive(Clone, Debug)]
pub enum Answer {
    Json(u16, Value),
    /// The connection breaks in the middle of the answer.
    Break,
}

/// What was asked.
#[derive(Clone, Debug)]
pub struct Asked {
    pub request: String,
    pub key: Option<String>,
    pub credential: Option<String>,
    /// Null where there is none.
    pub body: Value,
}

#[derive(Default)]
struct Script {
    answers: HashMap<String, VecDeque<Answer>>,
    asked: Vec<Asked>,
}

/// A running server; it ends with the test's process.
pub struct Fake {
    pub address: SocketAddr,
    pub authority: CertificateAuthority,
    script: Arc<Mutex<Script>>,
    folder: tempfile::TempDir,
    _runtime: tokio::runtime::Runtime,
}

impl Fake {
    pub fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let authority = CertificateAuthority::create(ClusterId(1), tanist::output::screen::now()).unwrap();
        let script = Arc::new(Mutex::new(Script::default()));
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(serve(listener, acceptor(&authority), Arc::clone(&script)));
        Self { address, authority, script, folder: tempfile::tempdir().unwrap(), _runtime: runtime }
    }

    /// The next answer to a request such as `GET /status`; the last one is given again and again.
    pub fn answer(&self, request: &str, answer: Answer) -> &Self {
        self.script.lock().unwrap().answers.entry(request.to_owned()).or_default().push_back(answer);
        self
    }

    pub fn asked(&self, request: &str) -> Vec<Asked> {
        self.script.lock().unwrap().asked.iter().filter(|asked| asked.request == request).cloned().collect()
    }

    pub fn context(&self) -> Context {
        Context {
            server: self.address.to_string(),
            credential: "tcr_test".to_owned(),
            ca: self.authority.certificate_pem().to_owned(),
        }
    }

    pub fn context_file(&self) -> PathBuf {
        let path = self.folder.path().join("context.toml");
        self.context().save(&path).unwrap();
        path
    }

    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }
}

fn acceptor(authority: &CertificateAuthority) -> TlsAcceptor {
    let key = PrivateKey::generate().unwrap();
    let name = AgentName::new("server").unwrap();
    let issued = authority.issue_server(&key, &name, &[], tanist::output::screen::now()).unwrap();
    let identity = Identity::new(key, issued.certificate_pem, authority.certificate_pem().to_owned()).unwrap();
    TlsAcceptor::from(server_config(LiveCertificate::new(&identity), authority.anchor()).unwrap())
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, script: Arc<Mutex<Script>>) {
    let service = Router::new().fallback(handle).with_state(script);
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (acceptor, service) = (acceptor.clone(), service.clone());
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let service = TowerToHyperService::new(service);
            let _ =
                Builder::new(TokioExecutor::new()).http1_only().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn handle(State(script): State<Arc<Mutex<Script>>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let header = |name: &str| parts.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    let path = parts.uri.path().strip_prefix("/api/v1").unwrap_or_default();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let asked = Asked {
        request: format!("{} {path}", parts.method),
        key: header("idempotency-key"),
        credential: header("authorization"),
        body: serde_json::from_slice(&body).unwrap_or_default(),
    };
    let answer = script.lock().unwrap().next(asked);
    match answer {
        Answer::Json(status, body) => {
            let status = StatusCode::from_u16(status).unwrap();
            (status, [("content-type", "application/json")], body.to_string()).into_response()
        }
        Answer::Break => {
            let broken = futures_util::stream::iter([Ok("{"), Err(std::io::Error::other("break"))]);
            Body::from_stream(broken).into_response()
        }
    }
}

impl Script {
    fn next(&mut self, asked: Asked) -> Answer {
        let waiting = self.answers.get_mut(&asked.request);
        self.asked.push(asked);
        match waiting {
            Some(answers) if answers.len() > 1 => answers.pop_front().unwrap(),
            Some(answers) => answers[0].clone(),
            None => Answer::Json(404, serde_json::json!({"code": "not-found", "error": "there is no such thing"})),
        }
    }
}
