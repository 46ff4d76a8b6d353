//! What is particular to block devices: who may be written, the exclusive claim on the descriptor that does the I/O, the same bytes
//! under several names, and devices that go away. On loop devices, where this machine lets us have them.

mod support;

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use support::{Blocks, Fixture, Images, LoopDevice, address, bytes, contents_of, run, system_name, wait};
use tanist_model::volume::VolumeContent;
use tanist_storage::{BlockDevices, DeviceSelector, LockAttempt, SourceView, StorageError, StorageSystem};

const LONG: Duration = Duration::from_secs(30);

/// `None` where there are no loop devices; the line for the log is written.
fn blocks(sector_bytes: u32) -> Option<Blocks> {
    Blocks::new(sector_bytes).inspect_err(|reason| println!("skipped: block devices: {reason}")).ok()
}

/// Opens as mount(8) and mkfs do: exclusively.
fn claim(device: &Path) -> std::io::Result<std::fs::File> {
    let exclusive = i32::try_from(rustix::fs::OFlags::EXCL.bits()).unwrap();
    OpenOptions::new().read(true).custom_flags(exclusive).open(device)
}

fn refusal(blocks: &Blocks, volume: &str) -> String {
    let refused = blocks.system().open_target(&address(volume)).unwrap_err();
    assert!(matches!(refused, StorageError::Refused { .. }), "{refused}");
    refused.to_string()
}

#[test]
fn a_report_says_where_a_device_is_and_how_it_is_written() {
    let Some(blocks) = blocks(4096) else { return };
    blocks.put("a", &bytes(8192));
    let report = blocks.system().inspect(&address("a")).unwrap();
    let device = report.device.clone().unwrap();
    assert_eq!((device.logical_sector_bytes, report.sector_bytes()), (4096, 4096));
    assert_eq!(device.path, blocks.device("a").display().to_string());
    let storage = blocks.system().report();
    assert!(storage.location.starts_with("1 device of "), "{storage:?}");
    assert!(storage.capabilities.kernel_lock && !storage.capabilities.snapshots, "{storage:?}");
}

/// Half a sector would have to be read and written back, and could bring back what another agent has just overwritten.
#[test]
fn parts_of_sectors_are_read_and_never_written() {
    for sector in [512, 4096] {
        let Some(blocks) = blocks(sector) else { return };
        blocks.put("a", &bytes(16384));
        let target = blocks.system().open_target(&address("a")).unwrap();
        let (device, sector) = (target.device(), u64::from(sector));
        for (offset, length) in [(1, sector), (0, sector - 1), (sector, 1)] {
            let kinds = [
                device.write_at(offset, &vec![0; usize::try_from(length).unwrap()]).unwrap_err().kind(),
                device.zero_range(offset, length).unwrap_err().kind(),
            ];
            assert_eq!(kinds, [ErrorKind::InvalidInput; 2], "{offset}+{length}");
        }
        let mut part = [0; 100];
        device.read_at(4090, &mut part).unwrap();
        assert!(part[..] == bytes(16384)[4090..4190]);
        assert!(contents_of(&*device) == bytes(16384), "nothing was written");
    }
}

#[test]
fn a_mounted_device_is_in_use_and_refused() {
    let Some(blocks) = blocks(512) else { return };
    blocks.put("a", &vec![0; 64 << 20]);
    let device = blocks.device("a");
    if let Err(reason) = run(Command::new("mkfs.ext4").arg("-q").arg(&device)) {
        return println!("skipped: a mounted device: {reason}");
    }
    let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    run(Command::new("mount").arg(&device).arg(place.path())).unwrap();
    let seen = blocks.system().inspect(&address("a")).unwrap();
    let refused = refusal(&blocks, "a");
    run(Command::new("umount").arg(place.path())).unwrap();
    assert!(seen.in_use_by.as_deref().unwrap_or_default().contains("mounted at"), "{seen:?}");
    assert_eq!(seen.content, VolumeContent::Signature("ext2/3/4 file system".to_owned()));
    assert!(refused.contains("mounted at"), "{refused}");
    assert_eq!(blocks.system().inspect(&address("a")).unwrap().in_use_by, None);
    assert_eq!(blocks.system().open_target(&address("a")).unwrap().try_lock().unwrap(), LockAttempt::Held);
}

#[test]
fn a_stranger_that_holds_the_device_exclusively_is_noticed_and_its_end_as_well() {
    let Some(blocks) = blocks(512) else { return };
    blocks.put("a", &bytes(8192));
    let stranger = claim(&blocks.device("a")).unwrap();
    let target = blocks.system().open_target(&address("a")).unwrap();
    assert_eq!(target.try_lock().unwrap(), LockAttempt::HeldByAnother);
    drop(stranger);
    assert_eq!(target.try_lock().unwrap(), LockAttempt::Held);
    assert!(claim(&blocks.device("a")).is_err(), "now it is ours");
    // The device that was handed out before the claim writes through the descriptor that has it.
    let device = target.device();
    drop(target);
    device.write_at(0, &[7; 512]).unwrap();
    device.flush().unwrap();
    assert!(claim(&blocks.device("a")).is_err(), "as long as it can write");
    drop(device);
    assert!(claim(&blocks.device("a")).is_ok());
}

/// An exec in the agent (a script of the operator's) must not carry the claim beyond the agent's end.
#[test]
fn a_claim_is_not_inherited() {
    let Some(blocks) = blocks(512) else { return };
    blocks.put("a", &bytes(8192));
    let target = blocks.system().open_target(&address("a")).unwrap();
    let device = blocks.device("a");
    let open: Vec<_> = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .flatten()
        .filter(|entry| std::fs::read_link(entry.path()).is_ok_and(|to| to == device))
        .map(|entry| entry.file_name().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(open.len(), 1, "one descriptor does the I/O");
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", open[0])).unwrap();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim();
    let flags = u32::from_str_radix(flags, 8).unwrap();
    let wanted = rustix::fs::OFlags::CLOEXEC | rustix::fs::OFlags::DIRECT;
    assert_eq!(flags & wanted.bits(), wanted.bits(), "{info}");
    drop(target);
}

#[test]
fn one_file_is_one_volume_under_whatever_name() {
    let Some(blocks) = blocks(512) else { return };
    blocks.put("a", &bytes(8192));
    let (device, file) = (blocks.device("a"), blocks.file("a"));
    let whole = blocks.system().inspect(&address("a")).unwrap();
    // The image file itself.
    let images = Images::in_directory(file.parent().unwrap());
    let image = images.system().inspect(&address(file.file_name().unwrap().to_str().unwrap())).unwrap();
    assert_eq!(image.identity, whole.identity);
    assert!(image.in_use_by.unwrap().contains("loop"));
    // A second device over the file, and a device over the device.
    for behind in [&file, &device] {
        let second = LoopDevice::attach(behind, 512).unwrap();
        let selector = DeviceSelector::backing_file(&second.path, Some("b".to_owned())).unwrap();
        let system = BlockDevices::new(system_name(), vec![selector]);
        let other = system.inspect(&address("b")).unwrap();
        assert_eq!(other.identity, whole.identity, "{}", behind.display());
        assert!(refusal(&blocks, "a").contains("lies over"));
        // A claim on the one device says nothing of the other.
        let source = system.open_source(&address("b"), &SourceView::Live).unwrap();
        assert_eq!(source.device.size_bytes(), 8192);
    }
    // A device is detached once nobody looks at it any more, and udev may still.
    wait::until("the file has one device", LONG, || blocks.system().open_target(&address("a")).ok());
}

#[test]
fn the_claim_names_the_device_that_it_lies_on() {
    let Some(blocks) = blocks(512) else { return };
    blocks.put("a", &bytes(8192));
    let place = || blocks.system().open_target(&address("a")).unwrap().lock_place().map(ToOwned::to_owned);
    let before = place().unwrap();
    assert_eq!(place().unwrap(), before);
    blocks.replace("a");
    assert_ne!(place().unwrap(), before, "another device");
}

#[test]
fn what_goes_away_is_said_to_be_gone_and_comes_back() {
    let Some(blocks) = blocks(512) else { return };
    blocks.put("a", &bytes(8192));
    let identity = blocks.system().inspect(&address("a")).unwrap().identity;
    blocks.detach("a");
    let system = blocks.system();
    for error in [
        system.inspect(&address("a")).err(),
        system.canary(&address("a")).err(),
        system.open_target(&address("a")).err(),
        system.open_source(&address("a"), &SourceView::Live).err(),
    ] {
        assert!(matches!(error, Some(StorageError::Absent { .. })), "{error:?}");
    }
    let listed = system.volumes().unwrap();
    assert!(listed[0].error.as_deref().unwrap().contains("is not there"), "{listed:?}");
    let file = blocks.file("a");
    let again = LoopDevice::attach(&file, 512).unwrap();
    std::os::unix::fs::symlink(&again.path, blocks.link("a")).unwrap();
    assert_eq!(system.inspect(&address("a")).unwrap().identity, identity, "the same volume");
}

/// The file behind the device shrinks: what is gone is an error to the reader, not an end and not zeros.
#[test]
fn a_device_that_fails_gives_its_error() {
    let Some(blocks) = blocks(512) else { return };
    blocks.put("a", &bytes(1 << 20));
    let target = blocks.system().open_target(&address("a")).unwrap();
    OpenOptions::new().write(true).open(blocks.file("a")).unwrap().set_len(4096).unwrap();
    let error = target.device().read_at(512 << 10, &mut [0; 4096]).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::IO.raw_os_error()));
    assert!(blocks.system().inspect(&address("a")).is_err());
}

/// A device has no holes that would show where data is: a long stretch is looked at in many places.
#[test]
fn data_in_the_middle_of_a_device_is_found() {
    let Some(blocks) = blocks(512) else { return };
    blocks.put("a", &vec![0; 32 << 20]);
    assert_eq!(blocks.system().inspect(&address("a")).unwrap().content, VolumeContent::Blank);
    let device = OpenOptions::new().write(true).open(blocks.device("a")).unwrap();
    device.write_all_at(&vec![1; 2 << 20], 15 << 20).unwrap();
    device.sync_all().unwrap();
    assert_eq!(blocks.system().inspect(&address("a")).unwrap().content, VolumeContent::Data);
}
