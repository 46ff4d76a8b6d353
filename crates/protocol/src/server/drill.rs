//! A drill: a takeover that nobody needed, made on purpose and measured. What has not been tried since the last change of hosts, paths
//! and timers is a hope.
//!
//! It is the takeover of an agent that is falsely suspected, which the protocol has to survive at any moment anyway: the next epoch is
//! committed, the acting agent is told to step down, its successor fences, activates and goes on. No rule is lifted for it, so a drill can
//! cost time and cannot cost data. What it adds are reasons to refuse, since a drill can always be made later.

mod outcome;
mod timetable;

use tanist_model::api::{Refusal, RefusalCode};
use tanist_model::change::Condition;
use tanist_model::id::{CommandId, ReplicationName};
use tanist_model::policy::SourceMode;
use tanist_model::replication::{Holder, ReplicationRecord};
use tanist_model::run::RunState;
use tanist_model::takeover::Evidence;

use super::ServerMachine;
use super::command::Answer;
use super::request::why_not_enabled;
use super::supervise::Phase;

impl ServerMachine {
    pub(super) fn drill(&mut self, id: CommandId, actor: String, name: &ReplicationName, hand_back: bool) {
        let Some(record) = self.known_replication(id, name) else { return };
        if let Some(refusal) = self.why_no_drill(&record) {
            return self.refuse_command(id, refusal);
        }
        let from = record.holder.as_ref().map_or_else(String::new, |holder| holder.agent.to_string());
        self.take_over(&record, Evidence::Drill { by: actor, hand_back }, self.now.wall, Vec::new(), None);
        let epoch = self.state.replications.get(&record.id).map_or(record.epochs.target, |now| now.epochs.target);
        let back = if hand_back { "; the work goes back afterwards" } else { "" };
        let answer = Answer::done(id, format!("a drill of {name} is begun: {from} is treated as gone{back}"))
            .epoch(epoch)
            .next(format!("tanist replication why {name}"));
        self.finish(id, Condition::Term, Vec::new(), answer);
    }

    /// Why a drill of this replication would be unsafe, untimely, or prove nothing.
    fn why_no_drill(&self, record: &ReplicationRecord) -> Option<Refusal> {
        let name = &record.name;
        let no = |cause: String| {
            let refusal = Refusal::new(RefusalCode::Conflict, format!("{name} can have no drill now")).cause(cause);
            Some(refusal.hint(format!("tanist replication show {name}")))
        };
        if self.state.restoring {
            return no("the store was restored, and not every agent has shown its epochs since".to_owned());
        }
        if let Some(reason) = &record.quarantine {
            return no(format!("it is quarantined: {reason}"));
        }
        if let Some(refusal) = why_not_enabled(record) {
            return Some(refusal);
        }
        if record.awaited().next().is_some() {
            return no(format!("{} not proven quiet", self.awaited_in_words(record)));
        }
        let Some(holder) = record.holder.as_ref().filter(|_| self.phase(record) == Phase::Active) else {
            return no(format!("its acting agent is not settled: {}", self.phase(record).name()));
        };
        if let Some(cause) = self.why_untimely(record) {
            return no(cause);
        }
        self.why_no_handover(record, &holder.agent, None)
    }

    /// What is going on that a drill must not disturb, or that would spoil its figure.
    fn why_untimely(&self, record: &ReplicationRecord) -> Option<String> {
        if record.origin.is_some() {
            return Some("it is a restore".to_owned());
        }
        if !record.quiesced.is_empty() {
            return Some("a host application is quiesced for it".to_owned());
        }
        let others = || self.state.replications.values().filter(|other| other.id != record.id);
        if let Some(restore) = others().find(|o| o.origin.as_ref().is_some_and(|from| from.replication == record.id)) {
            return Some(format!("restore {} is in progress from it", restore.name));
        }
        if let Some(busy) = self.state.replications.values().find(|other| self.takes_over(other)) {
            return Some(format!("a takeover of {} is in progress", busy.name));
        }
        let run = self.state.current_run(record)?;
        match (run.state, run.snapshot.as_ref().map(|snapshot| snapshot.mode)) {
            (RunState::Copying, Some(SourceMode::Live)) => {
                Some("its run reads a live source, and such a run waits for proof after any takeover".to_owned())
            }
            (RunState::Copying, _) => None,
            _ => Some(format!("run {} is just beginning or ending", run.id)),
        }
    }

    /// The acting agent of a replication is being replaced, or a drill of it has no result yet.
    fn takes_over(&self, record: &ReplicationRecord) -> bool {
        let unsettled =
            !matches!(self.phase(record), Phase::Stable | Phase::Active | Phase::AwaitProof | Phase::Exhausted);
        unsettled || self.open_drill(record).is_some()
    }

    /// After a drill the work goes back to the agent that had it, if that was asked for, as soon as it can; true if that has begun.
    pub(super) fn goes_back_after_drill(&mut self, record: &ReplicationRecord, holder: &Holder) -> bool {
        let Some(takeover) = self.present_takeover(record) else { return false };
        let Evidence::Drill { hand_back: true, .. } = takeover.evidence else { return false };
        if self.open_drill(record).is_some() {
            return false;
        }
        let Some(back) = takeover.from.clone().filter(|from| *from != holder.agent) else { return false };
        let able = self.candidates(record).iter().any(|c| c.agent == back && c.passed_over.is_none());
        if able {
            self.begin_handover(record, holder, Some(back), "the end of a drill".to_owned());
        }
        able
    }
}
