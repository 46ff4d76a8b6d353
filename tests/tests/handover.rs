//! A planned handover in the middle of a run: what it costs, in both forms. Nothing fails, so nothing is copied again and nobody is suspected.

use std::time::Duration;

use tanist_model::takeover::Evidence;
use tanist_tests::cluster::{Builder, Cluster, SOURCES, TARGETS};
use tanist_tests::figures::Figures;
use tanist_tests::random::Random;
use tanist_tests::scene::{RUN_LIMIT, Scene};
use tanist_tests::{build, setting, signal, story, volume, wait};

const SIZE: u64 = 96 << 20;
/// Slow enough for a handover in the middle.
const RATE: [&str; 2] = ["--limit", "32MiB/s"];
/// The command to the successor's first durable write: the goal of the 99th percentile, on a machine of its own.
const GOAL: Duration = Duration::from_secs(1);
/// None may take longer, whatever else this machine does.
const LIMIT: Duration = Duration::from_secs(4);

#[test]
fn one_agent_hands_over_to_the_next() {
    hand_over_again_and_again(Cluster::builder(build!()).agents(3));
}

#[test]
fn one_writer_hands_over_to_the_next_while_another_agent_reads() {
    hand_over_again_and_again(Cluster::builder(build!()).reach(&[&[SOURCES], &[TARGETS], &[TARGETS]]).own_hosts());
}

/// `TANIST_HANDOVERS` makes it long.
fn hand_over_again_and_again(builder: Builder) {
    let cluster = builder.start();
    let mut random = Random::seeded("handover");
    let scene = Scene::set(&cluster, "db", SIZE, random.number(), &RATE);
    let mut times = Vec::new();
    for _ in 0..setting("TANIST_HANDOVERS", 3) {
        volume::make(&scene.source, SIZE, random.number());
        let (run, acting) = scene.run_until(&cluster, random.between(5, 50));
        let asked = signal::now();
        cluster.tanist(&["replication", "handover", &scene.name]).done();
        scene.wait_equal(&cluster, run);
        assert_ne!(scene.acting(&cluster), acting);
        let handover = cluster.takeovers(&scene.name).pop().expect("a handover");
        assert!(matches!(handover.evidence, Evidence::Handover { .. }), "{handover:#?}");
        times.push(story::time_to_first_write(asked, &handover).expect("a first durable write"));
        wait::until("all is well again", RUN_LIMIT, || (cluster.status().0 == 0).then_some(()));
    }
    assert!(story::untruths(&[], &cluster.takeovers(&scene.name), &cluster.events()).is_empty());
    Figures::of(times).assert_within("handover to first durable write", GOAL, LIMIT);
}
