//! Stored digests by real processes: an unchanged volume costs one reading instead of two, whoever has no digests reads both, and a target
//! that was changed behind our back is found and made right.

use std::os::unix::fs::FileExt;

use tanist_model::api::RunView;
use tanist_model::event::EventCode;
use tanist_model::run::RunState;
use tanist_tests::cluster::{Cluster, SOURCES, TARGETS};
use tanist_tests::random::Random;
use tanist_tests::scene::{RUN_LIMIT, Scene};
use tanist_tests::{build, signal, volume};

const SIZE_BYTES: u64 = (96 << 20) + 4096 + 17;
/// A sample of one block in 64, with the first of all: so much of the volume it never is.
const SAMPLE_LIMIT: u64 = SIZE_BYTES / 4;

fn forms() -> [Cluster; 2] {
    let direct = Cluster::builder(build!()).start();
    let networked = Cluster::builder(build!()).reach(&[&[SOURCES], &[SOURCES], &[TARGETS], &[TARGETS]]).start();
    [direct, networked]
}

fn published(cluster: &Cluster, seed: u64, options: &[&str]) -> Scene {
    let scene = Scene::set(cluster, "db", SIZE_BYTES, seed, options);
    scene.run(cluster);
    scene
}

#[track_caller]
fn assert_target_hardly_read(run: &RunView) {
    assert_eq!(run.method.as_deref(), Some("delta"), "{run:?}");
    assert!((1..SAMPLE_LIMIT).contains(&run.work.compared_bytes), "{run:?}");
    assert!(run.work.assumed_bytes > SIZE_BYTES / 2, "{run:?}");
}

/// How much of the last recovery point nobody has looked at.
fn unread(cluster: &Cluster, scene: &Scene) -> u64 {
    cluster.show(&scene.name).last_recovery_point.unwrap().assumed_bytes
}

#[test]
fn what_did_not_change_is_not_read_of_the_target() {
    for cluster in forms() {
        let scene = published(&cluster, Random::seeded("stored").number(), &[]);
        assert_eq!(unread(&cluster, &scene), 0, "the first run has written everything");
        let unchanged = scene.run(&cluster);
        assert_target_hardly_read(&unchanged);
        assert_eq!(unread(&cluster, &scene), unchanged.work.assumed_bytes);
        cluster.tanist(&["replication", "verify", &scene.name, "--wait"]).done();
        assert_eq!(unread(&cluster, &scene), 0, "the whole target was read");
        assert_eq!((unchanged.work.same_bytes, unchanged.work.written_bytes), (SIZE_BYTES, 0), "{unchanged:?}");
        std::fs::File::options().write(true).open(&scene.source).unwrap().write_all_at(b"changed", 50 << 20).unwrap();
        let changed = scene.run(&cluster);
        assert_target_hardly_read(&changed);
        assert_eq!(changed.work.written_bytes, 4096, "{changed:?}");
    }
}

/// Its predecessor read the first part: what it can store is not the whole, and it is not taken for it.
#[test]
fn a_successor_reads_both_sides_once() {
    for mut cluster in forms() {
        let mut random = Random::seeded("stored");
        let scene = published(&cluster, random.number(), &["--limit", "32MiB/s"]);
        volume::change_one_page_in(&scene.source, 100, random.number());
        let (run, holder) = scene.run_until(&cluster, 40);
        let show = cluster.show(&scene.name);
        let encodes = if show.form == "networked" { cluster.reader(&scene.name) } else { holder };
        cluster.kill(&encodes);
        scene.wait_equal(&cluster, run);
        cluster.start_agent(&encodes);
        scene.wait_whole(&cluster);
        let both = scene.run(&cluster);
        assert_eq!(both.method.as_deref(), Some("delta"), "{both:?}");
        assert!(both.work.compared_bytes > SIZE_BYTES / 2, "{both:?}");
        assert_eq!(both.work.assumed_bytes, 0, "{both:?}");
        assert_target_hardly_read(&scene.run(&cluster));
    }
}

/// The sample finds it; the run is given up and says why, and the next one believes nothing of the target.
#[test]
fn a_target_that_somebody_else_wrote_to_is_found_and_made_right() {
    for cluster in forms() {
        let scene = published(&cluster, Random::seeded("stored").number(), &[]);
        let foreign = std::fs::File::options().write(true).open(&scene.target).unwrap();
        foreign.write_all_at(&vec![0xee; 90 << 20], 0).unwrap();
        foreign.sync_all().unwrap();
        let asked_at = signal::now();
        let run = scene.sync(&cluster);
        let ended = scene.wait_ended(&cluster, run);
        assert_eq!(ended.state, RunState::Abandoned, "{ended:?}");
        cluster.wait_event(EventCode::TargetChanged, asked_at, RUN_LIMIT);
        let next = scene.run(&cluster);
        assert_eq!(next.method.as_deref(), Some("compare"), "{next:?}");
        assert_target_hardly_read(&scene.run(&cluster));
    }
}

#[test]
fn whoever_wants_none_reads_both_sides() {
    let cluster = Cluster::builder(build!()).start();
    let scene = published(&cluster, Random::seeded("stored").number(), &["--stored-digests=no"]);
    let both = scene.run(&cluster);
    assert_eq!(both.method.as_deref(), Some("compare"), "{both:?}");
    assert!(both.work.compared_bytes > SIZE_BYTES / 2, "{both:?}");
    cluster.tanist(&["replication", "set", &scene.name, "--stored-digests"]).done();
    assert_target_hardly_read(&scene.run(&cluster));
}
