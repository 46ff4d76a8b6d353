//! The network fails, not a process: who is cut off from the server only goes on working through a peer, and who is cut off from
//! all is replaced. Every host is a network namespace of its own; without root the tests say so and end.

use std::time::Duration;

use tanist_model::event::EventCode;
use tanist_model::time::Timestamp;
use tanist_tests::cluster::Cluster;
use tanist_tests::figures::Figures;
use tanist_tests::network::Network;
use tanist_tests::random::Random;
use tanist_tests::scene::{RUN_LIMIT, Scene};
use tanist_tests::story;
use tanist_tests::{build, setting, volume, wait};

const SIZE: u64 = 96 << 20;
/// Slow enough for a fault in the middle.
const RATE: [&str; 2] = ["--limit", "16MiB/s"];
/// Until an agent has found another way, on a machine that is busy.
const WAY_LIMIT: Duration = Duration::from_secs(15);

/// Three agents that reach both storage systems, and the server, on hosts of their own.
fn cluster(test: &str) -> Option<Cluster> {
    let network = Network::or_skip(test, &["server", "h1", "h2", "h3"])?;
    Some(Cluster::builder(build!()).on(network).start())
}

/// Who carries the connection of this agent.
fn relay_of(cluster: &Cluster, name: &str) -> Option<String> {
    let agent =
        cluster.agents().into_iter().find(|agent| agent.name.as_str() == name).filter(|agent| agent.connected)?;
    agent.through.map(|relay| relay.to_string())
}

fn wait_relayed(cluster: &Cluster, name: &str) -> String {
    wait::until(&format!("{name} is carried by a peer"), WAY_LIMIT, || relay_of(cluster, name))
}

fn wait_direct(cluster: &Cluster, name: &str) {
    wait::until(&format!("{name} reaches the server itself"), WAY_LIMIT, || {
        let agents = cluster.agents();
        agents
            .iter()
            .any(|agent| agent.name.as_str() == name && agent.connected && agent.through.is_none())
            .then_some(())
    });
}

/// Silent partition to the successor's first durable write: the goal of the 99th percentile, on a machine of its own.
const GOAL: Duration = Duration::from_millis(2500);
/// No takeover may take longer, whatever else this machine does.
const LIMIT: Duration = Duration::from_secs(6);

/// Nobody was replaced, whatever the network did.
#[track_caller]
fn assert_no_takeover(cluster: &Cluster, scene: &Scene) {
    let unplanned: Vec<_> = cluster.takeovers(&scene.name).into_iter().filter(story::is_unplanned).collect();
    assert!(unplanned.is_empty(), "{unplanned:#?}");
}

#[test]
fn an_agent_cut_off_from_the_server_goes_on_through_a_peer() {
    let Some(cluster) = cluster("an_agent_cut_off_from_the_server_goes_on_through_a_peer") else { return };
    let mut random = Random::seeded("partition");
    let scene = Scene::set(&cluster, "db", SIZE, random.number(), &RATE);
    let (run, acting) = scene.run_until(&cluster, random.between(5, 30));
    let cut = cluster.network().cut(&acting, "server");
    let relay = wait_relayed(&cluster, &acting);
    assert_ne!(relay, acting);
    let (exit, status) = cluster.status();
    assert!(
        exit == 1 && status.concerns.iter().any(|c| c.subject == acting && c.summary.contains(&relay)),
        "{status:?}"
    );
    scene.wait_equal(&cluster, run);
    cluster.wait_event(EventCode::AgentRelayed, cut, WAY_LIMIT);
    assert_no_takeover(&cluster, &scene);
    let healed = cluster.network().heal(&acting, "server");
    wait_direct(&cluster, &acting);
    cluster.wait_event(EventCode::AgentDirect, healed, WAY_LIMIT);
    scene.run(&cluster);
    assert_no_takeover(&cluster, &scene);
    assert_eq!(scene.acting(&cluster), acting);
}

/// The server hears nothing of the agent, which hears the server.
#[test]
fn an_agent_that_is_not_heard_goes_on_through_a_peer() {
    let Some(cluster) = cluster("an_agent_that_is_not_heard_goes_on_through_a_peer") else { return };
    cut_one_way_in_the_middle(&cluster, |acting| cluster.network().cut_one_way(acting, "server"));
}

/// The agent hears nothing of the server, which hears the agent.
#[test]
fn an_agent_that_hears_nothing_goes_on_through_a_peer() {
    let Some(cluster) = cluster("an_agent_that_hears_nothing_goes_on_through_a_peer") else { return };
    cut_one_way_in_the_middle(&cluster, |acting| cluster.network().cut_one_way("server", acting));
}

fn cut_one_way_in_the_middle(cluster: &Cluster, cut: impl FnOnce(&str) -> Timestamp) {
    let mut random = Random::seeded("partition");
    let scene = Scene::set(cluster, "db", SIZE, random.number(), &RATE);
    let (run, acting) = scene.run_until(cluster, random.between(5, 30));
    cut(&acting);
    wait_relayed(cluster, &acting);
    scene.wait_equal(cluster, run);
    cluster.network().heal(&acting, "server");
    wait_direct(cluster, &acting);
    assert_no_takeover(cluster, &scene);
}

/// The new server knows the agent from its records only, and no way leads to it but through a peer.
#[test]
fn a_restarted_server_finds_a_relayed_agent() {
    let Some(mut cluster) = cluster("a_restarted_server_finds_a_relayed_agent") else { return };
    let mut random = Random::seeded("partition");
    let scene = Scene::set(&cluster, "db", SIZE, random.number(), &RATE);
    let (run, acting) = scene.run_until(&cluster, random.between(5, 20));
    cluster.network().cut(&acting, "server");
    wait_relayed(&cluster, &acting);
    cluster.kill_server();
    cluster.start_server();
    wait_relayed(&cluster, &acting);
    scene.wait_equal(&cluster, run);
    assert_no_takeover(&cluster, &scene);
}

#[test]
fn another_peer_carries_on_when_the_relay_dies() {
    let Some(mut cluster) = cluster("another_peer_carries_on_when_the_relay_dies") else { return };
    let mut random = Random::seeded("partition");
    let scene = Scene::set(&cluster, "db", SIZE, random.number(), &RATE);
    let (run, acting) = scene.run_until(&cluster, random.between(5, 30));
    cluster.network().cut(&acting, "server");
    let relay = wait_relayed(&cluster, &acting);
    cluster.kill(&relay);
    wait::until("the other peer carries it", WAY_LIMIT, || relay_of(&cluster, &acting).filter(|now| *now != relay));
    scene.wait_equal(&cluster, run);
    assert_no_takeover(&cluster, &scene);
}

#[test]
fn an_agent_that_starts_while_it_is_cut_off_is_carried_by_a_peer_of_its_last_process() {
    let test = "an_agent_that_starts_while_it_is_cut_off_is_carried_by_a_peer_of_its_last_process";
    let Some(mut cluster) = cluster(test) else { return };
    let mut random = Random::seeded("partition");
    let scene = Scene::set(&cluster, "db", SIZE, random.number(), &[]);
    let acting = scene.acting(&cluster);
    let failover = if acting == "h1" { "h2" } else { "h1" };
    cluster.network().cut(failover, "server");
    cluster.kill(failover);
    cluster.start_agent(failover);
    wait_relayed(&cluster, failover);
    scene.wait_whole(&cluster);
    // Good for work that way: it takes over.
    let (run, _) = scene.run_until(&cluster, 0);
    cluster.tanist(&["replication", "handover", &scene.name, "--to", failover]).done();
    scene.wait_equal(&cluster, run);
    cluster.network().heal(failover, "server");
    wait_direct(&cluster, failover);
}

#[test]
fn an_agent_cut_off_from_all_is_replaced_and_harmless_when_it_is_back() {
    let Some(cluster) = cluster("an_agent_cut_off_from_all_is_replaced_and_harmless_when_it_is_back") else { return };
    let mut random = Random::seeded("partition");
    let scene = Scene::set(&cluster, "db", SIZE, random.number(), &RATE);
    let (run, acting) = scene.run_until(&cluster, random.between(5, 40));
    cluster.network().isolate(&acting);
    scene.wait_equal(&cluster, run);
    let successor = scene.acting(&cluster);
    assert_ne!(successor, acting);
    cluster.network().rejoin(&acting);
    cluster.wait_connected(&acting);
    wait::until("the old one is proven quiet", RUN_LIMIT, || {
        cluster.try_show(&scene.name).filter(|view| view.awaited.is_empty()).map(|_| ())
    });
    volume::mutate(&scene.source, random.number());
    scene.run(&cluster);
    assert_eq!(scene.acting(&cluster), successor);
}

/// `TANIST_PARTITIONS` makes it long.
#[test]
fn a_silent_partition_costs_little_time() {
    let Some(cluster) = cluster("a_silent_partition_costs_little_time") else { return };
    let mut random = Random::seeded("partition");
    let scene = Scene::set(&cluster, "db", SIZE, random.number(), &RATE);
    let mut times = Vec::new();
    for number in 1..=setting("TANIST_PARTITIONS", 3) {
        volume::mutate(&scene.source, random.number());
        let (run, acting) = scene.run_until(&cluster, random.between(5, 40));
        let cut = cluster.network().isolate(&acting);
        scene.wait_equal(&cluster, run);
        let takeover = cluster.takeovers(&scene.name).pop().expect("a takeover");
        let took = story::time_to_first_write(cut, &takeover).expect("a first durable write");
        println!("{number}: {acting} cut off, {} wrote durably after {} ms", takeover.to, took.as_millis());
        times.push(took);
        cluster.network().rejoin(&acting);
        scene.wait_whole(&cluster);
    }
    Figures::of(times).assert_within("partition to first durable write", GOAL, LIMIT);
}
