//! A target that changes under a run: cut off and brought to its old size again, removed and made anew. What was copied is gone then,
//! although it was flushed and read back; nothing of it may be published, and nothing may be called safe.

use std::fs::{self, OpenOptions};

use tanist_model::event::EventCode;
use tanist_model::run::RunState;
use tanist_tests::cluster::Cluster;
use tanist_tests::scene::{RUN_LIMIT, Scene};
use tanist_tests::{build, signal, volume, wait};

const SIZE: u64 = 96 << 20;
/// Slow enough for a change in the middle.
const LIMIT: [&str; 2] = ["--limit", "16MiB/s"];

fn set_length(scene: &Scene, bytes: u64) {
    OpenOptions::new().write(true).open(&scene.target).expect("open the target").set_len(bytes).expect("cut it off");
}

#[test]
fn a_target_that_was_cut_off_and_has_its_old_size_again_is_not_published() {
    let cluster = Cluster::builder(build!()).agents(2).start();
    let scene = Scene::set_noise(&cluster, "db", SIZE, 1, &LIMIT);
    let (run, _) = scene.run_until(&cluster, 40);
    let since = signal::now();
    set_length(&scene, 10 << 20);
    cluster.wait_event(EventCode::TargetChanged, since, RUN_LIMIT);
    set_length(&scene, SIZE);
    let ended = scene.wait_ended(&cluster, run);
    assert_eq!(ended.state, RunState::Abandoned, "{ended:?}");
    let view = cluster.show(&scene.name);
    assert!(view.restorable_point.is_none(), "{view:?}");
    scene.run(&cluster);
    assert!(cluster.show(&scene.name).restorable_point.is_some());
}

#[test]
fn a_target_that_was_replaced_is_neither_published_nor_called_safe() {
    let cluster = Cluster::builder(build!()).agents(2).start();
    let scene = Scene::set_noise(&cluster, "db", SIZE, 2, &LIMIT);
    scene.run(&cluster);
    assert!(cluster.show(&scene.name).restorable_point.is_some());
    volume::renew(&scene.source, 3);
    let (run, _) = scene.run_until(&cluster, 40);
    let since = signal::now();
    // The one that is open goes on being there for whoever has it open.
    fs::rename(&scene.target, scene.target.with_extension("old")).expect("move the target away");
    volume::blank(&scene.target, SIZE);
    cluster.wait_event(EventCode::Exhausted, since, RUN_LIMIT);
    let view = wait::until("it is known to hold nothing", RUN_LIMIT, || {
        cluster.try_show(&scene.name).filter(|view| view.restorable_point.is_none() && view.acting.is_none())
    });
    let published = |code| cluster.events_of(&scene.name).iter().any(|e| e.code == code && e.at >= since);
    assert!(!published(EventCode::RunPublished), "{view:?}");
    assert_eq!(cluster.status().0, 2);
    // The old one is back.
    fs::rename(scene.target.with_extension("old"), &scene.target).expect("move the target back");
    scene.wait_whole(&cluster);
    if cluster.show(&scene.name).run.is_some_and(|now| now.id == run) {
        scene.wait_ended(&cluster, run);
    }
    scene.run(&cluster);
}

/// Also while nothing runs.
#[test]
fn a_target_that_is_replaced_between_runs_is_not_called_safe() {
    let cluster = Cluster::builder(build!()).agents(2).start();
    let scene = Scene::set_noise(&cluster, "db", SIZE / 4, 4, &[]);
    scene.run(&cluster);
    let since = signal::now();
    fs::rename(&scene.target, scene.target.with_extension("old")).expect("move the target away");
    volume::blank(&scene.target, SIZE / 4);
    cluster.wait_event(EventCode::Exhausted, since, RUN_LIMIT);
    let view = cluster.show(&scene.name);
    assert!(view.restorable_point.is_none() && view.last_recovery_point.is_some(), "{view:?}");
    assert_eq!(cluster.status().0, 2);
}

/// The agent that acted for the old volume acts for the new one, by the new one's identity alone.
#[test]
fn a_replaced_target_is_taken_by_a_new_replication_and_its_agents_forget_the_old_one() {
    let cluster = Cluster::builder(build!()).agents(2).start();
    let scene = Scene::set_noise(&cluster, "db", SIZE / 8, 6, &[]);
    scene.run(&cluster);
    fs::rename(&scene.target, scene.target.with_extension("old")).expect("move the target away");
    cluster.tanist(&["replication", "delete", "db", "--leave-behind"]).done();
    volume::blank(&scene.target, SIZE);
    wait::until("it is removed", RUN_LIMIT, || cluster.try_show("db").is_none().then_some(()));
    let scene = Scene::set_noise(&cluster, "db", SIZE, 7, &LIMIT);
    // Longer than an agent takes to look at its volumes twice.
    let ended = scene.run(&cluster);
    assert_eq!(ended.takeovers, 0, "{ended:?}");
    assert_eq!(cluster.takeovers("db").len(), 1, "{:?}", cluster.takeovers("db"));
}
