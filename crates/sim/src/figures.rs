//! Takeovers measured in virtual time: one fault of one kind in the middle of a run, in a world where nothing else fails. The moments are
//! those of the server's own record, the fault's is the world's.
//!
//! What is measured so is the protocol with its timers, over a network and disks that are made up. How fast a real host is, only real processes
//! can tell; the two are never put into one table.

use tanist_model::replication::ReplicationRecord;
use tanist_model::run::RunState;
use tanist_model::takeover::{Evidence, TakeoverRecord};
use tanist_model::time::Timestamp;
use tanist_protocol::server::Command;

use crate::Run;
use crate::disk::Boot;
use crate::links::{Place, between};
use crate::scenario::{Scenario, Transport};
use crate::world::World;

/// Blocks of a volume: enough for a fault to meet a run in its middle.
const BLOCKS: usize = 48;
const SECOND_US: u64 = 1_000_000;
/// Until a world copies, and until a successor has written: what takes longer is a finding.
const LIMIT_US: u64 = 120 * SECOND_US;
/// Never: the operator goes on asking for runs.
const NEVER_US: u64 = u64::MAX / 4;

/// What happens to the acting agent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Its process ends; its host says so.
    Crash,
    /// Its process is stopped; its host answers for it.
    Stop,
    /// Its host is gone.
    HostDeath,
    /// It reaches nobody, and nobody reaches it; nothing is refused.
    Partition,
    /// Its way to the storage is lost, and it says so.
    PathLost,
    /// It is asked to hand over.
    Handover,
}

impl Kind {
    pub const ALL: [Self; 6] =
        [Self::Crash, Self::Stop, Self::HostDeath, Self::Partition, Self::PathLost, Self::Handover];

    /// As in the files and the document.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Crash => "crash",
            Self::Stop => "stop",
            Self::HostDeath => "host-death",
            Self::Partition => "partition",
            Self::PathLost => "path-lost",
            Self::Handover => "handover",
        }
    }
}

/// One takeover, in microseconds since the fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sample {
    /// The first reason to suspect.
    pub detected_us: u64,
    /// The successor's fence stands, and it acts.
    pub fenced_us: u64,
    /// Its first durable write.
    pub wrote_us: u64,
    /// What the predecessor may have written past the checkpoint, at most.
    pub copied_again_bytes: u64,
}

/// What became of a fault.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    Measured(Sample),
    /// The run had nothing left to write when the successor was ready: no figure of the same kind.
    NothingToWrite,
    /// No takeover in time, or a violated property.
    Failed(String),
}

/// One fault of this kind at a moment that follows from the seed.
#[must_use]
pub fn measure(kind: Kind, seed: u64) -> Outcome {
    let mut world = World::new(&Run::of(seed), quiet);
    let Some(before) = world.in_the_middle_of_a_run() else {
        return Outcome::Failed("no run was in progress".to_owned());
    };
    let at = world.clock(Place::Server).wall;
    world.strike_acting(kind, &before);
    let limit = world.now + LIMIT_US;
    let ended = world.until(limit, |world| {
        world.checker.violation().is_some() || world.answer_to(&before).is_some_and(|last| world.is_over(&last))
    });
    match (world.checker.violation(), world.answer_to(&before)) {
        (Some(violation), _) => Outcome::Failed(violation.to_owned()),
        (None, Some(last)) if ended => world.outcome(at, &before, &last),
        _ => Outcome::Failed(format!("no successor has written {} s after the fault", LIMIT_US / SECOND_US)),
    }
}

/// One packet of a hundred.
pub const LOST_PER_MILLE: u64 = 10;

/// Changes of the acting agent in so many seconds in which nothing fails and the network is rough: each message takes up to 200 ms, and so many
/// packets of a thousand are lost.
///
/// # Errors
/// A property was violated.
pub fn false_takeovers(seed: u64, seconds: u64, lost_per_mille: u64) -> Result<u64, String> {
    let rough_network = Some(lost_per_mille);
    let shape = |scenario| Scenario { rough_network, operator_pause_us: 60 * SECOND_US, ..quiet(scenario) };
    let mut world = World::new(&Run::of(seed), shape);
    let end = world.now + seconds * SECOND_US;
    world.until(end, |world| world.checker.violation().is_some());
    match world.checker.violation() {
        Some(violation) => Err(violation.to_owned()),
        None => Ok(world.coverage.takeovers + world.coverage.handovers + world.coverage.handovers_overdue),
    }
}

/// Three agents on hosts of their own that reach both storages, and nothing fails.
fn quiet(scenario: Scenario) -> Scenario {
    Scenario {
        agents: 3,
        hosts: vec![0, 1, 2],
        reach: vec![(true, true); 3],
        replications: 1,
        blocks: BLOCKS,
        source_mode: tanist_model::policy::SourceMode::Snapshot,
        kernel_lock: true,
        lock_beside: false,
        reserving: None,
        array: false,
        slow_writes: false,
        one_clock: true,
        stuck_closes_per_mille: 0,
        operator_pause_us: SECOND_US,
        transport: Transport::Ordered,
        faults_end_us: NEVER_US,
        ..scenario.calm()
    }
}

impl World {
    fn only_replication(&self) -> Option<&ReplicationRecord> {
        self.checker.state().replication_by_name(self.replications.first()?)
    }

    /// How far the run in progress is committed, in blocks of a hundred; `None` if none copies.
    fn copied_percent(&self) -> Option<u64> {
        let record = self.only_replication()?;
        let run = self.checker.state().current_run(record).filter(|run| run.state == RunState::Copying)?;
        record.holder.as_ref()?.activated_at?;
        (run.checkpoint.seq > 0).then(|| run.checkpoint.seq * 100 / record.size_bytes.max(1))
    }

    /// Until a run copies and some of it is committed, and a little longer.
    fn in_the_middle_of_a_run(&mut self) -> Option<ReplicationRecord> {
        let percent = self.rng.between(1, 60);
        let limit = self.now + LIMIT_US;
        self.until(limit, |world| world.copied_percent().is_some_and(|copied| copied >= percent)).then_some(())?;
        let moment = self.now + self.rng.below(20_000);
        self.until(moment, |_| false);
        self.copied_percent()?;
        self.only_replication().cloned()
    }

    fn strike_acting(&mut self, kind: Kind, record: &ReplicationRecord) {
        let acting = record.holder.as_ref().and_then(|holder| self.index_of(&holder.agent));
        let Some(agent) = acting else { return };
        self.note("fault", 0, || format!("{kind:?} of h{}", agent + 1));
        match kind {
            Kind::Crash => self.kill_agent(agent, false),
            Kind::Stop => {
                if let Some(process) = self.agents[agent].process.as_mut() {
                    process.shell.paused = true;
                }
            }
            Kind::HostDeath => {
                let host = self.agents[agent].host;
                self.hosts[host].up = false;
                self.kill_agent(agent, true);
                self.disks.end_boot(Boot { host, number: self.hosts[host].boot }, &mut self.rng);
            }
            Kind::Partition => {
                let cut = [self.around(agent), between(Place::Agent(agent), Place::Server)].concat();
                self.links.cut(&cut);
            }
            Kind::PathLost => self.agents[agent].path_lost = true,
            Kind::Handover => self.command(Command::Handover { name: record.name.clone(), to: None }),
        }
    }

    /// The last change of the acting agent since then.
    fn answer_to(&self, before: &ReplicationRecord) -> Option<TakeoverRecord> {
        let now = self.only_replication()?.epochs.target.0;
        (now > before.epochs.target.0).then(|| self.checker.state().takeovers.get(&(before.id, now)).cloned())?
    }

    fn is_over(&self, takeover: &TakeoverRecord) -> bool {
        let state = self.checker.state();
        let run = takeover.run.and_then(|run| state.runs.get(&(takeover.replication, run)));
        let record = self.only_replication();
        record.is_some_and(|record| tanist_model::takeover::Ending::of(takeover, record, run).is_some())
    }

    fn outcome(&self, at: Timestamp, before: &ReplicationRecord, last: &TakeoverRecord) -> Outcome {
        let since = |moment: Timestamp| u64::try_from(moment.since(at).as_micros()).unwrap_or(u64::MAX);
        let takeovers = &self.checker.state().takeovers;
        let first = takeovers.get(&(before.id, before.epochs.target.0 + 1)).unwrap_or(last);
        let (Some(fenced), Some(wrote)) = (last.activated_at, last.first_durable_write_at) else {
            return Outcome::NothingToWrite;
        };
        let planned = matches!(first.evidence, Evidence::Handover { .. });
        Outcome::Measured(Sample {
            detected_us: if planned { 0 } else { since(first.suspected_at) },
            fenced_us: since(fenced),
            wrote_us: since(wrote),
            copied_again_bytes: last.copied_again_bytes.unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_fault_is_answered_and_the_same_seed_gives_the_same_figure() {
        for kind in Kind::ALL {
            let outcomes: Vec<Outcome> = (1..=6).map(|seed| measure(kind, seed)).collect();
            let measured = outcomes.iter().filter_map(|outcome| match outcome {
                Outcome::Measured(sample) => Some(*sample),
                _ => None,
            });
            let measured: Vec<Sample> = measured.collect();
            assert!(!measured.is_empty(), "{kind:?}: {outcomes:?}");
            let in_order = |s: &Sample| s.detected_us <= s.fenced_us && s.fenced_us <= s.wrote_us && s.wrote_us > 0;
            assert!(measured.iter().all(in_order), "{kind:?}: {measured:?}");
            assert!(!outcomes.iter().any(|outcome| matches!(outcome, Outcome::Failed(_))), "{kind:?}: {outcomes:?}");
            assert_eq!(outcomes[0], measure(kind, 1));
        }
    }

    #[test]
    fn a_rough_network_is_no_reason_for_a_takeover() {
        assert_eq!(false_takeovers(1, 600, LOST_PER_MILLE), Ok(0));
    }

    /// A count that is always zero says nothing: it is not where no way is left.
    #[test]
    fn a_network_that_carries_next_to_nothing_is_one() {
        assert!(false_takeovers(1, 600, 700).is_ok_and(|takeovers| takeovers > 0));
    }
}
