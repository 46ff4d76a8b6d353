//! A store that cannot be written: loud, nothing half done, and well again by itself.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tanist_model::api::{Done, Health, Refusal, TokenCreated};
use tanist_model::event::EventCode;
use tanist_server::ServerError;
use tanist_store::{Store, StoreFailure};

use crate::puppet::{Alive, Play, Puppet};
use crate::replicating::create;
use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn a_full_store_refuses_says_so_and_recovers() {
    let (world, store) = World::start_in_memory(|_| {}).await;
    world.event(EventCode::ServerStarted).await;
    store.fail_with(Some(StoreFailure::Full));
    for _ in 0..2 {
        let (status, refusal) = world.post::<TokenCreated>("/tokens", json!({ "agent": "h1" })).await.unwrap_err();
        assert_eq!(status, 503);
        assert!(refusal.cause.unwrap().contains("no space"), "{:?}", refusal.error);
    }
    let status = world.until(|| world.status(), |status| !status.concerns.is_empty()).await;
    assert_eq!((status.concerns[0].subject.as_str(), status.concerns[0].health), ("server", Health::Stopped));
    let health = world.request(Method::GET, "/healthz").send().await.unwrap();
    assert_eq!(health.status(), 503);
    let refusal: Refusal = health.json().await.unwrap();
    assert!(refusal.cause.unwrap().contains("no space"));

    store.fail_with(None);
    world.until(|| world.status(), |status| status.concerns.is_empty()).await;
    world.post::<TokenCreated>("/tokens", json!({ "agent": "h1" })).await.unwrap();
    let events = world.all_events().await;
    let position = |code| events.iter().position(|event| event.code == code).unwrap();
    assert!(position(EventCode::StoreFailing) < position(EventCode::StoreRecovered));
    assert_eq!(events.iter().filter(|event| event.code == EventCode::TokenCreated).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_term_is_over_stops() {
    let (mut world, store) = World::start_in_memory(|_| {}).await;
    world.event(EventCode::ServerStarted).await;
    store.begin_term().await.unwrap();
    // What it decides by itself ends it as well: it may be gone before it is asked.
    let answer = world.request(Method::POST, "/tokens").json(&json!({ "agent": "h1" })).send().await;
    assert!(!answer.is_ok_and(|answer| answer.status().is_success()));
    let ended = world.server.take().unwrap().end().await.unwrap_err();
    assert!(matches!(ended, ServerError::Deposed { .. }), "{ended}");
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_that_were_well_all_along_are_not_suspected_afterwards() {
    let (world, store) = World::start_in_memory(|_| {}).await;
    let alive = Alive::default();
    let identity = world.join("h1").await;
    let _h1 = Puppet::start(&world, &identity, 1, Play::Whole, &alive).await;
    world.post::<Done>("/replications", create(&["h1"])).await.unwrap();
    let before = world.until_replication(|view| view.acting.is_some()).await;

    store.fail_with(Some(StoreFailure::Busy));
    assert_eq!(world.post::<Done>("/replications/db/pause", Value::Null).await.unwrap_err().0, 503);
    let long = Duration::from_secs(3);
    let began = tokio::time::Instant::now();
    let view = world.until(|| world.replication(), |_| began.elapsed() > long).await;
    assert_eq!((view.epochs, view.state.as_str()), (before.epochs, "active"), "nothing is decided meanwhile");
    store.fail_with(None);

    world.event(EventCode::StoreRecovered).await;
    world.post::<Done>("/replications/db/sync", Value::Null).await.unwrap();
    let after = world.until_replication(|view| view.last_recovery_point.is_some()).await;
    assert_eq!(after.epochs, before.epochs);
    let events = world.all_events().await;
    assert!(events.iter().all(|event| event.code != EventCode::AgentSuspected), "{events:?}");
}
