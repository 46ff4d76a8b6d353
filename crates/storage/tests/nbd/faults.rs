//! Servers that fail, are slow, or are killed: an error in time, and nothing claimed that nobody can know.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tanist_datapath::BlockDevice;
use tanist_storage::{SourceView, StorageSystem, TargetHandle};

use super::nbd_server::{self, NbdServer};
use super::{MIB, address, bytes, described, directory, image, system, wait};

const PATIENCE: Duration = Duration::from_secs(20);

fn target(socket: &Path, limit: Duration) -> TargetHandle {
    let server = tanist_storage::NbdServer { limit, ..described(socket) };
    system(server).open_target(&address("disk")).unwrap()
}

/// The reads and writes of a device that goes on as soon as its server does.
fn until_read(device: &Arc<dyn BlockDevice>) {
    wait::until("it is read again", PATIENCE, || device.read_at(0, &mut [0; 4096]).ok());
}

#[test]
fn an_error_of_the_server_is_told_and_spares_the_connection() {
    if !nbd_server::is_there("nbdkit") {
        return;
    }
    let folder = directory();
    let (socket, trigger) = (folder.path().join("s"), folder.path().join("fail"));
    let file = format!("error-file={}", trigger.display());
    let plugin = ["--filter=error", "memory", "8M", "error=ENOSPC", "error-rate=100%", &file];
    let _server = NbdServer::nbdkit(&socket, &plugin);
    let handle = target(&socket, PATIENCE);
    let device = handle.device();
    device.write_at(0, &bytes(1, 4096)).unwrap();
    std::fs::write(&trigger, b"").unwrap();
    let error = device.write_at(4096, &bytes(2, 4096)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
    assert!(error.to_string().contains("4096 bytes at 4096: no space left"), "{error}");
    assert!(device.zero_range(0, 4096).is_err() && device.read_at(0, &mut [0; 512]).is_err());
    std::fs::remove_file(&trigger).unwrap();
    device.write_at(4096, &bytes(2, 4096)).unwrap();
    device.flush().unwrap();
}

/// What is late is an error for him who waited. A write that may still come to its end is waited for before anything else is written, and
/// before it is said that all is over.
#[test]
fn a_slow_server_is_not_waited_for_and_not_forgotten() {
    if !nbd_server::is_there("nbdkit") {
        return;
    }
    let folder = directory();
    let socket = folder.path().join("s");
    let _server = NbdServer::nbdkit(&socket, &["--filter=delay", "memory", "8M", "wdelay=4", "delay-zero=0"]);
    let handle = target(&socket, Duration::from_secs(1));
    let device = handle.device();
    let begun = Instant::now();
    let error = device.write_at(0, &bytes(3, 4096)).unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert!(error.kind() == ErrorKind::TimedOut && error.to_string().contains("no answer"), "{error}");
    let error = device.flush().unwrap_err();
    assert!(error.to_string().contains("may still carry"), "{error}");
    assert!(device.zero_range(0, 4096).is_err(), "nothing is written past it");
    until_read(&device);
    // It comes to its end after four seconds: an answer on a connection that takes nothing new.
    let told = wait::until("the late answer comes", PATIENCE, || {
        let flushed = device.flush();
        let overdue = flushed.as_ref().is_err_and(|error| error.to_string().contains("past the time limit"));
        (!overdue).then_some(flushed)
    });
    let told = told.unwrap_err();
    assert!(told.to_string().contains("flushed"), "what was answered on it was never flushed: {told}");
    device.flush().unwrap();
    let mut read = vec![0; 4096];
    device.read_at(0, &mut read).unwrap();
    assert!(read == bytes(3, 4096), "it was carried out after all");
}

#[test]
fn a_server_that_is_killed_in_mid_read_is_an_error_and_another_is_read() {
    if !nbd_server::is_there("nbdkit") {
        return;
    }
    let folder = directory();
    let socket = folder.path().join("s");
    let mut server = NbdServer::nbdkit(&socket, &["--filter=delay", "pattern", "64M", "rdelay=500ms"]);
    let source = system(described(&socket)).open_source(&address("disk"), &SourceView::Live).unwrap();
    let device = Arc::clone(&source.device);
    let reading = thread::spawn(move || {
        let ends = || device.read_at(MIB, &mut vec![0; 65536]).err();
        std::iter::repeat_with(ends).flatten().next().expect("it goes on until it fails")
    });
    server.kill();
    let error = reading.join().unwrap();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
    let gone = source.device.read_at(0, &mut [0; 512]).unwrap_err();
    assert!(gone.to_string().contains("is not reached"), "{gone}");
    server.start_again();
    until_read(&source.device);
    let mut read = [0; 8];
    source.device.read_at(4096, &mut read).unwrap();
    assert_eq!(u64::from_be_bytes(read), 4096);
}

/// Nobody knows whether it will be carried out: nothing more is written by this handle, and it never says that its I/O is over.
#[test]
fn a_server_that_is_killed_in_mid_write_leaves_a_handle_that_claims_nothing() {
    if !nbd_server::is_there("nbdkit") {
        return;
    }
    let folder = directory();
    let (socket, disk) = (folder.path().join("s"), image(folder.path(), "disk", 8 * MIB));
    let file = format!("file={}", disk.display());
    let heard = folder.path().join("heard");
    let log = format!("logfile={}", heard.display());
    let mut server = NbdServer::nbdkit(&socket, &["--filter=log", "--filter=delay", "file", &file, "wdelay=60", &log]);
    let handle = target(&socket, Duration::from_secs(30));
    let device = handle.device();
    let writing = thread::spawn(move || device.write_at(0, &bytes(4, 65536)));
    wait::until("the write is under way", PATIENCE, || {
        std::fs::read_to_string(&heard).is_ok_and(|log| log.contains("Write id=")).then_some(())
    });
    server.kill();
    let error = writing.join().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
    let refusals = |device: &Arc<dyn BlockDevice>| {
        [device.write_at(0, &[1; 512]), device.zero_range(0, 512), device.flush()]
            .map(|refused| refused.unwrap_err().to_string())
    };
    let device = handle.device();
    for said in refusals(&device) {
        assert!(said.contains("1 request unanswered") && said.contains("may still carry them out"), "{said}");
    }
    server.start_again();
    until_read(&device);
    for said in refusals(&device) {
        assert!(said.contains("its I/O is not over"), "a new server is no end of the old one's work: {said}");
    }
    assert!(target(&socket, PATIENCE).device().flush().is_ok(), "another handle has its own");
}

/// A server may hold what it has answered in its own memory: a flush on another connection says nothing of it.
#[test]
fn what_was_not_flushed_when_the_server_died_is_not_durable() {
    if !nbd_server::is_there("qemu-nbd") {
        return;
    }
    let folder = directory();
    let (socket, disk) = (folder.path().join("s"), image(folder.path(), "disk", 8 * MIB));
    let mut server = NbdServer::qemu_nbd(&socket, &disk, &["--format=raw"]);
    let handle = target(&socket, PATIENCE);
    let device = handle.device();
    device.write_at(0, &bytes(5, 65536)).unwrap();
    device.flush().unwrap();
    device.write_at(65536, &bytes(6, 65536)).unwrap();
    server.start_again();
    until_read(&device);
    let error = device.flush().unwrap_err();
    assert!(error.to_string().contains("before what was written was flushed"), "{error}");
    device.write_at(65536, &bytes(6, 65536)).unwrap();
    device.flush().unwrap();
    server.start_again();
    until_read(&device);
    device.flush().expect("nothing was unflushed when that server died");
}
