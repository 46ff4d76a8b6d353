//! `tanist agent join`: the key is made here and never leaves; what leaves is a signing request, and what comes back is checked
//! against the hash that the operator copied. The token works once: whatever can fail here fails before it is sent.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use tanist_agent::{AgentConfig, DEFAULT_RECORDING, StorageConfig};
use tanist_model::api::{Refusal, RefusalCode};
use tanist_model::time::Timestamp;
use tanist_wire::certificate::CaHash;
use tanist_wire::file;
use tanist_wire::identity::{Identity, PrivateKey};
use tanist_wire::tls::pinned_client_config;
use tanist_wire::tls_failure::TlsFailure;
use tanist_wire::token::{JoinRequest, JoinResponse, JoinSecret};

use super::session::Session;
use super::{Outcome, service};
use crate::cli::agent::AgentJoinArgs;
use crate::cli::values::StorageDirectory;
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
    let config = configuration(&args);
    let key = PrivateKey::generate().map_err(|e| local("make a key", e.to_string(), e.hint()))?;
    let csr_pem = key.certificate_request().map_err(|e| local("make a signing request", e.to_string(), e.hint()))?;
    let request = JoinRequest { token, agent: None, csr_pem, wall: wall() };
    let written = WrittenConfig::new(&config, &folder)?;
    let response = ask_server(&args.server, ca_hash, &request).await?;
    let identity = response
        .into_identity(key, None, ca_hash)
        .map_err(|e| local("accept the server's answer", e.to_string(), e.hint()))?;
    identity.save(&folder).map_err(|e| local("save the identity", e.to_string(), e.hint()))?;
    written.keep();
    session.screen.answer(&report(&args, &config, &folder, &identity), render)?;
    Ok(ExitCode::SUCCESS)
}

fn refuse_occupied(folder: &Path) -> Result<(), Failure> {
    if Identity::load(folder).is_err() {
        return Ok(());
    }
    let refusal =
        Refusal::new(RefusalCode::Conflict, format!("{} holds an agent's identity already", folder.display()))
            .hint("to join anew, move that directory away; for a second agent on this host, name another: --dir DIR");
    Err(refusal.into())
}

fn check_storage(args: &AgentJoinArgs) -> Result<(), Failure> {
    for (i, storage) in args.storage.iter().enumerate() {
        if args.storage.iter().take(i).any(|other| other.name == storage.name) {
            let refusal = Refusal::new(RefusalCode::Invalid, format!("storage system {} is named twice", storage.name))
                .hint("give each directory a name of its own: --storage NAME=DIRECTORY; the token was not used");
            return Err(refusal.into());
        }
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

fn configuration(args: &AgentJoinArgs) -> AgentConfig {
    let image = |s: &StorageDirectory| StorageConfig::Image {
        name: s.name.clone(),
        directory: absolute(&s.directory),
        snapshots: None,
    };
    let storage = args.storage.iter().map(image).collect();
    let (server, application) = (args.server.clone(), Vec::new());
    AgentConfig {
        server,
        listen: args.listen,
        advertise: None,
        recording_limit_bytes: DEFAULT_RECORDING,
        storage,
        application,
    }
}

/// The configuration, written before the token is spent; unless it is kept, what was there before is put back.
struct WrittenConfig {
    path: PathBuf,
    before: Option<Vec<u8>>,
    kept: bool,
}

impl WrittenConfig {
    fn new(config: &AgentConfig, folder: &Path) -> Result<Self, Failure> {
        file::create_private_folder(folder).map_err(|e| local("make the directory", e.to_string(), e.hint()))?;
        let path = folder.join(AgentConfig::FILE);
        let before = match std::fs::read(&path) {
            Ok(content) => Some(content),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(Failure::io(format!("read {}", path.display()), error)),
        };
        config.save(folder).map_err(|e| local("save the configuration", e.to_string(), e.hint()))?;
        Ok(Self { path, before, kept: false })
    }

    fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for WrittenConfig {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        // The failure that led here is the one to tell.
        let _ = match &self.before {
            Some(content) => file::replace(&self.path, content, file::Readers::Everyone).is_ok(),
            None => std::fs::remove_file(&self.path).is_ok(),
        };
    }
}

fn report(args: &AgentJoinArgs, config: &AgentConfig, folder: &Path, identity: &Identity) -> JoinReport {
    JoinReport {
        agent: identity.holder().agent().map(ToString::to_string).unwrap_or_default(),
        server: args.server.clone(),
        directory: folder.display().to_string(),
        storage: config.storage.iter().map(|s| s.name().to_string()).collect(),
        next: service::next_step("agent", args.place.dir.is_some().then_some(folder)),
    }
}

/// The agent may be started from anywhere.
fn absolute(directory: &Path) -> PathBuf {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn config(server: &str) -> AgentConfig {
        AgentConfig {
            server: server.to_owned(),
            listen: "127.0.0.1:7421".parse().unwrap(),
            advertise: None,
            recording_limit_bytes: DEFAULT_RECORDING,
            storage: Vec::new(),
            application: Vec::new(),
        }
    }

    #[test]
    fn a_join_that_fails_leaves_the_configuration_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        drop(WrittenConfig::new(&config("a:1"), folder.path()).unwrap());
        assert!(!folder.path().join(AgentConfig::FILE).exists());

        WrittenConfig::new(&config("a:1"), folder.path()).unwrap().keep();
        drop(WrittenConfig::new(&config("b:1"), folder.path()).unwrap());
        assert_eq!(AgentConfig::load(folder.path()).unwrap(), config("a:1"));
    }
}
