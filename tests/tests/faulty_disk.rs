//! The faulty disk itself under test: every fault as a file sees it and as a block device over it does, and tanist's own storage and state on
//! one that is sound.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FallocateFlags, FlockOperation, OFlags};
use rustix::io::Errno;
use tanist_model::event::EventCode;
use tanist_tests::cluster::Cluster;
use tanist_tests::faulty_disk::{DiskFault, FaultyDisk};
use tanist_tests::loop_device::LoopDevice;
use tanist_tests::scene::{RUN_LIMIT, Scene};
use tanist_tests::{build, compare, signal, volume, wait};
use tempfile::TempDir;

const SIZE: u64 = 1 << 20;
/// A slow disk's, and what a test may take that does not wait for it.
const SLOW: Duration = Duration::from_millis(400);
/// The server commits something within it.
const OUTAGE: Duration = Duration::from_secs(2);
const LONG: Duration = Duration::from_secs(3600);

/// A faulty disk over a folder of its own.
struct Place {
    disk: FaultyDisk,
    /// Dropped last.
    folder: TempDir,
}

impl Place {
    fn or_skip(test: &str) -> Option<Self> {
        let folder = TempDir::with_prefix_in("faulty-", build!().scratch).expect("make a directory");
        let (mount, backing) = (folder.path().join("mount"), folder.path().join("backing"));
        Some(Self { disk: FaultyDisk::or_skip(test, &mount, &backing)?, folder })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.disk.path.join(name)
    }

    /// What is stored.
    fn backing(&self, name: &str) -> PathBuf {
        self.folder.path().join("backing").join(name)
    }

    /// A file of ones that is stored.
    fn ones(&self, name: &str) -> File {
        let file = volume::blank(&self.path(name), SIZE);
        file.write_all_at(&vec![1; bytes(SIZE)], 0).and_then(|()| file.sync_all()).expect("write ones");
        File::options().read(true).write(true).open(self.path(name)).expect("open a file")
    }
}

fn bytes(size: u64) -> usize {
    usize::try_from(size).expect("it fits")
}

fn errno<T>(result: io::Result<T>) -> Option<Errno> {
    result.err().and_then(|error| Errno::from_io_error(&error))
}

fn read(file: &File, offset: u64) -> io::Result<[u8; 16]> {
    let mut buffer = [0; 16];
    file.read_exact_at(&mut buffer, offset).map(|()| buffer)
}

#[test]
fn a_sound_disk_is_a_file_system() {
    let Some(place) = Place::or_skip("a_sound_disk_is_a_file_system") else { return };
    std::fs::create_dir(place.path("folder")).unwrap();
    let (one, other) = (place.path("folder/one"), place.path("other"));
    volume::make(&one, SIZE + 4711, 7);
    std::fs::copy(&one, &other).unwrap();
    compare::assert_equal(&one, &other);
    std::fs::hard_link(&other, place.path("link")).unwrap();
    std::fs::rename(&other, place.path("folder/other")).unwrap();
    symlink("folder/other", place.path("symlink")).unwrap();
    compare::assert_equal(&one, &place.path("symlink"));
    let no_replace = rustix::fs::RenameFlags::NOREPLACE;
    let cwd = rustix::fs::CWD;
    let refused = rustix::fs::renameat_with(cwd, place.path("link"), cwd, place.path("symlink"), no_replace);
    assert_eq!(refused, Err(Errno::EXIST));
    let mut names: Vec<_> =
        std::fs::read_dir(&place.disk.path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["folder", "link", "symlink"]);
    std::fs::remove_file(place.path("link")).unwrap();
    assert_eq!(errno(std::fs::remove_dir(place.path("folder"))), Some(Errno::NOTEMPTY));
    let (file, copy) = (File::open(&one).unwrap(), File::create(place.path("copy")).unwrap());
    assert_eq!(rustix::fs::ioctl_ficlone(&copy, &file), Err(Errno::OPNOTSUPP), "no reflinks");
    assert_eq!(errno(file.read_at(&mut [0; 16], 3)), None);
    assert_eq!(errno(direct(&one).read_at(&mut [0; 16], 3)), Some(Errno::INVAL), "sectors");
}

#[test]
fn what_is_written_is_read_and_is_stored_by_a_sync() {
    let Some(place) = Place::or_skip("what_is_written_is_read_and_is_stored_by_a_sync") else { return };
    volume::make(&place.path("volume"), 8 * SIZE + 17, 3);
    let file = File::options().write(true).open(place.path("volume")).unwrap();
    file.write_all_at(b"unflushed", SIZE).unwrap();
    let before = file.metadata().unwrap().modified().unwrap();
    assert!(compare::first_difference(&place.path("volume"), &place.backing("volume")).is_some());
    file.sync_all().unwrap();
    compare::assert_equal(&place.path("volume"), &place.backing("volume"));
    assert_eq!(file.metadata().unwrap().modified().unwrap(), before, "a sync changes nothing that a seal looks at");
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    rustix::fs::fallocate(&file, punch, SIZE, SIZE).unwrap();
    assert_eq!(compare::stored_bytes(&place.path("volume"), SIZE, 2 * SIZE), 0);
    drop(file);
    let kept = compare::fingerprint(&place.path("volume"));
    let Place { disk, folder } = place;
    drop(disk);
    assert_eq!(std::fs::read_dir(folder.path().join("mount")).unwrap().count(), 0, "it is unmounted");
    assert_eq!(compare::fingerprint(&folder.path().join("backing/volume")), kept, "and everything is stored");
}

#[test]
fn a_lock_excludes_as_on_any_disk() {
    let Some(place) = Place::or_skip("a_lock_excludes_as_on_any_disk") else { return };
    let (first, second) = (place.ones("file"), File::open(place.path("file")).unwrap());
    rustix::fs::flock(first.as_fd(), FlockOperation::NonBlockingLockExclusive).unwrap();
    let attempt = || rustix::fs::flock(second.as_fd(), FlockOperation::NonBlockingLockExclusive);
    assert_eq!(attempt(), Err(Errno::WOULDBLOCK));
    place.disk.set(DiskFault::WriteErrors);
    drop(first);
    assert_eq!(attempt(), Ok(()), "the kernel keeps it, and not the disk");
}

#[test]
fn a_file_meets_every_fault() {
    let Some(place) = Place::or_skip("a_file_meets_every_fault") else { return };
    let file = place.ones("file");
    place.disk.set(DiskFault::ReadErrors);
    assert_eq!((errno(read(&file, 0)), errno(file.write_all_at(b"2", 0))), (Some(Errno::IO), None));
    assert_eq!(errno(std::fs::read_dir(&place.disk.path).and_then(|mut all| all.next().unwrap())), Some(Errno::IO));

    place.disk.set(DiskFault::WriteErrors);
    assert_eq!((errno(file.write_all_at(b"3", 0)), errno(file.sync_all())), (Some(Errno::IO), Some(Errno::IO)));
    assert_eq!(errno(File::create(place.path("new"))), Some(Errno::IO));
    assert_eq!(errno(std::fs::rename(place.path("file"), place.path("new"))), Some(Errno::IO));
    assert_eq!(read(&file, 0).unwrap()[..2], [b'2', 1]);

    place.disk.set(DiskFault::Full);
    assert_eq!((errno(file.sync_all()), errno(file.write_all_at(b"4", 0))), (None, None), "it has its place");
    assert_eq!(errno(file.write_all_at(b"4", SIZE)), Some(Errno::NOSPC));
    assert_eq!(errno(std::fs::create_dir(place.path("new"))), Some(Errno::NOSPC));
    file.set_len(3 * SIZE).unwrap();
    assert_eq!(errno(file.write_all_at(b"4", 2 * SIZE)), Some(Errno::NOSPC), "a hole has none");
    assert_eq!(rustix::fs::statvfs(&place.disk.path).unwrap().f_bavail, 0);

    place.disk.set(DiskFault::Sound);
    assert!(errno(file.write_all_at(b"5", 2 * SIZE)).is_none() && errno(file.sync_all()).is_none());
    assert_eq!((read(&file, 0).unwrap()[0], read(&file, 2 * SIZE).unwrap()[0]), (b'4', b'5'));
    assert!(rustix::fs::statvfs(&place.disk.path).unwrap().f_bavail > 0);
}

#[test]
fn a_failed_sync_loses_what_it_was_to_store_and_says_so_once() {
    let Some(place) = Place::or_skip("a_failed_sync_loses_what_it_was_to_store_and_says_so_once") else { return };
    let file = place.ones("file");
    file.write_all_at(&[2; 5000], 3000).unwrap();
    file.write_all_at(b"behind the end", SIZE).unwrap();
    assert_eq!((read(&file, 3000).unwrap(), file.metadata().unwrap().len()), ([2; 16], SIZE + 14));
    place.disk.set(DiskFault::FailedSync);
    assert_eq!(errno(file.sync_data()), Some(Errno::IO));
    assert!(std::fs::read(place.path("file")).unwrap() == vec![1; bytes(SIZE)], "the old contents, and the old size");
    assert_eq!(errno(file.sync_data()), None, "once");
    file.write_all_at(&[3; 16], 0).unwrap();
    assert_eq!((errno(file.sync_data()), read(&file, 0).unwrap()), (Some(Errno::IO), [1; 16]));
    place.disk.set(DiskFault::Sound);
    file.write_all_at(&[4; 16], 0).and_then(|()| file.sync_data()).unwrap();
    assert_eq!(std::fs::read(place.backing("file")).unwrap()[..17], [[4; 16].as_slice(), &[1]].concat());
}

#[test]
fn on_a_slow_disk_each_waits_for_itself() {
    let Some(place) = Place::or_skip("on_a_slow_disk_each_waits_for_itself") else { return };
    let file = place.ones("file");
    place.disk.set(DiskFault::Slow(SLOW));
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for number in 0..8 {
            let file = &file;
            scope.spawn(move || read(file, number * 4096).unwrap());
        }
    });
    let took = begun.elapsed();
    assert!(took >= SLOW && took < 4 * SLOW, "{took:?}");
    let begun = Instant::now();
    file.metadata().unwrap();
    assert!(begun.elapsed() < SLOW, "what a kernel has in memory is there");

    place.disk.set(DiskFault::Slow(LONG));
    std::thread::scope(|scope| {
        let written = scope.spawn(|| file.write_all_at(&[2; 16], 0));
        wait::pass(SLOW / 4);
        assert!(!written.is_finished());
        place.disk.set(DiskFault::Sound);
        written.join().unwrap().unwrap();
    });
    assert_eq!(read(&file, 0).unwrap(), [2; 16]);
}

#[test]
fn it_is_unmounted_also_while_a_file_of_it_is_open() {
    let Some(place) = Place::or_skip("it_is_unmounted_also_while_a_file_of_it_is_open") else { return };
    let file = place.ones("file");
    place.disk.set(DiskFault::Slow(LONG));
    let Place { disk, folder } = place;
    drop(disk);
    assert_eq!(std::fs::read_dir(folder.path().join("mount")).unwrap().count(), 0);
    assert_eq!(read(&file, 0).unwrap(), [1; 16], "who has it open has it, and it is sound");
}

fn direct(path: &Path) -> File {
    let flags = i32::try_from(OFlags::DIRECT.bits()).expect("a flag fits");
    OpenOptions::new().read(true).write(true).custom_flags(flags).open(path).expect("open directly")
}

/// A page at an address that direct I/O takes.
struct Page(Vec<u8>);

impl Page {
    fn of(byte: u8) -> Self {
        Self(vec![byte; 2 * 4096])
    }

    fn bytes(&mut self) -> &mut [u8] {
        let start = self.0.as_ptr().align_offset(4096);
        &mut self.0[start..start + 4096]
    }

    fn read(device: &File, offset: u64) -> io::Result<u8> {
        let mut page = Self::of(0);
        device.read_exact_at(page.bytes(), offset).map(|()| page.bytes()[0])
    }

    fn write(device: &File, offset: u64, byte: u8) -> io::Result<()> {
        device.write_all_at(Self::of(byte).bytes(), offset)
    }
}

#[test]
fn a_block_device_over_it_meets_every_fault() {
    let Some(place) = Place::or_skip("a_block_device_over_it_meets_every_fault") else { return };
    place.ones("disk");
    let hole = volume::blank(&place.path("sparse"), SIZE);
    drop(hole);
    let [full, sparse] = ["disk", "sparse"].map(|name| LoopDevice::attach(&place.path(name), 512));
    let (Ok(full), Ok(sparse)) = (full, sparse) else {
        println!("skipped: there are no loop devices");
        return;
    };
    let (device, blank) = (direct(&full.path), direct(&sparse.path));
    assert_eq!((Page::read(&device, 4096).unwrap(), Page::read(&blank, 4096).unwrap()), (1, 0));
    place.disk.set(DiskFault::ReadErrors);
    assert_eq!(errno(Page::read(&device, 0)), Some(Errno::IO));
    place.disk.set(DiskFault::WriteErrors);
    assert_eq!(errno(Page::write(&device, 0, 2)), Some(Errno::IO));
    place.disk.set(DiskFault::Full);
    assert_eq!((errno(Page::write(&device, 0, 2)), errno(Page::write(&blank, 0, 2))), (None, Some(Errno::NOSPC)));
    place.disk.set(DiskFault::Sound);
    assert_eq!((errno(device.sync_data()), Page::read(&device, 0).unwrap()), (None, 2));

    Page::write(&device, 8192, 3).unwrap();
    place.disk.set(DiskFault::FailedSync);
    assert_eq!((Page::read(&device, 8192).unwrap(), errno(device.sync_data())), (3, Some(Errno::IO)));
    assert_eq!((Page::read(&device, 8192).unwrap(), Page::read(&device, 0).unwrap()), (1, 2));

    place.disk.set(DiskFault::Slow(SLOW));
    let begun = Instant::now();
    Page::read(&device, 0).unwrap();
    assert!(begun.elapsed() >= SLOW);
    place.disk.set(DiskFault::Sound);
    let zero = FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE;
    rustix::fs::fallocate(&device, zero, 0, SIZE).unwrap();
    assert_eq!((Page::read(&device, 0).unwrap(), errno(device.sync_data())), (0, None));
}

#[test]
fn a_cluster_with_its_storage_on_it_syncs() {
    let Some(place) = Place::or_skip("a_cluster_with_its_storage_on_it_syncs") else { return };
    let cluster = Cluster::builder(build!()).storage_place(&place.disk.path).start();
    let scene = Scene::set(&cluster, "db", (48 << 20) + 4096 + 17, 5, &["--verify", "full"]);
    scene.run(&cluster);
    volume::mutate(&scene.source, 6);
    scene.run(&cluster);
    compare::assert_equal(&scene.source, &place.backing("san-b/db"));
}

#[test]
fn a_server_with_its_state_on_it_syncs_and_starts_again() {
    let Some(place) = Place::or_skip("a_server_with_its_state_on_it_syncs_and_starts_again") else { return };
    let mut cluster = Cluster::builder(build!()).server_place(&place.path("server")).start();
    let scene = Scene::set(&cluster, "db", 16 << 20, 8, &[]);
    scene.run(&cluster);
    cluster.kill_server();
    cluster.start_server();
    volume::mutate(&scene.source, 9);
    scene.wait_whole(&cluster);
    scene.run(&cluster);
}

/// Each fault strikes in the middle of a run and goes when the server has told of it. Whatever the run makes of it, what it publishes is the
/// source.
#[test]
fn a_run_ends_right_whatever_its_disk_did() {
    let Some(place) = Place::or_skip("a_run_ends_right_whatever_its_disk_did") else { return };
    let cluster = Cluster::builder(build!()).agents(2).storage_place(&place.disk.path).start();
    let scene = Scene::set_noise(&cluster, "db", 48 << 20, 11, &["--limit", "32MiB/s"]);
    // Full is the first: only then the target has no space yet.
    let faults = [DiskFault::Full, DiskFault::ReadErrors, DiskFault::WriteErrors, DiskFault::FailedSync];
    for (seed, fault) in (12..).zip(faults) {
        volume::renew(&scene.source, seed);
        let (run, _) = scene.run_until(&cluster, 20);
        let since = signal::now();
        place.disk.set(fault);
        cluster.wait_event(EventCode::RunRepaired, since, RUN_LIMIT);
        place.disk.set(DiskFault::Sound);
        scene.wait_whole(&cluster);
        scene.wait_equal(&cluster, run);
    }
}

/// The same of the server's state. It commits nothing meanwhile, and goes on by itself.
#[test]
fn a_server_goes_on_whatever_its_disk_did() {
    let Some(place) = Place::or_skip("a_server_goes_on_whatever_its_disk_did") else { return };
    let cluster = Cluster::builder(build!()).agents(2).server_place(&place.path("server")).start();
    let scene = Scene::set_noise(&cluster, "db", 48 << 20, 11, &["--limit", "16MiB/s"]);
    for (seed, fault) in (12..).zip([DiskFault::Full, DiskFault::WriteErrors, DiskFault::FailedSync]) {
        volume::renew(&scene.source, seed);
        let (run, _) = scene.run_until(&cluster, 20);
        let since = signal::now();
        place.disk.set(fault);
        wait::pass(OUTAGE);
        place.disk.set(DiskFault::Sound);
        cluster.wait_event(EventCode::StoreFailing, since, RUN_LIMIT);
        cluster.wait_event(EventCode::StoreRecovered, since, RUN_LIMIT);
        scene.wait_equal(&cluster, run);
    }
}
