//! The networked form: one agent reads the source, another writes the target, a network lies between, and either may fail.

use std::process::Command;

use tanist_model::stage::Stage;
use tanist_tests::cluster::{Builder, Cluster, SOURCES, TARGETS};
use tanist_tests::random::Random;
use tanist_tests::scene::{RUN_LIMIT, Scene};
use tanist_tests::story::{self, Fault};
use tanist_tests::{build, volume, wait};

const SIZE: u64 = (128 << 20) + 4096 + 17;
/// Slow enough for a fault in the middle.
const LIMIT: [&str; 2] = ["--limit", "32MiB/s"];

/// Two agents that reach only the source, two that reach only the target, each on a host of its own.
fn cluster() -> Builder {
    Cluster::builder(build!()).reach(&[&[SOURCES], &[SOURCES], &[TARGETS], &[TARGETS]]).own_hosts()
}

fn wait_other_reader(cluster: &Cluster, name: &str, than: &str) -> String {
    wait::until("another agent reads", RUN_LIMIT, || Some(cluster.reader(name)).filter(|now| now != than))
}

#[test]
fn data_crosses_from_the_reader_to_the_holder() {
    let cluster = cluster().start();
    let mut random = Random::seeded("networked");
    let scene = Scene::set(&cluster, "db", SIZE, random.number(), &[]);
    scene.run(&cluster);
    assert_eq!(scene.acting(&cluster), "h3", "the first of the target's order");
    assert_eq!(cluster.reader("db"), "h1", "the first of the source's order");
    volume::mutate(&scene.source, random.number());
    scene.run(&cluster);
    assert_eq!(cluster.readers("db").len(), 1, "nobody had a reason to read in its place");
    assert!(story::untruths(&[], &cluster.takeovers("db"), &cluster.events()).is_empty());
}

/// `show`, as people see it.
fn page(cluster: &Cluster, name: &str) -> String {
    let mut command = Command::new(cluster.command(&[]).get_program());
    command.arg("--context").arg(cluster.context()).args(["replication", "show", name]);
    String::from_utf8(command.output().expect("run the program").stdout).expect("a page is text")
}

/// What the reader and the holder say of their stages is put together: neither of the two could name the limit by itself.
#[test]
fn a_run_over_the_network_names_its_limit() {
    let cluster = cluster().start();
    let mut random = Random::seeded("networked");
    let scene = Scene::set_noise(&cluster, "db", SIZE, random.number(), &LIMIT);
    let run = scene.sync(&cluster);
    let view = wait::until("the limit is named", RUN_LIMIT, || {
        let view = cluster.try_show("db")?.run.filter(|run| run.stages.iter().any(|one| one.stage == Stage::Commit))?;
        (view.limit.as_deref() == Some("bandwidth")).then_some(view)
    });
    let stages: Vec<Stage> = view.stages.iter().map(|stage| stage.stage).collect();
    let both = [Stage::Bandwidth, Stage::Source, Stage::Encode, Stage::Network, Stage::Target, Stage::Commit];
    assert_eq!(stages, both, "the reader's and the holder's");
    let page = page(&cluster, "db");
    assert!(page.contains("limit: bandwidth") && page.contains("    network "), "{page}");
    scene.wait_equal(&cluster, run);
}

#[test]
fn a_killed_reader_is_replaced_and_the_holder_keeps_its_epoch() {
    let mut cluster = cluster().start();
    let mut random = Random::seeded("networked");
    let scene = Scene::set(&cluster, "db", SIZE, random.number(), &LIMIT);
    let (run, acting) = scene.run_until(&cluster, random.between(10, 60));
    cluster.kill("h1");
    assert_eq!(wait_other_reader(&cluster, "db", "h1"), "h2");
    scene.wait_equal(&cluster, run);
    assert_eq!(scene.acting(&cluster), acting);
    assert!(cluster.takeovers("db").iter().all(|takeover| !story::is_unplanned(takeover)));
}

#[test]
fn a_killed_holder_is_replaced_and_the_reader_goes_on() {
    let mut cluster = cluster().start();
    let mut random = Random::seeded("networked");
    let scene = Scene::set(&cluster, "db", SIZE, random.number(), &LIMIT);
    let (run, acting) = scene.run_until(&cluster, random.between(10, 60));
    let fault = Fault::new(&acting, cluster.kill(&acting));
    scene.wait_equal(&cluster, run);
    assert_eq!(scene.acting(&cluster), "h4");
    assert_eq!(cluster.readers("db").len(), 1, "the reader kept its epoch");
    story::assert_true(&[fault], &cluster.takeovers("db"), &cluster.events_of("db"));
}

#[test]
fn both_sides_fail_at_once() {
    let mut cluster = cluster().start();
    let mut random = Random::seeded("networked");
    let scene = Scene::set(&cluster, "db", SIZE, random.number(), &LIMIT);
    let (run, acting) = scene.run_until(&cluster, random.between(10, 60));
    let fault = Fault::new(&acting, cluster.kill(&acting));
    cluster.kill("h1");
    scene.wait_equal(&cluster, run);
    assert_eq!((scene.acting(&cluster).as_str(), cluster.reader("db").as_str()), ("h4", "h2"));
    story::assert_true(&[fault], &cluster.takeovers("db"), &cluster.events_of("db"));
}

/// It wakes up with a stream of an epoch that is over: what it still sends is not let in. That the gate is what keeps it out, and counts it,
/// is seen in `gate.rs`.
#[test]
fn a_stopped_reader_is_replaced_and_harmless_when_it_wakes() {
    let cluster = cluster().start();
    let mut random = Random::seeded("networked");
    let scene = Scene::set(&cluster, "db", SIZE, random.number(), &LIMIT);
    let (run, _) = scene.run_until(&cluster, random.between(10, 40));
    cluster.agent("h1").stop();
    assert_eq!(wait_other_reader(&cluster, "db", "h1"), "h2");
    cluster.agent("h1").wake();
    scene.wait_equal(&cluster, run);
    volume::mutate(&scene.source, random.number());
    scene.run(&cluster);
    scene.wait_whole(&cluster);
    scene.assert_equal();
}

/// A reader is stopped with frames under way, its run is given up, the source changes, the next run is made by another reader, and then it
/// wakes. When it could act again it has heard that its own is over, and the target is still what was published.
#[test]
fn a_reader_that_slept_through_an_abort_wakes_to_nothing() {
    let cluster = cluster().start();
    let mut random = Random::seeded("networked");
    let scene = Scene::set_noise(&cluster, "db", SIZE, random.number(), &LIMIT);
    let (run, _) = scene.run_until(&cluster, random.between(10, 40));
    cluster.agent("h1").stop();
    cluster.tanist(&["replication", "abort", "db"]).done();
    scene.wait_ended(&cluster, run);
    volume::mutate(&scene.source, random.number());
    scene.run(&cluster);
    cluster.agent("h1").wake();
    scene.wait_whole(&cluster);
    scene.assert_equal();
    volume::mutate(&scene.source, random.number());
    scene.run(&cluster);
}
