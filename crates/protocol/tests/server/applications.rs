//! What is on record of a host application: before the order goes out, until the thaw is heard of, and while it is not.

use std::time::Duration;

use tanist_model::application::{ApplicationReport, Quiescence, ThawCause, ThawReport};
use tanist_model::change::Change;
use tanist_model::event::EventCode;
use tanist_model::id::{RunId, SnapshotId};
use tanist_model::policy::Policy;
use tanist_model::replication::{ReplicationRecord, Side};
use tanist_model::time::{Monotonic, Now};
use tanist_protocol::message::{AgentMessage, RunOrder, ServerMessage};
use tanist_protocol::server::{Command, Effect, Input, ServerMachine};

use crate::world::{
    DB, Seen, VOLUMES, at, connect, db, name, process, say, say_at, seen, server, state, vouched_dead, well,
};

const LIMIT: Duration = Duration::from_secs(30);

fn quiescing() -> ReplicationRecord {
    let application = "orders-db".parse().ok();
    ReplicationRecord { policy: Policy { application, ..Policy::default() }, ..db() }
}

fn has_scripts(problem: Option<&str>) -> AgentMessage {
    let limit_ms = u64::try_from(LIMIT.as_millis()).unwrap();
    let report =
        ApplicationReport { name: "orders-db".parse().unwrap(), limit_ms, problem: problem.map(ToOwned::to_owned) };
    AgentMessage::Inventory { storage: Vec::new(), volumes: Vec::new(), applications: vec![report] }
}

/// Both agents are there; h1 holds, and has the scripts.
fn both() -> ServerMachine {
    let mut machine = server(state(quiescing()));
    for (agent, peer, connection) in [("h1", "h2", 1), ("h2", "h1", 2)] {
        connect(&mut machine, agent, process(agent), connection, 3);
        say(&mut machine, agent, connection, well(&[peer]));
    }
    say(&mut machine, "h1", 1, has_scripts(None));
    machine
}

fn sync(machine: &mut ServerMachine) -> Seen {
    let command = Box::new(Command::Sync { name: "db".parse().unwrap(), full: false });
    let id = tanist_model::id::CommandId(9);
    seen(machine.handle(at(30), Input::Command { id, actor: "ann".into(), command }))
}

fn on_record(machine: &ServerMachine) -> Vec<Quiescence> {
    machine.state().replications[&DB].quiesced.clone()
}

fn later(seconds: u64) -> Now {
    let now = at(30);
    Now {
        monotonic: Monotonic(now.monotonic.0 + seconds * 1_000_000),
        wall: now.wall.plus(Duration::from_secs(seconds)),
    }
}

fn thawed(attempt: SnapshotId, cause: ThawCause, failure: Option<&str>) -> AgentMessage {
    let (application, quiesced_ms) = ("orders-db".parse().unwrap(), Some(120));
    let failure = failure.map(ToOwned::to_owned);
    AgentMessage::Thawed(Box::new(ThawReport { replication: DB, attempt, application, cause, quiesced_ms, failure }))
}

#[test]
fn it_is_on_record_before_the_order_goes_out() {
    let mut machine = both();
    let output = sync(&mut machine).0;
    let intends = |change: &Change| matches!(change, Change::PutReplication(record) if !record.quiesced.is_empty());
    let decisions = output.decisions();
    let committed = decisions.iter().position(|d| d.group.as_ref().is_some_and(|g| g.changes.iter().any(intends)));
    let is_order = |effect: &Effect| {
        let Effect::Send { message: ServerMessage::OpenRun { order, .. }, .. } = effect else { return false };
        matches!(&**order, RunOrder::Prepare { application: Some(_), .. })
    };
    let ordered = decisions.iter().position(|d| d.after.iter().any(is_order));
    assert!(committed.unwrap() < ordered.unwrap(), "{decisions:?}");
    let [open] = &on_record(&machine)[..] else { panic!("one is on record") };
    assert_eq!((open.agent.as_str(), open.limit(), open.alarmed), ("h1", LIMIT, false));
}

#[test]
fn it_leaves_the_record_by_the_agents_word_and_the_word_is_noted() {
    for (cause, code) in
        [(ThawCause::SnapshotDone, EventCode::ApplicationThawed), (ThawCause::AgentGone, EventCode::ThawedByGuard)]
    {
        let mut machine = both();
        sync(&mut machine);
        let attempt = on_record(&machine)[0].attempt;
        // Of another agent's attempt nobody says anything.
        say(&mut machine, "h2", 2, thawed(attempt, cause, None));
        assert_eq!(on_record(&machine).len(), 1);
        let seen = say(&mut machine, "h1", 1, thawed(attempt, cause, None));
        assert_eq!(seen.events(), [code]);
        let noted = ServerMessage::ThawNoted { term: machine.state().term, attempt, thawed: true };
        assert!(seen.effects().iter().any(|e| matches!(e, Effect::Send { message, .. } if *message == noted)));
        assert!(on_record(&machine).is_empty());
        // Said again because the note was lost: noted again, and told nobody.
        let again = say(&mut machine, "h1", 1, thawed(attempt, cause, None));
        assert!(again.events().is_empty() && again.effects().len() == 1, "{:?}", again.0);
    }
}

#[test]
fn an_after_that_failed_is_an_alarm_once_and_ends_with_the_success() {
    let mut machine = both();
    sync(&mut machine);
    let attempt = on_record(&machine)[0].attempt;
    let failed = || thawed(attempt, ThawCause::SnapshotDone, Some("its after script ended with status 1"));
    assert_eq!(say(&mut machine, "h1", 1, failed()).events(), [EventCode::MayBeQuiesced]);
    assert!(say(&mut machine, "h1", 1, failed()).events().is_empty());
    assert!(on_record(&machine)[0].alarmed);
    let seen = say(&mut machine, "h1", 1, thawed(attempt, ThawCause::FoundLater, None));
    assert_eq!(seen.events(), [EventCode::ThawedByGuard]);
    assert!(on_record(&machine).is_empty());
}

#[test]
fn what_is_not_heard_of_is_asked_for_and_becomes_an_alarm_once() {
    let mut machine = both();
    sync(&mut machine);
    let attempt = on_record(&machine)[0].attempt;
    let asks = |seen: &Seen| {
        let asked = |e: &&Effect| matches!(e, Effect::Send { message: ServerMessage::AskThawed { attempt: of, .. }, .. } if *of == attempt);
        seen.effects().iter().any(asked)
    };
    let seen = say_at(&mut machine, later(20), "h1", 1, well(&["h2"]));
    assert!(!asks(&seen) && seen.events().iter().all(|code| *code != EventCode::MayBeQuiesced), "{:?}", seen.0);
    let seen = say_at(&mut machine, later(61), "h1", 1, well(&["h2"]));
    assert!(asks(&seen) && !seen.events().contains(&EventCode::MayBeQuiesced), "{:?}", seen.0);
    let seen = say_at(&mut machine, later(66), "h1", 1, well(&["h2"]));
    assert!(seen.events().contains(&EventCode::MayBeQuiesced));
    let seen = say_at(&mut machine, later(67), "h1", 1, well(&["h2"]));
    assert!(asks(&seen) && !seen.events().contains(&EventCode::MayBeQuiesced));
    let seen = say_at(&mut machine, later(68), "h1", 1, thawed(attempt, ThawCause::NothingFound, None));
    assert!(seen.events().contains(&EventCode::ApplicationThawed), "what was an alarm ends with a word");
    // The run still wants its snapshot: the order goes out anew.
    assert!(on_record(&machine).iter().all(|open| !open.alarmed && open.since == later(68).wall));
}

#[test]
fn only_who_can_quiesce_may_read_a_source_without_a_snapshot() {
    let mut machine = both();
    let why = |machine: &ServerMachine, agent: &str, side| {
        machine.why_ineligible_for(&machine.state().replications[&DB], &name(agent), side)
    };
    assert_eq!((why(&machine, "h1", Side::Source), why(&machine, "h2", Side::Target)), (None, None));
    assert!(why(&machine, "h2", Side::Source).unwrap().contains("no scripts for the host application orders-db"));
    say(&mut machine, "h2", 2, has_scripts(Some("/x: gone")));
    assert!(why(&machine, "h2", Side::Source).unwrap().ends_with("orders-db: /x: gone"));

    sync(&mut machine);
    let mut state = machine.state().clone();
    let run = state.runs.values_mut().next().unwrap();
    let (id, uid, mode) = (run.attempt, "s".into(), tanist_model::policy::SourceMode::Snapshot);
    let (size_bytes, application) = (1 << 20, "orders-db".parse().ok());
    run.snapshot = Some(tanist_model::run::BoundSnapshot { id, uid, mode, size_bytes, application });
    machine.reload(state).unwrap();
    assert_eq!(why(&machine, "h2", Side::Source), None, "the snapshot is made: everybody can go on with it");
}

#[test]
fn an_operator_who_has_looked_ends_the_waiting() {
    let mut record = quiescing();
    record.quiesced = vec![Quiescence {
        application: "orders-db".parse().unwrap(),
        agent: name("h2"),
        incarnation: process("h2"),
        host: record.holder.clone().unwrap().host,
        run: RunId(1),
        attempt: SnapshotId(1),
        since: at(0).wall,
        limit_ms: 1000,
        failure: None,
        alarmed: true,
    }];
    let mut machine = server(state(record));
    connect(&mut machine, "h1", process("h1"), 1, 3);
    say(&mut machine, "h1", 1, well(&[]));
    let (id, command) = (tanist_model::id::CommandId(5), vouched_dead(&machine, "h2"));
    machine.handle(at(40), Input::Command { id, actor: "ann".into(), command });
    for second in 1..10 {
        machine.handle(later(second), Input::Tick);
    }
    assert!(on_record(&machine).is_empty(), "{VOLUMES:?}");
}
