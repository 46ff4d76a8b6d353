//! What an agent's own looks at its volumes say of its work: one that cannot read a volume, or sees another in its place, says so itself
//! and ends what it does there. Each role and each reading is judged by the identity that *it* was given: two replications may have stood
//! for one address one after the other, and what is right for the one is wrong for the other.

use tanist_model::id::{Epochs, ReplicationId, VolumeAddress};
use tanist_model::replication::Side;

use super::{AgentMachine, Effect, Phase};
use crate::message::{AgentMessage, CanaryReport, RunFailureKind};

/// A role with what is wrong with one of its volumes.
type Complaint = (ReplicationId, Epochs, String);

impl AgentMachine {
    pub(super) fn judge_own_reads(&mut self, canaries: &[CanaryReport]) {
        for canary in canaries {
            let complaints = self.complaints(canary);
            let readings = self.readings_without(canary);
            let is_well = canary.result.is_ok() && complaints.is_empty() && readings.is_empty();
            if is_well {
                self.failing.remove(&canary.address);
                continue;
            }
            let works = !complaints.is_empty() || !readings.is_empty();
            let now = self.now.monotonic;
            let since = *self.failing.entry(canary.address.clone()).or_insert(now);
            if now.since(since) < self.timers.lost_path {
                self.look_again = self.look_again.or(works.then(|| since.plus(self.timers.lost_path)));
                continue;
            }
            readings.into_iter().for_each(|(replication, why)| self.fail_reading(replication, why));
            for (replication, epochs, reason) in complaints {
                self.send(AgentMessage::Unfit { replication, epochs, reason });
                self.end_role(replication, epochs, None, false);
            }
        }
    }

    /// A run that failed at the storage may have lost its path: that is not left to the next look, which may be a second away.
    pub(super) fn look_after(&mut self, kind: RunFailureKind) {
        if matches!(kind, RunFailureKind::Io | RunFailureKind::Flush) {
            self.out.perform(Effect::Look);
        }
    }

    /// What was seen once is looked at again as soon as that decides.
    pub(super) fn look_again_if_due(&mut self) {
        if self.look_again.take_if(|at| *at <= self.now.monotonic).is_some() {
            self.out.perform(Effect::Look);
        }
    }

    /// What is not looked at any more is not held against a role of later.
    pub(super) fn forget_unwatched(&mut self, watched: &[VolumeAddress]) {
        self.failing.retain(|volume, _| watched.contains(volume));
    }

    /// Of the roles at work.
    fn complaints(&self, canary: &CanaryReport) -> Vec<Complaint> {
        let active = self.roles.iter().filter(|(_, role)| matches!(role.phase, Phase::Active { .. }));
        let complaint = |id: &ReplicationId| {
            let own = self.assignments.get(id)?;
            wrong_with(canary, Side::Source, &own.source, &own.source_identity)
                .or_else(|| wrong_with(canary, Side::Target, &own.target, &own.target_identity))
        };
        active.filter_map(|(id, role)| Some((*id, role.epochs, complaint(id)?))).collect()
    }

    fn readings_without(&self, canary: &CanaryReport) -> Vec<(ReplicationId, String)> {
        let wrong = self.readings.iter().filter_map(|(id, reading)| {
            let (source, identity) = (&reading.assignment.source, &reading.assignment.source_identity);
            Some((*id, wrong_with(canary, Side::Source, source, identity)?))
        });
        wrong.collect()
    }
}

/// Why whoever was told of this volume cannot work with what was seen.
fn wrong_with(canary: &CanaryReport, side: Side, address: &VolumeAddress, identity: &str) -> Option<String> {
    if canary.address != *address {
        return None;
    }
    match &canary.result {
        Err(reason) => Some(format!("it cannot read {address}: {reason}")),
        Ok(seen) if seen.identity == identity => None,
        Ok(seen) => {
            Some(format!("it sees another volume as {side} {address}: {} instead of {identity}", seen.identity))
        }
    }
}
