//! `tanist support bundle`: what somebody needs who helps from afar, in one file. Secrets stay at home.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;
use tanist_agent::AgentConfig;
use tanist_model::api::{Refusal, RefusalCode};
use tanist_model::time::Timestamp;
use tanist_recording::bundle::{BundleWriter, Manifest};
use tanist_recording::{Folder, Role};

use super::Outcome;
use super::session::Session;
use crate::cli::support::{BundleArgs, SupportCommand};
use crate::client::{ClientError, EventQuery};
use crate::failure::Failure;
use crate::output::screen::now;
use crate::output::{Style, units};

/// The latest events that go into a bundle.
const EVENTS: u32 = 1000;

/// What was made, as JSON.
#[derive(Serialize)]
struct BundleReport {
    file: String,
    bytes: u64,
    manifest: Manifest,
}

pub async fn run(command: SupportCommand, session: &Session<'_>) -> Outcome {
    let SupportCommand::Bundle(args) = command;
    let made_at = now();
    let role = if args.agent { Role::Agent } else { Role::Server };
    let file = args.file.clone().unwrap_or_else(|| usual_name(role, made_at));
    let mut draft = Draft::new(&file, role, made_at)?;
    let filled = if args.agent { of_agent(&args, &mut draft) } else { of_server(session, &mut draft).await };
    let report = match filled {
        Ok(()) => draft.finish()?,
        Err(failure) => {
            draft.discard();
            return Err(failure);
        }
    };
    session.screen.answer(&report, render)?;
    Ok(ExitCode::SUCCESS)
}

fn usual_name(role: Role, made_at: Timestamp) -> PathBuf {
    let of = match role {
        Role::Server => "server",
        Role::Agent => "agent",
    };
    let second: String = made_at.to_string().chars().take(19).filter(|c| c.is_ascii_alphanumeric()).collect();
    format!("tanist-{of}-{second}Z.tar.gz").into()
}

/// A bundle under way. It has its name from the beginning, and without its manifest nobody takes it for one.
struct Draft {
    file: PathBuf,
    writer: BundleWriter<File>,
}

impl Draft {
    fn new(file: &Path, role: Role, made_at: Timestamp) -> Result<Self, Failure> {
        let mut options = File::options();
        options.write(true).create_new(true);
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let opened = options.open(file).map_err(|source| Failure::io(format!("make {}", file.display()), source))?;
        Ok(Self { file: file.to_owned(), writer: BundleWriter::new(opened, role, env!("CARGO_PKG_VERSION"), made_at) })
    }

    fn add(&mut self, path: &str, bytes: &[u8]) -> Result<(), Failure> {
        self.writer.add(path, bytes).map_err(|source| unwritten(&self.file, source))
    }

    fn add_json(&mut self, path: &str, value: &impl Serialize) -> Result<(), Failure> {
        let bytes = serde_json::to_vec_pretty(value).map_err(|error| unwritten(&self.file, error.into()))?;
        self.add(path, &bytes)
    }

    fn add_segment(&mut self, number: u64, bytes: &[u8]) -> Result<(), Failure> {
        self.writer.add_segment(number, bytes).map_err(|source| unwritten(&self.file, source))
    }

    /// What was begun is no bundle, and its name is free again.
    fn discard(self) {
        if let Err(error) = std::fs::remove_file(&self.file) {
            tracing::warn!(%error, file = %self.file.display(), "what was begun of a bundle stays");
        }
    }

    fn finish(self) -> Result<BundleReport, Failure> {
        let failed = |source| unwritten(&self.file, source);
        let (mut file, manifest) = self.writer.finish().map_err(failed)?;
        file.flush().and_then(|()| file.sync_all()).map_err(failed)?;
        let bytes = file.metadata().map_err(failed)?.len();
        Ok(BundleReport { file: self.file.display().to_string(), bytes, manifest })
    }
}

fn unwritten(file: &Path, source: std::io::Error) -> Failure {
    Failure::io(format!("write {}", file.display()), source)
}

async fn of_server(session: &Session<'_>, draft: &mut Draft) -> Result<(), Failure> {
    let client = &session.client()?;
    for segment in client.recording().await? {
        match client.recorded(segment.number).await {
            Ok(bytes) => draft.add_segment(segment.number, &bytes)?,
            // It made room meanwhile.
            Err(ClientError::Refused(refusal)) if refusal.code == RefusalCode::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    draft.add("server.toml", client.configuration().await?.as_slice())?;
    draft.add_json("whoami.json", &client.whoami().await?)?;
    draft.add_json("status.json", &client.status().await?)?;
    draft.add_json("agents.json", &client.agents().await?)?;
    draft.add_json("replications.json", &client.replications().await?)?;
    draft.add_json("storage.json", &client.storage().await?)?;
    draft.add_json("alarms.json", &client.alarms().await?)?;
    let events = EventQuery { limit: EVENTS, ..EventQuery::default() };
    draft.add_json("events.json", &client.events(&events).await?)?;
    draft.add("metrics.txt", client.metrics().await?.as_slice())
}

fn of_agent(args: &BundleArgs, draft: &mut Draft) -> Result<(), Failure> {
    let directory = args.place.folder()?;
    let config = AgentConfig::load(&directory).map_err(|error| {
        Refusal::new(RefusalCode::Invalid, "there is no agent to make a bundle of")
            .cause(error.to_string())
            .hint(error.hint())
    })?;
    let folder = Folder::of(&directory);
    let segments = match folder.segments() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        listed => listed.map_err(|source| Failure::io(format!("read {}", folder.path().display()), source))?,
    };
    for segment in segments {
        match std::fs::read(&segment.path) {
            Ok(bytes) => draft.add_segment(segment.number, &bytes)?,
            // It made room, or was closed meanwhile.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => return Err(Failure::io(format!("read {}", segment.path.display()), source)),
        }
    }
    let text = toml::to_string_pretty(&config.concealed()).map_err(|error| {
        Refusal::new(RefusalCode::Internal, "the configuration cannot be shown").cause(error.to_string())
    })?;
    draft.add(AgentConfig::FILE, text.as_bytes())
}

fn render(report: &BundleReport, _: Style) -> String {
    let mut text = format!("{} ({})\n", report.file, units::bytes(report.bytes));
    for file in &report.manifest.files {
        text.push_str(&format!("  {} ({})\n", file.path, units::bytes(file.bytes)));
    }
    text.push_str("\nIt has no keys, tokens or passwords; it has the names of hosts, volumes and operators. Look before you send it.\n");
    text
}
