//! A replication through its life: created, run, taken over, readopted.

use serde_json::{Value, json};
use tanist_model::api::{Done, Health, Plan, RecoveryPointView, WhyView};
use tanist_model::event::EventCode;
use tanist_model::run::RunState;
use tanist_model::takeover::Evidence;

use crate::puppet::{Alive, Play, Puppet, SIZE};
use crate::world::{World, name};

pub fn create(agents: &[&str]) -> Value {
    json!({ "name": "db", "source": "san-a/vol1", "target": "san-b/vol9", "agents": agents,
            "policy": { "source_mode": "sealed" } })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_ends_in_a_recovery_point() {
    let world = World::start().await;
    let alive = Alive::default();
    let _h1 = Puppet::start(&world, &world.join("h1").await, 1, Play::Whole, &alive).await;

    let snapshot = json!({ "name": "db", "source": "san-a/vol1", "target": "san-b/vol9", "agents": ["h1"] });
    let (status, refusal) = world.post::<Plan>("/replications/check", snapshot).await.unwrap_err();
    assert_eq!(status, 409);
    assert!(refusal.hint.unwrap().contains("--source-mode sealed"));
    let itself = json!({ "name": "db", "source": "san-a/vol1", "target": "san-a/vol1", "agents": ["h1"],
        "policy": { "source_mode": "sealed" } });
    assert_eq!(world.post::<Done>("/replications", itself).await.unwrap_err().0, 412);

    let plan: Plan = world.post("/replications/check", create(&["h1"])).await.unwrap();
    assert_eq!(plan.size_bytes, SIZE);
    world.post::<Done>("/replications", create(&["h1"])).await.unwrap();
    let view = world.until_replication(|view| view.acting.is_some()).await;
    assert_eq!((view.health, view.acting), (Health::Ok, Some(name("h1"))));
    assert_eq!(view.next.as_deref(), Some("tanist replication sync db"));

    let done: Done = world.post("/replications/db/sync", Value::Null).await.unwrap();
    let view = world.until_replication(|view| view.last_recovery_point.is_some()).await;
    assert_eq!((view.health, view.target_dirty, view.waits_for), (Health::Ok, false, None));
    assert!(view.summary.starts_with("the target equals the source"), "{}", view.summary);
    let points: Vec<RecoveryPointView> = world.get("/replications/db/recovery-points").await;
    assert_eq!(points.iter().map(|point| point.run).collect::<Vec<_>>(), [done.run.unwrap()]);
    assert_eq!(world.status().await.ok, 1);
    world.event(EventCode::RunPublished).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_acting_agent_dies_the_next_one_finishes_its_run() {
    let world = World::start().await;
    let alive = Alive::default();
    let mut h1 = Puppet::start(&world, &world.join("h1").await, 1, Play::Half, &alive).await;
    let _h2 = Puppet::start(&world, &world.join("h2").await, 2, Play::Whole, &alive).await;
    world.post::<Done>("/replications", create(&["h1", "h2"])).await.unwrap();
    world.post::<Done>("/replications/db/sync", Value::Null).await.unwrap();
    assert_eq!(h1.acknowledged().await, SIZE / 2);
    world.until_replication(|view| view.sides[1].agents.iter().all(|agent| agent.eligible)).await;

    h1.die().await;
    let view = world.until_replication(|view| view.last_recovery_point.is_some()).await;
    assert_eq!(view.acting, Some(name("h2")));
    assert_eq!(view.last_run.as_ref().map(|run| (run.state, run.takeovers)), Some((RunState::Published, 1)));
    assert!(view.awaited.is_empty(), "the kernel lock proved the dead agent quiet: {:?}", view.awaited);
    assert_eq!(view.health, Health::Degraded, "one agent of two is left");
    assert!(view.summary.contains("agent h1 could not take over"), "{}", view.summary);

    let why: WhyView = world.get("/replications/db/why").await;
    let takeover = &why.takeovers[0];
    assert!(matches!(&takeover.evidence, Evidence::ConnectionEnded { .. }), "{:?}", takeover.evidence);
    assert_eq!((takeover.to.clone(), takeover.resumed_seq), (name("h2"), SIZE / 2));
    assert!(takeover.first_durable_write_at.is_some());
    let waited = takeover.committed_at.since(takeover.suspected_at);
    assert!(waited.as_millis() < 300, "a death is seen at once, not by silence: {waited:?}");
    let at = format!("/replications/db/why?at={}", takeover.suspected_at);
    assert_eq!(world.get::<WhyView>(&at).await.takeovers, std::slice::from_ref(takeover));

    let codes: Vec<EventCode> = world.all_events().await.iter().map(|event| event.code).collect();
    assert_eq!(codes.iter().filter(|code| **code == EventCode::TakeoverCommitted).count(), 1);
    let metrics = world.request(reqwest::Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("tanist_takeovers_total{evidence=\"connection-ended\"} 1"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_aborted_is_over_and_the_replication_stays() {
    let world = World::start().await;
    let mut h1 = Puppet::start(&world, &world.join("h1").await, 1, Play::Half, &Alive::default()).await;
    world.post::<Done>("/replications", create(&["h1"])).await.unwrap();
    let (status, refusal) = world.post::<Done>("/replications/db/abort", Value::Null).await.unwrap_err();
    assert_eq!((status, refusal.error.as_str()), (409, "no run of db is in progress"));

    let started: Done = world.post("/replications/db/sync", Value::Null).await.unwrap();
    assert_eq!(h1.acknowledged().await, SIZE / 2);
    let aborted: Done = world.post("/replications/db/abort", Value::Null).await.unwrap();
    assert_eq!((aborted.run, aborted.next.as_deref()), (started.run, Some("tanist replication sync db")));
    let view = world.until_replication(|view| view.run.is_none()).await;
    let last = view.last_run.unwrap();
    assert_eq!((Some(last.id), last.state, view.target_dirty), (started.run, RunState::Abandoned, true));
    assert!(last.failure.unwrap().contains("aborted by"), "{}", view.summary);
    assert_eq!((view.health, view.next), (Health::Stopped, aborted.next));
    world.event(EventCode::RunAborted).await;
    world.post::<Done>("/replications/db/sync", Value::Null).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_comes_back_and_takes_its_agents_up_again() {
    let mut world = World::start().await;
    let alive = Alive::default();
    let identity = world.join("h1").await;
    let h1 = Puppet::start(&world, &identity, 1, Play::Whole, &alive).await;
    world.post::<Done>("/replications", create(&["h1"])).await.unwrap();
    let before = world.until_replication(|view| view.acting.is_some()).await;

    world.server.take().unwrap().kill().await;
    let term = h1.term();
    h1.ended().await;
    world.run().await;
    let again = Puppet::start(&world, &identity, 1, Play::Whole, &alive).await;
    assert!(again.term() > term);
    let view = world.until_replication(|view| view.health == Health::Ok).await;
    assert_eq!((view.epochs, view.acting), (before.epochs, before.acting), "the same process keeps its epoch");
    world.post::<Done>("/replications/db/sync", Value::Null).await.unwrap();
}
