//! Delta runs by real processes: one page in a hundred changes, and whoever acts, reads or writes dies, is stopped or is called off in the
//! middle. Whatever a run left out, the target holds the snapshot bit for bit.
//!
//! `TANIST_KILLS` and `TANIST_VOLUME_MIB` make it long; `make proof` does.

use std::time::Duration;

use tanist_model::api::RunView;
use tanist_model::event::EventCode;
use tanist_model::id::RunId;
use tanist_model::run::RunState;
use tanist_tests::cluster::{Cluster, SOURCES, TARGETS};
use tanist_tests::random::Random;
use tanist_tests::scene::{RUN_LIMIT, Scene};
use tanist_tests::story::{self, Fault};
use tanist_tests::{build, setting, signal, volume, wait};

/// One page in so many changes between two runs.
const CHANGED_ONE_IN: u64 = 100;
const PAGE: u64 = 4096;
/// Past these percents, the end of a run is too near for a fault in its middle.
const LATEST_PERCENT: u64 = 60;

fn size_bytes() -> u64 {
    (setting("TANIST_VOLUME_MIB", 128) << 20) + 4096 + 17
}

fn kills() -> u64 {
    setting("TANIST_KILLS", 4)
}

/// A run takes seconds whatever the size, so that a fault is in its middle.
fn limit() -> String {
    format!("{}MiB/s", 48.max((size_bytes() >> 20) / 8))
}

/// Three agents that reach everything.
fn direct() -> Cluster {
    Cluster::builder(build!()).start()
}

/// Two agents that reach only the source, two that reach only the target.
fn networked() -> Cluster {
    Cluster::builder(build!()).reach(&[&[SOURCES], &[SOURCES], &[TARGETS], &[TARGETS]]).start()
}

/// A replication whose target holds a first recovery point.
fn published(cluster: &Cluster, random: &mut Random) -> Scene {
    let scene = Scene::set(cluster, "db", size_bytes(), random.number(), &["--limit", &limit()]);
    scene.run(cluster);
    scene
}

/// The next snapshot differs a little; its run is somewhere in its middle when this returns: the run, and who acts.
fn delta_in_progress(cluster: &Cluster, scene: &Scene, random: &mut Random) -> (RunId, String) {
    volume::change_one_page_in(&scene.source, CHANGED_ONE_IN, random.number());
    let (run, acting) = scene.run_until(cluster, random.between(5, LATEST_PERCENT));
    wait::pass(Duration::from_millis(random.between(0, 250)));
    (run, acting)
}

/// A run over the same few changes that nothing disturbs.
fn undisturbed(cluster: &Cluster, scene: &Scene, random: &mut Random) -> RunView {
    volume::change_one_page_in(&scene.source, CHANGED_ONE_IN, random.number());
    scene.run(cluster)
}

/// It was a delta run, which looked at everything and moved what had changed; so `show` says.
#[track_caller]
fn assert_little_moved(scene: &Scene, run: &RunView) {
    let work = &run.work;
    assert_eq!(run.method.as_deref(), Some("delta"), "{run:?}");
    assert_eq!((work.scanned_bytes, run.copied_again_bytes), (scene.size_bytes, 0), "{run:?}");
    assert_eq!(work.same_bytes + work.written_bytes + work.zeroed_bytes, scene.size_bytes, "{run:?}");
    assert!((1..=scene.size_bytes / CHANGED_ONE_IN + PAGE).contains(&work.written_bytes), "{run:?}");
    assert!(work.sent_bytes <= scene.size_bytes / CHANGED_ONE_IN * 3 / 2, "{run:?}");
}

#[test]
fn the_acting_agent_dies_at_any_moment_of_a_delta_run() {
    let mut random = Random::seeded("delta");
    let mut cluster = direct();
    let scene = published(&cluster, &mut random);
    let mut faults = Vec::new();
    for _ in 0..kills() {
        let (run, acting) = delta_in_progress(&cluster, &scene, &mut random);
        faults.push(Fault::new(&acting, cluster.kill(&acting)));
        let ended = scene.wait_equal(&cluster, run);
        assert_eq!(ended.method.as_deref(), Some("delta"), "{ended:?}");
        assert!(ended.work.scanned_bytes >= scene.size_bytes, "what the dead agent did is counted: {ended:?}");
        cluster.start_agent(&acting);
        scene.wait_whole(&cluster);
    }
    story::assert_true(&faults, &cluster.takeovers(&scene.name), &cluster.events());
}

/// The sides take turns.
#[test]
fn a_reader_or_a_holder_dies_at_any_moment_of_a_delta_run() {
    let mut random = Random::seeded("delta");
    let mut cluster = networked();
    let scene = published(&cluster, &mut random);
    let mut faults = Vec::new();
    let first = random.between(0, 2);
    for number in 0..kills() {
        let (run, holder) = delta_in_progress(&cluster, &scene, &mut random);
        let victim = if number % 2 == first { cluster.reader(&scene.name) } else { holder.clone() };
        let at = cluster.kill(&victim);
        if victim == holder {
            faults.push(Fault::new(&victim, at));
        }
        scene.wait_equal(&cluster, run);
        cluster.start_agent(&victim);
        scene.wait_whole(&cluster);
    }
    story::assert_true(&faults, &cluster.takeovers(&scene.name), &cluster.events());
}

/// It wakes when another one has finished its run, and the next snapshot waits for it.
#[test]
fn an_agent_that_was_stopped_in_a_delta_run_wakes_and_does_no_harm() {
    let mut random = Random::seeded("delta");
    let cluster = direct();
    let scene = published(&cluster, &mut random);
    let (run, acting) = delta_in_progress(&cluster, &scene, &mut random);
    let fault = Fault::new(&acting, cluster.agent(&acting).stop());
    scene.wait_equal(&cluster, run);
    volume::change_one_page_in(&scene.source, CHANGED_ONE_IN, random.number());
    let asked_at = signal::now();
    let next = scene.sync(&cluster);
    cluster.wait_event(EventCode::AwaitingProof, asked_at, RUN_LIMIT);
    cluster.agent(&acting).wake();
    scene.wait_equal(&cluster, next);
    assert_little_moved(&scene, &undisturbed(&cluster, &scene, &mut random));
    story::assert_true(&[fault], &cluster.takeovers(&scene.name), &cluster.events());
}

/// The holder is stopped and wakes in the networked form.
#[test]
fn a_holder_that_was_stopped_in_a_delta_run_wakes_and_does_no_harm() {
    let mut random = Random::seeded("delta");
    let cluster = networked();
    let scene = published(&cluster, &mut random);
    let (run, holder) = delta_in_progress(&cluster, &scene, &mut random);
    let fault = Fault::new(&holder, cluster.agent(&holder).stop());
    scene.wait_equal(&cluster, run);
    cluster.agent(&holder).wake();
    undisturbed(&cluster, &scene, &mut random);
    let run = undisturbed(&cluster, &scene, &mut random);
    assert_little_moved(&scene, &run);
    assert!(run.work.sent_bytes > 0, "{run:?}");
    story::assert_true(&[fault], &cluster.takeovers(&scene.name), &cluster.events());
}

/// Its target equals no recovery point; the next run finds out what it holds, and the one after it is a delta run again.
#[test]
fn a_delta_run_follows_one_that_was_aborted() {
    for cluster in [direct(), networked()] {
        let mut random = Random::seeded("delta");
        let scene = published(&cluster, &mut random);
        let (run, _) = delta_in_progress(&cluster, &scene, &mut random);
        cluster.tanist(&["replication", "abort", &scene.name]).done();
        assert_eq!(scene.wait_ended(&cluster, run).state, RunState::Abandoned);
        let next = undisturbed(&cluster, &scene, &mut random);
        assert_eq!(next.method.as_deref(), Some("compare"), "{next:?}");
        assert_little_moved(&scene, &undisturbed(&cluster, &scene, &mut random));
    }
}
