//! The networked form over a network that fails: reader and holder on different hosts, and cuts between any two.

use std::time::Duration;

use tanist_model::event::{Event, EventCode};
use tanist_tests::cluster::{Cluster, SOURCES, TARGETS};
use tanist_tests::network::Network;
use tanist_tests::random::Random;
use tanist_tests::scene::{RUN_LIMIT, Scene};
use tanist_tests::{build, story, volume, wait};

const SIZE: u64 = (96 << 20) + 4096 + 17;
/// Slow enough for a fault in the middle.
const RATE: [&str; 2] = ["--limit", "16MiB/s"];
const LOOK_LIMIT: Duration = Duration::from_secs(30);

/// Two agents that reach only the source, two that reach only the target, and the server, on hosts of their own.
fn cluster(test: &str) -> Option<Cluster> {
    let network = Network::or_skip(test, &["server", "h1", "h2", "h3", "h4"])?;
    let reach: [&[&str]; 4] = [&[SOURCES], &[SOURCES], &[TARGETS], &[TARGETS]];
    Some(Cluster::builder(build!()).reach(&reach).on(network).start())
}

fn scene(cluster: &Cluster) -> (Scene, Random) {
    let mut random = Random::seeded("partition-networked");
    (Scene::set(cluster, "db", SIZE, random.number(), &RATE), random)
}

fn readers(cluster: &Cluster) -> Vec<Event> {
    cluster.events_of("db").into_iter().filter(|event| event.code == EventCode::ReaderGranted).collect()
}

/// The agent that reads now, by the last grant.
fn reader(cluster: &Cluster) -> String {
    readers(cluster).pop().and_then(|event| event.agent).expect("somebody reads").to_string()
}

fn relay_of(cluster: &Cluster, name: &str) -> Option<String> {
    let agents = cluster.agents();
    let agent = agents.into_iter().find(|agent| agent.name.as_str() == name && agent.connected)?;
    agent.through.map(|relay| relay.to_string())
}

fn unplanned(cluster: &Cluster) -> usize {
    cluster.takeovers("db").iter().filter(|takeover| story::is_unplanned(takeover)).count()
}

/// Both acting agents lose the server and nothing else: the other side's agents carry as well.
#[test]
fn reader_and_holder_cut_off_from_the_server_only_go_on() {
    let Some(cluster) = cluster("reader_and_holder_cut_off_from_the_server_only_go_on") else { return };
    let (scene, mut random) = scene(&cluster);
    let (run, acting) = scene.run_until(&cluster, random.between(5, 30));
    for name in ["h1", &acting] {
        cluster.network().cut(name, "server");
        wait::until(&format!("{name} is carried by a peer"), LOOK_LIMIT, || relay_of(&cluster, name));
    }
    scene.wait_equal(&cluster, run);
    assert_eq!((unplanned(&cluster), readers(&cluster).len()), (0, 1), "nobody was replaced");
}

#[test]
fn both_sides_cut_off_from_all_are_replaced() {
    let Some(cluster) = cluster("both_sides_cut_off_from_all_are_replaced") else { return };
    let (scene, mut random) = scene(&cluster);
    let (run, acting) = scene.run_until(&cluster, random.between(5, 50));
    cluster.network().isolate(&acting);
    cluster.network().isolate("h1");
    scene.wait_equal(&cluster, run);
    assert_eq!((scene.acting(&cluster).as_str(), reader(&cluster).as_str()), ("h4", "h2"));
    cluster.network().rejoin(&acting);
    cluster.network().rejoin("h1");
    volume::mutate(&scene.source, random.number());
    scene.run(&cluster);
}

#[test]
fn both_sides_killed_at_once_are_replaced() {
    let Some(mut cluster) = cluster("both_sides_killed_at_once_are_replaced") else { return };
    let (scene, mut random) = scene(&cluster);
    let (run, acting) = scene.run_until(&cluster, random.between(5, 50));
    cluster.kill(&acting);
    cluster.kill("h1");
    scene.wait_equal(&cluster, run);
    assert_eq!((scene.acting(&cluster).as_str(), reader(&cluster).as_str()), ("h4", "h2"));
}

/// The server reaches both, and they do not reach each other: another reader does.
#[test]
fn a_reader_that_does_not_reach_the_holder_is_replaced() {
    let Some(cluster) = cluster("a_reader_that_does_not_reach_the_holder_is_replaced") else { return };
    let (scene, mut random) = scene(&cluster);
    let (run, acting) = scene.run_until(&cluster, random.between(5, 50));
    cluster.network().cut("h1", &acting);
    wait::until("another agent reads", LOOK_LIMIT, || (reader(&cluster) == "h2").then_some(()));
    scene.wait_equal(&cluster, run);
    assert_eq!((scene.acting(&cluster), unplanned(&cluster)), (acting, 0), "the holder kept its epoch");
}

/// No reader reaches the holder: that is shown, and ends with the cut.
#[test]
fn a_holder_that_no_reader_reaches_waits_and_says_so() {
    let Some(cluster) = cluster("a_holder_that_no_reader_reaches_waits_and_says_so") else { return };
    let (scene, mut random) = scene(&cluster);
    let (run, acting) = scene.run_until(&cluster, random.between(5, 50));
    for name in ["h1", "h2"] {
        cluster.network().cut(name, &acting);
    }
    wait::until("the status says who does not reach whom", LOOK_LIMIT, || {
        let (exit, status) = cluster.status();
        let says = |text: &str| text.contains("does not reach") && text.contains(&acting);
        (exit > 0 && status.concerns.iter().any(|concern| concern.subject == "db" && says(&concern.summary)))
            .then_some(())
    });
    for name in ["h1", "h2"] {
        cluster.network().heal(name, &acting);
    }
    scene.wait_equal(&cluster, run);
    wait::until("nothing is to be done", RUN_LIMIT, || (cluster.status().0 == 0).then_some(()));
    assert_eq!((scene.acting(&cluster), unplanned(&cluster)), (acting, 0));
}
