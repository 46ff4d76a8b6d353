//! The program itself as an operator would set it up: a real server, agents that joined with tokens, two storage systems of image files. Each
//! process is measured in a group of its own.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::de::DeserializeOwned;
use tanist_model::api::{AgentView, TokenCreated};

use crate::measured::{Group, Meter};
use crate::process::Process;
use crate::wait;

/// The names of the two storage systems.
pub const SOURCES: &str = "san-a";
pub const TARGETS: &str = "san-b";
/// The group of the server.
pub const SERVER: &str = "server";
pub const STARTUP: Duration = Duration::from_secs(30);

const SERVER_PORT: u16 = 7420;
const FIRST_AGENT_PORT: u16 = 7431;

/// What a cluster is made of.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    pub program: &'a Path,
    /// Of the state of every process.
    pub folder: &'a Path,
    /// The folder with a folder for each storage system.
    pub volumes: &'a Path,
    /// Agents, and the storage systems that each reaches.
    pub agents: &'a [(&'a str, &'a [&'a str])],
}

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    program: PathBuf,
    folder: PathBuf,
    volumes: PathBuf,
    address: Ipv4Addr,
    agents: BTreeMap<String, Seat>,
    server: Option<Process>,
    pub server_group: Group,
}

/// An agent's place, and its process while it runs.
#[derive(Debug)]
struct Seat {
    group: Group,
    process: Option<Process>,
}

impl Cluster {
    /// Starts everything and waits until every agent is connected.
    ///
    /// # Errors
    /// If anything of it fails.
    pub fn start(meter: &Meter, plan: &Plan<'_>) -> anyhow::Result<Self> {
        std::fs::create_dir_all(plan.folder).context("make a folder for the cluster")?;
        for system in [SOURCES, TARGETS] {
            std::fs::create_dir_all(plan.volumes.join(system)).context("make a storage system")?;
        }
        let mut cluster = Self {
            program: plan.program.to_owned(),
            folder: plan.folder.to_owned(),
            volumes: plan.volumes.to_owned(),
            address: own_address(),
            agents: BTreeMap::new(),
            server: None,
            server_group: meter.group(SERVER)?,
        };
        cluster.start_server()?;
        for (name, systems) in plan.agents {
            cluster.join(meter, name, systems)?;
            cluster.start_agent(name)?;
        }
        plan.agents.iter().try_for_each(|(name, _)| cluster.wait_connected(name))?;
        Ok(cluster)
    }

    fn start_server(&mut self) -> anyhow::Result<()> {
        let folder = self.folder.join(SERVER).display().to_string();
        self.done(&["server", "init", "--dir", &folder, "--listen", &self.server_address()])?;
        let mut command = self.server_group.command(&self.program);
        self.complete(&mut command, &["server", "run", "--dir", &folder]);
        self.server = Some(Process::start(&self.server_group, &mut command, Some(&self.log(SERVER)))?);
        wait::until("the server answers", STARTUP, || self.done(&["agent", "list"]).ok())
    }

    fn join(&mut self, meter: &Meter, name: &str, systems: &[&str]) -> anyhow::Result<()> {
        let token: TokenCreated = self.ask(&["token", "create", name])?;
        let port = FIRST_AGENT_PORT + u16::try_from(self.agents.len())?;
        let (listen, folder) = (format!("{}:{port}", self.address), self.folder.join(name).display().to_string());
        let storage: Vec<String> =
            systems.iter().map(|system| format!("{system}={}", self.volumes.join(system).display())).collect();
        let server = self.server_address();
        let mut line = vec!["agent", "join", &server, "--token", &token.token, "--ca-hash", &token.ca_hash];
        line.extend(["--dir", &folder, "--listen", &listen]);
        line.extend(storage.iter().flat_map(|system| ["--storage", system]));
        self.done(&line)?;
        self.agents.insert(name.to_owned(), Seat { group: meter.group(name)?, process: None });
        Ok(())
    }

    /// # Errors
    /// If there is no such agent, or it does not start.
    pub fn start_agent(&mut self, name: &str) -> anyhow::Result<()> {
        let folder = self.folder.join(name).display().to_string();
        let group = self.group(name)?.clone();
        let mut command = group.command(&self.program);
        self.complete(&mut command, &["agent", "run", "--dir", &folder]);
        let process = Process::start(&group, &mut command, Some(&self.log(name)))?;
        if let Some(seat) = self.agents.get_mut(name) {
            seat.process = Some(process);
        }
        Ok(())
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// If it does not run.
    pub fn kill_agent(&mut self, name: &str) -> anyhow::Result<()> {
        let process = self.agents.get_mut(name).and_then(|seat| seat.process.take());
        process.with_context(|| format!("agent {name} does not run"))?.kill();
        Ok(())
    }

    /// # Errors
    /// If it is not within its time.
    pub fn wait_connected(&self, name: &str) -> anyhow::Result<()> {
        wait::until(&format!("agent {name} is connected"), STARTUP, || {
            let agents: Vec<AgentView> = self.ask(&["agent", "list"]).ok()?;
            agents.iter().any(|agent| agent.name.as_str() == name && agent.connected).then_some(())
        })
    }

    /// What an agent is measured in.
    ///
    /// # Errors
    /// If there is no such agent.
    pub fn group(&self, name: &str) -> anyhow::Result<&Group> {
        Ok(&self.agents.get(name).with_context(|| format!("there is no agent {name}"))?.group)
    }

    /// The file behind `SYSTEM/VOLUME`.
    #[must_use]
    pub fn file(&self, system: &str, volume: &str) -> PathBuf {
        self.volumes.join(system).join(volume)
    }

    /// A command's answer.
    ///
    /// # Errors
    /// If it is refused, or answers something else.
    pub fn ask<T: DeserializeOwned>(&self, arguments: &[&str]) -> anyhow::Result<T> {
        let said = self.said(arguments)?;
        serde_json::from_str(&said).with_context(|| format!("understand the answer to tanist {}", arguments.join(" ")))
    }

    /// A command of which nothing is to be known but that it was carried out.
    ///
    /// # Errors
    /// If it is refused.
    pub fn done(&self, arguments: &[&str]) -> anyhow::Result<()> {
        self.said(arguments).map(drop)
    }

    fn said(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new(&self.program);
        self.complete(&mut command, arguments);
        let output = command.stdin(std::process::Stdio::null()).output().context("run tanist")?;
        if !output.status.success() {
            let complaint = String::from_utf8_lossy(&output.stderr);
            bail!("tanist {}: {}", arguments.join(" "), complaint.trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn complete(&self, command: &mut Command, arguments: &[&str]) {
        let context = self.folder.join("operator").join("context.toml");
        command.args(["--output", "json", "--context"]).arg(context).args(arguments);
        command.env_remove("TANIST_CONTEXT");
    }

    fn server_address(&self) -> String {
        format!("{}:{SERVER_PORT}", self.address)
    }

    fn log(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.log"))
    }
}

/// 127.X.Y.Z of this process and cluster, so that none meets another where the network is everybody's.
fn own_address() -> Ipv4Addr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [.., high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, high.max(1), low, NEXT.fetch_add(1, Ordering::Relaxed))
}
