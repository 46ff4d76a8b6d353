//! The result of a drill: measured, judged and kept as soon as it can be known, by whichever server leads then.

use std::time::Duration;

use tanist_model::change::Change;
use tanist_model::drill::{DrillLog, DrillResult, Milestone};
use tanist_model::event::EventCode;
use tanist_model::replication::{Intent, ReplicationRecord};
use tanist_model::takeover::{Ending, Evidence, TakeoverRecord};
use tanist_model::time::Timestamp;

use super::super::ServerMachine;

/// A successor that has done nothing for so long has failed the drill, whatever becomes of it: nobody waits for a result for ever.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(60);

impl ServerMachine {
    pub(super) fn present_takeover(&self, record: &ReplicationRecord) -> Option<&TakeoverRecord> {
        self.state.takeovers.get(&(record.id, record.epochs.target.0))
    }

    /// The drill that made the present epoch, as long as it has no result.
    pub(super) fn open_drill(&self, record: &ReplicationRecord) -> Option<&TakeoverRecord> {
        let takeover = self.present_takeover(record)?;
        let is_drill = matches!(takeover.evidence, Evidence::Drill { .. });
        (is_drill && record.drills.of(takeover.epochs.target).is_none()).then_some(takeover)
    }

    /// Keeps and tells the result of a drill; true if there is one now.
    pub(in super::super) fn settle_drill(&mut self, record: &ReplicationRecord) -> bool {
        let Some(takeover) = self.open_drill(record) else { return false };
        let result = match self.reached(record, takeover) {
            Some((until, at)) => figure(record, takeover, until, at),
            None if self.is_given_up(record) => {
                failed(takeover, format!("nothing was durable after {} s", GIVEN_UP_AFTER.as_secs()))
            }
            None => return false,
        };
        let event = self.drill_event(record, &result);
        let next = ReplicationRecord { drills: record.drills.with(result), ..record.clone() };
        self.commit_current(record, vec![event, Change::PutReplication(Box::new(next))], Vec::new());
        true
    }

    /// A drill whose successor is replaced before it had done what it was chosen for: told with the commit that replaces it.
    pub(in super::super) fn lost_drill(&self, record: &ReplicationRecord) -> Option<(Change, DrillLog)> {
        let takeover = self.open_drill(record)?;
        let result = match self.reached(record, takeover) {
            Some((until, at)) => figure(record, takeover, until, at),
            None => failed(takeover, format!("{} was to take over and was itself replaced", takeover.to)),
        };
        Some((self.drill_event(record, &result), record.drills.with(result)))
    }

    /// How far the successor has come, if no more is to be expected of it.
    fn reached(&self, record: &ReplicationRecord, takeover: &TakeoverRecord) -> Option<(Milestone, Timestamp)> {
        if let Some(at) = takeover.first_durable_write_at {
            return Some((Milestone::FirstDurableWrite, at));
        }
        let run = takeover.run.and_then(|run| self.state.runs.get(&(record.id, run)));
        let ended = Ending::of(takeover, record, run).is_some() || record.intent != Intent::Enabled;
        takeover.activated_at.filter(|_| ended).map(|at| (Milestone::Activation, at))
    }

    fn is_given_up(&self, record: &ReplicationRecord) -> bool {
        let since = self.supervisions.get(&record.id).and_then(|s| s.granted_at).unwrap_or(self.started);
        self.now.monotonic.since(since) >= GIVEN_UP_AFTER
    }

    fn drill_event(&self, record: &ReplicationRecord, result: &DrillResult) -> Change {
        let code = if result.is_good() { EventCode::DrillPassed } else { EventCode::DrillFailed };
        let fault = result.fault.as_deref();
        let message = match result.took_ms {
            Some(took) => {
                let (to, what) = (&result.to, result.until.in_words());
                let fault = fault.map(|fault| format!(", {fault}")).unwrap_or_default();
                format!("drill: {to} took {took} ms from the decision to its {what}{fault}")
            }
            None => format!("drill: {}", fault.unwrap_or("no result")),
        };
        self.event_of(record, Some(&result.to), code, message)
    }
}

fn figure(record: &ReplicationRecord, takeover: &TakeoverRecord, until: Milestone, at: Timestamp) -> DrillResult {
    let took = u64::try_from(at.since(takeover.suspected_at).as_millis()).unwrap_or(u64::MAX);
    let fault = record.drills.fault_of(until, took, record.policy.drill.limit_in_force_ms());
    DrillResult { until, took_ms: Some(took), fault, ..failed(takeover, String::new()) }
}

fn failed(takeover: &TakeoverRecord, fault: String) -> DrillResult {
    let by = match &takeover.evidence {
        Evidence::Drill { by, .. } => by.clone(),
        other => other.in_words(),
    };
    DrillResult {
        epoch: takeover.epochs.target,
        at: takeover.suspected_at,
        by,
        to: takeover.to.clone(),
        until: Milestone::FirstDurableWrite,
        took_ms: None,
        fault: Some(fault),
    }
}
