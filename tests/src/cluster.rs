//! A cluster as an operator would set it up: a server, agents that joined with one-time tokens, two storage systems in directories.
//! Every process is a real one; every cluster has a loopback address of its own, so that tests at the same time cannot meet.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tanist_model::api::{AgentView, EventPage, ReplicationView, StatusView, TokenCreated, WhyView};
use tanist_model::event::{Event, EventCode};
use tanist_model::takeover::TakeoverRecord;
use tanist_model::time::Timestamp;
use tempfile::TempDir;

use crate::answer::Answer;
use crate::network::Network;
use crate::process::Process;
use crate::{Build, wait};

pub const STARTUP: Duration = Duration::from_secs(30);
/// The names of the two storage systems.
pub const SOURCES: &str = "san-a";
pub const TARGETS: &str = "san-b";

const SERVER_PORT: u16 = 7420;
const FIRST_AGENT_PORT: u16 = 7431;
/// Lines of each log that a failing test shows.
const SHOWN_LINES: usize = 60;

/// What a cluster is to be like.
#[derive(Debug)]
pub struct Builder {
    build: Build,
    agents: usize,
    own_hosts: bool,
    server_environment: Vec<(String, String)>,
    agent_environment: Vec<(String, String)>,
    server_place: Option<PathBuf>,
    server_config: String,
    storage_place: Option<PathBuf>,
    reach: Vec<&'static [&'static str]>,
    more_storage: String,
    network: Option<Network>,
    agent_config: Vec<(String, String)>,
}

impl Builder {
    /// Storage systems that every agent has besides, as text of its configuration.
    #[must_use]
    pub fn more_storage(mut self, text: &str) -> Self {
        self.more_storage.push_str(text);
        self
    }

    /// Every process on a host of this network: the server on `server`, agent `h1` on `h1`. Each is another machine to the agents.
    #[must_use]
    pub fn on(mut self, network: Network) -> Self {
        self.network = Some(network);
        self.own_hosts()
    }

    /// What stands in this agent's agent.toml besides what joining wrote there.
    #[must_use]
    pub fn agent_config(mut self, agent: &str, text: &str) -> Self {
        self.agent_config.push((agent.to_owned(), text.to_owned()));
        self
    }

    /// The storage systems that each agent reaches, instead of both for all; as many agents as there are entries.
    #[must_use]
    pub fn reach(mut self, systems: &[&'static [&'static str]]) -> Self {
        self.agents = systems.len();
        self.reach = systems.to_vec();
        self
    }

    #[must_use]
    pub fn agents(mut self, count: usize) -> Self {
        self.agents = count;
        self
    }

    /// Each agent believes to be on a host of its own: no kernel lock proves anything between them.
    #[must_use]
    pub fn own_hosts(mut self) -> Self {
        self.own_hosts = true;
        self
    }

    /// Switches one rule off in the server.
    #[must_use]
    pub fn server_without(mut self, rule: &str) -> Self {
        self.server_environment.push(("TANIST_MUTATION".to_owned(), rule.to_owned()));
        self
    }

    /// Switches one rule off in every agent.
    #[must_use]
    pub fn agents_without(mut self, rule: &str) -> Self {
        self.agent_environment.push(("TANIST_MUTATION".to_owned(), rule.to_owned()));
        self
    }

    /// Certificates live for seconds: every process renews its own again and again.
    #[must_use]
    pub fn certificates_live(mut self, lifetime: Duration) -> Self {
        let seconds = lifetime.as_secs().to_string();
        self.server_environment.push(("TANIST_TEST_CERTIFICATE_SECONDS".to_owned(), seconds));
        self
    }

    /// Where the server keeps its state, if not with the rest.
    #[must_use]
    pub fn server_place(mut self, place: &Path) -> Self {
        self.server_place = Some(place.to_owned());
        self
    }

    /// What stands in server.toml besides what `server init` wrote there.
    #[must_use]
    pub fn server_config(mut self, text: &str) -> Self {
        self.server_config.push_str(text);
        self
    }

    /// Where the two storage systems are, if not with the rest.
    #[must_use]
    pub fn storage_place(mut self, place: &Path) -> Self {
        self.storage_place = Some(place.to_owned());
        self
    }

    /// Starts everything and waits until every agent is connected.
    ///
    /// # Panics
    /// If anything of it fails.
    #[must_use]
    pub fn start(self) -> Cluster {
        let dir = tempfile::Builder::new().prefix("cluster-").tempdir_in(self.build.scratch).expect("make a directory");
        let storage_folder = self.storage_place.unwrap_or_else(|| dir.path().to_owned());
        for system in [SOURCES, TARGETS] {
            std::fs::create_dir(storage_folder.join(system)).expect("make a storage system");
        }
        let server_folder = self.server_place.unwrap_or_else(|| dir.path().join("server"));
        let mut cluster = Cluster {
            build: self.build,
            dir,
            address: own_address(),
            server_folder,
            storage_folder,
            server_environment: self.server_environment,
            server: None,
            seats: BTreeMap::new(),
            network: self.network,
        };
        cluster.initialise();
        append(&cluster.server_folder.join("server.toml"), &self.server_config);
        cluster.start_server();
        for number in 1..=self.agents {
            let mut environment = self.agent_environment.clone();
            if self.own_hosts {
                environment.push(("TANIST_TEST_HOST".to_owned(), format!("machine-{number}/boot-1")));
            }
            let systems = self.reach.get(number - 1).copied().unwrap_or(&[SOURCES, TARGETS]);
            let name = format!("h{number}");
            cluster.join_reaching(&name, environment, systems);
            cluster.configure(&name, &self.more_storage);
        }
        for (agent, text) in &self.agent_config {
            cluster.configure(agent, text);
        }
        let names: Vec<String> = cluster.seats.keys().cloned().collect();
        names.iter().for_each(|name| cluster.start_agent(name));
        names.iter().for_each(|name| cluster.wait_connected(name));
        cluster
    }
}

/// An agent's place: its folder and environment, and its process while it runs.
#[derive(Debug)]
struct Seat {
    folder: PathBuf,
    environment: Vec<(String, String)>,
    process: Option<Process>,
}

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    build: Build,
    dir: TempDir,
    address: Ipv4Addr,
    server_folder: PathBuf,
    storage_folder: PathBuf,
    server_environment: Vec<(String, String)>,
    server: Option<Process>,
    seats: BTreeMap<String, Seat>,
    /// After the processes, which live in it.
    network: Option<Network>,
}

impl Cluster {
    /// Three agents on one host, unless the builder is told otherwise.
    #[must_use]
    pub fn builder(build: Build) -> Builder {
        Builder {
            build,
            agents: 3,
            own_hosts: false,
            server_environment: Vec::new(),
            agent_environment: Vec::new(),
            server_place: None,
            server_config: String::new(),
            storage_place: None,
            reach: Vec::new(),
            more_storage: String::new(),
            network: None,
            agent_config: Vec::new(),
        }
    }

    /// The network between the hosts.
    ///
    /// # Panics
    /// If the cluster was built without one.
    #[must_use]
    pub fn network(&self) -> &Network {
        self.network.as_ref().expect("a cluster on a network")
    }

    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    #[must_use]
    pub fn context(&self) -> PathBuf {
        self.dir.path().join("operator").join("context.toml")
    }

    #[must_use]
    pub fn server_address(&self) -> String {
        let address = self.network.as_ref().map_or(self.address, |network| network.address("server"));
        format!("{address}:{SERVER_PORT}")
    }

    /// Where the server keeps its state.
    #[must_use]
    pub fn server_folder(&self) -> String {
        self.server_folder.display().to_string()
    }

    /// The file behind `SYSTEM/VOLUME`.
    #[must_use]
    pub fn file(&self, volume: &str) -> PathBuf {
        self.storage_folder.join(volume)
    }

    fn initialise(&self) {
        let (folder, listen) = (self.server_folder(), self.server_address());
        let arguments = ["server", "init", "--dir", &folder, "--listen", &listen];
        let mut command = self.command(&arguments);
        command.envs(self.server_environment.clone());
        run(&mut command, &arguments).done();
    }

    /// Joins a host under a name, without starting its agent.
    pub fn join(&mut self, name: &str, environment: Vec<(String, String)>) {
        self.join_reaching(name, environment, &[SOURCES, TARGETS]);
    }

    fn join_reaching(&mut self, name: &str, environment: Vec<(String, String)>, systems: &[&str]) {
        let folder = self.dir.path().join(name);
        let token = self.token(name);
        self.join_line(&token.token, &token.ca_hash, &folder, systems).done();
        self.seats.insert(name.to_owned(), Seat { folder, environment, process: None });
    }

    /// Adds to an agent's configuration, for its next start.
    fn configure(&self, name: &str, text: &str) {
        append(&self.folder(name).join("agent.toml"), text);
    }

    #[must_use]
    pub fn token(&self, name: &str) -> TokenCreated {
        self.tanist(&["token", "create", name]).body()
    }

    /// The line that a token's answer tells to type, with both storage systems.
    #[must_use]
    pub fn join_with(&self, token: &str, ca_hash: &str, folder: &Path) -> Answer {
        self.join_line(token, ca_hash, folder, &[SOURCES, TARGETS])
    }

    fn join_line(&self, token: &str, ca_hash: &str, folder: &Path, systems: &[&str]) -> Answer {
        let port = FIRST_AGENT_PORT + u16::try_from(self.seats.len()).expect("few agents");
        let host = format!("h{}", self.seats.len() + 1);
        let address = self.network.as_ref().map_or(self.address, |network| network.address(&host));
        let listen = format!("{address}:{port}");
        let storage = |system: &&str| format!("{system}={}", self.file(system).display());
        let (storage, folder): (Vec<String>, _) = (systems.iter().map(storage).collect(), folder.display().to_string());
        let server = self.server_address();
        let line = ["agent", "join", &server, "--token", token, "--ca-hash", ca_hash, "--dir", &folder];
        let storage = storage.iter().flat_map(|system| ["--storage", system]);
        let place: Vec<&str> = ["--listen", &listen].into_iter().chain(storage).collect();
        self.tanist(&[&line[..], &place[..]].concat())
    }

    /// A command line with this cluster's context, answering as JSON.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        self.command_as(&self.context(), arguments)
    }

    fn command_as(&self, context: &Path, arguments: &[&str]) -> Command {
        self.command_on("server", context, arguments)
    }

    fn command_on(&self, host: &str, context: &Path, arguments: &[&str]) -> Command {
        let program = self.build.program;
        let mut command = match &self.network {
            Some(network) => network.command(host, program),
            None => Command::new(program),
        };
        command.args(["--output", "json", "--context"]).arg(context).args(arguments);
        command.env_remove("TANIST_MUTATION").env_remove("TANIST_TEST_HOST").env_remove("TANIST_CONTEXT");
        command.env_remove("TANIST_TEST_CERTIFICATE_SECONDS");
        command
    }

    /// Runs a command to its end.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn tanist(&self, arguments: &[&str]) -> Answer {
        self.tanist_as(&self.context(), arguments)
    }

    /// The same with another context, as from another machine.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn tanist_as(&self, context: &Path, arguments: &[&str]) -> Answer {
        run(&mut self.command_as(context, arguments), arguments)
    }

    /// Starts the server and waits until it answers.
    pub fn start_server(&mut self) {
        self.launch_server();
        wait::until("the server answers", STARTUP, || self.answers());
    }

    /// The same as a service manager does it: one that ends instead is started again.
    pub fn start_server_again_and_again(&mut self) {
        self.launch_server();
        wait::until("a server answers", STARTUP, || {
            if self.server.as_mut().is_some_and(Process::has_ended) {
                self.launch_server();
            }
            self.answers()
        });
    }

    fn launch_server(&mut self) {
        let mut command = self.command(&["server", "run", "--dir"]);
        command.arg(&self.server_folder).envs(self.server_environment.clone());
        self.server = Some(Process::start(&mut command, &self.dir.path().join("server.log")));
    }

    fn answers(&self) -> Option<()> {
        (self.tanist(&["status"]).status != 3).then_some(())
    }

    /// # Panics
    /// If the server does not run.
    pub fn kill_server(&mut self) -> Timestamp {
        self.server.take().expect("a running server").kill()
    }

    /// # Panics
    /// If the server does not run.
    #[must_use]
    pub fn server(&self) -> &Process {
        self.server.as_ref().expect("a running server")
    }

    pub fn start_agent(&mut self, name: &str) {
        let mut command = self.agent_command(name);
        command.arg("--dir").arg(self.folder(name));
        let process = Process::start(&mut command, &self.dir.path().join(format!("{name}.log")));
        self.seats.get_mut(name).expect("a known agent").process = Some(process);
    }

    /// `agent run` in the environment of this agent, yet without its folder.
    #[must_use]
    pub fn agent_command(&self, name: &str) -> Command {
        let mut command = self.command_on(name, &self.context(), &["agent", "run"]);
        command.envs(self.seat(name).environment.clone());
        command
    }

    pub fn wait_connected(&self, name: &str) {
        wait::until(&format!("agent {name} is connected"), STARTUP, || {
            self.agents().into_iter().find(|a| a.name.as_str() == name && a.connected)
        });
    }

    fn seat(&self, name: &str) -> &Seat {
        self.seats.get(name).unwrap_or_else(|| panic!("there is no agent {name}"))
    }

    #[must_use]
    pub fn folder(&self, name: &str) -> &Path {
        &self.seat(name).folder
    }

    /// # Panics
    /// If that agent does not run.
    #[must_use]
    pub fn agent(&self, name: &str) -> &Process {
        self.seat(name).process.as_ref().unwrap_or_else(|| panic!("agent {name} does not run"))
    }

    /// The process of an agent, to be ended by the caller.
    ///
    /// # Panics
    /// If that agent does not run.
    pub fn take_agent(&mut self, name: &str) -> Process {
        let process = self.seats.get_mut(name).and_then(|seat| seat.process.take());
        process.unwrap_or_else(|| panic!("agent {name} does not run"))
    }

    /// SIGKILL, and the moment of it.
    pub fn kill(&mut self, name: &str) -> Timestamp {
        self.take_agent(name).kill()
    }

    /// Wakes a stopped agent while no server runs; when this returns, it has been at work and knows that it is alone.
    pub fn wake_alone(&self, name: &str) {
        let log = self.agent(name).log().to_owned();
        let missed =
            || std::fs::read_to_string(&log).unwrap_or_default().matches("the link to the server ended").count();
        let before = missed();
        self.agent(name).wake();
        wait::until("the agent misses the server", STARTUP, || (missed() > before).then_some(()));
    }

    #[must_use]
    pub fn agents(&self) -> Vec<AgentView> {
        self.tanist(&["agent", "list"]).body()
    }

    /// `None` while the server does not answer.
    #[must_use]
    pub fn try_agents(&self) -> Option<Vec<AgentView>> {
        let answer = self.tanist(&["agent", "list"]);
        (answer.status == 0).then(|| answer.body())
    }

    /// `None` while the server does not answer.
    #[must_use]
    pub fn try_show(&self, replication: &str) -> Option<ReplicationView> {
        let answer = self.tanist(&["replication", "show", replication]);
        (answer.status == 0).then(|| answer.body())
    }

    #[must_use]
    pub fn show(&self, replication: &str) -> ReplicationView {
        self.tanist(&["replication", "show", replication]).body()
    }

    /// The status with the exit status that a monitoring system sees.
    #[must_use]
    pub fn status(&self) -> (i32, StatusView) {
        let answer = self.tanist(&["status"]);
        (answer.status, answer.any_body())
    }

    /// Oldest first.
    #[must_use]
    pub fn takeovers(&self, replication: &str) -> Vec<TakeoverRecord> {
        let why: WhyView = self.tanist(&["replication", "why", replication]).body();
        let mut takeovers = why.takeovers;
        takeovers.sort_by_key(|takeover| takeover.epochs.target);
        takeovers
    }

    /// The changes of the agent that reads the source, oldest first.
    #[must_use]
    pub fn readers(&self, replication: &str) -> Vec<Event> {
        let granted = |event: &Event| event.code == EventCode::ReaderGranted;
        self.events_of(replication).into_iter().filter(granted).collect()
    }

    /// The agent that reads now, by the last grant.
    ///
    /// # Panics
    /// If nobody was ever granted to.
    #[must_use]
    pub fn reader(&self, replication: &str) -> String {
        self.readers(replication).pop().and_then(|event| event.agent).expect("somebody reads").to_string()
    }

    /// The whole audit log.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.events_after(0)
    }

    /// The audit log after this number.
    #[must_use]
    pub fn events_after(&self, seq: u64) -> Vec<Event> {
        let mut events: Vec<Event> = Vec::new();
        loop {
            let after = events.last().map_or(seq, |event| event.seq.0).to_string();
            let answer = self.tanist(&["events", "--limit", "1000", "--since-seq", &after]);
            let page: EventPage = answer.body();
            if page.events.is_empty() {
                return events;
            }
            events.extend(page.events);
        }
    }

    /// The audit log of one replication.
    #[must_use]
    pub fn events_of(&self, replication: &str) -> Vec<Event> {
        let is_its = |event: &Event| event.replication.as_ref().is_some_and(|name| name.as_str() == replication);
        self.events().into_iter().filter(is_its).collect()
    }

    /// The newest event of a kind, once there is one since then.
    pub fn wait_event(&self, code: EventCode, since: Timestamp, limit: Duration) -> Event {
        wait::until(&format!("event {code} ({})", code.title()), limit, || {
            self.events().into_iter().rev().find(|event| event.code == code && event.at >= since)
        })
    }

    fn print_logs(&self) {
        let entries = std::fs::read_dir(self.dir.path()).into_iter().flatten().flatten();
        let mut logs: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        logs.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
        logs.sort();
        for path in logs {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            let shown = &lines[lines.len().saturating_sub(SHOWN_LINES)..];
            println!("== {}, the last {} lines\n{}", path.display(), shown.len(), shown.join("\n"));
        }
        if self.server.is_some() {
            self.print_events();
        }
    }

    /// Only shown while a test fails: a second panic would end it at once, and leave processes and mounts behind.
    fn print_events(&self) {
        let Ok(output) = self.command(&["events", "--limit", "200"]).output() else { return };
        match serde_json::from_slice::<EventPage>(&output.stdout) {
            Ok(page) => page.events.iter().for_each(|event| println!("{} {} {}", event.at, event.code, event.message)),
            Err(_) => println!("no events: {}", String::from_utf8_lossy(&output.stderr)),
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.print_logs();
        }
    }
}

fn append(path: &Path, text: &str) {
    let before = std::fs::read_to_string(path).expect("read a configuration");
    std::fs::write(path, format!("{before}\n{text}")).expect("write a configuration");
}

/// Runs a command line to its end.
fn run(command: &mut Command, arguments: &[&str]) -> Answer {
    let output = command.stdin(std::process::Stdio::null()).output().expect("run tanist");
    Answer {
        asked: format!("tanist {}", arguments.join(" ")),
        status: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// 127.X.Y.Z of this process and cluster; the first of them belongs to everybody and is left out.
fn own_address() -> Ipv4Addr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [.., high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, high.max(1), low, NEXT.fetch_add(1, Ordering::Relaxed))
}
