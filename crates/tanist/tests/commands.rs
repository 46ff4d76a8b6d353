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
fn a_transfer_returns_when_its_target_is_free_again() {
    let fake = Fake::start();
    let mut removing = sample!("replication");
    removing["last_run"]["id"] = removing["run"]["id"].clone();
    removing["run"] = Value::Null;
    removing["intent"] = "deleting".into();
    let gone = json!({"code": "not-found", "error": "there is no replication t1"});
    fake.answer("GET /events", Answer::Json(200, sample!("events")))
        .answer("POST /replications/check", Answer::Json(200, sample!("plan")))
        .answer("POST /replications", Answer::Json(200, sample!("done")))
        .answer("POST /replications/t1/sync", Answer::Json(200, sample!("done")))
        .answer("GET /replications/t1", Answer::Json(200, removing.clone()))
        .answer("GET /replications/t1", Answer::Json(200, removing))
        .answer("GET /replications/t1", Answer::Json(404, gone));
    let output = tanist(&fake, "transfer --name t1 --source a/x --target b/y --agents h1,h2").assert().success();
    let printed = text(&output.get_output().stdout);
    assert_eq!(fake.asked("GET /replications/t1").len(), 3);
    assert!(printed.contains("is published") && !printed.contains("next:"), "{printed}");
}

#[test]
fn events_of_a_replication_that_never_was_are_an_error() {
    let fake = Fake::start();
    let none = json!({"events": [], "last": 0});
    fake.answer("GET /events", Answer::Json(200, none.clone()));
    let refused = tanist(&fake, "events --replication nope").assert().code(1).get_output().clone();
    let said = text(&refused.stderr);
    assert!(said.contains("no events of a replication nope, and none of that name exists"), "{said}");

    fake.answer("GET /replications/db", Answer::Json(200, sample!("replication")));
    let quiet = tanist(&fake, "events --replication db").assert().success().get_output().clone();
    assert_eq!(text(&quiet.stdout), "no events\n", "it is there, and nothing has happened yet");
}

#[test]
fn events_of_a_deleted_replication_stay_reachable() {
    let fake = Fake::start();
    fake.answer("GET /events", Answer::Json(200, sample!("events")));
    let output = tanist(&fake, "events --replication db").assert().success().get_output().clone();
    assert_eq!(text(&output.stdout).lines().count(), 2);
    // Nothing new since: it is still one that was.
    let fake = Fake::start();
    fake.answer("GET /events", Answer::Json(200, json!({"events": [], "last": 42})))
        .answer("GET /events", Answer::Json(200, sample!("events")));
    tanist(&fake, "events --replication db --since-seq 42").assert().success();
}

#[test]
fn a_time_that_is_not_understood_is_answered_with_the_forms_that_are() {
    let fake = Fake::start();
    let refused = tanist(&fake, "replication why db --at yesterday").assert().code(2).get_output().clone();
    let said = text(&refused.stderr);
    assert!(said.contains("'yesterday' is not a time") && said.contains("5m ago"), "{said}");
    fake.answer("GET /replications/db/why", Answer::Json(200, sample!("why")));
    for at in ["-5m", "14:03", "2026-11-22T14:03:22Z"] {
        tanist(&fake, &format!("replication why db --at {at}")).assert().success();
    }
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
    a_death_is_waited_for(&fake);
    let refused = tanist(&fake, "agent confirm-dead h1").assert().code(1).get_output().clone();
    assert!(text(&refused.stderr).contains("--yes") && text(&refused.stderr).contains("the target is corrupted"));
    assert!(fake.asked("POST /agents/h1/confirm-dead").is_empty());
    tanist(&fake, "agent confirm-dead h1 --yes").assert().success();
    let seen = fake.asked("POST /agents/h1/confirm-dead").pop().unwrap();
    let expected =
        serde_json::json!({ "term": sample!("status")["term"], "processes": sample!("agents")[0]["unproven"] });
    assert_eq!(seen.body, expected, "the processes that the server showed, and no others");
}

fn a_death_is_waited_for(fake: &Fake) {
    fake.answer("GET /status", Answer::Json(200, sample!("status")));
    fake.answer("GET /agents", Answer::Json(200, sample!("agents")));
    fake.answer("POST /agents/h1/confirm-dead", Answer::Json(200, sample!("done")));
}

/// Commands that destroy something, and the request by which they do it.
const DESTRUCTIVE: [(&str, &str); 4] = [
    ("replication abort db", "POST /replications/db/abort"),
    ("replication delete db", "DELETE /replications/db"),
    ("agent remove h1", "DELETE /agents/h1"),
    ("replication create db --source a/x --target b/y --agents h1 --overwrite-target", "POST /replications"),
];

fn destroyable() -> Fake {
    let fake = Fake::start();
    fake.answer("GET /replications/db", Answer::Json(200, sample!("replication")))
        .answer("GET /agents", Answer::Json(200, sample!("agents")))
        .answer("POST /replications/check", Answer::Json(200, sample!("plan")));
    for (_, request) in DESTRUCTIVE {
        fake.answer(request, Answer::Json(200, sample!("done")));
    }
    fake
}

#[test]
fn a_script_is_never_asked() {
    let fake = destroyable();
    for (line, request) in DESTRUCTIVE {
        tanist(&fake, line).assert().success();
        assert_eq!(fake.asked(request).len(), 1, "{line}");
    }
}

#[test]
fn without_a_run_there_is_nothing_to_ask_before_it_is_given_up() {
    let fake = Fake::start();
    let mut idle = sample!("replication");
    idle["run"] = Value::Null;
    fake.answer("GET /replications/db", Answer::Json(200, idle))
        .answer("POST /replications/db/abort", Answer::Json(409, sample!("refusal")));
    let Some((done, shown)) = on_a_terminal(&fake, "replication abort db", "") else { return };
    assert!(!done && !shown.contains("[y/N]") && shown.contains("hint"), "{shown}");
}

/// What is typed on a terminal, and what it shows; none where the machine has no program that makes one.
fn on_a_terminal(fake: &Fake, line: &str, typed: &'static str) -> Option<(bool, String)> {
    let command = format!("{} {line}", assert_cmd::cargo::cargo_bin("tanist").display());
    let mut script = std::process::Command::new("script");
    script.args(["--quiet", "--return", "--command", &command, "/dev/null"]).env("TANIST_CONTEXT", fake.context_file());
    let output = Command::from_std(script).write_stdin(typed).output();
    match output {
        Ok(output) => Some((output.status.success(), text(&output.stdout))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            println!("skipped: util-linux's `script` makes the terminal, and it is not here");
            None
        }
        Err(error) => panic!("script: {error}"),
    }
}

#[test]
fn somebody_at_a_terminal_is_asked_and_no_is_the_default() {
    let fake = destroyable();
    for (line, request) in DESTRUCTIVE {
        let Some((done, shown)) = on_a_terminal(&fake, line, "\n") else { return };
        assert!(!done && shown.contains("[y/N]") && shown.contains("nothing was done"), "{line}: {shown}");
        assert!(fake.asked(request).is_empty(), "{line}");
        let (done, shown) = on_a_terminal(&fake, line, "y\n").unwrap();
        assert!(done, "{line}: {shown}");
        let (done, shown) = on_a_terminal(&fake, &format!("{line} --yes"), "").unwrap();
        assert!(done && !shown.contains("[y/N]"), "{line}: {shown}");
        assert_eq!(fake.asked(request).len(), 2, "{line}");
    }
}

#[test]
fn whoever_confirms_a_death_is_told_what_it_vouches_for() {
    let fake = Fake::start();
    a_death_is_waited_for(&fake);
    let Some((done, shown)) = on_a_terminal(&fake, "agent confirm-dead h1", "n\n") else { return };
    assert!(!done && shown.contains("process of agent h1 is gone or its host is powered off"), "{shown}");
    assert!(shown.contains("the target is corrupted"), "{shown}");
    assert!(fake.asked("POST /agents/h1/confirm-dead").is_empty());
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
