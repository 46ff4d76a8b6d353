//! Drills that make themselves: once for what came due, never when it would hurt, and what they show is kept, judged and missed.

use tanist_model::drill::{DrillLog, DrillPolicy, DrillResult, Milestone};
use tanist_model::event::EventCode;
use tanist_model::id::{CommandId, Epoch, Epochs};
use tanist_model::replication::{Agenda, Intent, ReplicationRecord};
use tanist_model::state::State;
use tanist_model::takeover::Evidence;
use tanist_model::time::Now;
use tanist_protocol::message::{AgentMessage, FenceReport};
use tanist_protocol::server::{Command, Input, ServerMachine};

use crate::care::{RUN, copying};
use crate::world::{DB, FIRST, at, connect_at, db, held_by, name, process, say_at, seen, server_at, state, well};

const HOUR: u64 = 3_600_000;
const SECOND: Epochs = Epochs { source: Epoch(2), target: Epoch(2) };

/// It is drilled every hour since the beginning.
fn hourly() -> ReplicationRecord {
    let mut record = db();
    record.policy.drill = DrillPolicy { schedule: "every 1h".parse().ok(), limit_ms: None, hand_back: true };
    record.drills = DrillLog::default().starting(at(0).wall);
    record
}

/// A server that begins so late, and both agents are well from then on.
fn from(millis: u64, state: State) -> ServerMachine {
    let mut machine = server_at(state, at(millis));
    for (agent, connection) in [("h1", 1), ("h2", 2)] {
        connect_at(&mut machine, at(millis), (agent, process(agent)), connection, 0);
    }
    tick(&mut machine, millis);
    machine
}

/// Time passes, and the agents say that they are well; what is told of drills. (That they were silent for an hour is another matter.)
fn tick(machine: &mut ServerMachine, millis: u64) -> Vec<EventCode> {
    let mut events = beat(machine, at(millis));
    events.extend(seen(machine.handle(at(millis), Input::Tick)).events());
    events.retain(|code| ("T424"..="T428").contains(&code.code()));
    events
}

fn beat(machine: &mut ServerMachine, now: Now) -> Vec<EventCode> {
    let mut events = say_at(machine, now, "h2", 2, well(&["h1"])).events();
    events.extend(say_at(machine, now, "h1", 1, well(&["h2"])).events());
    events
}

fn record(machine: &ServerMachine) -> &ReplicationRecord {
    &machine.state().replications[&DB]
}

/// The successor is ready so late, and its predecessor has drained.
fn pass(machine: &mut ServerMachine, millis: u64) -> Vec<EventCode> {
    let fence = FenceReport::default();
    let ready = AgentMessage::Activated { replication: DB, epochs: SECOND, fence };
    let events = say_at(machine, at(millis), "h2", 2, ready).events();
    say_at(machine, at(millis), "h1", 1, AgentMessage::Drained { replication: DB, epochs: FIRST });
    events
}

#[test]
fn a_drill_is_made_when_it_is_due_and_once() {
    let mut machine = from(10, state(hourly()));
    assert_eq!(machine.next_drill_at(record(&machine)), Some(at(HOUR).wall));
    assert_eq!((tick(&mut machine, HOUR - 1), record(&machine).epochs), (vec![], FIRST));
    assert!(tick(&mut machine, HOUR).contains(&EventCode::DrillStarted));
    let by_schedule = Evidence::Drill { by: "schedule".into(), hand_back: true };
    assert_eq!(machine.state().takeovers[&(DB, 2)].evidence, by_schedule);
    assert!(pass(&mut machine, HOUR + 410).contains(&EventCode::DrillPassed));
    let last = record(&machine).drills.last().expect("a result");
    assert_eq!(
        (last.epoch, last.took_ms, last.until, last.is_good()),
        (Epoch(2), Some(410), Milestone::Activation, true)
    );
    assert_eq!(machine.next_drill_at(record(&machine)), Some(at(2 * HOUR).wall));
    let epochs = record(&machine).epochs;
    tick(&mut machine, HOUR + 500);
    tick(&mut machine, 2 * HOUR - 1);
    assert_eq!(record(&machine).epochs, epochs);
    assert!(record(&machine).handover.is_some() || record(&machine).holder.is_none(), "and the work goes back");
}

#[test]
fn one_drill_makes_up_for_a_night_in_which_no_server_was_there() {
    let mut machine = from(9 * HOUR + 500, state(hourly()));
    assert_eq!(record(&machine).epochs, SECOND, "as soon as the agents are back");
    pass(&mut machine, 9 * HOUR + 600);
    assert_eq!(record(&machine).drills.last_due, at(9 * HOUR).wall);
    assert_eq!(machine.next_drill_at(record(&machine)), Some(at(10 * HOUR).wall));
    assert!(!tick(&mut machine, 9 * HOUR + 700).contains(&EventCode::DrillStarted));
}

#[test]
fn it_waits_while_it_would_hurt_says_so_once_and_is_made_afterwards() {
    let mut awaited = hourly();
    awaited.unproven.push(held_by("h3").1);
    awaited.unproven[1].epoch = Epoch(0);
    let mut late = hourly();
    late.policy.rpo_seconds = Some(60);
    let first = ReplicationRecord { published: None, ..hourly() };
    let failing = ReplicationRecord { agenda: Agenda { failures: 1, ..Agenda::default() }, ..hourly() };
    let cases = [
        ("not proven quiet", awaited),
        ("older than its RPO", late),
        ("no recovery point yet", first),
        ("was abandoned", failing),
    ];
    for (reason, record_then) in cases {
        let mut machine = from(10, state(record_then));
        assert!(!tick(&mut machine, HOUR).contains(&EventCode::DrillStarted), "{reason}");
        let waits = machine.drill_waits_for(record(&machine)).expect(reason);
        assert!(waits.contains(reason), "{waits}");
        assert!(!tick(&mut machine, HOUR + 59_999).contains(&EventCode::DrillPostponed), "{reason}");
        assert_eq!(tick(&mut machine, HOUR + 60_000), [EventCode::DrillPostponed], "{reason}");
        assert_eq!(tick(&mut machine, HOUR + 60_250), [], "{reason}");
        assert_eq!(record(&machine).epochs, FIRST);

        let mut state = machine.state().clone();
        let mended = state.replications.get_mut(&DB).unwrap();
        (mended.unproven, mended.published) = (hourly().unproven, hourly().published);
        (mended.policy.rpo_seconds, mended.agenda) = (None, Agenda::default());
        let machine = from(HOUR + 70_000, state);
        assert_eq!((record(&machine).epochs, record(&machine).drills.postponed), (SECOND, None), "{reason}");
    }
}

#[test]
fn without_another_agent_or_with_one_that_failed_lately_there_is_none() {
    let mut machine = server_at(state(hourly()), at(10));
    connect_at(&mut machine, at(10), ("h1", process("h1")), 1, 0);
    say_at(&mut machine, at(HOUR), "h1", 1, well(&[]));
    machine.handle(at(HOUR), Input::Tick);
    assert_eq!(record(&machine).epochs, FIRST);
    assert!(machine.drill_waits_for(record(&machine)).is_some_and(|why| why.contains("h2: it is not connected")));

    let mut damped = state(hourly());
    let h2 = damped.agents.get_mut(&name("h2")).unwrap();
    for _ in 0..5 {
        h2.penalty = h2.penalty.with_failure(at(HOUR).wall);
    }
    let machine = from(HOUR, damped);
    assert_eq!(record(&machine).epochs, FIRST);
    assert!(machine.drill_waits_for(record(&machine)).is_some_and(|why| why.contains("h2, which would take over")));
}

#[test]
fn a_proof_that_is_too_old_is_an_alarm_until_a_drill_is_good() {
    let mut paused = hourly();
    paused.intent = Intent::Paused;
    let mut machine = from(10, state(paused));
    assert_eq!(tick(&mut machine, 2 * HOUR - 1), []);
    assert_eq!(tick(&mut machine, 2 * HOUR), [EventCode::DrillOverdue]);
    assert_eq!((tick(&mut machine, 3 * HOUR), record(&machine).drills.overdue), (vec![], true));
    let resume = Box::new(Command::Resume { name: db().name });
    machine.handle(at(3 * HOUR), Input::Command { id: CommandId(3), actor: "anna".into(), command: resume });
    tick(&mut machine, 3 * HOUR + 10);
    assert!(pass(&mut machine, 3 * HOUR + 300).contains(&EventCode::DrillPassed));
    assert!(!record(&machine).drills.overdue);
}

#[test]
fn a_limit_of_the_operators_and_the_usual_figure_judge_a_drill() {
    let good = |epoch| DrillResult {
        epoch: Epoch(epoch),
        at: at(0).wall,
        by: "schedule".into(),
        to: name("h2"),
        until: Milestone::Activation,
        took_ms: Some(100),
        fault: None,
    };
    let limited = |limit_ms, earlier: u32| {
        let mut record = hourly();
        record.policy.drill.limit_ms = limit_ms;
        record.drills = (100..100 + earlier).fold(record.drills, |log, epoch| log.with(good(epoch)));
        let mut machine = from(HOUR, state(record));
        let events = pass(&mut machine, HOUR + 400);
        (events.contains(&EventCode::DrillPassed), events.contains(&EventCode::DrillFailed))
    };
    assert_eq!(limited(None, 0), (true, false));
    assert_eq!(limited(Some(399), 0), (false, true));
    assert_eq!(limited(Some(400), 0), (true, false));
    assert_eq!(limited(None, 3), (false, true), "four times the usual");
}

#[test]
fn a_successor_that_never_writes_has_failed_after_a_minute_and_nobody_waits_on() {
    let mut busy = state(ReplicationRecord { run: Some(RUN), ..hourly() });
    busy.runs.insert((DB, RUN), copying());
    let mut machine = from(HOUR, busy);
    assert_eq!(record(&machine).epochs, SECOND, "a run that copies is no obstacle");
    assert!(!pass(&mut machine, HOUR + 300).contains(&EventCode::DrillPassed), "it has not written yet");
    tick(&mut machine, HOUR + 59_900);
    assert_eq!(record(&machine).drills.last(), None);
    assert!(tick(&mut machine, HOUR + 60_000).contains(&EventCode::DrillFailed));
    assert!(record(&machine).drills.last().and_then(|last| last.fault.clone()).is_some_and(|f| f.contains("60 s")));
}
