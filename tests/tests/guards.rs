//! What `create` refuses, each with its kind and its cause, and a source that is not what it was: nothing is touched on refusal.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;

use rustix::fs::{FlockOperation, flock};
use tanist_model::api::{Plan, Refusal, RefusalCode, ReplicationView, StorageView};
use tanist_model::event::EventCode;
use tanist_model::run::RunState;
use tanist_tests::answer::Answer;
use tanist_tests::cluster::{Cluster, SOURCES, TARGETS};
use tanist_tests::compare::fingerprint;
use tanist_tests::scene::{RUN_LIMIT, Scene};
use tanist_tests::{build, signal, volume, wait};

const SIZE: u64 = 8 << 20;

/// Volumes by name, all on one cluster.
struct Place {
    cluster: Cluster,
}

impl Place {
    fn new() -> Self {
        let place = Self { cluster: Cluster::builder(build!()).agents(1).start() };
        volume::make(&place.file("san-a/full"), SIZE, 1);
        place
    }

    fn file(&self, volume: &str) -> std::path::PathBuf {
        self.cluster.file(volume)
    }

    fn blank(&self, volume: &str, size_bytes: u64) {
        volume::blank(&self.file(volume), size_bytes);
    }

    fn create(&self, source: &str, target: &str, more: &[&str]) -> Answer {
        let base = ["replication", "create", "attempt", "--source", source, "--target", target, "--agents", "h1"];
        let mode: &[&str] = if more.contains(&"--source-mode") { &[] } else { &["--source-mode", "sealed"] };
        self.cluster.tanist(&[&base[..], mode, more].concat())
    }

    /// A refusal that leaves both volumes, and the list of replications, as they were.
    fn refuses(&self, source: &str, target: &str, more: &[&str], code: RefusalCode) -> Refusal {
        let touched = || {
            let mark = |volume: &str| self.file(volume).exists().then(|| fingerprint(&self.file(volume)));
            let known: Vec<ReplicationView> = self.cluster.tanist(&["replication", "list"]).body();
            (mark(source), mark(target), known.len())
        };
        let before = touched();
        let refusal = self.create(source, target, more).refused(code);
        assert_eq!(touched(), before, "{refusal:?}");
        refusal
    }

    fn guards(&self, source: &str, target: &str, cause: &str) {
        let refusal = self.refuses(source, target, &[], RefusalCode::Guarded);
        let found = refusal.cause.clone().unwrap_or_default();
        assert!(found.contains(cause), "'{cause}' in {refusal:?}");
    }
}

#[test]
fn a_target_that_could_lose_something_is_refused() {
    let place = Place::new();
    place.blank("san-b/small", SIZE - 4096);
    place.guards("san-a/full", "san-b/small", "4096 bytes smaller");
    place.guards("san-a/full", "san-a/full", "same volume");
    std::fs::hard_link(place.file("san-a/full"), place.file("san-b/link")).expect("a hard link");
    place.guards("san-a/full", "san-b/link", "same volume");
    place.blank("san-b/signed", SIZE);
    overwrite(&place.file("san-b/signed"), b"XFSB", 0);
    place.guards("san-a/full", "san-b/signed", "XFS");
    volume::make_noise(&place.file("san-b/data"), SIZE, 2);
    place.guards("san-a/full", "san-b/data", "holds data");
    let plan: Plan = place.create("san-a/full", "san-b/signed", &["--overwrite-target", "--yes", "--dry-run"]).body();
    assert!(plan.overwrites.contains("XFS"), "{plan:?}");
    place.blank("san-b/locked", SIZE);
    let user = File::open(place.file("san-b/locked")).expect("open a volume");
    flock(&user, FlockOperation::NonBlockingLockExclusive).expect("lock a volume");
    place.guards("san-a/full", "san-b/locked", "in use");
    place.blank("san-b/fixed", SIZE);
    if let Some(_fixed) = ReadOnly::make(&place.file("san-b/fixed")) {
        place.guards("san-a/full", "san-b/fixed", "read-only");
    }
}

#[test]
fn a_target_belongs_to_one_replication_and_data_never_goes_in_a_circle() {
    let place = Place::new();
    let scene = Scene::set(&place.cluster, "first", SIZE, 3, &[]);
    scene.run(&place.cluster);
    place.guards("san-a/full", "san-b/first", "target of replication first");
    place.guards("san-b/first", "san-a/first", "a loop");
    place.guards("san-a/full", "san-a/first", "source of replication first");
    let taken = place.cluster.tanist(&[
        "replication",
        "create",
        "first",
        "--source",
        "san-a/full",
        "--target",
        "san-b/other",
        "--agents",
        "h1",
    ]);
    place.blank("san-b/other", SIZE);
    assert_eq!(taken.status, 1, "{taken}");
    scene.assert_equal();
}

#[test]
fn what_does_not_exist_is_named() {
    let place = Place::new();
    place.blank("san-b/empty", SIZE);
    let refusal = place.refuses("san-a/nothing", "san-b/empty", &[], RefusalCode::NotFound);
    assert!(refusal.error.contains("san-a/nothing"), "{refusal:?}");
    let line = ["replication", "create", "x", "--source", "san-a/full", "--target", "san-b/empty", "--agents", "h1,h7"];
    let refusal = place.cluster.tanist(&line).refused(RefusalCode::NotFound);
    assert!(refusal.error.contains("h7") && refusal.hint.is_some_and(|hint| hint.contains("token create h7")));
    place.cluster.tanist(&["replication", "show", "x"]).refused(RefusalCode::NotFound);
}

#[test]
fn a_source_without_snapshots_needs_the_operators_word() {
    let place = Place::new();
    place.blank("san-b/empty", SIZE);
    let systems: Vec<StorageView> = place.cluster.tanist(&["storage", "list"]).body();
    let of_source = systems.iter().find(|system| system.name.as_str() == SOURCES).expect("the source's system");
    if of_source.agents.iter().all(|agent| agent.report.capabilities.snapshots) {
        println!("not tested: the file system here makes snapshots");
        return;
    }
    let refusal = place.refuses("san-a/full", "san-b/empty", &["--source-mode", "snapshot"], RefusalCode::Conflict);
    let hint = refusal.hint.unwrap_or_default();
    assert!(hint.contains("--source-mode sealed") && hint.contains("--source-mode live"), "{hint}");
    assert!(systems.iter().any(|system| system.name.as_str() == TARGETS));
}

#[test]
fn a_source_that_grew_stops_the_run_and_says_by_how_much() {
    let place = Place::new();
    let scene = Scene::set(&place.cluster, "grows", SIZE, 4, &[]);
    scene.run(&place.cluster);
    let before = fingerprint(&scene.target);
    let file = OpenOptions::new().write(true).open(&scene.source).expect("open the source");
    file.set_len(SIZE + 12_288).expect("grow the source");
    let since = signal::now();
    let refusal = place.cluster.tanist(&["replication", "sync", "grows", "--wait"]).refused(RefusalCode::Conflict);
    assert!(refusal.cause.as_ref().is_some_and(|cause| cause.contains("grew by 12288 bytes")), "{refusal:?}");
    let told = place.cluster.wait_event(EventCode::SourceChanged, since, RUN_LIMIT);
    assert!(told.message.contains("12288"), "{}", told.message);
    assert_eq!(fingerprint(&scene.target), before);
    wait::until("show advises what helps, and not another run", RUN_LIMIT, || {
        let next = place.cluster.try_show("grows")?.next?;
        next.starts_with("tanist replication delete grows; when it is gone: tanist replication create grows ")
            .then_some(())
    });
}

#[test]
fn a_sealed_source_that_changes_during_a_run_stops_it() {
    let place = Place::new();
    let scene = Scene::set(&place.cluster, "sealed", 4 * SIZE, 5, &["--limit", "8MiB/s"]);
    let (run, _) = scene.run_until(&place.cluster, 20);
    let since = signal::now();
    overwrite(&scene.source, b"changed", 3 * SIZE);
    let ended = scene.wait_ended(&place.cluster, run);
    assert_eq!(ended.state, RunState::Abandoned, "{ended:?}");
    place.cluster.wait_event(EventCode::SourceChanged, since, RUN_LIMIT);
    let (exit, status) = place.cluster.status();
    assert_eq!((exit, status.stopped), (2, 1), "nothing can be restored now: {status:?}");
    // A run over a source that is left alone makes good what the broken one left behind.
    scene.run(&place.cluster);
    wait::until("all is well again", RUN_LIMIT, || (place.cluster.status().0 == 0).then_some(()));
}

fn overwrite(path: &Path, bytes: &[u8], at: u64) {
    let file = OpenOptions::new().write(true).open(path).expect("open a volume");
    file.write_all_at(bytes, at).expect("write a volume");
}

/// A file that even root may not write.
struct ReadOnly<'a>(&'a Path);

impl<'a> ReadOnly<'a> {
    fn make(path: &'a Path) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            let mut mode = std::fs::metadata(path).expect("look at a volume").permissions();
            mode.set_readonly(true);
            std::fs::set_permissions(path, mode).expect("make a volume read-only");
            return Some(Self(path));
        }
        let made = Command::new("chattr").arg("+i").arg(path).output();
        if made.as_ref().is_ok_and(|output| output.status.success()) {
            return Some(Self(path));
        }
        println!("not tested: root may write everything here ({made:?})");
        None
    }
}

impl Drop for ReadOnly<'_> {
    fn drop(&mut self) {
        if rustix::process::geteuid().is_root() {
            let _ = Command::new("chattr").arg("-i").arg(self.0).output();
        }
    }
}
