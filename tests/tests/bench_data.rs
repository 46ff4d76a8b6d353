//! `tanist bench data`: it says what a host can do, reads only, and overwrites nothing that anybody needs.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};

use serde_json::Value;
use tanist_model::api::RefusalCode;
use tanist_tests::cluster::{Cluster, SOURCES, TARGETS};
use tanist_tests::compare::fingerprint;
use tanist_tests::scene::Scene;
use tanist_tests::{build, volume};

const SIZE: u64 = (24 << 20) + 4096;
/// Little of everything: what is tested is what is measured, and not how fast it is.
const BOUNDS: [&str; 4] = ["--seconds", "1", "--bytes", "16MiB"];

/// The command line for the host of an agent.
fn on(cluster: &Cluster, agent: &str, volume: &str, more: &[&str]) -> Vec<String> {
    let folder = cluster.folder(agent).display().to_string();
    let line = ["bench", "data", volume, "--dir", &folder];
    line.iter().chain(&BOUNDS).chain(more).map(|word| (*word).to_owned()).collect()
}

fn words(line: &[String]) -> Vec<&str> {
    line.iter().map(String::as_str).collect()
}

/// The stages that were measured; each of them has moved something in some time.
fn stages(report: &Value) -> Vec<&str> {
    let stages = report["stages"].as_array().expect("stages");
    assert!(stages.iter().all(|stage| stage["bytes_per_second"].as_u64().is_some_and(|rate| rate > 0)), "{report}");
    stages.iter().filter_map(|stage| stage["stage"].as_str()).collect()
}

fn modified(file: &Path) -> std::time::SystemTime {
    std::fs::metadata(file).and_then(|file| file.modified()).expect("a file has a time")
}

#[test]
fn a_volume_is_measured_and_left_as_it_is() {
    let cluster = Cluster::builder(build!()).agents(1).start();
    let scene = Scene::set_noise(&cluster, "db", SIZE, 71, &[]);
    let before = (fingerprint(&scene.source), modified(&scene.source));
    let report: Value = cluster.tanist(&words(&on(&cluster, "h1", "san-a/db", &[]))).body();
    assert_eq!(stages(&report), ["source", "encode", "network"]);
    let rate = |stage: &Value| stage["bytes_per_second"].as_u64();
    let slowest = report["stages"].as_array().and_then(|all| all.iter().min_by_key(|stage| rate(stage)));
    let slowest = slowest.expect("a slowest stage");
    assert_eq!((&report["limit"], rate(&report)), (&slowest["stage"], rate(slowest)));
    assert_eq!((fingerprint(&scene.source), modified(&scene.source)), before);
    // It stood in nobody's way: the source is still the sealed one.
    scene.run(&cluster);
}

#[test]
fn a_scratch_volume_is_overwritten_and_what_anybody_needs_is_not() {
    let cluster = Cluster::builder(build!()).agents(1).start();
    let scene = Scene::set_noise(&cluster, "db", SIZE, 72, &[]);
    scene.run(&cluster);
    let kept = fingerprint(&scene.target);
    let bench = |scratch: &str, destroy: &str| {
        let line = on(&cluster, "h1", "san-a/db", &["--write-scratch", scratch, "--destroy", destroy]);
        cluster.tanist(&words(&line))
    };
    let free = format!("{TARGETS}/free");
    volume::make_noise(&cluster.file(&free), SIZE, 73);
    let held = fingerprint(&cluster.file(&free));
    for (scratch, destroy, code, part) in [
        ("san-b/db", "san-b/db", RefusalCode::Conflict, "the target of the replication db"),
        ("san-a/db", "san-a/db", RefusalCode::Conflict, "the source of the replication db"),
        (&free, "san-b/db", RefusalCode::Invalid, "--destroy names another volume"),
    ] {
        let refusal = bench(scratch, destroy).refused(code);
        assert!(refusal.cause.as_deref().is_some_and(|cause| cause.contains(part)), "{refusal:?}");
    }
    let alone = on(&cluster, "h1", "san-a/db", &["--write-scratch", &free]);
    assert_eq!(cluster.tanist(&words(&alone)).status, 2, "it has to be named twice");
    assert_eq!((fingerprint(&scene.target), fingerprint(&cluster.file(&free))), (kept, held));
    scene.assert_equal();

    let report: Value = bench(&free, &free).body();
    assert_eq!(stages(&report), ["source", "encode", "network", "target"]);
    assert_ne!(fingerprint(&cluster.file(&free)), held);
    assert_eq!(std::fs::metadata(cluster.file(&free)).expect("the scratch volume").len(), SIZE);
}

/// The other end of a link; it goes when this does.
struct Sink {
    process: Child,
    /// Open as long as it may speak.
    _words: BufReader<ChildStderr>,
}

impl Sink {
    /// And the words with which it is reached.
    fn start(cluster: &Cluster, agent: &str) -> (Self, String) {
        let mut command = Command::new(cluster.command(&[]).get_program());
        command.args(["bench", "sink", "--listen", "127.0.0.1:0", "--dir"]).arg(cluster.folder(agent));
        let mut process = command.stderr(Stdio::piped()).spawn().expect("start a sink");
        let (mut words, mut line) = (BufReader::new(process.stderr.take().expect("its words")), String::new());
        words.read_line(&mut line).expect("a line");
        let (_, place) = line.trim().rsplit_once(' ').expect("where it is");
        (Self { process, _words: words }, place.replace("HOST", "127.0.0.1"))
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn the_link_to_another_host_is_measured_by_what_came() {
    let cluster = Cluster::builder(build!()).agents(2).start();
    volume::make_noise(&cluster.file(&format!("{SOURCES}/any")), SIZE, 74);
    let (_sink, place) = Sink::start(&cluster, "h2");
    let to = |place: &str| cluster.tanist(&words(&on(&cluster, "h1", "san-a/any", &["--to", place, "--streams", "3"])));
    let report: Value = to(&place).body();
    let network = report["stages"].as_array().and_then(|all| all.iter().find(|stage| stage["stage"] == "network"));
    let network = network.expect("the network");
    assert!(network["what"].as_str().is_some_and(|what| what.contains("3 streams to h2 at")), "{network}");
    assert!(network["bytes"].as_u64().is_some_and(|bytes| bytes >= 16 << 20), "{network}");
    to(&place.replace("h2=", "h1=")).refused(RefusalCode::Unavailable);
}
