//! The volume that a measurement overwrites: named twice by the operator, and refused wherever anything speaks against it.

use std::sync::Arc;

use tanist_datapath::BlockDevice;
use tanist_datapath::bench::{self, Bounds, Sample};
use tanist_model::id::{ReplicationName, VolumeAddress};
use tanist_model::replication::Side;
use tanist_model::stage::Stage;
use tanist_model::volume::VolumeReport;
use tanist_storage::{LockAttempt, TargetHandle};

use super::{BenchError, BenchOrder, BenchStage, stage, system_of};
use crate::storages::Storages;

/// A volume of a replication.
#[derive(Clone, Debug)]
pub struct InUse {
    pub volume: VolumeAddress,
    /// What an agent says of it, if one reaches it now: its identity shows it under other addresses too.
    pub report: Option<VolumeReport>,
    pub replication: ReplicationName,
    pub side: Side,
}

/// A volume that may be overwritten, with its lock held.
pub(super) struct Scratch {
    volume: VolumeAddress,
    target: TargetHandle,
}

pub(super) fn open(storages: &Storages, volume: &VolumeAddress, order: &BenchOrder) -> Result<Scratch, BenchError> {
    let refused = |why| BenchError::NoScratch { scratch: volume.clone(), why };
    let system = system_of(storages, volume)?;
    let (report, source) = (system.inspect(volume)?, system_of(storages, &order.volume)?.inspect(&order.volume)?);
    if let Some(why) = why_not(&report, &source, &order.in_use) {
        return Err(refused(why));
    }
    let target = system.open_target(volume)?;
    if target.identity() != report.identity {
        return Err(refused("another volume has come in its place".to_owned()));
    }
    match target.try_lock()? {
        LockAttempt::Held => Ok(Scratch { volume: volume.clone(), target }),
        LockAttempt::HeldByAnother => Err(refused("another process holds its lock".to_owned())),
    }
}

/// Why this volume must keep what it holds, if so.
fn why_not(scratch: &VolumeReport, source: &VolumeReport, in_use: &[InUse]) -> Option<String> {
    let is_it = |used: &&InUse| {
        used.volume == scratch.address || used.report.as_ref().is_some_and(|report| report.shares_bytes_with(scratch))
    };
    if let Some(InUse { replication, side, .. }) = in_use.iter().find(is_it) {
        return Some(format!("it is the {side} of the replication {replication}"));
    }
    if scratch.shares_bytes_with(source) {
        return Some(format!("it is {}, which is read", source.address));
    }
    if let Some(user) = &scratch.in_use_by {
        return Some(format!("it is in use: {user}"));
    }
    let unfit = scratch.device.as_ref().and_then(|device| device.unfit_as_target.clone());
    unfit.or_else(|| scratch.read_only.then(|| "it cannot be written".to_owned()))
}

impl Scratch {
    pub(super) fn overwrite(&self, sample: &Sample, bounds: Bounds) -> Result<BenchStage, BenchError> {
        let device: Arc<dyn BlockDevice> = self.target.device();
        let failed = |cause| BenchError::Device { doing: "write", volume: self.volume.clone(), cause };
        let measured = bench::overwrite(&*device, sample, bounds).map_err(failed)?;
        Ok(stage(Stage::Target, format!("writing {} and flushing it", self.volume), measured))
    }
}

#[cfg(test)]
mod tests {
    use tanist_model::volume::VolumeContent;

    use super::*;

    fn volume(name: &str, identity: &str) -> VolumeReport {
        VolumeReport {
            address: format!("san-a/{name}").parse().unwrap(),
            identity: identity.to_owned(),
            size_bytes: 1 << 30,
            read_only: false,
            in_use_by: None,
            content: VolumeContent::Blank,
            error: None,
            device: None,
        }
    }

    fn used(volume: &VolumeReport, report: Option<VolumeReport>) -> InUse {
        let replication = ReplicationName::new("db").unwrap();
        InUse { volume: volume.address.clone(), report, replication, side: Side::Target }
    }

    #[test]
    fn a_volume_that_somebody_needs_is_not_overwritten() {
        let (scratch, source) = (volume("scratch", "1"), volume("source", "2"));
        assert_eq!(why_not(&scratch, &source, &[used(&source, Some(source.clone()))]), None);
        let refused = |scratch: &VolumeReport, in_use: &[InUse], part: &str| {
            let why = why_not(scratch, &source, in_use).unwrap();
            assert!(why.contains(part), "{why}");
        };
        refused(&scratch, &[used(&scratch, None)], "the target of the replication db");
        let elsewhere = volume("under-another-name", "1");
        refused(&scratch, &[used(&elsewhere, Some(elsewhere.clone()))], "the target of the replication db");
        refused(&VolumeReport { identity: "2".to_owned(), ..scratch.clone() }, &[], "san-a/source, which is read");
        refused(&VolumeReport { in_use_by: Some("mounted at /".to_owned()), ..scratch.clone() }, &[], "mounted at /");
        refused(&VolumeReport { read_only: true, ..scratch.clone() }, &[], "cannot be written");
    }
}
