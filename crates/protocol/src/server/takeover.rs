//! Takeover: pick, commit, activate. The order is the safety: nothing is sent before the new epoch is durable, nothing is
//! written by the successor before its activation is.

use tanist_model::change::Change;
use tanist_model::event::EventCode;
use tanist_model::id::{AgentName, Epochs, Nonce, ReplicationId};
use tanist_model::replication::{Holder, ReplicationRecord, Standing, UnprovenEpoch};
use tanist_model::takeover::{Candidate, Evidence, ProbeVerdict, TakeoverRecord};
use tanist_model::time::Timestamp;

use super::eligibility::passed_over_in_words;
use super::{Effect, ServerMachine};
use crate::fence::key::{ClusterTag, ReservationKey, SlotTag};
use crate::message::{Assignment, FenceReport, ServerMessage, Stamp};
use crate::mutation::Mutation;

impl ServerMachine {
    /// Commits a new epoch for the first eligible agent (`prefer` before the order of ranks), or remembers that there is none.
    pub(super) fn take_over(
        &mut self,
        record: &ReplicationRecord,
        evidence: Evidence,
        suspected_at: Timestamp,
        verdicts: Vec<ProbeVerdict>,
        prefer: Option<&AgentName>,
    ) {
        let candidates = self.candidates_to_succeed(record, &evidence);
        let preferred =
            prefer.filter(|p| candidates.iter().any(|c| c.agent == **p && c.passed_over.is_none())).cloned();
        let Some(successor) = preferred.or_else(|| self.pick(&candidates)) else {
            return self.go_without_successor(record, evidence, suspected_at, &candidates);
        };
        let Some(epochs) = next_epochs(record, &successor) else {
            self.quarantine(record, "the epoch counter is used up; create the replication anew".to_owned());
            return;
        };
        let takeover = TakeoverRecord {
            replication: record.id,
            epochs,
            evidence,
            from: self.who_left(record),
            to: successor,
            suspected_at,
            verdicts,
            candidates,
            named: prefer.cloned(),
            committed_at: self.now.wall.max(suspected_at),
            granted_at: None,
            activated_at: None,
            tier: None,
            held_kernel_lock: false,
            awaited: Vec::new(),
            proven: Vec::new(),
            unproven: Vec::new(),
            run: record.run,
            resumed_seq: self.state.current_run(record).map_or(0, |r| r.checkpoint.seq),
            reported_seq: self.reported_seq(record),
            first_durable_write_at: None,
            copied_again_bytes: None,
        };
        self.commit_takeover(record, takeover);
    }

    /// How far the holder had written in the present run, by its last word: a beat, or a checkpoint that came after it.
    fn reported_seq(&self, record: &ReplicationRecord) -> Option<u64> {
        let progress = self.reported_progress(record, record.run?)?;
        let committed = self.state.current_run(record).map_or(0, |run| run.checkpoint.seq);
        Some(progress.passed_bytes.min(record.size_bytes).max(committed))
    }

    /// In one commit: the new epoch and its holder, the predecessor's place among the unproven, the record of the takeover. Only
    /// then is the successor told.
    fn commit_takeover(&mut self, record: &ReplicationRecord, mut takeover: TakeoverRecord) {
        let Some(session) = self.sessions.get(&takeover.to) else { return };
        let (incarnation, host) = (session.incarnation, session.host.clone());
        let command = self.ids.command();
        let mut next = record.clone();
        self.drop_never_activated(&mut next);
        self.drop_by_mutation(&mut next, &takeover);
        if next.epochs.source != takeover.epochs.source {
            next.reader = None;
        }
        next.epochs = takeover.epochs;
        next.holder = Some(Holder {
            agent: takeover.to.clone(),
            incarnation,
            host: host.clone(),
            command,
            granted_at: self.now.wall,
            activated_at: None,
        });
        next.vacancy = None;
        next.handover = None;
        next.unproven.push(UnprovenEpoch {
            epoch: takeover.epochs.target,
            agent: takeover.to.clone(),
            incarnation,
            host,
            held_kernel_lock: false,
            lock_place: None,
            reservation: if self.can_reserve(record, &takeover.to) { Standing::Needed } else { Standing::NotNeeded },
            array_copies: self.array_copies_of(record, &takeover.to),
            outlives_host: self.outlives_host(record, &takeover.to),
            quiet: None,
            granted_at: self.now.wall,
        });
        takeover.awaited = next.awaited().map(|u| u.epoch).collect();
        takeover.unproven.clone_from(&takeover.awaited);
        let mut changes: Vec<Change> = self.takeover_event(record, &takeover).into_iter().collect();
        changes.extend(self.penalty_of(&takeover));
        if let Some((event, drills)) = self.lost_drill(record) {
            changes.push(event);
            next.drills = drills;
        }
        if self.supervisions.get(&record.id).is_some_and(|s| s.exhausted) {
            let message = format!("agent {} is eligible", takeover.to);
            changes.push(self.event_of(record, Some(&takeover.to), EventCode::ExhaustedEnded, message));
        }
        if let Some(run) = self.state.current_run(record) {
            let mut run = self.with_reported_work(record, run.clone());
            run.takeovers += u32::from(takeover.from.is_some());
            // A reader that goes on reading finishes its own attempt.
            if record.epochs.source != takeover.epochs.source {
                self.renew_attempt(&mut run);
            }
            changes.push(Change::PutRun(Box::new(run)));
        }
        let stamp = Stamp { term: self.state.term, replication: record.id, epochs: next.epochs, incarnation };
        let mut after: Vec<Effect> =
            self.to_agent(&takeover.to, ServerMessage::Activate { stamp, command }).into_iter().collect();
        after.extend(self.step_down_predecessor(record));
        changes.push(Change::PutReplication(Box::new(next)));
        changes.push(Change::PutTakeover(Box::new(takeover)));
        self.commit_current(record, changes, after);
        let now = self.now.monotonic;
        let supervision = self.supervision_mut(record.id);
        supervision.reset();
        supervision.granted_at = Some(now);
        supervision.activate_sent = Some(now);
    }

    /// An epoch whose activation was never committed was never ordered to write: it leaves nothing to prove.
    pub(super) fn drop_never_activated(&self, next: &mut ReplicationRecord) {
        if next.holder.as_ref().is_some_and(|h| h.activated_at.is_none()) {
            let burnt = next.epochs.target;
            next.unproven.retain(|u| u.epoch != burnt);
        }
    }

    fn drop_by_mutation(&self, next: &mut ReplicationRecord, takeover: &TakeoverRecord) {
        use tanist_model::takeover::PeerVerdict;
        let any = |wanted: fn(&PeerVerdict) -> bool| takeover.verdicts.iter().any(|v| wanted(&v.verdict));
        let by_peers = self.mutations.breaks(Mutation::PeerVerdictAsProof) && any(|v| *v == PeerVerdict::Unreachable);
        let by_refusal = self.mutations.breaks(Mutation::RefusedAsProof) && any(|v| *v == PeerVerdict::Refused);
        if by_peers || by_refusal {
            next.unproven.clear();
        }
    }

    /// A handover and a first activation have events of their own.
    fn takeover_event(&self, record: &ReplicationRecord, takeover: &TakeoverRecord) -> Option<Change> {
        let code = match takeover.evidence {
            Evidence::Handover { .. } | Evidence::FirstActivation => return None,
            Evidence::Drill { .. } => EventCode::DrillStarted,
            _ => EventCode::TakeoverCommitted,
        };
        let from = takeover.from.as_ref().map_or(String::new(), |from| format!(" from {from}"));
        let message =
            format!("epoch {} granted to {}{from}: {}", takeover.epochs, takeover.to, takeover.evidence.in_words());
        Some(self.event_of(record, Some(&takeover.to), code, message))
    }

    /// The agent that acts no more: the holder, or who left the place before.
    fn who_left(&self, record: &ReplicationRecord) -> Option<AgentName> {
        let left = || record.vacancy.as_ref()?.left_by.clone();
        record.holder.as_ref().map(|h| h.agent.clone()).or_else(left)
    }

    /// A process that does not drain is not its own successor; one that handed over, or did not activate in time, only if there is
    /// nobody else.
    fn candidates_to_succeed(&self, record: &ReplicationRecord, evidence: &Evidence) -> Vec<Candidate> {
        let mut candidates = self.candidates(record);
        let goes = |agent: &AgentName| self.holds(record, agent) || self.handed_over(record, agent);
        let others = candidates.iter().any(|c| c.passed_over.is_none() && !goes(&c.agent));
        let reason = match evidence {
            Evidence::HandoverOverdue => "it is the one that does not drain",
            Evidence::Drill { .. } => "the drill treats it as gone",
            Evidence::ActivationTimeout if others => "it is the one that did not activate",
            Evidence::Handover { .. } if others => "it is the one that hands over",
            _ => return candidates,
        };
        for candidate in candidates.iter_mut().filter(|c| goes(&c.agent)) {
            candidate.passed_over.get_or_insert_with(|| reason.to_owned());
        }
        candidates
    }

    /// The agent's present process is the one that was granted the epochs in force.
    fn holds(&self, record: &ReplicationRecord, agent: &AgentName) -> bool {
        self.holder_session(record).is_some_and(|(holder, _)| holder == agent)
    }

    /// The agent's present process is the one that handed over.
    pub(super) fn handed_over(&self, record: &ReplicationRecord, agent: &AgentName) -> bool {
        let left = record.vacancy.as_ref().filter(|left| matches!(left.evidence, Evidence::Handover { .. }));
        let is_same = |process| self.sessions.get(agent).is_some_and(|session| session.incarnation == process);
        left.is_some_and(|left| left.left_by.as_ref() == Some(agent) && left.left_process.is_none_or(is_same))
    }

    /// A failure damps the agent that failed; what an operator wanted does not.
    fn penalty_of(&self, takeover: &TakeoverRecord) -> Option<Change> {
        self.penalty(takeover.from.as_ref()?, &takeover.evidence)
    }

    pub(super) fn penalty(&self, agent: &AgentName, evidence: &Evidence) -> Option<Change> {
        let planned = matches!(
            evidence,
            Evidence::FirstActivation
                | Evidence::Handover { .. }
                | Evidence::Drill { .. }
                | Evidence::Removed
                | Evidence::Declined { .. }
        );
        let mut failed = self.state.agents.get(agent)?.clone();
        failed.penalty = failed.penalty.with_failure(self.now.wall);
        (!planned).then_some(Change::PutAgent(failed))
    }

    pub(super) fn step_down_predecessor(&self, record: &ReplicationRecord) -> Option<Effect> {
        let (agent, session) = self.holder_session(record)?;
        let stamp = Stamp {
            term: self.state.term,
            replication: record.id,
            epochs: record.epochs,
            incarnation: session.incarnation,
        };
        self.to_agent(agent, ServerMessage::StepDown { stamp })
    }

    /// Nobody is eligible: the epoch stays, a live holder is left alone, and every change is a reason to look again.
    pub(super) fn note_exhausted(&mut self, record: &ReplicationRecord, candidates: &[Candidate]) {
        if std::mem::replace(&mut self.supervision_mut(record.id).exhausted, true) {
            return;
        }
        let message = format!("no agent is eligible; {}", passed_over_in_words(candidates));
        let event = self.event_of(record, None, EventCode::Exhausted, message);
        self.commit_current(record, vec![event], Vec::new());
    }

    pub(super) fn resend_activate(&mut self, record: &ReplicationRecord, holder: &Holder) {
        let (now, resend) = (self.now.monotonic, self.timers.resend);
        let supervision = self.supervision_mut(record.id);
        if supervision.activate_sent.is_some_and(|sent| now.since(sent) < resend) {
            return;
        }
        supervision.activate_sent = Some(now);
        supervision.granted_at.get_or_insert(now);
        let stamp = self.stamp(record, holder);
        self.send(&holder.agent, ServerMessage::Activate { stamp, command: holder.command });
    }

    pub(super) fn stamp(&self, record: &ReplicationRecord, holder: &Holder) -> Stamp {
        Stamp { term: self.state.term, replication: record.id, epochs: record.epochs, incarnation: holder.incarnation }
    }

    pub(super) fn handle_grant_request(&mut self, agent: &AgentName, id: ReplicationId, epochs: Epochs, nonce: Nonce) {
        if !self.is_current(agent, id, epochs) {
            self.step_down(agent, id, epochs);
            return;
        }
        let Some(record) = self.state.replications.get(&id).cloned() else { return };
        let Some(holder) = record.holder.as_ref() else { return };
        let grant = ServerMessage::Grant {
            stamp: self.stamp(&record, holder),
            nonce,
            assignment: Box::new(self.assignment(&record)),
        };
        let Some(effect) = self.to_agent(agent, grant) else { return };
        // One that is asked for again after the activation was granted before it; when, may be lost with an earlier server.
        let pending = self.state.takeovers.get(&(id, epochs.target.0)).filter(|t| t.activated_at.is_none());
        let Some(mut takeover) = pending.cloned() else {
            self.out.perform(effect);
            return;
        };
        // The time of the grant is for people; it rides with the next commit and holds nothing up.
        takeover.granted_at.get_or_insert(self.now.wall.max(takeover.committed_at));
        self.state.apply(&Change::PutTakeover(Box::new(takeover)));
        self.out.perform(effect);
    }

    fn assignment(&self, record: &ReplicationRecord) -> Assignment {
        Assignment {
            name: record.name.clone(),
            source: record.source.volume.clone(),
            source_identity: record.source.identity.clone(),
            target: record.target.volume.clone(),
            target_identity: record.target.identity.clone(),
            size_bytes: record.size_bytes,
            lock_may_be_held: record.awaited().next().is_some() || self.predecessor_never_activated(record),
            reserve: self.key_of_holder(record),
            array_copies: self.may_order_copies(record),
        }
    }

    pub(super) fn can_reserve(&self, record: &ReplicationRecord, agent: &AgentName) -> bool {
        self.storage_report(agent, &record.target.volume).is_some_and(|s| s.capabilities.reservations)
    }

    /// The key of the present epoch, if it may write with the reservation only.
    fn key_of_holder(&self, record: &ReplicationRecord) -> Option<ReservationKey> {
        let epoch = record.epochs.target;
        let own = record.unproven.iter().find(|u| u.epoch == epoch)?;
        let slot = SlotTag::of(self.state.agents.get(&own.agent)?.slot);
        let key = ReservationKey { cluster: ClusterTag::of(self.cluster), slot, epoch };
        (own.reservation != Standing::NotNeeded).then_some(key)
    }

    /// An agent that was granted the epoch before and did not activate never writes, but may hold the lock.
    fn predecessor_never_activated(&self, record: &ReplicationRecord) -> bool {
        let before = (record.id, 0)..(record.id, record.epochs.target.0);
        self.state.takeovers.range(before).next_back().is_some_and(|(_, takeover)| takeover.activated_at.is_none())
    }

    pub(super) fn step_down(&mut self, agent: &AgentName, replication: ReplicationId, epochs: Epochs) {
        let Some(incarnation) = self.sessions.get(agent).map(|s| s.incarnation) else { return };
        let stamp = Stamp { term: self.state.term, replication, epochs, incarnation };
        self.send(agent, ServerMessage::StepDown { stamp });
    }

    pub(super) fn handle_activated(
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
        self.touched.insert(id);
        let Some(holder) = record.holder.clone().filter(|h| h.activated_at.is_none()) else {
            self.take_proof(&record, fence);
            return;
        };
        let mut next = record.clone();
        next.holder = Some(Holder { activated_at: Some(self.now.wall), ..holder });
        let proven = self.apply_fence(&mut next, fence);
        let mut changes = self.proof_events(&record, &proven);
        if let Some(mut takeover) = self.state.takeovers.get(&(id, epochs.target.0)).cloned() {
            takeover.activated_at = Some(self.now.wall.max(takeover.granted_at.unwrap_or(takeover.committed_at)));
            takeover.tier = Some(self.tier_in_force(&next));
            // Not what this message says of it: a later one, which came before it, may have shown the lock.
            let own = next.unproven.iter().find(|u| u.epoch == epochs.target);
            takeover.held_kernel_lock = fence.locked.is_some() || own.is_some_and(|own| own.held_kernel_lock);
            takeover.unproven = next.awaited().map(|u| u.epoch).collect();
            takeover.proven.extend(proven);
            changes.push(self.activated_event(&record, &takeover));
            changes.push(Change::PutTakeover(Box::new(takeover)));
        }
        changes.push(Change::PutReplication(Box::new(next)));
        self.commit_current(&record, changes, Vec::new());
    }

    fn activated_event(&self, record: &ReplicationRecord, takeover: &TakeoverRecord) -> Change {
        let code = match takeover.evidence {
            Evidence::Handover { .. } => EventCode::HandoverComplete,
            Evidence::FirstActivation => EventCode::Activated,
            _ => EventCode::TakeoverComplete,
        };
        let quiet = match takeover.unproven.len() {
            0 => "every earlier epoch is proven quiet".to_owned(),
            n => format!("{n} earlier epochs are not proven quiet: only the same snapshot goes on"),
        };
        let took = self.now.wall.since(takeover.suspected_at).as_millis();
        let message = format!("agent {} acts under epoch {} after {took} ms; {quiet}", takeover.to, takeover.epochs);
        self.event_of(record, Some(&takeover.to), code, message)
    }

    /// It declined before it began: final for these epochs, and nothing was written under them.
    pub(super) fn handle_not_eligible(&mut self, agent: &AgentName, id: ReplicationId, epochs: Epochs, reason: String) {
        let current = self.is_current(agent, id, epochs);
        if current && let Some(record) = self.state.replications.get(&id).cloned() {
            let message = format!("agent {agent} declined epoch {epochs}: {reason}");
            let event = self.event_of(&record, Some(agent), EventCode::AgentNotEligible, message);
            self.commit_current(&record, vec![event], Vec::new());
        }
        self.note_declined(agent, id, epochs, reason, false);
    }

    pub(super) fn handle_quarantined(&mut self, agent: &AgentName, id: ReplicationId, epochs: Epochs, reason: String) {
        let Some(record) = self.state.replications.get(&id).cloned() else { return };
        let message = format!("agent {agent} refuses epoch {epochs}: {reason}");
        let event = self.event_of(&record, Some(agent), EventCode::AgentQuarantined, message);
        self.commit_current(&record, vec![event], Vec::new());
        if self.is_current(agent, id, epochs) {
            self.note_declined(agent, id, epochs, reason, true);
        }
    }

    /// Nothing is done any more until an operator has looked.
    pub(super) fn quarantine(&mut self, record: &ReplicationRecord, reason: String) {
        let mut next = record.clone();
        next.quarantine = Some(reason.clone());
        let event = self.event_of(record, None, EventCode::ReplicationQuarantined, reason);
        self.commit_current(record, vec![event, Change::PutReplication(Box::new(next))], Vec::new());
    }
}

/// The failed side gets a new epoch. A reader that goes on reading keeps its own; a successor that is that reader's agent may read
/// for itself, and takes the source over as well.
fn next_epochs(record: &ReplicationRecord, successor: &AgentName) -> Option<Epochs> {
    match &record.reader {
        Some(reader) if reader.agent != *successor => {
            Some(Epochs { source: record.epochs.source, target: record.epochs.target.next()? })
        }
        _ => record.epochs.next(),
    }
}
