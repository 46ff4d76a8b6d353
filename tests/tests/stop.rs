//! The acting agent is stopped, not killed: its lock stays held, nothing proves it quiet. Its successor finishes the same snapshot, the
//! next one waits for proof, and `status` says for whose and what to do.
//!
//! `TANIST_STOP_SECONDS` makes the stop longer; `make proof` does.

use std::time::{Duration, Instant};

use tanist_model::api::RefusalCode;
use tanist_model::event::EventCode;
use tanist_model::id::RunId;
use tanist_model::replication::ProofKind;
use tanist_model::run::RunState;
use tanist_model::takeover::Evidence;
use tanist_model::time::Timestamp;
use tanist_tests::cluster::Cluster;
use tanist_tests::compare::fingerprint;
use tanist_tests::scene::{RUN_LIMIT, Scene};
use tanist_tests::story::{self, Fault};
use tanist_tests::{build, setting, signal, volume, wait};

const SIZE: u64 = 96 << 20;
const LIMIT: [&str; 2] = ["--limit", "48MiB/s"];

#[test]
fn a_stopped_agent_is_replaced_and_stands_down_when_it_wakes() {
    let long = Duration::from_secs(setting("TANIST_STOP_SECONDS", 6));
    let cluster = Cluster::builder(build!()).start();
    let scene = Scene::set(&cluster, "db", SIZE, 1, &LIMIT);
    let (run, stopped) = scene.run_until(&cluster, 30);
    let (at, since) = (cluster.agent(&stopped).stop(), Instant::now());
    scene.wait_equal(&cluster, run);
    let (next, changed_at) = ask_for_the_next(&cluster, &scene);
    assert_waits_for_proof(&cluster, &scene, next, &stopped, changed_at);
    wait::until("the stop has lasted", long + RUN_LIMIT, || (since.elapsed() >= long).then_some(()));
    cluster.agent(&stopped).wake();
    let proven = cluster.wait_event(EventCode::ProvenQuiet, changed_at, RUN_LIMIT);
    assert_eq!(proven.agent.map(|agent| agent.to_string()), Some(stopped.clone()), "{}", proven.message);
    scene.wait_equal(&cluster, next);
    scene.wait_whole(&cluster);
    assert_one_takeover(&cluster, &scene, &stopped, at, &[ProofKind::Drained, ProofKind::KernelLock]);
    assert_eq!(cluster.status().0, 0);
    // The one that slept can act again.
    cluster.tanist(&["replication", "handover", &scene.name, "--to", &stopped]).done();
    wait::until("it acts again", RUN_LIMIT, || (scene.acting(&cluster) == stopped).then_some(()));
    scene.run(&cluster);
}

#[test]
fn an_operator_can_say_that_a_silent_agent_is_dead() {
    let mut cluster = Cluster::builder(build!()).own_hosts().start();
    let scene = Scene::set(&cluster, "db", SIZE, 2, &LIMIT);
    let (run, stopped) = scene.run_until(&cluster, 30);
    cluster.tanist(&["agent", "confirm-dead", &stopped, "--yes"]).refused(RefusalCode::Guarded);
    let at = cluster.agent(&stopped).stop();
    scene.wait_equal(&cluster, run);
    let (next, changed_at) = ask_for_the_next(&cluster, &scene);
    assert_waits_for_proof(&cluster, &scene, next, &stopped, changed_at);
    // What the operator says is made true before it is said: a dead process, and on this "other host" no lock that proves it.
    cluster.kill(&stopped);
    assert_eq!(cluster.show(&scene.name).run.map(|run| run.state), Some(RunState::SnapshotPending));
    wait::until("the silent agent can be confirmed dead", RUN_LIMIT, || {
        (cluster.tanist(&["agent", "confirm-dead", &stopped, "--yes"]).status == 0).then_some(())
    });
    scene.wait_equal(&cluster, next);
    assert_one_takeover(&cluster, &scene, &stopped, at, &[ProofKind::OperatorConfirmed]);
    assert!(cluster.events().iter().any(|event| event.code == EventCode::AgentConfirmedDead && event.actor == "admin"));
}

/// The source changes, as it may between runs, and the next run is asked for.
fn ask_for_the_next(cluster: &Cluster, scene: &Scene) -> (RunId, Timestamp) {
    let changed_at = signal::now();
    volume::mutate(&scene.source, 3);
    (scene.sync(cluster), changed_at)
}

fn assert_waits_for_proof(cluster: &Cluster, scene: &Scene, next: RunId, agent: &str, since: Timestamp) {
    let before = fingerprint(&scene.target);
    cluster.wait_event(EventCode::AwaitingProof, since, RUN_LIMIT);
    let view = cluster.show(&scene.name);
    assert_eq!(view.run.as_ref().map(|run| (run.id, run.state)), Some((next, RunState::SnapshotPending)));
    assert_eq!(view.state, "await-proof");
    let awaited: Vec<String> = view.awaited.iter().map(|awaited| awaited.agent.to_string()).collect();
    assert_eq!(awaited, [agent]);
    assert!(view.waits_for.is_some_and(|words| words.contains("proof") && words.contains(agent)));
    let (exit, status) = cluster.status();
    assert_eq!((exit, status.degraded, status.stopped), (1, 1, 0), "{status:?}");
    let concern = status.concerns.iter().find(|concern| concern.subject == scene.name).expect("a concern");
    assert!(concern.summary.contains("not proven quiet"), "{concern:?}");
    assert!(concern.summary.contains("tanist agent confirm-dead"), "{concern:?}");
    assert_eq!(concern.next.as_deref(), Some("tanist agent list"), "first look at the living");
    assert_eq!(fingerprint(&scene.target), before, "nothing of the next snapshot is written before the proof");
}

fn assert_one_takeover(cluster: &Cluster, scene: &Scene, agent: &str, at: Timestamp, proofs: &[ProofKind]) {
    let takeovers = cluster.takeovers(&scene.name);
    story::assert_true(&[Fault::new(agent, at)], &takeovers, &cluster.events());
    let takeover = takeovers.iter().find(|takeover| story::is_unplanned(takeover)).expect("a takeover");
    assert!(matches!(takeover.evidence, Evidence::BeatsMissed { .. }), "{takeover:#?}");
    assert_eq!(takeover.unproven.len(), 1, "{takeover:#?}");
    let proven: Vec<_> = takeover.proven.iter().map(|proven| (proven.agent.to_string(), proven.proof)).collect();
    assert!(proven.iter().any(|(of, proof)| of == agent && proofs.contains(proof)), "{takeover:#?}");
    let took = story::time_to_first_write(at, takeover).expect("a first durable write");
    println!("stop to the successor's first durable write: {} ms", took.as_millis());
}

/// Nobody has to vouch for a process that was killed when its agent runs again: its own host can tell.
#[test]
fn an_agent_that_was_killed_and_started_again_gives_the_proof_itself() {
    let mut cluster = Cluster::builder(build!()).own_hosts().start();
    let scene = Scene::set(&cluster, "db", SIZE, 4, &LIMIT);
    let (run, killed) = scene.run_until(&cluster, 30);
    let at = cluster.kill(&killed);
    cluster.start_agent(&killed);
    scene.wait_equal(&cluster, run);
    assert_ne!(scene.acting(&cluster), killed);
    scene.wait_whole(&cluster);
    let (next, changed_at) = ask_for_the_next(&cluster, &scene);
    let proven = cluster.wait_event(EventCode::ProvenQuiet, changed_at, RUN_LIMIT);
    assert_eq!(proven.agent.map(|agent| agent.to_string()), Some(killed.clone()), "{}", proven.message);
    scene.wait_equal(&cluster, next);
    assert_eq!(scene.acting(&cluster), killed, "the role went where the proof could be had");
    story::assert_true(&[Fault::new(&killed, at)], &cluster.takeovers(&scene.name), &cluster.events());
}
