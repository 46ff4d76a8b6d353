//! Gray failures: an agent that is alive, beats, and is far too slow. Nobody but its peers can tell.

use std::time::Duration;

use tanist_model::event::EventCode;
use tanist_model::takeover::Evidence;
use tanist_model::time::Timestamp;
use tanist_tests::cluster::{Builder, Cluster, SOURCES, TARGETS};
use tanist_tests::scene::{RUN_LIMIT, Scene};
use tanist_tests::story;
use tanist_tests::throttle::Throttle;
use tanist_tests::{build, signal};

const SIZE: u64 = 288 << 20;
/// What is slower than half of that is slow, if `slow_bytes_per_second` says so.
const LIMIT: [&str; 2] = ["--limit", "16MiB/s"];
const SLOW: &str = "[limits]\nslow_bytes_per_second = 16777216\n";
/// From the beginning of the slowness to the end of it: half a minute of looking, and the handover of an agent that is slow at that, too.
const GRAY_LIMIT: Duration = Duration::from_secs(60);

#[test]
fn an_agent_that_is_alive_and_slow_hands_over() {
    let cluster = Cluster::builder(build!()).agents(2).server_config(SLOW).start();
    let scene = Scene::set_noise(&cluster, "db", SIZE, 1, &LIMIT);
    let (run, slow) = scene.run_until(&cluster, 5);
    let since = signal::now();
    let throttle = Throttle::start(cluster.agent(&slow));
    let event = cluster.wait_event(EventCode::GrayFailure, since, RUN_LIMIT);
    assert_eq!(event.agent.map(|agent| agent.to_string()), Some(slow.clone()), "{}", event.message);
    let done = scene.wait_equal(&cluster, run);
    assert_ne!(scene.acting(&cluster), slow);
    drop(throttle);
    let takeovers = cluster.takeovers("db");
    assert!(takeovers.iter().all(|takeover| !story::is_unplanned(takeover)), "it never looked dead: {takeovers:#?}");
    let handover = takeovers.iter().find(|t| matches!(t.evidence, Evidence::Handover { .. })).expect("a handover");
    let took = story::time_to_first_write(since, handover).expect("a first durable write");
    assert!(took <= GRAY_LIMIT, "{took:?}");
    println!("slow to the successor's first durable write: {} ms; {} takeover", took.as_millis(), done.takeovers);
    assert_said_once(&cluster, since);
}

#[test]
fn a_reader_that_is_alive_and_slow_is_replaced() {
    let cluster = networked().start();
    let scene = Scene::set_noise(&cluster, "db", SIZE, 2, &[&LIMIT[..], &["--streams", "4"]].concat());
    let (run, acting) = scene.run_until(&cluster, 5);
    let since = signal::now();
    let throttle = Throttle::start(cluster.agent("h1"));
    let event = cluster.wait_event(EventCode::GrayFailure, since, RUN_LIMIT);
    assert_eq!(event.agent.map(|agent| agent.to_string()).as_deref(), Some("h1"), "{}", event.message);
    let granted = cluster.wait_event(EventCode::ReaderGranted, since, RUN_LIMIT);
    assert_eq!(granted.agent.map(|agent| agent.to_string()).as_deref(), Some("h2"));
    scene.wait_equal(&cluster, run);
    drop(throttle);
    assert_eq!(scene.acting(&cluster), acting, "the holder is well");
    assert!(granted.at.since(since) <= GRAY_LIMIT);
    assert_said_once(&cluster, since);
}

/// Two agents that reach only the source, one that reaches only the target.
fn networked() -> Builder {
    let reach: &[&'static [&'static str]] = &[&[SOURCES], &[SOURCES], &[TARGETS]];
    Cluster::builder(build!()).reach(reach).own_hosts().server_config(SLOW)
}

fn assert_said_once(cluster: &Cluster, since: Timestamp) {
    let told = cluster.events_of("db").iter().filter(|e| e.code == EventCode::GrayFailure && e.at >= since).count();
    assert_eq!(told, 1);
}
