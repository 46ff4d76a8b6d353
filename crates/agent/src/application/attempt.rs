//! An attempt at a snapshot with its application quiesced: the agent's side of the guard.
//!
//! It has a thread of its own, because scripts take their time and an engine has to be able to end meanwhile. Giving an attempt up
//! returns at once: no snapshot is made any more, and the guard thaws.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tanist_model::application::{ApplicationReport, ThawCause};
use tanist_model::id::{
    AgentName, ApplicationName, Epochs, ReplicationId, ReplicationName, RunId, SnapshotId, VolumeAddress,
};
use tanist_model::run::BoundSnapshot;
use tanist_protocol::message::RunFailureKind;

use super::config::ApplicationConfig;
use super::guard::{GIVE_UP, GUARD_COMMAND, THAW, Telling};
use super::keeper::MarkOrder;
use super::mark::{FOLDER, Task};
use crate::clock;
use crate::source::Frozen;

/// A guard that says nothing for so long beyond every limit of its own is killed; its mark is then owed.
const GUARD_GRACE: Duration = Duration::from_secs(10);
/// The program itself, also after another one was installed over it.
const OWN_PROGRAM: &str = "/proc/self/exe";

/// The host applications of this host. Shared by the engines, the watch and the keeper.
#[derive(Clone, Debug)]
pub(crate) struct Applications(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    agent: AgentName,
    folder: PathBuf,
    configs: Vec<ApplicationConfig>,
    keeper: Mutex<std::sync::mpsc::Sender<MarkOrder>>,
}

/// What the scripts are told of an attempt.
#[derive(Clone, Debug)]
pub(crate) struct Moment {
    pub(crate) replication: ReplicationId,
    pub(crate) name: ReplicationName,
    pub(crate) run: RunId,
    pub(crate) attempt: SnapshotId,
    pub(crate) epochs: Epochs,
    pub(crate) source: VolumeAddress,
}

impl Applications {
    /// # Errors
    /// If the folder for marks cannot be made.
    pub(crate) fn open(
        agent: AgentName,
        folder: &Path,
        configs: Vec<ApplicationConfig>,
        keeper: std::sync::mpsc::Sender<MarkOrder>,
    ) -> std::io::Result<Self> {
        let folder = std::path::absolute(folder.join(FOLDER))?;
        std::fs::create_dir_all(&folder)?;
        Ok(Self(Arc::new(Inner { agent, folder, configs, keeper: Mutex::new(keeper) })))
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.0.folder
    }

    pub(crate) fn find(&self, name: &ApplicationName) -> Option<&ApplicationConfig> {
        self.0.configs.iter().find(|config| config.name == *name)
    }

    /// Looks at the programs; blocks as long as their file systems do.
    pub(crate) fn reports(&self) -> Vec<ApplicationReport> {
        self.0.configs.iter().map(ApplicationConfig::report).collect()
    }

    pub(crate) fn tell_keeper(&self, order: MarkOrder) {
        // It ends only with the process.
        let _ = self.0.keeper.lock().unwrap_or_else(PoisonError::into_inner).send(order);
    }

    fn task(&self, config: &ApplicationConfig, moment: &Moment) -> Task {
        let word = |name: &str, value: &dyn std::fmt::Display| (format!("TANIST_{name}"), value.to_string());
        Task {
            folder: self.0.folder.clone(),
            replication: moment.replication,
            attempt: moment.attempt,
            application: config.name.clone(),
            before: config.before.clone(),
            after: config.after.clone(),
            limit: config.limit.duration(),
            environment: vec![
                word("APPLICATION", &config.name),
                word("REPLICATION", &moment.name),
                word("RUN", &moment.run),
                word("ATTEMPT", &moment.attempt),
                word("EPOCH", &moment.epochs.source),
                word("SOURCE", &moment.source),
                word("AGENT", &self.0.agent),
                word("LIMIT_SECONDS", &config.limit.duration().as_secs()),
            ],
            since: clock::wall(),
        }
    }

    /// Quiesces, freezes, thaws; `done` is called at the end, from another thread.
    ///
    /// # Errors
    /// In words, if it cannot even begin.
    pub(crate) fn begin(
        &self,
        name: &ApplicationName,
        moment: &Moment,
        freeze: impl FnOnce() -> Result<Frozen, String> + Send + 'static,
        done: impl FnOnce(Result<BoundSnapshot, (RunFailureKind, String)>) + Send + 'static,
    ) -> Result<Attempt, String> {
        let config = self.find(name).ok_or_else(|| format!("this host has no application {name} in its agent.toml"))?;
        let task = self.task(config, moment);
        let (guard, words) = Guard::start(task).map_err(|error| format!("start a guard for {name}: {error}"))?;
        let attempt = Attempt(Arc::new(Mutex::new(Some(words))));
        let (own, name, applications) = (Attempt(Arc::clone(&attempt.0)), name.clone(), self.clone());
        let body = move || {
            let result = guarded(guard, &own, freeze);
            applications.tell_keeper(MarkOrder::Look);
            done(result.map(|snapshot| BoundSnapshot { application: Some(name.clone()), ..snapshot }).map_err(
                |(kind, reason)| match kind {
                    RunFailureKind::Quiesce => (kind, format!("host application {name}: {reason}")),
                    _ => (kind, reason),
                },
            ));
        };
        thread::Builder::new()
            .name("quiesce".to_owned())
            .spawn(body)
            .map_err(|error| format!("start a thread: {error}"))?;
        Ok(attempt)
    }
}

/// An attempt that is given up when this is dropped. The pipe to its guard, while it goes on.
#[derive(Debug)]
pub(crate) struct Attempt(Arc<Mutex<Option<ChildStdin>>>);

impl Attempt {
    /// When this returns, no snapshot of it is being made and none will be.
    fn give_up(&self) {
        if let Some(mut words) = self.words().take() {
            // A guard that has gone needs no word.
            let _ = writeln!(words, "{GIVE_UP}");
        }
    }

    fn words(&self) -> std::sync::MutexGuard<'_, Option<ChildStdin>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the snapshot and asks for the thaw; `None` if it was given up.
    fn freeze(&self, freeze: impl FnOnce() -> Result<Frozen, String>) -> Option<Result<Frozen, String>> {
        let mut words = self.words();
        words.as_ref()?;
        let frozen = freeze();
        if let Some(mut words) = words.take() {
            let _ = writeln!(words, "{THAW}");
        }
        Some(frozen)
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.give_up();
    }
}

fn guarded(
    mut guard: Guard,
    attempt: &Attempt,
    freeze: impl FnOnce() -> Result<Frozen, String>,
) -> Result<BoundSnapshot, (RunFailureKind, String)> {
    let not_quiesced = |reason: String| (RunFailureKind::Quiesce, reason);
    // It may wait for another attempt before it begins.
    match guard.hear(guard.limit * 3) {
        Some(Telling::Quiesced) => {}
        Some(Telling::Failed { reason } | Telling::Refused { reason }) => return Err(not_quiesced(reason)),
        Some(Telling::Thawed(_)) | None => return Err(not_quiesced("its guard died".to_owned())),
    }
    let frozen = attempt.freeze(freeze).ok_or_else(|| not_quiesced("it was given up".to_owned()))?;
    let frozen = frozen.map_err(|reason| (RunFailureKind::Snapshot, reason))?;
    let why = match guard.hear(guard.limit * 4) {
        Some(Telling::Thawed(outcome)) if outcome.cause == ThawCause::SnapshotDone => return Ok(frozen.keep()),
        Some(Telling::Thawed(outcome)) => outcome.cause.in_words(),
        _ => "nobody knows when: its guard died",
    };
    frozen.discard();
    Err(not_quiesced(format!("it was thawed before the snapshot was made: {why}")))
}

/// The guard as the agent sees it.
struct Guard {
    child: Option<Child>,
    tellings: Receiver<Telling>,
    limit: Duration,
}

impl Guard {
    fn start(task: Task) -> std::io::Result<(Self, ChildStdin)> {
        let mut command = Command::new(OWN_PROGRAM);
        command.arg(GUARD_COMMAND).stdin(Stdio::piped()).stdout(Stdio::piped()).current_dir("/");
        let mut child = command.spawn()?;
        let (Some(mut words), Some(said)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(std::io::ErrorKind::BrokenPipe.into());
        };
        let (tell, tellings) = channel();
        let body = move || listen(said, |telling| tell.send(telling).is_ok());
        thread::Builder::new().name("guard".to_owned()).spawn(body)?;
        let mut line = serde_json::to_vec(&task)?;
        line.push(b'\n');
        words.write_all(&line)?;
        Ok((Self { child: Some(child), tellings, limit: task.limit }, words))
    }

    /// What it says next; `None` if it is gone, or hangs.
    fn hear(&mut self, patience: Duration) -> Option<Telling> {
        let heard = self.tellings.recv_timeout(patience + GUARD_GRACE).ok();
        if let (None, Some(child)) = (&heard, &mut self.child) {
            // Of one that hangs, the mark is owed as soon as it is gone.
            let _ = child.kill();
        }
        heard
    }
}

impl Drop for Guard {
    /// It goes on by itself until it has thawed. It is reaped by whoever waits for it.
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let _ = thread::Builder::new().name("reap".to_owned()).spawn(move || child.wait());
    }
}

fn listen(said: ChildStdout, mut heard: impl FnMut(Telling) -> bool) {
    for line in BufReader::new(said).lines().map_while(Result::ok) {
        match serde_json::from_str(&line) {
            Ok(telling) => {
                if !heard(telling) {
                    return;
                }
            }
            Err(error) => tracing::warn!(%error, "a guard says something that nobody understands"),
        }
    }
}
