//! Alarms of a whole server: delivered once each, after a death as well, and never in anybody's way.

use std::path::Path;
use std::sync::Arc;

use reqwest::Method;
use serde_json::{Value, json};
use tanist_alarm::{Notice, NoticeKind};
use tanist_model::api::{AlarmView, Done, TokenCreated};
use tanist_model::event::EventCode;
use tanist_server::Server;
use tanist_store::{MemoryStore, Store, StoreFailure};

use crate::world::{Running, World};

/// An alarm by a script that appends each notice to a file, one a line and at once or not at all, and fails while there is a file `broken` beside it.
fn alarm(folder: &Path, name: &str, filter: &str) -> String {
    let (file, broken) = (folder.join(name), folder.join(format!("{name}.broken")));
    let script = format!(
        "[ ! -e {0} ] || {{ echo no line; exit 1; }}; notice=$(cat); printf '%s\\n' \"$notice\" >> {1}",
        broken.display(),
        file.display()
    );
    format!("[[alarm]]\nname = '{name}'\n{filter}\nscript.command = ['/bin/sh', '-c', '''{script}''']\n")
}

/// What a sink was told. A server that dies between a delivery and its note of it delivers once more, under the same id: whoever counts
/// tells them apart by that.
fn told(folder: &Path, name: &str) -> Vec<Notice> {
    let text = std::fs::read_to_string(folder.join(name)).unwrap_or_default();
    let mut told: Vec<Notice> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    told.dedup_by(|later, earlier| later.id == earlier.id && later.kind == earlier.kind);
    told
}

async fn make_token(world: &World, agent: &str) {
    world.post::<TokenCreated>("/tokens", json!({ "agent": agent })).await.unwrap();
}

async fn count(world: &World, code: EventCode) -> usize {
    world.all_events().await.iter().filter(|event| event.code == code).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_sink_missed_is_delivered_after_a_death_of_the_server_and_twice_only_under_one_id() {
    let mut world = World::initialised().await;
    let folder = world.path("");
    world.configure(&alarm(&folder, "desk", "codes = ['T201']"));
    world.configure(&alarm(&folder, "noc", ""));
    world.run().await;
    make_token(&world, "h1").await;
    world.until(async || told(&folder, "desk"), |told| told.len() == 1).await;

    std::fs::write(folder.join("desk.broken"), "").unwrap();
    make_token(&world, "h2").await;
    make_token(&world, "h3").await;
    let status = world.until(|| world.status(), |status| !status.concerns.is_empty()).await;
    let concern = &status.concerns[0];
    assert!(concern.subject == "alarm desk" && concern.summary.contains("no line"), "{concern:?}");
    world.event(EventCode::AlarmFailing).await;
    // The other alarm says that this one fails.
    world.until(async || told(&folder, "noc"), |told| told.len() == 1).await;
    assert_eq!(told(&folder, "noc")[0].event.code, EventCode::AlarmFailing);

    world.server.take().unwrap().kill().await;
    world.run().await;
    assert_eq!(world.status().await.concerns.len(), 1, "it is known to fail from the first moment");
    std::fs::remove_file(folder.join("desk.broken")).unwrap();
    world.until(|| world.status(), |status| status.concerns.is_empty()).await;
    world.event(EventCode::AlarmDelivered).await;
    let desk = world.until(async || told(&folder, "desk"), |told| told.len() == 3).await;
    let messages: Vec<&str> = desk.iter().map(|notice| notice.event.message.as_str()).collect();
    for (message, agent) in messages.iter().zip(["h1", "h2", "h3"]) {
        assert!(message.contains(agent), "{messages:?}");
    }
    assert_eq!((count(&world, EventCode::AlarmFailing).await, count(&world, EventCode::AlarmDelivered).await), (1, 1));
    let noc = world.until(async || told(&folder, "noc"), |told| told.len() == 2).await;
    assert_eq!((noc[1].kind, noc[1].clears.as_ref()), (NoticeKind::Cleared, Some(&noc[0].id)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_can_try_an_alarm() {
    let mut world = World::initialised().await;
    let folder = world.path("");
    world.configure(&alarm(&folder, "desk", ""));
    world.run().await;
    let done: Done = world.post("/alarms/desk/test", Value::Null).await.unwrap();
    assert!(done.message.contains("was delivered by script"), "{}", done.message);
    let told = told(&folder, "desk");
    assert_eq!((told.len(), told[0].kind), (1, NoticeKind::Test));

    std::fs::write(folder.join("desk.broken"), "").unwrap();
    let (status, refusal) = world.post::<Done>("/alarms/desk/test", Value::Null).await.unwrap_err();
    assert_eq!(status, 503);
    assert!(refusal.cause.unwrap().contains("no line"));
    assert_eq!(world.post::<Done>("/alarms/nobody/test", Value::Null).await.unwrap_err().0, 404);
    world.until(|| count(&world, EventCode::AlarmTested), |count| *count == 3).await;
    let alarms: Vec<AlarmView> = world.get("/alarms").await;
    assert_eq!((alarms[0].name.as_str(), alarms[0].failing_since), ("desk", None), "a test is no delivery");
    let page = world.request(Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
    assert!(page.contains("tanist_alarm_failing{alarm=\"desk\"} 0\n"), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_cannot_be_written_is_told_of_at_once_and_once() {
    let mut world = World::initialised().await;
    let folder = world.path("");
    world.configure(&alarm(&folder, "noc", ""));
    let store = Arc::new(MemoryStore::with_state(world.first_state()));
    let shared = Arc::clone(&store) as Arc<dyn Store>;
    world.server = Some(Running::of(Server::bind_with_store(&world.dir(), shared).unwrap()));
    world.event(EventCode::ServerStarted).await;
    // The courier stands at the end of the log.
    world.until(async || folder.join("server/alarms/noc.json").exists(), |there| *there).await;

    store.fail_with(Some(StoreFailure::Full));
    assert!(world.post::<TokenCreated>("/tokens", json!({ "agent": "h1" })).await.is_err());
    let noc = world.until(async || told(&folder, "noc"), |told| !told.is_empty()).await;
    assert_eq!(noc[0].event.code, EventCode::StoreFailing);
    store.fail_with(None);
    let noc = world.until(async || told(&folder, "noc"), |told| told.len() > 1).await;
    assert_eq!((noc.len(), noc[1].kind, noc[1].event.code), (2, NoticeKind::Cleared, EventCode::StoreRecovered));
}

#[tokio::test]
async fn a_configuration_that_cannot_work_is_refused_at_the_start() {
    let world = World::initialised().await;
    world.configure("[[alarm]]\nname = 'noc'\nwebhook.url = 'http://noc.example'\n");
    let refused = Server::bind(&world.dir()).await.unwrap_err();
    assert!(refused.to_string().contains("alarm noc: 'http://noc.example' is http"), "{refused}");
}
