//! The safety properties of the failover protocol as named predicates over plain observations.
//!
//! Whoever watches a system of these machines (the simulator after every step, a test over real processes from its logs) gathers
//! the observations and asks here, so that one property is never checked in two ways.

use std::fmt;

use tanist_model::id::{AgentName, Epoch, Epochs, Incarnation, Term};
use tanist_model::recovery_point::RecoveryPoint;
use tanist_model::replication::{ArrayCopies, UnprovenEpoch};
use tanist_model::run::{Checkpoint, RunRecord};
use tanist_model::state::State;
use tanist_model::takeover::{Candidate, Evidence};

use crate::message::{RunOrder, ServerMessage};

/// The properties, by their names in the protocol's description.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Property {
    /// No write of an epoch that is proven quiet, and none of a snapshot that the target has moved on from.
    S1,
    /// One process per epoch; epochs and terms only grow.
    S2,
    /// Checkpoints and recovery points are monotone and committed under the current epochs.
    S3,
    /// At publication the target equals the snapshot; nothing below a recovery point reverts.
    S4,
    /// What was acknowledged survives.
    S5,
    /// No advance or release over an unproven epoch.
    S6,
    /// An activation takes effect only with a fresh grant of its epoch.
    S7,
    /// No path is registered while something of its host is in flight.
    S8,
    /// The agent chosen is the first of (not damped, rank) among the eligible.
    S9,
    /// Duplicates and reordering change nothing.
    S10,
    /// A superseded term has no effect.
    S11,
    /// No reservation key of anybody else's is touched.
    S12,
    /// No takeover while the acting agent is healthy and reachable directly or by relay.
    L3,
}

impl Property {
    pub const ALL: &'static [Self] = &[
        Self::S1,
        Self::S2,
        Self::S3,
        Self::S4,
        Self::S5,
        Self::S6,
        Self::S7,
        Self::S8,
        Self::S9,
        Self::S10,
        Self::S11,
        Self::S12,
        Self::L3,
    ];
}

/// A property that does not hold, and what was seen.
#[derive(Clone, PartialEq, Eq, Hash, Debug, thiserror::Error)]
#[error("{property:?} is violated: {what}")]
pub struct Violation {
    pub property: Property,
    pub what: String,
}

/// What a predicate says.
pub type Verdict = Result<(), Violation>;

fn hold(property: Property, holds: bool, what: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(Violation { property, what: what() }) }
}

/// An epoch that is proven quiet, or that was never ordered to write, does not write.
///
/// # Errors
/// S1.
pub fn quiet_epoch_is_quiet(epoch: Epoch, is_proven: bool, doing: &str) -> Verdict {
    hold(Property::S1, !is_proven, || format!("epoch {epoch} is proven quiet, and yet {doing}"))
}

/// What is taken as proof of quiet is true: nothing of the epoch is in flight, and no process can still write under it.
///
/// # Errors
/// S1.
pub fn proof_is_true(epoch: Epoch, writes_in_flight: usize, can_write: bool) -> Verdict {
    hold(Property::S1, writes_in_flight == 0 && !can_write, || {
        format!(
            "epoch {epoch} counts as proven quiet with {writes_in_flight} writes in flight, {}",
            if can_write { "and a process that can write more" } else { "though its process is gone" }
        )
    })
}

/// Only the snapshot that is bound is written: nothing before it is bound, nothing after the target has moved on.
///
/// # Errors
/// S1.
pub fn write_is_of_bound_snapshot(written: &str, bound: Option<&str>) -> Verdict {
    hold(Property::S1, bound == Some(written), || {
        format!("snapshot {written} is written while {} is bound", bound.unwrap_or("none"))
    })
}

/// One process per epoch.
///
/// # Errors
/// S2.
pub fn one_process_per_epoch<P: PartialEq + fmt::Debug>(epoch: Epoch, first: &P, now: &P) -> Verdict {
    hold(Property::S2, first == now, || format!("epoch {epoch} belongs to {first:?} and to {now:?}"))
}

/// Epochs only grow.
///
/// # Errors
/// S2.
pub fn epochs_grow(before: Epochs, after: Epochs) -> Verdict {
    hold(Property::S2, !after.is_older_than(before), || format!("epochs went from {before} to {after}"))
}

/// Terms only grow.
///
/// # Errors
/// S2.
pub fn terms_grow(before: Term, after: Term) -> Verdict {
    hold(Property::S2, after > before, || format!("a server began term {after} after term {before}"))
}

/// A checkpoint of a run does not go back, and stands under the epochs that are current when it is committed.
///
/// # Errors
/// S3.
pub fn checkpoint_advances(before: &RunRecord, after: &RunRecord, current: Epochs) -> Verdict {
    hold(Property::S3, after.checkpoint.seq >= before.checkpoint.seq, || {
        format!(
            "the checkpoint of run {} went from {} back to {}",
            after.id, before.checkpoint.seq, after.checkpoint.seq
        )
    })?;
    let moved = after.checkpoint != before.checkpoint;
    hold(Property::S3, !moved || after.checkpoint_epochs == current, || {
        format!(
            "a checkpoint of run {} stands under epochs {}, current are {current}",
            after.id, after.checkpoint_epochs
        )
    })
}

/// A recovery point is published under the current epochs, and not under lower ones than the last.
///
/// # Errors
/// S3.
pub fn recovery_point_advances(last: Option<Epochs>, point: &RecoveryPoint, current: Epochs) -> Verdict {
    let grows = last.is_none_or(|last| !point.epochs.is_older_than(last));
    hold(Property::S3, point.epochs == current && grows, || {
        format!("run {} is published under epochs {}, current are {current}", point.run, point.epochs)
    })
}

/// At publication the target holds the snapshot, block by block.
///
/// # Errors
/// S4.
pub fn published_equals_snapshot<B: PartialEq>(target: &[B], snapshot: &[B]) -> Verdict {
    let differs = target.iter().zip(snapshot).position(|(t, s)| t != s);
    hold(Property::S4, differs.is_none() && target.len() >= snapshot.len(), || {
        format!("at publication block {} of the target differs from the snapshot", differs.unwrap_or(target.len()))
    })
}

/// What a recovery point or a committed checkpoint promises of the target stays so.
///
/// # Errors
/// S4.
pub fn promised_blocks_stand<B: PartialEq + fmt::Debug>(target: &[B], promised: &[B], by: &str) -> Verdict {
    let differs = target.iter().zip(promised).position(|(t, p)| t != p);
    hold(Property::S4, differs.is_none(), || {
        let block = differs.unwrap_or_default();
        format!("block {block} holds {:?}, {by} promises {:?}", target.get(block), promised.get(block))
    })
}

/// A kept recovery point is restorable: its target snapshot holds what was published.
///
/// # Errors
/// S4.
pub fn kept_point_is_restorable<B: PartialEq>(kept: Option<&Vec<B>>, published: &[B]) -> Verdict {
    hold(Property::S4, kept.is_some_and(|kept| kept == published), || {
        "the target snapshot of the last recovery point does not hold it".to_owned()
    })
}

/// Everything below a committed checkpoint is on stable storage.
///
/// # Errors
/// S5.
pub fn checkpoint_is_durable<B: PartialEq>(durable: &[B], snapshot: &[B], blocks: usize) -> Verdict {
    let differs = durable.iter().zip(snapshot).take(blocks).position(|(d, s)| d != s);
    hold(Property::S5, differs.is_none(), || {
        format!("block {} below the checkpoint is not durable", differs.unwrap_or_default())
    })
}

/// What the server says is in the store by then: a checkpoint, a bound snapshot, an epoch, and what an epoch may order.
///
/// # Errors
/// S5.
pub fn said_is_committed(stored: &State, message: &ServerMessage) -> Verdict {
    let committed =
        |is_committed, what| hold(Property::S5, is_committed, || format!("{what} was said and is not committed"));
    match message {
        ServerMessage::CheckpointAck { stamp, run, seq } => {
            let run = stored.runs.get(&(stamp.replication, *run));
            committed(run.is_none_or(|r| r.checkpoint.seq >= *seq), "a checkpoint")
        }
        ServerMessage::OpenRun { stamp, order, .. } => match &**order {
            RunOrder::Copy { copy, .. } => {
                let run = stored.runs.get(&(stamp.replication, copy.run));
                let bound = run.is_none_or(|r| r.snapshot.as_ref().is_some_and(|s| *s == copy.snapshot));
                committed(bound, "a bound snapshot")
            }
            _ => Ok(()),
        },
        ServerMessage::Activate { stamp, .. } => {
            let record = stored.replications.get(&stamp.replication);
            committed(record.is_none_or(|r| r.epochs >= stamp.epochs), "an epoch")
        }
        ServerMessage::Grant { stamp, assignment, .. } if assignment.array_copies => {
            let record = stored.replications.get(&stamp.replication);
            let own = record.and_then(|r| r.unproven.iter().find(|u| u.epoch == stamp.epochs.target));
            let known = own.is_none_or(|own| own.array_copies == ArrayCopies::Possible);
            committed(known, "that the storage may be ordered to copy")
        }
        _ => Ok(()),
    }
}

/// No advance and no release while an earlier epoch is not proven quiet.
///
/// # Errors
/// S6.
pub fn fence_point_is_clear<'a>(mut awaited: impl Iterator<Item = &'a UnprovenEpoch>, doing: &str) -> Verdict {
    let first = awaited.next();
    hold(Property::S6, first.is_none(), || {
        let of = first.map_or_else(String::new, |u| format!("{} of {}", u.epoch, u.agent));
        format!("{doing} although epoch {of} is not proven quiet")
    })
}

/// Volumes are opened only under epochs that were granted to this very process, and not after it has drained them.
///
/// # Errors
/// S7 without the grant, S1 after the drain.
pub fn opened_under_grant(epochs: Epochs, granted: bool, drained: bool) -> Verdict {
    hold(Property::S7, granted, || format!("volumes are opened under epochs {epochs} without a grant"))?;
    hold(Property::S1, !drained, || format!("volumes are opened under epochs {epochs} after they were drained"))
}

/// The chosen is the first of (not damped, rank) among the eligible. A planned change may prefer another eligible one.
///
/// # Errors
/// S9.
pub fn chosen_is_first(candidates: &[Candidate], chosen: &AgentName, planned: bool) -> Verdict {
    let eligible = candidates.iter().filter(|c| c.passed_over.is_none());
    let first = eligible.clone().min_by_key(|c| (c.damped, c.rank)).map(|c| &c.agent);
    let holds = first == Some(chosen) || planned && eligible.clone().any(|c| c.agent == *chosen);
    hold(Property::S9, holds, || format!("{chosen} is chosen, first is {first:?}"))
}

/// Nobody is chosen only when nobody is eligible.
///
/// # Errors
/// S9.
pub fn exhausted_is_true(candidates: &[Candidate]) -> Verdict {
    let eligible = candidates.iter().find(|c| c.passed_over.is_none());
    hold(Property::S9, eligible.is_none(), || {
        format!("exhausted although {} is eligible", eligible.map_or("nobody", |c| c.agent.as_str()))
    })
}

/// What was given up is not written any more.
///
/// # Errors
/// S6.
pub fn given_up_is_left_alone(epoch: Epoch, given_up: bool) -> Verdict {
    hold(Property::S6, !given_up, || format!("a write of epoch {epoch} lands on a volume that was given up"))
}

/// A path is registered only when nothing of an earlier process of its host is in flight.
///
/// # Errors
/// S8.
pub fn registers_after_drain(epoch: Epoch, in_flight: usize) -> Verdict {
    hold(Property::S8, in_flight == 0, || format!("epoch {epoch} registers with {in_flight} of its host in flight"))
}

/// Whoever else is registered stays so.
///
/// # Errors
/// S4: what a repair would read from is there until the next recovery point is.
///
/// # Errors
/// The property that is violated.
pub fn pinned_snapshot_stays(is_removed: bool) -> Verdict {
    hold(Property::S4, !is_removed, || "the source's snapshot of the last recovery point was removed".to_owned())
}

/// S12.
pub fn stranger_stays(was_registered: bool, is_registered: bool) -> Verdict {
    hold(Property::S12, is_registered || !was_registered, || "a key of somebody else's was taken away".to_owned())
}

/// A command repeated under its id gets the stored answer.
///
/// # Errors
/// S10.
pub fn repeated_answer_is_same<A: PartialEq + fmt::Debug>(first: &A, again: &A) -> Verdict {
    hold(Property::S10, first == again, || format!("a repeated command was answered {again:?}, before {first:?}"))
}

/// In a world in which every agent is healthy and reachable by some peer, nobody is suspected to the end.
///
/// # Errors
/// L3.
pub fn reachable_is_not_replaced(evidence: &Evidence) -> Verdict {
    let by_suspicion = matches!(evidence, Evidence::BeatsMissed { .. } | Evidence::ConnectionEnded { .. });
    hold(Property::L3, !by_suspicion, || {
        format!("a healthy agent that a peer reaches is replaced: {}", evidence.in_words())
    })
}

/// A command of a lower term than the agent has seen moves nothing.
///
/// # Errors
/// S11.
pub fn superseded_term_moves_nothing(term: Term, seen: Term, moved: bool) -> Verdict {
    hold(Property::S11, term >= seen || !moved, || format!("a command of term {term} was obeyed after term {seen}"))
}

/// A commit of a superseded term is refused.
///
/// # Errors
/// S11.
pub fn superseded_term_commits_nothing(term: Term, stored: Term) -> Verdict {
    hold(Property::S11, term == stored, || format!("term {term} committed while {stored} leads"))
}

/// A process, as the checker of S2 sees the holder of an epoch.
pub type Process = (AgentName, Incarnation);

/// How many whole blocks a checkpoint covers.
#[must_use]
pub fn blocks_below(checkpoint: &Checkpoint, block_bytes: u64) -> usize {
    usize::try_from(checkpoint.seq / block_bytes).unwrap_or(usize::MAX)
}
