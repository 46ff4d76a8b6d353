//! Runs that are too slow or stand still although nobody has failed: the gray failure.
//!
//! Judged by what is committed and by what the peers read, never by the agent itself. Slow, while the next agent reads the same
//! volumes well: handover, at most one in ten minutes. Not moving at all: alarm, and the run is opened anew.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tanist_model::change::Change;
use tanist_model::event::EventCode;
use tanist_model::id::{AgentName, Epoch, RunId};
use tanist_model::replication::{Holder, ReplicationRecord, Side};
use tanist_model::run::{RunRecord, RunState};
use tanist_model::takeover::Evidence;
use tanist_model::time::Monotonic;

use super::ServerMachine;
use crate::message::RunEnd;

/// A canary read that took longer says that the volume, and not the agent, is slow.
const HEALTHY_READ_US: u64 = 250_000;

/// What the watchdog has done for a replication.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Watched {
    /// When a role was last handed over for slowness.
    handed_over: Option<Monotonic>,
    /// The reader has been replaced for slowness; if that did not help, it is the holder's turn.
    reader_replaced: bool,
    stalled: Option<Stall>,
}

/// A run stood still, and that has been said.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Stall {
    run: RunId,
    /// The committed offset.
    at: u64,
    /// The epoch under which it was opened anew.
    reopened: Epoch,
}

/// What came of a look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    Well,
    /// The run was stopped, or is taken from its holder: there is nothing else to do for it now.
    Acted,
}

impl ServerMachine {
    /// Looks at the run that the holder works on. `works`: nothing but the agents' speed decides how fast it goes.
    pub(super) fn watch_pace(
        &mut self,
        record: &ReplicationRecord,
        holder: &Holder,
        run: &RunRecord,
        works: bool,
    ) -> Verdict {
        let now = self.now.monotonic;
        let looked = self.work_of_holder(record, holder).and_then(|role| role.progress.as_ref());
        let looked = looked.map_or(0, |progress| progress.passed_bytes);
        let floor = self.slow_bytes_per_second(record);
        let supervision = self.supervision_mut(record.id);
        if !works {
            supervision.pace.rest();
            return Verdict::Well;
        }
        supervision.pace.note(now, run.id, run.checkpoint.seq, looked, floor);
        let (slow, still) = (supervision.pace.slow_for(now), supervision.pace.still_for(now));
        let moves = matches!(run.state, RunState::Bound | RunState::Copying);
        if moves && slow >= self.timers.gray && self.hand_over_for_slowness(record, holder, slow) == Verdict::Acted {
            return Verdict::Acted;
        }
        if still >= self.timers.stall {
            self.note_stall(record, holder, run, still);
            return Verdict::Acted;
        }
        if self.has_moved_again(record, run) {
            let message = format!("run {} moves again", run.id);
            let event = self.event_of(record, Some(&holder.agent), EventCode::RunResumed, message);
            self.commit_current(record, vec![event], Vec::new());
        }
        Verdict::Well
    }

    fn has_moved_again(&mut self, record: &ReplicationRecord, run: &RunRecord) -> bool {
        let stalled = &mut self.supervision_mut(record.id).watched.stalled;
        let moved = |stall: &mut Stall| stall.run != run.id || stall.at != run.checkpoint.seq;
        stalled.take_if(moved).is_some_and(|stall| stall.run == run.id)
    }

    /// A limit that the operator set is no slowness.
    fn slow_bytes_per_second(&self, record: &ReplicationRecord) -> u64 {
        let floor = self.limits.slow_bytes_per_second;
        record.policy.bandwidth_bytes_per_second.map_or(floor, |limit| floor.min(limit / 2))
    }

    fn hand_over_for_slowness(&mut self, record: &ReplicationRecord, holder: &Holder, slow: Duration) -> Verdict {
        let (now, pause) = (self.now.monotonic, self.timers.gray_pause);
        let last = self.supervisions.get(&record.id).and_then(|s| s.watched.handed_over);
        if last.is_some_and(|at| now.since(at) < pause) {
            return Verdict::Well;
        }
        if self.replace_slow_reader(record, slow) {
            return Verdict::Acted;
        }
        let Some(successor) = self.successor_of(record, holder).filter(|agent| self.reads_well(record, agent)) else {
            return Verdict::Well;
        };
        let supervision = self.supervision_mut(record.id);
        (supervision.watched.handed_over, supervision.watched.reader_replaced) = (Some(now), false);
        supervision.pace.rest();
        let reason = format!("too slow for {} s while {successor} reads both volumes well", slow.as_secs());
        let message = format!("acting agent {} is {reason}: handover", holder.agent);
        let event = self.event_of(record, Some(&holder.agent), EventCode::GrayFailure, message);
        let unfit = Evidence::ReportedUnfit { reason };
        let changes: Vec<Change> = std::iter::once(event).chain(self.penalty(&holder.agent, &unfit)).collect();
        self.commit_current(record, changes, Vec::new());
        self.begin_handover(record, holder, Some(successor), "the watchdog: it is too slow".to_owned());
        Verdict::Acted
    }

    /// In the networked form nobody outside can tell which of the two is slow: the reader, which is replaced more cheaply, goes first.
    fn replace_slow_reader(&mut self, record: &ReplicationRecord, slow: Duration) -> bool {
        let Some(reader) = record.reader.as_ref().map(|reader| reader.agent.clone()) else { return false };
        let replaced = self.supervisions.get(&record.id).is_some_and(|s| s.watched.reader_replaced);
        let others: Vec<_> =
            self.candidates_of(record, Side::Source).into_iter().filter(|c| c.agent != reader).collect();
        let Some(successor) = self.pick(&others).filter(|agent| !replaced && self.reads_well(record, agent)) else {
            return false;
        };
        let now = self.now.monotonic;
        let supervision = self.supervision_mut(record.id);
        (supervision.watched.handed_over, supervision.watched.reader_replaced) = (Some(now), true);
        supervision.pace.rest();
        let reason = format!("too slow for {} s while {successor} reads the source well", slow.as_secs());
        let message = format!("agent {reader}, which reads the source, is {reason}: another one reads");
        let event = self.event_of(record, Some(&reader), EventCode::GrayFailure, message);
        self.commit_current(record, vec![event], Vec::new());
        self.note_read_declined(&reader, record, reason);
        true
    }

    /// The agent's latest reads of the volumes that it would work with were quick.
    fn reads_well(&self, record: &ReplicationRecord, agent: &AgentName) -> bool {
        let Some(session) = self.sessions.get(agent) else { return false };
        let volumes = [Side::Source, Side::Target].into_iter().map(|side| record.side(side));
        let mut reads = volumes.filter(|s| s.hierarchy.contains(agent)).map(|s| session.canaries.get(&s.volume));
        reads.all(|seen| seen.is_some_and(|s| s.value.result.is_ok() && s.value.took_us <= HEALTHY_READ_US))
    }

    /// Said once; then the run is opened anew, which mends what hangs on one side of a connection. If it stands still again and
    /// another agent could act, that one does.
    fn note_stall(&mut self, record: &ReplicationRecord, holder: &Holder, run: &RunRecord, still: Duration) {
        let stall = Stall { run: run.id, at: run.checkpoint.seq, reopened: record.epochs.target };
        let supervision = self.supervision_mut(record.id);
        let before = supervision.watched.stalled.replace(stall);
        supervision.pace.rest();
        if before.is_none_or(|before| (before.run, before.at) != (stall.run, stall.at)) {
            let message = format!("run {} has not moved for {} s; it is opened anew", run.id, still.as_secs());
            let event = self.event_of(record, Some(&holder.agent), EventCode::RunStalled, message);
            self.commit_current(record, vec![event], Vec::new());
        } else if before == Some(stall) && self.successor_of(record, holder).is_some() {
            let reason = format!("the run has not moved for {} s, twice", still.as_secs());
            return self.note_declined(&holder.agent, record.id, record.epochs, reason, true);
        }
        self.supervision_mut(record.id).order_sent = None;
        self.close_run(record, holder, run.id, RunEnd::Halted);
    }
}
