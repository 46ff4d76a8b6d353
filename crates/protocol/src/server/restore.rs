//! After a restore of the store: no grants until every known agent has shown the epochs it was granted; then go on above all.

use tanist_model::byte_range::ByteRange;
use tanist_model::change::{Change, Condition};
use tanist_model::event::EventCode;
use tanist_model::id::{AgentName, Epoch, Epochs, Incarnation, ReplicationId, Term};
use tanist_model::recovery_point::{RecoveryPoint, RecoveryPointPlace};
use tanist_model::replication::{ReplicationRecord, Standing, UnprovenEpoch};
use tanist_model::run::{RunRecord, RunState};
use tanist_model::takeover::{Evidence, Vacancy};

use super::ServerMachine;
use crate::fence::standing::Fenceable;
use crate::mutation::Mutation;

/// By how much the end of a restore raises every epoch. An agent that was removed, or confirmed dead, shows none: what it was granted
/// since the backup stays below.
const EPOCH_MARGIN: u32 = 1 << 16;

impl ServerMachine {
    /// Takes the epochs that an agent shows. Epochs above the store's are raised whenever they are seen; agents that owe them
    /// have then paid.
    pub(super) fn note_shown_epochs(&mut self, agent: &AgentName) {
        if self.mutations.breaks(Mutation::RestoreWithoutRaise) {
            return self.settle(agent);
        }
        let Some(session) = self.sessions.get(agent) else { return };
        // An epoch of an earlier process can no longer drain: only the lock, a new boot or an operator proves it quiet.
        let process = |grant| if session.granted_here.contains(grant) { session.incarnation } else { Incarnation(0) };
        let shown: Vec<_> = session.granted.iter().map(|grant| (grant.0, grant.1, process(grant))).collect();
        for (id, shown, incarnation) in shown {
            self.raise_above(agent, id, shown, incarnation);
        }
        self.settle(agent);
    }

    fn raise_above(&mut self, agent: &AgentName, id: ReplicationId, shown: Epochs, incarnation: Incarnation) {
        let Some(record) = self.state.replications.get(&id).cloned() else { return };
        let known = record.unproven.iter().any(|u| u.epoch == shown.target);
        let raises = record.epochs.is_older_than(shown);
        if !raises && (known || !self.state.restoring || self.was_granted_here(id, shown)) {
            return;
        }
        if !self.has_to_do_with(agent, &record) {
            return;
        }
        let Some(host) = self.host_of(agent) else { return };
        let mut next = record.clone();
        if raises {
            next.epochs = Epochs {
                source: record.epochs.source.max(shown.source),
                target: record.epochs.target.max(shown.target),
            };
            next.holder = None;
            next.reader = None;
            next.handover = None;
            next.vacancy = Some(self.vacancy_of_lost_epoch());
        }
        if !known {
            let array_copies = self.array_copies_of(&record, agent);
            let outlives_host = self.outlives_host(&record, agent);
            let (epoch, agent, granted_at) = (shown.target, agent.clone(), self.now.wall);
            next.unproven.push(UnprovenEpoch {
                epoch,
                agent,
                incarnation,
                host,
                held_kernel_lock: false,
                lock_place: None,
                reservation: Standing::NotNeeded,
                array_copies,
                outlives_host,
                quiet: None,
                granted_at,
            });
        }
        let message = format!("agent {agent} shows epoch {shown}; the store knew {}", record.epochs);
        let mut changes = vec![self.event_of(&record, Some(agent), EventCode::EpochBurnt, message)];
        changes.push(Change::PutReplication(Box::new(next.clone())));
        if raises && !self.state.restoring {
            changes.extend(self.note_rollback(agent, &next));
        }
        self.commit_current(&record, changes, Vec::new());
        self.touched.insert(id);
    }

    /// A store commits a grant before it is given. One that knows less than an agent was granted has lost what it committed, and nobody
    /// said so: what it knows of the target is old.
    fn note_rollback(&self, agent: &AgentName, record: &ReplicationRecord) -> Vec<Change> {
        let message = format!("the store has lost grants that agent {agent} was given: it is older than it was");
        let told = self.event_of(record, Some(agent), EventCode::StoreRolledBack, message);
        std::iter::once(told).chain(self.distrust_target(record)).collect()
    }

    fn vacancy_of_lost_epoch(&self) -> Vacancy {
        let evidence = Evidence::ReportedUnfit { reason: "its epoch was lost with the restored store".to_owned() };
        Vacancy { evidence, since: self.now.wall, left_by: None, left_process: None, successor: None }
    }

    /// The store knows of this grant: what it says of it, proven or not, is true.
    fn was_granted_here(&self, id: ReplicationId, shown: Epochs) -> bool {
        let last = self.state.takeovers.range((id, 0)..=(id, u32::MAX)).next_back();
        last.is_some_and(|((_, epoch), _)| shown.target.0 <= *epoch)
    }

    /// An agent has a word only on replications that it is, or was, an agent of.
    pub(super) fn has_to_do_with(&self, agent: &AgentName, record: &ReplicationRecord) -> bool {
        let stands = record.source.hierarchy.contains(agent) || record.target.hierarchy.contains(agent);
        let held = record.unproven.iter().any(|u| u.agent == *agent);
        let known = self.state.takeovers.range((record.id, 0)..=(record.id, u32::MAX)).any(|(_, t)| t.to == *agent);
        stands || held || known
    }

    /// The agent has shown its epochs; when it was the last one to, grants are given again.
    pub(super) fn settle(&mut self, agent: &AgentName) {
        let Some(record) = self.state.agents.get(agent).filter(|a| a.owes_epochs) else { return };
        let mut paid = record.clone();
        paid.owes_epochs = false;
        self.commit(Condition::Term, vec![Change::PutAgent(paid)], Vec::new());
        self.end_restore_if_settled();
    }

    pub(super) fn end_restore_if_settled(&mut self) {
        let owing = self.state.agents.values().any(|a| a.owes_epochs && !a.removed);
        if !self.state.restoring || owing {
            return;
        }
        // Decided before, and lost if that commit failed: nothing is granted while anything since the backup is still believed.
        self.distrust_targets();
        let event = self.event(EventCode::StoreRestoreComplete, "every known agent has shown its epochs; grants go on");
        let mut changes: Vec<Change> = self.state.replications.values().flat_map(|r| self.begin_anew(r)).collect();
        // Nobody shows the epochs of a replication that was removed since the backup.
        let removed = self.state.removed_epoch.0.saturating_add(EPOCH_MARGIN);
        changes.extend([Change::NoteRemovedEpoch(Epoch(removed)), Change::SetRestoring(false)]);
        changes.push(Change::AppendEvent(event));
        self.commit(Condition::Term, changes, Vec::new());
        self.touched.extend(self.state.replications.keys().copied());
    }

    /// Of what was done since the backup nothing is known: the run in progress may have been published, the target may be further
    /// on than its recovery point. The run is given up at once, and only target snapshots, which never change, are believed.
    pub(super) fn distrust_targets(&mut self) {
        let distrusted: Vec<(ReplicationRecord, Vec<Change>)> =
            self.state.replications.values().map(|r| (r.clone(), self.distrust_target(r))).collect();
        for (record, changes) in distrusted.into_iter().filter(|(_, changes)| !changes.is_empty()) {
            self.commit_current(&record, changes, Vec::new());
        }
    }

    fn distrust_target(&self, record: &ReplicationRecord) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut next = ReplicationRecord { run: None, ..record.clone() };
        if let Some(run) = self.state.current_run(record) {
            let reason = "the store was restored: what became of this run since the backup is unknown".to_owned();
            let message = format!("run {} is abandoned: {reason}", run.id);
            changes.push(self.event_of(record, None, EventCode::RunAbandoned, message));
            let (state, finished_at, failure) = (RunState::Abandoned, Some(self.now.wall), Some(reason));
            changes.push(Change::PutRun(Box::new(RunRecord { state, finished_at, failure, ..run.clone() })));
            next.target_dirty.get_or_insert(run.id);
        }
        if let Some(point) = self.recovery_point_on_target(record) {
            let message = format!("since the restore nobody knows whether the target still holds run {}", point.run);
            changes.push(self.event_of(record, None, EventCode::RecoveryPointGone, message));
            let gone = RecoveryPoint { place: RecoveryPointPlace::Gone, ..point.clone() };
            changes.push(Change::PutRecoveryPoint(Box::new(gone)));
            next.target_dirty.get_or_insert(point.run);
        }
        // Who was fenced by a reservation may have been granted another epoch since.
        let fenced = next.unproven.iter_mut().filter(|u| u.reservation == Standing::Fenced);
        let unfenced = fenced.map(|u| u.set_fenced(false)).count() > 0;
        if unfenced
            || !changes.is_empty()
            || next.target_dirty.is_some() && next.doubtful.total_bytes() < record.size_bytes
        {
            // Nor does anybody know what was written since and is not durable.
            next.doubtful.insert(ByteRange::new(0, record.size_bytes));
            changes.push(Change::PutReplication(Box::new(next)));
        }
        changes
    }

    /// The holder may work on a run that the store has never heard of: whoever acts next begins under a new epoch.
    fn begin_anew(&self, record: &ReplicationRecord) -> Option<Change> {
        let margin = if self.mutations.breaks(Mutation::RestoreWithoutRaise) { 0 } else { EPOCH_MARGIN };
        let next = match record.epochs.raised(margin) {
            Some(epochs) => ReplicationRecord { epochs, holder: None, reader: None, ..record.clone() },
            None => {
                let quarantine = Some("the epoch counter is used up; create the replication anew".to_owned());
                ReplicationRecord { quarantine, ..record.clone() }
            }
        };
        Some(Change::PutReplication(Box::new(next)))
    }

    /// The agents that a restored store still waits for.
    #[must_use]
    pub fn owing_agents(&self) -> Vec<&AgentName> {
        self.state.agents.values().filter(|a| a.owes_epochs && !a.removed).map(|a| &a.name).collect()
    }

    pub(super) fn handle_newer_seen(&mut self, agent: &AgentName, id: ReplicationId, epochs: Epochs, term: Term) {
        let Some((connection, incarnation)) = self.sessions.get(agent).map(|s| (s.connection, s.incarnation)) else {
            return;
        };
        if term > self.state.term {
            self.refuse_follower_of_newer(agent, connection, term);
            return;
        }
        if self.newer_than_stored(id, epochs) {
            self.raise_above(agent, id, epochs, incarnation);
        }
    }

    fn newer_than_stored(&self, id: ReplicationId, epochs: Epochs) -> bool {
        self.state.replications.get(&id).is_some_and(|r: &ReplicationRecord| r.epochs.is_older_than(epochs))
    }
}
