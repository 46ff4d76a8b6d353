//! An agent process from start to end.

use std::fs::{File, TryLockError};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _, UdpSocket};
use std::path::{Path, PathBuf};

use tanist_model::id::{AgentName, Incarnation};
use tanist_protocol::agent::{AgentIdentity, AgentMachine};
use tanist_protocol::mutation::Mutations;
use tanist_protocol::timers::Timers;
use tanist_recording::{Folder, Recorded, Recorder, Settings};
use tanist_wire::certificate::Role;
use tanist_wire::identity::{Identity, IdentityError};
use tanist_wire::service_manager::ServiceManager;
use tanist_wire::socket;
use tanist_wire::tls::{self, ConfigError as TlsConfigError, LiveCertificate};
use tokio::sync::{mpsc, watch};

use crate::acquaintances;
use crate::application::{Applications, Keeper};
use crate::clock;
use crate::config::{AgentConfig, ConfigError};
use crate::core::{Core, Inlets, Outlets};
use crate::digests::DigestFolder;
use crate::host;
use crate::ledger::Ledger;
use crate::link::{self, Link};
use crate::peers::{self, Pinger, Welcoming};
use crate::reader::Dialler;
use crate::relay::Relay;
use crate::renewal::Renewal;
#[cfg(feature = "mutations")]
use crate::resume::Resumption;
use crate::storages::Storages;
use crate::streams::StreamDesk;
use crate::watch::{Targets, Watcher};

/// The longest that an ending agent waits for its link to close.
const GOODBYE: std::time::Duration = std::time::Duration::from_millis(500);

/// Why an agent could not start, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("read the agent's identity: {0}")]
    Identity(#[from] IdentityError),
    #[error("the certificate in {folder} is {role}'s, not an agent's", folder = folder.display())]
    NotAnAgent { folder: PathBuf, role: Role },
    #[error("another process runs the agent of {folder}", folder = folder.display())]
    Running { folder: PathBuf },
    #[error("lock {folder}: {cause}", folder = folder.display())]
    Lock {
        folder: PathBuf,
        #[source]
        cause: std::io::Error,
    },
    #[error("prepare TLS: {0}")]
    Tls(#[from] TlsConfigError),
    #[error("listen on {address} for peers: {cause}")]
    Listen {
        address: SocketAddr,
        #[source]
        cause: std::io::Error,
    },
    #[error("read which host this is: {0}")]
    Host(#[source] std::io::Error),
    #[error("read granted.json, the epochs that this agent was granted: {0}")]
    Ledger(#[source] std::io::Error),
    #[error("keep the marks of host applications: {0}")]
    Marks(#[source] std::io::Error),
    #[error("get entropy from the operating system: {0}")]
    Entropy(getrandom::Error),
    /// An agent that its peers cannot reach must not look alive.
    #[error("the listener for peers died: {0}")]
    ListenerDied(#[source] std::io::Error),
    #[cfg(feature = "mutations")]
    #[error("TANIST_MUTATION names no rule: {0}")]
    Mutation(String),
}

impl AgentError {
    /// What the operator can do.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Config(error) => error.hint().to_owned(),
            Self::Identity(_) | Self::NotAnAgent { .. } => {
                "join this host: tanist agent join HOST:PORT --token ... --ca-hash ...".to_owned()
            }
            Self::Running { .. } => {
                "stop that one first; a second agent on a host needs a directory and a name of its own".to_owned()
            }
            Self::Lock { .. } => "is the directory there, and may this user write to it?".to_owned(),
            Self::Listen { .. } => "does another agent run on this host? Set `listen` in agent.toml".to_owned(),
            Self::Ledger(_) => {
                "if the server's store was not restored from a backup since, remove that file; otherwise remove \
                                the agent and join it anew"
                    .to_owned()
            }
            Self::ListenerDied(_) => "start it again; if it repeats, look at the limit of open files".to_owned(),
            _ => "look at the cause; if it is not clear, please report it".to_owned(),
        }
    }
}

/// Runs the agent of a folder until `leave` is ready and its roles are handed over. The service manager hears that it is ready once
/// peers can reach it and its loop runs; whether the server is reached is another matter, and no reason to start again.
///
/// # Errors
/// [`AgentError`] if it cannot start, or must end because its peers cannot reach it.
pub async fn run(folder: &Path, manager: ServiceManager, leave: impl Future<Output = ()>) -> Result<(), AgentError> {
    let config = AgentConfig::load(folder)?;
    let _sole = sole_process(folder)?;
    let identity = Identity::load(folder)?;
    let name = agent_name(folder, &identity)?;
    let listener =
        socket::listen(config.listen).map_err(|cause| AgentError::Listen { address: config.listen, cause })?;
    let listening = listener.local_addr().map_err(|cause| AgentError::Listen { address: config.listen, cause })?;
    let ledger = Ledger::open(folder).map_err(AgentError::Ledger)?;
    let mutations = mutations()?;
    let incarnation = Incarnation(entropy()?);
    #[cfg(feature = "mutations")]
    let resumption = Resumption::of(folder, mutations, incarnation);
    #[cfg(feature = "mutations")]
    let incarnation = resumption.as_ref().map_or(incarnation, Resumption::incarnation);
    let agent = AgentIdentity {
        name: name.clone(),
        incarnation,
        host: host::identity().map_err(AgentError::Host)?,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        io: Some(tanist_datapath::io::uring::engine().to_string()),
        listen_address: Some(advertised(&config, listening)),
        granted: ledger.granted(),
        granted_here: Vec::new(),
    };
    tracing::info!(agent = %agent.name, %incarnation, %listening, "the agent starts");
    let timers = Timers::DEFAULT;
    let machine = AgentMachine::new(agent, timers, entropy()?, mutations, clock::now());

    let live = LiveCertificate::new(&identity);
    let (anchor, cluster) = (identity.anchor().clone(), identity.holder().cluster);
    let client = tls::agent_client_config(live.clone(), &anchor)?;
    let storages = Storages::open(&config.storage)?;
    let (mark_orders, orders) = std::sync::mpsc::channel();
    let applications =
        Applications::open(name.clone(), folder, config.application, mark_orders).map_err(AgentError::Marks)?;
    let (thaw_reports, thaws) = mpsc::unbounded_channel();
    Keeper::start(applications.clone(), orders, thaw_reports).map_err(AgentError::Marks)?;
    let watcher =
        Watcher::new(storages.clone(), applications.clone(), Pinger::new(live.clone(), anchor.clone()), timers.probe);
    let (link_events, link) = mpsc::channel(256);
    let (reports, engine_reports) = mpsc::unbounded_channel();
    let (readings, reader_reports) = mpsc::unbounded_channel();
    let desk = StreamDesk::new(name.clone(), cluster, anchor.clone());
    let dialler = Dialler::new(live.clone(), anchor.clone(), tokio::runtime::Handle::current());
    let (seen_by, seen) = mpsc::channel(64);
    let (targets, assigned) = watch::channel(Targets::default());
    let relay = Relay::new(&config.server, assigned.clone());
    let (renewal, serial) = Renewal::new(identity, folder.to_owned(), live.clone());
    let outlets = Outlets {
        reports,
        readings,
        desk: desk.clone(),
        dialler,
        seen: seen_by.clone(),
        targets,
        watcher: watcher.clone(),
        storages,
        applications,
        digests: DigestFolder::open(folder),
        ledger,
        renewal,
        manager,
        #[cfg(feature = "mutations")]
        resumption,
    };
    let recorder = Recorder::start(Settings {
        folder: Folder::of(folder),
        limit_bytes: config.recording_limit_bytes,
        version: env!("CARGO_PKG_VERSION"),
    });
    let core = Core::new(Recorded::new(machine, recorder), mutations, outlets);
    let dialler = link::Dialler { server: config.server, config: client, live: live.clone(), anchor: anchor.clone() };
    let acquaintances = acquaintances::remembered(folder);
    let mut keeper = tokio::spawn(Link::new(dialler, serial, timers, acquaintances, entropy()?, link_events).keep());
    let remembering = tokio::spawn(acquaintances::remember(folder.to_owned(), assigned.clone()));
    let routine = tokio::spawn(watcher.routine(timers.canary, assigned, seen_by));
    let ended = tokio::select! {
        () = core.run(Inlets { link, reports: engine_reports, readings: reader_reports, seen, thaws }, leave) => Ok(()),
        cause = peers::listen(listener, live, &anchor, cluster, Welcoming { incarnation, desk, relay }) => Err(AgentError::ListenerDied(cause)),
    };
    routine.abort();
    remembering.abort();
    // What was said last shall arrive, and the server shall see a goodbye; a link that is stuck is not waited for.
    if tokio::time::timeout(GOODBYE, &mut keeper).await.is_err() {
        keeper.abort();
    }
    ended
}

/// Two processes of one identity would take each other's connection and role for ever. The kernel frees the lock with the process.
fn sole_process(folder: &Path) -> Result<File, AgentError> {
    let failed = |cause| AgentError::Lock { folder: folder.to_owned(), cause };
    let options = File::options().create(true).truncate(false).write(true).open(folder.join("agent.lock"));
    let file = options.map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(AgentError::Running { folder: folder.to_owned() }),
        Err(TryLockError::Error(cause)) => Err(failed(cause)),
    }
}

fn agent_name(folder: &Path, identity: &Identity) -> Result<AgentName, AgentError> {
    match &identity.holder().role {
        Role::Agent(name) => Ok(name.clone()),
        role @ Role::Server(_) => Err(AgentError::NotAnAgent { folder: folder.to_owned(), role: role.clone() }),
    }
}

/// The address for peers: as configured, else where it listens. A wildcard becomes the address of this host that the server is
/// reached from, which needs no name service; failing that, the host's name.
fn advertised(config: &AgentConfig, listening: SocketAddr) -> String {
    if let Some(address) = &config.advertise {
        return address.clone();
    }
    if !listening.ip().is_unspecified() {
        return listening.to_string();
    }
    match address_towards(&config.server) {
        Ok(ip) => SocketAddr::new(ip, listening.port()).to_string(),
        Err(error) => {
            let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
            tracing::warn!(%error, "this host's address towards the server is not known; peers are told its name");
            format!("{}:{}", host.trim(), listening.port())
        }
    }
}

/// The kernel's choice of address for a destination; connecting a datagram socket sends nothing.
fn address_towards(server: &str) -> std::io::Result<IpAddr> {
    let destination = server.to_socket_addrs()?.next().ok_or(std::io::ErrorKind::AddrNotAvailable)?;
    let any = if destination.is_ipv6() { IpAddr::from(Ipv6Addr::UNSPECIFIED) } else { Ipv4Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(destination)?;
    Ok(socket.local_addr()?.ip())
}

fn entropy() -> Result<u128, AgentError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(AgentError::Entropy)?;
    Ok(u128::from_le_bytes(bytes))
}

#[cfg(feature = "mutations")]
fn mutations() -> Result<Mutations, AgentError> {
    Mutations::from_environment().map_err(AgentError::Mutation)
}

#[cfg(not(feature = "mutations"))]
#[allow(clippy::unnecessary_wraps, reason = "the same signature as in a test build")]
fn mutations() -> Result<Mutations, AgentError> {
    Ok(Mutations::NONE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_told_an_address_that_they_can_dial() {
        let config = |advertise: Option<&str>| AgentConfig {
            server: "127.0.0.1:7420".to_owned(),
            listen: "0.0.0.0:7421".parse().unwrap(),
            advertise: advertise.map(ToOwned::to_owned),
            recording_limit_bytes: 0,
            storage: Vec::new(),
            application: Vec::new(),
        };
        let listening = "0.0.0.0:7421".parse().unwrap();
        assert_eq!(advertised(&config(None), listening), "127.0.0.1:7421");
        assert_eq!(advertised(&config(None), "10.0.0.1:9".parse().unwrap()), "10.0.0.1:9");
        assert_eq!(advertised(&config(Some("h1:1")), listening), "h1:1");
    }

    #[test]
    fn one_process_runs_an_agent() {
        let folder = tempfile::tempdir().unwrap();
        let first = sole_process(folder.path()).unwrap();
        assert!(matches!(sole_process(folder.path()), Err(AgentError::Running { .. })));
        drop(first);
        assert!(sole_process(folder.path()).is_ok());
    }
}
