//! The scene that most tests play on: one replication between two image files, its runs, and a fault in the middle of one.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::Duration;

use tanist_model::api::{Done, ReplicationView, RunView};
use tanist_model::id::RunId;
use tanist_model::run::RunState;

use crate::cluster::{Cluster, SOURCES, STARTUP, TARGETS};
use crate::{compare, volume, wait};

/// The longest that a run of the tests may take.
pub const RUN_LIMIT: Duration = Duration::from_secs(120);

/// A replication from `san-a/NAME` to `san-b/NAME`.
#[derive(Clone, Debug)]
pub struct Scene {
    pub name: String,
    pub size_bytes: u64,
    pub source: PathBuf,
    pub target: PathBuf,
}

impl Scene {
    /// Makes a mixed source, a blank target and the replication, with every agent of the cluster as `h1,h2,...`.
    pub fn set(cluster: &Cluster, name: &str, size_bytes: u64, seed: u64, more: &[&str]) -> Self {
        let scene = Self::at(cluster, name, size_bytes);
        volume::make(&scene.source, size_bytes, seed);
        scene.create(cluster, more);
        scene
    }

    /// The same over noise: every block of it shows where it came from.
    pub fn set_noise(cluster: &Cluster, name: &str, size_bytes: u64, seed: u64, more: &[&str]) -> Self {
        let scene = Self::at(cluster, name, size_bytes);
        volume::make_noise(&scene.source, size_bytes, seed);
        scene.create(cluster, more);
        scene
    }

    /// The names and places only.
    #[must_use]
    pub fn at(cluster: &Cluster, name: &str, size_bytes: u64) -> Self {
        let source = cluster.file(&format!("{SOURCES}/{name}"));
        let target = cluster.file(&format!("{TARGETS}/{name}"));
        Self { name: name.to_owned(), size_bytes, source, target }
    }

    /// Makes the target and the replication of a source that nobody writes to, and waits until every agent could act.
    pub fn create(&self, cluster: &Cluster, more: &[&str]) {
        self.create_as_typed(cluster, &[&["--source-mode", "sealed"], more].concat());
    }

    /// The same with nothing on the command line besides the names and `more`.
    pub fn create_as_typed(&self, cluster: &Cluster, more: &[&str]) {
        volume::blank(&self.target, self.size_bytes);
        let agents: Vec<String> = cluster.agents().iter().map(|agent| agent.name.to_string()).collect();
        let agents = agents.join(",");
        let (source, target) = (format!("{SOURCES}/{}", self.name), format!("{TARGETS}/{}", self.name));
        let base = ["replication", "create", &self.name, "--source", &source, "--target", &target];
        let who = ["--agents", &agents];
        cluster.tanist(&[&base[..], &who[..], more].concat()).done();
        self.wait_whole(cluster);
    }

    /// Until every agent of the hierarchy acts or could.
    pub fn wait_whole(&self, cluster: &Cluster) {
        wait::until("every agent of the hierarchy is eligible", STARTUP, || {
            let view = cluster.try_show(&self.name)?;
            view.sides.iter().flat_map(|side| &side.agents).all(|agent| agent.eligible).then_some(())
        });
    }

    /// Asks for a run.
    pub fn sync(&self, cluster: &Cluster) -> RunId {
        let done: Done = cluster.tanist(&["replication", "sync", &self.name]).body();
        done.run.expect("a run was started")
    }

    /// Until the run in progress has passed this many bytes.
    pub fn wait_passed(&self, cluster: &Cluster, bytes: u64) -> (ReplicationView, RunView) {
        wait::until(&format!("the run has passed {bytes} bytes"), RUN_LIMIT, || {
            let view = cluster.try_show(&self.name)?;
            let run = view.run.clone().filter(|run| run.done_bytes >= bytes)?;
            Some((view, run))
        })
    }

    /// Until this run has ended, however.
    pub fn wait_ended(&self, cluster: &Cluster, run: RunId) -> RunView {
        wait::until(&format!("run {run} ends"), RUN_LIMIT, || {
            let view = cluster.try_show(&self.name)?;
            view.last_run.filter(|last| last.id == run && last.state.is_finished())
        })
    }

    /// Until this run is published; then the target must equal the source.
    #[track_caller]
    pub fn wait_equal(&self, cluster: &Cluster, run: RunId) -> RunView {
        let ended = self.wait_ended(cluster, run);
        assert_eq!(ended.state, RunState::Published, "{ended:?}");
        self.assert_equal();
        ended
    }

    #[track_caller]
    pub fn assert_equal(&self) {
        compare::assert_equal(&self.source, &self.target);
    }

    /// One whole run.
    #[track_caller]
    pub fn run(&self, cluster: &Cluster) -> RunView {
        let run = self.sync(cluster);
        self.wait_equal(cluster, run)
    }

    /// The agent that acts, as soon as one does.
    #[must_use]
    pub fn acting(&self, cluster: &Cluster) -> String {
        let acting = || cluster.try_show(&self.name)?.acting;
        wait::until("somebody acts", STARTUP, acting).to_string()
    }

    /// How much the target stores.
    #[must_use]
    pub fn stored_bytes(&self) -> u64 {
        std::fs::metadata(&self.target).map_or(0, |file| file.blocks() * 512)
    }

    /// Starts a run and waits until it is `part` of 100 done; who acts then.
    pub fn run_until(&self, cluster: &Cluster, part: u64) -> (RunId, String) {
        let run = self.sync(cluster);
        let (view, _) = self.wait_passed(cluster, self.size_bytes / 100 * part);
        (run, view.acting.expect("somebody acts").to_string())
    }
}
