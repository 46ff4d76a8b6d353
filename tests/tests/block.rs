//! Block devices end to end, on loop devices: to and from image files, sectors of both sizes, the acting agent killed in the middle,
//! devices that somebody else has, and devices that fail under a run.

use std::fs::OpenOptions;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use tanist_model::api::{RefusalCode, VolumeView};
use tanist_model::event::EventCode;
use tanist_model::replication::ProofKind;
use tanist_model::run::RunState;
use tanist_tests::answer::Answer;
use tanist_tests::cluster::{Cluster, STARTUP};
use tanist_tests::loop_device::LoopDevice;
use tanist_tests::mounted::run;
use tanist_tests::scene::{RUN_LIMIT, Scene};
use tanist_tests::story::{self, Fault};
use tanist_tests::{build, signal, volume, wait};
use tempfile::TempDir;

const DEVICES: &str = "san-c";
const MIB: u64 = 1 << 20;

/// Loop devices by the names of their volumes.
struct Rack {
    directory: TempDir,
    slots: Vec<(&'static str, LoopDevice)>,
}

impl Rack {
    /// Blank devices: name, size, bytes a sector. `None` where they cannot be had; the line for the log is written.
    fn new(devices: &[(&'static str, u64, u32)]) -> Option<Self> {
        let directory = TempDir::with_prefix_in("rack-", build!().scratch).expect("make a directory");
        let mut rack = Self { directory, slots: Vec::new() };
        for (name, size_bytes, sector_bytes) in devices {
            volume::blank(&rack.file(name), *size_bytes);
            match LoopDevice::attach(&rack.file(name), *sector_bytes) {
                Ok(device) => rack.slots.push((name, device)),
                Err(reason) => {
                    println!("skipped: block devices: {reason}");
                    return None;
                }
            }
        }
        Some(rack)
    }

    /// The file behind a device: what is on the device is in it.
    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn device(&self, name: &str) -> &Path {
        &self.slots.iter().find(|(slot, _)| *slot == name).expect("a device of that name").1.path
    }

    /// The sample of a snapshot command, for this rack.
    fn snapshot_command(&self) -> String {
        let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/snapshots/copy");
        let (program, copies) = (self.file("snapshots"), self.file("copies"));
        let text = format!("#!/bin/sh\nSNAPSHOT_DIRECTORY={} exec {} \"$@\"\n", copies.display(), sample.display());
        std::fs::write(&program, text).expect("write a program");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("make a program");
        format!("snapshots = {{ command = {program:?}, timeout = '1m' }}\n")
    }

    /// The copies that there are of a volume.
    fn copies(&self, name: &str) -> usize {
        std::fs::read_dir(self.file("copies").join(DEVICES).join(name)).map_or(0, Iterator::count)
    }

    /// For an agent's configuration.
    fn storage(&self) -> String {
        let entry = |(name, device): &(&str, LoopDevice)| {
            format!("{{ path = {:?}, identity = 'backing-file', volume = '{name}' }}", device.path)
        };
        let devices: Vec<String> = self.slots.iter().map(entry).collect();
        format!("[[storage]]\nname = '{DEVICES}'\nkind = 'block'\ndevices = [{}]\n", devices.join(", "))
    }

    fn cluster(&self, agents: usize) -> Cluster {
        Cluster::builder(build!()).agents(agents).more_storage(&self.storage()).start()
    }
}

fn create(cluster: &Cluster, name: &str, source: &str, target: &str, more: &[&str]) -> Answer {
    let agents: Vec<String> = cluster.agents().iter().map(|agent| agent.name.to_string()).collect();
    let agents = agents.join(",");
    let line = ["replication", "create", name, "--source", source, "--target", target, "--agents", &agents];
    cluster.tanist(&[&line[..], &["--source-mode", "sealed"], more].concat())
}

#[test]
fn devices_and_images_are_copied_to_each_other() {
    let Some(rack) = Rack::new(&[("small", 48 * MIB, 512), ("large", 48 * MIB, 4096), ("third", 48 * MIB + 512, 512)])
    else {
        return;
    };
    let cluster = rack.cluster(1);
    let image = cluster.file("san-a/image");
    volume::make(&image, 48 * MIB, 11);
    volume::blank(&cluster.file("san-b/image"), 48 * MIB);
    let places = [
        ("san-a/image", image),
        ("san-c/small", rack.file("small")),
        ("san-c/large", rack.file("large")),
        ("san-b/image", cluster.file("san-b/image")),
    ];
    // From each to the next: image to 512, 512 to 4096, 4096 to image.
    for (number, pair) in places.windows(2).enumerate() {
        let ((source, from), (target, to)) = (&pair[0], &pair[1]);
        let scene =
            Scene { name: format!("step-{number}"), size_bytes: 48 * MIB, source: from.clone(), target: to.clone() };
        create(&cluster, &scene.name, source, target, &[]).done();
        scene.wait_whole(&cluster);
        scene.run(&cluster);
    }
    // What is left of a last block that is no whole one.
    volume::make_noise(&rack.file("third"), 48 * MIB + 512, 12);
    let rest = Rack::new(&[("rest", 48 * MIB + 512, 512)]).expect("loop devices worked before");
    let cluster = Cluster::builder(build!()).agents(1).more_storage(&rack.storage().replace("san-c", "san-d"));
    let cluster = cluster.more_storage(&rest.storage()).start();
    let (source, target) = (rack.file("third"), rest.file("rest"));
    let scene = Scene { name: "odd".to_owned(), size_bytes: 48 * MIB + 512, source, target };
    create(&cluster, "odd", "san-d/third", "san-c/rest", &["--verify", "full"]).done();
    scene.wait_whole(&cluster);
    scene.run(&cluster);
}

/// Both agents are on one host: the successor claims the device, which proves that nothing of the killed one is in flight.
#[test]
fn a_killed_agent_is_replaced_and_the_claim_proves_it_quiet() {
    let size_bytes = 96 * MIB;
    let Some(rack) = Rack::new(&[("source", size_bytes, 512), ("target", size_bytes, 4096)]) else { return };
    volume::make_noise(&rack.file("source"), size_bytes, 21);
    let mut cluster = rack.cluster(2);
    create(&cluster, "db", "san-c/source", "san-c/target", &["--limit", "32MiB/s"]).done();
    let (source, target) = (rack.file("source"), rack.file("target"));
    let scene = Scene { name: "db".to_owned(), size_bytes, source, target };
    scene.wait_whole(&cluster);
    let (run, acting) = scene.run_until(&cluster, 20);
    assert!(exclusively(rack.device("target")).is_err(), "the acting agent has it for itself");
    let fault = Fault::new(&acting, cluster.kill(&acting));
    scene.wait_equal(&cluster, run);
    let takeover = cluster.takeovers("db").pop().expect("a takeover");
    assert_eq!(takeover.from.as_ref().map(ToString::to_string), Some(acting));
    assert!(takeover.held_kernel_lock, "{takeover:#?}");
    let proofs: Vec<ProofKind> = takeover.proven.iter().map(|proven| proven.proof).collect();
    assert_eq!(proofs, [ProofKind::KernelLock], "{takeover:#?}");
    assert!(takeover.resumed_seq > 0, "it went on where the other was: {takeover:#?}");
    story::assert_true(&[fault], &cluster.takeovers("db"), &cluster.events());
}

/// Source and target snapshots by the sample command. The source is written all the time; what arrives is what it was, also
/// when the agent that made the snapshot is killed and another goes on with it.
#[test]
fn snapshots_by_a_command_hold_through_a_takeover() {
    let size_bytes = 64 * MIB;
    let Some(rack) = Rack::new(&[("source", size_bytes, 512), ("target", size_bytes, 512)]) else { return };
    volume::make_noise(&rack.file("source"), size_bytes, 51);
    let storage = format!("{}{}", rack.storage(), rack.snapshot_command());
    let mut cluster = Cluster::builder(build!()).agents(2).more_storage(&storage).start();
    let line =
        ["replication", "create", "db", "--source", "san-c/source", "--target", "san-c/target", "--agents", "h1,h2"];
    cluster.tanist(&[&line[..], &["--source-mode", "snapshot", "--limit", "16MiB/s"]].concat()).done();
    let (source, target) = (rack.file("source"), rack.file("target"));
    let live = Scene { name: "db".to_owned(), size_bytes, source, target };
    live.wait_whole(&cluster);
    live.run(&cluster);
    let as_it_was = rack.file("as-it-was");
    std::fs::copy(&live.source, &as_it_was).expect("copy a volume");
    let scene = Scene { source: as_it_was, ..live.clone() };
    let (run, acting) = scene.run_until(&cluster, 20);
    volume::renew(&rack.file("source"), 52);
    assert!(rack.copies("target") > 0, "the last recovery point is kept");
    let fault = Fault::new(&acting, cluster.kill(&acting));
    scene.wait_equal(&cluster, run);
    story::assert_true(&[fault], &cluster.takeovers("db"), &cluster.events());
    cluster.tanist(&["replication", "delete", "db"]).done();
    wait::until("no snapshot is left", RUN_LIMIT, || {
        (rack.copies("source") + rack.copies("target") == 0).then_some(())
    });
}

/// Opens a device as mount(8) and mkfs do.
fn exclusively(device: &Path) -> std::io::Result<std::fs::File> {
    let exclusive = i32::try_from(rustix::fs::OFlags::EXCL.bits()).expect("a flag fits");
    OpenOptions::new().read(true).custom_flags(exclusive).open(device)
}

#[test]
fn targets_that_would_do_damage_are_refused_with_the_reason() {
    let devices =
        [("odd", 8 * MIB + 512, 512), ("large", 16 * MIB, 4096), ("used", 64 * MIB, 512), ("free", 16 * MIB, 512)];
    let Some(rack) = Rack::new(&devices) else { return };
    let second = LoopDevice::attach(&rack.file("free"), 512).expect("loop devices worked before");
    let text = format!("{{ path = {:?}, identity = 'backing-file', volume = 'again' }}", second.path);
    let storage = rack.storage().replace("devices = [", &format!("devices = [{text}, "));
    run(Command::new("mkfs.ext4").arg("-q").arg(rack.device("used"))).expect("mkfs.ext4");
    let place = rack.directory.path().join("mount");
    std::fs::create_dir(&place).expect("make a directory");
    run(Command::new("mount").arg(rack.device("used")).arg(&place)).expect("mount");
    let cluster = Cluster::builder(build!()).agents(1).more_storage(&storage).start();
    let guarded = |source: &str, target: &str, cause: &str| {
        let refusal = create(&cluster, "attempt", source, target, &["--overwrite-target", "--yes"]);
        let refusal = refusal.refused(RefusalCode::Guarded);
        let found = refusal.cause.clone().unwrap_or_default();
        assert!(found.contains(cause), "'{cause}' in {refusal:?}");
    };
    guarded("san-c/odd", "san-c/large", "no multiple of that");
    guarded("san-c/odd", "san-c/used", "mounted at");
    guarded("san-c/free", "san-c/again", "same volume");
    guarded("san-c/odd", "san-c/free", "lies over the same file");
    let seen: Vec<VolumeView> = cluster.tanist(&["volume", "list"]).body();
    run(Command::new("umount").arg(&place)).expect("umount");
    let large = seen.iter().find(|view| view.report.address.volume() == "large").expect("a listed device");
    assert_eq!(large.report.sector_bytes(), 4096);
}

/// Nobody sees it before the device is opened: the agent declines, and writes nothing.
#[test]
fn a_device_that_a_stranger_has_for_itself_is_not_written() {
    let Some(rack) = Rack::new(&[("source", 8 * MIB, 512), ("target", 8 * MIB, 512)]) else { return };
    volume::make_noise(&rack.file("source"), 8 * MIB, 31);
    let cluster = rack.cluster(1);
    let stranger = exclusively(rack.device("target")).expect("a free device");
    let since = signal::now();
    create(&cluster, "db", "san-c/source", "san-c/target", &[]).done();
    cluster.wait_event(EventCode::AgentNotEligible, since, STARTUP);
    let (source, target) = (rack.file("source"), rack.file("target"));
    let scene = Scene { name: "db".to_owned(), size_bytes: 8 * MIB, source, target };
    assert_eq!(tanist_tests::compare::stored_bytes(&scene.target, 0, scene.size_bytes), 0, "nothing was written");
    drop(stranger);
    scene.wait_whole(&cluster);
    scene.run(&cluster);
}

/// The file behind the source shrinks under a run: reads fail as they do when a path is lost. It is reported, nothing is published, and
/// when the device is whole again the run goes on.
#[test]
fn a_device_that_fails_is_a_lost_path() {
    let size_bytes = 64 * MIB;
    let Some(rack) = Rack::new(&[("source", size_bytes, 512), ("target", size_bytes, 512)]) else { return };
    volume::make_noise(&rack.file("source"), size_bytes, 41);
    let whole = std::fs::read(rack.file("source")).expect("read a volume");
    let cluster = rack.cluster(1);
    create(&cluster, "db", "san-c/source", "san-c/target", &["--limit", "8MiB/s"]).done();
    let (source, target) = (rack.file("source"), rack.file("target"));
    let scene = Scene { name: "db".to_owned(), size_bytes, source, target };
    scene.wait_whole(&cluster);
    let (run, _) = scene.run_until(&cluster, 10);
    OpenOptions::new().write(true).open(&scene.source).and_then(|file| file.set_len(4096)).expect("shrink a file");
    wait::until("the path is reported lost", RUN_LIMIT, || {
        let view = cluster.try_show("db")?;
        let mut agents = view.sides.iter().flat_map(|side| &side.agents);
        agents.any(|agent| !agent.eligible).then_some(())
    });
    assert!(
        cluster.try_show("db").is_some_and(|view| view.last_run.is_none_or(|last| last.state != RunState::Published))
    );
    let file = OpenOptions::new().write(true).open(&scene.source).expect("open a file");
    std::os::unix::fs::FileExt::write_all_at(&file, &whole, 0).expect("fill a file");
    scene.wait_whole(&cluster);
    scene.wait_equal(&cluster, run);
}
