//! Planned changes of the acting agent, and what happens when the wanted successor is not well at that moment.

use tanist_model::event::EventCode;
use tanist_model::id::{AgentName, Epoch, Epochs};
use tanist_model::replication::Handover;
use tanist_model::takeover::Evidence;
use tanist_protocol::message::AgentMessage;
use tanist_protocol::server::{ConnectionId, Input, ServerMachine};

use crate::world::{DB, FIRST, at, connect, connect_at, db, name, process, say_at, server, state, well};

const SECOND: Epochs = Epochs { source: Epoch(2), target: Epoch(2) };

/// h1 has handed over to h2, which lost its connection a moment before.
fn drained_while_the_successor_is_away() -> ServerMachine {
    let mut leaving = db();
    leaving.handover = Some(Handover { to: Some(name("h2")), by: "admin".into(), started_at: at(10).wall });
    let mut machine = server(state(leaving));
    connect(&mut machine, "h1", process("h1"), 1, 0);
    connect(&mut machine, "h2", process("h2"), 2, 0);
    say_at(&mut machine, at(20), "h2", 2, well(&["h1"]));
    say_at(&mut machine, at(20), "h1", 1, well(&["h2"]));
    let reason = "reset by peer".to_owned();
    machine.handle(at(30), Input::Disconnected { agent: name("h2"), connection: ConnectionId(2), reason });
    say_at(&mut machine, at(40), "h1", 1, AgentMessage::Drained { replication: DB, epochs: FIRST });
    machine
}

/// h1 stays well, every quarter of a second.
fn pass(machine: &mut ServerMachine, quarters: std::ops::Range<u64>) -> Vec<EventCode> {
    let moments = quarters.map(|quarter| at(quarter * 250));
    moments
        .flat_map(|now| {
            let said = say_at(machine, now, "h1", 1, well(&["h2"])).events();
            let ticked = crate::world::seen(machine.handle(now, Input::Tick)).events();
            [said, ticked].concat()
        })
        .collect()
}

fn holder(machine: &ServerMachine) -> Option<AgentName> {
    machine.state().replications[&DB].holder.as_ref().map(|holder| holder.agent.clone())
}

#[test]
fn a_role_does_not_go_back_at_once_to_the_agent_that_handed_it_over() {
    let mut machine = drained_while_the_successor_is_away();
    let said = pass(&mut machine, 1..12);
    assert_eq!(holder(&machine), None, "h2 is waited for");
    assert!(!said.contains(&EventCode::Exhausted), "h1 could act: {said:?}");
    connect_at(&mut machine, at(3000), ("h2", process("h2")), 3, 0);
    say_at(&mut machine, at(3010), "h2", 3, well(&["h1"]));
    assert_eq!(holder(&machine), Some(name("h2")));
    assert!(matches!(machine.state().takeovers[&(DB, 2)].evidence, Evidence::Handover { .. }));
}

#[test]
fn a_role_goes_back_when_nobody_else_comes() {
    let mut machine = drained_while_the_successor_is_away();
    pass(&mut machine, 1..19);
    assert_eq!(holder(&machine), None);
    pass(&mut machine, 19..24);
    assert_eq!(holder(&machine), Some(name("h1")), "a role that nobody holds helps nobody");
    assert_eq!(machine.state().replications[&DB].epochs, SECOND, "what has drained is final");
}

/// It was stopped to be updated, and is back: what it left is not held against the process that comes after it.
#[test]
fn a_role_goes_back_at_once_to_an_agent_that_was_started_anew() {
    let mut machine = drained_while_the_successor_is_away();
    assert_eq!(holder(&machine), None);
    let anew = process("h4");
    connect_at(&mut machine, at(500), ("h1", anew), 4, 0);
    say_at(&mut machine, at(510), "h1", 4, well(&["h2"]));
    assert_eq!(holder(&machine), Some(name("h1")));
}

#[test]
fn a_third_agent_goes_before_the_one_that_hands_over() {
    let mut leaving = db();
    let all = ["h1", "h2", "h3"];
    (leaving.source, leaving.target) =
        (crate::world::side(crate::world::VOLUMES[0], &all), crate::world::side(crate::world::VOLUMES[1], &all));
    leaving.handover = Some(Handover { to: Some(name("h2")), by: "admin".into(), started_at: at(10).wall });
    let mut machine = server(state(leaving));
    connect(&mut machine, "h1", process("h1"), 1, 0);
    connect(&mut machine, "h3", process("h3"), 3, 0);
    say_at(&mut machine, at(20), "h3", 3, well(&["h1", "h2"]));
    say_at(&mut machine, at(20), "h1", 1, well(&["h2", "h3"]));
    say_at(&mut machine, at(40), "h1", 1, AgentMessage::Drained { replication: DB, epochs: FIRST });
    assert_eq!(holder(&machine), Some(name("h3")));
}
