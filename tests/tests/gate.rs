//! The gate of the networked form. A reader is stopped with frames in its hands; another one finishes its run; the source changes altogether and
//! the next run is made. Then the stopped one wakes, in a moment in which no server tells it that it is superseded, and what it
//! had in its hands reaches the target, an age old. The gate refuses it and counts; without the gate it does damage.

use std::time::Duration;

use tanist_model::event::{Event, EventCode};
use tanist_model::id::RunId;
use tanist_tests::cluster::{Builder, Cluster, SOURCES, TARGETS};
use tanist_tests::random::Random;
use tanist_tests::scene::{RUN_LIMIT, Scene};
use tanist_tests::{build, compare, story, volume, wait};

const SIZE: u64 = 192 << 20;
/// What a reader had in its hands depends on the moment: it must show within so many attempts.
const ATTEMPTS: u32 = 6;
const SHORTER_THAN_A_SUSPICION: Duration = Duration::from_millis(500);
/// Less than this between two looks is no reading of a source.
const STANDSTILL_BYTES: u64 = 64 << 10;
const LOOKS_AT_A_STANDSTILL: u32 = 4;
/// Late frames land, or are told of, within moments.
const LATE: Duration = Duration::from_secs(5);

fn cluster() -> Builder {
    Cluster::builder(build!()).reach(&[&[SOURCES], &[SOURCES], &[TARGETS], &[TARGETS]]).own_hosts()
}

#[test]
fn late_frames_of_an_awakened_reader_are_refused_and_counted() {
    let mut cluster = cluster().start();
    let mut random = Random::seeded("gate");
    let refused = (1..=ATTEMPTS).find_map(|number| {
        let slept = sleep_through_a_run(&cluster, &format!("db{number}"), &mut random)?;
        cluster.kill_server();
        cluster.wake_alone(&slept.reader);
        start_server(&mut cluster);
        let refused = wait::until_or(LATE, || slept.refusal(&cluster));
        slept.scene.assert_equal();
        assert!(cluster.takeovers(&slept.scene.name).iter().all(|takeover| !story::is_unplanned(takeover)));
        refused.map(|event| (slept, event))
    });
    let (slept, event) = refused.expect("no reader had anything in its hands: this proves nothing");
    println!("{}", event.message);
    assert!(cluster.show(&slept.scene.name).refused_frames > 0);
    // It has done no harm to what comes after either.
    volume::mutate(&slept.scene.source, random.number());
    slept.scene.run(&cluster);
}

#[test]
fn without_the_gate_late_frames_damage_the_target() {
    let mut cluster = cluster().agents_without("GateAdmitsOldStream").start();
    let mut random = Random::seeded("gate");
    let damaged = (1..=ATTEMPTS).any(|number| {
        let Some(slept) = sleep_through_a_run(&cluster, &format!("db{number}"), &mut random) else { return false };
        cluster.kill_server();
        cluster.wake_alone(&slept.reader);
        let scene = &slept.scene;
        let damage = wait::until_or(LATE, || compare::first_difference(&scene.source, &scene.target));
        start_server(&mut cluster);
        println!("{}: {damage:?}", scene.name);
        damage.is_some()
    });
    assert!(damaged, "{ATTEMPTS} attempts damaged nothing: this control proves nothing");
}

/// The server runs again, and everybody is there for what comes next.
fn start_server(cluster: &mut Cluster) {
    cluster.start_server();
    ["h1", "h2", "h3", "h4"].into_iter().for_each(|name| cluster.wait_connected(name));
}

/// A reader that was stopped while it sent, when the target holds the snapshot after the one it was sending.
struct Slept {
    scene: Scene,
    reader: String,
}

impl Slept {
    fn refusal(&self, cluster: &Cluster) -> Option<Event> {
        let events = cluster.events_of(&self.scene.name);
        events.into_iter().find(|event| event.code == EventCode::LateFramesRefused)
    }
}

/// `None` if the run was faster than the test.
fn sleep_through_a_run(cluster: &Cluster, name: &str, random: &mut Random) -> Option<Slept> {
    let scene = Scene::set_noise(cluster, name, SIZE, random.number(), &[]);
    let run = scene.sync(cluster);
    let reader = stop_the_reader(cluster, &scene, run)?;
    scene.wait_equal(cluster, run);
    assert_ne!(cluster.reader(name), reader, "another one has finished it");
    volume::renew(&scene.source, random.number());
    scene.run(cluster);
    Some(Slept { scene, reader })
}

fn stop_the_reader(cluster: &Cluster, scene: &Scene, run: RunId) -> Option<String> {
    wait::until("the target grows", RUN_LIMIT, || (scene.stored_bytes() >= SIZE / 16).then_some(()));
    let (reader, holder) = (cluster.reader(&scene.name), scene.acting(cluster));
    // While the holder takes nothing, the reader comes to stand in the middle of its frames.
    cluster.agent(&holder).stop();
    let (mut before, mut still) = (0, 0);
    let _ = wait::until_or(SHORTER_THAN_A_SUSPICION, || {
        let now = cluster.agent(&reader).read_bytes();
        still = if now - std::mem::replace(&mut before, now) < STANDSTILL_BYTES { still + 1 } else { 0 };
        (still == LOOKS_AT_A_STANDSTILL).then_some(())
    });
    cluster.agent(&reader).stop();
    cluster.agent(&holder).wake();
    if scene.stored_bytes() < SIZE / 8 * 7 {
        return Some(reader);
    }
    println!("{}: the run was faster than the test", scene.name);
    cluster.agent(&reader).wake();
    scene.wait_ended(cluster, run);
    None
}
