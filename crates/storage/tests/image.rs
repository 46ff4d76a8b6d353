//! What is particular to image files: names that try to escape, users of a file, and the kernel's own view of the lock.

mod support;

use std::os::unix::fs::symlink;
use std::process::Command;
use std::sync::mpsc::channel;

use support::{Fixture, ID, Images, XFS, address, bytes, contents, mount, run};
use tanist_datapath::{Transfer, TransferConfig, TransferEvent};
use tanist_model::run::Checkpoint;
use tanist_storage::{LockAttempt, SourceView, StorageError};

fn images() -> (tempfile::TempDir, Images) {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let images = Images::in_directory(directory.path());
    (directory, images)
}

#[test]
fn links_directories_and_pipes_are_no_volumes() {
    let (_outside, elsewhere) = images();
    elsewhere.put("secret", &bytes(5000));
    let (_directory, images) = images();
    symlink(elsewhere.path("secret"), images.path("link")).unwrap();
    std::fs::create_dir(images.path("directory")).unwrap();
    run(Command::new("mkfifo").arg(images.path("pipe"))).unwrap();
    for name in ["link", "directory", "pipe"] {
        let errors = [
            images.system().inspect(&address(name)).err(),
            images.system().open_target(&address(name)).err(),
            images.system().open_source(&address(name), &SourceView::Live).err(),
        ];
        for error in errors {
            assert!(matches!(error, Some(StorageError::NotAVolume { .. })), "{name}: {error:?}");
        }
    }
    assert_eq!(images.system().volumes().unwrap(), []);
}

#[test]
fn a_directory_that_is_not_there_is_reported_and_used_when_it_comes() {
    let (directory, _) = images();
    let images = Images::in_directory(&directory.path().join("later"));
    assert!(images.system().report().error.unwrap().contains("later"));
    assert!(images.system().volumes().unwrap_err().is_retryable());
    std::fs::create_dir(directory.path().join("later")).unwrap();
    let report = images.system().report();
    assert_eq!((report.error, images.system().volumes().unwrap()), (None, Vec::new()));
    assert_eq!(report.identity, images.system().report().identity);
    assert_eq!(std::fs::read_dir(directory.path().join("later")).unwrap().count(), 0, "looking leaves nothing behind");
}

#[test]
fn hard_links_are_one_volume() {
    let (_directory, images) = images();
    images.put("a", &bytes(5000));
    std::fs::hard_link(images.path("a"), images.path("b")).unwrap();
    let identity = |name| images.system().inspect(&address(name)).unwrap().identity;
    assert_eq!(identity("a"), identity("b"));
}

/// Another process, with a lock of its own on a descriptor of its own, cannot have it while the device lives, and can after.
#[test]
fn the_kernel_shows_the_lock_to_other_processes() {
    let (_directory, images) = images();
    images.put("a", &bytes(5000));
    let other_process_can_lock =
        || run(Command::new("flock").arg("--nonblock").arg(images.path("a")).arg("true")).is_ok();
    let target = images.system().open_target(&address("a")).unwrap();
    assert!(other_process_can_lock());
    assert_eq!(target.try_lock().unwrap(), LockAttempt::Held);
    assert!(!other_process_can_lock());
    assert_eq!(images.system().inspect(&address("a")).unwrap().in_use_by, None, "our own lock is no other's use");
    drop(target);
    assert!(other_process_can_lock());
}

#[test]
fn a_lock_of_another_process_is_named() {
    let (_directory, images) = images();
    images.put("a", &bytes(5000));
    let mut holder = Command::new("flock")
        .arg(images.path("a"))
        .args(["sh", "-c", "echo held; read line"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut held = [0; 5];
    std::io::Read::read_exact(holder.stdout.as_mut().unwrap(), &mut held).unwrap();
    let in_use_by = images.system().inspect(&address("a")).unwrap().in_use_by;
    let target = images.system().open_target(&address("a")).unwrap();
    assert_eq!(target.try_lock().unwrap(), LockAttempt::HeldByAnother);
    drop(holder.stdin.take());
    holder.wait().unwrap();
    assert_eq!(in_use_by, Some(format!("locked by process {}", holder.id())));
    assert_eq!(target.try_lock().unwrap(), LockAttempt::Held);
}

/// An aborted transfer holds the lock until its last I/O has ended, and not longer.
#[test]
fn a_transfer_frees_the_lock_when_its_io_has_ended() {
    let (_directory, images) = images();
    images.put("source", &bytes(20 << 20));
    images.put("target", &vec![0; 20 << 20]);
    let source = images.system().open_source(&address("source"), &SourceView::Live).unwrap();
    let target = images.system().open_target(&address("target")).unwrap();
    assert_eq!(target.try_lock().unwrap(), LockAttempt::Held);
    let successor = images.system().open_target(&address("target")).unwrap();
    let (sender, events) = channel();
    let config = TransferConfig::new(Checkpoint::START, 20 << 20);
    let transfer = Transfer::start(source.device, target.device(), config, move |event| sender.send(event).unwrap());
    drop(target);
    assert!(matches!(events.recv().unwrap(), TransferEvent::Durable { .. }));
    transfer.abort();
    transfer.join();
    assert_eq!(successor.try_lock().unwrap(), LockAttempt::Held);
}

/// The whole way of a run: a snapshot, a copy of it while its volume goes on changing, a snapshot of the target.
#[test]
fn a_snapshot_is_copied_while_its_volume_changes() {
    let mounted = match mount(XFS, 512 << 20) {
        Ok(mounted) => mounted,
        Err(reason) => return println!("skipped: a_snapshot_is_copied_while_its_volume_changes: {reason}"),
    };
    let images = Images::in_directory(&mounted.path);
    for size in [511, (1 << 20) - 1, (7 << 20) + 513] {
        let (source, target) = (format!("source-{size}"), format!("target-{size}"));
        images.put(&source, &bytes(size));
        images.put(&target, &vec![9; size]);
        let snapshot = images.system().create_snapshot(&address(&source), ID).unwrap();
        let view = SourceView::Snapshot { id: ID, uid: snapshot.uid };
        let opened = images.system().open_source(&address(&source), &view).unwrap();
        let written_to = images.system().open_target(&address(&target)).unwrap();
        assert!(opened.device.is_direct() && written_to.device().is_direct());
        let (sender, events) = channel();
        let config = TransferConfig::new(Checkpoint::START, snapshot.size_bytes);
        let transfer =
            Transfer::start(opened.device, written_to.device(), config, move |event| sender.send(event).unwrap());
        images.scribble(&source, 0, &vec![5; size]);
        transfer.join();
        assert!(matches!(events.iter().last(), Some(TransferEvent::Finished { .. })));
        let kept = images.system().create_snapshot(&address(&target), ID).unwrap();
        images.scribble(&target, 0, &vec![6; size]);
        let view = SourceView::Snapshot { id: ID, uid: kept.uid };
        assert!(contents(&images.system().open_source(&address(&target), &view).unwrap()) == bytes(size), "{size}");
    }
}

#[test]
fn a_mounted_image_names_its_mount() {
    let mounted = match mount(&["mkfs.ext4", "-q", "-F"], 16 << 20) {
        Ok(mounted) => mounted,
        Err(reason) => return println!("skipped: a_mounted_image_names_its_mount: {reason}"),
    };
    let images = Images::in_directory(mounted.path.parent().unwrap());
    let report = images.system().inspect(&address("image")).unwrap();
    let user = report.in_use_by.unwrap();
    assert!(user.starts_with(&format!("mounted at {} through /dev/loop", mounted.path.display())), "{user}");
}

#[test]
fn a_read_only_file_system_says_so() {
    let mounted = match mount(&["mkfs.ext4", "-q", "-F"], 16 << 20) {
        Ok(mounted) => mounted,
        Err(reason) => return println!("skipped: a_read_only_file_system_says_so: {reason}"),
    };
    let images = Images::in_directory(&mounted.path);
    images.put("a", &bytes(5000));
    assert!(!images.system().inspect(&address("a")).unwrap().read_only);
    run(Command::new("mount").args(["-o", "remount,ro"]).arg(&mounted.path)).unwrap();
    assert!(images.system().inspect(&address("a")).unwrap().read_only);
    assert!(!images.system().open_target(&address("a")).unwrap_err().is_retryable());
}
