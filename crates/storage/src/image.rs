//! Raw image files in a mounted directory as a storage system.
//!
//! Each file is a volume: any size to the byte, sparse or not. The directory is opened anew for every call, so that a mount that
//! comes, goes or is replaced is seen, and holds up nobody's umount. Names cannot leave it: files are opened relative to its
//! descriptor, without following links, and must be regular.

#[cfg(feature = "decoders")]
pub(crate) mod decoders;
mod file;
mod file_system;
mod snapshot;
mod usage;

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use tanist_datapath::BlockDevice;
use tanist_datapath::io::blocking::BlockingFile;
use tanist_model::id::{SnapshotId, StorageName, VolumeAddress};
use tanist_model::volume::{StorageCapabilities, StorageKind, StorageReport, VolumeReport};

pub(crate) use self::file::identity as file_identity;
use self::file::{Access, OpenImage};
pub(crate) use self::file_system::{FileSystem, machine_id};
use crate::canary::Canary;
use crate::content;
use crate::error::StorageError;
use crate::sealed::SealedDevice;
use crate::system::{
    CanaryReading, LockAttempt, OnHost, SealedIdentity, SnapshotIdentity, SourceHandle, SourceView, StorageSystem,
    TargetHandle, VolumeLock,
};

/// A directory of image files.
#[derive(Debug)]
pub struct ImageDirectory {
    name: StorageName,
    path: PathBuf,
    canary: Canary,
    /// Whether reflinks work, and on which directory that was tried.
    reflinks: Mutex<Option<(String, bool)>>,
}

/// The directory as it is at this moment.
#[derive(Debug)]
struct Mounted {
    directory: OwnedFd,
    file_system: FileSystem,
}

impl ImageDirectory {
    /// Touches nothing: a directory that is not there yet is reported as such, and used when it comes.
    #[must_use]
    pub fn new(name: StorageName, path: impl Into<PathBuf>) -> Self {
        Self { name, path: path.into(), canary: Canary::default(), reflinks: Mutex::default() }
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn mounted(&self) -> Result<Mounted, StorageError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(&self.path, flags, Mode::empty())
            .map_err(StorageError::io("open the directory", self.path.display()))?;
        let file_system =
            FileSystem::of(&directory).map_err(StorageError::io("look at the file system of", self.path.display()))?;
        Ok(Mounted { directory, file_system })
    }

    fn open(&self, volume: &VolumeAddress, access: Access) -> Result<OpenImage, StorageError> {
        if volume.system != self.name {
            return Err(StorageError::WrongSystem { volume: volume.clone(), system: self.name.clone() });
        }
        let mounted = self.mounted()?;
        OpenImage::open(&mounted.directory, volume.volume(), access, &mounted.file_system.id)
            .map_err(|error| error.about(volume))
    }

    fn capabilities(&self, mounted: &Mounted, identity: &str) -> StorageCapabilities {
        let mut known = self.reflinks.lock().unwrap_or_else(PoisonError::into_inner);
        let snapshots = match &*known {
            Some((tried_on, works)) if tried_on == identity => *works,
            _ => {
                let works = snapshot::reflinks_work(&mounted.directory);
                *known = Some((identity.to_owned(), works));
                works
            }
        };
        StorageCapabilities {
            snapshots,
            kernel_lock: mounted.file_system.is_local,
            reservations: false,
            outlives_host: false,
            changed_extents: false,
        }
    }

    fn look(&self) -> Result<(String, StorageCapabilities), StorageError> {
        let mounted = self.mounted()?;
        let identity = file::identity(&mounted.directory, &mounted.file_system.id)
            .map_err(StorageError::io("identify", self.path.display()))?;
        let capabilities = self.capabilities(&mounted, &identity);
        Ok((identity, capabilities))
    }

    fn names(&self) -> Result<Vec<VolumeAddress>, StorageError> {
        let mounted = self.mounted()?;
        let names = file::regular_files(&mounted.directory).map_err(StorageError::io("list", self.path.display()))?;
        let mut volumes: Vec<_> =
            names.into_iter().filter_map(|name| VolumeAddress::new(self.name.clone(), name).ok()).collect();
        volumes.sort();
        Ok(volumes)
    }
}

impl StorageSystem for ImageDirectory {
    fn report(&self) -> StorageReport {
        let (identity, capabilities, error) = match self.look() {
            Ok((identity, capabilities)) => (identity, capabilities, None),
            Err(error) => (
                String::new(),
                StorageCapabilities {
                    snapshots: false,
                    kernel_lock: false,
                    reservations: false,
                    outlives_host: false,
                    changed_extents: false,
                },
                Some(error.to_string()),
            ),
        };
        StorageReport {
            name: self.name.clone(),
            kind: StorageKind::Image,
            location: self.path.display().to_string(),
            identity,
            capabilities,
            error,
            copy_manager: None,
            pool: None,
        }
    }

    fn volumes(&self) -> Result<Vec<VolumeReport>, StorageError> {
        let report = |volume: VolumeAddress| match self.inspect(&volume) {
            Err(StorageError::NotFound { .. }) => None,
            Err(error) => Some(VolumeReport::unreadable(volume, error.to_string())),
            Ok(report) => Some(report),
        };
        Ok(self.names()?.into_iter().filter_map(report).collect())
    }

    fn inspect(&self, volume: &VolumeAddress) -> Result<VolumeReport, StorageError> {
        let image = self.open(volume, Access::Read)?;
        let failed = || StorageError::io("inspect", volume);
        Ok(VolumeReport {
            address: volume.clone(),
            identity: image.identity.clone(),
            size_bytes: image.file.size_bytes(),
            read_only: !self.mounted()?.is_writable(volume.volume()),
            in_use_by: usage::in_use_by(&image.file).map_err(failed())?,
            content: content::detect(&*image.file).map_err(failed())?,
            error: None,
            device: None,
        })
    }

    fn canary(&self, volume: &VolumeAddress) -> Result<CanaryReading, StorageError> {
        let image = self.open(volume, Access::Read)?;
        self.canary.read(&*image.file).map_err(StorageError::io("read", volume))
    }

    fn open_source(&self, volume: &VolumeAddress, view: &SourceView) -> Result<SourceHandle, StorageError> {
        match view {
            SourceView::Snapshot { id, uid } => self.open_snapshot(volume, *id, uid),
            SourceView::Live => Ok(source_handle(self.open(volume, Access::Read)?)),
            SourceView::Sealed { uid } => {
                let image = Arc::new(self.open(volume, Access::Read)?);
                let (looked_at, volume, uid) = (Arc::clone(&image), volume.clone(), uid.clone());
                let look = move || looked_at.check_seal(&volume, &uid);
                look()?;
                let device = Arc::new(SealedDevice::new(Arc::clone(&image.file) as _, look));
                Ok(SourceHandle { device, identity: image.identity.clone() })
            }
        }
    }

    fn open_target(&self, volume: &VolumeAddress) -> Result<TargetHandle, StorageError> {
        let image = self.open(volume, Access::ReadWrite)?;
        let lock = DescriptionLock { file: Arc::clone(&image.file), volume: volume.clone() };
        Ok(TargetHandle::new(image.file, image.identity, Box::new(lock)))
    }

    fn create_snapshot(&self, volume: &VolumeAddress, id: SnapshotId) -> Result<SnapshotIdentity, StorageError> {
        let source = self.open(volume, Access::Read)?;
        let mounted = self.mounted()?;
        snapshot::create(&mounted.directory, &mounted.file_system.id, &*source.file, volume, id)
    }

    fn delete_snapshot(&self, volume: &VolumeAddress, id: SnapshotId) -> Result<(), StorageError> {
        snapshot::delete(&self.mounted()?.directory, volume, id)
    }

    fn list_snapshots(&self, volume: &VolumeAddress) -> Result<Vec<SnapshotIdentity>, StorageError> {
        let mounted = self.mounted()?;
        snapshot::list(&mounted.directory, &mounted.file_system.id, volume)
    }

    fn seal(&self, volume: &VolumeAddress) -> Result<SealedIdentity, StorageError> {
        self.open(volume, Access::Read)?.seal().map_err(StorageError::io("look at", volume))
    }
}

impl OnHost for ImageDirectory {
    fn path_of(&self, volume: &VolumeAddress) -> Result<PathBuf, StorageError> {
        self.open(volume, Access::Read)?;
        Ok(self.path.join(volume.volume()))
    }
}

impl ImageDirectory {
    fn open_snapshot(&self, volume: &VolumeAddress, id: SnapshotId, uid: &str) -> Result<SourceHandle, StorageError> {
        let mounted = self.mounted()?;
        let image = snapshot::open(&mounted.directory, &mounted.file_system.id, volume, id)?;
        if image.identity != uid {
            let (expected, found) = (uid.to_owned(), image.identity);
            return Err(StorageError::SnapshotMismatch { volume: volume.clone(), id, expected, found });
        }
        Ok(source_handle(image))
    }
}

impl Mounted {
    fn is_writable(&self, name: &str) -> bool {
        use rustix::fs::{Access, AtFlags};
        !self.file_system.is_read_only
            && rustix::fs::accessat(&self.directory, name, Access::WRITE_OK, AtFlags::EACCESS).is_ok()
    }
}

fn source_handle(image: OpenImage) -> SourceHandle {
    SourceHandle { device: image.file, identity: image.identity }
}

/// flock on the description that does the I/O. It is the kernel that frees it, when the last reference to the description is
/// gone: ours, and those of requests still in flight after a kill. Never inherited by a child that executes another program.
struct DescriptionLock {
    file: Arc<BlockingFile>,
    volume: VolumeAddress,
}

impl VolumeLock for DescriptionLock {
    fn try_lock(&self) -> Result<LockAttempt, StorageError> {
        match rustix::fs::flock(self.file.as_fd(), FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(LockAttempt::Held),
            Err(Errno::WOULDBLOCK) => Ok(LockAttempt::HeldByAnother),
            Err(error) => Err(StorageError::io("lock", &self.volume)(error)),
        }
    }
}
