//! The server dies in the middle of things, agents come back faster than they are missed, all of them go, the store's disk fills up:
//! right data, right story.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tanist_model::api::Health;
use tanist_model::event::EventCode;
use tanist_tests::cluster::Cluster;
use tanist_tests::random::Random;
use tanist_tests::scene::{RUN_LIMIT, Scene};
use tanist_tests::story::{self, Fault};
use tanist_tests::{Build, build, signal, volume, wait};

const SIZE: u64 = 96 << 20;
const LIMIT: [&str; 2] = ["--limit", "32MiB/s"];

#[test]
fn a_server_killed_in_the_middle_of_a_run_takes_its_agents_up_again() {
    let mut cluster = Cluster::builder(build!()).start();
    let scene = Scene::set(&cluster, "db", SIZE, 11, &LIMIT);
    let (run, acting) = scene.run_until(&cluster, 25);
    let (before, term) = (cluster.show(&scene.name), cluster.status().1.term);
    cluster.kill_server();
    assert_eq!(cluster.tanist(&["status"]).status, 3, "unknown, as a monitoring plugin says it");
    cluster.start_server();
    scene.wait_equal(&cluster, run);
    let after = cluster.show(&scene.name);
    assert_eq!(Some(cluster.status().1.term), term.next());
    assert_eq!((after.epochs, scene.acting(&cluster)), (before.epochs, acting));
    story::assert_true(&[], &cluster.takeovers(&scene.name), &cluster.events());
    scene.run(&cluster);
}

/// The server dies at different moments after the agent: before it knows, while it asks, after it has decided.
#[test]
fn a_server_killed_in_the_middle_of_a_takeover_finishes_it() {
    let mut random = Random::seeded("server");
    let mut cluster = Cluster::builder(build!()).start();
    let scene = Scene::set(&cluster, "db", SIZE, 12, &LIMIT);
    let mut faults = Vec::new();
    for longest_ms in [1, 30, 150] {
        volume::mutate(&scene.source, random.number());
        let (run, acting) = scene.run_until(&cluster, 20);
        faults.push(Fault::new(&acting, cluster.kill(&acting)));
        wait::pass(Duration::from_micros(random.between(0, longest_ms * 1000)));
        cluster.kill_server();
        cluster.start_server();
        scene.wait_equal(&cluster, run);
        cluster.start_agent(&acting);
        scene.wait_whole(&cluster);
    }
    story::assert_true(&faults, &cluster.takeovers(&scene.name), &cluster.events());
}

#[test]
fn an_agent_that_restarts_faster_than_it_is_missed_is_another_process() {
    let mut cluster = Cluster::builder(build!()).start();
    let scene = Scene::set(&cluster, "db", SIZE, 13, &LIMIT);
    let (run, acting) = scene.run_until(&cluster, 25);
    let before = cluster.show(&scene.name).epochs;
    let fault = Fault::new(&acting, cluster.kill(&acting));
    cluster.start_agent(&acting);
    scene.wait_equal(&cluster, run);
    assert!(before.is_older_than(cluster.show(&scene.name).epochs), "the old epoch is not resumed");
    scene.wait_whole(&cluster);
    story::assert_true(&[fault], &cluster.takeovers(&scene.name), &cluster.events());
}

#[test]
fn a_replication_without_any_agent_goes_on_when_one_comes_back() {
    let mut cluster = Cluster::builder(build!()).start();
    let scene = Scene::set(&cluster, "db", SIZE, 14, &LIMIT);
    let (run, acting) = scene.run_until(&cluster, 25);
    let others: Vec<String> =
        ["h1", "h2", "h3"].into_iter().filter(|name| *name != acting).map(str::to_owned).collect();
    let began = signal::now();
    for other in &others {
        cluster.kill(other);
    }
    let before = cluster.show(&scene.name).epochs;
    let fault = Fault::new(&acting, cluster.kill(&acting));
    cluster.wait_event(EventCode::Exhausted, began, RUN_LIMIT);
    let (exit, status) = cluster.status();
    assert_eq!((exit, status.stopped), (2, 1), "{status:?}");
    let view = cluster.show(&scene.name);
    assert_eq!((view.epochs, view.state.as_str(), view.health), (before, "exhausted", Health::Stopped));
    let back = &others[1];
    cluster.start_agent(back);
    scene.wait_equal(&cluster, run);
    assert_eq!(scene.acting(&cluster), *back);
    let events = cluster.events();
    let told = |code: EventCode| events.iter().filter(|event| event.code == code).count();
    assert_eq!((told(EventCode::Exhausted), told(EventCode::ExhaustedEnded)), (1, 1));
    story::assert_true(&[fault], &cluster.takeovers(&scene.name), &events);
}

#[test]
fn a_store_without_space_grants_nothing_and_recovers_by_itself() {
    let Some(disk) = SmallDisk::mount(build!()) else { return };
    let mut cluster = Cluster::builder(build!()).server_place(&disk.place.join("server")).start();
    let scene = Scene::set(&cluster, "db", SIZE, 15, &LIMIT);
    let (run, acting) = scene.run_until(&cluster, 25);
    let began = signal::now();
    disk.fill();
    wait::until("the status tells of the store", RUN_LIMIT, || {
        let (exit, status) = cluster.status();
        (exit == 2 && status.concerns.iter().any(|concern| concern.subject == "server")).then_some(())
    });
    let before = cluster.show(&scene.name).epochs;
    let fault = Fault::new(&acting, cluster.kill(&acting));
    wait::pass(Duration::from_secs(3));
    assert_eq!(cluster.show(&scene.name).epochs, before, "a grant that is not durable is none");
    disk.free();
    cluster.wait_event(EventCode::StoreRecovered, began, RUN_LIMIT);
    cluster.wait_event(EventCode::StoreFailing, began, RUN_LIMIT);
    scene.wait_equal(&cluster, run);
    story::assert_true(&[fault], &cluster.takeovers(&scene.name), &cluster.events());
}

/// A file system in memory of a few MiB, gone with the value. Only root can mount one.
struct SmallDisk {
    place: PathBuf,
}

impl SmallDisk {
    fn mount(build: Build) -> Option<Self> {
        let place = Path::new(build.scratch).join(format!("small-disk-{}", std::process::id()));
        std::fs::create_dir_all(&place).expect("make a mount point");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=4m", "tanist-test"]).arg(&place).output();
        if mounted.as_ref().is_ok_and(|output| output.status.success()) {
            return Some(Self { place });
        }
        println!("not tested: a small disk cannot be mounted here ({mounted:?})");
        None
    }

    fn ballast(&self) -> PathBuf {
        self.place.join("ballast")
    }

    fn fill(&self) {
        let full = std::fs::write(self.ballast(), vec![1; 8 << 20]);
        assert!(full.is_err_and(|error| error.kind() == std::io::ErrorKind::StorageFull));
    }

    fn free(&self) {
        std::fs::remove_file(self.ballast()).expect("remove the ballast");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.place).output();
        let _ = std::fs::remove_dir(&self.place);
    }
}
