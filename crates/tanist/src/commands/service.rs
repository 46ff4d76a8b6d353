//! What the server and the agent have in common as processes: a log, a runtime, a service manager that is told of them, and an
//! orderly end on SIGTERM or SIGINT.

use std::io::IsTerminal as _;
use std::path::Path;
use std::process::ExitCode;

use tanist_model::api::Refusal;
use tanist_wire::service_manager::ServiceManager;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use super::Outcome;
use crate::failure::Failure;

/// What is logged; the directives of `tracing`, for example `tanist_agent=debug,info`.
const LOG: &str = "TANIST_LOG";

/// Runs a service; the future that it is given is ready when the process is asked to stop.
pub fn run<F>(service: impl FnOnce(ServiceManager, StopSignal) -> F) -> Outcome
where
    F: Future<Output = Result<(), Refusal>>,
{
    start_log();
    let manager = ServiceManager::from_environment()
        .map_err(|source| Failure::io("tell the service manager of NOTIFY_SOCKET anything", source))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|source| Failure::io("start the runtime", source))?;
    let ended = runtime.block_on(async {
        let stop = stop_signal().map_err(|source| Failure::io("listen for signals", source))?;
        service(manager, stop).await.map_err(Failure::from)
    });
    // A read that hangs in a storage system must not keep the process.
    runtime.shutdown_background();
    ended.map(|()| ExitCode::SUCCESS)
}

/// What to type to run a role on this host: its service if the package brought one and it would look in the same place, else the
/// command itself.
pub fn next_step(role: &str, dir: Option<&Path>) -> String {
    let unit = Path::new("/usr/lib/systemd/system").join(format!("tanist-{role}.service"));
    match dir {
        Some(dir) => format!("tanist {role} run --dir {}", dir.display()),
        None if rustix::process::geteuid().is_root() && unit.exists() => {
            format!("systemctl enable --now tanist-{role}")
        }
        None => format!("tanist {role} run"),
    }
}

/// A defect in one thread must not leave a process that looks alive and does half its work: it dies, and its successor takes
/// over.
pub fn abort_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
}

/// Ready when the process is asked to stop.
pub type StopSignal = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

fn stop_signal() -> std::io::Result<StopSignal> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(Box::pin(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }))
}

fn start_log() {
    let filter = EnvFilter::try_from_env(LOG).unwrap_or_else(|_| EnvFilter::new("info"));
    let terminal = std::io::stderr().is_terminal();
    // A second start within one process keeps the first log.
    let _ =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(terminal).try_init();
}
