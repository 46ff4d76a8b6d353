//! `tanist agent join`: the key is made here and never leaves; what leaves is a signing request, and what comes back is checked
//! against the hash that the operator copied.

use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use tanist_agent::{AgentConfig, StorageConfig, StorageConfigKind};
use tanist_model::api::{Refusal, RefusalCode};
use tanist_model::time::Timestamp;
use tanist_wire::certificate::CaHash;
use tanist_wire::identity::{Identity, PrivateKey};
use tanist_wire::tls::pinned_client_config;
use tanist_wire::tls_failure::TlsFailure;
use tanist_wire::token::{JoinRequest, JoinResponse, JoinSecret};

use super::Outcome;
use super::session::Session;
use crate::cli::agent::AgentJoinArgs;
use crate::failure::Failure;
use crate::output::{Style, Tone};

const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Serialize)]
struct JoinReport {
    agent: String,
    server: String,
    directory: String,
    storage: Vec<String>,
    next: String,
}

pub async fn run(args: AgentJoinArgs, session: &Session<'_>) -> Outcome {
    let folder = args.place.folder()?;
    refuse_occupied(&folder)?;
    let token: JoinSecret = parse(&args.token)?;
    let ca_hash: CaHash = parse(&args.ca_hash)?;
    check_storage(&args)?;
    let key = PrivateKey::generate().map_err(|e| local("make a key", e.to_string(), e.hint()))?;
    let csr_pem = key.certificate_request().map_err(|e| local("make a signing request", e.to_string(), e.hint()))?;
    let request = JoinRequest { token, agent: None, csr_pem, wall: wall() };
    let response = ask_server(&args.server, ca_hash, &request).await?;
    let identity = response
        .into_identity(key, None, ca_hash)
        .map_err(|e| local("accept the server's answer", e.to_string(), e.hint()))?;
    let report = install(&args, &folder, &identity)?;
    session.screen.answer(&report, render)?;
    Ok(ExitCode::SUCCESS)
}

fn refuse_occupied(folder: &std::path::Path) -> Result<(), Failure> {
    if Identity::load(folder).is_err() {
        return Ok(());
    }
    let refusal =
        Refusal::new(RefusalCode::Conflict, format!("{} holds an agent's identity already", folder.display()))
            .hint("to join anew, move that directory away; for a second agent on this host, name another: --dir DIR");
    Err(refusal.into())
}

fn check_storage(args: &AgentJoinArgs) -> Result<(), Failure> {
    for storage in &args.storage {
        if !storage.directory.is_dir() {
            let refusal =
                Refusal::new(RefusalCode::Invalid, format!("{} is not a directory", storage.directory.display()))
                    .hint("mount the storage first, then name its directory: --storage NAME=DIRECTORY");
            return Err(refusal.into());
        }
    }
    Ok(())
}

fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, Failure> {
    text.parse().map_err(|e: T::Err| {
        let refusal = Refusal::new(RefusalCode::Invalid, e.to_string());
        refusal.hint("copy the whole line that `tanist token create NAME` printed").into()
    })
}

fn local(doing: &str, cause: String, hint: impl Into<String>) -> Failure {
    Refusal::new(RefusalCode::Internal, format!("cannot {doing}")).cause(cause).hint(hint).into()
}

fn wall() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// The server is recognised by its authority's hash: the token goes to nobody else.
async fn ask_server(server: &str, ca_hash: CaHash, request: &JoinRequest) -> Result<JoinResponse, Failure> {
    let tls = pinned_client_config(ca_hash).map_err(|e| local("set up TLS", e.to_string(), e.hint()))?;
    let http = reqwest::Client::builder()
        .tls_backend_preconfigured((*tls).clone())
        .http1_only()
        .no_proxy()
        .timeout(ANSWER_TIMEOUT)
        .build()
        .map_err(|e| local("set up TLS", e.to_string(), "please report this"))?;
    let url = format!("https://{server}/api/v1/join");
    let unreachable = |e: reqwest::Error| not_reached(server, &e);
    let answer = http.post(url).json(request).send().await.map_err(unreachable)?;
    let joined = answer.status().is_success();
    let body = answer.bytes().await.map_err(unreachable)?;
    if joined {
        return serde_json::from_slice(&body)
            .map_err(|e| local("read the server's answer", e.to_string(), "is it a tanist server?"));
    }
    let refused = || Refusal::new(RefusalCode::Internal, "the server refused, and did not say why");
    Err(serde_json::from_slice::<Refusal>(&body).unwrap_or_else(|_| refused()).into())
}

/// Whoever is not recognised by its authority gets no token: the handshake ends before the request.
fn not_reached(server: &str, error: &reqwest::Error) -> Refusal {
    match TlsFailure::in_causes(error) {
        Some(failure) => Refusal::new(
            RefusalCode::Unauthorized,
            format!("what answers at {server} is not the server that the token is for; the token was not sent"),
        )
        .cause(failure.to_string())
        .hint(failure.hint()),
        None => Refusal::new(RefusalCode::Unavailable, format!("the server at {server} was not reached"))
            .cause(innermost(error))
            .hint("does it run, and is the address the one that `tanist token create` printed?"),
    }
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

fn install(args: &AgentJoinArgs, folder: &std::path::Path, identity: &Identity) -> Result<JoinReport, Failure> {
    let config = AgentConfig {
        server: args.server.clone(),
        listen: args.listen,
        advertise: None,
        storage: args
            .storage
            .iter()
            .map(|s| StorageConfig {
                name: s.name.clone(),
                kind: StorageConfigKind::Image,
                directory: absolute(&s.directory),
            })
            .collect(),
    };
    identity.save(folder).map_err(|e| local("save the identity", e.to_string(), e.hint()))?;
    config.save(folder).map_err(|e| local("save the configuration", e.to_string(), e.hint()))?;
    let place = if args.place.dir.is_some() { format!(" --dir {}", folder.display()) } else { String::new() };
    Ok(JoinReport {
        agent: identity.holder().agent().map(ToString::to_string).unwrap_or_default(),
        server: args.server.clone(),
        directory: folder.display().to_string(),
        storage: config.storage.iter().map(|s| s.name.to_string()).collect(),
        next: format!("tanist agent run{place}"),
    })
}

/// The agent may be started from anywhere.
fn absolute(directory: &std::path::Path) -> std::path::PathBuf {
    std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned())
}

fn render(joined: &JoinReport, style: Style) -> String {
    let storage = if joined.storage.is_empty() {
        format!("no storage system is configured: add one in {}/{}", joined.directory, AgentConfig::FILE)
    } else {
        format!("storage systems: {}", joined.storage.join(", "))
    };
    format!(
        "this host is agent {} of {}; its key is in {}\n{storage}\n\n{} {}\n",
        joined.agent,
        joined.server,
        joined.directory,
        style.paint(Tone::Strong, "next:"),
        joined.next
    )
}
