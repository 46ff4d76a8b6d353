//! The hand that does harm: it strikes, heals, and writes down what it did to whom and when.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tanist_model::api::AgentView;

use super::outcome::Injected;
use super::schedule::{Aim, Failure, Fault, Faulty, From, Lasts, Moment, Planned, Way};
use super::stage::Stage;
use crate::faulty_disk::DiskFault;
use crate::network::Quality;
use crate::process::Process;
use crate::{signal, twin, wait};

/// While the store fails, a dead server waits.
const STORE_RECHECK: Duration = Duration::from_millis(100);

/// Faults of one round, with their numbers.
pub type Round<'a> = &'a [(usize, Planned)];

/// The injector, with its log.
#[derive(Debug, Default)]
pub struct Injector {
    log: Vec<Injected>,
    round: usize,
    /// Agents that were struck in this round: each is struck once.
    struck: BTreeSet<String>,
    /// The agents as they were seen last: when a server is gone, nobody changes their roles.
    seen: Vec<AgentView>,
    server: Server,
    /// Processes that were started in the place of stopped ones, by agent.
    twins: Vec<(String, Process)>,
    /// The server's state lies on a disk that fails now.
    store_fails: bool,
}

/// How the server is, by the injector's own doing.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
enum Server {
    #[default]
    Runs,
    Stopped,
    Dead,
}

/// Something to be done at a time.
#[derive(Clone, Copy)]
enum Due {
    Strike(usize),
    /// The line of the log.
    Heal(usize),
}

impl Injector {
    #[must_use]
    pub fn log(&self) -> &[Injected] {
        &self.log
    }

    /// Strikes and heals until all is healed, but for what sleeps through the next run.
    pub fn play(&mut self, stage: &mut Stage, faults: Round) {
        self.round += 1;
        self.struck.clear();
        let mut agenda = agenda(faults);
        while let Some(at) = soonest(&agenda) {
            let (when, due) = agenda.swap_remove(at);
            wait::pass(when.saturating_duration_since(Instant::now()));
            match due {
                Due::Strike(at) => {
                    let (number, planned) = faults[at];
                    let healing = self.strike(stage, number, planned).zip(duration(planned.lasts));
                    agenda.extend(healing.map(|(line, lasts)| (Instant::now() + lasts, Due::Heal(line))));
                }
                // A server does not start without its store.
                Due::Heal(line) if self.store_fails && self.log[line].fault == Fault::KillServer => {
                    agenda.push((Instant::now() + STORE_RECHECK, due));
                }
                Due::Heal(line) => self.heal(stage, line),
            }
        }
    }

    /// Whoever sleeps through the next run wakes in a moment in which no server runs.
    pub fn wake_unheard(&mut self, stage: &mut Stage) {
        let asleep = (0..self.log.len()).filter(|line| self.log[*line].healed_at.is_none());
        for line in asleep.collect::<Vec<_>>() {
            let agent = self.log[line].agent.clone().unwrap_or_default();
            stage.cluster.kill_server();
            stage.cluster.wake_alone(&agent);
            self.log[line].healed_at = Some(signal::now());
        }
    }

    /// Two processes of one agent contend for its connection for ever: the one that was supplanted goes.
    pub fn end_supplanted(&self, stage: &mut Stage) {
        for (agent, _) in &self.twins {
            stage.cluster.kill(agent);
        }
    }

    /// The other one is killed like any agent, which is a fault of its own, and the agent is started as it was.
    pub fn end_twins(&mut self, stage: &mut Stage) {
        for (agent, twin) in std::mem::take(&mut self.twins) {
            self.seen = stage.cluster.agents();
            let number = self.log.last().map_or(0, |last| last.number);
            let mut line = self.line(stage, number, Fault::Kill { aim: Aim::Acting }, Some(&agent));
            line.at = twin.kill();
            stage.cluster.start_agent(&agent);
            line.healed_at = Some(signal::now());
            self.log.push(line);
        }
    }

    /// The line of the log; `None` if there was nobody left to strike.
    fn strike(&mut self, stage: &mut Stage, number: usize, planned: Planned) -> Option<usize> {
        if self.server == Server::Runs
            && !self.store_fails
            && let Some(seen) = stage.cluster.try_agents()
        {
            self.seen = seen;
        }
        let is_of_server = matches!(planned.fault, Fault::KillServer | Fault::StopServer);
        if is_of_server && self.server != Server::Runs {
            return None;
        }
        let struck = match planned.fault.aim() {
            Some(aim) => Some(self.choose(stage, aim)?),
            None => None,
        };
        let mut line = self.line(stage, number, planned.fault, struck.as_deref());
        self.struck.extend(struck);
        self.inflict(stage, planned, &mut line);
        self.log.push(line);
        self.settle_ways(stage, self.log.len() - 1);
        Some(self.log.len() - 1)
    }

    /// What is known before the fault strikes.
    fn line(&self, stage: &Stage, number: usize, fault: Fault, agent: Option<&str>) -> Injected {
        let view = self.seen.iter().find(|view| Some(view.name.as_str()) == agent);
        let names = |of: fn(&AgentView) -> &[tanist_model::id::ReplicationName]| {
            let all = view.map(of).unwrap_or_default().iter().map(ToString::to_string);
            all.filter(|name| stage.scenes.iter().any(|scene| scene.name == *name)).collect()
        };
        Injected {
            number,
            round: self.round,
            fault,
            agent: agent.map(ToOwned::to_owned),
            acts_for: names(|view| &view.acting_for),
            reads_for: names(|view| &view.reading_for),
            direct: view.is_some_and(|view| view.connected && view.through.is_none()),
            hinders: false,
            at: signal::now(),
            healed_at: None,
        }
    }

    /// The agent in that role, or, if it was struck already, one that was not.
    fn choose(&self, stage: &Stage, aim: Aim) -> Option<String> {
        let name = stage.scenes[0].name.as_str();
        let acts = |view: &AgentView| view.acting_for.iter().any(|of| of.as_str() == name);
        let reads = |view: &AgentView| view.reading_for.iter().any(|of| of.as_str() == name);
        let left: Vec<&AgentView> = self.seen.iter().filter(|view| !self.struck.contains(view.name.as_str())).collect();
        let wanted = left.iter().find(|view| match aim {
            Aim::Acting => acts(view),
            Aim::Reader => reads(view),
            Aim::Standby => !acts(view) && !reads(view),
        });
        wanted.or(left.first()).map(|view| view.name.to_string())
    }

    fn inflict(&mut self, stage: &mut Stage, planned: Planned, line: &mut Injected) {
        let agent = line.agent.clone().unwrap_or_default();
        match planned.fault {
            Fault::Kill { .. } => line.at = stage.cluster.kill(&agent),
            Fault::Stop { .. } => line.at = stage.cluster.agent(&agent).stop(),
            Fault::Supplant { .. } => {
                line.at = stage.cluster.agent(&agent).stop();
                let twin = twin::start(&stage.cluster, &agent);
                self.twins.push((agent, twin));
            }
            // Where several faults meet, what a way is like follows from all of them.
            Fault::Cut { .. } | Fault::Isolate { .. } | Fault::Degrade { .. } => {}
            Fault::Flap { times, .. } => self.flap(stage, &agent, times, duration(planned.lasts).unwrap_or_default()),
            Fault::Disk { fails, delay_ms } => self.set_disk(stage, disk_fault(fails, delay_ms)),
            Fault::KillServer => {
                line.at = stage.cluster.kill_server();
                self.server = Server::Dead;
            }
            Fault::StopServer => {
                line.at = stage.cluster.server().stop();
                self.server = Server::Stopped;
            }
        }
    }

    fn set_disk(&mut self, stage: &Stage, fault: DiskFault) {
        stage.disk.as_ref().expect("a schedule that was checked").set(fault);
        self.store_fails = stage.faulty == Some(Faulty::Store) && fault != DiskFault::Sound;
    }

    fn heal(&mut self, stage: &mut Stage, line: usize) {
        let agent = self.log[line].agent.clone().unwrap_or_default();
        if !self.log[line].reads_for.is_empty() && self.server == Server::Runs && !self.store_fails {
            self.log[line].hinders = is_running(stage);
        }
        match self.log[line].fault {
            Fault::Kill { .. } => stage.cluster.start_agent(&agent),
            Fault::Stop { .. } | Fault::Supplant { .. } => drop(stage.cluster.agent(&agent).wake()),
            Fault::Cut { .. } | Fault::Isolate { .. } | Fault::Flap { .. } | Fault::Degrade { .. } => {}
            Fault::Disk { fails, .. } => {
                // Of a slow store no command has an answer in time, and nothing is demanded of slowness.
                let can_be_asked = self.server == Server::Runs && fails != Failure::Slow;
                self.log[line].hinders = can_be_asked && is_running(stage);
                self.set_disk(stage, DiskFault::Sound);
            }
            Fault::KillServer => {
                // What a disk refused at last, a kernel may tell of at the next start.
                stage.cluster.start_server_again_and_again();
                self.server = Server::Runs;
            }
            Fault::StopServer => {
                stage.cluster.server().wake();
                self.server = Server::Runs;
            }
        }
        self.log[line].healed_at = Some(signal::now());
        self.settle_ways(stage, line);
    }

    /// Makes the ways from and to the agent of a line what the faults that last make of them.
    fn settle_ways(&self, stage: &Stage, line: usize) {
        let line = &self.log[line];
        if let Some(agent) = line.agent.as_deref().filter(|_| line.fault.is_of_network()) {
            others(stage, agent).for_each(|other| self.settle_way(stage, agent, other));
        }
    }

    /// Both directions between two hosts. A fault that is over opens nothing that another one keeps closed.
    fn settle_way(&self, stage: &Stage, one: &str, other: &str) {
        let network = stage.cluster.network();
        for (from, to) in [(one, other), (other, one)] {
            let lasting = self.log.iter().filter(|line| line.healed_at.is_none());
            let harms = lasting.filter_map(|line| harm(line.fault, line.agent.as_deref()?, from, to));
            match harms.max_by_key(|harm| *harm == Harm::Closed) {
                Some(Harm::Closed) => network.cut_one_way(from, to),
                Some(Harm::Rough(quality)) => network.degrade(from, to, quality),
                None => network.heal_one_way(from, to),
            };
        }
    }

    fn flap(&self, stage: &Stage, agent: &str, times: u8, each: Duration) {
        for _ in 0..times {
            stage.cluster.network().cut(agent, "server");
            wait::pass(each);
            self.settle_way(stage, agent, "server");
            wait::pass(each);
        }
    }
}

/// What a fault makes of the way from one host to another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Harm {
    Closed,
    Rough(Quality),
}

fn harm(fault: Fault, agent: &str, from: &str, to: &str) -> Option<Harm> {
    let other = if from == agent { to } else { from };
    if from != agent && to != agent {
        return None;
    }
    match fault {
        Fault::Isolate { .. } => Some(Harm::Closed),
        Fault::Cut { from: side, way, .. } => {
            let goes = match way {
                Way::Both => true,
                Way::Out => from == agent,
                Way::In => to == agent,
            };
            ((other == "server") == (side == From::Server) && goes).then_some(Harm::Closed)
        }
        Fault::Degrade { delay_ms, jitter_ms, loss_per_mille, .. } if other == "server" => {
            let (delay, jitter) = (Duration::from_millis(delay_ms), Duration::from_millis(jitter_ms));
            Some(Harm::Rough(Quality { delay, jitter, loss_per_mille }))
        }
        _ => None,
    }
}

/// The other hosts.
fn others<'a>(stage: &'a Stage, agent: &'a str) -> impl Iterator<Item = &'a str> {
    stage.agents.iter().map(String::as_str).filter(move |peer| *peer != agent).chain(["server"])
}

/// Whether the first replication has a run that is not over.
fn is_running(stage: &Stage) -> bool {
    stage.cluster.try_show(&stage.scenes[0].name).is_some_and(|view| view.run.is_some())
}

fn disk_fault(fails: Failure, delay_ms: u64) -> DiskFault {
    match fails {
        Failure::ReadErrors => DiskFault::ReadErrors,
        Failure::WriteErrors => DiskFault::WriteErrors,
        Failure::Full => DiskFault::Full,
        Failure::Slow => DiskFault::Slow(Duration::from_millis(delay_ms)),
        Failure::FailedSync => DiskFault::FailedSync,
    }
}

/// The strikes of a round: the first now.
fn agenda(faults: Round) -> Vec<(Instant, Due)> {
    let mut when = Instant::now();
    let strikes = faults.iter().enumerate().map(|(at, (_, planned))| {
        if let Moment::AfterMs(ms) = planned.when {
            when += Duration::from_millis(ms);
        }
        (when, Due::Strike(at))
    });
    strikes.collect()
}

fn soonest(agenda: &[(Instant, Due)]) -> Option<usize> {
    (0..agenda.len()).min_by_key(|at| agenda[*at].0)
}

fn duration(lasts: Lasts) -> Option<Duration> {
    match lasts {
        Lasts::Ms(ms) => Some(Duration::from_millis(ms)),
        Lasts::ThroughNextRun => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(from: From, way: Way) -> Fault {
        Fault::Cut { aim: Aim::Acting, from, way }
    }

    #[test]
    fn a_fault_harms_the_ways_that_it_names_and_no_other() {
        let closed = Some(Harm::Closed);
        let isolated = Fault::Isolate { aim: Aim::Acting };
        assert_eq!(harm(isolated, "h1", "h2", "h1"), closed);
        assert_eq!(harm(isolated, "h1", "h2", "server"), None);
        assert_eq!(harm(cut(From::Server, Way::Out), "h1", "h1", "server"), closed);
        assert_eq!(harm(cut(From::Server, Way::Out), "h1", "server", "h1"), None);
        assert_eq!(harm(cut(From::Peers, Way::In), "h1", "h2", "h1"), closed);
        assert_eq!(harm(cut(From::Peers, Way::Both), "h1", "h1", "server"), None);
    }
}
