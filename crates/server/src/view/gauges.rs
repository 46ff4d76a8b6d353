//! The present values for metrics.

use tanist_model::id::ReplicationName;
use tanist_model::replication::ReplicationRecord;
use tanist_model::stage::StageUse;
use tanist_model::time::Timestamp;
use tanist_model::work::RunWork;
use tanist_protocol::server::ServerMachine;

use super::findings::{damaged_points, last_point};
use super::run;

/// The values of the server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Gauges {
    pub term: u64,
    pub connected_agents: usize,
    /// Of these, carried by a peer.
    pub relayed_agents: usize,
    pub replications: Vec<ReplicationGauges>,
}

/// The values of one replication.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReplicationGauges {
    pub name: ReplicationName,
    pub state: &'static str,
    pub lag_seconds: Option<u64>,
    pub size_bytes: u64,
    /// Of the present run.
    pub durable_bytes: Option<u64>,
    /// Of the present run, by the agent's word.
    pub passed_bytes: Option<u64>,
    pub epoch: u32,
    pub source_epoch: u32,
    /// One agent reads for another.
    pub has_reader: bool,
    pub unproven: u64,
    /// Host applications that may be quiesced.
    pub quiesced: u64,
    /// Recovery points that are there, were read, and are not what was published.
    pub damaged_points: u64,
    /// Late frames that were not let in.
    pub refused_frames: u64,
    /// Of the present run, or else the last.
    pub work: Option<RunWork>,
    pub copied_again_bytes: Option<u64>,
    /// Of the present run, lately.
    pub stages: Vec<StageUse>,
    /// How long the last drill took that came so far.
    pub drill_ms: Option<u64>,
    /// When the last good one was decided.
    pub drill_good_at: Option<Timestamp>,
    /// Whether the last was no good one, or the last good one is too old; nothing before the first.
    pub drill_failing: Option<bool>,
}

#[must_use]
pub fn gauges(machine: &ServerMachine) -> Gauges {
    let state = machine.state();
    let connected = |agent| machine.session(agent).is_some_and(tanist_protocol::server::Session::is_connected);
    let relayed = |agent| machine.session(agent).is_some_and(|s| s.is_connected() && s.through.is_some());
    Gauges {
        term: state.term.0,
        connected_agents: state.agents.keys().filter(|agent| connected(agent)).count(),
        relayed_agents: state.agents.keys().filter(|agent| relayed(agent)).count(),
        replications: state.replications.values().map(|record| replication(machine, record)).collect(),
    }
}

fn replication(machine: &ServerMachine, record: &ReplicationRecord) -> ReplicationGauges {
    let run = machine.state().current_run(record);
    let progress = run.and_then(|run| run::progress(machine, record, run.id));
    let drills = &record.drills;
    let shown = run::current(machine, record).or_else(|| run::last(machine, record));
    ReplicationGauges {
        name: record.name.clone(),
        state: machine.phase(record).name(),
        lag_seconds: last_point(machine, record).map(|p| machine.now().wall.since(p.source_time).as_secs()),
        size_bytes: record.size_bytes,
        durable_bytes: run.map(|run| run.checkpoint.seq),
        passed_bytes: progress.map(|progress| progress.passed_bytes),
        epoch: record.epochs.target.0,
        source_epoch: record.epochs.source.0,
        has_reader: record.reader.is_some(),
        unproven: record.unproven.len() as u64,
        quiesced: record.quiesced.len() as u64,
        damaged_points: damaged_points(machine, record).count() as u64,
        refused_frames: record.refused.total,
        work: shown.as_ref().map(|run| run.work),
        copied_again_bytes: shown.as_ref().map(|run| run.copied_again_bytes),
        stages: shown.map(|run| run.stages).unwrap_or_default(),
        drill_ms: drills.results.iter().rev().find_map(|result| result.took_ms),
        drill_good_at: drills.last_good.as_ref().map(|good| good.at),
        drill_failing: (drills.overdue || drills.last().is_some())
            .then(|| drills.overdue || drills.last().is_some_and(|last| !last.is_good())),
    }
}
