//! Whether the cluster tells the truth of what was done to it: every injected fault has exactly one takeover, and no takeover lacks
//! a fault.

use std::time::Duration;

use tanist_model::event::{Event, EventCode};
use tanist_model::takeover::{Evidence, TakeoverRecord};
use tanist_model::time::Timestamp;

/// A fault is suspected within this time, however slow the machine.
const SUSPICION_LIMIT: Duration = Duration::from_secs(10);
/// The agent's clock and the test's are one clock, read at slightly different moments.
const CLOCK_SLACK: Duration = Duration::from_millis(5);

/// A fault that a test injected.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    pub agent: String,
    pub at: Timestamp,
}

impl Fault {
    #[must_use]
    pub fn new(agent: &str, at: Timestamp) -> Self {
        Self { agent: agent.to_owned(), at }
    }
}

/// Whether nobody wanted the change: a first activation, a handover and a drill are wanted.
#[must_use]
pub fn is_unplanned(takeover: &TakeoverRecord) -> bool {
    !matches!(
        takeover.evidence,
        Evidence::FirstActivation | Evidence::Handover { .. } | Evidence::Drill { .. } | Evidence::Removed
    )
}

/// What is wrong with the story, in words; nothing if it is true.
#[must_use]
pub fn untruths(faults: &[Fault], takeovers: &[TakeoverRecord], events: &[Event]) -> Vec<String> {
    let unplanned: Vec<&TakeoverRecord> = takeovers.iter().filter(|takeover| is_unplanned(takeover)).collect();
    let mut wrong = Vec::new();
    for fault in faults {
        let explained = unplanned.iter().filter(|takeover| cause(takeover, faults) == Some(fault)).count();
        if explained != 1 {
            wrong.push(format!("{fault:?} has {explained} takeovers"));
        }
    }
    let unexplained = unplanned.iter().filter(|takeover| cause(takeover, faults).is_none());
    wrong.extend(unexplained.map(|takeover| format!("no fault explains {takeover:?}")));
    // A successor that died before it acted completed nothing; that of a drill completes a takeover like any other.
    let is_drill = |takeover: &TakeoverRecord| matches!(takeover.evidence, Evidence::Drill { .. });
    let completes = |takeover: &&TakeoverRecord| is_unplanned(takeover) || is_drill(takeover);
    let complete = takeovers.iter().filter(completes).filter(|takeover| takeover.activated_at.is_some()).count();
    for (code, expected) in [(EventCode::TakeoverCommitted, unplanned.len()), (EventCode::TakeoverComplete, complete)] {
        let told = events.iter().filter(|event| event.code == code).count();
        if told != expected {
            wrong.push(format!("{expected} takeovers, and {told} times event {code}"));
        }
    }
    wrong
}

/// # Panics
/// If the story is not true.
#[track_caller]
pub fn assert_true(faults: &[Fault], takeovers: &[TakeoverRecord], events: &[Event]) {
    let wrong = untruths(faults, takeovers, events);
    assert!(wrong.is_empty(), "{}\nthe takeovers: {takeovers:#?}", wrong.join("\n"));
}

/// The last fault of the agent that was replaced, if it is recent enough to be the cause.
fn cause<'a>(takeover: &TakeoverRecord, faults: &'a [Fault]) -> Option<&'a Fault> {
    let suspected = takeover.suspected_at.plus(CLOCK_SLACK);
    let of_it = |fault: &&Fault| takeover.from.as_ref().is_some_and(|from| from.as_str() == fault.agent);
    let before = faults.iter().filter(of_it).filter(|fault| fault.at <= suspected);
    before.max_by_key(|fault| fault.at).filter(|fault| suspected.since(fault.at) <= SUSPICION_LIMIT)
}

/// From a fault to the successor's first durable write.
#[must_use]
pub fn time_to_first_write(fault: Timestamp, takeover: &TakeoverRecord) -> Option<Duration> {
    takeover.first_durable_write_at.map(|at| at.since(fault))
}
