//! A store that cannot be written: loud, nothing half done, and well again by itself.

use std::sync::Arc;

use reqwest::Method;
use serde_json::json;
use tanist_model::api::{Health, Refusal, TokenCreated};
use tanist_model::change::{Change, Condition, Group, Transaction};
use tanist_model::enrolment::Credential;
use tanist_model::event::EventCode;
use tanist_server::ServerError;
use tanist_store::{MemoryStore, Store, StoreFailure};

use crate::world::{World, now};

/// A server over a store in memory that knows the same operator.
async fn start() -> (World, Arc<MemoryStore>) {
    let store = Arc::new(MemoryStore::new());
    let mut world = World::start_over(Arc::clone(&store) as Arc<dyn Store>).await;
    let operator =
        Credential { hash: world.made.credential.hash(), operator: "admin".into(), created_at: now(), revoked: false };
    world.server.take().unwrap().stop().await;
    let term = store.begin_term().await.unwrap();
    let group = Group { condition: Condition::Term, changes: vec![Change::PutCredential(operator)] };
    store.commit(&Transaction { term, groups: vec![group] }).await.unwrap();
    let again = tanist_server::Server::bind_with_store(&world.dir(), Arc::clone(&store) as Arc<dyn Store>).unwrap();
    world.server = Some(crate::world::Running::of(again));
    (world, store)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_store_refuses_says_so_and_recovers() {
    let (world, store) = start().await;
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
    let (mut world, store) = start().await;
    world.event(EventCode::ServerStarted).await;
    store.begin_term().await.unwrap();
    assert!(world.post::<TokenCreated>("/tokens", json!({ "agent": "h1" })).await.is_err());
    let ended = world.server.take().unwrap().end().await.unwrap_err();
    assert!(matches!(ended, ServerError::Deposed { .. }), "{ended}");
}
