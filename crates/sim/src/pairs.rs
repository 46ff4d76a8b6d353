//! In which state each fault found the machines: a pair that never happened was never tested.
//!
//! Which pairs cannot happen stands in `impossible.txt`, each with its reason. A miss that is not listed is a hole in the simulation;
//! a hit of a listed one is a mistake in somebody's understanding.

use std::collections::BTreeSet;
use std::fmt;

use tanist_model::run::RunState;
use tanist_protocol::message::RoleState;
use tanist_protocol::server::Phase;

use crate::faults::FaultKind;
use crate::rng::Rng;
use crate::world::World;

/// A machine of the protocol in one of its states. Of a run, only those that a run in progress can be in: nothing happens to one that
/// has ended.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum MachineState {
    Agent(AgentState),
    Server(Phase),
    Run(RunState),
}

/// The target's side of an agent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum AgentState {
    /// There is no process.
    Dead,
    /// It holds no role.
    Free,
    In(RoleState),
}

/// The rarest of all: a process is granted an epoch while I/O of an earlier one of its own has not ended.
pub const DRAINING: MachineState = MachineState::Agent(AgentState::In(RoleState::Draining));

impl MachineState {
    /// Some that do not last, to lie in wait for.
    #[must_use]
    pub fn fleeting(rng: &mut Rng) -> Vec<Self> {
        use RoleState::{AwaitGrant, DrainingOut, Fenced, Fencing};
        let agent = |role| Self::Agent(AgentState::In(role));
        match rng.index(14) {
            0..7 => vec![agent(Fenced), DRAINING],
            7 => vec![agent(AwaitGrant)],
            8 => vec![agent(Fencing)],
            9 => vec![agent(DrainingOut), Self::Server(Phase::HandingOver)],
            10 => vec![Self::Server(Phase::Stable), Self::Server(Phase::Probing)],
            11 => vec![Self::Server(Phase::Granted), Self::Server(Phase::AwaitProof)],
            12 => vec![Self::Run(RunState::SnapshotPending), Self::Run(RunState::Bound)],
            _ => vec![Self::Run(RunState::Verifying), Self::Run(RunState::Flushed)],
        }
    }

    /// All of them.
    #[must_use]
    pub fn all() -> Vec<Self> {
        use RoleState::{Active, AwaitGrant, Draining, DrainingOut, Fenced, Fencing, Idle, Quarantined};
        let roles = [Idle, AwaitGrant, Draining, Fencing, Active, DrainingOut, Fenced, Quarantined];
        let agents = [AgentState::Dead, AgentState::Free].into_iter().chain(roles.map(AgentState::In));
        let phases = [
            Phase::Stable,
            Phase::Suspect,
            Phase::Probing,
            Phase::Granted,
            Phase::Active,
            Phase::AwaitProof,
            Phase::HandingOver,
            Phase::Exhausted,
        ];
        let runs =
            [RunState::SnapshotPending, RunState::Bound, RunState::Copying, RunState::Verifying, RunState::Flushed];
        let agents = agents.map(Self::Agent);
        agents.chain(phases.map(Self::Server)).chain(runs.map(Self::Run)).collect()
    }
}

impl fmt::Display for MachineState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent(AgentState::In(role)) => write!(f, "agent {role:?}"),
            Self::Agent(state) => write!(f, "agent {state:?}"),
            Self::Server(phase) => write!(f, "server {phase:?}"),
            Self::Run(run) => write!(f, "run {run:?}"),
        }
    }
}

/// A fault that met a machine in a state.
pub type Pair = (MachineState, FaultKind);

impl World {
    /// Notes in which states a fault finds the machines: the agents that it strikes, and every replication.
    pub fn note_pairs(&mut self, kind: FaultKind, struck: &[usize]) {
        let states = struck.iter().flat_map(|agent| self.agent_states(*agent));
        let states: BTreeSet<MachineState> = states.chain(self.replication_states()).collect();
        self.pairs.extend(states.into_iter().map(|state| (state, kind)));
    }

    /// After a step of an agent: whether this world lies in wait for what it is in now.
    pub fn watch_agent(&mut self, agent: usize) {
        if self.scenario.ambush.iter().any(|state| matches!(state, MachineState::Agent(_))) {
            self.agent_states(agent).into_iter().for_each(|state| self.ambush(state, Some(agent)));
        }
    }

    /// After a step of a server.
    pub fn watch_server(&mut self) {
        if self.scenario.ambush.iter().any(|state| !matches!(state, MachineState::Agent(_))) {
            self.replication_states().into_iter().for_each(|state| self.ambush(state, None));
        }
    }

    fn agent_states(&self, agent: usize) -> Vec<MachineState> {
        let Some(process) = self.agents[agent].process.as_ref() else {
            return vec![MachineState::Agent(AgentState::Dead)];
        };
        let roles = process.machine.roles().values().map(|role| AgentState::In(role.state()));
        let states: Vec<MachineState> = roles.map(MachineState::Agent).collect();
        if states.is_empty() { vec![MachineState::Agent(AgentState::Free)] } else { states }
    }

    fn replication_states(&self) -> Vec<MachineState> {
        let Some(server) = self.servers.last() else { return Vec::new() };
        let state = server.machine.state();
        let records = || state.replications.values();
        let phases = records().map(|record| MachineState::Server(server.machine.phase(record)));
        let runs = records().filter_map(|record| state.current_run(record)).map(|run| MachineState::Run(run.state));
        phases.chain(runs).collect()
    }
}

/// What cannot happen, and why: lines `MACHINE STATE FAULT: REASON`; `*` stands for every state or fault.
#[derive(Debug)]
pub struct Impossible(Vec<Line>);

#[derive(Debug)]
struct Line {
    machine: String,
    state: String,
    fault: String,
}

impl Impossible {
    /// # Errors
    /// A line that is not of this form, gives no reason, or names nothing that exists.
    pub fn parse(text: &str) -> Result<Self, String> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let lines = Self(lines.map(parse_line).collect::<Result<_, _>>()?);
        match lines.0.iter().find(|line| !all_pairs().iter().any(|pair| line.is_of(pair))) {
            Some(Line { machine, state, fault }) => Err(format!("there is no '{machine} {state} {fault}'")),
            None => Ok(lines),
        }
    }

    #[must_use]
    pub fn contains(&self, pair: &Pair) -> bool {
        self.0.iter().any(|line| line.is_of(pair))
    }

    /// What is wrong with a set of pairs that happened: what is missing, and what should not be there.
    #[must_use]
    pub fn judge(&self, hit: &BTreeSet<Pair>) -> Vec<String> {
        let word = |pair: &Pair| format!("{} {:?}", pair.0, pair.1);
        let wrong = all_pairs().into_iter().filter_map(|pair| match (hit.contains(&pair), self.contains(&pair)) {
            (false, false) => Some(format!("{} never happened", word(&pair))),
            (true, true) => Some(format!("{} happened, and is listed as impossible", word(&pair))),
            _ => None,
        });
        wrong.collect()
    }
}

impl Line {
    fn is_of(&self, (state, fault): &Pair) -> bool {
        let word = state.to_string();
        let (machine, state) = word.split_once(' ').unwrap_or((&word, ""));
        let matches = |pattern: &str, word: &str| pattern == "*" || pattern == word;
        self.machine == machine && matches(&self.state, state) && matches(&self.fault, &format!("{fault:?}"))
    }
}

fn parse_line(line: &str) -> Result<Line, String> {
    let wrong = || format!("'{line}' is not MACHINE STATE FAULT: REASON");
    let (pair, reason) = line.split_once(": ").ok_or_else(wrong)?;
    let words: Vec<&str> = pair.split_whitespace().collect();
    match words[..] {
        [machine, state, fault] if !reason.trim().is_empty() => {
            Ok(Line { machine: machine.to_owned(), state: state.to_owned(), fault: fault.to_owned() })
        }
        _ => Err(wrong()),
    }
}

fn all_pairs() -> Vec<Pair> {
    let states = MachineState::all().into_iter();
    states.flat_map(|state| FaultKind::ALL.iter().map(move |kind| (state, *kind))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_needs_a_reason_and_names_what_exists() {
        assert!(Impossible::parse("# a comment\n\nagent Dead AgentPause: there is nothing to pause").is_ok());
        for wrong in ["agent Dead AgentPause", "agent Dead AgentPause: ", "agent Dead: no", "agent Ded AgentPause: no"]
        {
            assert!(Impossible::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_miss_and_a_hit_of_what_cannot_be_are_told() {
        let listed = Impossible::parse("agent Dead AgentPause: there is nothing to pause").unwrap();
        let dead = |kind| (MachineState::Agent(AgentState::Dead), kind);
        let mut hit: BTreeSet<Pair> = all_pairs().into_iter().collect();
        assert_eq!(listed.judge(&hit), ["agent Dead AgentPause happened, and is listed as impossible"]);
        hit.remove(&dead(FaultKind::AgentPause));
        assert!(listed.judge(&hit).is_empty());
        hit.remove(&dead(FaultKind::ServerCrash));
        assert_eq!(listed.judge(&hit), ["agent Dead ServerCrash never happened"]);
    }
}
