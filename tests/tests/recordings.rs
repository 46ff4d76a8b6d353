//! What a server and its agents recorded of a takeover, replayed: every decision comes out again; a changed byte, and a server that did
//! not keep to the rules, are found.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use tanist_model::event::EventCode;
use tanist_recording::bundle::Bundle;
use tanist_recording::replay::{Replayed, Step, replay};
use tanist_recording::{Folder, unpacked};
use tanist_tests::build;
use tanist_tests::cluster::Cluster;
use tanist_tests::random::Random;
use tanist_tests::scene::Scene;

const AGENTS: [&str; 3] = ["h1", "h2", "h3"];
/// A word of the operator's that is nobody else's business.
const PLANTED: &str = "planted-in-an-address-of-a-webhook";

fn bundle(cluster: &Cluster, name: &str, more: &[&str]) -> PathBuf {
    let file = cluster.dir().join(format!("{name}.tar.gz"));
    let path = file.to_str().expect("a path in UTF-8");
    cluster.tanist(&[&["support", "bundle", path], more].concat()).done();
    file
}

fn of_server(cluster: &Cluster) -> PathBuf {
    bundle(cluster, "server", &[])
}

fn of_agent(cluster: &Cluster, name: &str) -> PathBuf {
    let folder = cluster.folder(name).display().to_string();
    bundle(cluster, name, &["--agent", "--dir", &folder])
}

/// What a replay found, and everything that was decided.
fn replayed(file: &Path) -> (Replayed, String) {
    let bundle = Bundle::read(File::open(file).unwrap()).unwrap();
    let mut decided = String::new();
    let mut watch = |step: Step<'_>| decided.push_str(step.output.unwrap_or_default());
    let found = replay(bundle.segments(), env!("CARGO_PKG_VERSION"), Default::default(), &mut watch).unwrap();
    (found, decided)
}

/// A takeover by a kill in the middle of a run.
fn take_over(cluster: &mut Cluster, random: &mut Random) -> Scene {
    let scene = Scene::set(cluster, "db", 64 << 20, random.number(), &["--limit", "32MiB/s"]);
    let (run, acting) = scene.run_until(cluster, 20);
    cluster.kill(&acting);
    scene.wait_equal(cluster, run);
    cluster.start_agent(&acting);
    scene.wait_whole(cluster);
    scene
}

#[test]
fn a_takeover_is_replayed_from_the_bundles_of_all_who_took_part() {
    let mut random = Random::seeded("recordings");
    let mut cluster = Cluster::builder(build!()).server_config(&alarm()).start();
    let token = cluster.token("h9").token;
    take_over(&mut cluster, &mut random);
    cluster.kill_server();
    cluster.start_server();
    for agent in AGENTS {
        cluster.wait_connected(agent);
    }

    let server = of_server(&cluster);
    let (found, decided) = replayed(&server);
    assert_eq!(found.divergence, None);
    assert!(found.segments == 2 && found.lost == 0 && found.inputs > 100, "{found:?}");
    let takeover = format!("\"{}\"", EventCode::TakeoverCommitted.code());
    assert!(decided.contains(&takeover), "the takeover is among the decisions");
    for agent in AGENTS {
        let (found, decided) = replayed(&of_agent(&cluster, agent));
        assert_eq!(found.divergence, None, "{agent}");
        assert!(found.inputs > 20 && decided.contains("heartbeat"), "{agent}: {found:?}");
    }
    assert_no_secret(&cluster, &token);
    assert_changes_are_found(&server);
}

/// The recording of a server that chooses a successor against the ranks: this program, which keeps to them, decides otherwise.
#[test]
fn a_server_that_broke_a_rule_is_found_by_a_replay() {
    let mut random = Random::seeded("recordings");
    let mut cluster = Cluster::builder(build!()).server_without("RankIgnored").start();
    take_over(&mut cluster, &mut random);
    let (found, _) = replayed(&of_server(&cluster));
    let divergence = found.divergence.expect("something else is decided");
    assert_ne!(divergence.recorded, divergence.replayed);
}

fn alarm() -> String {
    format!("\n[[alarm]]\nname = 'chat'\ncodes = ['T403']\n[alarm.webhook]\nurl = 'https://127.0.0.1:1/{PLANTED}'\n")
}

/// In the bundles and in what lies on disk: no token, no credential, no key, nothing that was planted.
fn assert_no_secret(cluster: &Cluster, token: &str) {
    let context: toml::Table = toml::from_str(&fs::read_to_string(cluster.context()).unwrap()).unwrap();
    let credential = context["credential"].as_str().unwrap().to_owned();
    let secrets = [token, &credential, PLANTED, "PRIVATE KEY"];
    let server = Path::new(&cluster.server_folder()).to_owned();
    let folders = AGENTS.iter().map(|agent| cluster.folder(agent).to_owned()).chain([server]);
    for folder in folders {
        for segment in Folder::of(&folder).segments().unwrap() {
            assert_free_of(&secrets, &segment.path.display().to_string(), File::open(&segment.path).unwrap());
        }
    }
    for bundle in AGENTS.iter().chain(&["server"]) {
        let file = cluster.dir().join(format!("{bundle}.tar.gz"));
        Bundle::each_file(File::open(file).unwrap(), |path, bytes| assert_free_of(&secrets, path, bytes)).unwrap();
    }
}

fn assert_free_of(secrets: &[&str], place: &str, bytes: impl Read) {
    let mut text = Vec::new();
    unpacked(bytes).unwrap().read_to_end(&mut text).unwrap();
    let text = String::from_utf8_lossy(&text);
    for secret in secrets {
        assert!(!text.contains(secret), "{place} has {secret}");
    }
}

/// A byte anywhere in a bundle.
fn assert_changes_are_found(file: &Path) {
    let bytes = fs::read(file).unwrap();
    for place in [bytes.len() / 4, bytes.len() / 2, bytes.len() - 20] {
        let mut changed = bytes.clone();
        changed[place] ^= 1;
        assert!(Bundle::read(changed.as_slice()).is_err(), "byte {place}");
    }
}
