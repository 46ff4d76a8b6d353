//! One process on several connections, direct and carried: the later one counts, and what was known of the process stays known.

use tanist_model::event::EventCode;
use tanist_model::id::Incarnation;
use tanist_model::takeover::PeerVerdict;
use tanist_protocol::message::AgentMessage;
use tanist_protocol::server::ServerMachine;

use crate::world::{DB, FIRST, Seen, at, connect_on, db, name, process, say, say_at, server, state, well};

fn carried(machine: &mut ServerMachine, connection: u64, count: u64, by: Option<&str>) -> Seen {
    connect_on(machine, ("h1", process("h1")), connection, count, by)
}

#[test]
fn the_later_of_two_connections_counts_whichever_comes_first() {
    let mut machine = server(state(db()));
    carried(&mut machine, 1, 1, None);
    assert!(carried(&mut machine, 2, 3, None).closes(1));
    let late = carried(&mut machine, 3, 2, Some("h2"));
    assert!(late.closes(3) && !late.closes(2) && late.events().is_empty());
    assert_eq!(machine.session(&name("h1")).unwrap().through, None);
}

/// The order to close it was lost with a commit that failed, and its agent believes that it is connected.
#[test]
fn a_connection_that_is_not_the_agents_is_closed_whenever_it_speaks() {
    let mut machine = server(state(db()));
    connect_on(&mut machine, ("h1", process("h1")), 7, 2, None);
    let late = connect_on(&mut machine, ("h1", process("h1")), 8, 1, None);
    assert!(late.closes(8) && !late.closes(7));
    let spoken = say(&mut machine, "h1", 8, well(&["h2"]));
    assert!(spoken.closes(8) && !spoken.closes(7));
    assert!(!say(&mut machine, "h1", 7, well(&["h2"])).closes(7));
}

#[test]
fn through_whom_an_agent_speaks_is_recorded_when_it_changes() {
    let mut machine = server(state(db()));
    let events = |seen: Seen| {
        let of_ways = |code: &EventCode| [EventCode::AgentRelayed, EventCode::AgentDirect].contains(code);
        seen.events().into_iter().filter(of_ways).collect::<Vec<_>>()
    };
    assert_eq!(events(carried(&mut machine, 1, 1, None)), []);
    assert_eq!(events(carried(&mut machine, 2, 2, Some("h2"))), [EventCode::AgentRelayed]);
    assert_eq!(events(carried(&mut machine, 3, 3, Some("h2"))), []);
    assert_eq!(events(carried(&mut machine, 4, 4, Some("h3"))), [EventCode::AgentRelayed]);
    assert_eq!(events(carried(&mut machine, 5, 5, None)), [EventCode::AgentDirect]);
}

/// Its reads stay true: an agent that changes its way is not passed over until it has looked again. And what it declined, it
/// declined.
#[test]
fn a_process_that_changes_its_way_stays_what_it_was() {
    let mut machine = server(state(db()));
    carried(&mut machine, 1, 1, None);
    say(&mut machine, "h1", 1, well(&[]));
    let unfit = AgentMessage::Unfit { replication: DB, epochs: FIRST, reason: "its path is gone".into() };
    say(&mut machine, "h1", 1, unfit);
    carried(&mut machine, 2, 2, Some("h2"));
    let session = machine.session(&name("h1")).unwrap();
    assert!(!session.canaries.is_empty() && !session.declined.is_empty());
    // Another process has neither.
    connect_on(&mut machine, ("h1", Incarnation(99)), 3, 1, None);
    let session = machine.session(&name("h1")).unwrap();
    assert!(session.canaries.is_empty() && session.declined.is_empty());
}

/// Pings of an agent that was stopped fail. When it is heard again, that says nothing of those who sent them: a fault in that moment still
/// finds a successor.
#[test]
fn pings_that_failed_before_a_peer_was_heard_again_hold_up_nobody() {
    let unreached = || {
        let AgentMessage::Heartbeat(mut beat) = well(&["h1"]) else { unreachable!("a beat") };
        beat.peers[0].verdict = PeerVerdict::Unreachable;
        AgentMessage::Heartbeat(beat)
    };
    let mut machine = server(state(db()));
    carried(&mut machine, 1, 1, None);
    connect_on(&mut machine, ("h2", process("h2")), 2, 1, None);
    say_at(&mut machine, at(60_000), "h2", 2, unreached());
    say_at(&mut machine, at(60_100), "h1", 1, well(&["h2"]));
    let of_h2 = |machine: &ServerMachine| machine.candidates(&db())[1].passed_over.clone();
    assert_eq!(of_h2(&machine), None);
    say_at(&mut machine, at(60_200), "h2", 2, unreached());
    assert!(of_h2(&machine).is_some_and(|why| why.contains("does not reach its peer h1")), "a ping of now counts");
}
