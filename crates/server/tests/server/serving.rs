//! The API itself: credentials, keys, refusals, what needs no credential, backups, and another server's claim.

use reqwest::Method;
use serde_json::{Value, json};
use tanist_model::api::{Done, Refusal, TokenCreated, WhoAmI};
use tanist_model::event::EventCode;
use tanist_server::{Server, ServerError};
use tanist_store::StoreError;

use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn who_shows_no_credential_learns_how_to_get_one() {
    let world = World::start().await;
    for credential in [None, Some("nonsense"), Some(&*format!("tcr_{}", "0".repeat(64)))] {
        let mut request = world.request(Method::GET, "/api/v1/whoami");
        if let Some(credential) = credential {
            request = request.bearer_auth(credential);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 401);
        let refusal: Refusal = response.json().await.unwrap();
        let hint = refusal.hint.unwrap();
        assert_eq!(hint, format!("tanist login {} --ca-hash {}", world.address(), world.made.ca_hash));
    }
    let me: WhoAmI = world.get("/whoami").await;
    assert_eq!((me.operator.as_str(), me.cluster), ("admin", world.made.cluster.to_string()));
    assert_eq!(world.event(EventCode::OperatorLoggedIn).await.actor, "admin");
}

#[tokio::test(flavor = "multi_thread")]
async fn some_things_need_no_credential() {
    let world = World::start().await;
    let text = async |path: &str| {
        let response = world.request(Method::GET, path).send().await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        response.text().await.unwrap()
    };
    assert_eq!(text("/healthz").await, "ok\n");
    assert_eq!(text("/api/v1/ca").await, world.made.ca_pem);
    assert!(text("/metrics").await.contains("tanist_server_term"));
    let document: Value = serde_json::from_str(&text("/api/v1/openapi.json").await).unwrap();
    assert!(document["paths"]["/api/v1/status"]["get"].is_object());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_twice_does_the_work_once() {
    let world = World::start().await;
    let key = "0123456789abcdef0123456789abcdef";
    let body = json!({ "agent": "h1" });
    let one: TokenCreated = world.post_keyed("/tokens", body.clone(), key).await.unwrap();
    let two: TokenCreated = world.post_keyed("/tokens", body, key).await.unwrap();
    assert_eq!(one, two);
    let made = world.all_events().await.into_iter().filter(|event| event.code == EventCode::TokenCreated).count();
    assert_eq!(made, 1);
    let (status, _) = world.post_keyed::<Done>("/tokens", json!({ "agent": "h1" }), "short").await.unwrap_err();
    assert_eq!(status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_have_one_shape() {
    let world = World::start().await;
    for (path, status) in
        [("/replications/none", 404), ("/replications/NONE", 400), ("/nowhere", 404), ("/events?after=x", 400)]
    {
        let (found, refusal) = world.try_get::<Value>(path).await.unwrap_err();
        assert_eq!(found, status, "{path}: {refusal:?}");
    }
    let (status, refusal) = world.post::<Done>("/replications", json!({ "name": 1 })).await.unwrap_err();
    assert_eq!(status, 400);
    assert!(refusal.cause.is_some());
    assert_eq!(world.post::<Done>("/status", Value::Null).await.unwrap_err().0, 400);
    // A little too large: the answer comes before the whole body is read, and the client must still be able to write it.
    let large = json!({ "path": "x".repeat(65 << 10) });
    assert_eq!(world.post::<Done>("/backup", large).await.unwrap_err().0, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_brings_the_server_back() {
    let mut world = World::start().await;
    world.join("h1").await;
    let file = world.path("backup.db");
    let (body, key) = (json!({ "path": file }), "00000000000000000000000000000001");
    let one: Done = world.post_keyed("/backup", body.clone(), key).await.unwrap();
    assert_eq!(world.post_keyed::<Done>("/backup", body.clone(), key).await.unwrap(), one);
    let (status, _) = world.post::<Done>("/backup", body).await.unwrap_err();
    assert_eq!(status, 409);
    assert_eq!(world.post::<Done>("/backup", json!({ "path": "here" })).await.unwrap_err().0, 400);
    world.event(EventCode::BackupMade).await;

    let busy = tanist_server::restore(&world.dir(), &file).await.unwrap_err();
    assert!(matches!(busy, ServerError::Store(StoreError::InUse { .. })), "{busy}");
    world.server.take().unwrap().stop().await;
    tanist_server::restore(&world.dir(), &file).await.unwrap();
    world.run().await;
    let status = world.status().await;
    assert!(status.concerns[0].summary.contains("agent h1 to show its epochs"), "{:?}", status.concerns);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_server_on_the_same_store_does_not_start() {
    let world = World::start().await;
    let second = Server::bind(&world.dir()).await.unwrap_err();
    assert!(matches!(second, ServerError::Store(StoreError::InUse { .. })), "{second}");
}
