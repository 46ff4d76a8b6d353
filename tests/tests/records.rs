//! The signed record of a takeover, as somebody has it who was not there: checked without a server, refused when a byte is altered or
//! another installation is trusted, and as good after the server's certificate was renewed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tanist_model::api::{Refusal, RefusalCode, WhyView};
use tanist_model::takeover::{Ending, TakeoverStatement};
use tanist_tests::answer::Answer;
use tanist_tests::cluster::Cluster;
use tanist_tests::random::Random;
use tanist_tests::scene::{RUN_LIMIT, Scene};
use tanist_tests::{build, wait};

/// Altered bytes that are tried; the tests of the format try them all.
const ALTERED: usize = 12;
/// Long enough for a busy machine to renew in the last third of it.
const LIFETIME: Duration = Duration::from_secs(15);

/// What `verify-record` answers, as far as it is looked at here.
#[derive(serde::Deserialize)]
struct Verified {
    verified: bool,
    checked: Vec<String>,
    statement: TakeoverStatement,
}

fn authority(server_folder: &str) -> String {
    Path::new(server_folder).join("ca/ca.pem").display().to_string()
}

/// Prints the last record, or that of an epoch, into a file.
fn print(cluster: &Cluster, scene: &Scene, epoch: &[&str]) -> PathBuf {
    let file = cluster.dir().join(format!("record-{}.json", epoch.concat()));
    let answer = cluster.tanist(&[&["replication", "record", &scene.name], epoch].concat());
    answer.done();
    std::fs::write(&file, &answer.stdout).expect("keep the record");
    file
}

/// Somebody without a context, who trusts this authority.
fn verify(cluster: &Cluster, file: &Path, authority: &str) -> Answer {
    let nobody = cluster.dir().join("no-context.toml");
    cluster.tanist_as(&nobody, &["verify-record", &file.display().to_string(), "--authority", authority])
}

#[test]
fn a_record_is_evidence_without_the_server_and_none_with_a_byte_altered() {
    let mut random = Random::seeded("records");
    let mut cluster = Cluster::builder(build!()).start();
    let scene = Scene::set(&cluster, "db", 64 << 20, random.number(), &["--limit", "32MiB/s"]);
    let (run, acting) = scene.run_until(&cluster, 20);
    cluster.kill(&acting);
    scene.wait_equal(&cluster, run);
    let file = print(&cluster, &scene, &[]);
    let first = print(&cluster, &scene, &["1"]);
    let listed: WhyView = cluster.tanist(&["replication", "takeovers", &scene.name]).body();
    cluster.tanist(&["replication", "record", &scene.name, "99"]).refused(RefusalCode::NotFound);
    let trusted = authority(&cluster.server_folder());
    let other = another_installation(&cluster);
    cluster.kill_server();

    let verified: Verified = verify(&cluster, &file, &trusted).body();
    let TakeoverStatement { takeover, ending, .. } = verified.statement;
    assert!(verified.verified && verified.checked.len() >= 6, "{:?}", verified.checked);
    assert_eq!((takeover.from.as_ref().map(ToString::to_string), takeover.run), (Some(acting), Some(run)));
    assert_eq!((ending, &takeover), (Ending::Complete, &listed.takeovers[0]));
    verify(&cluster, &first, &trusted).done();

    let stranger = verify(&cluster, &file, &other).refused(RefusalCode::Invalid);
    assert!(says(&stranger, "is trusted here", "--authority"), "{stranger:?}");
    let unsaid = cluster.tanist_as(&cluster.dir().join("no-context.toml"), &["verify-record", &path(&file)]);
    assert!(says(&unsaid.refused(RefusalCode::Invalid), "not logged in", "--ca-hash"));
    for _ in 0..ALTERED {
        let refusal = altered(&cluster, &file, &trusted, &mut random).refused(RefusalCode::Invalid);
        assert!(refusal.cause.is_some() && refusal.hint.is_some(), "{refusal:?}");
    }
}

#[test]
fn a_record_outlives_the_certificate_of_its_server() {
    let cluster = Cluster::builder(build!()).agents(1).certificates_live(LIFETIME).start();
    let scene = Scene::set(&cluster, "db", 1 << 20, 1, &[]);
    scene.run(&cluster);
    let file = print(&cluster, &scene, &[]);
    let certificate = || std::fs::read(Path::new(&cluster.server_folder()).join("identity/certificate.pem")).ok();
    let signed_under = certificate().expect("the server has a certificate");
    wait::until("the server has renewed its certificate", RUN_LIMIT, || (certificate()? != signed_under).then_some(()));
    verify(&cluster, &file, &authority(&cluster.server_folder())).done();
}

fn path(file: &Path) -> String {
    file.display().to_string()
}

fn says(refusal: &Refusal, cause: &str, hint: &str) -> bool {
    let has = |text: &Option<String>, part| text.as_ref().is_some_and(|text| text.contains(part));
    has(&refusal.cause, cause) && has(&refusal.hint, hint)
}

/// The authority of a server that was set up elsewhere.
fn another_installation(cluster: &Cluster) -> String {
    let folder = cluster.dir().join("elsewhere");
    let context = cluster.dir().join("elsewhere.toml");
    cluster.tanist_as(&context, &["server", "init", "--dir", &path(&folder), "--listen", "127.0.0.1:7420"]).done();
    authority(&path(&folder))
}

/// One byte of the document is another one.
fn altered(cluster: &Cluster, file: &Path, trusted: &str, random: &mut Random) -> Answer {
    let mut bytes = std::fs::read(file).expect("read the record");
    let position = usize::try_from(random.between(0, bytes.len() as u64 - 1)).expect("a short file");
    bytes[position] ^= 1 << random.between(0, 7);
    let file = cluster.dir().join("altered.json");
    std::fs::write(&file, bytes).expect("write the altered record");
    verify(cluster, &file, trusted)
}
