//! Proof of quiet (tier F2): how an epoch leaves the `unproven` set. Suspicion, verdicts and refused connections never do it.

use tanist_model::change::Change;
use tanist_model::event::EventCode;
use tanist_model::id::{AgentName, Epochs, HostIdentity, ReplicationId};
use tanist_model::replication::{FencingTier, Intent, ProofKind, ReplicationRecord, Side, Standing, UnprovenEpoch};
use tanist_model::run::RunState;
use tanist_model::takeover::{Evidence, ProvenEpoch, Vacancy};

use super::{Effect, ServerMachine};
use crate::fence::Taken;
use crate::fence::standing::conclude;
use crate::message::{FenceReport, ServerMessage, Stamp};
use crate::mutation::Mutation;

impl ServerMachine {
    /// Whether the target may move on: every epoch but the holder's own is proven quiet, or fenced by the reservation.
    pub(super) fn may_advance(&self, record: &ReplicationRecord) -> bool {
        record.unfenced().next().is_none() || self.mutations.breaks(Mutation::ProofNotAwaited)
    }

    /// Whether the target may be given up, and with it the reservation that keeps fenced epochs out.
    pub(super) fn may_release(&self, record: &ReplicationRecord) -> bool {
        let fenced_suffices = self.mutations.breaks(Mutation::ReleaseWhileUnproven) && self.may_advance(record);
        record.awaited().next().is_none() || fenced_suffices || self.mutations.breaks(Mutation::ProofNotAwaited)
    }

    /// Whether something is held up by epochs that are not proven quiet.
    #[must_use]
    pub fn waits_for_proof(&self, record: &ReplicationRecord) -> bool {
        if record.awaited().next().is_none() {
            return false;
        }
        let unfenced = record.unfenced().next().is_some();
        let run_waits = unfenced && self.run_waits(record);
        run_waits || record.intent == Intent::Deleting
    }

    fn run_waits(&self, record: &ReplicationRecord) -> bool {
        self.state.current_run(record).is_some_and(|run| {
            run.state == RunState::SnapshotPending || run.snapshot.as_ref().is_some_and(|s| !s.mode.is_immutable())
        })
    }

    /// What holds of the predecessors as they are now.
    #[must_use]
    pub fn tier_in_force(&self, record: &ReplicationRecord) -> FencingTier {
        match (record.awaited().next(), record.unfenced().next()) {
            (None, _) => FencingTier::F2,
            (Some(_), None) => FencingTier::F1,
            (Some(_), Some(_)) => FencingTier::F3,
        }
    }

    /// Takes what the holder's fence found into the record: its own lock, and the epochs that the lock proves quiet.
    pub(super) fn apply_fence(&self, next: &mut ReplicationRecord, fence: &FenceReport) -> Vec<ProvenEpoch> {
        self.apply_reservation(next, fence);
        let on_target = fence.locked.as_deref() == Some(next.target.identity.as_str());
        let any_file = self.mutations.breaks(Mutation::LockOnAnotherFile) && fence.locked.is_some();
        if !on_target && !any_file {
            return Vec::new();
        }
        let current = next.epochs.target;
        let Some(own) = next.unproven.iter_mut().find(|u| u.epoch == current) else { return Vec::new() };
        own.held_kernel_lock = true;
        own.lock_place.clone_from(&fence.lock_place);
        let host = own.host.clone();
        let ignore_boot = self.mutations.breaks(Mutation::BootIdIgnored);
        let same_boot = |other: &HostIdentity| {
            other.machine_id == host.machine_id && (ignore_boot || other.boot_id == host.boot_id)
        };
        let same_device = |u: &UnprovenEpoch| u.lock_place == fence.lock_place || any_file;
        let quiet =
            |u: &UnprovenEpoch| u.epoch != current && u.held_kernel_lock && same_boot(&u.host) && same_device(u);
        self.take_proven(next, ProofKind::KernelLock, quiet)
    }

    /// What the holder's reservation says about its predecessors. One that has none says that none stands.
    fn apply_reservation(&self, next: &mut ReplicationRecord, fence: &FenceReport) {
        let current = next.epochs.target;
        let Some(own) = next.unproven.iter_mut().find(|u| u.epoch == current) else { return };
        let host = own.host.clone();
        let taken = fence.reservation.filter(|_| own.reservation == Standing::Needed);
        if taken.is_none() {
            own.reservation = Standing::NotNeeded;
        }
        next.reserved = taken.map(|_| current).or(next.reserved);
        let taken = taken.unwrap_or(Taken::Unclear);
        conclude(&mut next.unproven, current, &host, taken, self.mutations);
    }

    /// Removes the epochs that `quiet` names and says how they were proven. Of one that may have ordered the storage to copy, only its own
    /// word says everything; any other proof is noted until the storage has said the rest.
    fn take_proven(
        &self,
        next: &mut ReplicationRecord,
        proof: ProofKind,
        quiet: impl Fn(&UnprovenEpoch) -> bool,
    ) -> Vec<ProvenEpoch> {
        let clears_all = self.mutations.breaks(Mutation::ProofClearsAll) && next.unproven.iter().any(&quiet);
        let current = next.epochs.target;
        let named = |u: &UnprovenEpoch| quiet(u) || clears_all && u.epoch != current;
        let whole = |u: &UnprovenEpoch| proof == ProofKind::Drained || !self.may_be_copying(u);
        for epoch in next.unproven.iter_mut().filter(|u| named(u) && !whole(u)) {
            epoch.quiet.get_or_insert(proof);
        }
        self.drop_quiet(next, |u| (named(u) && whole(u)).then_some(proof))
    }

    /// Removes the epochs of which it is said how they were proven.
    pub(super) fn drop_quiet(
        &self,
        next: &mut ReplicationRecord,
        how: impl Fn(&UnprovenEpoch) -> Option<ProofKind>,
    ) -> Vec<ProvenEpoch> {
        let at = self.now.wall;
        let proven =
            |u: &UnprovenEpoch| Some(ProvenEpoch { epoch: u.epoch, agent: u.agent.clone(), proof: how(u)?, at });
        let told = next.unproven.iter().filter_map(proven).collect();
        next.unproven.retain(|u| how(u).is_none());
        told
    }

    pub(super) fn proof_events(&self, record: &ReplicationRecord, proven: &[ProvenEpoch]) -> Vec<Change> {
        let event = |p: &ProvenEpoch| {
            let how = match p.proof {
                ProofKind::Drained => "it drained",
                ProofKind::KernelLock => "its lock on the target is free",
                ProofKind::NewBoot => "its host has booted anew",
                ProofKind::OperatorConfirmed => "an operator confirmed it dead",
            };
            let message = format!("epoch {} of agent {} is proven quiet: {how}", p.epoch, p.agent);
            self.event_of(record, Some(&p.agent), EventCode::ProvenQuiet, message)
        };
        proven.iter().map(event).collect()
    }

    pub(super) fn handle_proof_of_quiet(
        &mut self,
        agent: &AgentName,
        id: ReplicationId,
        epochs: Epochs,
        fence: &FenceReport,
    ) {
        if !self.is_current(agent, id, epochs) {
            self.step_down(agent, id, epochs);
            return;
        }
        let Some(record) = self.state.replications.get(&id).cloned() else { return };
        self.take_proof(&record, fence);
    }

    /// The holder obtained the lock after its activation.
    pub(super) fn take_proof(&mut self, record: &ReplicationRecord, fence: &FenceReport) {
        let mut next = record.clone();
        let proven = self.apply_fence(&mut next, fence);
        if next == *record {
            return;
        }
        self.commit_proven(record, next, proven, Vec::new());
    }

    pub(super) fn commit_proven(
        &mut self,
        record: &ReplicationRecord,
        next: ReplicationRecord,
        proven: Vec<ProvenEpoch>,
        after: Vec<Effect>,
    ) {
        let mut changes = self.proof_events(record, &proven);
        if let Some(mut takeover) = self.state.takeovers.get(&(record.id, record.epochs.target.0)).cloned() {
            takeover.proven.extend(proven);
            changes.push(Change::PutTakeover(Box::new(takeover)));
        }
        changes.push(Change::PutReplication(Box::new(next)));
        self.commit_current(record, changes, after);
        self.touched.insert(record.id);
    }

    /// Whether what this agent writes to the target may land when its host is gone.
    pub(super) fn outlives_host(&self, record: &ReplicationRecord, agent: &AgentName) -> bool {
        self.storage_report(agent, &record.target.volume).is_some_and(|storage| storage.capabilities.outlives_host)
    }

    /// An agent seen under a new boot id: nothing of its old boot writes any more, but for what it left with a server.
    pub(super) fn prove_by_new_boot(&mut self, agent: &AgentName, host: &HostIdentity) {
        let rebooted = |u: &UnprovenEpoch| {
            let booted = u.host.machine_id == host.machine_id && u.host.boot_id != host.boot_id;
            u.agent == *agent && booted && !u.outlives_host
        };
        self.prove_everywhere(ProofKind::NewBoot, rebooted);
    }

    pub(super) fn prove_everywhere(&mut self, proof: ProofKind, quiet: impl Fn(&UnprovenEpoch) -> bool) -> usize {
        let concerned: Vec<ReplicationRecord> =
            self.state.replications.values().filter(|r| r.unproven.iter().any(&quiet)).cloned().collect();
        let mut count = 0;
        for record in concerned {
            let mut next = record.clone();
            let proven = self.take_proven(&mut next, proof, &quiet);
            if next == record {
                continue;
            }
            count += proven.len();
            self.commit_proven(&record, next, proven, Vec::new());
        }
        count
    }

    /// `Drained` is final: that epoch never writes again.
    pub(super) fn handle_drained(&mut self, agent: &AgentName, id: ReplicationId, epochs: Epochs) {
        let Some(incarnation) = self.sessions.get(agent).map(|s| s.incarnation) else { return };
        let stamp = Stamp { term: self.state.term, replication: id, epochs, incarnation };
        let noted = self.to_agent(agent, ServerMessage::DrainedNoted { stamp });
        let Some(record) = self.state.replications.get(&id).cloned() else {
            self.out_perform(noted);
            return;
        };
        let is_its = |u: &UnprovenEpoch| u.epoch == epochs.target && u.incarnation == incarnation;
        if !record.unproven.iter().any(is_its) {
            self.out_perform(noted);
            return;
        }
        let mut next = record.clone();
        let proven = self.take_proven(&mut next, ProofKind::Drained, is_its);
        if self.is_current(agent, id, epochs) {
            next.holder = None;
            next.handover = None;
            next.vacancy = Some(self.vacancy_left_by(&record, agent));
            self.supervision_mut(id).suspicions.remove(&Side::Target);
        }
        self.commit_proven(&record, next, proven, noted.into_iter().collect());
    }

    /// Why the acting agent left.
    fn vacancy_left_by(&self, record: &ReplicationRecord, agent: &AgentName) -> Vacancy {
        let wall = self.now.wall;
        let session = self.sessions.get(agent);
        let leaving = session.is_some_and(|s| s.leaving);
        let unfit = session
            .and_then(|s| s.declined.get(&(record.id, Side::Target)))
            .filter(|d| d.epochs.same_holder(record.epochs))
            .map(|d| Evidence::ReportedUnfit { reason: d.reason.clone() });
        let (evidence, since) = match (&record.handover, unfit) {
            (Some(handover), _) => (Evidence::Handover { by: handover.by.clone() }, handover.started_at),
            (None, Some(unfit)) => (unfit, wall),
            (None, None) if leaving => (Evidence::Handover { by: "the agent's stop".to_owned() }, wall),
            (None, None) => (Evidence::ReportedUnfit { reason: "it drained by itself".to_owned() }, wall),
        };
        let successor = record.handover.as_ref().and_then(|handover| handover.to.clone());
        let left_process = record.holder.as_ref().map(|holder| holder.incarnation);
        Vacancy { evidence, since, left_by: Some(agent.clone()), left_process, successor }
    }

    fn out_perform(&mut self, effect: Option<Effect>) {
        if let Some(effect) = effect {
            self.out.perform(effect);
        }
    }
}
