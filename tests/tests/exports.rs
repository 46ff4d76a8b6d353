//! Exports of real servers of NBD end to end: to and from image files, an acting agent killed in the middle, and servers that die.

use std::path::{Path, PathBuf};

use tanist_model::event::EventCode;
use tanist_model::id::RunId;
use tanist_model::replication::ProofKind;
use tanist_tests::cluster::{Cluster, STARTUP};
use tanist_tests::nbd_server::{self, NbdServer};
use tanist_tests::scene::{RUN_LIMIT, Scene};
use tanist_tests::{build, signal, volume, wait};
use tempfile::TempDir;

const MIB: u64 = 1 << 20;
/// The storage system of the exports.
const EXPORTS: &str = "san-e";

/// One export over a file of its own.
struct Export {
    folder: TempDir,
    server: NbdServer,
}

impl Export {
    /// `None` where there is no such server; the line for the log is written.
    fn qemu(size_bytes: u64) -> Option<Self> {
        let folder = place("qemu-nbd", size_bytes)?;
        let server = NbdServer::qemu_nbd(&folder.path().join("s"), &folder.path().join("disk"), &["--format=raw"]);
        Some(Self { folder, server })
    }

    /// The same by nbdkit, in which each write of any size takes its time.
    fn slow(size_bytes: u64) -> Option<Self> {
        let folder = place("nbdkit", size_bytes)?;
        let file = format!("file={}", folder.path().join("disk").display());
        let plugin = ["--filter=delay", "file", &file, "wdelay=100ms"];
        let server = NbdServer::nbdkit(&folder.path().join("s"), &plugin);
        Some(Self { folder, server })
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    /// For an agent's configuration.
    fn storage(&self) -> String {
        format!(
            "[[storage]]\nname = '{EXPORTS}'\nkind = 'nbd'\nsocket = {:?}\nexports = {{ disk = '' }}\ntimeout = '10s'\n",
            self.server.socket
        )
    }

    fn cluster(&self, agents: usize) -> Cluster {
        Cluster::builder(build!()).agents(agents).more_storage(&self.storage()).start()
    }
}

/// A short path: the address of a socket has no room for a long one.
fn place(program: &str, size_bytes: u64) -> Option<TempDir> {
    if !nbd_server::is_there(program) {
        return None;
    }
    let folder = TempDir::with_prefix("nbd-").expect("make a directory");
    volume::blank(&folder.path().join("disk"), size_bytes);
    Some(folder)
}

/// A replication with its scene; each side is an address and the file behind it.
fn replicate(cluster: &Cluster, name: &str, source: (&str, &Path), target: (&str, &Path), more: &[&str]) -> Scene {
    let size_bytes = std::fs::metadata(source.1).expect("a source").len();
    let agents: Vec<String> = cluster.agents().iter().map(|agent| agent.name.to_string()).collect();
    let agents = agents.join(",");
    let line = ["replication", "create", name, "--source", source.0, "--target", target.0, "--agents", &agents];
    cluster.tanist(&[&line[..], &["--source-mode", "sealed"], more].concat()).done();
    let (source, target) = (source.1.to_owned(), target.1.to_owned());
    let scene = Scene { name: name.to_owned(), size_bytes, source, target };
    scene.wait_whole(cluster);
    scene
}

#[test]
fn exports_and_images_are_copied_to_each_other() {
    let size_bytes = 24 * MIB;
    let Some(export) = Export::qemu(size_bytes) else { return };
    let cluster = export.cluster(1);
    let (first, last) = (cluster.file("san-a/first"), cluster.file("san-b/last"));
    volume::make(&first, size_bytes, 61);
    volume::blank(&last, size_bytes);
    let (disk, file) = (format!("{EXPORTS}/disk"), export.file());
    let to = replicate(&cluster, "to", ("san-a/first", &first), (&disk, &file), &["--verify", "full"]);
    to.run(&cluster);
    volume::mutate(&first, 62);
    to.run(&cluster);
    cluster.tanist(&["replication", "delete", "to", "--yes"]).done();
    let from = replicate(&cluster, "from", (&disk, &file), ("san-b/last", &last), &[]);
    from.run(&cluster);
    tanist_tests::compare::assert_equal(&first, &last);
    volume::mutate(&file, 63);
    from.run(&cluster);
}

/// Both agents are on one host, and no lock tells them of each other: the successor finishes the same recovery point at once, and the next one
/// waits for an operator's word.
#[test]
fn a_killed_agent_is_replaced_at_once_and_proven_quiet_by_nobody_but_an_operator() {
    let size_bytes = 48 * MIB;
    let Some(export) = Export::qemu(size_bytes) else { return };
    let mut cluster = export.cluster(2);
    let source = cluster.file("san-a/source");
    volume::make_noise(&source, size_bytes, 71);
    let (disk, file) = (format!("{EXPORTS}/disk"), export.file());
    let scene = replicate(&cluster, "db", ("san-a/source", &source), (&disk, &file), &["--limit", "16MiB/s"]);
    let (run, acting) = scene.run_until(&cluster, 20);
    cluster.kill(&acting);
    scene.wait_equal(&cluster, run);
    let takeover = cluster.takeovers("db").pop().expect("a takeover");
    assert!(takeover.proven.is_empty() && !takeover.held_kernel_lock, "{takeover:#?}");
    let since = signal::now();
    let next = scene.sync(&cluster);
    assert_waits(&cluster, next, since);
    confirm_dead(&cluster, &acting);
    scene.wait_equal(&cluster, next);
    let proofs: Vec<ProofKind> =
        cluster.takeovers("db").pop().expect("a takeover").proven.iter().map(|p| p.proof).collect();
    assert_eq!(proofs, [ProofKind::OperatorConfirmed]);
}

fn assert_waits(cluster: &Cluster, next: RunId, since: tanist_model::time::Timestamp) {
    cluster.wait_event(EventCode::AwaitingProof, since, RUN_LIMIT);
    let view = cluster.try_show("db").expect("a replication");
    assert_eq!(view.run.as_ref().map(|run| (run.id, run.done_bytes)), Some((next, 0)), "{view:?}");
}

/// It is refused as long as the dead process is believed to be reached.
fn confirm_dead(cluster: &Cluster, agent: &str) {
    wait::until("the word is taken", STARTUP, || {
        (cluster.tanist(&["agent", "confirm-dead", agent, "--yes"]).status == 0).then_some(())
    });
}

#[test]
fn a_source_whose_server_dies_and_comes_back_is_read_on() {
    let size_bytes = 48 * MIB;
    let Some(mut export) = Export::qemu(size_bytes) else { return };
    volume::make_noise(&export.file(), size_bytes, 81);
    let cluster = export.cluster(1);
    let target = cluster.file("san-b/target");
    volume::blank(&target, size_bytes);
    let (disk, file) = (format!("{EXPORTS}/disk"), export.file());
    let scene = replicate(&cluster, "db", (&disk, &file), ("san-b/target", &target), &["--limit", "16MiB/s"]);
    let (run, _) = scene.run_until(&cluster, 20);
    export.server.start_again();
    scene.wait_equal(&cluster, run);
    scene.run(&cluster);
}

/// With writes in flight: who lost them writes nothing more and never says that it has ended. Another finishes the recovery point, and the
/// next one waits.
#[test]
fn a_target_whose_server_dies_in_mid_write_costs_an_operators_word_and_no_data() {
    let size_bytes = 24 * MIB;
    let Some(mut export) = Export::slow(size_bytes) else { return };
    let mut cluster = export.cluster(2);
    let source = cluster.file("san-a/source");
    volume::make_noise(&source, size_bytes, 91);
    let (disk, file) = (format!("{EXPORTS}/disk"), export.file());
    let scene = replicate(&cluster, "db", ("san-a/source", &source), (&disk, &file), &[]);
    let (run, acting) = scene.run_until(&cluster, 20);
    export.server.start_again();
    scene.wait_equal(&cluster, run);
    let since = signal::now();
    let next = scene.sync(&cluster);
    assert_waits(&cluster, next, since);
    // Its process is what the word is about, and has to be gone.
    cluster.kill(&acting);
    confirm_dead(&cluster, &acting);
    scene.wait_equal(&cluster, next);
}

/// A disk of a virtual machine: qcow2, with a bitmap that its side begins and tanist asks for by the name of the last state.
struct Disk {
    folder: TempDir,
    server: Option<NbdServer>,
}

impl Disk {
    fn new(size_bytes: u64) -> Option<Self> {
        let folder = place("qemu-nbd", size_bytes)?;
        if !nbd_server::is_there("qemu-img") {
            return None;
        }
        let disk = Self { folder, server: None };
        let (raw, made) = (disk.raw().display().to_string(), disk.file());
        volume::make(&disk.raw(), size_bytes, 91);
        disk.image(&["convert", "-q", "-f", "raw", "-O", "qcow2", &raw, &made]);
        Some(disk)
    }

    /// What it holds, byte for byte; made anew by [`Disk::stop`].
    fn raw(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    fn file(&self) -> String {
        self.folder.path().join("qcow2").display().to_string()
    }

    fn image(&self, arguments: &[&str]) {
        let said = std::process::Command::new("qemu-img").args(arguments).output().expect("start qemu-img");
        assert!(said.status.success(), "qemu-img {arguments:?}: {}", String::from_utf8_lossy(&said.stderr));
    }

    fn export(&mut self, more: &[&str]) {
        let socket = self.folder.path().join("s");
        let options = [&["--format=qcow2"][..], more].concat();
        self.server = Some(NbdServer::qemu_nbd(&socket, Path::new(&self.file()), &options));
    }

    fn stop(&mut self) {
        self.server.take().expect("a server").terminate();
        self.image(&["convert", "-q", "-f", "qcow2", "-O", "raw", &self.file(), &self.raw().display().to_string()]);
    }

    /// The machine writes to its disk: bytes of this value to each of these MiB.
    fn write(&mut self, places: &[u64], value: u8) {
        self.export(&[]);
        let socket = self.server.as_ref().expect("a server").socket.clone();
        let script: Vec<String> = places.iter().map(|at| format!("write -q -P {value} {at}M 8k")).collect();
        let uri = format!("nbd+unix:///?socket={}", socket.display());
        let commands = script.iter().flat_map(|line| ["-c", line]);
        let said = std::process::Command::new("qemu-io").args(commands).args(["-f", "raw", &uri]).output();
        let said = said.expect("start qemu-io");
        assert!(said.status.success(), "qemu-io: {}", String::from_utf8_lossy(&said.stderr));
        self.stop();
    }
}

#[test]
fn of_a_disk_with_a_bitmap_of_the_last_state_only_what_changed_is_read() {
    let size_bytes = 256 * MIB;
    let Some(mut disk) = Disk::new(size_bytes) else { return };
    disk.export(&["--read-only"]);
    let socket = disk.server.as_ref().expect("a server").socket.clone();
    let storage = format!(
        "[[storage]]\nname = '{EXPORTS}'\nkind = 'nbd'\nsocket = {socket:?}\nexports = {{ disk = '' }}\ntimeout = '10s'\n"
    );
    let cluster = Cluster::builder(build!()).agents(1).more_storage(&storage).start();
    let target = cluster.file("san-b/target");
    volume::blank(&target, size_bytes);
    let source = (&*format!("{EXPORTS}/disk"), &*disk.raw());
    let scene = replicate(&cluster, "db", source, ("san-b/target", &target), &[]);
    let mut last = scene.run(&cluster);
    assert_eq!(last.method.as_deref(), Some("full"), "{last:?}");

    for (run, places) in (0..).zip(&[[3, 40, 255], [0, 41, 200]]) {
        let bitmap = format!("tanist-{}", last.snapshot.expect("what it read"));
        disk.stop();
        disk.image(&["bitmap", "--add", "-f", "qcow2", &disk.file(), &bitmap]);
        disk.write(places, 101 + run);
        disk.export(&["--read-only", "--bitmap", &bitmap]);
        last = scene.run(&cluster);
        assert_eq!(last.method.as_deref(), Some("changes"), "{last:?}");
        let unread = last.work.unread_bytes;
        assert!((size_bytes * 3 / 4..size_bytes).contains(&unread), "run {run}: {last:?}");
        assert!(cluster.show("db").last_recovery_point.expect("a point").by_changes);
    }

    // A bitmap that was begun too late: what was written before it is missing there.
    let bitmap = format!("tanist-{}", last.snapshot.expect("what it read"));
    disk.stop();
    disk.write(&[0, 7], 99);
    disk.image(&["bitmap", "--add", "-f", "qcow2", &disk.file(), &bitmap]);
    disk.export(&["--read-only", "--bitmap", &bitmap]);
    let since = signal::now();
    let given_up = scene.sync(&cluster);
    assert_eq!(scene.wait_ended(&cluster, given_up).state, tanist_model::run::RunState::Abandoned);
    cluster.wait_event(EventCode::ChangesUntold, since, RUN_LIMIT);
    assert!(cluster.show("db").changes_disbelieved_at.is_some());
    let whole = scene.run(&cluster);
    assert_eq!((whole.method.as_deref(), whole.work.unread_bytes), (Some("compare"), 0), "{whole:?}");
    // Written anew, it is asked again.
    let full: tanist_model::api::Done = cluster.tanist(&["replication", "sync", "db", "--full"]).body();
    scene.wait_equal(&cluster, full.run.expect("a run"));
    assert_eq!(cluster.show("db").changes_disbelieved_at, None);
}
