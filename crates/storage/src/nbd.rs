//! The exports of a server of NBD as volumes: disks of virtual machines (qemu-nbd, qemu-storage-daemon) and whatever else is exported.
//!
//! A client of our own, in user space: no module of the kernel, no device node, and an end to every wait. Laid out by the protocol
//! document of the NBD project (`doc/proto.md`); modules name its sections. A server of NBD has no lock that would outlive a client's
//! process, and what a client has sent may be carried out when the client is long gone: nothing here proves an earlier epoch quiet
//! (docs/decisions/0033).

mod changes;
mod channel;
mod client;
mod connection;
#[cfg(feature = "decoders")]
pub(crate) mod decoders;
mod device;
mod error;
mod fields;
mod handshake;
mod ledger;
mod options;
mod place;
mod reply;
mod request;
mod tls;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tanist_datapath::BlockDevice;
use tanist_model::byte_range::ByteRange;
use tanist_model::id::{SnapshotId, StorageName, VolumeAddress};
use tanist_model::volume::{DeviceReport, StorageCapabilities, StorageKind, StorageReport, VolumeReport};

use self::client::{Client, Use};
use self::device::NbdDevice;
use self::error::NbdError;
use self::handshake::{ALLOCATION, Server};
use crate::canary::Canary;
use crate::content;
use crate::error::StorageError;
use crate::sealed::SealedDevice;
use crate::system::{
    CanaryReading, LockAttempt, SealedIdentity, SnapshotIdentity, SourceHandle, SourceView, StorageSystem,
    TargetHandle, VolumeLock,
};

pub use self::place::{NbdPlace, PlaceError};
pub use self::tls::NbdTls;

const NO_SNAPSHOTS: &str =
    "a server of NBD is not asked for them: export a snapshot, read-only, as a volume of its own";

/// A server, as an operator describes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NbdServer {
    pub place: NbdPlace,
    pub tls: Option<NbdTls>,
    /// Volumes by name, with the name of the export of each. Empty: every export whose name can be a volume's, as the server lists them.
    pub exports: BTreeMap<String, String>,
    /// What tells its exports from those of all other servers; equal on agents that reach it in different ways. None: its address.
    pub identity: Option<String>,
    /// To one export at once, where the server allows several.
    pub connections: usize,
    /// For a handshake, and for each request.
    pub limit: Duration,
}

/// The exports of one server.
#[derive(Debug)]
pub struct NbdExports {
    name: StorageName,
    server: Arc<Server>,
    exports: BTreeMap<String, String>,
    identity: String,
    connections: usize,
    canary: Canary,
}

/// Separates what a uid consists of; no name of a host or an export is cut by it, since it is looked for from the end.
const BETWEEN: char = '|';

impl NbdExports {
    /// Touches nothing: a server that is not there yet is reported as such, and used when it comes.
    #[must_use]
    pub fn new(name: StorageName, server: NbdServer) -> Self {
        let NbdServer { place, tls, exports, identity, connections, limit } = server;
        let identity = identity.unwrap_or_else(|| own_identity(&place));
        let server = Arc::new(Server { place, tls, limit });
        Self { name, server, exports, identity, connections, canary: Canary::default() }
    }

    /// The export of a volume.
    fn export<'a>(&'a self, volume: &'a VolumeAddress) -> Result<&'a str, StorageError> {
        if volume.system != self.name {
            return Err(StorageError::WrongSystem { volume: volume.clone(), system: self.name.clone() });
        }
        if self.exports.is_empty() {
            return Ok(volume.volume());
        }
        let export = self.exports.get(volume.volume()).map(String::as_str);
        export.ok_or_else(|| StorageError::NotFound { volume: volume.clone() })
    }

    fn identity_of(&self, export: &str) -> String {
        format!("nbd/{}/{export}", self.identity)
    }

    fn open(&self, volume: &VolumeAddress, connections: usize) -> Result<(NbdDevice, String), StorageError> {
        let export = self.export(volume)?;
        let of = Use { export, contexts: &[ALLOCATION], connections };
        let device = Client::open(&self.server, of).and_then(NbdDevice::new);
        Ok((device.map_err(|error| refusal(error, volume))?, self.identity_of(export)))
    }

    fn names(&self) -> Result<Vec<String>, StorageError> {
        if !self.exports.is_empty() {
            return Ok(self.exports.keys().cloned().collect());
        }
        let listed = self.server.greet().and_then(handshake::Haggling::list);
        listed.map_err(|error| StorageError::Nbd { system: self.name.clone(), cause: error.into() })
    }

    fn look(&self, volume: &VolumeAddress) -> Result<VolumeReport, StorageError> {
        let (device, identity) = self.open(volume, 1)?;
        let blocks = device.blocks();
        Ok(VolumeReport {
            address: volume.clone(),
            identity,
            size_bytes: device.size_bytes(),
            read_only: device.abilities().read_only(),
            in_use_by: None,
            content: content::detect(&device).map_err(StorageError::io("inspect", volume))?,
            error: None,
            device: Some(DeviceReport {
                path: format!("{} {}", self.server.place, self.export(volume)?),
                logical_sector_bytes: blocks.minimum,
                physical_sector_bytes: blocks.preferred,
                backed_by: Vec::new(),
                unfit_as_target: device.unfit_as_target(),
            }),
        })
    }

    fn sealed(&self, volume: &VolumeAddress) -> Result<SealedIdentity, StorageError> {
        let (device, identity) = self.open(volume, 1)?;
        let size_bytes = device.size_bytes();
        Ok(SealedIdentity { uid: format!("{identity}{BETWEEN}{size_bytes}"), size_bytes })
    }

    fn no_snapshots(&self) -> StorageError {
        StorageError::SnapshotsUnsupported { system: self.name.clone(), how: NO_SNAPSHOTS }
    }

    /// The metadata contexts that the server has for an export, by their names, as far as they answer to a query: `qemu:dirty-bitmap:`
    /// for the bitmaps that it shows.
    ///
    /// # Errors
    /// That the server is not reached, or asks for TLS.
    pub fn metadata_contexts(&self, volume: &VolumeAddress, query: &str) -> Result<Vec<String>, StorageError> {
        let export = self.export(volume)?;
        let contexts = self.server.greet().and_then(|server| server.contexts(export, query));
        contexts.map_err(|error| refusal(error, volume))
    }
}

/// A socket in the file system is one of this host; an address is the same from everywhere.
fn own_identity(place: &NbdPlace) -> String {
    match place {
        NbdPlace::Tcp { host, port } => format!("{host}:{port}"),
        NbdPlace::Unix(path) => format!("{}:{}", crate::image::machine_id(), path.display()),
    }
}

/// A server that is not there, or lacks the export for now, is looked for again; one that is wrongly configured has to be put right.
fn refusal(error: NbdError, volume: &VolumeAddress) -> StorageError {
    let (volume, reason) = (volume.clone(), error.to_string());
    match error {
        NbdError::NoExport { .. } => StorageError::NotFound { volume },
        NbdError::Unreachable { .. } | NbdError::Lost(_) | NbdError::TimedOut { .. } => {
            StorageError::Absent { volume, reason }
        }
        NbdError::Server { .. } => StorageError::io("open", volume)(std::io::Error::from(error)),
        _ => StorageError::Refused { volume, reason },
    }
}

impl StorageSystem for NbdExports {
    fn report(&self) -> StorageReport {
        let error = self.server.greet().err().map(|error| error.to_string());
        StorageReport {
            name: self.name.clone(),
            kind: StorageKind::Nbd,
            location: self.server.place.to_string(),
            identity: format!("nbd/{}", self.identity),
            // A lock would have to be the server's, and there is none in the protocol.
            capabilities: StorageCapabilities {
                snapshots: false,
                kernel_lock: false,
                reservations: false,
                outlives_host: true,
                changed_extents: true,
            },
            copy_manager: None,
            error,
            pool: None,
        }
    }

    fn volumes(&self) -> Result<Vec<VolumeReport>, StorageError> {
        let volume = |name: String| VolumeAddress::new(self.name.clone(), name).ok();
        let look = |volume: VolumeAddress| {
            self.look(&volume).unwrap_or_else(|error| VolumeReport::unreadable(volume, error.to_string()))
        };
        Ok(self.names()?.into_iter().filter_map(volume).map(look).collect())
    }

    fn inspect(&self, volume: &VolumeAddress) -> Result<VolumeReport, StorageError> {
        self.look(volume)
    }

    fn canary(&self, volume: &VolumeAddress) -> Result<CanaryReading, StorageError> {
        let (device, _) = self.open(volume, 1)?;
        self.canary.read(&device).map_err(StorageError::io("read", volume))
    }

    /// Of a sealed export nothing shows that it was written to but its size: there the operator's word stands alone.
    fn open_source(&self, volume: &VolumeAddress, view: &SourceView) -> Result<SourceHandle, StorageError> {
        if matches!(view, SourceView::Snapshot { .. }) {
            return Err(self.no_snapshots());
        }
        let (device, identity) = self.open(volume, self.connections)?;
        let device: Arc<dyn BlockDevice> = Arc::new(device);
        let SourceView::Sealed { uid } = view else { return Ok(SourceHandle { device, identity }) };
        let now = format!("{identity}{BETWEEN}{}", device.size_bytes());
        if now != *uid {
            return Err(StorageError::changed(volume, uid, &now));
        }
        // A connection that is lost and made again finds another size by itself.
        Ok(SourceHandle { device: Arc::new(SealedDevice::new(device, || Ok(()))), identity })
    }

    fn open_target(&self, volume: &VolumeAddress) -> Result<TargetHandle, StorageError> {
        let (device, identity) = self.open(volume, self.connections)?;
        let read_only = || device.abilities().read_only().then(|| "its server exports it read-only".to_owned());
        if let Some(reason) = device.unfit_as_target().or_else(read_only) {
            return Err(StorageError::Refused { volume: volume.clone(), reason });
        }
        Ok(TargetHandle::new(Arc::new(device), identity, Box::new(NoLock)))
    }

    /// The bitmap `tanist-ID` of the export, if it has one: by its name it says since when it counts.
    fn changed_since(
        &self,
        volume: &VolumeAddress,
        base: SnapshotId,
        _now: &SourceView,
    ) -> Result<Option<Vec<ByteRange>>, StorageError> {
        let context = changes::context(&format!("tanist-{base}"));
        let of = Use { export: self.export(volume)?, contexts: &[&context], connections: 1 };
        let client = Client::open(&self.server, of);
        let dirty = client.and_then(|client| changes::dirty(&client, &context));
        dirty.map_err(|error| refusal(error, volume))
    }

    fn create_snapshot(&self, _volume: &VolumeAddress, _id: SnapshotId) -> Result<SnapshotIdentity, StorageError> {
        Err(self.no_snapshots())
    }

    fn delete_snapshot(&self, _volume: &VolumeAddress, _id: SnapshotId) -> Result<(), StorageError> {
        Ok(())
    }

    fn list_snapshots(&self, _volume: &VolumeAddress) -> Result<Vec<SnapshotIdentity>, StorageError> {
        Ok(Vec::new())
    }

    fn seal(&self, volume: &VolumeAddress) -> Result<SealedIdentity, StorageError> {
        self.sealed(volume)
    }
}

/// There is nothing to obtain, so everybody has it. The report says that it proves nothing.
struct NoLock;

impl VolumeLock for NoLock {
    fn try_lock(&self) -> Result<LockAttempt, StorageError> {
        Ok(LockAttempt::Held)
    }
}
