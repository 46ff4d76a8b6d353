//! What helps a replication that nothing can move by itself: the sentence and the command, not a command that fails again.

use tanist_model::api::{Health, ReplicationView, RunWaiting};
use tanist_model::application::Quiescence;
use tanist_model::id::{ApplicationName, Incarnation, RunId, SnapshotId};
use tanist_model::recovery_point::RecoveryPointPlace;
use tanist_model::replication::{Intent, ReplicationRecord, SideRecord};
use tanist_model::run::RunState;
use tanist_model::state::State;
use tanist_protocol::server::Input;

use super::{ID, NOON, RUN, at, host, machine, name, record, run, state, unproven};
use crate::view::replication::replication;

/// The agents see another volume at the target's address, and whoever acted has drained. The last recovery point is in a snapshot.
fn replaced() -> ReplicationRecord {
    let target = SideRecord { identity: "the old one".into(), ..record().target };
    ReplicationRecord { target, holder: None, unproven: Vec::new(), ..record() }
}

fn view(record: ReplicationRecord) -> ReplicationView {
    let mut state = state(record);
    state.recovery_points.get_mut(&(ID, RunId(4))).unwrap().place = RecoveryPointPlace::Snapshot("uid-4".into());
    let mut machine = machine(state);
    machine.handle(at(11), Input::Tick);
    replication(&machine, &machine.state().replications[&ID])
}

#[test]
fn a_removal_that_cannot_go_on_says_why_and_names_the_command() {
    let stuck = view(ReplicationRecord { intent: Intent::Deleting, ..replaced() });
    assert_eq!(stuck.health, Health::Stopped);
    assert!(stuck.summary.contains("no agent can clean up"), "{}", stuck.summary);
    assert!(stuck.summary.contains("0000000000000004 of san-b/vol9 (uid uid-4)"), "{}", stuck.summary);
    let command = "tanist replication delete db --leave-behind";
    assert_eq!(stuck.next.as_deref(), Some(command));
    assert!(stuck.waits_for.as_ref().is_some_and(|what| what.contains(command)), "{:?}", stuck.waits_for);
    let removal = stuck.removal.expect("what is left to do");
    assert_eq!((removal.leave_behind, removal.snapshots.len()), (false, 1));
}

/// A run that has been asked for, and what it is shown to wait for.
fn waiting_of(change: impl FnOnce(&mut State)) -> Option<RunWaiting> {
    let mut state = state(ReplicationRecord { run: Some(RUN), ..record() });
    let mut pending = run(RunState::SnapshotPending);
    (pending.snapshot, pending.bound_at) = (None, None);
    state.runs.insert((ID, RUN), pending);
    change(&mut state);
    let machine = machine(state);
    replication(&machine, &machine.state().replications[&ID]).run.expect("a run").waiting
}

#[test]
fn a_run_without_its_snapshot_says_who_is_to_make_it() {
    let waits = waiting_of(|_| {}).expect("something is waited for");
    assert_eq!((waits.what.as_str(), waits.since), ("agent h1 to make it", NOON));
}

#[test]
fn a_run_that_waits_for_a_host_application_says_so_and_since_when() {
    let since = at(7).wall;
    let waits = waiting_of(|state| {
        let quiescence = Quiescence {
            application: ApplicationName::new("pg").unwrap(),
            agent: name("h1"),
            incarnation: Incarnation(1),
            host: host(),
            run: RUN,
            attempt: SnapshotId(1),
            since,
            limit_ms: 60_000,
            failure: None,
            alarmed: false,
        };
        state.replications.get_mut(&ID).unwrap().quiesced.push(quiescence);
    });
    let waits = waits.expect("something is waited for");
    assert_eq!(waits.since, since);
    assert_eq!(waits.what, "host application pg on agent h1: quiesced for the snapshot, 60 s at most");
}

#[test]
fn a_run_that_moves_waits_for_nothing_though_the_next_one_will() {
    let waits = waiting_of(|state| {
        state.runs.insert((ID, RUN), run(RunState::Copying));
        state.replications.get_mut(&ID).unwrap().unproven.insert(0, unproven(0, "h2"));
    });
    assert_eq!(waits, None);
}
