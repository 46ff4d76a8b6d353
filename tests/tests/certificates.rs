//! Certificates that live for seconds: they renew themselves at two thirds of their life, and nobody notices but the audit log.

use std::path::Path;
use std::time::Duration;

use tanist_model::api::{AgentView, Refusal, RefusalCode, WhoAmI};
use tanist_model::event::{Event, EventCode};
use tanist_model::time::Timestamp;
use tanist_tests::answer::Answer;
use tanist_tests::cluster::{Cluster, STARTUP};
use tanist_tests::scene::{RUN_LIMIT, Scene};
use tanist_tests::{build, signal, wait};

/// Long enough for a busy machine to renew in the last third of it.
const LIFETIME: Duration = Duration::from_secs(15);
/// What an agent that is taken for gone leaves in the audit log.
const TAKEN_FOR_GONE: [EventCode; 3] =
    [EventCode::AgentDisconnected, EventCode::AgentSuspected, EventCode::TakeoverCommitted];

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()))
}

fn certificate(folder: &Path) -> String {
    text(&folder.join("certificate.pem"))
}

fn renewals(cluster: &Cluster, agent: &str, since: Timestamp) -> Vec<Event> {
    let is_one = |event: &Event| {
        event.code == EventCode::CertificateRenewed
            && event.at >= since
            && event.agent.as_ref().is_some_and(|name| name.as_str() == agent)
    };
    cluster.events().into_iter().filter(is_one).collect()
}

fn wait_renewals(cluster: &Cluster, agent: &str, since: Timestamp, count: usize) {
    wait::until(&format!("agent {agent} has renewed its certificate {count} times"), LIFETIME * 4, || {
        (renewals(cluster, agent, since).len() >= count).then_some(())
    });
}

fn expiry(cluster: &Cluster, agent: &str) -> Timestamp {
    let is_it = |view: &AgentView| view.name.as_str() == agent;
    cluster.agents().into_iter().find(is_it).expect("a known agent").certificate_expires_at
}

fn log_in(cluster: &Cluster, ca_hash: &str) -> Answer {
    let context: toml::Table = text(&cluster.context()).parse().expect("a context");
    let credential = cluster.dir().join("credential");
    std::fs::write(&credential, context["credential"].as_str().expect("a credential")).expect("write it");
    let (server, file) = (cluster.server_address(), credential.display().to_string());
    let elsewhere = cluster.dir().join("elsewhere.toml");
    cluster.tanist_as(&elsewhere, &["login", &server, "--ca-hash", ca_hash, "--credential-file", &file])
}

#[test]
fn certificates_renew_themselves_under_a_run_and_nobody_is_taken_for_gone() {
    let mut cluster = Cluster::builder(build!()).agents(2).certificates_live(LIFETIME).start();
    let ca_hash = cluster.token("h9").ca_hash;
    let server_identity = Path::new(&cluster.server_folder()).join("identity");
    let folders = [server_identity, cluster.folder("h1").to_owned(), cluster.folder("h2").to_owned()];
    let scene = Scene::set(&cluster, "db", 96 << 20, 1, &["--limit", "4MiB/s"]);
    let (run, acting) = scene.run_until(&cluster, 5);
    let (since, epochs) = (signal::now(), cluster.show("db").epochs);
    let first = folders.each_ref().map(|folder| certificate(folder));
    let keys = folders.each_ref().map(|folder| text(&folder.join("key.pem")));
    let expired_by = ["h1", "h2"].map(|agent| expiry(&cluster, agent)).into_iter().max().expect("two agents");
    // The second renewal comes after the end of the certificate before the first.
    ["h1", "h2"].iter().for_each(|agent| wait_renewals(&cluster, agent, since, 2));
    wait::until("the first certificates have expired", LIFETIME * 2, || (signal::now() > expired_by).then_some(()));
    for ((folder, first), key) in folders.iter().zip(&first).zip(&keys) {
        assert_ne!(certificate(folder), *first, "{} holds the old certificate", folder.display());
        assert_eq!(text(&folder.join("key.pem")), *key, "a renewal keeps the key");
    }
    let told: Vec<Event> = cluster.events().into_iter().filter(|event| event.at >= since).collect();
    assert!(!told.iter().any(|event| TAKEN_FOR_GONE.contains(&event.code)), "{told:#?}");
    let view = cluster.show("db");
    assert_eq!((view.epochs, view.acting.map(|name| name.to_string())), (epochs, Some(acting)));
    // A new connection shows the certificate in force, on either side.
    let who: WhoAmI = log_in(&cluster, &ca_hash).body();
    assert_eq!(who.operator, "admin");
    cluster.kill_server();
    cluster.start_server();
    ["h1", "h2"].iter().for_each(|agent| cluster.wait_connected(agent));
    scene.wait_equal(&cluster, run);
    assert_eq!(cluster.show("db").epochs, epochs, "still the same epoch");
}

#[test]
fn an_agent_killed_at_each_renewal_is_welcome_after_its_first_certificate_expired() {
    let mut cluster = Cluster::builder(build!()).agents(1).certificates_live(LIFETIME).start();
    let (since, first) = (signal::now(), expiry(&cluster, "h1"));
    for count in 1..=2 {
        // Whether it has the new certificate, has stored it, or has shown it, is left to chance.
        wait_renewals(&cluster, "h1", since, count);
        let killed = cluster.kill("h1");
        cluster.start_agent("h1");
        cluster.wait_event(EventCode::AgentConnected, killed, STARTUP);
        cluster.wait_connected("h1");
    }
    assert!(signal::now() > first, "the second renewal comes after the end of the first certificate");
    assert!(!cluster.events().iter().any(|event| event.code == EventCode::ConnectionRefused));
}

#[test]
fn a_removed_agent_gets_no_certificate() {
    let cluster = Cluster::builder(build!()).agents(2).certificates_live(LIFETIME).start();
    cluster.tanist(&["agent", "remove", "h1"]).done();
    let (since, held) = (signal::now(), certificate(cluster.folder("h1")));
    // By then h1's was due as well.
    wait_renewals(&cluster, "h2", since, 2);
    assert!(renewals(&cluster, "h1", since).is_empty());
    assert_eq!(certificate(cluster.folder("h1")), held);
    let refused = cluster.wait_event(EventCode::ConnectionRefused, since, RUN_LIMIT);
    assert!(refused.message.contains("removed"), "{}", refused.message);
}

#[test]
fn a_wrong_authority_hash_is_refused_in_plain_words() {
    let cluster = Cluster::builder(build!()).agents(0).start();
    let token = cluster.token("h9");
    let mut wrong = token.ca_hash.clone();
    let last = if wrong.pop() == Some('0') { '1' } else { '0' };
    wrong.push(last);
    let told = |refusal: Refusal| {
        let cause = refusal.cause.expect("a cause");
        assert_eq!(
            cause.split_once(": ").map_or(cause.as_str(), |(_, rest)| rest),
            format!("it shows no authority with the hash {wrong}")
        );
        assert!(!refusal.error.contains('('), "{}", refusal.error);
        assert!(refusal.hint.expect("a hint").contains("compare the address and --ca-hash"));
    };
    let folder = cluster.dir().join("wrong");
    told(cluster.join_with(&token.token, &wrong, &folder).refused(RefusalCode::Unauthorized));
    told(log_in(&cluster, &wrong).refused(RefusalCode::Unauthorized));
    cluster.join_with(&token.token, &token.ca_hash, &folder).done();
}
