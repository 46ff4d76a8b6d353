//! A takeover on purpose: made like any other, refused while anything else is going on, and told with its figure.

use tanist_model::api::Refusal;
use tanist_model::event::EventCode;
use tanist_model::id::{CommandId, Epoch, Epochs, ReplicationName};
use tanist_model::replication::{Handover, Intent, ReplicationRecord};
use tanist_model::state::State;
use tanist_model::takeover::Evidence;
use tanist_protocol::message::{AgentMessage, FenceReport};
use tanist_protocol::server::{Command, Effect, Input, ServerMachine};

use crate::world::{
    DB, FIRST, OTHERS, Seen, at, connect, db, held_by, name, process, say_at, seen, server, state, well,
};

const SECOND: Epochs = Epochs { source: Epoch(2), target: Epoch(2) };

/// Both agents are well.
fn quiet(state: State) -> ServerMachine {
    let mut machine = server(state);
    connect(&mut machine, "h1", process("h1"), 1, 0);
    connect(&mut machine, "h2", process("h2"), 2, 0);
    say_at(&mut machine, at(20), "h2", 2, well(&["h1"]));
    say_at(&mut machine, at(20), "h1", 1, well(&["h2"]));
    machine
}

fn drill(machine: &mut ServerMachine, hand_back: bool) -> (Seen, Option<Refusal>) {
    let command = Box::new(Command::Drill { name: ReplicationName::new("db").unwrap(), hand_back });
    let output = seen(machine.handle(at(30), Input::Command { id: CommandId(9), actor: "anna".into(), command }));
    let refusal = output.effects().into_iter().find_map(|effect| match effect {
        Effect::Answer { answer, .. } => answer.as_ref().as_ref().err().cloned(),
        _ => None,
    });
    (output, refusal)
}

/// h2 says that its fence stands, so late.
fn activate(machine: &mut ServerMachine, millis: u64) -> Seen {
    let fence = FenceReport::default();
    say_at(machine, at(millis), "h2", 2, AgentMessage::Activated { replication: DB, epochs: SECOND, fence })
}

fn record(machine: &ServerMachine) -> &ReplicationRecord {
    &machine.state().replications[&DB]
}

#[test]
fn the_successor_takes_over_from_an_agent_that_is_well_and_nobody_is_damped() {
    let mut machine = quiet(state(db()));
    let (said, refusal) = drill(&mut machine, false);
    assert_eq!((refusal, said.events()), (None, vec![EventCode::DrillStarted]));
    assert_eq!(record(&machine).holder.as_ref().map(|h| h.agent.clone()), Some(name("h2")));
    assert_eq!(record(&machine).unproven.len(), 2, "h1 is not believed to be quiet");
    let takeover = &machine.state().takeovers[&(DB, 2)];
    assert_eq!(takeover.evidence, Evidence::Drill { by: "anna".into(), hand_back: false });
    assert!(!machine.is_damped(&name("h1")) && machine.state().agents[&name("h1")].penalty == Default::default());
    assert_eq!(takeover.contradictions(1 << 20), []);

    let passed = activate(&mut machine, 430).events();
    assert!(passed.contains(&EventCode::DrillPassed), "{passed:?}");
}

#[test]
fn a_drill_that_takes_longer_than_the_goal_has_failed() {
    let mut machine = quiet(state(db()));
    drill(&mut machine, false);
    let late = activate(&mut machine, 2531).events();
    assert!(late.contains(&EventCode::DrillFailed) && !late.contains(&EventCode::DrillPassed), "{late:?}");
}

#[test]
fn the_work_goes_back_if_that_was_wanted() {
    for hand_back in [false, true] {
        let mut machine = quiet(state(db()));
        drill(&mut machine, hand_back);
        activate(&mut machine, 40);
        say_at(&mut machine, at(50), "h1", 1, AgentMessage::Drained { replication: DB, epochs: FIRST });
        say_at(&mut machine, at(60), "h1", 1, well(&["h2"]));
        say_at(&mut machine, at(60), "h2", 2, well(&["h1"]));
        let handover = record(&machine).handover.clone();
        assert_eq!(handover.and_then(|h| h.to), hand_back.then(|| name("h1")));
    }
}

#[test]
fn a_drill_is_refused_while_anything_else_is_going_on() {
    let mut waits = db();
    waits.unproven.push(held_by("h3").1);
    waits.unproven[1].epoch = Epoch(0);
    let handover = Some(Handover { to: None, by: "anna".into(), started_at: at(0).wall });
    let cases = [
        ("not proven quiet", waits),
        ("handing-over", ReplicationRecord { handover, ..db() }),
        ("the disk is gone", ReplicationRecord { quarantine: Some("the disk is gone".into()), ..db() }),
        ("not settled", ReplicationRecord { holder: None, unproven: Vec::new(), ..db() }),
        ("is paused", ReplicationRecord { intent: Intent::Paused, ..db() }),
    ];
    for (reason, record) in cases {
        let mut machine = quiet(state(record));
        let before = machine.state().replications[&DB].epochs;
        let refusal = drill(&mut machine, false).1.expect(reason);
        let text = format!("{} {:?}", refusal.error, refusal.cause);
        assert!(text.contains(reason) && refusal.hint.is_some(), "{reason}: {text}");
        assert_eq!(machine.state().replications[&DB].epochs, before, "{reason}");
    }
}

#[test]
fn a_drill_is_refused_without_a_successor_and_while_another_is_in_progress() {
    let mut alone = server(state(db()));
    connect(&mut alone, "h1", process("h1"), 1, 0);
    say_at(&mut alone, at(20), "h1", 1, well(&[]));
    let refusal = drill(&mut alone, false).1.expect("a refusal");
    assert!(refusal.cause.is_some_and(|cause| cause.contains("h2: it is not connected")));

    let mut two = state(db());
    let mut other = ReplicationRecord { id: OTHERS, name: ReplicationName::new("other").unwrap(), ..db() };
    other.holder = other.holder.map(|holder| tanist_model::replication::Holder { activated_at: None, ..holder });
    two.replications.insert(OTHERS, other);
    let refusal = drill(&mut quiet(two), false).1.expect("a refusal");
    assert!(refusal.cause.is_some_and(|cause| cause.contains("a takeover of other is in progress")));
}
