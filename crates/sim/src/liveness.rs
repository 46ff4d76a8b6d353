//! After the faults: within bounded time every replication has published what was asked of it, and nothing waits any more. On the way
//! there, no state lasts longer than its own bound.

use std::collections::BTreeMap;

use tanist_model::id::{Epoch, ReplicationId};
use tanist_model::replication::{Intent, ReplicationRecord};
use tanist_protocol::server::{Phase, ServerMachine};

use crate::world::World;

/// From the end of the faults to the latest publication, in virtual time; reboots for proof included.
pub const BOUND_US: u64 = 90_000_000;

/// The world is whole again when what was stopped, asleep or down has come back.
const SETTLING_US: u64 = 3_000_000;

/// What must not last, and how long it may.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Passing {
    /// L2: an agent that was told to take over acts, or another one is told to.
    Granted,
    /// L5: a handover is done, or goes on as a takeover.
    HandingOver,
    /// L6: nobody acts, and somebody could.
    ExhaustedInVain,
}

impl Passing {
    const ALL: [Self; 3] = [Self::Granted, Self::HandingOver, Self::ExhaustedInVain];

    fn bound_us(self) -> u64 {
        match self {
            // Two seconds for the activation; one who cannot act is given up, and where nobody else can, it is tried again.
            Self::Granted => 6_000_000,
            // Five seconds to drain; then it is taken over.
            Self::HandingOver => 5_500_000,
            // A beat of an agent that has had nothing to do; or so long another than the one that handed over is waited for.
            Self::ExhaustedInVain => 5_500_000,
        }
    }

    fn property(self) -> &'static str {
        match self {
            Self::Granted => "L2",
            Self::HandingOver => "L5",
            Self::ExhaustedInVain => "L6",
        }
    }
}

/// L4: so often the role of a replication moves at most when nothing fails any more, until all is published. Every agent may have to
/// be found unable once, and each that is awaited may have to prove its last epochs on its own host.
const MOST_MOVES: usize = 8;

/// What is watched of each replication when the faults are over.
#[derive(Debug, Default)]
pub struct Watched {
    /// Since when it has been in what must not last, under an epoch of its target: whoever is given up in time is not waited for.
    lasting: BTreeMap<(ReplicationId, Epoch, Passing), u64>,
    /// The epoch of its target when that began.
    epochs: BTreeMap<ReplicationId, Epoch>,
}

impl World {
    /// After a step of the server, when the faults are over.
    pub fn watch_liveness(&mut self) {
        if self.now < self.scenario.faults_end_us + SETTLING_US {
            return;
        }
        let Some(server) = self.servers.last() else { return self.watched.lasting.clear() };
        let state = server.machine.state();
        let supervised = |r: &&ReplicationRecord| r.quarantine.is_none() && !state.restoring;
        for record in state.replications.values() {
            let first = *self.watched.epochs.entry(record.id).or_insert(record.epochs.target);
            let moves = state.takeovers.range((record.id, first.0.saturating_add(1))..=(record.id, u32::MAX)).count();
            if moves > MOST_MOVES {
                self.checker.fail(format!("L4 is violated: {} moved {moves} times and nothing failed", record.name));
            }
        }
        let records = state.replications.values().filter(supervised);
        let lasting: Vec<(ReplicationId, Epoch, Passing)> = records
            .flat_map(|record| Passing::ALL.map(|passing| (record, passing)))
            .filter(|(record, passing)| is_in(&server.machine, record, *passing))
            .map(|(record, passing)| (record.id, record.epochs.target, passing))
            .collect();
        self.watched.lasting.retain(|key, _| lasting.contains(key));
        for key in lasting {
            let since = *self.watched.lasting.entry(key).or_insert(self.now);
            let (replication, _, passing) = key;
            if self.now > since + passing.bound_us() {
                let (property, lasts) = (passing.property(), (self.now - since) / 1000);
                self.checker.fail(format!("{property} is violated: {replication} has been {passing:?} for {lasts} ms"));
            }
        }
    }

    /// True when there is nothing left to see: everything is published after the faults.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        if self.now < self.scenario.faults_end_us + 4_000_000 {
            return false;
        }
        let state = self.checker.state();
        !state.restoring
            && self.replications.iter().all(|name| state.replication_by_name(name).is_some_and(|r| self.has_settled(r)))
    }

    fn has_settled(&self, record: &ReplicationRecord) -> bool {
        let published_after = self.checker.last_publication(record.id) > self.scenario.faults_end_us;
        published_after && record.intent == Intent::Enabled && record.run.is_none() && record.awaited().next().is_none()
    }

    pub fn check_liveness(&mut self) {
        if self.is_settled() || self.checker.violation().is_some() {
            return;
        }
        let state = self.checker.state();
        let waiting: Vec<String> = self
            .replications
            .iter()
            .map(|name| match state.replication_by_name(name) {
                None => format!("{name} does not exist"),
                Some(r) => format!(
                    "{name}: {:?}, run {:?}, epochs {}, held by {:?}, waits for {:?}, last published at {} us",
                    r.intent,
                    r.run,
                    r.epochs,
                    r.holder.as_ref().map(|h| &h.agent),
                    r.awaited().map(|u| (u.epoch, &u.agent)).collect::<Vec<_>>(),
                    self.checker.last_publication(r.id)
                ),
            })
            .collect();
        self.checker.fail(format!(
            "L1 is violated: {} s after the faults, {}",
            BOUND_US / 1_000_000,
            waiting.join("; ")
        ));
    }
}

fn is_in(machine: &ServerMachine, record: &ReplicationRecord, passing: Passing) -> bool {
    let phase = machine.phase(record);
    match passing {
        Passing::Granted => phase == Phase::Granted,
        Passing::HandingOver => phase == Phase::HandingOver,
        Passing::ExhaustedInVain => {
            record.run.is_some()
                && phase == Phase::Exhausted
                && machine.candidates(record).iter().any(|c| c.passed_over.is_none())
        }
    }
}
