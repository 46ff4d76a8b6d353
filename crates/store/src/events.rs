//! Which events are asked for, and how many are kept.

use tanist_model::event::{Event, NewEvent};
use tanist_model::id::{AgentName, EventSeq, ReplicationName};

/// Which end of the matching events is wanted, and how many at most.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EventWindow {
    /// The oldest ones: to read on from a known number.
    First(u32),
    /// The newest ones: to see how things stand.
    Latest(u32),
}

/// A question to the event log. Filters add up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EventQuery {
    /// Only events with a higher number.
    pub after: EventSeq,
    pub replication: Option<ReplicationName>,
    pub agent: Option<AgentName>,
    pub window: EventWindow,
}

impl EventQuery {
    /// The events that follow a number, at most `limit`.
    #[must_use]
    pub fn after(seq: EventSeq, limit: u32) -> Self {
        Self { after: seq, replication: None, agent: None, window: EventWindow::First(limit) }
    }

    /// The newest events, at most `limit`, oldest of them first.
    #[must_use]
    pub fn latest(limit: u32) -> Self {
        Self { after: EventSeq(0), replication: None, agent: None, window: EventWindow::Latest(limit) }
    }

    pub(crate) fn matches(&self, event: &Event) -> bool {
        event.seq > self.after
            && (self.replication.is_none() || self.replication == event.replication)
            && (self.agent.is_none() || self.agent == event.agent)
    }
}

/// How many events are kept. Pruning costs a walk over the log, so it is done once in a while.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EventRetention {
    /// Events that stay after a pruning.
    pub kept: u32,
    /// Events between two prunings; never zero.
    pub prune_every: std::num::NonZeroU32,
}

impl Default for EventRetention {
    fn default() -> Self {
        Self { kept: 1_000_000, prune_every: const { std::num::NonZeroU32::new(10_000).unwrap() } }
    }
}

impl EventRetention {
    /// True if a transaction that moved the last number from `before` to `after` has come past a point of pruning.
    pub(crate) fn is_due(self, before: u64, after: u64) -> bool {
        let every = u64::from(self.prune_every.get());
        before / every != after / every
    }
}

/// An event with its place in the log.
pub(crate) fn placed(seq: EventSeq, new: NewEvent) -> Event {
    Event {
        seq,
        at: new.at,
        code: new.code,
        severity: new.code.severity(),
        replication: new.replication.map(|(_, name)| name),
        agent: new.agent,
        actor: new.actor,
        message: new.message,
    }
}
