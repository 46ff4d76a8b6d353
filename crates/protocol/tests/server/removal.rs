//! Removals whose agents can no longer clean up: they wait, until an operator lets them leave it, and never go past an epoch that is not
//! proven quiet.

use tanist_model::change::Change;
use tanist_model::event::EventCode;
use tanist_model::id::{CommandId, Incarnation, RunId};
use tanist_model::recovery_point::RecoveryPointPlace;
use tanist_model::replication::{Intent, ReplicationRecord};
use tanist_model::state::State;
use tanist_protocol::message::{AgentMessage, ServerMessage};
use tanist_protocol::server::{Command, ConnectionId, Effect, Input, ServerMachine};

use crate::world::{DB, FIRST, Seen, at, connect, db, name, process, seen, server, state, vouched_dead, well};

/// The last recovery point is kept by a snapshot of the target, which no agent reaches.
fn kept(record: ReplicationRecord) -> State {
    let mut state = state(record);
    let point = state.recovery_points.get_mut(&(DB, RunId(4))).unwrap();
    point.place = RecoveryPointPlace::Snapshot("uid-4".into());
    state
}

/// Nobody acts any more: the last holder has drained.
fn vacant() -> State {
    kept(ReplicationRecord { holder: None, unproven: Vec::new(), ..db() })
}

fn delete(machine: &mut ServerMachine, millis: u64, leave_behind: bool) -> Seen {
    let command = Box::new(Command::Delete { name: "db".parse().unwrap(), leave_behind });
    let id = CommandId(u128::from(millis));
    seen(machine.handle(at(millis), Input::Command { id, actor: "admin".into(), command }))
}

fn message_of(seen: &Seen, code: EventCode) -> Option<String> {
    let groups = seen.0.decisions().iter().filter_map(|decision| decision.group.as_ref());
    groups.flat_map(|group| &group.changes).find_map(|change| match change {
        Change::AppendEvent(event) if event.code == code => Some(event.message.clone()),
        _ => None,
    })
}

fn is_gone(machine: &ServerMachine) -> bool {
    machine.state().replications.is_empty()
}

#[test]
fn a_removal_that_nobody_can_clean_up_ends_by_an_operators_word_and_names_what_stays() {
    let mut machine = server(vacant());
    connect(&mut machine, "h1", process("h1"), 1, 0);
    delete(&mut machine, 20, false);
    for millis in (1..20).map(|n| n * 1000) {
        machine.handle(at(millis), Input::Tick);
    }
    assert_eq!(machine.state().replications[&DB].intent, Intent::Deleting, "without a word it waits");

    let ended = delete(&mut machine, 20_000, true);
    assert!(is_gone(&machine), "{:?}", ended.events());
    assert_eq!(machine.state().removed_epoch, FIRST.target, "a key of it may still lie on the target");
    assert!(ended.events().contains(&EventCode::RemovalCommanded));
    let left = message_of(&ended, EventCode::SnapshotsLeftBehind).expect("T309");
    assert!(left.contains("0000000000000004 of san-b/vol9 (uid uid-4)"), "{left}");
}

#[test]
fn what_an_agent_can_still_remove_is_not_left_behind() {
    let mut machine = server(vacant());
    connect(&mut machine, "h1", process("h1"), 1, 0);
    machine.handle(at(30), Input::Message { agent: name("h1"), connection: ConnectionId(1), message: well(&[]) });
    let began = delete(&mut machine, 40, true);
    assert!(!is_gone(&machine));
    let activated = |effect: &&Effect| matches!(effect, Effect::Send { message: ServerMessage::Activate { .. }, .. });
    let later = seen(machine.handle(at(50), Input::Tick));
    let effects: Vec<&Effect> = began.effects().into_iter().chain(later.effects()).collect();
    assert!(effects.iter().any(activated) || machine.state().replications[&DB].holder.is_some(), "{effects:?}");
}

/// The holder's host is gone, and it is the only one that had acted.
#[test]
fn a_dead_holder_is_waited_for_until_it_is_confirmed_dead() {
    let mut machine = server(kept(db()));
    connect(&mut machine, "h2", process("h2"), 2, 0);
    delete(&mut machine, 20, true);
    let mut told = Vec::new();
    for millis in (1..40).map(|n| n * 500) {
        told.extend(seen(machine.handle(at(millis), Input::Tick)).events());
    }
    let record = &machine.state().replications[&DB];
    assert_eq!((record.holder.is_none(), record.unproven.len()), (true, 1), "{told:?}");
    assert!(told.contains(&EventCode::DeleteWaitsForProof), "{told:?}");
    assert!(!told.contains(&EventCode::Exhausted), "nobody is needed: {told:?}");

    let command = vouched_dead(&machine, "h1");
    machine.handle(at(20_000), Input::Command { id: CommandId(9), actor: "admin".into(), command });
    let mut ended = Vec::new();
    for millis in 0..10 {
        ended.extend(seen(machine.handle(at(20_500 + millis * 500), Input::Tick)).events());
    }
    assert!(is_gone(&machine), "{ended:?}");
    assert!(ended.contains(&EventCode::SnapshotsLeftBehind), "{ended:?}");
}

/// It was cut off while the removal went on without it: it stands down and proves itself quiet.
#[test]
fn a_holder_that_comes_back_says_itself_that_it_is_quiet() {
    let mut machine = server(kept(db()));
    connect(&mut machine, "h2", process("h2"), 2, 0);
    delete(&mut machine, 20, true);
    for millis in (1..40).map(|n| n * 500) {
        machine.handle(at(millis), Input::Tick);
    }
    assert!(!is_gone(&machine), "epoch 1 is not proven quiet");
    crate::world::connect_at(&mut machine, at(21_000), ("h1", process("h1")), 3, 0);
    let drained = AgentMessage::Drained { replication: DB, epochs: FIRST };
    machine.handle(at(21_010), Input::Message { agent: name("h1"), connection: ConnectionId(3), message: drained });
    machine.handle(at(22_000), Input::Tick);
    assert!(is_gone(&machine));

    // Another process of it proves nothing.
    let mut machine = server(kept(db()));
    delete(&mut machine, 20, true);
    crate::world::connect_at(&mut machine, at(21_000), ("h1", Incarnation(77)), 3, 0);
    machine.handle(at(22_000), Input::Tick);
    assert!(!is_gone(&machine));
}
