//! A recovery point as a file: read where the agent of this host would read it, by the same engine, written beside its last name, and
//! given that name only once it has the digest that was published.
//!
//! The agent's process has no part in it, so it may die meanwhile, and so may the server. What could change the bytes that are being
//! read (a run, a removal) shows in the digest: then there is no file.

mod file;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use tanist_datapath::limit::BytesPerSecond;
use tanist_datapath::{BlockDevice, Transfer, TransferConfig, TransferError, TransferEvent};
use tanist_model::api::RecoveryPointView;
use tanist_model::id::VolumeAddress;
use tanist_model::policy::VerifyMode;
use tanist_model::recovery_point::RecoveryPointPlace;
use tanist_model::run::{ChainDigest, Checkpoint};
use tanist_storage::{SourceView, StorageError, StorageSystem};

use self::file::PartialFile;
use crate::config::{AgentConfig, ConfigError};
use crate::storages::Storages;

/// How often the caller is told how far it is.
const TELL_EVERY: Duration = Duration::from_millis(200);

/// What is to become a file.
#[derive(Clone, Debug)]
pub struct ExportOrder {
    /// The target of the replication.
    pub volume: VolumeAddress,
    pub point: RecoveryPointView,
    pub file: PathBuf,
    /// A file of that name is replaced, by then and not before.
    pub replace: bool,
    /// Of what is read.
    pub bytes_per_second: Option<u64>,
}

/// Why there is no file, or no new one.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("the agent of this host does not reach {0}")]
    NotHere(VolumeAddress),
    #[error("{path} exists already", path = .0.display())]
    Exists(PathBuf),
    #[error("{path} cannot be a file", path = .0.display())]
    NoName(PathBuf),
    #[error("another export writes {path} now", path = .0.display())]
    Busy(PathBuf),
    #[error("the recovery point is not held any more")]
    Gone,
    #[error(transparent)]
    Source(#[from] StorageError),
    #[error("cannot {doing} {path}: {cause}", path = path.display())]
    File {
        doing: &'static str,
        path: PathBuf,
        #[source]
        cause: std::io::Error,
    },
    #[error(transparent)]
    Copy(#[from] TransferError),
    #[error("the copy ended before its time")]
    Ended,
    #[error("what was read has the digest {found}, and the recovery point was published with {expected}")]
    Digest { found: ChainDigest, expected: ChainDigest },
}

/// Brings a recovery point into a file; `tell` hears how many bytes of it are passed. Blocks. Returns how many bytes the file takes on
/// its storage: less than its size where it has holes.
///
/// # Errors
/// [`ExportError`]. Then there is no file of that name, or the one that was there before.
pub fn export(folder: &Path, order: &ExportOrder, tell: impl FnMut(u64)) -> Result<u64, ExportError> {
    let storages = Storages::open(&AgentConfig::load(folder)?.storage)?;
    let system = storages.of(&order.volume).map_err(|_| ExportError::NotHere(order.volume.clone()))?;
    let source = open_point(&*system, order)?;
    let partial = PartialFile::make(&order.file, order.replace, order.point.size_bytes)?;
    let found = copy(source, partial.device()?, order, tell)?;
    if found != order.point.digest {
        return Err(ExportError::Digest { found, expected: order.point.digest });
    }
    partial.keep()
}

fn open_point(system: &dyn StorageSystem, order: &ExportOrder) -> Result<Arc<dyn BlockDevice>, ExportError> {
    let view = match &order.point.place {
        RecoveryPointPlace::Gone => return Err(ExportError::Gone),
        // Nothing holds a run off: the digest tells.
        RecoveryPointPlace::Target => SourceView::Live,
        RecoveryPointPlace::Snapshot(uid) => {
            let there = system.list_snapshots(&order.volume)?;
            let found = there.into_iter().find(|snapshot| snapshot.uid == *uid).ok_or(ExportError::Gone)?;
            SourceView::Snapshot { id: found.id, uid: found.uid }
        }
    };
    Ok(system.open_source(&order.volume, &view)?.device)
}

/// Copies all of it; the digest of what was read, and read back.
fn copy(
    source: Arc<dyn BlockDevice>,
    target: Arc<dyn BlockDevice>,
    order: &ExportOrder,
    mut tell: impl FnMut(u64),
) -> Result<ChainDigest, ExportError> {
    let config = TransferConfig {
        verify: VerifyMode::Written,
        limit: order.bytes_per_second.and_then(BytesPerSecond::new),
        // The file was made a moment ago and reads as zeros: of each block only the pages that are not zeros are written.
        compare: true,
        skip_target_holes: true,
        ..TransferConfig::new(Checkpoint::START, order.point.size_bytes)
    };
    let (sender, events) = channel();
    let transfer = Transfer::start(source, target, config, move |event| drop(sender.send(event)));
    let checkpoint = follow(&transfer, &events, &mut tell)?;
    transfer.join();
    Ok(checkpoint.chain)
}

fn follow(
    transfer: &Transfer,
    events: &Receiver<TransferEvent>,
    tell: &mut impl FnMut(u64),
) -> Result<Checkpoint, ExportError> {
    loop {
        match events.recv_timeout(TELL_EVERY) {
            Ok(TransferEvent::Durable { checkpoint, .. }) => transfer.committed(checkpoint.seq),
            Ok(TransferEvent::Finished { checkpoint, .. }) => return Ok(checkpoint),
            Ok(TransferEvent::Failed(error)) => return Err(error.into()),
            Ok(TransferEvent::Stopped { .. } | TransferEvent::Aborted) | Err(RecvTimeoutError::Disconnected) => {
                return Err(ExportError::Ended);
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
        tell(transfer.progress().written_seq);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(file: &Path) -> ExportOrder {
        let point = RecoveryPointView {
            run: tanist_model::id::RunId(1),
            place: RecoveryPointPlace::Target,
            size_bytes: 0,
            digest: Checkpoint::START.chain,
            source_time: tanist_model::time::Timestamp(0),
            published_at: tanist_model::time::Timestamp(0),
            fuzzy: false,
            verified: true,
            assumed_bytes: 0,
            by_changes: false,
            damaged_at: None,
            doubtful_since: None,
            verified_at: None,
            pinned: false,
            expired: false,
            application: None,
        };
        let volume = "san-b/db".parse().unwrap();
        ExportOrder { volume, point, file: file.to_owned(), replace: false, bytes_per_second: None }
    }

    /// An agent's folder with one storage system and one volume of 3 MiB: noise, a hole, and a tail that fills no sector.
    fn host(name: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join(name);
        std::fs::create_dir(&place).unwrap();
        let file = std::fs::File::create(place.join("db")).unwrap();
        file.set_len((3 << 20) + 100).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &[7; 5000], 2 << 20).unwrap();
        let storage = format!("[[storage]]\nkind = 'image'\nname = '{name}'\ndirectory = '{}'\n", place.display());
        std::fs::write(folder.path().join(AgentConfig::FILE), format!("server = 'a:1'\n{storage}")).unwrap();
        folder
    }

    /// The digest that belongs to the bytes, as the first attempt reports it.
    fn published(folder: &Path, order: &mut ExportOrder) {
        order.point.size_bytes = (3 << 20) + 100;
        match export(folder, order, |_| ()).unwrap_err() {
            ExportError::Digest { found, .. } => order.point.digest = found,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn a_file_has_the_bytes_the_size_and_the_holes() {
        let host = host("san-b");
        let out = host.path().join("out.img");
        let mut order = order(&out);
        published(host.path(), &mut order);
        assert!(!out.exists() && !host.path().join("out.img.partial").exists(), "what has another digest is no file");
        let stored = export(host.path(), &order, |_| ()).unwrap();
        assert_eq!(std::fs::read(&out).unwrap(), std::fs::read(host.path().join("san-b/db")).unwrap());
        assert!(stored < 2 << 20, "{stored}");
        assert!(!host.path().join("out.img.partial").exists());
    }

    #[test]
    fn a_file_that_is_there_stays_unless_it_is_to_be_replaced() {
        let host = host("san-b");
        let out = host.path().join("out.img");
        let mut order = order(&out);
        published(host.path(), &mut order);
        std::fs::write(&out, "precious").unwrap();
        assert!(matches!(export(host.path(), &order, |_| ()), Err(ExportError::Exists(_))));
        assert_eq!(std::fs::read(&out).unwrap(), b"precious");
        order.replace = true;
        order.point.digest.0[0] ^= 1;
        assert!(matches!(export(host.path(), &order, |_| ()), Err(ExportError::Digest { .. })));
        assert_eq!(std::fs::read(&out).unwrap(), b"precious");
        order.point.digest.0[0] ^= 1;
        export(host.path(), &order, |_| ()).unwrap();
        assert_eq!(std::fs::metadata(&out).unwrap().len(), (3 << 20) + 100);
    }

    #[test]
    fn only_one_export_writes_a_file_and_what_an_earlier_one_left_is_no_hindrance() {
        let host = host("san-b");
        let out = host.path().join("out.img");
        let mut order = order(&out);
        published(host.path(), &mut order);
        std::fs::write(host.path().join("out.img.partial"), [9; 9000]).unwrap();
        let other = PartialFile::make(&out, false, 4096).unwrap();
        assert!(matches!(export(host.path(), &order, |_| ()), Err(ExportError::Busy(_))));
        drop(other);
        export(host.path(), &order, |_| ()).unwrap();
        assert_eq!(std::fs::read(&out).unwrap(), std::fs::read(host.path().join("san-b/db")).unwrap());
    }

    #[test]
    fn a_volume_that_this_host_does_not_reach_and_a_point_that_is_gone_are_told() {
        let host = host("san-c");
        let mut order = order(&host.path().join("out.img"));
        assert!(matches!(export(host.path(), &order, |_| ()), Err(ExportError::NotHere(_))));
        order.volume = "san-c/db".parse().unwrap();
        order.point.place = RecoveryPointPlace::Gone;
        assert!(matches!(export(host.path(), &order, |_| ()), Err(ExportError::Gone)));
        order.point.place = RecoveryPointPlace::Snapshot("another".to_owned());
        assert!(matches!(export(host.path(), &order, |_| ()), Err(ExportError::Gone)));
        assert!(!host.path().join("out.img.partial").exists());
    }
}
