//! What must hold at every step, asked of the protocol's own predicates, and what the world remembers in order to ask.

use std::collections::{BTreeMap, BTreeSet};

use tanist_model::change::{Change, GroupOutcome, Transaction};
use tanist_model::id::{Epoch, Epochs, RunId, Term};
use tanist_model::recovery_point::RecoveryPoint;
use tanist_model::replication::ReplicationRecord;
use tanist_model::run::{BoundSnapshot, RunRecord, RunState};
use tanist_model::state::State;
use tanist_model::takeover::{Evidence, TakeoverRecord};
use tanist_protocol::invariants::{self as properties, Verdict};
use tanist_protocol::message::ServerMessage;

use super::sights::{Sight, Sights};
use super::storage::{Version, Write, Writer};
use super::world::{BLOCK_BYTES, World};

/// What is known beside the store. All of it follows from what was committed and written, never from what a machine believes.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    holders: BTreeMap<Epoch, properties::Process>,
    /// The agent and the number of the process that wrote under an epoch.
    writers: BTreeMap<Epoch, (usize, u8)>,
    /// Epochs that left the unproven set.
    quiet: BTreeSet<Epoch>,
    bound: Option<BoundSnapshot>,
    /// What the target must hold: a recovery point whole, or the blocks below a checkpoint.
    promised: Vec<Version>,
    published: BTreeSet<RunId>,
    last_point: Option<Epochs>,
}

/// What one change of a commit is about, and what was so before.
#[derive(Debug)]
pub enum Fact {
    Replication { before: Option<Box<ReplicationRecord>>, record: Box<ReplicationRecord> },
    Run { before: Option<Box<RunRecord>>, run: Box<RunRecord>, record: Box<ReplicationRecord> },
    Point { point: Box<RecoveryPoint>, current: Epochs },
    Takeover { takeover: Box<TakeoverRecord>, known: bool },
}

/// Each change of an applied group is looked at over the state before it.
#[must_use]
pub fn facts_of(before: &State, transaction: &Transaction, outcomes: &[GroupOutcome]) -> Vec<Fact> {
    let (mut state, mut facts) = (before.clone(), Vec::new());
    for (group, _) in transaction.groups.iter().zip(outcomes).filter(|(_, outcome)| **outcome == GroupOutcome::Applied)
    {
        let next = group.changes.iter().find_map(|change| match change {
            Change::PutReplication(record) => Some(&**record),
            _ => None,
        });
        for change in &group.changes {
            facts.extend(fact_of(&state, next, change));
            state.apply(change);
        }
    }
    facts
}

fn fact_of(state: &State, next: Option<&ReplicationRecord>, change: &Change) -> Option<Fact> {
    match change {
        Change::PutReplication(record) => {
            let before = state.replications.get(&record.id).cloned().map(Box::new);
            Some(Fact::Replication { before, record: record.clone() })
        }
        Change::PutRun(run) => {
            let before = state.runs.get(&(run.replication, run.id)).cloned().map(Box::new);
            let record = next.or_else(|| state.replications.get(&run.replication)).cloned()?;
            Some(Fact::Run { before, run: run.clone(), record: Box::new(record) })
        }
        Change::PutRecoveryPoint(point) if !state.recovery_points.contains_key(&(point.replication, point.run)) => {
            let current = state.replications.get(&point.replication).map_or(point.epochs, |r| r.epochs);
            Some(Fact::Point { point: point.clone(), current })
        }
        Change::PutTakeover(takeover) => {
            let known = state.takeovers.contains_key(&(takeover.replication, takeover.epochs.target.0));
            Some(Fact::Takeover { takeover: takeover.clone(), known })
        }
        _ => None,
    }
}

/// The version that a snapshot's identity names.
fn version_of(snapshot: &BoundSnapshot) -> Version {
    snapshot.uid.trim_start_matches('v').parse().unwrap_or_default()
}

/// The identity of the snapshot of a version.
#[must_use]
pub fn uid_of(version: Version) -> String {
    format!("v{version}")
}

impl World {
    /// A write leaves an engine.
    pub fn check_submitted(&mut self, write: Write) {
        self.check_writer(write, "a write is submitted");
    }

    /// A write has landed.
    pub fn check_landed(&mut self, write: Write, sights: &Sights) {
        self.check_writer(write, "a write lands");
        let alive = self.agents[write.by.boot.agent].process.as_ref().is_some_and(|p| p.number == write.by.process);
        let superseded = self.replication().is_some_and(|r| {
            r.epochs.target > write.by.epoch && r.holder.as_ref().is_some_and(|h| h.activated_at.is_some())
        });
        sights.note_if(Sight::LateWrite, !alive && superseded);
        self.check_promises();
    }

    fn check_writer(&mut self, write: Write, doing: &str) {
        let (epoch, now) = (write.by.epoch, (write.by.boot.agent, write.by.process));
        let first = self.ledger.writers.get(&epoch).copied();
        if first.is_none() {
            self.ledger.change(|ledger| ledger.writers.insert(epoch, now));
        }
        let quiet = self.ledger.quiet.contains(&epoch);
        let bound = self.ledger.bound.as_ref().map(|s| s.uid.clone());
        self.check(properties::one_process_per_epoch(epoch, &first.unwrap_or(now), &now));
        self.check(properties::quiet_epoch_is_quiet(epoch, quiet, doing));
        self.check(properties::write_is_of_bound_snapshot(&uid_of(write.version), bound.as_deref()));
    }

    /// What stands still stands, whoever wrote and whatever was lost.
    pub fn check_promises(&mut self) {
        let current = self.storage.current();
        let promised = self.ledger.promised.clone();
        self.check(properties::promised_blocks_stand(&current, &promised, "a checkpoint or recovery point"));
    }

    /// An engine begins.
    pub fn check_opening(&mut self, agent: usize, epochs: Epochs) {
        let Some(process) = self.agents[agent].process.as_ref() else { return };
        let (granted, drained) = (process.granted.contains(&epochs), process.drained.contains(&epochs));
        self.check(properties::opened_under_grant(epochs, granted, drained));
    }

    /// A transaction has been committed.
    pub fn check_commit(&mut self, term: Term, stored: Term, facts: &[Fact], sights: &Sights) {
        self.check(properties::superseded_term_commits_nothing(term, stored));
        for fact in facts {
            match fact {
                Fact::Replication { before, record } => self.check_replication(before.as_deref(), record, sights),
                Fact::Run { before, run, record } => self.check_run(before.as_deref(), run, record, sights),
                Fact::Point { point, current } => self.check_point(point, *current),
                Fact::Takeover { takeover, known } => self.check_takeover(takeover, *known, sights),
            }
        }
    }

    fn check_replication(&mut self, before: Option<&ReplicationRecord>, record: &ReplicationRecord, sights: &Sights) {
        if let Some(holder) = &record.holder {
            let (epoch, process) = (record.epochs.target, (holder.agent.clone(), holder.incarnation));
            let first = self.ledger.holders.get(&epoch).cloned();
            if first.is_none() {
                self.ledger.change(|ledger| ledger.holders.insert(epoch, process.clone()));
            }
            self.check(properties::one_process_per_epoch(epoch, first.as_ref().unwrap_or(&process), &process));
        }
        let Some(before) = before else { return };
        self.check(properties::epochs_grow(before.epochs, record.epochs));
        let kept: BTreeSet<Epoch> = record.unproven.iter().map(|u| u.epoch).collect();
        let proven: Vec<Epoch> = before.unproven.iter().map(|u| u.epoch).filter(|e| !kept.contains(e)).collect();
        for epoch in proven {
            sights.note(Sight::Proof);
            let verdict = self.proof_verdict(epoch);
            self.check(verdict);
            self.ledger.change(|ledger| ledger.quiet.insert(epoch));
        }
    }

    /// What the world knows of an epoch that the store now takes as quiet.
    fn proof_verdict(&self, epoch: Epoch) -> Verdict {
        let in_flight = self.storage.in_flight(|of: &Writer| of.epoch == epoch);
        let engines = self.agents.iter().filter_map(|agent| agent.process.as_ref()).flat_map(|p| &p.engines);
        let can_write = engines.into_iter().any(|(epochs, engine)| epochs.target == epoch && engine.job.is_some());
        properties::proof_is_true(epoch, in_flight, can_write)
    }

    fn check_takeover(&mut self, takeover: &TakeoverRecord, known: bool, sights: &Sights) {
        if !known {
            let planned = matches!(takeover.evidence, Evidence::Handover { .. } | Evidence::HandoverOverdue);
            self.check(properties::chosen_is_first(&takeover.candidates, &takeover.to, planned));
            sights.note_if(Sight::Takeover, takeover.from.is_some());
        }
    }

    fn check_run(&mut self, before: Option<&RunRecord>, run: &RunRecord, record: &ReplicationRecord, sights: &Sights) {
        if let Some(before) = before {
            self.check(properties::checkpoint_advances(before, run, record.epochs));
        }
        let was_bound = before.is_some_and(|b| b.snapshot.is_some());
        if let Some(snapshot) = run.snapshot.clone().filter(|_| !was_bound) {
            self.check_bind(record, snapshot, sights);
        }
        let moved = before.is_none_or(|b| b.checkpoint.seq < run.checkpoint.seq);
        if run.state == RunState::Published {
            self.check_publication(run, record, sights);
        } else if moved && run.checkpoint.seq > 0 {
            self.check_checkpoint(run);
        }
    }

    /// The target moves on to another snapshot: a fence point.
    fn check_bind(&mut self, record: &ReplicationRecord, snapshot: BoundSnapshot, sights: &Sights) {
        self.check(properties::fence_point_is_clear(record.unfenced(), "a new snapshot is bound"));
        sights.note_if(Sight::BoundAfterProof, self.ledger.bound.is_some() && !self.ledger.quiet.is_empty());
        self.ledger.change(|ledger| {
            ledger.bound = Some(snapshot);
            ledger.promised.clear();
        });
    }

    fn check_checkpoint(&mut self, run: &RunRecord) {
        let below = properties::blocks_below(&run.checkpoint, BLOCK_BYTES);
        let expected = self.expected();
        self.check(properties::checkpoint_is_durable(&self.storage.durable(), &expected, below));
        self.ledger.change(|ledger| ledger.promised = expected[..below.min(expected.len())].to_vec());
    }

    /// What the bound snapshot holds.
    fn expected(&self) -> Vec<Version> {
        let version = self.ledger.bound.as_ref().map_or(0, version_of);
        vec![version; self.storage.size()]
    }

    fn check_publication(&mut self, run: &RunRecord, record: &ReplicationRecord, sights: &Sights) {
        if self.ledger.published.contains(&run.id) {
            return;
        }
        let expected = self.expected();
        let unproven = record.awaited().next().is_some();
        sights.note(if unproven { Sight::PublishedWithoutProof } else { Sight::Published });
        self.check(properties::published_equals_snapshot(&self.storage.current(), &expected));
        self.check(properties::checkpoint_is_durable(&self.storage.durable(), &expected, expected.len()));
        self.ledger.change(|ledger| {
            ledger.promised = expected;
            ledger.published.insert(run.id);
        });
    }

    fn check_point(&mut self, point: &RecoveryPoint, current: Epochs) {
        let last = self.ledger.change(|ledger| ledger.last_point.replace(point.epochs));
        self.check(properties::recovery_point_advances(last, point, current));
    }

    /// What the server says must be in the store by now.
    pub fn check_said(&mut self, message: &ServerMessage) {
        let verdict = properties::said_is_committed(&self.store, message);
        self.check(verdict);
    }
}
