//! Every server that is at hand, read and written through the client and looked at from behind.

use std::path::Path;

use tanist_datapath::{BlockDevice, ExtentKind};
use tanist_model::volume::{StorageKind, VolumeContent};
use tanist_storage::{SourceView, StorageError, StorageSystem};

use super::nbd_server::{self, NbdServer};
use super::{MIB, address, bytes, described, directory, image, system};

const SIZE: u64 = 8 * MIB;

fn whole(device: &dyn BlockDevice) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(device.size_bytes()).unwrap()];
    device.read_at(0, &mut bytes).unwrap();
    bytes
}

/// Writes and zeros all over an export, in whole blocks of it, and compares with what a file would hold.
fn exercise(socket: &Path, behind: Option<&Path>) {
    let system = system(described(socket));
    let target = system.open_target(&address("disk")).unwrap();
    let (device, sector) = (target.device(), target.device().sector_bytes());
    assert_eq!(device.size_bytes(), SIZE);
    let mut model = whole(&*device);
    for (n, (offset, length)) in
        [(0, 3 * MIB), (4096, 4096), (5 * MIB - 4096, 8192), (SIZE - 65536, 65536)].iter().enumerate()
    {
        let data = bytes(n as u64, *length);
        device.write_at(*offset, &data).unwrap();
        model[usize::try_from(*offset).unwrap()..][..data.len()].copy_from_slice(&data);
    }
    for (offset, length) in [(MIB, MIB + 65536), (8192, 4096), (SIZE - 4096, 4096)] {
        device.zero_range(offset, length).unwrap();
        model[usize::try_from(offset).unwrap()..][..usize::try_from(length).unwrap()].fill(0);
    }
    device.flush().unwrap();
    assert!(whole(&*device) == model, "read back on the same connections");
    let source = system.open_source(&address("disk"), &SourceView::Live).unwrap();
    assert!(whole(&*source.device) == model, "read back on others");
    // Any range is read, whatever the blocks of the server are.
    let mut few = [0; 777];
    source.device.read_at(4095, &mut few).unwrap();
    assert!(few == model[4095..4095 + 777]);
    assert!(device.write_at(SIZE, &vec![1; usize::try_from(sector).unwrap()]).is_err());
    assert!(device.read_at(SIZE - 1, &mut [0; 2]).is_err());
    check_extents(&*source.device, &model);
    if let Some(path) = behind {
        assert!(std::fs::read(path).unwrap() == model, "what the server's own file holds");
    }
}

/// Extents follow one another, and a hole reads as zeros.
fn check_extents(device: &dyn BlockDevice, model: &[u8]) {
    let mut at = 0;
    while at < device.size_bytes() {
        let extent = device.extent_at(at).unwrap();
        assert!(extent.end > at && extent.end <= device.size_bytes(), "{extent:?}");
        let stretch = &model[usize::try_from(at).unwrap()..usize::try_from(extent.end).unwrap()];
        assert!(extent.kind == ExtentKind::Data || stretch.iter().all(|byte| *byte == 0), "{extent:?} at {at}");
        at = extent.end;
    }
}

#[test]
fn qemu_nbd_is_read_and_written() {
    if !nbd_server::is_there("qemu-nbd") {
        return;
    }
    let folder = directory();
    for (n, more) in [&["--format=raw"][..], &["--format=raw", "--cache=none", "--aio=threads", "--discard=unmap"]]
        .iter()
        .enumerate()
    {
        let (socket, disk) = (folder.path().join(format!("{n}.sock")), image(folder.path(), &n.to_string(), SIZE));
        let _server = NbdServer::qemu_nbd(&socket, &disk, more);
        exercise(&socket, Some(&disk));
    }
}

#[test]
fn qemu_storage_daemon_is_read_and_written() {
    if !nbd_server::is_there("qemu-storage-daemon") {
        return;
    }
    let folder = directory();
    let (socket, disk) = (folder.path().join("s"), image(folder.path(), "disk", SIZE));
    let file = format!("driver=file,node-name=disk,filename={}", disk.display());
    let listen = format!("addr.type=unix,addr.path={}", socket.display());
    let export = "type=nbd,id=e,node-name=disk,name=vda,writable=on";
    let arguments = ["--blockdev", &file, "--nbd-server", &listen, "--export", export, "--pidfile", "PID"];
    let _server = NbdServer::start("qemu-storage-daemon", &socket, &arguments);
    let mut by_name = described(&socket);
    by_name.exports = [("disk".to_owned(), "vda".to_owned())].into();
    let listed = described(&socket);
    let listed = system(tanist_storage::NbdServer { exports: Default::default(), ..listed });
    let volumes = listed.volumes().unwrap();
    let seen: Vec<_> =
        volumes.iter().map(|v| (v.address.to_string(), v.size_bytes, v.read_only, v.content.clone())).collect();
    assert_eq!(seen, [("san-e/vda".to_owned(), SIZE, false, VolumeContent::Blank)]);
    let missing = listed.inspect(&address("vdb"));
    assert!(matches!(missing, Err(StorageError::NotFound { .. })), "{missing:?}");
    assert_eq!(
        listed.inspect(&address("vda")).unwrap().identity,
        system(by_name).inspect(&address("disk")).unwrap().identity
    );
}

#[test]
fn nbdkit_is_read_and_written_with_every_ability_missing_in_turn() {
    if !nbd_server::is_there("nbdkit") {
        return;
    }
    let folder = directory();
    let disk = image(folder.path(), "disk", SIZE);
    let file = format!("file={}", disk.display());
    let variants: [(&[&str], bool); 9] = [
        (&["file", &file], true),
        (&["memory", "8M"], false),
        (&["--filter=nozero", "memory", "8M"], false),
        (&["--filter=nozero", "memory", "8M", "zeromode=notrim"], false),
        (&["--filter=noextents", "file", &file], true),
        (
            &[
                "--filter=blocksize-policy",
                "memory",
                "8M",
                "blocksize-minimum=4096",
                "blocksize-preferred=4096",
                "blocksize-maximum=65536",
                "blocksize-error-policy=error",
            ],
            false,
        ),
        (&["--filter=multi-conn", "memory", "8M", "multi-conn-mode=disable"], false),
        (&["--filter=fua", "memory", "8M", "fuamode=force"], false),
        (&["--no-sr", "memory", "8M"], false),
    ];
    for (n, (variant, is_file)) in variants.iter().enumerate() {
        image(folder.path(), "disk", SIZE);
        let socket = folder.path().join(format!("{n}.sock"));
        let _server = NbdServer::nbdkit(&socket, variant);
        println!("{variant:?}");
        exercise(&socket, is_file.then_some(disk.as_path()));
    }
}

/// Every eight bytes of the pattern are their own offset.
#[test]
fn what_is_read_comes_from_where_it_was_asked_for() {
    if !nbd_server::is_there("nbdkit") {
        return;
    }
    let folder = directory();
    let socket = folder.path().join("s");
    let _server = NbdServer::nbdkit(&socket, &["--filter=delay", "pattern", "64M", "rdelay=2ms"]);
    let system = system(described(&socket));
    let source = system.open_source(&address("disk"), &SourceView::Live).unwrap();
    let device = &source.device;
    std::thread::scope(|scope| {
        for thread in 0..6_u64 {
            scope.spawn(move || {
                for n in 0..20_u64 {
                    let offset = (thread * 977 + n * 7919) * 4096 % (60 * MIB);
                    let mut read = vec![0; 131_072];
                    device.read_at(offset, &mut read).unwrap();
                    let (words, _) = read.as_chunks::<8>();
                    let right =
                        words.iter().enumerate().all(|(i, word)| u64::from_be_bytes(*word) == offset + 8 * i as u64);
                    assert!(right, "thread {thread}, at {offset}");
                }
            });
        }
    });
}

#[test]
fn an_export_says_what_it_is_and_what_it_cannot_be() {
    if !nbd_server::is_there("nbdkit") {
        return;
    }
    let folder = directory();
    let read_only = folder.path().join("r");
    let _server = NbdServer::nbdkit(&read_only, &["--readonly", "memory", "8M"]);
    let system_of = |socket: &Path| system(described(socket));
    let seen = system_of(&read_only);
    let report = seen.report();
    assert_eq!((report.kind, report.error), (StorageKind::Nbd, None));
    assert!(!report.capabilities.kernel_lock && !report.capabilities.snapshots);
    assert!(seen.inspect(&address("disk")).unwrap().read_only);
    let refused = seen.open_target(&address("disk")).unwrap_err();
    assert!(refused.to_string().contains("read-only"), "{refused}");
    let places: std::collections::BTreeSet<u64> =
        (0..6).map(|_| seen.canary(&address("disk")).unwrap().offset).collect();
    assert!(places.len() > 3, "{places:?}");
    let coarse = folder.path().join("c");
    let policy = ["--filter=blocksize-policy", "memory", "8M", "blocksize-minimum=65536", "blocksize-preferred=65536"];
    let _server = NbdServer::nbdkit(&coarse, &policy);
    let refused = system_of(&coarse).open_target(&address("disk")).unwrap_err();
    assert!(refused.to_string().contains("blocks of 65536 bytes"), "{refused}");
    let nobody = system_of(&folder.path().join("nobody"));
    let absent = nobody.inspect(&address("disk"));
    assert!(matches!(absent, Err(StorageError::Absent { .. })), "{absent:?}");
    assert!(nobody.report().error.is_some_and(|error| error.contains("is the server running")));
}

/// A sealed source that is opened is the one that was sealed, as far as can be told.
#[test]
fn a_sealed_export_of_another_size_is_noticed() {
    if !nbd_server::is_there("nbdkit") {
        return;
    }
    let folder = directory();
    let socket = folder.path().join("s");
    let system = system(described(&socket));
    let first = NbdServer::nbdkit(&socket, &["memory", "8M"]);
    let seal = system.seal(&address("disk")).unwrap();
    assert_eq!(seal.size_bytes, 8 * MIB);
    let view = SourceView::Sealed { uid: seal.uid.clone() };
    let opened = system.open_source(&address("disk"), &view).unwrap();
    assert!(opened.device.write_at(0, &[0; 512]).is_err(), "a sealed source is not written");
    drop(first);
    std::fs::remove_file(&socket).unwrap();
    let _second = NbdServer::nbdkit(&socket, &["memory", "9M"]);
    assert!(matches!(system.check_sealed(&address("disk"), &seal.uid), Err(StorageError::SourceChanged { .. })));
    assert!(matches!(system.open_source(&address("disk"), &view), Err(StorageError::SourceChanged { .. })));
    let resized = super::wait::until("the lost connection is made again", std::time::Duration::from_secs(10), || {
        let error = opened.device.read_at(0, &mut [0; 512]).unwrap_err();
        (error.kind() == std::io::ErrorKind::UnexpectedEof).then_some(error)
    });
    assert!(resized.to_string().contains("bytes when it was opened"), "{resized}");
}

fn run(program: &str, arguments: &[&str]) {
    let said = std::process::Command::new(program).args(arguments).output().unwrap();
    assert!(said.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&said.stderr));
}

/// A bitmap with the name of the snapshot counts from that snapshot on; another name proves nothing.
#[test]
fn a_dirty_bitmap_tells_what_changed_since_the_snapshot_of_its_name() {
    if !nbd_server::is_there("qemu-nbd") || !nbd_server::is_there("qemu-img") {
        return;
    }
    let folder = directory();
    let (socket, disk) = (folder.path().join("s"), folder.path().join("disk"));
    let path = disk.display().to_string();
    let base = tanist_model::id::SnapshotId(7);
    let bitmap = format!("tanist-{base}");
    run("qemu-img", &["create", "-q", "-f", "qcow2", &path, "8M"]);
    run("qemu-img", &["bitmap", "--add", "-f", "qcow2", &path, &bitmap]);
    let mut server = NbdServer::qemu_nbd(&socket, &disk, &["--format=qcow2"]);
    let device = system(described(&socket)).open_target(&address("disk")).unwrap().device();
    for (offset, length) in [(0, 4096), (5 * MIB, 65536)] {
        device.write_at(offset, &bytes(offset, length)).unwrap();
    }
    device.flush().unwrap();
    drop(device);
    server.terminate();
    let _second = NbdServer::qemu_nbd(&socket, &disk, &["--format=qcow2", "--read-only", "--bitmap", &bitmap]);
    let system = system(described(&socket));
    let contexts = system.metadata_contexts(&address("disk"), "qemu:dirty-bitmap:").unwrap();
    assert_eq!(contexts, [format!("qemu:dirty-bitmap:{bitmap}")]);
    let changed = system.changed_since(&address("disk"), base, &SourceView::Live).unwrap().expect("it has the bitmap");
    let is_in = |at: u64| changed.iter().any(|range| (range.start..range.end).contains(&at));
    assert!(is_in(0) && is_in(4095) && is_in(5 * MIB) && is_in(5 * MIB + 65535), "{changed:?}");
    assert!(!is_in(2 * MIB) && !is_in(7 * MIB), "{changed:?}");
    let other = tanist_model::id::SnapshotId(8);
    assert_eq!(
        system.changed_since(&address("disk"), other, &SourceView::Live).unwrap(),
        None,
        "another bitmap proves nothing"
    );
}
