//! The gate of the networked form. A reader is stopped in the middle of a run; another one finishes it, and the next run is made; then the
//! source moves on. The stopped one wakes, in a moment in which no server tells it that it is superseded, and goes on with what
//! belongs to no recovery point. The gate refuses it and counts; without the gate it does damage.
//!
//! The holder's word to stop waits for the one that wakes, and which of its threads is first is chance. So it does not hear it here:
//! the gate alone is tried.

use std::time::Duration;

use tanist_model::event::{Event, EventCode};
use tanist_tests::cluster::{Builder, Cluster, SOURCES, TARGETS};
use tanist_tests::random::Random;
use tanist_tests::scene::Scene;
use tanist_tests::{build, compare, story, volume, wait};

const SIZE: u64 = 48 << 20;
/// A second and a half: long enough to have a middle.
const LIMIT: &str = "32MiB/s";
/// Late frames land, or are told of, within moments.
const LATE: Duration = Duration::from_secs(5);

fn cluster() -> Builder {
    Cluster::builder(build!()).reach(&[&[SOURCES], &[SOURCES], &[TARGETS], &[TARGETS]]).own_hosts()
}

#[test]
fn late_frames_of_an_awakened_reader_are_refused_and_counted() {
    let mut cluster = cluster().agents_without("StopUnheard").start();
    let mut random = Random::seeded("gate");
    let slept = sleep_through_a_run(&cluster, &mut random);
    cluster.kill_server();
    cluster.wake_alone(&slept.reader);
    start_server(&mut cluster);
    let told = wait::until("late frames were refused", LATE, || slept.refusal(&cluster));
    println!("{}", told.message);
    slept.assert_untouched();
    assert!(cluster.takeovers(&slept.scene.name).iter().all(|takeover| !story::is_unplanned(takeover)));
    assert!(cluster.show(&slept.scene.name).refused_frames > 0);
    // It has done no harm to what comes after either.
    volume::mutate(&slept.scene.source, random.number());
    slept.scene.run(&cluster);
}

#[test]
fn without_the_gate_late_frames_damage_the_target() {
    let mut cluster = cluster().agents_without("GateAdmitsOldStream").start();
    let slept = sleep_through_a_run(&cluster, &mut Random::seeded("gate"));
    cluster.kill_server();
    cluster.wake_alone(&slept.reader);
    let damage = wait::until_or(LATE, || (slept.target() != slept.published).then_some(()));
    assert!(damage.is_some(), "nothing was damaged: this control proves nothing");
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
    /// What the target held then.
    published: (u64, u64),
}

impl Slept {
    fn target(&self) -> (u64, u64) {
        compare::fingerprint(&self.scene.target)
    }

    fn assert_untouched(&self) {
        assert_eq!(self.target(), self.published, "the recovery point was touched");
    }

    fn refusal(&self, cluster: &Cluster) -> Option<Event> {
        let events = cluster.events_of(&self.scene.name);
        events.into_iter().find(|event| event.code == EventCode::LateFramesRefused)
    }
}

fn sleep_through_a_run(cluster: &Cluster, random: &mut Random) -> Slept {
    let scene = Scene::at(cluster, "db", SIZE);
    volume::make_noise(&scene.source, SIZE, random.number());
    // Who reads a sealed source notices on waking that it has changed.
    scene.create_as_typed(cluster, &["--source-mode", "live", "--limit", LIMIT]);
    let run = scene.sync(cluster);
    scene.wait_passed(cluster, SIZE / 4);
    let reader = cluster.reader(&scene.name);
    cluster.agent(&reader).stop();
    scene.wait_equal(cluster, run);
    assert_ne!(cluster.reader(&scene.name), reader, "another one has finished it");
    volume::renew(&scene.source, random.number());
    scene.run(cluster);
    let published = compare::fingerprint(&scene.target);
    volume::renew(&scene.source, random.number());
    Slept { scene, reader, published }
}
