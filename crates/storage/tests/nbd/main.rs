//! Exports of real servers, of servers that die, and of one that lies: right data or a clear error, and never a hang.

mod certificates;
mod faults;
mod liar;
mod lies;
#[path = "../../../../tests/src/nbd_server.rs"]
mod nbd_server;
mod secure;
mod servers;
#[path = "../../../../tests/src/wait.rs"]
#[allow(dead_code, reason = "these tests use a part of it")]
mod wait;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tanist_model::id::{StorageName, VolumeAddress};
use tanist_storage::{NbdExports, NbdPlace, NbdServer};
use tempfile::TempDir;

pub const MIB: u64 = 1 << 20;

/// A directory whose path fits into the address of a socket.
pub fn directory() -> TempDir {
    tempfile::Builder::new().prefix("nbd-").tempdir().unwrap()
}

pub fn address(volume: &str) -> VolumeAddress {
    VolumeAddress::new(StorageName::new("san-e").unwrap(), volume).unwrap()
}

/// The server on this socket, with its export without a name as `disk`.
pub fn described(socket: &Path) -> NbdServer {
    NbdServer {
        place: NbdPlace::unix(socket).unwrap(),
        tls: None,
        exports: BTreeMap::from([("disk".to_owned(), String::new())]),
        identity: None,
        connections: 4,
        limit: Duration::from_secs(10),
    }
}

pub fn system(server: NbdServer) -> NbdExports {
    NbdExports::new(StorageName::new("san-e").unwrap(), server)
}

/// An image file of this size, all holes.
pub fn image(directory: &Path, name: &str, size_bytes: u64) -> PathBuf {
    let path = directory.join(name);
    std::fs::File::create(&path).unwrap().set_len(size_bytes).unwrap();
    path
}

/// Bytes that are no zeros, and others at each place.
pub fn bytes(seed: u64, length: u64) -> Vec<u8> {
    (0..length).map(|i| u8::try_from((i * 31 + i / 253 + seed * 7) % 251).unwrap() | 1).collect()
}
