//! The source's side in the networked form: who reads for a holder that does not, and what it is told.
//!
//! A holder that can read the source does so itself. Otherwise the first eligible agent of the source's hierarchy reads, under an
//! epoch of the source's own. The two sides fail over independently: another reader is a higher source epoch, under which the
//! holder's stream is closed and opened again at the checkpoint; another holder leaves the reader where it is.

use tanist_model::change::Change;
use tanist_model::event::EventCode;
use tanist_model::id::{AgentName, Epochs, ReplicationId, RunId, SnapshotId};
use tanist_model::replication::{Holder, Intent, Reader, ReplicationRecord, Side};
use tanist_model::run::{RunRecord, RunState};
use tanist_model::takeover::{Candidate, Evidence, PeerVerdict};
use tanist_model::time::Timestamp;

use super::ServerMachine;
use super::eligibility::passed_over_in_words;
use super::origin::wanted_snapshot;
use super::session::Declined;
use super::supervise::Standing;
use crate::message::{
    OrderNumber, ReadAssignment, ReadOrder, RoleReport, RunEnd, RunFailureKind, RunOrder, ServerMessage, SourceAccess,
    Stamp,
};

impl ServerMachine {
    /// How the holder gets at the source; `None` while that is being settled.
    pub(super) fn source_access(&mut self, record: &ReplicationRecord, holder: &Holder) -> Option<SourceAccess> {
        let Some(reader) = record.reader.clone() else { return self.access_without_reader(record, holder) };
        let (evidence, since) = match self.reader_standing(record, &reader) {
            Standing::Awaited => return None,
            Standing::Well => {
                self.supervision_mut(record.id).source_exhausted = false;
                self.clear_suspicion(record, Side::Source, &reader.agent);
                self.note_cut_off(record, &reader, holder);
                match self.why_reader_goes(record, &reader, holder) {
                    None => return Some(remote(record, &reader)),
                    Some(evidence) => (evidence, self.now.wall),
                }
            }
            Standing::Gone(evidence) => (evidence, self.now.wall),
            Standing::Suspect(evidence) => {
                let suspect = (&reader.agent, reader.incarnation);
                let suspicion = self.investigate(record, Side::Source, suspect, evidence)?;
                (suspicion.evidence, suspicion.suspected_at)
            }
        };
        self.replace_reader(record, holder, &evidence, since);
        None
    }

    fn access_without_reader(&mut self, record: &ReplicationRecord, holder: &Holder) -> Option<SourceAccess> {
        let stands = record.source.hierarchy.contains(&holder.agent);
        let session = self.sessions.get(&holder.agent)?;
        if stands && !session.canaries.contains_key(&record.source.volume) {
            // It has just come, or this server has: its first read tells.
            return None;
        }
        if stands && self.why_ineligible_for(record, &holder.agent, Side::Source).is_none() {
            self.supervision_mut(record.id).source_exhausted = false;
            return Some(SourceAccess::Local);
        }
        let since = self.now.wall;
        self.replace_reader(record, holder, &Evidence::FirstActivation, since);
        None
    }

    fn reader_standing(&self, record: &ReplicationRecord, reader: &Reader) -> Standing {
        let same = |d: &Declined| d.epochs.source == record.epochs.source;
        self.standing_of(&reader.agent, reader.incarnation, (record.id, Side::Source), same)
    }

    /// It is well and should not read any more, and somebody else could.
    fn why_reader_goes(&self, record: &ReplicationRecord, reader: &Reader, holder: &Holder) -> Option<Evidence> {
        let drained = self.state.agents.get(&reader.agent).is_some_and(|a| a.drained);
        let outside = !record.source.hierarchy.contains(&reader.agent);
        let stops = self.sessions.get(&reader.agent).is_some_and(|s| s.leaving);
        let by = if stops { "the agent's stop" } else { "maintenance" };
        let mute = self.sessions.get(&reader.agent).is_some_and(|s| self.why_not_quiescing(record, s).is_some());
        let by = if mute { "the host application that it cannot quiesce" } else { by };
        let evidence = if drained || outside || stops || mute {
            Evidence::Handover { by: by.to_owned() }
        } else if self.is_reader_cut_off(record) {
            Evidence::ReportedUnfit { reason: format!("it does not reach {}, which writes the target", holder.agent) }
        } else {
            return None;
        };
        self.pick(&self.candidates_of(record, Side::Source)).map(|_| evidence)
    }

    /// Whether the reader's pings of the holder have failed for so long that its stream is not merely slow. The candidates in its
    /// place are those that reach the holder.
    #[must_use]
    pub fn is_reader_cut_off(&self, record: &ReplicationRecord) -> bool {
        let since = self.supervisions.get(&record.id).and_then(|supervision| supervision.reader_cut_off);
        since.is_some_and(|since| self.now.monotonic.since(since) >= self.timers.reader_cut_off)
    }

    fn note_cut_off(&mut self, record: &ReplicationRecord, reader: &Reader, holder: &Holder) {
        let now = self.now.monotonic;
        let ping = self.sessions.get(&reader.agent).and_then(|session| session.peers.get(&holder.agent));
        let fails = ping.is_some_and(|seen| !matches!(seen.value.verdict, PeerVerdict::Reached { .. }));
        let supervision = self.supervision_mut(record.id);
        supervision.reader_cut_off = if fails { supervision.reader_cut_off.or(Some(now)) } else { None };
    }

    /// Commits a new source epoch for the first eligible agent; for the holder itself it is the direct form again.
    fn replace_reader(&mut self, record: &ReplicationRecord, holder: &Holder, evidence: &Evidence, since: Timestamp) {
        let candidates = self.candidates_of(record, Side::Source);
        let Some(agent) = self.pick(&candidates) else { return self.note_source_exhausted(record, &candidates) };
        let Some(source) = record.epochs.source.next() else {
            return self.quarantine(record, "the epoch counter is used up; create the replication anew".to_owned());
        };
        let Some(incarnation) = self.sessions.get(&agent).map(|s| s.incarnation) else { return };
        let from = record.reader.as_ref().map(|r| r.agent.clone());
        let mut next = record.clone();
        next.epochs = Epochs { source, ..record.epochs };
        next.reader =
            (agent != holder.agent).then(|| Reader { agent: agent.clone(), incarnation, granted_at: self.now.wall });
        let message = match &from {
            None => format!("agent {agent} reads the source for {} under epoch {}", holder.agent, next.epochs),
            Some(from) => format!(
                "agent {agent} reads the source in place of {from} under epoch {} after {} ms: {}",
                next.epochs,
                self.now.wall.since(since).as_millis(),
                evidence.in_words()
            ),
        };
        let mut changes = vec![self.event_of(record, Some(&agent), EventCode::ReaderGranted, message)];
        changes.extend(from.and_then(|from| self.penalty(&from, evidence)));
        changes.extend(self.attempt_anew(record));
        changes.push(Change::PutReplication(Box::new(next)));
        self.commit_current(record, changes, Vec::new());
        self.forget_reader_orders(record.id);
    }

    /// An attempt at a snapshot belongs to whoever makes it.
    fn attempt_anew(&mut self, record: &ReplicationRecord) -> Option<Change> {
        let mut run = self.state.current_run(record).filter(|r| r.state == RunState::SnapshotPending)?.clone();
        self.renew_attempt(&mut run);
        Some(Change::PutRun(Box::new(run)))
    }

    /// What was said to and of the reader before is over; the next orders go out at once.
    fn forget_reader_orders(&mut self, id: ReplicationId) {
        let supervision = self.supervision_mut(id);
        supervision.suspicions.remove(&Side::Source);
        (supervision.order_sent, supervision.read_order_sent, supervision.run_retry_at) = (None, None, None);
        (supervision.source_exhausted, supervision.reader_cut_off) = (false, None);
        self.touched.insert(id);
    }

    fn note_source_exhausted(&mut self, record: &ReplicationRecord, candidates: &[Candidate]) {
        if std::mem::replace(&mut self.supervision_mut(record.id).source_exhausted, true) {
            return;
        }
        let message = format!("no agent can read the source; {}", passed_over_in_words(candidates));
        let event = self.event_of(record, None, EventCode::SourceExhausted, message);
        self.commit_current(record, vec![event], Vec::new());
    }

    /// Whether this agent's present process reads under this source epoch.
    pub(super) fn is_reader(&self, agent: &AgentName, id: ReplicationId, epochs: Epochs) -> bool {
        let Some(record) = self.state.replications.get(&id) else { return false };
        let incarnation = self.sessions.get(agent).map(|s| s.incarnation);
        let reads = |r: &Reader| r.agent == *agent && Some(r.incarnation) == incarnation;
        record.epochs.source == epochs.source && record.reader.as_ref().is_some_and(reads)
    }

    /// The record and run that a reader's word is about, if the run is the current one.
    pub(super) fn work_read(&mut self, id: ReplicationId, run: RunId) -> Option<(ReplicationRecord, RunRecord)> {
        self.touched.insert(id);
        let record = self.state.replications.get(&id).filter(|r| r.run == Some(run))?.clone();
        let run = self.state.runs.get(&(id, run)).filter(|r| !r.state.is_finished())?.clone();
        Some((record, run))
    }

    /// Brings holder and reader together over the run: first the holder stands still and keeps the recovery point, then the snapshot
    /// is made, then the holder opens its gate, and at last the reader is told to send.
    pub(super) fn drive_networked_run(&mut self, record: &ReplicationRecord, holder: &Holder, run: &RunRecord) {
        match &run.snapshot {
            None => self.drive_preparation(record, holder, run),
            Some(_) => self.drive_stream(record, holder, run),
        }
    }

    fn drive_preparation(&mut self, record: &ReplicationRecord, holder: &Holder, run: &RunRecord) {
        if self.stands_ready(record, run.id).is_none() {
            let keep = self.point_to_keep(record);
            self.open_run(record, holder, RunOrder::Keep { run: run.id, keep });
        } else if self.reading(record).is_none_or(|r| r.run != Some(run.id)) {
            let (attempt, mode) = (wanted_snapshot(record, run), record.policy.source_mode);
            let (run, application) = (run.id, record.policy.application.clone());
            self.order_reader(record, ReadOrder::Prepare { run, attempt, mode, application });
        }
    }

    fn drive_stream(&mut self, record: &ReplicationRecord, holder: &Holder, run: &RunRecord) {
        let work = self.work_of_holder(record, holder).filter(|role| role.run == Some(run.id));
        let (at_work, stream) = (work.is_some(), work.and_then(|role| role.stream));
        match stream {
            // It has begun to read for itself, before there was a reader.
            None if at_work => self.close_run(record, holder, run.id, RunEnd::Halted),
            None => {
                let mut order = self.order_of(record, run);
                if let (RunOrder::Copy { source, .. }, Some(reader)) = (&mut order, &record.reader) {
                    *source = remote(record, reader);
                }
                self.open_run(record, holder, order);
            }
            Some(stream) if stream.epochs != record.epochs => self.close_run(record, holder, run.id, RunEnd::Halted),
            Some(stream) if self.reading(record).is_some_and(|r| r.stream == Some(stream)) => {}
            Some(stream) => {
                let (Some(snapshot), Some(holder)) = (run.snapshot.clone(), self.peer_address(&holder.agent)) else {
                    return;
                };
                let method = run.method.unwrap_or_default();
                self.order_reader(
                    record,
                    ReadOrder::Send { run: run.id, snapshot, method, holder, stream, grant: String::new() },
                );
            }
        }
    }

    /// What the reader says that it does under the source epoch in force.
    fn reading(&self, record: &ReplicationRecord) -> Option<&RoleReport> {
        let reader = record.reader.as_ref()?;
        let session = self.sessions.get(&reader.agent).filter(|s| s.incarnation == reader.incarnation)?;
        session.readings.get(&record.id).filter(|r| r.epochs.source == record.epochs.source)
    }

    fn order_reader(&mut self, record: &ReplicationRecord, order: ReadOrder) {
        let (now, resend) = (self.now.monotonic, self.timers.resend);
        let supervision = self.supervision_mut(record.id);
        if supervision.read_order_sent.is_some_and(|sent| now.since(sent) < resend) {
            return;
        }
        supervision.read_order_sent = Some(now);
        if let (ReadOrder::Prepare { run, attempt, application: Some(application), .. }, Some(reader)) =
            (&order, &record.reader)
        {
            self.note_quiescence(record, &reader.agent, (*run, *attempt), application);
        }
        self.tell_reader(record, order);
    }

    fn tell_reader(&mut self, record: &ReplicationRecord, order: ReadOrder) {
        let Some(reader) = record.reader.clone() else { return };
        let term = self.state.term;
        let supervision = self.supervision_mut(record.id);
        supervision.order_number += 1;
        let number = OrderNumber { term, number: supervision.order_number };
        let stamp = Stamp { term, replication: record.id, epochs: record.epochs, incarnation: reader.incarnation };
        let assignment = Box::new(ReadAssignment {
            name: record.name.clone(),
            source: record.source.volume.clone(),
            source_identity: record.source.identity.clone(),
            size_bytes: record.size_bytes,
            bandwidth_bytes_per_second: record.policy.bandwidth_bytes_per_second,
            streams: record.policy.streams,
        });
        self.send(&reader.agent, ServerMessage::Read { stamp, number, assignment, order: Box::new(order) });
    }

    /// The run is over or waits: the reader stops, and removes what nobody needs.
    pub(super) fn rest_reader(
        &mut self,
        record: &ReplicationRecord,
        release: Vec<SnapshotId>,
        published: Option<RunId>,
    ) {
        if self.reading(record).is_some_and(|r| r.run.is_some()) || !release.is_empty() {
            self.tell_reader(record, ReadOrder::Rest { release, published });
        }
    }

    /// The holder's word that it stands ready for a run, with the place of the recovery point that it has kept for it, if there is one.
    ///
    /// Without that word nothing is bound: a holder that has not heard of the end of an earlier run still writes the bytes of an
    /// earlier snapshot, and a successor would take them for those of the present one.
    pub(super) fn stands_ready(&self, record: &ReplicationRecord, run: RunId) -> Option<&Option<String>> {
        let (of, place) = self.supervisions.get(&record.id)?.kept.as_ref()?;
        (*of == run).then_some(place)
    }

    pub(super) fn read_failed(
        &mut self,
        agent: &AgentName,
        record: &ReplicationRecord,
        run: RunRecord,
        kind: RunFailureKind,
        reason: String,
    ) {
        if let Some(reading) = self.sessions.get_mut(agent).and_then(|s| s.readings.get_mut(&record.id)) {
            (reading.run, reading.stream) = (None, None);
        }
        self.supervision_mut(record.id).read_order_sent = None;
        match kind {
            // The holder sees the same end, and says so.
            RunFailureKind::Link => {}
            RunFailureKind::Io => self.note_read_declined(agent, record, reason),
            _ => self.run_failed(agent, record, run, kind, reason),
        }
    }

    pub(super) fn note_read_declined(&mut self, agent: &AgentName, record: &ReplicationRecord, reason: String) {
        let declined = Declined { epochs: record.epochs, reason, at: self.now.monotonic, while_acting: true };
        if let Some(session) = self.sessions.get_mut(agent) {
            session.declined.insert((record.id, Side::Source), declined);
        }
        self.touched.insert(record.id);
    }

    /// Before a replication is released, its reader has removed what was made at the source.
    pub(super) fn source_is_released(&mut self, record: &ReplicationRecord, holder: &Holder) -> bool {
        let release = self.release_of(record).source_snapshots;
        let known = self.supervisions.get(&record.id).is_some_and(|supervision| supervision.source_released);
        if record.reader.is_none() && (known || release.is_empty()) {
            return true;
        }
        match self.source_access(record, holder) {
            Some(SourceAccess::Local) => true,
            Some(SourceAccess::Remote { .. }) => {
                self.order_reader(record, ReadOrder::End { release });
                false
            }
            None => {
                let nobody = self.supervisions.get(&record.id).is_some_and(|supervision| supervision.source_exhausted);
                nobody && record.leave_behind
            }
        }
    }

    pub(super) fn note_read_ended(&mut self, agent: &AgentName, id: ReplicationId, epochs: Epochs) {
        if !self.is_reader(agent, id, epochs) {
            return;
        }
        let Some(record) = self.state.replications.get(&id).cloned() else { return };
        let next = ReplicationRecord { reader: None, ..record.clone() };
        self.supervision_mut(id).source_released = record.intent == Intent::Deleting;
        self.commit_current(&record, vec![Change::PutReplication(Box::new(next))], Vec::new());
        self.touched.insert(id);
    }

    /// Readings that nobody wants any more.
    pub(super) fn stale_readings(&self, agent: &AgentName, session: &super::Session) -> Vec<Stamp> {
        let stale = session.readings.values().filter(|r| !self.is_reader(agent, r.replication, r.epochs));
        let (term, incarnation) = (self.state.term, session.incarnation);
        stale.map(|r| Stamp { term, replication: r.replication, epochs: r.epochs, incarnation }).collect()
    }
}

fn remote(record: &ReplicationRecord, reader: &Reader) -> SourceAccess {
    SourceAccess::Remote { reader: reader.agent.clone(), epochs: record.epochs }
}
