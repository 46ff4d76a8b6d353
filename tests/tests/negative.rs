//! Negative controls: with one rule broken on purpose the data does get damaged, and the tests notice; with the rule in force, the
//! very same scenes never damage anything.
//!
//! The scene: the acting agent is stopped with writes in its pipeline. Somebody else finishes the run, the source changes, the next
//! run is made. Then the stopped agent wakes, in a moment in which no server tells it to stand down, and its writes, an age old,
//! arrive at the target.

use std::time::Duration;

use tanist_model::event::EventCode;
use tanist_model::id::RunId;
use tanist_tests::cluster::{Builder, Cluster};
use tanist_tests::random::Random;
use tanist_tests::scene::{RUN_LIMIT, Scene};
use tanist_tests::story::{self, Fault};
use tanist_tests::{build, compare, signal, twin, volume, wait};

const SIZE: u64 = 192 << 20;
/// The damage depends on what was in flight: a broken rule must show within so many attempts.
const ATTEMPTS: u32 = 6;
/// The rule in force must hold in each of these.
const CONTROLS: u32 = 2;
/// Late writes land within moments.
const LATE: Duration = Duration::from_secs(2);

fn cluster() -> Builder {
    Cluster::builder(build!()).agents(2)
}

#[test]
fn without_waiting_for_proof_late_writes_damage_the_target() {
    let mut cluster = cluster().server_without("ProofNotAwaited").start();
    let mut random = Random::seeded("negative");
    let damaged = (1..=ATTEMPTS).any(|number| {
        let Some(stopped) = stop_in_a_run(&cluster, &format!("db{number}"), &mut random) else { return false };
        stopped.next_run_without_proof(&cluster, &mut random);
        let damaged = stopped.wake_and_look(&mut cluster);
        end(&mut cluster, stopped);
        damaged
    });
    assert!(damaged, "{ATTEMPTS} attempts damaged nothing: this control proves nothing");
}

#[test]
fn waiting_for_proof_keeps_late_writes_harmless() {
    let mut cluster = cluster().start();
    let mut random = Random::seeded("negative");
    let mut held = 0;
    for number in 1..=ATTEMPTS {
        let Some(stopped) = stop_in_a_run(&cluster, &format!("db{number}"), &mut random) else { continue };
        let next = stopped.ask_for_the_next(&cluster, &mut random);
        stopped.wake_unheard(&mut cluster);
        cluster.start_server();
        stopped.scene.wait_equal(&cluster, next);
        assert!(!stopped.is_damaged_within(LATE));
        let name = &stopped.scene.name;
        story::assert_true(&[stopped.fault()], &cluster.takeovers(name), &cluster.events_of(name));
        end(&mut cluster, stopped);
        held += 1;
        if held == CONTROLS {
            return;
        }
    }
    panic!("no agent was stopped in the middle of a run");
}

#[test]
fn a_process_that_resumes_its_epoch_damages_the_target() {
    let mut random = Random::seeded("negative");
    let damaged = (1..=ATTEMPTS).any(|_| {
        let mut cluster = cluster().agents_without("EpochResumed").start();
        let Some(stopped) = stop_in_a_run(&cluster, "db", &mut random) else { return false };
        let _twin = twin::start(&cluster, &stopped.agent);
        stopped.next_run_without_proof(&cluster, &mut random);
        let told = story::untruths(&[stopped.fault()], &cluster.takeovers("db"), &cluster.events());
        assert!(!told.is_empty(), "a fault without a takeover is noticed as well");
        stopped.wake_and_look(&mut cluster)
    });
    assert!(damaged, "{ATTEMPTS} attempts damaged nothing: this control proves nothing");
}

#[test]
fn a_process_that_asks_anew_damages_nothing() {
    let mut random = Random::seeded("negative");
    for _ in 1..=ATTEMPTS {
        let mut cluster = cluster().start();
        let Some(stopped) = stop_in_a_run(&cluster, "db", &mut random) else { continue };
        let _twin = twin::start(&cluster, &stopped.agent);
        let next = stopped.ask_for_the_next(&cluster, &mut random);
        let woken = signal::now();
        stopped.wake_unheard(&mut cluster);
        cluster.start_server();
        cluster.wait_event(EventCode::ProvenQuiet, woken, RUN_LIMIT);
        // Two processes of one name contend for its connection; the one that was replaced goes.
        cluster.kill(&stopped.agent);
        stopped.scene.wait_equal(&cluster, next);
        assert!(!stopped.is_damaged_within(LATE));
        return;
    }
    panic!("no agent was stopped in the middle of a run");
}

/// An agent that was stopped while it wrote.
struct Stopped {
    scene: Scene,
    agent: String,
    run: RunId,
    at: tanist_model::time::Timestamp,
}

/// Starts a run at full speed and stops the acting agent while the target grows; `None` if the run was faster.
fn stop_in_a_run(cluster: &Cluster, name: &str, random: &mut Random) -> Option<Stopped> {
    let scene = Scene::set_noise(cluster, name, SIZE, random.number(), &[]);
    let agent = scene.acting(cluster);
    let run = scene.sync(cluster);
    wait::until("the target grows", RUN_LIMIT, || (scene.stored_bytes() >= SIZE / 8).then_some(()));
    let at = cluster.agent(&agent).stop();
    let is_in_the_middle = scene.stored_bytes() < SIZE / 8 * 7;
    if is_in_the_middle {
        return Some(Stopped { scene, agent, run, at });
    }
    println!("{name}: the run was faster than the test");
    cluster.agent(&agent).wake();
    scene.wait_ended(cluster, run);
    cluster.tanist(&["replication", "delete", name]).done();
    None
}

impl Stopped {
    fn fault(&self) -> Fault {
        Fault::new(&self.agent, self.at)
    }

    /// Another one finishes the run; the source changes altogether; the next run is asked for.
    fn ask_for_the_next(&self, cluster: &Cluster, random: &mut Random) -> RunId {
        self.scene.wait_equal(cluster, self.run);
        volume::renew(&self.scene.source, random.number());
        let since = signal::now();
        let next = self.scene.sync(cluster);
        cluster.wait_event(EventCode::AwaitingProof, since, RUN_LIMIT);
        next
    }

    /// With the rule broken nothing is waited for: the next run is made while the agent sleeps.
    fn next_run_without_proof(&self, cluster: &Cluster, random: &mut Random) {
        self.scene.wait_equal(cluster, self.run);
        volume::renew(&self.scene.source, random.number());
        let next = self.scene.sync(cluster);
        self.scene.wait_equal(cluster, next);
    }

    fn wake_unheard(&self, cluster: &mut Cluster) {
        cluster.kill_server();
        cluster.wake_alone(&self.agent);
    }

    fn wake_and_look(&self, cluster: &mut Cluster) -> bool {
        self.wake_unheard(cluster);
        let damaged = self.is_damaged_within(LATE);
        cluster.start_server();
        println!("{}: {}", self.scene.name, if damaged { "damaged by late writes" } else { "not damaged" });
        damaged
    }

    fn is_damaged_within(&self, time: Duration) -> bool {
        wait::until_or(time, || compare::first_difference(&self.scene.source, &self.scene.target)).is_some()
    }
}

/// The next attempt finds the agent rested and this replication gone.
fn end(cluster: &mut Cluster, stopped: Stopped) {
    cluster.kill(&stopped.agent);
    cluster.start_agent(&stopped.agent);
    cluster.wait_connected(&stopped.agent);
    let name = stopped.scene.name.as_str();
    cluster.tanist(&["replication", "delete", name]).done();
    wait::until("the replication is gone", RUN_LIMIT, || cluster.try_show(name).is_none().then_some(()));
}
