//! A declaration is applied to a real server: shown first, carried out in order, and nothing the second time.

use serde_json::Value;
use tanist_model::api::{RefusalCode, ReplicationView};
use tanist_tests::cluster::Cluster;
use tanist_tests::{build, volume};

const SIZE: u64 = 4 << 20;

fn declaration(rpo: &str, second: &str) -> String {
    let replication = |name: &str, more: &str| {
        format!(
            "[[replication]]\nname = '{name}'\nsource = 'san-a/{name}'\ntarget = 'san-b/{name}'\nagents = ['h1', 'h2']\n\
             source_mode = 'sealed'\n{more}\n"
        )
    };
    let storage = "[[storage]]\nname = 'san-a'\nagents = ['h1', 'h2']\n";
    format!("{storage}{}{}", replication("one", &format!("rpo = '{rpo}'")), replication(second, ""))
}

#[test]
fn what_is_declared_comes_about_once() {
    let cluster = Cluster::builder(build!()).agents(2).start();
    for name in ["one", "two", "three"] {
        volume::make(&cluster.file(&format!("san-a/{name}")), SIZE, 1);
        drop(volume::blank(&cluster.file(&format!("san-b/{name}")), SIZE));
    }
    let file = cluster.dir().join("replications.toml");
    let path = file.display().to_string();
    let apply = |text: &str, more: &[&str]| {
        std::fs::write(&file, text).expect("write a declaration");
        cluster.tanist(&[&["apply", "-f", &path], more].concat())
    };
    let first = declaration("15m", "two");
    let shown = apply(&first, &["--check"]);
    assert_eq!(shown.status, 1, "{shown}");
    assert_eq!(shown.any_body::<Value>()["to_do"].as_array().map(Vec::len), Some(2), "{shown}");
    assert!(cluster.tanist(&["replication", "list"]).body::<Vec<ReplicationView>>().is_empty(), "--check does nothing");
    apply(&first, &[]).refused(RefusalCode::Invalid);

    let done: Value = apply(&first, &["--yes"]).body();
    assert_eq!(done["done"].as_array().map(Vec::len), Some(2), "{done}");
    let again: Value = apply(&first, &["--check"]).body();
    assert_eq!(
        (again["to_do"].as_array().map(Vec::len), again["unchanged"].as_array().map(Vec::len)),
        (Some(0), Some(2))
    );

    // Another RPO for the first, the second replaced by a third.
    let second = declaration("20m", "three");
    let done: Value = apply(&second, &["--yes", "--prune"]).body();
    assert_eq!(done["done"].as_array().map(Vec::len), Some(3), "{done}");
    assert_eq!(cluster.show("one").policy.rpo_seconds, Some(1200));
    assert_eq!(cluster.show("three").policy.rpo_seconds, None);

    // What the server would refuse is known before anything is done.
    let impossible = declaration("30m", "nowhere");
    let shown = apply(&impossible, &["--yes"]);
    assert_eq!(shown.status, 1, "{shown}");
    let obstacles = shown.any_body::<Value>()["obstacles"].to_string();
    assert!(obstacles.contains("replication nowhere cannot be created"), "{obstacles}");
    assert_eq!(cluster.show("one").policy.rpo_seconds, Some(1200), "nothing was done");
}
