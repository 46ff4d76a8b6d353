//! Whether the cluster told the truth of what was done to it. Pure: the injector's log, the records of takeovers and the audit log go in, and
//! what does not fit comes out in words.
//!
//! What a fault must leave behind follows from its kind, from whom it struck, and from how long it lasted ([`Demand`]). Faults of one
//! *round* (from one moment in which all was well to the next) may explain each other's consequences; beyond its round no fault explains
//! anything.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tanist_model::event::{Event, EventCode};
use tanist_model::takeover::{Evidence, PeerVerdict, TakeoverRecord};
use tanist_model::time::Timestamp;

use super::outcome::Injected;
use super::schedule::{Failure, Fault, Faulty, From};
use crate::story;

/// A fault that lasts so long is seen: the silence that makes an agent suspected, and the answers of its peers, on a busy machine.
const IS_SEEN: Duration = Duration::from_secs(3);
/// The clocks are one clock, read at slightly different moments.
const CLOCK_SLACK: Duration = Duration::from_millis(5);
/// What a network may do to everybody without an agent being replaced.
const HARMLESS_DELAY_MS: u64 = 200;
const HARMLESS_LOSS_PER_MILLE: u16 = 10;

/// From one moment in which all was well to the next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Round {
    pub from: Timestamp,
    pub to: Timestamp,
}

/// What is told of what happened.
#[derive(Clone, Default, Debug)]
pub struct Records {
    /// By replication.
    pub takeovers: BTreeMap<String, Vec<TakeoverRecord>>,
    pub events: Vec<Event>,
}

/// What a fault must leave behind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Demand {
    /// One takeover of each replication that the agent acted for, and of no other.
    OneTakeover,
    /// The same, unless the log says that nobody else was eligible: then the agent is left alone.
    OneUnlessExhausted,
    /// No takeover from that agent.
    NoTakeover,
    /// It may be noticed or pass unnoticed: at most one takeover a replication.
    AtMostOne,
}

/// Which takeovers a fault must be followed by: if it was alone in its round, and if the server and its store worked all the time.
#[must_use]
pub fn demand(injected: &Injected, alone: bool, server: bool) -> Demand {
    let seen = injected.lasted() >= IS_SEEN;
    let acts = !injected.acts_for.is_empty();
    match injected.fault {
        Fault::Kill { .. } if acts => Demand::OneTakeover,
        Fault::Stop { .. } | Fault::Isolate { .. } if acts && seen && server => Demand::OneUnlessExhausted,
        Fault::Supplant { .. } if acts => Demand::OneTakeover,
        Fault::Cut { from: From::Server, .. } | Fault::Flap { .. } if alone => Demand::NoTakeover,
        Fault::Cut { from: From::Peers, .. } if alone && injected.reads_for.is_empty() => Demand::NoTakeover,
        Fault::Degrade { delay_ms, jitter_ms, loss_per_mille, .. }
            if delay_ms + jitter_ms <= HARMLESS_DELAY_MS && loss_per_mille <= HARMLESS_LOSS_PER_MILLE =>
        {
            Demand::NoTakeover
        }
        _ => Demand::AtMostOne,
    }
}

/// The events of which one, and one for each fault, must stand in the log.
#[must_use]
pub fn wanted_events(injected: &Injected, alone: bool, faulty: Option<Faulty>) -> &'static [EventCode] {
    let seen = injected.lasted() >= IS_SEEN;
    match injected.fault {
        // The process that comes after it introduces itself, whatever else was lost.
        Fault::Kill { .. } => &[EventCode::AgentConnected],
        Fault::KillServer => &[EventCode::ServerStarted],
        // What else is told depends on what else happened.
        _ if !alone => &[],
        Fault::Cut { from: From::Server, .. } if seen && injected.direct => &[EventCode::AgentRelayed],
        // What was sent when it was struck may be all that was needed.
        Fault::Stop { .. } | Fault::Isolate { .. } if seen && !injected.reads_for.is_empty() && injected.hinders => {
            &[EventCode::ReaderSuspected, EventCode::ReaderGranted, EventCode::SourceExhausted]
        }
        Fault::Disk { fails: Failure::Slow, .. } => &[],
        Fault::Disk { .. } if !seen || !injected.hinders => &[],
        Fault::Disk { fails: Failure::ReadErrors, .. } if faulty == Some(Faulty::Store) => &[],
        Fault::Disk { .. } if faulty == Some(Faulty::Store) => &[EventCode::StoreFailing],
        Fault::Disk { .. } => &[
            EventCode::RunRepaired,
            EventCode::AgentNotEligible,
            EventCode::TakeoverCommitted,
            EventCode::Exhausted,
            EventCode::SourceExhausted,
        ],
        _ => &[],
    }
}

/// What is wrong with the story, in words; nothing if it is true.
#[must_use]
pub fn untruths(log: &[Injected], rounds: &[Round], records: &Records, faulty: Option<Faulty>) -> Vec<String> {
    let story = Story { log, rounds, records, faulty };
    let parts = [story.of_takeovers(), story.of_faults(), story.of_events(), story.of_told_takeovers()];
    parts.concat()
}

struct Story<'a> {
    log: &'a [Injected],
    rounds: &'a [Round],
    records: &'a Records,
    faulty: Option<Faulty>,
}

impl Story<'_> {
    fn unplanned(&self) -> impl Iterator<Item = (&String, &TakeoverRecord)> {
        let all = self.records.takeovers.iter().flat_map(|(name, takeovers)| takeovers.iter().map(move |t| (name, t)));
        all.filter(|(_, takeover)| story::is_unplanned(takeover))
    }

    /// The only fault of its round.
    fn is_alone(&self, injected: &Injected) -> bool {
        self.log.iter().filter(|other| other.round == injected.round).count() == 1
    }

    /// In its round nothing was done to the server or its store.
    fn server_worked(&self, injected: &Injected) -> bool {
        let of_server = |fault| match fault {
            Fault::KillServer | Fault::StopServer => true,
            Fault::Disk { .. } => self.faulty == Some(Faulty::Store),
            _ => false,
        };
        !self.log.iter().any(|other| other.round == injected.round && of_server(other.fault))
    }

    /// The end of the round that a fault belongs to.
    fn end(&self, injected: &Injected) -> Timestamp {
        self.rounds.get(injected.round - 1).map_or(Timestamp(i64::MAX), |round| round.to)
    }

    fn is_within(&self, injected: &Injected, at: Timestamp) -> bool {
        at.plus(CLOCK_SLACK) >= injected.at && at <= self.end(injected)
    }

    fn before(&self, takeover: &TakeoverRecord) -> impl Iterator<Item = &Injected> {
        self.log.iter().filter(|injected| self.is_within(injected, takeover.suspected_at))
    }

    /// The last fault of the agent that was replaced.
    fn cause(&self, takeover: &TakeoverRecord) -> Option<&Injected> {
        self.before(takeover).filter(|injected| is_of(injected, takeover)).max_by_key(|injected| injected.at)
    }

    /// No takeover lacks a fault, and none replaces an agent that a peer reached.
    fn of_takeovers(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for (name, takeover) in self.unplanned() {
            if !self.before(takeover).any(|injected| explains(injected, takeover, self.faulty)) {
                wrong.push(format!("{name}: no fault explains {}", in_short(takeover)));
            }
            if takeover.verdicts.iter().any(|verdict| matches!(verdict.verdict, PeerVerdict::Reached { .. }))
                && matches!(takeover.evidence, Evidence::BeatsMissed { .. })
                && self.before(takeover).all(|injected| !is_of(injected, takeover))
            {
                wrong.push(format!("{name}: a peer reached the agent that was replaced: {}", in_short(takeover)));
            }
        }
        wrong
    }

    /// Each fault has the takeovers that it must have.
    fn of_faults(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for injected in self.log {
            let demand = demand(injected, self.is_alone(injected), self.server_worked(injected));
            for name in self.records.takeovers.keys() {
                let caused = self.unplanned().filter(|(of, takeover)| {
                    *of == name && self.cause(takeover).is_some_and(|cause| std::ptr::eq(cause, injected))
                });
                let caused: Vec<String> = caused.map(|(_, takeover)| in_short(takeover)).collect();
                let is_right = match demand {
                    Demand::OneTakeover if injected.acts_for.contains(name) => caused.len() == 1,
                    Demand::OneUnlessExhausted if injected.acts_for.contains(name) => {
                        caused.len() == 1 || caused.is_empty() && self.is_exhausted(injected, name)
                    }
                    Demand::NoTakeover => caused.is_empty(),
                    Demand::OneTakeover | Demand::OneUnlessExhausted | Demand::AtMostOne => caused.len() <= 1,
                };
                if !is_right {
                    let (number, caused) = (caused.len(), caused.join("; "));
                    wrong.push(format!("{injected} has {number} takeovers of {name}, wanted is {demand:?}: {caused}"));
                }
            }
        }
        wrong
    }

    /// Whether it is told that nobody of the hierarchy could act, after this fault.
    fn is_exhausted(&self, injected: &Injected, name: &str) -> bool {
        self.records.events.iter().any(|event| {
            let is_of_it = event.replication.as_ref().is_some_and(|of| of.as_str() == name);
            event.code == EventCode::Exhausted && is_of_it && self.is_within(injected, event.at)
        })
    }

    /// Each fault that must be told of has an event of its own.
    fn of_events(&self) -> Vec<String> {
        let mut taken = BTreeSet::new();
        let mut wrong = Vec::new();
        for injected in self.log {
            let mut codes = wanted_events(injected, self.is_alone(injected), self.faulty);
            // What happens while the store cannot be written may be told of by nobody.
            if codes == [EventCode::AgentConnected] && !self.server_worked(injected) {
                codes = &[];
            }
            let own = |event: &&Event| {
                let about = event.agent.as_ref().is_none_or(|agent| Some(agent.as_str()) == injected.agent.as_deref());
                let about = about || !matches!(event.code, EventCode::AgentConnected | EventCode::AgentRelayed);
                codes.contains(&event.code) && about && self.is_within(injected, event.at)
            };
            let found = self.records.events.iter().filter(own).find(|event| !taken.contains(&event.seq));
            match found {
                Some(event) => drop(taken.insert(event.seq)),
                None if codes.is_empty() => {}
                None => {
                    let wanted: Vec<String> = codes.iter().map(|code| format!("{code} ({})", code.title())).collect();
                    wrong.push(format!("{injected} has no event of its own: wanted is {}", wanted.join(" or ")));
                }
            }
        }
        wrong
    }

    /// The audit log tells of each takeover that there is a record of, once, and of no other.
    fn of_told_takeovers(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for (name, takeovers) in &self.records.takeovers {
            let recorded = takeovers.iter().filter(|takeover| story::is_unplanned(takeover)).count();
            let is_told = |event: &&Event| {
                event.code == EventCode::TakeoverCommitted
                    && event.replication.as_ref().is_some_and(|of| of.as_str() == name.as_str())
            };
            let told = self.records.events.iter().filter(is_told).count();
            if told != recorded {
                wrong.push(format!("{name}: {recorded} takeovers are recorded, and {told} are told of"));
            }
        }
        wrong
    }
}

/// Whether this fault struck the agent that was replaced.
fn is_of(injected: &Injected, takeover: &TakeoverRecord) -> bool {
    let from = takeover.from.as_ref().map(|from| from.as_str());
    injected.agent.is_some() && injected.agent.as_deref() == from
}

/// Whether this fault can be why: it struck that agent, or what every agent needs, or somebody that this one needed.
fn explains(injected: &Injected, takeover: &TakeoverRecord, faulty: Option<Faulty>) -> bool {
    let consequence = matches!(
        takeover.evidence,
        Evidence::ActivationTimeout
            | Evidence::Declined { .. }
            | Evidence::HandoverOverdue
            | Evidence::ReportedUnfit { .. }
    );
    match injected.fault {
        _ if is_of(injected, takeover) => true,
        Fault::Disk { .. } if faulty == Some(Faulty::Storage) => consequence,
        _ => matches!(
            takeover.evidence,
            Evidence::ActivationTimeout | Evidence::Declined { .. } | Evidence::HandoverOverdue
        ),
    }
}

fn in_short(takeover: &TakeoverRecord) -> String {
    let from = takeover.from.as_ref().map_or("nobody", |from| from.as_str());
    let (to, epoch, why) = (&takeover.to, takeover.epochs.target, takeover.evidence.in_words());
    format!("the takeover from {from} to {to} (epoch {epoch}, suspected {}): {why}", takeover.suspected_at)
}

#[cfg(test)]
mod tests;
