//! Volumes that share bytes under different names: a disk and its partition, a mapped device and what it is made of, a loop device
//! and the file behind it. Writing to one shows in the other, so for every guard they count as one volume.

use tanist_model::api::{CreateReplication, Refusal};
use tanist_model::replication::SideRecord;
use tanist_model::volume::VolumeReport;

use super::ServerMachine;
use super::plan::guarded;

impl ServerMachine {
    /// Whether the volume on that side of a replication is this one, or has bytes in common with it. What lies beneath the side's
    /// volume is known while some agent sees it.
    pub(super) fn is_on(&self, side: &SideRecord, volume: &VolumeReport) -> bool {
        side.volume == volume.address
            || volume.is_made_of(&side.identity)
            || self.seen_by_any(side).is_some_and(|seen| seen.shares_bytes_with(volume))
    }

    fn seen_by_any(&self, side: &SideRecord) -> Option<&VolumeReport> {
        let seen = side.hierarchy.iter().find_map(|agent| self.report(agent, &side.volume));
        seen.filter(|report| report.identity == side.identity)
    }
}

/// What two volumes must not be to each other, and what the sectors of the target demand of the source.
pub(super) fn guard_pair(
    create: &CreateReplication,
    source: &VolumeReport,
    target: &VolumeReport,
) -> Result<(), Refusal> {
    if source.identity == target.identity {
        return Err(guarded(create, format!("it is the same volume as the source {}", create.source)));
    }
    if source.shares_bytes_with(target) {
        let cause =
            format!("it has bytes in common with the source {}: one of the two is made of the other", source.address);
        return Err(guarded(create, cause).hint("choose a target on other storage"));
    }
    if let Some(reason) = target.device.as_ref().and_then(|device| device.unfit_as_target.as_ref()) {
        return Err(guarded(create, reason.clone()));
    }
    let sector = target.sector_bytes();
    if !source.size_bytes.is_multiple_of(sector) {
        let cause = format!(
            "it is written in sectors of {sector} bytes, and the source's {} bytes are no multiple of that",
            source.size_bytes
        );
        return Err(
            guarded(create, cause).hint("grow the source to a multiple, or choose a target with smaller sectors")
        );
    }
    Ok(())
}
