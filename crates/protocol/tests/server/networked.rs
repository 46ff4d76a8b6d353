//! The networked form: the source and the target have agents of their own, and the server brings them together.

use tanist_model::id::{RunId, SnapshotId};
use tanist_model::policy::SourceMode;
use tanist_model::replication::{Reader, ReplicationRecord};
use tanist_model::run::{BoundSnapshot, Checkpoint, RunState};
use tanist_protocol::message::{AgentMessage, Heartbeat, RunOrder, ServerMessage};
use tanist_protocol::server::{Effect, Input, ServerMachine};

use crate::care::{RUN, copying, role_of_h1};
use crate::world::{
    DB, FIRST, SIZE, Seen, VOLUMES, at, connect, db, name, process, say_at, seen, server, side, state, well,
};

/// h2 reads the source for h1, which holds the target; run 9 is to begin, and no recovery point has to be kept for it.
fn apart() -> ServerMachine {
    let reader = Reader { agent: name("h2"), incarnation: process("h2"), granted_at: at(0).wall };
    let apart = ReplicationRecord {
        source: side(VOLUMES[0], &["h2"]),
        target: side(VOLUMES[1], &["h1"]),
        reader: Some(reader),
        run: Some(RUN),
        published: None,
        ..db()
    };
    let mut state = state(apart);
    state.recovery_points.clear();
    let mut run = copying();
    (run.state, run.snapshot, run.checkpoint) = (RunState::SnapshotPending, None, Checkpoint::START);
    state.runs.insert((DB, RUN), run);
    let mut machine = server(state);
    connect(&mut machine, "h1", process("h1"), 1, 0);
    connect(&mut machine, "h2", process("h2"), 2, 0);
    say_at(&mut machine, at(20), "h2", 2, well(&["h1"]));
    machine
}

/// The holder's beat, at work on this run.
fn beat(machine: &mut ServerMachine, ms: u64, run: Option<RunId>) -> Seen {
    let AgentMessage::Heartbeat(beat) = well(&["h2"]) else { unreachable!("a beat") };
    let beat = Heartbeat { roles: vec![role_of_h1(run)], ..beat };
    say_at(machine, at(ms), "h1", 1, AgentMessage::Heartbeat(beat))
}

fn bind() -> AgentMessage {
    let (id, uid, mode) = (SnapshotId(9), "s9".into(), SourceMode::Snapshot);
    let snapshot = BoundSnapshot { id, uid, mode, size_bytes: SIZE, application: None };
    AgentMessage::BindSnapshot { replication: DB, epochs: FIRST, run: RUN, snapshot, kept: None }
}

fn orders(seen: &Seen, is: impl Fn(&ServerMessage) -> bool) -> bool {
    seen.effects().into_iter().any(|effect| matches!(effect, Effect::Send { message, .. } if is(message)))
}

fn is_bound(machine: &ServerMachine) -> bool {
    machine.state().runs[&(DB, RUN)].snapshot.is_some()
}

/// A holder that missed the end of an earlier run still writes bytes of an earlier snapshot. Bound under it, the new snapshot would
/// be mixed with them by a takeover.
#[test]
fn nothing_is_bound_before_the_holder_stands_ready() {
    let mut machine = apart();
    let ordered = beat(&mut machine, 30, None);
    let keep = |m: &ServerMessage| matches!(m, ServerMessage::OpenRun { order, .. } if matches!(**order, RunOrder::Keep { run: RUN, keep: None }));
    assert!(orders(&ordered, keep), "{:?}", ordered.effects());
    assert!(!orders(&ordered, |m| matches!(m, ServerMessage::Read { .. })), "the reader waits for the holder");
    say_at(&mut machine, at(40), "h2", 2, bind());
    assert!(!is_bound(&machine), "an order of an earlier server process is obeyed; the holder has said nothing");
    say_at(&mut machine, at(50), "h1", 1, AgentMessage::Kept { replication: DB, epochs: FIRST, run: RUN, uid: None });
    say_at(&mut machine, at(60), "h2", 2, bind());
    assert!(is_bound(&machine));
}

#[test]
fn a_holder_at_work_on_a_run_that_is_over_is_told_so_again() {
    let mut machine = apart();
    let over = |m: &ServerMessage| matches!(m, ServerMessage::CloseRun { run: RunId(8), .. });
    assert!(orders(&beat(&mut machine, 30, Some(RunId(8))), over));
    assert!(!orders(&beat(&mut machine, 40, Some(RunId(8))), over), "it has just been told");
    let later = seen(machine.handle(at(600), Input::Tick));
    assert!(orders(&later, over), "the word was lost");
    let idle = beat(&mut machine, 610, None);
    assert!(orders(&idle, |m| matches!(m, ServerMessage::OpenRun { .. })), "the next order does not wait");
}
