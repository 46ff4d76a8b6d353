//! The checker: it sees every commit, every word and every write, and asks the protocol's own predicates.

use std::collections::{BTreeMap, BTreeSet};

use tanist_model::change::{Change, GroupOutcome, Transaction};
use tanist_model::event::EventCode;
use tanist_model::id::{Epoch, Epochs, ReplicationId, ReplicationName, RunId, SnapshotId, Term};
use tanist_model::policy::SourceMode;
use tanist_model::recovery_point::{RecoveryPoint, RecoveryPointPlace};
use tanist_model::replication::{Intent, ReplicationRecord};
use tanist_model::run::{BoundSnapshot, Checkpoint, RunRecord, RunState};
use tanist_model::state::State;
use tanist_model::takeover::{Evidence, TakeoverRecord};
use tanist_protocol::agent::Effect as AgentEffect;
use tanist_protocol::driver::Output;
use tanist_protocol::invariants::{self as properties, Process, Verdict};
use tanist_protocol::message::ServerMessage;
use tanist_protocol::server::Answer;

use crate::disk::{Disks, Write};
use crate::process::{AgentProcess, EngineKey, Pid};
use crate::scenario::BLOCK_BYTES;
use crate::world::World;

/// What is known of one replication beside the store.
#[derive(Debug, Default)]
struct Ledger {
    volume: usize,
    holders: BTreeMap<Epoch, Process>,
    /// Who reads the source, by source epoch.
    readers: BTreeMap<Epoch, Process>,
    writers: BTreeMap<Epoch, Pid>,
    /// Epochs that left the unproven set.
    quiet: BTreeSet<Epoch>,
    bound: Option<BoundSnapshot>,
    /// The snapshot that a restored store believes bound; the world may be further on.
    restored: Option<BoundSnapshot>,
    /// What the bound snapshot holds; of a live one nobody knows.
    contents: Option<Vec<u64>>,
    /// What each snapshot held that was ever bound; a live one, what was published of it.
    bodies: BTreeMap<String, Vec<u64>>,
    /// What the target must hold: a recovery point whole, or the blocks below a checkpoint.
    promised: Vec<u64>,
    published: BTreeMap<RunId, Vec<u64>>,
    /// The source's snapshot of the last recovery point.
    pinned: Option<SnapshotId>,
    last_point: Option<Epochs>,
    last_publication: u64,
}

/// The checker.
#[derive(Debug)]
pub struct Checker {
    /// The store's state, change by change.
    state: State,
    term: Term,
    ledgers: BTreeMap<ReplicationId, Ledger>,
    gone: BTreeSet<ReplicationId>,
    violation: Option<String>,
    was_restored: bool,
}

impl Checker {
    #[must_use]
    pub fn new(state: State) -> Self {
        Self {
            term: state.term,
            state,
            ledgers: BTreeMap::new(),
            gone: BTreeSet::new(),
            violation: None,
            was_restored: false,
        }
    }

    #[must_use]
    pub fn violation(&self) -> Option<&str> {
        self.violation.as_deref()
    }

    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    #[must_use]
    pub fn term(&self) -> Term {
        self.term
    }

    #[must_use]
    pub fn last_publication(&self, id: ReplicationId) -> u64 {
        self.ledgers.get(&id).map_or(0, |l| l.last_publication)
    }

    pub fn fail(&mut self, what: String) {
        self.violation.get_or_insert(what);
    }

    fn check(&mut self, verdict: Verdict) {
        if let Err(violation) = verdict {
            self.fail(violation.to_string());
        }
    }

    pub fn term_begins(&mut self, term: Term) {
        self.check(properties::terms_grow(self.term, term));
        self.term = term;
        self.state.term = term;
    }

    /// The store went back; what the world saw since then stays true of the world.
    ///
    /// `granted`: what some agent remembers having been granted. Other epochs of the lost time were never acted under, and may
    /// be given again.
    pub fn restored(&mut self, state: State, granted: &BTreeSet<(ReplicationId, Epoch)>) {
        self.term = state.term;
        self.state = state;
        self.was_restored = true;
        self.gone.retain(|id| !self.state.replications.contains_key(id));
        for (id, ledger) in &mut self.ledgers {
            ledger.promised.clear();
            ledger.last_point = None;
            ledger.last_publication = 0;
            ledger.quiet.clear();
            ledger.readers.clear();
            ledger.holders.retain(|epoch, _| granted.contains(&(*id, *epoch)));
            ledger.published.clear();
            ledger.pinned = None;
            ledger.restored = self.state.replications.get(id).and_then(|r| self.state.current_run(r)?.snapshot.clone());
        }
    }

    pub fn term_obeyed(&mut self, term: Term, seen: Term, output: &Output<AgentEffect>) {
        let effects = output.decisions().iter().flat_map(|d| &d.after);
        let moved = effects.into_iter().any(|e| matches!(e, AgentEffect::Engine { .. }));
        self.check(properties::superseded_term_moves_nothing(term, seen, moved));
    }

    pub fn agent_hears(&mut self, process: &mut AgentProcess, message: &ServerMessage) {
        if let ServerMessage::Grant { stamp, .. } = message
            && stamp.incarnation == process.machine.identity().incarnation
        {
            process.granted.push((stamp.replication, stamp.epochs));
        }
    }

    pub fn stranger_stays(&mut self, before: bool, after: bool) {
        self.check(properties::stranger_stays(before, after));
    }

    pub fn engine_opens(&mut self, process: &AgentProcess, key: EngineKey) {
        let (granted, drained) = (process.granted.contains(&key), process.drained.contains(&key));
        self.check(properties::opened_under_grant(key.1, granted, drained));
    }

    pub fn answered_again(&mut self, first: &Answer, again: &Answer) {
        self.check(properties::repeated_answer_is_same(first, again));
    }

    pub fn write_is_submitted(&mut self, write: &Write) {
        self.check_writer(write, "a write is submitted");
    }

    fn check_writer(&mut self, write: &Write, doing: &str) {
        let epoch = write.epochs.target;
        let gone = self.gone.contains(&write.replication);
        let ledger = self.ledgers.entry(write.replication).or_default();
        let first = *ledger.writers.entry(epoch).or_insert(write.pid);
        let quiet = gone || ledger.quiet.contains(&epoch);
        let of_restored = ledger.restored.as_ref().filter(|s| s.uid == write.uid);
        let bound = of_restored.or(ledger.bound.as_ref()).map(|s| s.uid.clone());
        self.check(properties::one_process_per_epoch(epoch, &first, &write.pid));
        self.check(properties::quiet_epoch_is_quiet(epoch, quiet, doing));
        self.check(properties::write_is_of_bound_snapshot(&write.uid, bound.as_deref()));
    }

    pub fn write_lands(&mut self, write: &Write, disks: &Disks) {
        self.check_writer(write, "a write lands");
        self.note_live_write(write);
        self.check_promises(disks);
    }

    /// A live source gives other bytes each time it is read. While its run is in progress, whoever writes for that run may have read a block
    /// again, and what was on its way when it died may land: a block is one of those that were read, and which is not promised.
    fn note_live_write(&mut self, write: &Write) {
        let Some(ledger) = self.ledgers.get_mut(&write.replication) else { return };
        let of_live_run = ledger.bound.as_ref().is_some_and(|s| s.mode == SourceMode::Live && s.uid == write.uid);
        if of_live_run
            && self.state.replications.get(&write.replication).is_some_and(|r| r.run.is_some())
            && let Some(promised) = ledger.promised.get_mut(write.block)
        {
            *promised = write.content;
        }
    }

    /// What stands for any replication still stands, whoever wrote.
    pub fn check_promises(&mut self, disks: &Disks) {
        let ids: Vec<_> = self.ledgers.keys().copied().filter(|id| self.state.replications.contains_key(id)).collect();
        ids.into_iter().for_each(|id| self.check_promise(id, disks));
    }

    fn check_promise(&mut self, id: ReplicationId, disks: &Disks) {
        let Some(ledger) = self.ledgers.get(&id) else { return };
        let current = disks.targets[ledger.volume].current();
        self.check(properties::promised_blocks_stand(&current, &ledger.promised, "a checkpoint or recovery point"));
    }

    /// A pinned snapshot is not removed.
    pub fn snapshots_released(&mut self, id: ReplicationId, snapshots: &[SnapshotId]) {
        let pinned = self.ledgers.get(&id).and_then(|ledger| ledger.pinned);
        let stays = self.state.replications.get(&id).is_some_and(|r| r.intent != Intent::Deleting);
        let removed = stays && pinned.is_some_and(|pinned| snapshots.contains(&pinned));
        self.check(properties::pinned_snapshot_stays(removed));
        let bound = self.ledgers.get(&id).and_then(|l| l.bound.as_ref()).map(|s| s.id);
        // A run that is in progress by a restored store is given up; its snapshot may have been removed in the time that was lost.
        let goes_on = |r: &ReplicationRecord| r.run.is_some() && r.intent != Intent::Deleting && !self.state.restoring;
        let running = self.state.replications.get(&id).is_some_and(goes_on);
        if running && bound.is_some_and(|b| snapshots.contains(&b)) {
            let bound_run = self.state.replications.get(&id).and_then(|r| self.state.current_run(r));
            if bound_run.is_some_and(|r| r.snapshot.as_ref().map(|s| s.id) == bound) {
                self.fail("S4 is violated: the snapshot of the run in progress is removed".to_owned());
            }
        }
    }

    /// A recovery point is removed that the store has given up, or does not know any more.
    pub fn point_removed(&mut self, id: ReplicationId, run: RunId) {
        // A restored store is told what an order of the time since its backup has removed.
        let believed = self.state.recovery_points.get(&(id, run)).filter(|_| !self.was_restored);
        if believed.is_some_and(|point| !point.expired) {
            self.fail(format!(
                "S4 is violated: the recovery point of run {run} is removed, and the store still promises it"
            ));
        }
    }

    /// Whether a target holds something else than the recovery point of this snapshot.
    #[must_use]
    pub fn differs_from_point(&self, id: ReplicationId, uid: &str, target: &[u64]) -> bool {
        self.ledgers.get(&id).and_then(|ledger| ledger.bodies.get(uid)).is_some_and(|body| body != target)
    }

    /// The snapshot and checkpoint of a run, for the process that resumes where it must not.
    #[must_use]
    pub fn bound_run(
        &self,
        id: ReplicationId,
        run: RunId,
        names: &[ReplicationName],
    ) -> Option<(usize, BoundSnapshot, Checkpoint)> {
        let record = self.state.replications.get(&id)?;
        let run = self.state.runs.get(&(id, run))?;
        let volume = names.iter().position(|n| *n == record.name)?;
        Some((volume, run.snapshot.clone()?, run.checkpoint))
    }
}

impl World {
    /// A transaction is in the store: each change of an applied group is looked at before it is taken into the mirror.
    pub fn check_commit(&mut self, pid: Pid, transaction: &Transaction, outcomes: &[GroupOutcome]) {
        let stored = self.checker.state.term;
        self.checker.check(properties::superseded_term_commits_nothing(transaction.term, stored));
        for (group, outcome) in transaction.groups.iter().zip(outcomes) {
            if *outcome != GroupOutcome::Applied {
                continue;
            }
            let next = group.changes.iter().find_map(|c| match c {
                Change::PutReplication(r) => Some((**r).clone()),
                _ => None,
            });
            for change in &group.changes {
                self.coverage.note_change(change);
                self.check_change(pid, change, next.as_ref());
                self.checker.state.apply(change);
            }
        }
    }

    fn check_change(&mut self, pid: Pid, change: &Change, next: Option<&ReplicationRecord>) {
        match change {
            Change::PutReplication(record) => self.check_replication(record),
            Change::PutRun(run) => self.check_run(run, next),
            Change::PutRecoveryPoint(point) => self.check_point(point),
            Change::PutTakeover(takeover) => self.check_takeover(takeover),
            Change::DeleteReplication(id) => self.check_delete(*id),
            Change::AppendEvent(event) if event.code == EventCode::Exhausted => {
                let id = event.replication.as_ref().map(|r| r.0);
                self.check_exhausted(pid, id);
            }
            _ => {}
        }
    }

    fn check_exhausted(&mut self, pid: Pid, id: Option<ReplicationId>) {
        let Some(server) = self.servers.iter().find(|s| s.shell.pid == pid) else { return };
        let Some(record) = id.and_then(|id| self.checker.state.replications.get(&id)) else { return };
        let verdict = properties::exhausted_is_true(&server.machine.candidates(record));
        self.checker.check(verdict);
    }

    fn check_replication(&mut self, record: &ReplicationRecord) {
        let before = self.checker.state.replications.get(&record.id).cloned();
        let volume = self.replications.iter().position(|n| *n == record.name).unwrap_or(0);
        let ledger = self.checker.ledgers.entry(record.id).or_default();
        ledger.volume = volume;
        let mut verdicts = Vec::new();
        if let Some(holder) = &record.holder {
            let process = (holder.agent.clone(), holder.incarnation);
            let first = ledger.holders.entry(record.epochs.target).or_insert_with(|| process.clone()).clone();
            verdicts.push(properties::one_process_per_epoch(record.epochs.target, &first, &process));
        }
        if let Some(reader) = &record.reader {
            let process = (reader.agent.clone(), reader.incarnation);
            let first = ledger.readers.entry(record.epochs.source).or_insert_with(|| process.clone()).clone();
            verdicts.push(properties::one_process_per_epoch(record.epochs.source, &first, &process));
        }
        if let Some(before) = &before {
            verdicts.push(properties::epochs_grow(before.epochs, record.epochs));
            let kept: BTreeSet<Epoch> = record.unproven.iter().map(|u| u.epoch).collect();
            let proven = before.unproven.iter().map(|u| u.epoch).filter(|e| !kept.contains(e));
            let proven: Vec<Epoch> = proven.collect();
            for epoch in proven {
                verdicts.push(self.proof_verdict(record.id, epoch));
                if let Some(ledger) = self.checker.ledgers.get_mut(&record.id) {
                    ledger.quiet.insert(epoch);
                }
            }
        }
        verdicts.into_iter().for_each(|v| self.checker.check(v));
    }

    /// What the world knows of an epoch that the store now takes as quiet.
    fn proof_verdict(&self, id: ReplicationId, epoch: Epoch) -> Verdict {
        let of = |replication: ReplicationId, epochs: Epochs| replication == id && epochs.target == epoch;
        let in_flight = self.disks.writes.values().filter(|w| of(w.replication, w.epochs)).count();
        let engines = self.agents.iter().filter_map(|a| a.process.as_ref()).flat_map(|p| &p.engines);
        let can_write = engines.into_iter().any(|(key, engine)| of(key.0, key.1) && engine.job.is_some());
        properties::proof_is_true(epoch, in_flight, can_write)
    }

    fn check_takeover(&mut self, takeover: &TakeoverRecord) {
        let key = (takeover.replication, takeover.epochs.target.0);
        let before = self.checker.state.takeovers.get(&key).cloned();
        let known = before.as_ref().map_or(0, |b| b.proven.len());
        takeover.proven.iter().skip(known).for_each(|p| self.coverage.note_proof(p.proof));
        if takeover.first_durable_write_at.is_some()
            && before.as_ref().is_some_and(|b| b.first_durable_write_at.is_none())
            && !takeover.unproven.is_empty()
        {
            self.coverage.continued_without_proof += 1;
        }
        if before.is_none() {
            self.coverage.note_evidence(&takeover.evidence);
            let planned = matches!(takeover.evidence, Evidence::Handover { .. } | Evidence::HandoverOverdue);
            if self.scenario.cuts_only {
                self.checker.check(properties::reachable_is_not_replaced(&takeover.evidence));
            }
            self.checker.check(properties::chosen_is_first(&takeover.candidates, &takeover.to, planned));
        }
        self.check_consistent(takeover);
    }

    /// What is signed of a takeover has to stand the look of somebody who has the record alone.
    fn check_consistent(&mut self, takeover: &TakeoverRecord) {
        let size = self.checker.state.replications.get(&takeover.replication).map_or(u64::MAX, |r| r.size_bytes);
        for contradiction in takeover.contradictions(size) {
            self.checker.fail(format!("the record of epoch {} contradicts itself: {contradiction}", takeover.epochs));
        }
    }

    fn check_run(&mut self, run: &RunRecord, next: Option<&ReplicationRecord>) {
        let state = &self.checker.state;
        let Some(record) = next.or_else(|| state.replications.get(&run.replication)).cloned() else { return };
        let before = state.runs.get(&(run.replication, run.id)).cloned();
        if let Some(before) = before.as_ref().filter(|_| !self.checker.state.restoring) {
            self.checker.check(properties::checkpoint_advances(before, run, record.epochs));
        }
        let was_bound = before.as_ref().is_some_and(|b| b.snapshot.is_some());
        match run.snapshot.clone().filter(|_| !was_bound) {
            Some(snapshot) if run.verification.as_ref().is_some_and(|v| v.repair) => {
                self.check_verified_snapshot(&record, &snapshot);
            }
            // It only reads the target.
            Some(_) if run.verification.is_some() => {}
            Some(snapshot) => self.check_bind(&record, snapshot),
            None => {}
        }
        // A verification begins at the end of what it looks at: it promises nothing by that.
        let begins = before.is_none() && run.verification.is_some();
        let moved = !begins && before.as_ref().is_none_or(|b| b.checkpoint.seq < run.checkpoint.seq);
        if run.state == RunState::Published {
            self.check_publication(&record, run);
        } else if moved && run.checkpoint.seq > 0 {
            self.check_checkpoint(run);
        }
    }

    /// A verification is no step on: it looks at the snapshot that was bound last, and repairs from no other. That is why it is no fence
    /// point.
    fn check_verified_snapshot(&mut self, record: &ReplicationRecord, snapshot: &BoundSnapshot) {
        let bound = self.checker.ledgers.get(&record.id).and_then(|ledger| ledger.bound.clone());
        if bound.is_some_and(|bound| bound != *snapshot) {
            self.checker
                .fail(format!("S6 is violated: a verification looks at {}, which is not bound now", snapshot.uid));
        }
    }

    /// The target moves on to another snapshot: a fence point.
    fn check_bind(&mut self, record: &ReplicationRecord, snapshot: BoundSnapshot) {
        self.coverage.moved_on_over_fenced += u64::from(record.awaited().next().is_some());
        self.checker.check(properties::fence_point_is_clear(record.unfenced(), "a new snapshot is bound"));
        let Some(ledger) = self.checker.ledgers.get_mut(&record.id) else { return };
        let source = &self.disks.sources[ledger.volume];
        ledger.contents = match snapshot.mode {
            SourceMode::Snapshot | SourceMode::RecoveryPoint => {
                source.snapshots.get(&snapshot.id).map(|(_, contents)| contents.clone())
            }
            SourceMode::Sealed => Some(source.blocks.clone()),
            SourceMode::Live => None,
        };
        if let Some(contents) = &ledger.contents {
            ledger.bodies.insert(snapshot.uid.clone(), contents.clone());
        }
        (ledger.bound, ledger.restored) = (Some(snapshot), None);
        ledger.promised.clear();
    }

    fn check_checkpoint(&mut self, run: &RunRecord) {
        let Some(ledger) = self.checker.ledgers.get_mut(&run.replication) else { return };
        adopt_restored(ledger, run);
        let target = &self.disks.targets[ledger.volume];
        let below = properties::blocks_below(&run.checkpoint, BLOCK_BYTES);
        let durable = target.durable();
        let expected = ledger.contents.clone().unwrap_or_else(|| target.current());
        ledger.promised = expected.iter().take(below).copied().collect();
        self.checker.check(properties::checkpoint_is_durable(&durable, &expected, below));
    }

    fn check_publication(&mut self, record: &ReplicationRecord, run: &RunRecord) {
        let now = self.now;
        let Some(ledger) = self.checker.ledgers.get_mut(&record.id) else { return };
        if ledger.published.contains_key(&run.id) {
            return;
        }
        adopt_restored(ledger, run);
        if self.checker.was_restored && run.verification.is_some() {
            adopt_verified(ledger, run);
        }
        let target = &self.disks.targets[ledger.volume];
        let (current, durable) = (target.current(), target.durable());
        let expected = ledger.contents.clone().unwrap_or_else(|| current.clone());
        ledger.promised.clone_from(&expected);
        ledger.published.insert(run.id, expected.clone());
        if let Some(snapshot) = &run.snapshot {
            ledger.bodies.insert(snapshot.uid.clone(), expected.clone());
            ledger.pinned = Some(snapshot.id);
        }
        ledger.last_publication = now;
        if record.awaited().next().is_some() {
            self.coverage.published_without_proof += 1;
        }
        // Whoever is late with the same bytes changes nothing. Of a live source it has others.
        if run.snapshot.as_ref().is_some_and(|snapshot| !snapshot.mode.is_immutable()) {
            self.checker.check(properties::fence_point_is_clear(record.unfenced(), "a live source is published"));
        }
        self.checker.check(properties::published_equals_snapshot(&current, &expected));
        self.checker.check(properties::checkpoint_is_durable(&durable, &expected, expected.len()));
    }

    fn check_point(&mut self, point: &RecoveryPoint) {
        let known = self.checker.state.recovery_points.contains_key(&(point.replication, point.run));
        let current = self.checker.state.replications.get(&point.replication).map_or(point.epochs, |r| r.epochs);
        let Some(ledger) = self.checker.ledgers.get_mut(&point.replication) else { return };
        if !known {
            let last = ledger.last_point.replace(point.epochs);
            self.checker.check(properties::recovery_point_advances(last, point, current));
            return;
        }
        // One that is expired may be removed already: that is only still to be told.
        if let RecoveryPointPlace::Snapshot(uid) = &point.place
            && !point.expired
        {
            self.coverage.kept_points += 1;
            let id = uid.parse::<SnapshotId>().ok();
            let kept = id.and_then(|id| self.disks.targets[ledger.volume].snapshots.get(&id));
            let verdict = ledger.published.get(&point.run).map(|p| properties::kept_point_is_restorable(kept, p));
            verdict.into_iter().for_each(|v| self.checker.check(v));
        }
    }

    fn check_delete(&mut self, id: ReplicationId) {
        let unproven = self.checker.state.replications.get(&id).map(|r| r.unproven.clone()).unwrap_or_default();
        self.checker.check(properties::fence_point_is_clear(unproven.iter(), "the target is released"));
        // Keys that are left behind are somebody's business; here, they are cleared by hand.
        let volume = self.checker.ledgers.get(&id).map(|ledger| ledger.volume);
        if let Some(unit) = volume.and_then(|volume| self.disks.units.get_mut(volume)) {
            unit.clear();
        }
        self.checker.gone.insert(id);
    }

    /// What the server says must be in the store by now.
    pub fn check_server_says(&mut self, message: &ServerMessage) {
        let verdict = properties::said_is_committed(&self.checker.state, message);
        self.checker.check(verdict);
    }
}

/// A run of a restored store has gone on: its snapshot is the one in force again.
fn adopt_restored(ledger: &mut Ledger, run: &RunRecord) {
    if let Some(snapshot) = ledger.restored.take_if(|s| run.snapshot.as_ref() == Some(s)) {
        adopt(ledger, snapshot);
    }
}

fn adopt(ledger: &mut Ledger, snapshot: BoundSnapshot) {
    ledger.contents = ledger.bodies.get(&snapshot.uid).filter(|_| snapshot.mode.is_immutable()).cloned();
    ledger.bound = Some(snapshot);
}

/// A restored store looks at the target and finds what it last knew of: another snapshot that was bound since then reached no block.
fn adopt_verified(ledger: &mut Ledger, run: &RunRecord) {
    if let Some(snapshot) = run.snapshot.clone().filter(|s| ledger.bound.as_ref() != Some(s)) {
        adopt(ledger, snapshot);
    }
}
