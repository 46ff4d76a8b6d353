//! The server that is measured: a process with a store of its own, in a directory that ends with the measurement.

use std::net::TcpListener;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::client::context::Context;
use crate::failure::Failure;
use crate::own_process::{OwnProcess, once};

/// How long the server may take to answer after its start.
const PATIENCE: Duration = Duration::from_secs(60);
const GLANCE: Duration = Duration::from_millis(5);

/// The server and its directory.
#[derive(Debug)]
pub(super) struct Stage {
    folder: PathBuf,
    pub(super) address: String,
    pub(super) client: Client,
    server: Option<OwnProcess>,
    starts: u32,
}

impl Stage {
    /// A new server that answers.
    pub(super) async fn set(dir: Option<&Path>, agents: usize) -> Result<Self, Failure> {
        let folder = new_folder(dir, agents)?;
        let address = free_address().inspect_err(|_| remove(&folder))?;
        let client = init(&folder, &address).inspect_err(|_| remove(&folder))?;
        let mut stage = Self { folder, address, client, server: None, starts: 0 };
        stage.start().await?;
        Ok(stage)
    }

    pub(super) fn process(&self) -> u32 {
        self.server.as_ref().map_or(0, OwnProcess::id)
    }

    /// Kills the server and starts it again; the moment of its death, when it answers.
    pub(super) async fn restart(&mut self) -> Result<Instant, Failure> {
        let died = Instant::now();
        if let Some(server) = self.server.take() {
            server.kill()?;
        }
        self.start().await?;
        Ok(died)
    }

    async fn start(&mut self) -> Result<(), Failure> {
        self.starts += 1;
        let log = self.folder.join(format!("server-{}.log", self.starts));
        let dir = self.folder.join("server").display().to_string();
        self.server = Some(OwnProcess::start("the server", &log, false, &["server", "run", "--dir", &dir])?);
        self.wait_for_server().await
    }

    async fn wait_for_server(&mut self) -> Result<(), Failure> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let error = match self.client.whoami().await {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            if let Some(status) = self.server.as_mut().and_then(OwnProcess::ended) {
                return Err(Failure::io("start the server", std::io::Error::other(format!("it ended: {status}"))));
            }
            if Instant::now() >= deadline {
                return Err(error.into());
            }
            tokio::time::sleep(GLANCE).await;
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // First the process that writes there.
        self.server = None;
        remove(&self.folder);
    }
}

fn new_folder(dir: Option<&Path>, agents: usize) -> Result<PathBuf, Failure> {
    let below = || std::env::temp_dir().join(format!("tanist-bench-{}-{agents}", std::process::id()));
    let folder = dir.map_or_else(below, Path::to_owned);
    let failed = |e| Failure::io(format!("make the new directory {}", folder.display()), e);
    std::fs::DirBuilder::new().mode(0o700).create(&folder).map_err(failed)?;
    std::path::absolute(&folder).map_err(failed)
}

/// A port that was free a moment ago; only this measurement's server uses it.
fn free_address() -> Result<String, Failure> {
    let address = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    Ok(address.map_err(|e| Failure::io("find a free port", e))?.to_string())
}

fn init(folder: &Path, address: &str) -> Result<Client, Failure> {
    let context = folder.join("context.toml");
    let (file, dir) = (context.display().to_string(), folder.join("server").display().to_string());
    once(&["--context", &file, "server", "init", "--dir", &dir, "--listen", address, "--advertise", address])?;
    Ok(Client::new(&Context::load(&context)?)?)
}

/// A directory that is left behind in the temporary one is no failure of the measurement.
fn remove(folder: &Path) {
    let _ = std::fs::remove_dir_all(folder);
}
