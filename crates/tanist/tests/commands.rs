//! The commands as they are typed, against a server over real TLS.

mod fake;

use assert_cmd::Command;
use fake::{Answer, Fake};
use serde_json::{Value, json};
use tanist::client::{Client, ClientError};
use tanist_model::id::ReplicationName;
use tanist_wire::ca::CertificateAuthority;

/// The JSON of a sample body that the snapshots of the schema freeze.
macro_rules! sample {
    ($name:literal) => {
        sample(include_str!(concat!("../src/output/snapshots/tanist__output__tests__json_", $name, ".snap")))
    };
}

fn sample(snapshot: &str) -> Value {
    let body = snapshot.splitn(3, "---\n").nth(2).unwrap();
    serde_json::from_str(body).unwrap()
}

fn tanist(fake: &Fake, line: &str) -> Command {
    let mut command = Command::cargo_bin("tanist").unwrap();
    command.env("TANIST_CONTEXT", fake.context_file()).args(line.split(' '));
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn status_exits_by_what_it_found() {
    let fake = Fake::start();
    fake.answer("GET /status", Answer::Json(200, sample!("status")));
    let output = tanist(&fake, "status").assert().code(1).get_output().clone();
    assert!(text(&output.stdout).starts_with("3 ok, 1 degraded, 0 stopped\n"));
    assert_eq!(fake.asked("GET /status")[0].credential.as_deref(), Some("Bearer tcr_test"));
    assert_eq!(fake.asked("GET /status")[0].key, None, "a question has no command id");
}

#[test]
fn status_is_unknown_when_the_server_cannot_be_asked() {
    let fake = Fake::start();
    let assert = tanist(&fake, "status --context /nonexistent/context.toml").assert().code(3);
    let stderr = text(&assert.get_output().stderr);
    assert!(stderr.contains("hint:") && stderr.contains("tanist login"), "{stderr}");
}

#[test]
fn json_is_the_body_itself_and_compact_in_a_pipe() {
    let fake = Fake::start();
    let body = sample!("replication");
    fake.answer("GET /replications/db", Answer::Json(200, body.clone()));
    let output = tanist(&fake, "-o json replication show db").assert().success().get_output().clone();
    let printed = text(&output.stdout);
    assert_eq!(printed.lines().count(), 1);
    assert_eq!(serde_json::from_str::<Value>(&printed).unwrap(), body);
}

#[test]
fn a_refusal_is_shown_as_error_cause_hint_and_as_json() {
    let fake = Fake::start();
    fake.answer("POST /replications/db/pause", Answer::Json(412, sample!("refusal")));
    let plain = tanist(&fake, "replication pause db").assert().code(1).get_output().clone();
    assert_eq!(text(&plain.stderr), "error: error\ncause: cause\nhint:  hint\n");
    let json = tanist(&fake, "replication pause db --output json").assert().code(1).get_output().clone();
    assert_eq!(serde_json::from_str::<Value>(&text(&json.stderr)).unwrap(), sample!("refusal"));
    assert_eq!(fake.asked("POST /replications/db/pause").len(), 2, "a refusal is not tried again");
}

#[test]
fn a_change_is_sent_again_under_the_same_key_when_the_connection_breaks() {
    let fake = Fake::start();
    fake.answer("POST /replications/db/resume", Answer::Break)
        .answer("POST /replications/db/resume", Answer::Json(200, sample!("done")));
    tanist(&fake, "replication resume db").assert().success();
    let keys: Vec<Option<String>> = fake.asked("POST /replications/db/resume").into_iter().map(|a| a.key).collect();
    assert_eq!(keys.len(), 2);
    assert_eq!(keys[0], keys[1]);
    assert_eq!(keys[0].as_ref().unwrap().len(), 32);
}

#[test]
fn waiting_for_a_run_survives_a_restart_of_the_server() {
    let fake = Fake::start();
    let going = sample!("replication");
    let mut published = going.clone();
    published["run"] = Value::Null;
    published["last_run"]["id"] = going["run"]["id"].clone();
    let away = json!({"code": "unavailable", "error": "the server is starting"});
    fake.answer("GET /events", Answer::Json(200, sample!("events")))
        .answer("POST /replications/db/sync", Answer::Json(200, sample!("done")))
        .answer("GET /replications/db", Answer::Json(200, going))
        .answer("GET /replications/db", Answer::Break)
        .answer("GET /replications/db", Answer::Json(503, away))
        .answer("GET /replications/db", Answer::Json(200, published));
    let output = tanist(&fake, "replication sync db --wait").assert().success().get_output().clone();
    let said = text(&output.stderr);
    assert!(said.contains("copying on h2: 60 %"), "{said}");
    assert_eq!(said.matches("trying again").count(), 1, "{said}");
    assert!(said.contains("the server answers again"), "{said}");
}

#[test]
fn waiting_for_a_run_fails_when_it_is_abandoned() {
    let fake = Fake::start();
    let mut view = sample!("replication");
    view["run"]["state"] = "abandoned".into();
    view["run"]["failure"] = "the source grew by 4 KiB".into();
    fake.answer("GET /events", Answer::Json(200, sample!("events")))
        .answer("POST /replications/db/sync", Answer::Json(200, sample!("done")))
        .answer("GET /replications/db", Answer::Json(200, view));
    let output = tanist(&fake, "replication sync db --wait").assert().code(1).get_output().clone();
    assert!(text(&output.stderr).contains("cause: the source grew by 4 KiB"));
}

#[test]
fn a_transfer_creates_runs_and_waits_until_it_has_removed_itself() {
    let fake = Fake::start();
    let mut ended = sample!("events");
    ended["events"][0]["code"] = "T503".into();
    fake.answer("GET /events", Answer::Json(200, sample!("events")))
        .answer("GET /events", Answer::Json(200, ended))
        .answer("POST /replications/check", Answer::Json(200, sample!("plan")))
        .answer("POST /replications", Answer::Json(200, sample!("done")))
        .answer("POST /replications/t1/sync", Answer::Json(200, sample!("done")));
    let line = "transfer --name t1 --source a/x --target b/y --agents h1,h2";
    let output = tanist(&fake, line).assert().success().get_output().clone();
    let printed = text(&output.stdout);
    assert!(printed.starts_with("plan for db\n"), "{printed}");
    assert!(printed.contains("is published"), "{printed}");
}

#[test]
fn a_dry_run_creates_nothing() {
    let fake = Fake::start();
    fake.answer("POST /replications/check", Answer::Json(200, sample!("plan")));
    tanist(&fake, "replication create db --source a/x --target b/y --agents h1 --dry-run").assert().success();
    assert!(fake.asked("POST /replications").is_empty());
}

#[test]
fn confirming_a_death_needs_a_yes() {
    let fake = Fake::start();
    fake.answer("POST /agents/h1/confirm-dead", Answer::Json(200, sample!("done")));
    let refused = tanist(&fake, "agent confirm-dead h1").assert().code(1).get_output().clone();
    assert!(text(&refused.stderr).contains("--yes"));
    assert!(fake.asked("POST /agents/h1/confirm-dead").is_empty());
    tanist(&fake, "agent confirm-dead h1 --yes").assert().success();
}

#[test]
fn login_recognises_the_server_by_the_hash_of_its_authority() {
    let fake = Fake::start();
    fake.answer("GET /whoami", Answer::Json(200, sample!("whoami")));
    let hash = fake.authority.ca_hash();
    let stored = fake.folder().join("new/context.toml");
    let line = format!("login {} --ca-hash {hash} --context {}", fake.address, stored.display());
    tanist(&fake, &line).write_stdin("tcr_test\n").assert().success();
    let context = tanist::client::context::Context::load(&stored).unwrap();
    assert_eq!((context.server.as_str(), context.credential.as_str()), (fake.address.to_string().as_str(), "tcr_test"));
    assert!(Client::new(&context).is_ok());
}

#[test]
fn login_refuses_a_server_of_another_authority_and_sends_it_no_secret() {
    let fake = Fake::start();
    let stored = fake.folder().join("new/context.toml");
    let line = format!("login {} --ca-hash {} --context {}", fake.address, "ab".repeat(32), stored.display());
    let refused = tanist(&fake, &line).write_stdin("tcr_test\n").assert().code(1).get_output().clone();
    assert!(text(&refused.stderr).starts_with("error: the server was not recognised\n"));
    assert!(fake.asked("GET /whoami").is_empty());
    assert!(!stored.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_another_authority_gets_no_credential() {
    let fake = tokio::task::spawn_blocking(Fake::start).await.unwrap();
    let other = CertificateAuthority::create(tanist_model::id::ClusterId(2), tanist::output::screen::now()).unwrap();
    let mut context = fake.context();
    context.ca = other.certificate_pem().to_owned();
    let answer = Client::new(&context).unwrap().replication(&ReplicationName::new("db").unwrap()).await;
    assert!(matches!(answer, Err(ClientError::Unreachable { .. })), "{answer:?}");
    assert!(fake.asked("GET /replications/db").is_empty());
    tokio::task::spawn_blocking(move || drop(fake)).await.unwrap();
}

#[test]
fn a_wrong_command_line_exits_2() {
    Command::cargo_bin("tanist").unwrap().args(["replication", "frobnicate"]).assert().code(2);
    Command::cargo_bin("tanist").unwrap().args(["explain", "T999"]).assert().code(2);
}

#[test]
fn explain_completions_and_man_need_no_server() {
    let tanist =
        |args: &[&str]| Command::cargo_bin("tanist").unwrap().args(args).assert().success().get_output().clone();
    assert!(text(&tanist(&["explain", "t401"]).stdout).starts_with("T401: the acting agent is suspected\n"));
    assert!(text(&tanist(&["completions", "bash"]).stdout).contains("_tanist"));
    assert!(text(&tanist(&["man"]).stdout).contains(".TH tanist 1"));
    let folder = tempfile::tempdir().unwrap();
    tanist(&["man", "--dir", folder.path().to_str().unwrap()]);
    assert!(folder.path().join("tanist-replication-show.1").exists());
}

#[test]
fn a_transfer_whose_run_is_refused_leaves_nothing_behind() {
    let fake = Fake::start();
    fake.answer("GET /events", Answer::Json(200, sample!("events")))
        .answer("POST /replications/check", Answer::Json(200, sample!("plan")))
        .answer("POST /replications", Answer::Json(200, sample!("done")))
        .answer("POST /replications/t1/sync", Answer::Json(409, sample!("refusal")))
        .answer("DELETE /replications/t1", Answer::Json(200, sample!("done")));
    tanist(&fake, "transfer --name t1 --source a/x --target b/y --agents h1,h2").assert().code(1);
    assert_eq!(fake.asked("DELETE /replications/t1").len(), 1);
}
