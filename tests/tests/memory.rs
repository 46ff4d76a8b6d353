//! How much memory an agent takes: bounded, whatever the volume.
//!
//! `TANIST_VOLUME_MIB` sets the size of the full volume; `make proof` takes 1 GiB.

use std::time::{Duration, Instant};

use tanist_tests::cluster::Cluster;
use tanist_tests::scene::Scene;
use tanist_tests::{build, setting, volume};

/// The goal for an agent with default settings and one run.
const MOST_BYTES: u64 = 64 << 20;
/// A volume of nothing is a matter of looking, not of moving.
const SPARSE_LIMIT: Duration = Duration::from_secs(60);

#[test]
fn an_agent_stays_small_after_a_full_volume() {
    let cluster = Cluster::builder(build!()).agents(1).start();
    let size = setting("TANIST_VOLUME_MIB", 256) << 20;
    let scene = Scene::set_noise(&cluster, "full", size, 1, &[]);
    let began = Instant::now();
    scene.run(&cluster);
    assert_small(&cluster, &format!("{} MiB in {} ms", size >> 20, began.elapsed().as_millis()));
}

#[test]
fn an_agent_stays_small_after_a_vast_sparse_volume() {
    let cluster = Cluster::builder(build!()).agents(1).start();
    let scene = Scene::at(&cluster, "vast", 100 << 30);
    volume::blank(&scene.source, scene.size_bytes);
    volume::mutate(&scene.source, 2);
    scene.create(&cluster, &[]);
    let began = Instant::now();
    scene.run(&cluster);
    assert!(began.elapsed() <= SPARSE_LIMIT, "{:?}", began.elapsed());
    assert_small(&cluster, &format!("100 GiB of holes in {} ms", began.elapsed().as_millis()));
}

fn assert_small(cluster: &Cluster, after: &str) {
    let peak = cluster.agent("h1").peak_memory_bytes();
    println!("peak memory of the agent after {after}: {} MiB", peak >> 20);
    assert!(peak <= MOST_BYTES, "{peak} bytes");
}
