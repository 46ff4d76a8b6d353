//! The network fails, not a process: who is cut off from the server only goes on working through a peer, and who is cut off from
//! all is replaced. Every host is a network namespace of its own; without root the tests say so and end.

use std::time::Duration;

use tanist_model::event::EventCode;
use tanist_tests::cluster::Cluster;
use tanist_tests::network::Network;
use tanist_tests::random::Random;
use tanist_tests::scene::{RUN_LIMIT, Scene};
use tanist_tests::story;
use tanist_tests::{build, wait};

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
    tanist_tests::volume::mutate(&scene.source, random.number());
    scene.run(&cluster);
    assert_eq!(scene.acting(&cluster), successor);
}
