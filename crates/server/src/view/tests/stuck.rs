//! What helps a replication that nothing can move by itself: the sentence and the command, not a command that fails again.

use tanist_model::api::{Health, ReplicationView, RunWaiting};
use tanist_model::application::Quiescence;
use tanist_model::id::{ApplicationName, Incarnation, RunId, SnapshotId};
use tanist_model::policy::Policy;
use tanist_model::recovery_point::RecoveryPointPlace;
use tanist_model::replication::{Intent, ReplicationRecord, Side, SideRecord};
use tanist_model::run::{RunRecord, RunState};
use tanist_model::state::State;
use tanist_protocol::message::AgentMessage;
use tanist_protocol::server::{ConnectionId, Input};

use super::{ID, NOON, RUN, SIZE, at, beat, host, machine, name, record, rpo, run, state, unproven};
use crate::view::findings::findings;
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

#[test]
fn a_replaced_volume_needs_the_old_one_or_a_replication_anew() {
    for side in [Side::Target, Side::Source] {
        let mut record = ReplicationRecord { policy: Policy { rpo_seconds: Some(5), ..record().policy }, ..record() };
        let replaced = if side == Side::Target { &mut record.target } else { &mut record.source };
        replaced.identity = "the old one".into();
        let volume = replaced.volume.clone();
        let view = view(record);
        assert_eq!(view.health, Health::Stopped);
        let seen = format!("the {side} {volume} was replaced: its agents see {volume} there instead of the old one");
        assert!(view.summary.starts_with(&seen), "{}", view.summary);
        let next = "tanist replication delete db --leave-behind; when it is gone: tanist replication create db --source san-a/vol1 \
                    --target san-b/vol9 --agents h1,h2 --source-mode sealed --rpo 5s --overwrite-target";
        assert_eq!(view.next.as_deref(), Some(next));
    }
}

#[test]
fn a_source_of_another_size_needs_a_replication_anew_and_not_another_run() {
    let larger = ReplicationRecord { size_bytes: SIZE - 100, published: None, policy: rpo(5), ..record() };
    let mut state = state(larger);
    state.runs.insert((ID, RUN), RunRecord { failure: Some("the source grew".into()), ..run(RunState::Abandoned) });
    let machine = machine(state);
    let found = findings(&machine, &machine.state().replications[&ID]);
    assert!(found[0].summary.starts_with("the source san-a/vol1 grew from 900 to 1000 bytes"), "{}", found[0].summary);
    assert!(found.len() > 2, "the run, the RPO: {found:?}");
    let commands = found.iter().filter_map(|finding| finding.next.as_deref());
    assert!(commands.clone().all(|next| next != "tanist replication sync db"), "{found:?}");
    let anew = "tanist replication delete db; when it is gone: tanist replication create db ";
    assert!(commands.filter(|next| next.starts_with(anew)).count() > 1, "{found:?}");
}

#[test]
fn a_target_that_shrank_is_told_as_that() {
    let mut machine = machine(state(record()));
    for incarnation in [1, 2] {
        let AgentMessage::Heartbeat(mut heartbeat) = beat(incarnation) else { panic!("a beat") };
        heartbeat.canaries[1].result.as_mut().unwrap().size_bytes = SIZE - 24;
        let (agent, connection) = (name(if incarnation == 1 { "h1" } else { "h2" }), ConnectionId(incarnation as u64));
        machine.handle(at(11), Input::Message { agent, connection, message: AgentMessage::Heartbeat(heartbeat) });
    }
    let found = findings(&machine, &machine.state().replications[&ID]);
    let expected = "the target san-b/vol9 is 24 bytes smaller than the replication; grow it again";
    assert!(found[0].summary.starts_with(expected), "{found:?}");
}
