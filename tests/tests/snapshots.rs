//! Snapshot mode on file systems with reflinks, with a writer that never rests: what is published is the source as it was at one
//! moment, through a takeover as well; what tanist makes for that is kept as long as it is needed and not longer.
//!
//! Each test makes its own XFS or Btrfs on a loop device, which needs root and the programs; without, it says so and ends.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tanist_model::api::{RecoveryPointView, RefusalCode};
use tanist_model::event::EventCode;
use tanist_model::policy::SourceMode;
use tanist_model::recovery_point::RecoveryPointPlace;
use tanist_model::run::RunState;
use tanist_tests::cluster::{Cluster, SOURCES, TARGETS};
use tanist_tests::compare::{self, fingerprint};
use tanist_tests::counter::{self, Counter};
use tanist_tests::mounted::{BTRFS, Mounted, XFS};
use tanist_tests::scene::Scene;
use tanist_tests::story::{self, Fault};
use tanist_tests::{Build, build, signal, volume, wait};

const FILE_SYSTEM_BYTES: u64 = 512 << 20;
const SIZE: u64 = 24 << 20;
/// Two seconds a run: the writer goes through many rounds meanwhile, and there is a middle to interrupt.
const RATE: [&str; 2] = ["--limit", "12MiB/s"];
/// Releases and removals are orders to an agent.
const ORDER_LIMIT: Duration = Duration::from_secs(20);
/// Where a storage system of image files keeps what tanist makes.
const SNAPSHOTS: &str = ".tanist";

#[test]
fn recovery_points_are_one_moment_and_leave_nothing_behind_on_xfs() {
    let Some(place) = Place::on(XFS, build!()) else { return };
    recovery_points_are_one_moment_and_leave_nothing_behind(&place);
}

#[test]
fn recovery_points_are_one_moment_and_leave_nothing_behind_on_btrfs() {
    let Some(place) = Place::on(BTRFS, build!()) else { return };
    recovery_points_are_one_moment_and_leave_nothing_behind(&place);
}

#[test]
fn a_successor_goes_on_with_the_same_snapshot_on_xfs() {
    let Some(place) = Place::on(XFS, build!()) else { return };
    a_successor_goes_on_with_the_same_snapshot(place);
}

#[test]
fn a_successor_goes_on_with_the_same_snapshot_on_btrfs() {
    let Some(place) = Place::on(BTRFS, build!()) else { return };
    a_successor_goes_on_with_the_same_snapshot(place);
}

#[test]
fn a_run_whose_snapshot_was_tampered_with_is_given_up_on_xfs() {
    let Some(place) = Place::on(XFS, build!()) else { return };
    a_run_whose_snapshot_was_tampered_with_is_given_up(place);
}

#[test]
fn a_run_whose_snapshot_was_tampered_with_is_given_up_on_btrfs() {
    let Some(place) = Place::on(BTRFS, build!()) else { return };
    a_run_whose_snapshot_was_tampered_with_is_given_up(place);
}

#[test]
fn a_target_that_was_replaced_is_accepted_by_delete_and_create() {
    let Some(place) = Place::on(XFS, build!()) else { return };
    let (cluster, scene) = (&place.cluster, &place.scene);
    scene.run(cluster);
    scene.run(cluster);
    place.wait_snapshots(TARGETS, 1);
    let since = signal::now();
    std::fs::rename(&scene.target, scene.target.with_extension("old")).expect("move the target away");
    volume::blank(&scene.target, SIZE);
    cluster.wait_event(EventCode::Exhausted, since, ORDER_LIMIT);
    let next = wait::until("show says what helps", ORDER_LIMIT, || cluster.try_show(&scene.name)?.next);
    let (delete, create) = next.split_once("; when it is gone: ").unwrap_or_else(|| panic!("{next}"));
    assert_eq!(delete, "tanist replication delete db --leave-behind");

    // Without a word it waits for somebody who can clean up, and says so.
    cluster.tanist(&["replication", "delete", "db"]).done();
    wait::until("the removal names the way out", ORDER_LIMIT, || {
        cluster.try_show(&scene.name).filter(|view| view.next.as_deref() == Some(delete))
    });
    cluster.tanist(&typed(delete)).done();
    wait::until("the replication is gone", ORDER_LIMIT, || cluster.try_show(&scene.name).is_none().then_some(()));
    let left = cluster.wait_event(EventCode::SnapshotsLeftBehind, since, ORDER_LIMIT).message;
    for path in [place.snapshots(SOURCES), place.snapshots(TARGETS)].concat() {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let id = name.split_once('@').expect("volume and id").1;
        assert!(left.contains(&format!("{id} of san-")), "{name} is not named in: {left}");
    }

    cluster.tanist(&typed(create)).done();
    scene.wait_whole(cluster);
    scene.run(cluster);
}

/// The arguments of a command as it is shown.
fn typed(command: &str) -> Vec<&str> {
    command.split(' ').skip(1).collect()
}

/// The control: the same writer, copied without a snapshot, is caught at several moments.
#[test]
fn without_a_snapshot_the_writer_shows() {
    let cluster = Cluster::builder(build!()).agents(1).start();
    let scene = Scene::at(&cluster, "db", SIZE);
    volume::make_noise(&scene.source, SIZE, 1);
    let writer = Counter::start(&scene.source);
    scene.create_as_typed(&cluster, &[&RATE[..], &["--source-mode", "live"]].concat());
    let run = scene.sync(&cluster);
    assert_eq!(scene.wait_ended(&cluster, run).state, RunState::Published);
    let rounds = counter::rounds_in(&scene.target);
    assert!(!counter::is_one_moment(&rounds), "{rounds:?}");
    writer.stop();
}

fn recovery_points_are_one_moment_and_leave_nothing_behind(place: &Place) {
    let (cluster, scene) = (&place.cluster, &place.scene);
    let writer = Counter::start(&scene.source);
    cluster.tanist(&["replication", "sync", &scene.name, "--wait"]).done();
    let first_frozen = place.assert_frozen(&writer);
    let (first, first_point) = (fingerprint(&scene.target), place.newest_point());
    assert_eq!(first_point.place, RecoveryPointPlace::Target);

    let run = scene.sync(cluster);
    scene.wait_passed(cluster, SIZE / 5);
    let kept = place.assert_kept(&first_point, first);
    assert!(first_frozen.exists(), "the source snapshot of the last published run is pinned until the next one");
    assert_eq!(scene.wait_ended(cluster, run).state, RunState::Published);
    let second_frozen = place.assert_frozen(&writer);
    assert_ne!(second_frozen, first_frozen);
    assert_eq!(place.assert_kept(&first_point, first), kept);
    assert_ne!(place.newest_point().digest, first_point.digest);

    place.assert_nothing_else_copied(writer);
    place.assert_refused_run_leaves_no_snapshot();
    place.assert_delete_leaves_the_data();
}

fn a_successor_goes_on_with_the_same_snapshot(mut place: Place) {
    let writer = Counter::start(&place.scene.source);
    let (run, acting) = place.scene.run_until(&place.cluster, 30);
    let frozen = place.the_snapshot_of(SOURCES);
    let rounds = counter::rounds_in(&frozen);
    let inode = inode_of(&frozen);
    writer.wait_rounds(2);
    let fault = Fault::new(&acting, place.cluster.kill(&acting));
    let ended = place.scene.wait_ended(&place.cluster, run);
    assert_eq!((ended.state, ended.takeovers), (RunState::Published, 1), "{ended:?}");

    assert_eq!((place.assert_frozen(&writer), inode_of(&frozen)), (frozen, inode));
    assert_eq!(counter::rounds_in(&place.scene.target), rounds);
    let events = place.cluster.events();
    let bound: Vec<_> = events.iter().filter(|event| event.code == EventCode::SnapshotBound).collect();
    assert!(bound.len() == 1 && bound[0].message.contains(&format!("/{inode}@")), "inode {inode}: {bound:?}");
    let takeovers = place.cluster.takeovers(&place.scene.name);
    story::assert_true(&[fault], &takeovers, &events);
    let takeover = takeovers.last().expect("a takeover");
    assert_eq!(takeover.run, Some(run), "the kill was in the middle of the run: {takeover:#?}");
    place.assert_nothing_else_copied(writer);
}

/// Whoever has to open it anew, after a crash or after a handover, finds that it is not the one that was bound.
fn a_run_whose_snapshot_was_tampered_with_is_given_up(mut place: Place) {
    let scene = place.scene.clone();
    scene.run(&place.cluster);
    let (published, point) = (fingerprint(&scene.target), place.newest_point());

    volume::mutate(&scene.source, 2);
    let pinned = place.the_snapshot_of(SOURCES);
    let (run, acting) = scene.run_until(&place.cluster, 20);
    std::fs::remove_file(place.another_snapshot(&pinned)).expect("delete a snapshot");
    place.cluster.kill(&acting);
    place.assert_given_up(run, "there is no snapshot");
    let kept = place.assert_kept(&point, published);
    place.cluster.start_agent(&acting);
    scene.wait_whole(&place.cluster);
    scene.run(&place.cluster);

    volume::mutate(&scene.source, 3);
    let point = place.newest_point();
    let published = fingerprint(&scene.target);
    let pinned = place.the_snapshot_of(SOURCES);
    let (run, _) = scene.run_until(&place.cluster, 20);
    replace(&place.another_snapshot(&pinned));
    place.cluster.tanist(&["replication", "handover", &scene.name]).done();
    place.assert_given_up(run, "is not the one that was bound");
    place.assert_kept(&point, published);
    assert!(kept.exists(), "the recovery point before it is kept as well");
    assert_eq!(place.the_snapshot_of(SOURCES), pinned, "what was put in the snapshot's place is gone with it");
}

/// A cluster with both storage systems on a file system with reflinks, and a replication created without a word about its mode.
struct Place {
    cluster: Cluster,
    scene: Scene,
    /// Dropped last: the agents are gone by then.
    _mounted: Mounted,
}

impl Place {
    fn on(mkfs: &[&str], build: Build) -> Option<Self> {
        let mounted = match Mounted::new(Path::new(build.scratch), mkfs, FILE_SYSTEM_BYTES) {
            Ok(mounted) => mounted,
            Err(reason) => {
                println!("skipped: snapshots with {}: {reason}", mkfs.join(" "));
                return None;
            }
        };
        let cluster = Cluster::builder(build).storage_place(&mounted.path).start();
        let scene = Scene::at(&cluster, "db", SIZE);
        volume::make_noise(&scene.source, SIZE, 1);
        scene.create_as_typed(&cluster, &RATE);
        assert_eq!(cluster.show(&scene.name).policy.source_mode, SourceMode::Snapshot);
        Some(Self { cluster, scene, _mounted: mounted })
    }

    /// Everything in a storage system, by name.
    fn names(&self, system: &str) -> BTreeSet<String> {
        names_in(&self.cluster.file(system))
    }

    fn snapshots(&self, system: &str) -> Vec<PathBuf> {
        let folder = self.cluster.file(system).join(SNAPSHOTS);
        names_in(&folder).into_iter().map(|name| folder.join(name)).collect()
    }

    /// The snapshots of a system, once there are so many.
    fn wait_snapshots(&self, system: &str, count: usize) -> Vec<PathBuf> {
        wait::until(&format!("{count} snapshots in {system}"), ORDER_LIMIT, || {
            Some(self.snapshots(system)).filter(|found| found.len() == count)
        })
    }

    fn the_snapshot_of(&self, system: &str) -> PathBuf {
        self.wait_snapshots(system, 1).remove(0)
    }

    /// The source snapshot of the run in progress, beside the one that is pinned.
    fn another_snapshot(&self, pinned: &Path) -> PathBuf {
        let mut found = self.wait_snapshots(SOURCES, 2);
        found.retain(|path| path != pinned);
        found.remove(0)
    }

    fn points(&self) -> Vec<RecoveryPointView> {
        self.cluster.tanist(&["recovery-point", "list", &self.scene.name]).body()
    }

    fn newest_point(&self) -> RecoveryPointView {
        self.points().into_iter().next().expect("a recovery point")
    }

    /// The target equals the one source snapshot that is there; that shows one moment, while the source has gone on since.
    fn assert_frozen(&self, writer: &Counter) -> PathBuf {
        let frozen = self.the_snapshot_of(SOURCES);
        compare::assert_equal(&frozen, &self.scene.target);
        let rounds = counter::rounds_in(&self.scene.target);
        assert!(counter::is_one_moment(&rounds), "{rounds:?}");
        assert!(writer.round() >= rounds[0] + 2, "{} after {rounds:?}", writer.round());
        frozen
    }

    /// With the writer's blocks taken back to what the target shows of them, the source equals the target.
    fn assert_nothing_else_copied(&self, writer: Counter) {
        writer.stop();
        counter::put_back(&self.scene.source, &counter::rounds_in(&self.scene.target));
        self.scene.assert_equal();
    }

    /// A recovery point that the next run overwrote is a target snapshot now, as published, and the list says so.
    fn assert_kept(&self, point: &RecoveryPointView, bytes: (u64, u64)) -> PathBuf {
        let listed = self.points().into_iter().find(|listed| listed.run == point.run).expect("the recovery point");
        let RecoveryPointPlace::Snapshot(uid) = &listed.place else { panic!("{listed:?}") };
        assert_eq!((listed.digest, listed.size_bytes), (point.digest, bytes.0));
        let named = |path: &PathBuf| uid.contains(&format!("/{}@", inode_of(path)));
        let kept = self.snapshots(TARGETS).into_iter().find(named).unwrap_or_else(|| panic!("no file of {uid}"));
        assert_eq!(fingerprint(&kept), bytes);
        kept
    }

    fn assert_given_up(&self, run: tanist_model::id::RunId, why: &str) {
        let ended = self.scene.wait_ended(&self.cluster, run);
        let reason = ended.failure.clone().unwrap_or_default();
        assert!(ended.state == RunState::Abandoned && reason.contains(why), "'{why}' in {ended:?}");
        let told = self.cluster.events_of(&self.scene.name).into_iter().rev();
        let told = told.filter(|event| event.code == EventCode::RunAbandoned).map(|event| event.message).next();
        assert!(told.as_ref().is_some_and(|message| message.contains(why)), "'{why}' in {told:?}");
        assert!(self.points().iter().all(|point| point.run != run), "nothing is published");
        assert!(self.cluster.show(&self.scene.name).target_dirty);
    }

    /// The snapshot is made before it shows that the source has grown; it is not bound, and not left.
    fn assert_refused_run_leaves_no_snapshot(&self) {
        let pinned = self.the_snapshot_of(SOURCES);
        let source = OpenOptions::new().write(true).open(&self.scene.source).expect("open the source");
        source.set_len(SIZE + 4096).expect("grow the source");
        self.cluster.tanist(&["replication", "sync", &self.scene.name, "--wait"]).refused(RefusalCode::Conflict);
        assert_eq!(self.the_snapshot_of(SOURCES), pinned);
    }

    fn assert_delete_leaves_the_data(&self) {
        let data = || (fingerprint(&self.scene.source), fingerprint(&self.scene.target));
        let before = data();
        self.cluster.tanist(&["replication", "delete", &self.scene.name]).done();
        let only_data = BTreeSet::from([self.scene.name.clone()]);
        wait::until("nothing is left but the data", ORDER_LIMIT, || {
            [SOURCES, TARGETS].iter().all(|system| self.names(system) == only_data).then_some(())
        });
        assert_eq!(data(), before);
        wait::until("no agent holds files without a name", ORDER_LIMIT, || {
            self.nameless_files().is_empty().then_some(())
        });
    }

    /// Files that agents have open although no directory lists them: they take space until they are closed.
    fn nameless_files(&self) -> Vec<PathBuf> {
        let agents = self.cluster.agents().into_iter().map(|agent| self.cluster.agent(agent.name.as_str()).id());
        let folders = agents.map(|process| PathBuf::from(format!("/proc/{process}/fd")));
        let descriptors = folders.flat_map(|folder| std::fs::read_dir(folder).expect("list descriptors").flatten());
        let open = descriptors.filter_map(|descriptor| std::fs::read_link(descriptor.path()).ok());
        let here = open.filter(|path| path.starts_with(self.cluster.file(SOURCES).parent().expect("the mount")));
        here.filter(|path| path.to_string_lossy().ends_with(" (deleted)")).collect()
    }
}

fn names_in(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    entries.map(|entry| entry.expect("read a directory").file_name().to_string_lossy().into_owned()).collect()
}

fn inode_of(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap_or_else(|error| panic!("look at {}: {error}", path.display())).ino()
}

/// Puts a copy with the same bytes under the same name.
fn replace(path: &Path) {
    let copy = path.with_extension("copy");
    std::fs::copy(path, &copy).expect("copy a snapshot");
    std::fs::rename(&copy, path).expect("replace a snapshot");
}
