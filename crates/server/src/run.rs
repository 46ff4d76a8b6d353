//! Starting and ending a server. Nothing here needs a clean end: a SIGKILL at any moment leaves a store that the next start
//! takes up under a higher term.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tanist_protocol::driver::Interpreter;
use tanist_protocol::mutation::Mutations;
use tanist_protocol::server::ServerMachine;
use tanist_protocol::timers::Timers;
use tanist_recording::{Folder, Recorded, Recorder, Settings};
use tanist_store::{SqliteStore, Store};
use tanist_wire::handshake::Admission;
use tanist_wire::service_manager::ServiceManager;
use tanist_wire::socket;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::alarms::Alarms;
use crate::api::{Api, Installation};
use crate::authority::Authority;
use crate::config::{Layout, ServerConfig};
use crate::connections::{self, Door, Refusals};
use crate::core::Core;
use crate::metrics::Metrics;
use crate::{ServerError, api, clock, ownership, random};

/// Time between two looks at the histograms.
const HOUSEKEEPING: Duration = Duration::from_secs(10);
/// Time between two looks at the age of the server's certificate; a look costs nothing.
const CERTIFICATE_LOOK: Duration = Duration::from_secs(1);
/// After a failed renewal: what is wrong then is the disk or the configuration.
const CERTIFICATE_RETRY: Duration = Duration::from_mins(1);

/// Serves the installation in `dir` until `shutdown` completes, and keeps the service manager informed. Needs a multi-threaded
/// runtime: the loop must not wait for handshakes.
///
/// # Errors
/// [`ServerError`]; [`ServerError::Deposed`] if another server has taken over.
pub async fn run(dir: &Path, manager: ServiceManager, shutdown: impl Future<Output = ()>) -> Result<(), ServerError> {
    Server::bind(dir).await?.supervised_by(manager).serve(shutdown).await
}

/// A server that listens and does not answer yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    config: ServerConfig,
    authority: Arc<Authority>,
    layout: Layout,
    store: Arc<dyn Store>,
    /// The same, if it is one that should be closed in order.
    durable: Option<Arc<SqliteStore>>,
    manager: ServiceManager,
}

impl Server {
    /// Opens the store, which no other process may have, and listens.
    ///
    /// # Errors
    /// [`ServerError::NotInitialised`], [`ServerError::Store`], [`ServerError::Listen`].
    pub async fn bind(dir: &Path) -> Result<Self, ServerError> {
        let layout = Layout::new(dir);
        let config = ServerConfig::load(&layout)?;
        ownership::refuse_root_in_anothers(dir)?;
        let store = Arc::new(SqliteStore::open_existing(&layout.store()).await?);
        let server = Self::bind_with(&layout, config, Arc::clone(&store) as Arc<dyn Store>)?;
        Ok(Self { durable: Some(store), ..server })
    }

    /// The same over another store, for tests that need it to fail.
    ///
    /// # Errors
    /// As [`Server::bind`].
    pub fn bind_with_store(dir: &Path, store: Arc<dyn Store>) -> Result<Self, ServerError> {
        let layout = Layout::new(dir);
        let config = ServerConfig::load(&layout)?;
        Self::bind_with(&layout, config, store)
    }

    fn bind_with(layout: &Layout, config: ServerConfig, store: Arc<dyn Store>) -> Result<Self, ServerError> {
        let authority = Arc::new(Authority::load(layout, &config)?);
        let failed = |source| ServerError::Listen { address: config.listen, source };
        let listener = socket::listen(config.listen).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let layout = layout.clone();
        Ok(Self {
            listener,
            address,
            config,
            authority,
            layout,
            store,
            durable: None,
            manager: ServiceManager::default(),
        })
    }

    /// Who is told that the server is ready, and that its loop lives.
    #[must_use]
    pub fn supervised_by(self, manager: ServiceManager) -> Self {
        Self { manager, ..self }
    }

    /// Where it listens.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` completes. Dropping the future ends everything at once, as a kill would.
    ///
    /// # Errors
    /// [`ServerError`]; [`ServerError::Deposed`] if another server has taken over.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) -> Result<(), ServerError> {
        let metrics = Metrics::new()?;
        let (core, handle) = self.core(metrics.clone()).await?;
        let refusals = Arc::new(Refusals::default());
        let installation =
            Installation::new(&self.config, self.address, &self.authority, Folder::of(self.layout.dir()));
        let alarms = Alarms::new(self.config.cluster, &self.config.alarm);
        let api = Api::new(
            handle.clone(),
            Arc::clone(&self.store),
            Arc::clone(&self.authority),
            metrics.clone(),
            alarms.clone(),
            installation,
            Arc::clone(&refusals),
        )?;
        let core_handle = handle.clone();
        let door = Arc::new(Door {
            core: handle,
            tls: self.authority.tls()?,
            authority: Arc::clone(&self.authority),
            admission: Admission::of_agents(self.config.cluster),
            router: api::router(api),
            refusals,
            next_connection: AtomicU64::new(1),
        });
        let (mut accepting, mut deciding, mut housekeeping) = (JoinSet::new(), JoinSet::new(), JoinSet::new());
        alarms.start(&mut housekeeping, &self.layout.alarms(), &core_handle, &self.store)?;
        let (stop, stopped) = oneshot::channel();
        deciding.spawn(core.run());
        accepting.spawn(connections::accept(self.listener, door, stopped));
        housekeeping.spawn(keep_house(metrics));
        housekeeping.spawn(keep_young(self.authority));
        tracing::info!(address = %self.address, "the server listens");
        self.manager.ready();
        let ended = tokio::select! {
            () = shutdown => None,
            ended = deciding.join_next() => ended,
        };
        self.manager.stopping();
        drop(stop);
        // A connection that ends in a panic has been reported by the runtime; the others end all the same.
        let _ = accepting.join_next().await;
        housekeeping.shutdown().await;
        deciding.abort_all();
        // The loop may have come to its own end in the very moment of the request, and that is what is said then.
        let ended = match ended {
            None => deciding.join_next().await,
            ended => ended,
        };
        drop(self.store);
        if let Some(store) = self.durable.and_then(Arc::into_inner) {
            store.close().await;
        }
        match ended {
            Some(Ok(ended)) => ended,
            Some(Err(error)) if error.is_cancelled() => Ok(()),
            Some(Err(_)) | None => Err(ServerError::LoopEnded),
        }
    }

    async fn core(&self, metrics: Metrics) -> Result<(Core, crate::core::CoreHandle), ServerError> {
        let mutations = mutations()?;
        let term = self.store.begin_term().await?;
        let state = self.store.load().await?;
        tracing::info!(%term, replications = state.replications.len(), agents = state.agents.len(), "a term is begun");
        let machine =
            ServerMachine::new(self.config.cluster, state, Timers::DEFAULT, random::wide()?, mutations, clock::now())
                .with_limits(self.config.limits.limits());
        let recorder = Recorder::start(Settings {
            folder: Folder::of(self.layout.dir()),
            limit_bytes: self.config.recording_limit_bytes,
            version: env!("CARGO_PKG_VERSION"),
        });
        Ok(Core::new(
            Recorded::new(machine, recorder),
            Interpreter::new(mutations),
            Arc::clone(&self.store),
            metrics,
            Arc::clone(&self.authority),
            self.manager.watchdog(),
        ))
    }
}

#[cfg(feature = "mutations")]
fn mutations() -> Result<Mutations, ServerError> {
    Mutations::from_environment().map_err(ServerError::UnknownMutation)
}

#[cfg(not(feature = "mutations"))]
fn mutations() -> Result<Mutations, ServerError> {
    Ok(Mutations::NONE)
}

async fn keep_house(metrics: Metrics) {
    let mut interval = tokio::time::interval(HOUSEKEEPING);
    loop {
        interval.tick().await;
        metrics.keep_up();
    }
}

/// Looks at the clock instead of sleeping until the day: clocks are set, and hosts are suspended.
async fn keep_young(authority: Arc<Authority>) {
    loop {
        let pause = match authority.renew_if_due() {
            Ok(()) => CERTIFICATE_LOOK,
            Err(error) => {
                tracing::error!(%error, hint = error.hint(), "the server's certificate cannot be renewed");
                CERTIFICATE_RETRY
            }
        };
        tokio::time::sleep(pause).await;
    }
}
