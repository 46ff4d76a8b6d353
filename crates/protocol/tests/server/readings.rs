//! What is known of recovery points after somebody has read them, or the target that they were taken of.

use tanist_model::api::PointReading;
use tanist_model::event::EventCode;
use tanist_model::id::{CommandId, RunId};
use tanist_model::recovery_point::{RecoveryPoint, RecoveryPointPlace};
use tanist_model::replication::ReplicationRecord;
use tanist_model::run::{ChainDigest, RunState, Verification};
use tanist_model::state::State;
use tanist_protocol::message::{AgentMessage, RunFailureKind};
use tanist_protocol::server::{Command, Input, ServerMachine};

use crate::care::{RUN, copying};
use crate::world::{DB, FIRST, Seen, at, connect, db, process, say_at, seen, server, state, well};

/// The point of this run, kept by a snapshot and published in this second.
fn kept(state: &State, run: u64, second: u64) -> RecoveryPoint {
    let place = RecoveryPointPlace::Snapshot(format!("t{run}"));
    RecoveryPoint { run: RunId(run), place, published_at: at(second * 1000).wall, ..point(state, 4).clone() }
}

fn point(state: &State, run: u64) -> &RecoveryPoint {
    &state.recovery_points[&(DB, RunId(run))]
}

/// Points of the runs 1 to 3 are kept by snapshots, the target was read whole and found right as the point of run 2, and is that of run 4 now.
fn with_points() -> State {
    let mut state = state(ReplicationRecord { run: Some(RUN), target_dirty: None, ..db() });
    for run in 1..=3 {
        let verified_at = (run == 2).then(|| at(2500).wall);
        let kept = RecoveryPoint { verified_at, ..kept(&state, run, run) };
        state.recovery_points.insert((DB, kept.run), kept);
    }
    let mut verifying = copying();
    verifying.state = RunState::Verifying;
    verifying.verification = Some(Verification { of: RunId(4), repair: true });
    state.runs.insert((DB, RUN), verifying);
    state
}

fn started() -> ServerMachine {
    started_with(with_points())
}

fn started_with(stored: State) -> ServerMachine {
    let mut machine = server(stored);
    connect(&mut machine, "h1", process("h1"), 1, 0);
    connect(&mut machine, "h2", process("h2"), 2, 0);
    say_at(&mut machine, at(10), "h1", 1, well(&["h2"]));
    machine
}

/// The verification finds the target other than it should be.
fn differs(machine: &mut ServerMachine) {
    let (kind, reason) = (RunFailureKind::FullMismatch, "block 3 differs".to_owned());
    let failed = AgentMessage::RunFailed { replication: DB, epochs: FIRST, run: RUN, kind, reason };
    assert!(say_at(machine, at(50), "h1", 1, failed).events().contains(&EventCode::VerificationFailed));
}

fn read(machine: &mut ServerMachine, id: u128, run: u64, place: &str, digest: u8) -> Seen {
    let reading = PointReading { place: RecoveryPointPlace::Snapshot(place.into()), digest: ChainDigest([digest; 32]) };
    let command = Box::new(Command::NoteReading { name: db().name, run: RunId(run), reading });
    seen(machine.handle(at(60), Input::Command { id: CommandId(id), actor: "anna".into(), command }))
}

#[test]
fn what_a_snapshot_was_read_to_be_is_known_of_its_point() {
    let mut machine = started();
    assert!(read(&mut machine, 1, 3, "t3", 7).events().contains(&EventCode::RecoveryPointDamaged));
    assert_eq!(point(machine.state(), 3).damaged_at, Some(at(60).wall));
    assert_eq!(read(&mut machine, 2, 3, "t3", 1).events(), []);
    let sound = point(machine.state(), 3);
    assert_eq!((sound.damaged_at, sound.verified_at), (None, Some(at(60).wall)), "the first reading was at fault");
}

#[test]
fn what_was_read_elsewhere_says_nothing_of_the_point() {
    let mut machine = started();
    assert_eq!(read(&mut machine, 1, 3, "another", 7).events(), []);
    assert_eq!(read(&mut machine, 2, 4, "t4", 7).events(), [], "the target itself may be written meanwhile");
    assert!([3, 4].iter().all(|run| point(machine.state(), *run).damaged_at.is_none()));
}

/// Nobody can read it any more, or nobody wants to.
#[test]
fn what_the_retention_has_given_up_is_not_doubted() {
    let mut stored = with_points();
    stored.recovery_points.entry((DB, RunId(3))).and_modify(|point| point.expired = true);
    let mut machine = started_with(stored);
    differs(&mut machine);
    let doubtful = [2, 3].map(|run| point(machine.state(), run).doubtful_since.is_some());
    assert_eq!(doubtful, [true, false]);
}

/// What differs now may have differed when the snapshots were taken; before the target was last found right, it did not.
#[test]
fn snapshots_of_a_target_that_differs_are_doubtful_until_they_are_read() {
    let mut machine = started();
    differs(&mut machine);
    let doubtful = [1, 2, 3].map(|run| point(machine.state(), run).doubtful_since.is_some());
    assert_eq!(doubtful, [false, true, true]);
    read(&mut machine, 1, 3, "t3", 1);
    assert_eq!(point(machine.state(), 3).doubtful_since, None);
    read(&mut machine, 2, 2, "t2", 9);
    let damaged = point(machine.state(), 2);
    assert!(damaged.damaged_at.is_some() && damaged.doubtful_since.is_some());
}
