//! A run, with what its agent says of its progress.

use tanist_model::api::RunView;
use tanist_model::id::RunId;
use tanist_model::replication::ReplicationRecord;
use tanist_model::run::{RunRecord, RunState};
use tanist_model::stage::{StageUse, limit_of, merged};
use tanist_model::work::RunWork;
use tanist_protocol::message::{RoleReport, RunProgress};
use tanist_protocol::server::ServerMachine;

use super::waiting;

/// The run in progress or waiting to start.
#[must_use]
pub fn current(machine: &ServerMachine, record: &ReplicationRecord) -> Option<RunView> {
    let run = machine.state().current_run(record)?;
    let waiting = waiting::of_run(machine, record, run);
    let (told, stages) = (progress(machine, record, run.id), stages(machine, record, run.id));
    let limit = limit_of(&stages).map(|stage| stage.to_string());
    let view = view(record, run, told);
    // Without stages: an agent of an earlier version, or the reading of the whole target.
    let limit = if stages.is_empty() { view.limit } else { limit };
    Some(RunView { waiting, limit, stages, ..view })
}

/// The run that ended last.
#[must_use]
pub fn last_record<'a>(machine: &'a ServerMachine, record: &ReplicationRecord) -> Option<&'a RunRecord> {
    let runs = machine.state().runs.values().filter(|run| run.replication == record.id && run.state.is_finished());
    runs.max_by_key(|run| run.finished_at)
}

/// The same, to be shown.
#[must_use]
pub fn last(machine: &ServerMachine, record: &ReplicationRecord) -> Option<RunView> {
    last_record(machine, record).map(|run| view(record, run, None))
}

/// What the holder's beat says of the run.
#[must_use]
pub fn progress<'a>(machine: &'a ServerMachine, record: &ReplicationRecord, run: RunId) -> Option<&'a RunProgress> {
    let session = machine.session(&record.holder.as_ref()?.agent).filter(|session| session.is_connected())?;
    let is_of_it = |role: &&RoleReport| role.epochs.same_holder(record.epochs) && role.run == Some(run);
    session.roles.get(&record.id).filter(is_of_it)?.progress.as_ref()
}

/// Where the time of the run goes, by the word of whoever holds the target and whoever reads the source for it.
#[must_use]
pub fn stages(machine: &ServerMachine, record: &ReplicationRecord, run: RunId) -> Vec<StageUse> {
    let holder = progress(machine, record, run).map_or(&[][..], |progress| progress.stages.as_slice());
    let reader = reading(machine, record, run).map_or(&[][..], |progress| progress.stages.as_slice());
    merged(holder, reader)
}

/// What the reader's beat says of the run.
fn reading<'a>(machine: &'a ServerMachine, record: &ReplicationRecord, run: RunId) -> Option<&'a RunProgress> {
    let session = machine.session(&record.reader.as_ref()?.agent).filter(|session| session.is_connected())?;
    let is_of_it = |role: &&RoleReport| role.epochs.source == record.epochs.source && role.run == Some(run);
    session.readings.get(&record.id).filter(is_of_it)?.progress.as_ref()
}

fn view(record: &ReplicationRecord, run: &RunRecord, progress: Option<&RunProgress>) -> RunView {
    let size_bytes = run.snapshot.as_ref().map_or(record.size_bytes, |snapshot| snapshot.size_bytes);
    let passed = progress.map_or(0, |progress| progress.passed_bytes).min(size_bytes);
    // The whole target is read once more, from its beginning.
    let done_bytes = if run.state == RunState::Verifying { passed } else { passed.max(run.checkpoint.seq) };
    let rate = progress.map_or(0, |progress| progress.rate_bytes_per_second);
    let mut log = run.work;
    log.note(record.epochs.target, progress.map_or_else(RunWork::default, |progress| progress.work));
    let work = log.total();
    RunView {
        id: run.id,
        state: run.state,
        agent: run.agent.clone(),
        done_bytes,
        size_bytes,
        rate_bytes_per_second: rate,
        seconds_left: seconds_left(run.state, size_bytes.saturating_sub(done_bytes), rate),
        limit: progress.map(|progress| progress.limit.clone()).filter(|limit| !limit.is_empty()),
        stages: Vec::new(),
        takeovers: run.takeovers,
        method: run.method.map(|method| method.name().to_owned()),
        snapshot: run.snapshot.as_ref().map(|snapshot| snapshot.id),
        work,
        copied_again_bytes: work.again_bytes(done_bytes),
        repairs: run.repairs,
        requested_at: run.requested_at,
        finished_at: run.finished_at,
        failure: run.failure.clone(),
        waiting: None,
    }
}

/// An estimate from a rate that was measured while copying; the whole target is read at a rate of its own. What is less than a second is
/// still something: none is left only when nothing is.
fn seconds_left(state: RunState, left_bytes: u64, rate: u64) -> Option<u64> {
    (state == RunState::Copying && rate > 0 && left_bytes > 0).then(|| left_bytes.div_ceil(rate))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_left_is_told_only_from_a_measured_rate() {
        assert_eq!(seconds_left(RunState::Copying, 500, 50), Some(10));
        assert_eq!(seconds_left(RunState::Copying, 56, 100), Some(1), "never 0 while something is left");
        assert_eq!(seconds_left(RunState::Copying, 500, 0), None);
        assert_eq!(seconds_left(RunState::Copying, 0, 50), None);
        for state in [RunState::SnapshotPending, RunState::Bound, RunState::Verifying, RunState::Flushed] {
            assert_eq!(seconds_left(state, 500, 50), None, "{state:?}");
        }
    }
}
