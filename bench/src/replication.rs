//! One replication of ours: created, its policy set, and its runs measured as an operator makes them.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tanist_model::api::{Done, ReplicationView, RunView};
use tanist_model::replication::Side;
use tanist_model::run::RunState;

use crate::measured::Group;
use crate::ours::{Cluster, SERVER, SOURCES, STARTUP, TARGETS};
use crate::watch::{Sight, Watch};
use crate::{wait, wire};

const RUN_LIMIT: Duration = Duration::from_secs(1800);

/// What is read back and what is remembered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Policy {
    /// Neither: what the tools beside it do.
    Bare,
    /// What nobody changed.
    Defaults,
    /// The defaults, but both sides are read and compared.
    BothSides,
}

impl Policy {
    fn words(self) -> [&'static str; 3] {
        match self {
            Self::Bare => ["--verify", "off", "--stored-digests=no"],
            Self::Defaults => ["--verify", "written", "--stored-digests=yes"],
            Self::BothSides => ["--verify", "written", "--stored-digests=no"],
        }
    }
}

/// What one run cost.
#[derive(Debug)]
pub struct Cost {
    pub cpu: Duration,
    pub wire_bytes: Option<u64>,
    pub sight: Sight,
}

impl Cost {
    /// The memory of the agents. What the server takes does not depend on the data.
    #[must_use]
    pub fn peak_bytes(&self) -> u64 {
        self.sight.peak_bytes_without(SERVER)
    }
}

/// A replication from `san-a/NAME` to `san-b/NAME`.
#[derive(Clone, Debug)]
pub struct Replication {
    name: String,
    pub source: PathBuf,
    pub target: PathBuf,
}

impl Replication {
    #[must_use]
    pub fn at(cluster: &Cluster, name: &str) -> Self {
        let (source, target) = (cluster.file(SOURCES, name), cluster.file(TARGETS, name));
        Self { name: name.to_owned(), source, target }
    }

    /// Creates it over the volumes that there are, and waits until every agent could act.
    ///
    /// # Errors
    /// If it is refused.
    pub fn create(&self, cluster: &Cluster, source: &str, agents: &str) -> anyhow::Result<()> {
        let (source, target) = (format!("{SOURCES}/{source}"), format!("{TARGETS}/{}", self.name));
        let what = ["replication", "create", &self.name, "--source", &source, "--target", &target];
        let how = ["--agents", agents, "--source-mode", "sealed", "--overwrite-target"];
        cluster.done(&[&what[..], &how[..]].concat())?;
        self.wait_whole(cluster)
    }

    /// # Errors
    /// If the server refuses.
    pub fn set(&self, cluster: &Cluster, policy: Policy, limit: &str) -> anyhow::Result<()> {
        let words = policy.words();
        cluster.done(&[&["replication", "set", &self.name], &words[..], &["--limit", limit]].concat())
    }

    /// Until every agent of the hierarchy acts or could.
    ///
    /// # Errors
    /// If it is not within its time.
    pub fn wait_whole(&self, cluster: &Cluster) -> anyhow::Result<()> {
        wait::until("every agent could act", STARTUP, || {
            let view = self.show(cluster).ok()?;
            view.sides.iter().flat_map(|side| &side.agents).all(|agent| agent.eligible).then_some(())
        })
    }

    /// # Errors
    /// If the server does not answer.
    pub fn show(&self, cluster: &Cluster) -> anyhow::Result<ReplicationView> {
        cluster.ask(&["replication", "show", &self.name])
    }

    /// Asks for a run, and does not wait for it.
    ///
    /// # Errors
    /// If it is refused.
    pub fn ask_for_run(&self, cluster: &Cluster, full: bool) -> anyhow::Result<()> {
        let done: Done = cluster.ask(&self.sync(full))?;
        done.run.map(drop).context("no run was started")
    }

    /// One whole run.
    ///
    /// # Errors
    /// If it is refused or not published.
    pub fn run(&self, cluster: &Cluster, full: bool) -> anyhow::Result<RunView> {
        cluster.done(&[&self.sync(full)[..], &["--wait"]].concat())?;
        published(self.show(cluster)?)
    }

    fn sync(&self, full: bool) -> Vec<&str> {
        let mut line = vec!["replication", "sync", self.name.as_str()];
        line.extend(full.then_some("--full"));
        line
    }

    /// Until the run in progress has ended, without a look more often than needed.
    ///
    /// # Errors
    /// If it is not published.
    pub fn wait_published(&self, cluster: &Cluster) -> anyhow::Result<RunView> {
        let ended = || self.show(cluster).ok().filter(|view| view.run.is_none());
        published(wait::until("the run ends", RUN_LIMIT, ended)?)
    }

    /// Until so much of the run in progress is durable; false if it was over before.
    ///
    /// # Errors
    /// If it does not get there.
    pub fn wait_passed(&self, cluster: &Cluster, bytes: u64) -> anyhow::Result<bool> {
        wait::until("the run is half done", RUN_LIMIT, || match self.show(cluster).ok()?.run {
            None => Some(false),
            Some(run) => (run.done_bytes >= bytes).then_some(true),
        })
    }

    /// Who holds the target, and who reads the source where that is another one.
    ///
    /// # Errors
    /// If nobody does.
    pub fn holder_and_reader(&self, cluster: &Cluster) -> anyhow::Result<(String, Option<String>)> {
        let view = self.show(cluster)?;
        let holder = view.acting.context("nobody acts")?.to_string();
        let source = view.sides.iter().find(|side| side.side == Side::Source);
        let reader = source.and_then(|side| side.acting.as_ref()).map(ToString::to_string);
        Ok((holder, reader))
    }
}

fn published(view: ReplicationView) -> anyhow::Result<RunView> {
    let run = view.last_run.context("no run has ended")?;
    ensure!(run.state == RunState::Published, "the run was not published: {run:?}");
    Ok(run)
}

/// Measures the server and these agents while something is done.
///
/// # Errors
/// Those of what is done.
pub fn measure<T>(
    cluster: &mut Cluster,
    agents: &[&str],
    work: impl FnOnce(&mut Cluster) -> anyhow::Result<T>,
) -> anyhow::Result<(T, Cost)> {
    let mut groups = vec![cluster.server_group.clone()];
    for agent in agents {
        groups.push(cluster.group(agent)?.clone());
    }
    let cpu = || groups.iter().map(Group::cpu).sum::<Duration>();
    let watch = Watch::start(&groups.iter().collect::<Vec<_>>());
    let (before, sent) = (cpu(), wire::sent_bytes());
    let result = work(cluster);
    let (after, sent_after) = (cpu(), wire::sent_bytes());
    let sight = watch.end();
    let wire_bytes = sent.zip(sent_after).map(|(from, to)| to.saturating_sub(from));
    Ok((result?, Cost { cpu: after.saturating_sub(before), wire_bytes, sight }))
}
