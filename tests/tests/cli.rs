//! The operator's commands over a living cluster: what they answer, and that what they promise happens.

use std::path::Path;
use std::time::Duration;

use tanist_model::api::{
    EventPage, Plan, RecoveryPointView, Refusal, RefusalCode, ReplicationView, VolumeView, WhyView,
};
use tanist_model::event::EventCode;
use tanist_model::recovery_point::RecoveryPointPlace;
use tanist_model::replication::{Intent, Side};
use tanist_model::run::RunState;
use tanist_model::takeover::Evidence;
use tanist_tests::cluster::{Cluster, SOURCES, TARGETS};
use tanist_tests::scene::{RUN_LIMIT, Scene};
use tanist_tests::story;
use tanist_tests::{build, compare, signal, volume, wait};

const SIZE: u64 = 48 << 20;
const LIMIT: [&str; 2] = ["--limit", "16MiB/s"];

#[test]
fn a_replication_from_its_plan_to_its_end() {
    let cluster = Cluster::builder(build!()).start();
    let scene = Scene::set(&cluster, "db", SIZE, 1, &[]);
    let plan: Plan = cluster.tanist(&["replication", "check", "db"]).body();
    assert_eq!(plan.matrix.len(), 3);
    for row in &plan.matrix {
        // The server, two peers, source and target: each shown by a real round trip or read.
        assert_eq!((row.cells.len(), &row.ineligible), (5, &None), "{row:?}");
        assert!(row.cells.iter().all(|cell| cell.ok && cell.age_ms.is_some()), "{row:?}");
    }
    let first = scene.run(&cluster);
    let view = cluster.show("db");
    assert_eq!((view.target_dirty, view.run.is_none(), view.waits_for.clone()), (false, true, None));
    let point = view.last_recovery_point.expect("a recovery point");
    assert_eq!((point.run, point.verified, point.fuzzy), (first.id, true, false));
    let second = scene.run(&cluster);
    let points: Vec<RecoveryPointView> = cluster.tanist(&["recovery-point", "list", "db"]).body();
    let on_target: Vec<_> = points.iter().filter(|point| point.place == RecoveryPointPlace::Target).collect();
    assert_eq!(on_target.iter().map(|point| point.run).collect::<Vec<_>>(), [second.id]);
    assert_eq!(cluster.status().0, 0);
    let volumes: Vec<VolumeView> = cluster.tanist(&["volume", "list"]).body();
    let used: Vec<_> = volumes.into_iter().filter_map(|volume| volume.used_by).map(|user| user.side).collect();
    assert_eq!(used, [Side::Source, Side::Target]);
    let before = compare::fingerprint(&scene.target);
    cluster.tanist(&["replication", "delete", "db"]).done();
    wait::until("the replication is gone", RUN_LIMIT, || cluster.try_show("db").is_none().then_some(()));
    assert_eq!(compare::fingerprint(&scene.target), before, "its data stays");
    for system in [SOURCES, TARGETS] {
        assert_eq!(files_in(&cluster.file(system)), ["db"], "what tanist made is gone");
    }
}

#[test]
fn who_waits_for_a_run_may_say_how_long_and_the_run_goes_on() {
    let cluster = Cluster::builder(build!()).agents(1).start();
    let scene = Scene::set_noise(&cluster, "db", SIZE, 2, &["--limit", "4MiB/s"]);
    let answer = cluster.tanist(&["replication", "sync", "db", "--wait", "--timeout", "1s"]);
    assert_eq!(answer.status, 4, "{answer}");
    let refusal: Refusal = serde_json::from_str(&answer.stderr).unwrap_or_else(|error| panic!("{error}: {answer}"));
    assert!(refusal.error.ends_with("it goes on"), "{refusal:?}");
    let run = cluster.show("db").run.expect("the run goes on");
    assert!(refusal.error.contains(&run.id.to_string()), "{refusal:?}");
    cluster.tanist(&["replication", "set", "db", "--limit", "none"]).done();
    scene.wait_equal(&cluster, run.id);

    // What no run could live by is refused by the server too.
    let dense = cluster.tanist(&["replication", "set", "db", "--schedule", "every 1s"]).refused(RefusalCode::Invalid);
    assert!(dense.error.contains("too dense"), "{dense:?}");
}

/// The names of the files in a directory and below.
fn files_in(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).expect("list a directory").map(|entry| entry.expect("an entry"));
    let names = entries.flat_map(|entry| match entry.path() {
        path if path.is_dir() => files_in(&path),
        _ => vec![entry.file_name().to_string_lossy().into_owned()],
    });
    names.collect()
}

#[test]
fn a_run_is_asked_for_once_paused_and_resumed() {
    let cluster = Cluster::builder(build!()).start();
    let scene = Scene::set(&cluster, "db", SIZE, 2, &LIMIT);
    let (run, _) = scene.run_until(&cluster, 20);
    assert_eq!(scene.sync(&cluster), run, "a run in progress is not started again");
    cluster.tanist(&["replication", "pause", "db"]).done();
    let at = wait::until("the run waits at its checkpoint", RUN_LIMIT, || {
        let (first, second) = (cluster.show("db"), cluster.show("db"));
        let waits = |view: &ReplicationView| view.run.clone().filter(|run| run.rate_bytes_per_second == 0);
        waits(&first).zip(waits(&second)).filter(|(a, b)| a.done_bytes == b.done_bytes)
    });
    assert_eq!(cluster.show("db").intent, Intent::Paused);
    assert_eq!(cluster.status().0, 2, "paused in the middle of the first run: nothing can be restored now");
    cluster.tanist(&["replication", "sync", "db"]).refused(RefusalCode::Conflict);
    assert!(at.0.done_bytes < SIZE);
    cluster.tanist(&["replication", "resume", "db"]).done();
    scene.wait_equal(&cluster, run);
    assert_eq!(cluster.status().0, 0);
}

#[test]
fn work_is_handed_over_and_back_and_a_change_of_rank_moves_none() {
    let cluster = Cluster::builder(build!()).start();
    let scene = Scene::set(&cluster, "db", 2 * SIZE, 3, &LIMIT);
    let (run, acting) = scene.run_until(&cluster, 10);
    assert_eq!(acting, "h1");
    cluster.tanist(&["replication", "hierarchy", "db", "--side", "target", "--set", "h3,h2,h1"]).done();
    cluster.tanist(&["replication", "hierarchy", "db", "--side", "source", "--set", "h3,h2,h1"]).done();
    let view = cluster.show("db");
    let ranks: Vec<&str> = view.sides[1].agents.iter().map(|ranked| ranked.agent.as_str()).collect();
    assert_eq!((view.acting.as_ref().map(|a| a.as_str()), ranks), (Some("h1"), vec!["h3", "h2", "h1"]));
    hand(&cluster, &scene, &["replication", "handover", "db", "--to", "h2"], "h2");
    hand(&cluster, &scene, &["replication", "handback", "db"], "h3");
    hand(&cluster, &scene, &["agent", "drain", "h3"], "h2");
    cluster.tanist(&["replication", "handover", "db", "--to", "h3"]).refused(RefusalCode::Conflict);
    cluster.tanist(&["agent", "undrain", "h3"]).done();
    scene.wait_equal(&cluster, run);
    scene.wait_whole(&cluster);
    story::assert_true(&[], &cluster.takeovers("db"), &cluster.events());
    let why: WhyView = cluster.tanist(&["replication", "why", "db"]).body();
    let planned = why.takeovers.iter().filter(|t| matches!(t.evidence, Evidence::Handover { .. })).collect::<Vec<_>>();
    assert_eq!(planned.len(), 3, "{why:#?}");
    for handover in planned {
        let took = handover.activated_at.expect("an activation").since(handover.suspected_at);
        println!("handover to {}: {} ms", handover.to, took.as_millis());
        assert!(took <= Duration::from_secs(5) && handover.unproven.is_empty(), "{handover:#?}");
    }
}

fn hand(cluster: &Cluster, scene: &Scene, command: &[&str], to: &str) {
    scene.wait_whole(cluster);
    cluster.tanist(command).done();
    wait::until(&format!("{to} acts"), RUN_LIMIT, || {
        let view = cluster.try_show(&scene.name)?;
        (view.state == "active" && view.acting.is_some_and(|acting| acting.as_str() == to)).then_some(())
    });
}

#[test]
fn an_agent_that_is_told_to_end_hands_over_first() {
    let mut cluster = Cluster::builder(build!()).start();
    let scene = Scene::set(&cluster, "db", SIZE, 4, &LIMIT);
    let (run, acting) = scene.run_until(&cluster, 20);
    assert!(cluster.take_agent(&acting).terminate().success());
    scene.wait_equal(&cluster, run);
    assert_ne!(scene.acting(&cluster), acting);
    story::assert_true(&[], &cluster.takeovers("db"), &cluster.events());
    let (exit, status) = cluster.status();
    assert_eq!((exit, status.degraded), (1, 1), "one agent fewer: {status:?}");
}

#[test]
fn a_transfer_is_one_run_and_leaves_nothing_but_the_copy() {
    let cluster = Cluster::builder(build!()).agents(2).start();
    let scene = Scene::at(&cluster, "image", SIZE);
    volume::make(&scene.source, SIZE, 5);
    volume::blank(&scene.target, SIZE + 4096);
    let line = ["transfer", "--source", "san-a/image", "--target", "san-b/image", "--agents", "h1,h2"];
    let answer = cluster.tanist(&[&line[..], &["--source-mode", "sealed", "--name", "once"]].concat());
    answer.done();
    scene.assert_equal();
    wait::until("the transfer has removed itself", RUN_LIMIT, || cluster.try_show("once").is_none().then_some(()));
    let published = cluster.events().into_iter().filter(|event| event.code == EventCode::RunPublished).count();
    assert_eq!(published, 1);
    assert_eq!(cluster.status().1.ok, 0);
}

#[test]
fn events_are_numbered_and_asked_for_from_a_place() {
    let cluster = Cluster::builder(build!()).agents(1).start();
    let scene = Scene::set(&cluster, "db", 4 << 20, 6, &[]);
    let since = signal::now();
    let view: ReplicationView = cluster.tanist(&["replication", "sync", "db", "--wait"]).body();
    assert_eq!(view.last_run.map(|run| run.state), Some(RunState::Published));
    scene.assert_equal();
    let events = cluster.events();
    assert!(events.windows(2).all(|pair| pair[0].seq < pair[1].seq));
    let of_run: Vec<EventCode> = events.iter().filter(|event| event.at >= since).map(|event| event.code).collect();
    assert_eq!(of_run, [EventCode::RunRequested, EventCode::SnapshotBound, EventCode::RunPublished]);
    let middle = events.len() / 2;
    let after = events[middle].seq.0.to_string();
    let page: EventPage = cluster.tanist(&["events", "--since-seq", &after, "--limit", "2"]).body();
    assert_eq!(page.events, events[middle + 1..middle + 3]);
}
