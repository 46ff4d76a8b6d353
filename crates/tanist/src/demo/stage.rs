//! The stage: a folder with two storage systems, a server and three agents that have joined it.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tanist_model::api::CreateToken;
use tanist_model::id::{AgentName, StorageName, VolumeAddress};

use super::volumes;
use crate::cli::server::DemoArgs;
use crate::client::Client;
use crate::client::context::Context;
use crate::failure::Failure;
use crate::own_process::{OwnProcess, once};

/// The agents, the primary first.
pub(super) const AGENTS: [&str; 3] = ["h1", "h2", "h3"];
const SEED: u64 = 20_261_122;
/// How long anything may take to come up.
const PATIENCE: Duration = Duration::from_secs(20);
const GLANCE: Duration = Duration::from_millis(25);

/// Everything that was set up.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) folder: PathBuf,
    /// Removed at the end: it is the demonstration's own.
    temporary: bool,
    pub(super) source: Volume,
    pub(super) target: Volume,
    pub(super) client: Client,
    pub(super) server: OwnProcess,
    pub(super) agents: Vec<(AgentName, OwnProcess)>,
    kept: bool,
}

/// A volume and the file behind it.
#[derive(Clone, Debug)]
pub(super) struct Volume {
    pub(super) address: VolumeAddress,
    pub(super) file: PathBuf,
    /// Made by the demonstration, so that it may change it.
    pub(super) made: bool,
}

impl Stage {
    pub(super) async fn set(args: &DemoArgs) -> Result<Self, Failure> {
        let (folder, temporary) = folder(args)?;
        let source = source(args, &folder)?;
        let target = target(args, &folder, &source)?;
        let address = free_address()?;
        let context = folder.join("context.toml");
        init_server(&folder, &context, &address)?;
        let logs = folder.join("server.log");
        let dir = text(&folder.join("server"));
        let server = OwnProcess::start("the server", &logs, false, &["server", "run", "--dir", &dir])?;
        let client = Client::new(&Context::load(&context)?)?;
        let mut stage = Self { folder, temporary, source, target, client, server, agents: Vec::new(), kept: false };
        stage.wait_for_server().await?;
        for name in AGENTS {
            stage.join(name, &address).await?;
        }
        stage.wait_for_agents().await?;
        Ok(stage)
    }

    async fn wait_for_server(&self) -> Result<(), Failure> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.client.whoami().await {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() >= deadline => return Err(error.into()),
                Err(_) => tokio::time::sleep(GLANCE).await,
            }
        }
    }

    async fn join(&mut self, name: &str, address: &str) -> Result<(), Failure> {
        let agent = AgentName::new(name).map_err(|e| Failure::io("name an agent", std::io::Error::other(e)))?;
        let token = self.client.create_token(&CreateToken { agent: agent.clone() }).await?;
        let dir = text(&self.folder.join(name));
        let storage = |volume: &Volume| {
            let directory = volume.file.parent().unwrap_or(Path::new("."));
            format!("{}={}", volume.address.system, directory.display())
        };
        once(&[
            "agent",
            "join",
            address,
            "--token",
            &token.token,
            "--ca-hash",
            &token.ca_hash,
            "--dir",
            &dir,
            "--listen",
            "127.0.0.1:0",
            "--storage",
            &storage(&self.source),
            "--storage",
            &storage(&self.target),
        ])?;
        let log = self.folder.join(format!("{name}.log"));
        let player = OwnProcess::start(&format!("agent {name}"), &log, false, &["agent", "run", "--dir", &dir])?;
        self.agents.push((agent, player));
        Ok(())
    }

    async fn wait_for_agents(&self) -> Result<(), Failure> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let connected = self.client.agents().await?.iter().filter(|a| a.connected).count();
            let volumes = self.client.volumes().await?;
            let seen = volumes.iter().filter(|v| v.agents.len() == AGENTS.len()).count();
            if connected == AGENTS.len() && seen >= 2 {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let error = std::io::Error::other(format!("{connected} of {} agents are connected", AGENTS.len()));
                return Err(Failure::io(format!("bring up the agents (logs in {})", self.folder.display()), error));
            }
            tokio::time::sleep(GLANCE).await;
        }
    }

    pub(super) fn player(&self, agent: &AgentName) -> Option<&OwnProcess> {
        self.agents.iter().find(|(name, _)| name == agent).map(|(_, player)| player)
    }

    /// Leaves everything running.
    pub(super) fn keep(&mut self) {
        self.kept = true;
        self.server.keep();
        self.agents.iter_mut().for_each(|(_, player)| player.keep());
    }

    /// The processes, for whoever has to stop them later.
    pub(super) fn processes(&self) -> String {
        let ids: Vec<String> = std::iter::once(&self.server)
            .chain(self.agents.iter().map(|(_, p)| p))
            .map(|p| p.id().to_string())
            .collect();
        ids.join(" ")
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if self.temporary && !self.kept {
            // A folder that is left behind in the temporary directory is no failure of the demonstration.
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

fn folder(args: &DemoArgs) -> Result<(PathBuf, bool), Failure> {
    let (folder, temporary) = match &args.dir {
        Some(dir) => (dir.clone(), false),
        None => (std::env::temp_dir().join(format!("tanist-demo-{}", std::process::id())), true),
    };
    std::fs::create_dir_all(folder.parent().unwrap_or(Path::new("/")))
        .and_then(|()| std::fs::create_dir(&folder))
        .map_err(|e| Failure::io(format!("make the folder {}", folder.display()), e))?;
    Ok((std::path::absolute(&folder).unwrap_or(folder), temporary))
}

fn source(args: &DemoArgs, folder: &Path) -> Result<Volume, Failure> {
    if let Some(file) = &args.source {
        return given("san-a", file);
    }
    let file = folder.join("san-a").join("vol1.img");
    make(&file, |path| volumes::make(path, args.size, SEED))?;
    Ok(Volume { address: address("san-a", "vol1.img")?, file, made: true })
}

fn target(args: &DemoArgs, folder: &Path, source: &Volume) -> Result<Volume, Failure> {
    if let Some(file) = &args.target {
        return given("san-b", file);
    }
    let size = std::fs::metadata(&source.file).map_err(|e| Failure::io("look at the source", e))?.len();
    let file = folder.join("san-b").join("vol9.img");
    make(&file, |path| volumes::make_blank(path, size))?;
    Ok(Volume { address: address("san-b", "vol9.img")?, file, made: true })
}

fn make(file: &Path, make: impl FnOnce(&Path) -> std::io::Result<()>) -> Result<(), Failure> {
    let made = std::fs::create_dir_all(file.parent().unwrap_or(Path::new("/"))).and_then(|()| make(file));
    made.map_err(|e| Failure::io(format!("make the volume {}", file.display()), e))
}

fn given(system: &str, file: &Path) -> Result<Volume, Failure> {
    let file = file.canonicalize().map_err(|e| Failure::io(format!("find {}", file.display()), e))?;
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Volume { address: address(system, &name)?, file, made: false })
}

fn address(system: &str, volume: &str) -> Result<VolumeAddress, Failure> {
    let named = StorageName::new(system).and_then(|system| VolumeAddress::new(system, volume));
    named.map_err(|e| Failure::io("name a volume", std::io::Error::other(e)))
}

/// A port that was free a moment ago; only this demonstration's server uses it.
fn free_address() -> Result<String, Failure> {
    let address = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    Ok(address.map_err(|e| Failure::io("find a free port", e))?.to_string())
}

fn init_server(folder: &Path, context: &Path, address: &str) -> Result<(), Failure> {
    let (context, dir) = (text(context), text(&folder.join("server")));
    once(&["--context", &context, "server", "init", "--dir", &dir, "--listen", address, "--advertise", address])
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
