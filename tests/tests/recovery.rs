//! Recovery points after their publication: restored, retained, pinned. What is restored is compared with what the source was.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use tanist_model::api::{RecoveryPointView, Refusal, RefusalCode, ReplicationView};
use tanist_model::event::EventCode;
use tanist_model::recovery_point::RecoveryPointPlace;
use tanist_model::run::RunState;
use tanist_tests::cluster::{Cluster, SOURCES};
use tanist_tests::compare::{self, fingerprint};
use tanist_tests::mounted::{Mounted, XFS};
use tanist_tests::scene::{RUN_LIMIT, Scene};
use tanist_tests::{build, volume, wait};

const SIZE: u64 = 24 << 20;
/// Two seconds a restore, so that it has a middle.
const RATE: &str = "12MiB/s";
/// Removals are orders to an agent.
const ORDER_LIMIT: Duration = Duration::from_secs(20);

/// A blank volume beside the source.
fn beside(cluster: &Cluster, name: &str) -> (String, PathBuf) {
    let address = format!("{SOURCES}/{name}");
    let path = cluster.file(&address);
    volume::blank(&path, SIZE);
    (address, path)
}

fn points(cluster: &Cluster) -> Vec<RecoveryPointView> {
    cluster.tanist(&["recovery-point", "list", "db"]).body()
}

/// The restore in progress, once it has passed so much.
fn restoring(cluster: &Cluster, bytes: u64) -> ReplicationView {
    wait::until("a restore is in its middle", RUN_LIMIT, || {
        let all: Vec<ReplicationView> = cluster.tanist(&["replication", "list"]).body();
        let restore = all.into_iter().find(|view| view.name.as_str().starts_with("restore-"))?;
        restore.run.as_ref().is_some_and(|run| run.done_bytes >= bytes).then_some(restore)
    })
}

/// The target itself holds the last point: the restore reads it, and the next run waits until that has ended.
#[test]
fn the_last_point_is_restored_although_its_agent_is_killed_and_a_run_waits() {
    let mut cluster = Cluster::builder(build!()).start();
    let scene = Scene::set_noise(&cluster, "db", SIZE, 1, &[]);
    scene.run(&cluster);
    let published = fingerprint(&scene.target);
    let (to, restored) = beside(&cluster, "restored");
    let mut command = cluster.command(&["restore", "db", "--to", &to, "--limit", RATE]);
    let restore = command.stdout(Stdio::null()).spawn().expect("start a restore");
    let view = restoring(&cluster, SIZE / 4);
    // The source has moved on; a run that began now would change what is being read.
    volume::renew(&scene.source, 2);
    let run = scene.sync(&cluster);
    let waits = cluster.show("db").waits_for.unwrap_or_default();
    assert!(waits.contains(view.name.as_str()), "{waits}");
    cluster.tanist(&["replication", "delete", "db"]).refused(RefusalCode::Conflict);
    let acting = view.acting.expect("somebody acts").to_string();
    cluster.kill(&acting);

    let ended = restore.wait_with_output().expect("the end of a restore");
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    assert_eq!(fingerprint(&restored), published);
    // The run that waited goes on by itself, under the agent that has taken over here as well.
    cluster.start_agent(&acting);
    assert_eq!(scene.wait_ended(&cluster, run).state, RunState::Published);
    scene.assert_equal();
}

#[test]
fn a_source_is_restored_in_place_while_its_replication_is_paused() {
    let cluster = Cluster::builder(build!()).start();
    let scene = Scene::set(&cluster, "db", SIZE, 1, &[]);
    scene.run(&cluster);
    let published = fingerprint(&scene.source);
    volume::renew(&scene.source, 7);
    let source = format!("{SOURCES}/db");
    let back = ["restore", "db", "--to", &source, "--overwrite-target"];
    let refusal = cluster.tanist(&back).refused(RefusalCode::Conflict);
    assert_eq!(refusal.hint.as_deref(), Some("tanist replication pause db"));
    cluster.tanist(&["replication", "pause", "db"]).done();
    cluster.tanist(&back).done();
    assert_eq!(fingerprint(&scene.source), published);
    cluster.tanist(&["replication", "resume", "db"]).done();
    scene.run(&cluster);
}

/// Exports `last` to `out` as one who reaches the storage systems of `agent`.
fn export(cluster: &Cluster, agent: &str, out: &Path, more: &[&str]) -> Command {
    let (out, folder) = (out.display().to_string(), cluster.dir().join(agent).display().to_string());
    cluster.command(&[&["recovery-point", "export", "db", "last", &out, "--dir", &folder][..], more].concat())
}

fn refused(output: &Output) -> Refusal {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn a_point_becomes_a_file_although_every_agent_dies_and_a_killed_export_leaves_none() {
    let mut cluster = Cluster::builder(build!()).agents(2).start();
    let scene = Scene::set(&cluster, "db", SIZE, 1, &[]);
    scene.run(&cluster);
    let out = cluster.dir().join("db.img");
    let partial = cluster.dir().join("db.img.partial");
    let slowly = ["--limit", RATE];
    // Half written: nothing that looks whole, neither now nor after the death of the command.
    let mut killed = export(&cluster, "h1", &out, &slowly).stdout(Stdio::null()).spawn().expect("start an export");
    wait::until("an export is in its middle", RUN_LIMIT, || {
        (partial.exists() && compare::stored_bytes(&partial, 0, SIZE) > SIZE / 16).then_some(())
    });
    assert!(!out.exists());
    let busy = refused(&export(&cluster, "h2", &out, &[]).output().expect("run an export"));
    assert!(busy.cause.is_some_and(|cause| cause.contains("another export")), "one at a time");
    killed.kill().expect("kill an export");
    killed.wait().expect("the end of an export");
    assert!(!out.exists() && partial.exists());

    let going = export(&cluster, "h1", &out, &slowly).stdout(Stdio::null()).spawn().expect("start an export");
    wait::until("an export is in its middle again", RUN_LIMIT, || {
        (compare::stored_bytes(&partial, 0, SIZE) > SIZE / 16).then_some(())
    });
    cluster.kill("h1");
    cluster.kill("h2");
    let ended = going.wait_with_output().expect("the end of an export");
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    assert_eq!(fingerprint(&out), fingerprint(&scene.source));
    assert!(compare::stored_bytes(&out, 0, SIZE) < SIZE, "holes stay holes");
    assert!(!partial.exists());

    let twice = refused(&export(&cluster, "h1", &out, &[]).output().expect("run an export"));
    assert_eq!(twice.code, RefusalCode::Conflict, "{twice:?}");
    // What is not any more what was published becomes no file, not even in place of another.
    volume::mutate(&scene.target, 5);
    let before = fingerprint(&out);
    let rotten = refused(&export(&cluster, "h1", &out, &["--force"]).output().expect("run an export"));
    assert!(rotten.cause.is_some_and(|cause| cause.contains("digest")), "it says why");
    assert_eq!(fingerprint(&out), before);
    assert!(!partial.exists());
}

#[test]
fn a_host_that_does_not_reach_the_target_says_who_does() {
    let cluster = Cluster::builder(build!()).reach(&[&["san-a"], &["san-b"]]).start();
    let scene = Scene::set(&cluster, "db", SIZE, 1, &[]);
    scene.run(&cluster);
    let out = cluster.dir().join("db.img");
    let refusal = refused(&export(&cluster, "h1", &out, &[]).output().expect("run an export"));
    assert!(refusal.hint.is_some_and(|hint| hint.contains("on the host of h2")), "it names the agent");
    let exported = export(&cluster, "h2", &out, &[]).output().expect("run an export");
    assert!(exported.status.success(), "{}", String::from_utf8_lossy(&exported.stderr));
    assert_eq!(fingerprint(&out), fingerprint(&scene.source));
}

/// Needs reflinks: there every point but the last is a target snapshot.
#[test]
fn every_point_is_restorable_until_the_retention_takes_it_and_a_pinned_one_stays() {
    let build = build!();
    let mounted = match Mounted::new(std::path::Path::new(build.scratch), XFS, 512 << 20) {
        Ok(mounted) => mounted,
        Err(reason) => return println!("skipped: recovery points on XFS: {reason}"),
    };
    let cluster = Cluster::builder(build).storage_place(&mounted.path).start();
    let scene = Scene::at(&cluster, "db", SIZE);
    volume::make_noise(&scene.source, SIZE, 1);
    scene.create_as_typed(&cluster, &["--keep", "last=3"]);
    let mut published = Vec::new();
    for seed in 10..13 {
        volume::mutate(&scene.source, seed);
        scene.run(&cluster);
        published.push(fingerprint(&scene.source));
    }
    volume::renew(&scene.source, 99);
    for (point, bytes) in points(&cluster).iter().rev().zip(&published) {
        let (to, restored) = beside(&cluster, &format!("of-{}", point.run));
        cluster.tanist(&["restore", "db", "--point", &point.run.to_string(), "--to", &to]).done();
        assert_eq!(fingerprint(&restored), *bytes, "{point:?}");
        std::fs::remove_file(restored).expect("remove what was restored");
        let out = cluster.dir().join(format!("of-{}.img", point.run));
        let (file, folder) = (out.display().to_string(), cluster.dir().join("h1").display().to_string());
        let which = point.run.to_string();
        cluster.tanist(&["recovery-point", "export", "db", &which, &file, "--dir", &folder]).done();
        assert_eq!(fingerprint(&out), *bytes, "{point:?}");
    }

    let oldest = points(&cluster).pop().expect("a point");
    cluster.tanist(&["recovery-point", "pin", "db", &oldest.run.to_string()]).done();
    cluster.tanist(&["replication", "set", "db", "--keep", "last=1"]).done();
    scene.run(&cluster);
    let held = wait::until("only the pinned and the last one are held", ORDER_LIMIT, || {
        let held = points(&cluster).into_iter().filter(|point| point.place != RecoveryPointPlace::Gone);
        Some(held.collect::<Vec<_>>()).filter(|held| held.len() == 2)
    });
    assert!(held.iter().any(|point| point.run == oldest.run && point.pinned), "{held:#?}");
    let (to, restored) = beside(&cluster, "pinned");
    cluster.tanist(&["restore", "db", "--point", &oldest.run.to_string(), "--to", &to]).done();
    assert_eq!(fingerprint(&restored), published[0]);

    // Bytes that are no more what was published are not restored silently.
    let snapshots = cluster.file("san-b").join(".tanist");
    let file = std::fs::read_dir(&snapshots).expect("list snapshots").flatten().map(|entry| entry.path());
    let kept: Vec<PathBuf> = file.collect();
    assert_eq!(kept.len(), 1, "{kept:?}");
    let mut permissions = std::fs::metadata(&kept[0]).expect("look at a snapshot").permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o600);
    std::fs::set_permissions(&kept[0], permissions).expect("make a snapshot writable");
    volume::mutate(&kept[0], 5);
    let (to, _) = beside(&cluster, "rotten");
    let refusal = cluster
        .tanist(&["restore", "db", "--point", &oldest.run.to_string(), "--to", &to])
        .refused(RefusalCode::Conflict);
    assert!(refusal.cause.is_some_and(|cause| cause.contains("not the recovery point")), "the digest differs");
    let _ = compare::first_difference(&restored, &kept[0]).expect("it was changed");
    let marked = points(&cluster).into_iter().find(|point| point.run == oldest.run).expect("it is kept");
    assert!(marked.damaged_at.is_some(), "{marked:?}");
    assert!(cluster.events_of("db").iter().any(|event| event.code == EventCode::RecoveryPointDamaged));
    let (status, view) = cluster.status();
    assert_eq!(status, 1, "{view:?}");
    assert_eq!(cluster.show("db").next.as_deref(), Some("tanist recovery-point list db"));
}

/// A restore of the last point finds that the target is not what it was: that is told of the replication, and verification mends it.
#[test]
fn a_restore_that_reads_other_bytes_says_so_of_the_point_that_it_read() {
    let cluster = Cluster::builder(build!()).agents(2).start();
    let scene = Scene::set(&cluster, "db", SIZE, 1, &[]);
    scene.run(&cluster);
    volume::mutate(&scene.target, 5);
    let (to, _) = beside(&cluster, "restored");
    cluster.tanist(&["restore", "db", "--to", &to]).refused(RefusalCode::Conflict);
    assert!(points(&cluster)[0].damaged_at.is_some());
    let view = cluster.show("db");
    assert_eq!(view.next.as_deref(), Some("tanist replication verify db"), "{}", view.summary);
    assert!(view.restorable_point.is_none(), "{view:?}");
    cluster.tanist(&["replication", "verify", "db", "--wait"]).done();
    scene.assert_equal();
    assert!(points(&cluster).iter().all(|point| point.damaged_at.is_none() || point.place == RecoveryPointPlace::Gone));
    assert_eq!(cluster.status().0, 0);
}

/// Verification needs the target alone: the source has moved on, sealed or not.
#[test]
fn a_target_is_verified_and_what_rots_on_it_is_found_and_repaired() {
    let cluster = Cluster::builder(build!()).agents(2).start();
    let scene = Scene::set(&cluster, "db", SIZE, 1, &[]);
    scene.run(&cluster);
    cluster.tanist(&["replication", "verify", "db", "--wait"]).done();
    let point = points(&cluster).remove(0);
    assert!(point.verified_at.is_some() && point.place == RecoveryPointPlace::Target, "{point:?}");

    volume::mutate(&scene.target, 5);
    cluster.tanist(&["replication", "verify", "db", "--wait"]).done();
    scene.assert_equal();
    let codes = || cluster.events_of("db").into_iter().map(|event| event.code).collect::<Vec<_>>();
    assert!(codes().contains(&EventCode::VerificationFailed), "{:?}", codes());
    let repaired = points(&cluster).remove(0);
    assert!(repaired.run != point.run && repaired.digest == point.digest, "{repaired:?}");

    volume::mutate(&scene.target, 6);
    let refusal =
        cluster.tanist(&["replication", "verify", "db", "--no-repair", "--wait"]).refused(RefusalCode::Conflict);
    assert!(refusal.cause.is_some_and(|cause| cause.contains("differs")), "it says why");
    assert!(cluster.show("db").target_dirty);
    cluster.tanist(&["restore", "db", "--to", &beside(&cluster, "none").0]).refused(RefusalCode::NotFound);
    scene.run(&cluster);
}
