//! The acting agent is killed at random moments of a run, again and again: nothing is lost, the successor is the right one, it goes
//! on fast, and the records tell what was done.
//!
//! `TANIST_KILLS` and `TANIST_VOLUME_MIB` make it long; `make proof` does.

use std::collections::BTreeMap;
use std::time::Duration;

use tanist_model::agent::Penalty;
use tanist_model::takeover::TakeoverRecord;
use tanist_model::time::Timestamp;
use tanist_tests::cluster::Cluster;
use tanist_tests::compare::stored_bytes;
use tanist_tests::figures::Figures;
use tanist_tests::random::Random;
use tanist_tests::scene::{RUN_LIMIT, Scene};
use tanist_tests::story::{self, Fault};
use tanist_tests::{build, setting, volume, wait};

/// From the death of the process to the successor's first durable write: the goal of the 99th percentile.
const GOAL: Duration = Duration::from_millis(500);
/// No takeover may take longer, whatever else the machine does.
const LIMIT: Duration = Duration::from_millis(2500);
/// What a run may read a second: slow enough for a kill in the middle.
const RATE_MIB: u64 = 64;
/// A checkpoint is made every second or 256 MiB; this much is copied again at most, with the time that making one takes.
const COPIED_AGAIN: Duration = Duration::from_millis(2500);
const WINDOW_BYTES: u64 = 256 << 20;

struct Kill {
    fault: Fault,
    /// What the acting agent had passed when last seen.
    passed_bytes: u64,
}

#[test]
fn a_killed_agent_is_replaced_at_any_moment() {
    let kills = setting("TANIST_KILLS", 10);
    let size = setting("TANIST_VOLUME_MIB", 128) << 20;
    let mut random = Random::seeded("takeover");
    let mut cluster = Cluster::builder(build!()).start();
    let limit = format!("{}MiB/s", rate_mib(size));
    let scene = Scene::set(&cluster, "db", size, random.number(), &["--limit", &limit]);
    let mut faults = Vec::new();
    let mut times = Vec::new();
    for number in 1..=kills {
        volume::mutate(&scene.source, random.number());
        let (kill, takeover) = kill_once(&mut cluster, &scene, &mut random);
        assert_ranks(&takeover, &kill.fault, &faults);
        assert_little_copied_again(&scene, &takeover, &kill);
        let took = story::time_to_first_write(kill.fault.at, &takeover).expect("a first durable write");
        println!("{number}: {} killed, {} wrote durably after {} ms", kill.fault.agent, takeover.to, took.as_millis());
        times.push(took);
        cluster.start_agent(&kill.fault.agent);
        faults.push(kill.fault);
        scene.wait_whole(&cluster);
    }
    story::assert_true(&faults, &cluster.takeovers(&scene.name), &cluster.events());
    Figures::of(times).assert_within("death to first durable write", GOAL, LIMIT);
}

/// The successor dies as well, as soon as it is known to be one.
#[test]
fn a_successor_that_dies_at_once_is_replaced_as_well() {
    let mut random = Random::seeded("takeover");
    let mut cluster = Cluster::builder(build!()).start();
    let scene = Scene::set(&cluster, "db", 96 << 20, random.number(), &["--limit", "32MiB/s"]);
    let (run, first) = scene.run_until(&cluster, 20);
    let mut faults = vec![Fault::new(&first, cluster.kill(&first))];
    let second = wait::until("a successor is named", RUN_LIMIT, || {
        cluster.try_show(&scene.name)?.acting.map(|acting| acting.to_string()).filter(|acting| *acting != first)
    });
    faults.push(Fault::new(&second, cluster.kill(&second)));
    scene.wait_equal(&cluster, run);
    let third = scene.acting(&cluster);
    assert!(third != first && third != second);
    story::assert_true(&faults, &cluster.takeovers(&scene.name), &cluster.events());
}

/// A run with a kill in its middle; the record of the takeover that answered it.
fn kill_once(cluster: &mut Cluster, scene: &Scene, random: &mut Random) -> (Kill, TakeoverRecord) {
    let (run, acting) = scene.run_until(cluster, random.between(5, latest_percent(scene.size_bytes)));
    wait::pass(Duration::from_millis(random.between(0, 250)));
    let seen = cluster.show(&scene.name);
    let passed_bytes = seen.run.map_or(scene.size_bytes, |run| run.done_bytes);
    let at = cluster.kill(&acting);
    scene.wait_equal(cluster, run);
    let takeover = wait::until("the record of the takeover", RUN_LIMIT, || {
        cluster.takeovers(&scene.name).pop().filter(|takeover| takeover.committed_at > at)
    });
    assert_eq!(takeover.run, Some(run), "the kill was in the middle of the run: {takeover:#?}");
    (Kill { fault: Fault::new(&acting, at), passed_bytes }, takeover)
}

/// A run takes seconds whatever the size, so that the moment of the kill is in its middle.
fn rate_mib(size_bytes: u64) -> u64 {
    RATE_MIB.max((size_bytes >> 20) / 8)
}

/// What is seen of a run is a moment old; a short one must not end meanwhile.
fn latest_percent(size_bytes: u64) -> u64 {
    if size_bytes >= 512 << 20 { 85 } else { 60 }
}

/// The successor is the first of (not damped, rank) among the living, and the records say so.
fn assert_ranks(takeover: &TakeoverRecord, fault: &Fault, earlier: &[Fault]) {
    let damped = damped_agents(takeover.committed_at, earlier);
    let living = takeover.candidates.iter().filter(|candidate| candidate.agent.as_str() != fault.agent);
    let first = living.min_by_key(|candidate| (damped.contains(&candidate.agent.to_string()), candidate.rank));
    assert_eq!(first.map(|candidate| &candidate.agent), Some(&takeover.to), "{takeover:#?}");
    for candidate in &takeover.candidates {
        let is_dead = candidate.agent.as_str() == fault.agent;
        assert_eq!(candidate.passed_over.is_some(), is_dead, "{takeover:#?}");
    }
}

/// The penalties, from the faults alone.
fn damped_agents(now: Timestamp, faults: &[Fault]) -> Vec<String> {
    let mut penalties: BTreeMap<&str, Penalty> = BTreeMap::new();
    for fault in faults {
        let penalty = penalties.entry(&fault.agent).or_default();
        *penalty = penalty.with_failure(fault.at);
    }
    penalties.into_iter().filter(|(_, p)| p.is_damped(now)).map(|(agent, _)| agent.to_owned()).collect()
}

fn assert_little_copied_again(scene: &Scene, takeover: &TakeoverRecord, kill: &Kill) {
    let again = stored_bytes(&scene.source, takeover.resumed_seq, kill.passed_bytes.max(takeover.resumed_seq));
    let worth = u128::from(rate_mib(scene.size_bytes) << 20) * COPIED_AGAIN.as_millis() / 1000;
    assert!(u128::from(again) <= worth.min(WINDOW_BYTES.into()), "{again} bytes copied again: {takeover:#?}");
    assert!(takeover.copied_again_bytes.is_some_and(|bytes| bytes <= WINDOW_BYTES), "{takeover:#?}");
}
