//! What every storage system must do, run over all of them: memory, image files here, image files on a file system with reflinks
//! and block devices where this machine can make them.

mod support;

use support::{
    BTRFS, Blocks, Fixture, ID, Images, Memory, Mounted, XFS, address, blocks_by_command, bytes, contents, contents_of,
    images_by_command, mount,
};
use tanist_model::id::{SnapshotId, StorageName, VolumeAddress};
use tanist_model::volume::VolumeContent;
use tanist_storage::{LockAttempt, SourceView, StorageError};

type Check = fn(&dyn Fixture);

/// Checks that need no snapshots.
const PLAIN: &[Check] = &[
    volumes_are_listed_with_what_they_are,
    identities_tell_volumes_apart,
    what_is_missing_is_said_to_be_missing,
    a_canary_reads_different_places,
    any_size_is_read_and_written_to_the_byte,
    a_device_never_grows,
    zeroed_ranges_read_as_zeros,
    a_sealed_volume_that_changes_is_noticed,
    a_sealed_volume_that_is_replaced_is_noticed,
    only_one_opener_holds_the_lock,
    the_lock_lives_as_long_as_the_device,
];

/// Checks of systems that make snapshots.
const SNAPSHOTS: &[Check] = &[
    a_snapshot_does_not_change_when_its_volume_does,
    a_snapshot_is_opened_only_by_its_own_identity,
    an_id_is_used_once,
    snapshots_are_listed_and_deleted,
    a_snapshot_outlives_its_volumes_name,
];

fn run(fixture: impl Fn() -> Box<dyn Fixture>, checks: &[Check]) {
    checks.iter().for_each(|check| check(&*fixture()));
}

#[test]
fn memory_conforms() {
    run(|| Box::new(Memory::new()), PLAIN);
    run(|| Box::new(Memory::new()), SNAPSHOTS);
}

#[test]
fn images_on_the_local_disk_conform() {
    images_conform(&std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR")));
}

#[test]
fn images_on_tmpfs_conform() {
    if std::path::Path::new("/dev/shm").is_dir() {
        images_conform(std::path::Path::new("/dev/shm"));
    } else {
        println!("skipped: images_on_tmpfs_conform: there is no /dev/shm");
    }
}

#[test]
fn images_on_xfs_conform() {
    images_conform_on("mkfs.xfs", mount(XFS, 512 << 20));
}

#[test]
fn images_on_btrfs_conform() {
    images_conform_on("mkfs.btrfs", mount(BTRFS, 512 << 20));
}

#[test]
fn block_devices_conform() {
    for sector_bytes in [512, 4096] {
        match Blocks::new(sector_bytes) {
            Ok(_) => {
                let fixture = || -> Box<dyn Fixture> { Box::new(Blocks::new(sector_bytes).unwrap()) };
                run(fixture, PLAIN);
                snapshots_are_refused_in_words(&*fixture());
            }
            Err(reason) => println!("skipped: block devices with sectors of {sector_bytes} bytes: {reason}"),
        }
    }
}

/// The canary goes on from place to place, which a storage system that is made anew for each call does not; all else is run.
#[test]
fn snapshots_by_command_conform() {
    let keep = std::cell::RefCell::new(Vec::new());
    let images = || -> Box<dyn Fixture> {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let fixture = images_by_command(directory.path());
        keep.borrow_mut().push(directory);
        Box::new(fixture)
    };
    let plain: Vec<Check> = PLAIN
        .iter()
        .copied()
        .filter(|check| !std::ptr::fn_addr_eq(*check, a_canary_reads_different_places as Check))
        .collect();
    run(images, &plain);
    run(images, SNAPSHOTS);
    match Blocks::new(512) {
        Ok(_) => run(|| Box::new(blocks_by_command(Blocks::new(512).unwrap())), SNAPSHOTS),
        Err(reason) => println!("skipped: snapshots of block devices by a command: {reason}"),
    }
}

fn images_conform_on(name: &str, mounted: Result<Mounted, String>) {
    match mounted {
        Ok(mounted) => {
            let probe = Images::in_directory(&mounted.path);
            assert!(probe.system().report().capabilities.snapshots, "{name}: reflinks were expected to work");
            images_conform(&mounted.path);
        }
        Err(reason) => println!("skipped: conformance of images on {name}: {reason}"),
    }
}

fn images_conform(parent: &std::path::Path) {
    let keep = std::cell::RefCell::new(Vec::new());
    let fixture = || -> Box<dyn Fixture> {
        let directory = tempfile::tempdir_in(parent).unwrap();
        let images = Images::in_directory(directory.path());
        keep.borrow_mut().push(directory);
        Box::new(images)
    };
    run(fixture, PLAIN);
    if fixture().system().report().capabilities.snapshots {
        run(fixture, SNAPSHOTS);
    } else {
        println!("skipped: snapshots in {}: its file system has no reflinks", parent.display());
        snapshots_are_refused_in_words(&*fixture());
    }
}

fn volumes_are_listed_with_what_they_are(fixture: &dyn Fixture) {
    let [small, medium, large] = [100, 5000, 70_000].map(|size| fixture.whole(size));
    fixture.put("b.img", &bytes(medium));
    fixture.put("a.img", &vec![0; small]);
    let mut disk = vec![0; large];
    disk[..4].copy_from_slice(b"XFSB");
    fixture.put("c.img", &disk);
    let volumes = fixture.system().volumes().unwrap();
    let seen: Vec<_> = volumes.iter().map(|v| (v.address.to_string(), v.size_bytes, v.content.clone())).collect();
    let expected = [
        ("san-a/a.img".to_owned(), small as u64, VolumeContent::Blank),
        ("san-a/b.img".to_owned(), medium as u64, VolumeContent::Data),
        ("san-a/c.img".to_owned(), large as u64, VolumeContent::Signature("XFS file system".to_owned())),
    ];
    assert_eq!(seen, expected);
    assert_eq!(fixture.system().inspect(&address("b.img")).unwrap(), volumes[1]);
    assert!(volumes.iter().all(|v| v.error.is_none() && v.in_use_by.is_none() && !v.read_only));
}

fn identities_tell_volumes_apart(fixture: &dyn Fixture) {
    fixture.put("a", &vec![7; fixture.whole(4)]);
    fixture.put("b", &vec![7; fixture.whole(4)]);
    let identity = |name| fixture.system().inspect(&address(name)).unwrap().identity;
    assert_ne!(identity("a"), identity("b"));
    let before = identity("a");
    fixture.scribble("a", 0, b"else");
    assert_eq!(identity("a"), before, "other bytes are the same volume");
    fixture.replace("a");
    assert_ne!(identity("a"), before, "another volume at the same address");
    assert_eq!(fixture.system().open_target(&address("a")).unwrap().identity(), identity("a"));
}

fn what_is_missing_is_said_to_be_missing(fixture: &dyn Fixture) {
    let (system, missing) = (fixture.system(), address("missing"));
    assert!(matches!(system.inspect(&missing), Err(StorageError::NotFound { .. })));
    assert!(matches!(system.canary(&missing), Err(StorageError::NotFound { .. })));
    assert!(matches!(system.open_target(&missing), Err(StorageError::NotFound { .. })));
    assert!(matches!(system.open_source(&missing, &SourceView::Live), Err(StorageError::NotFound { .. })));
    let elsewhere = VolumeAddress::new(StorageName::new("san-b").unwrap(), "a").unwrap();
    assert!(matches!(system.inspect(&elsewhere), Err(StorageError::WrongSystem { .. })));
}

fn a_canary_reads_different_places(fixture: &dyn Fixture) {
    fixture.put("a", &bytes(fixture.whole(100_000)));
    let read = |name| fixture.system().canary(&address(name)).unwrap();
    let places: std::collections::BTreeSet<u64> = (0..10).map(|_| read("a").offset).collect();
    assert!(places.len() > 5, "{places:?}");
    // A device without a single sector is none.
    if fixture.sector_bytes() == 1 {
        fixture.put("empty", &[]);
        assert_eq!(read("empty").length_bytes, 0);
    }
}

fn any_size_is_read_and_written_to_the_byte(fixture: &dyn Fixture) {
    let any = |size: &usize| fixture.sector_bytes() == 1 || *size > 0;
    for size in [0, 1, 511, 512, 4095, 4097, 70_001].map(|size| fixture.whole(size)).into_iter().filter(any) {
        fixture.put("a", &vec![0; size]);
        let target = fixture.system().open_target(&address("a")).unwrap();
        target.device().write_at(0, &bytes(size)).unwrap();
        target.device().flush().unwrap();
        assert!(contents_of(&*target.device()) == bytes(size), "{size}");
        let source = fixture.system().open_source(&address("a"), &SourceView::Live).unwrap();
        assert!(contents(&source) == bytes(size), "{size}");
    }
}

fn a_device_never_grows(fixture: &dyn Fixture) {
    let (size, sector) = (fixture.whole(5000), fixture.sector_bytes());
    let (end, most) = (size as u64, u64::MAX - u64::MAX % sector as u64);
    fixture.put("a", &bytes(size));
    let target = fixture.system().open_target(&address("a")).unwrap();
    assert_eq!(target.device().sector_bytes(), sector as u64);
    assert!(target.device().write_at(end, &vec![1; sector]).is_err());
    assert!(target.device().write_at(end - sector as u64, &vec![1; 2 * sector]).is_err());
    assert!(target.device().zero_range(end, sector as u64).is_err());
    assert!(target.device().write_at(most, &vec![1; sector]).is_err());
    assert!(target.device().read_at(end - 1, &mut [0; 2]).is_err());
    target.device().flush().unwrap();
    assert_eq!(fixture.system().inspect(&address("a")).unwrap().size_bytes, end);
}

fn zeroed_ranges_read_as_zeros(fixture: &dyn Fixture) {
    let size = fixture.whole(70_001);
    for range in [(0, 70_001), (1, 4), (4096, 12_288), (5000, 65_000), (61_000, 70_001)] {
        let (offset, end) = (fixture.whole(range.0) as u64, fixture.whole(range.1) as u64);
        let length = end - offset;
        fixture.put("a", &bytes(size));
        let target = fixture.system().open_target(&address("a")).unwrap();
        target.device().zero_range(offset, length).unwrap();
        target.device().flush().unwrap();
        let mut expected = bytes(size);
        expected[usize::try_from(offset).unwrap()..usize::try_from(offset + length).unwrap()].fill(0);
        assert!(contents_of(&*target.device()) == expected, "{offset}+{length}");
    }
}

fn a_sealed_volume_that_changes_is_noticed(fixture: &dyn Fixture) {
    let size = fixture.whole(5000);
    fixture.put("a", &bytes(size));
    let (system, volume) = (fixture.system(), address("a"));
    let seal = system.seal(&volume).unwrap();
    assert_eq!(seal.size_bytes, size as u64);
    let view = SourceView::Sealed { uid: seal.uid.clone() };
    let opened = system.open_source(&volume, &view).unwrap();
    assert!(contents(&opened) == bytes(size));
    system.check_sealed(&volume, &seal.uid).unwrap();
    // The clock of a file system ticks in milliseconds.
    while system.seal(&volume).unwrap().uid == seal.uid {
        fixture.scribble("a", 7, b"!");
    }
    assert!(matches!(system.check_sealed(&volume, &seal.uid), Err(StorageError::SourceChanged { .. })));
    assert!(matches!(system.open_source(&volume, &view), Err(StorageError::SourceChanged { .. })));
    // Whoever opened it before the change reads nothing more from it, not even where nothing changed.
    assert!(opened.device.read_at(4096, &mut [0; 512]).is_err());
    assert!(opened.device.extent_at(4096).is_err());
}

fn a_sealed_volume_that_is_replaced_is_noticed(fixture: &dyn Fixture) {
    fixture.put("a", &bytes(fixture.whole(5000)));
    let seal = fixture.system().seal(&address("a")).unwrap();
    fixture.replace("a");
    let checked = fixture.system().check_sealed(&address("a"), &seal.uid);
    assert!(matches!(checked, Err(StorageError::SourceChanged { .. })), "{checked:?}");
}

fn only_one_opener_holds_the_lock(fixture: &dyn Fixture) {
    fixture.put("a", &bytes(fixture.whole(5000)));
    let open = || fixture.system().open_target(&address("a")).unwrap();
    let (first, second) = (open(), open());
    assert_eq!(first.try_lock().unwrap(), LockAttempt::Held);
    assert_eq!(second.try_lock().unwrap(), LockAttempt::HeldByAnother);
    assert_eq!(first.try_lock().unwrap(), LockAttempt::Held, "again");
    drop(first);
    assert_eq!(second.try_lock().unwrap(), LockAttempt::Held, "late, on the descriptor that was open all the time");
}

fn the_lock_lives_as_long_as_the_device(fixture: &dyn Fixture) {
    fixture.put("a", &bytes(fixture.whole(5000)));
    let first = fixture.system().open_target(&address("a")).unwrap();
    assert_eq!(first.try_lock().unwrap(), LockAttempt::Held);
    let device = first.device();
    drop(first);
    let second = fixture.system().open_target(&address("a")).unwrap();
    assert_eq!(second.try_lock().unwrap(), LockAttempt::HeldByAnother, "the device can still write");
    drop(device);
    assert_eq!(second.try_lock().unwrap(), LockAttempt::Held);
}

fn snapshots_are_refused_in_words(fixture: &dyn Fixture) {
    fixture.put("a", &bytes(fixture.whole(5000)));
    let error = fixture.system().create_snapshot(&address("a"), ID).unwrap_err();
    assert!(matches!(error, StorageError::SnapshotsUnsupported { .. }), "{error}");
    assert!(error.to_string().contains("--source-mode"), "{error}");
    assert_eq!(fixture.system().list_snapshots(&address("a")).unwrap(), []);
}

fn a_snapshot_does_not_change_when_its_volume_does(fixture: &dyn Fixture) {
    let size = fixture.whole(70_001);
    fixture.put("a", &bytes(size));
    let snapshot = fixture.system().create_snapshot(&address("a"), ID).unwrap();
    fixture.scribble("a", 4096, &[0; 9000]);
    let view = SourceView::Snapshot { id: ID, uid: snapshot.uid.clone() };
    let source = fixture.system().open_source(&address("a"), &view).unwrap();
    assert_eq!((snapshot.size_bytes, &source.identity), (size as u64, &snapshot.uid));
    assert!(contents(&source) == bytes(size));
}

fn a_snapshot_is_opened_only_by_its_own_identity(fixture: &dyn Fixture) {
    fixture.put("a", &bytes(fixture.whole(5000)));
    let open = |uid: &str| {
        let view = SourceView::Snapshot { id: ID, uid: uid.to_owned() };
        fixture.system().open_source(&address("a"), &view)
    };
    assert!(matches!(open("any"), Err(StorageError::SnapshotNotFound { .. })));
    let first = fixture.system().create_snapshot(&address("a"), ID).unwrap();
    assert!(matches!(open("other"), Err(StorageError::SnapshotMismatch { .. })));
    fixture.system().delete_snapshot(&address("a"), ID).unwrap();
    let second = fixture.system().create_snapshot(&address("a"), ID).unwrap();
    assert_ne!(first.uid, second.uid, "another snapshot under the same name");
    assert!(matches!(open(&first.uid), Err(StorageError::SnapshotMismatch { .. })));
    assert!(open(&second.uid).is_ok());
}

fn an_id_is_used_once(fixture: &dyn Fixture) {
    fixture.put("a", &bytes(fixture.whole(5000)));
    let first = fixture.system().create_snapshot(&address("a"), ID).unwrap();
    let again = fixture.system().create_snapshot(&address("a"), ID);
    assert!(matches!(again, Err(StorageError::SnapshotExists { .. })), "{again:?}");
    assert_eq!(fixture.system().list_snapshots(&address("a")).unwrap(), [first]);
}

fn snapshots_are_listed_and_deleted(fixture: &dyn Fixture) {
    fixture.put("a", &bytes(fixture.whole(5000)));
    fixture.put("a@b", &bytes(fixture.whole(600)));
    let system = fixture.system();
    assert_eq!(system.list_snapshots(&address("a")).unwrap(), []);
    let first = system.create_snapshot(&address("a"), SnapshotId(1)).unwrap();
    let second = system.create_snapshot(&address("a"), SnapshotId(2)).unwrap();
    let other = system.create_snapshot(&address("a@b"), SnapshotId(3)).unwrap();
    assert_eq!(system.list_snapshots(&address("a")).unwrap(), [first, second.clone()]);
    assert_eq!(system.list_snapshots(&address("a@b")).unwrap(), [other]);
    system.delete_snapshot(&address("a"), SnapshotId(1)).unwrap();
    system.delete_snapshot(&address("a"), SnapshotId(1)).unwrap();
    assert_eq!(system.list_snapshots(&address("a")).unwrap(), [second]);
    assert_eq!(system.volumes().unwrap().len(), 2, "snapshots are no volumes");
}

fn a_snapshot_outlives_its_volumes_name(fixture: &dyn Fixture) {
    fixture.put("a", &bytes(fixture.whole(5000)));
    let snapshot = fixture.system().create_snapshot(&address("a"), ID).unwrap();
    fixture.replace("a");
    let view = SourceView::Snapshot { id: ID, uid: snapshot.uid };
    assert!(contents(&fixture.system().open_source(&address("a"), &view).unwrap()) == bytes(fixture.whole(5000)));
}
