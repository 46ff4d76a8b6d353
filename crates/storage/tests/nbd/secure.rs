//! TLS with real servers: both sides show certificates, and nobody speaks in the clear who was told not to.

use std::path::Path;
use std::time::Duration;

use tanist_model::volume::VolumeReport;
use tanist_storage::{NbdTls, StorageError, StorageSystem};

use super::nbd_server::{self, NbdServer};
use super::{MIB, address, bytes, certificates, described, directory, image, system};

fn tls(folder: &Path, shows: bool) -> NbdTls {
    NbdTls {
        authorities: folder.join("ca-cert.pem"),
        identity: shows.then(|| (folder.join("client-cert.pem"), folder.join("client-key.pem"))),
        server_name: Some("localhost".to_owned()),
    }
}

fn inspect(socket: &Path, tls: Option<NbdTls>) -> Result<VolumeReport, StorageError> {
    let limit = Duration::from_secs(10);
    system(tanist_storage::NbdServer { tls, limit, ..described(socket) }).inspect(&address("disk"))
}

fn refused(socket: &Path, tls: Option<NbdTls>, cause: &str) {
    let error = inspect(socket, tls).unwrap_err().to_string();
    assert!(error.contains(cause), "'{cause}' in {error}");
}

fn copy_through(socket: &Path, tls: NbdTls) {
    let secured = tanist_storage::NbdServer { tls: Some(tls), ..described(socket) };
    let target = system(secured).open_target(&address("disk")).unwrap();
    let (device, data) = (target.device(), bytes(9, 7 * MIB));
    device.write_at(0, &data).unwrap();
    device.zero_range(MIB, 4096).unwrap();
    device.flush().unwrap();
    let mut read = vec![0; data.len()];
    std::thread::scope(|scope| {
        scope.spawn(|| device.write_at(7 * MIB, &bytes(10, MIB)).unwrap());
        device.read_at(0, &mut read).unwrap();
    });
    let mib = usize::try_from(MIB).unwrap();
    assert!(
        read[..mib] == data[..mib] && read[mib..mib + 4096] == [0; 4096] && read[mib + 4096..] == data[mib + 4096..]
    );
}

#[test]
fn qemu_nbd_and_the_client_show_each_other_certificates() {
    if !nbd_server::is_there("qemu-nbd") {
        return;
    }
    let folder = directory();
    let (ours, others) = (certificates::make(folder.path(), "ours"), certificates::make(folder.path(), "others"));
    let (socket, disk) = (folder.path().join("s"), image(folder.path(), "disk", 8 * MIB));
    let credentials = format!("tls-creds-x509,id=tls0,endpoint=server,verify-peer=on,dir={}", ours.display());
    let _server =
        NbdServer::qemu_nbd(&socket, &disk, &["--format=raw", "--object", &credentials, "--tls-creds", "tls0"]);
    copy_through(&socket, tls(&ours, true));
    refused(&socket, None, "asks for TLS: give its storage system tls");
    refused(&socket, Some(tls(&others, true)), "TLS with");
    refused(&socket, Some(NbdTls { server_name: Some("elsewhere".to_owned()), ..tls(&ours, true) }), "TLS with");
    assert!(inspect(&socket, Some(tls(&ours, false))).is_err(), "it wants to see a certificate");
}

#[test]
fn nbdkit_with_tls_is_spoken_with_and_without_it_is_not() {
    if !nbd_server::is_there("nbdkit") {
        return;
    }
    let folder = directory();
    let ours = certificates::make(folder.path(), "ours");
    let (socket, plain) = (folder.path().join("s"), folder.path().join("p"));
    let place = format!("--tls-certificates={}", ours.display());
    let _server = NbdServer::nbdkit(&socket, &["--tls=require", &place, "memory", "8M"]);
    copy_through(&socket, tls(&ours, false));
    let _clear = NbdServer::nbdkit(&plain, &["--tls=off", "memory", "8M"]);
    refused(&plain, Some(tls(&ours, false)), "nothing was sent without it");
    let missing = NbdTls { authorities: folder.path().join("none.pem"), ..tls(&ours, false) };
    refused(&socket, Some(missing), "none.pem");
    refused(&socket, Some(NbdTls { server_name: None, ..tls(&ours, false) }), "tls needs server_name");
}
