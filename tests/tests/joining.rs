//! Who may take part: one-time tokens, the right authority, and what becomes of an agent that is removed.

use std::time::Duration;

use tanist_model::api::{AgentView, RefusalCode, WhoAmI};
use tanist_model::event::EventCode;
use tanist_tests::cluster::Cluster;
use tanist_tests::scene::{RUN_LIMIT, Scene};
use tanist_tests::{build, signal, wait};

const SOON: Duration = Duration::from_secs(20);

#[test]
fn a_token_works_once_and_only_for_the_right_authority() {
    let cluster = Cluster::builder(build!()).agents(0).start();
    let token = cluster.token("h9");
    let wrong = "0".repeat(token.ca_hash.len());
    let refused = cluster.join_with(&token.token, &wrong, &cluster.dir().join("wrong"));
    assert_eq!(refused.status, 1, "{refused}");
    assert!(!cluster.dir().join("wrong").join("agent.toml").exists());
    // The token went to nobody else, so it still works; then it does not.
    cluster.join_with(&token.token, &token.ca_hash, &cluster.dir().join("first")).done();
    let since = signal::now();
    cluster.join_with(&token.token, &token.ca_hash, &cluster.dir().join("second")).refused(RefusalCode::Forbidden);
    assert!(!cluster.dir().join("second").join("agent.toml").exists());
    let told = cluster.wait_event(EventCode::JoinRefused, since, SOON);
    assert!(told.message.contains("used"), "{}", told.message);
    let made_up = format!("tjt_{}", "5".repeat(token.token.len() - 4));
    cluster.join_with(&made_up, &token.ca_hash, &cluster.dir().join("third")).refused(RefusalCode::Forbidden);
}

#[test]
fn an_agent_of_another_cluster_is_turned_away() {
    let (ours, mut theirs) =
        (Cluster::builder(build!()).agents(0).start(), Cluster::builder(build!()).agents(1).start());
    theirs.kill("h1");
    let config = theirs.folder("h1").join("agent.toml");
    let text = std::fs::read_to_string(&config).expect("read an agent's configuration");
    std::fs::write(&config, text.replace(&theirs.server_address(), &ours.server_address())).expect("change it");
    theirs.start_agent("h1");
    let told = wait::until("the agent knows that this is not its server", SOON, || {
        let log = std::fs::read_to_string(theirs.agent("h1").log()).unwrap_or_default();
        log.lines().rev().find(|line| line.contains("not issued by this installation's authority")).map(str::to_owned)
    });
    assert!(told.contains("join again"), "it says what to do: {told}");
    assert!(ours.agents().is_empty());
}

#[test]
fn a_removed_agent_is_refused_at_once_and_its_work_goes_to_another() {
    let cluster = Cluster::builder(build!()).agents(2).start();
    let scene = Scene::set(&cluster, "db", 64 << 20, 1, &["--limit", "16MiB/s"]);
    let (run, acting) = scene.run_until(&cluster, 20);
    let since = signal::now();
    cluster.tanist(&["agent", "remove", &acting]).done();
    let removed = |agent: &AgentView| agent.name.as_str() == acting && agent.removed && !agent.connected;
    wait::until("the removed agent is disconnected", SOON, || cluster.agents().iter().any(removed).then_some(()));
    cluster.wait_event(EventCode::AgentRemoved, since, SOON);
    let told = cluster.wait_event(EventCode::ConnectionRefused, since, SOON);
    assert!(told.agent.is_some_and(|agent| agent.as_str() == acting), "{}", told.message);
    scene.wait_equal(&cluster, run);
    assert_ne!(scene.acting(&cluster), acting);
    // The same name again, by a new token.
    let token = cluster.token(&acting);
    cluster.join_with(&token.token, &token.ca_hash, &cluster.dir().join("again")).done();
}

#[test]
fn an_operator_works_from_another_machine() {
    let cluster = Cluster::builder(build!()).agents(0).start();
    let ca_hash = cluster.token("h1").ca_hash;
    let text = std::fs::read_to_string(cluster.context()).expect("the first operator's context");
    let context: toml::Table = text.parse().expect("a context");
    let credential = cluster.dir().join("credential");
    std::fs::write(&credential, context["credential"].as_str().expect("a credential")).expect("write it");
    let elsewhere = cluster.dir().join("elsewhere.toml");
    let server = cluster.server_address();
    let file = credential.display().to_string();
    let login = |hash: &str, file: &str| {
        cluster.tanist_as(&elsewhere, &["login", &server, "--ca-hash", hash, "--credential-file", file])
    };
    assert_eq!(login(&"0".repeat(ca_hash.len()), &file).status, 1);
    let stranger = cluster.dir().join("stranger");
    std::fs::write(&stranger, format!("tcr_{}", "7".repeat(64))).expect("write a wrong credential");
    login(&ca_hash, &stranger.display().to_string()).refused(RefusalCode::Unauthorized);
    assert_eq!(cluster.tanist_as(&elsewhere, &["status"]).status, 3, "nothing was stored");
    let who: WhoAmI = login(&ca_hash, &file).body();
    assert_eq!(who.operator, "admin");
    wait::until("the status from elsewhere", RUN_LIMIT, || {
        (cluster.tanist_as(&elsewhere, &["status"]).status == 0).then_some(())
    });
}
