//! Runs that are made by themselves: none lost, none doubled, one for whatever was slept through.

use tanist_model::api::SetPolicy;
use tanist_model::id::{CommandId, RunId};
use tanist_model::policy::Policy;
use tanist_model::replication::{Agenda, Intent, ReplicationRecord};
use tanist_model::run::{RunRecord, RunState, RunTrigger};
use tanist_model::time::{Now, Timestamp};
use tanist_protocol::message::{AgentMessage, RunFailureKind};
use tanist_protocol::server::{Command, Effect, Input, ServerMachine};

use crate::world::{DB, FIRST, at, connect, db, process, say_at, seen, server, state};

const HOUR: u64 = 3600;

/// So many seconds after the beginning.
fn second(seconds: u64) -> Now {
    at(seconds * 1000)
}

fn scheduled(schedule: &str) -> ReplicationRecord {
    let policy = Policy { schedule: Some(schedule.parse().unwrap()), ..Policy::default() };
    ReplicationRecord { policy, agenda: Agenda::starting(at(0).wall, false), ..db() }
}

fn tick(machine: &mut ServerMachine, now: Now) {
    machine.handle(now, Input::Tick);
}

fn current(machine: &ServerMachine) -> Option<RunRecord> {
    machine.state().current_run(&machine.state().replications[&DB]).cloned()
}

fn due(machine: &ServerMachine) -> Option<Timestamp> {
    match current(machine)?.trigger {
        RunTrigger::Schedule(due) => Some(due),
        other => panic!("{other:?}"),
    }
}

/// As if the run had been published.
fn finish(machine: &mut ServerMachine) -> ServerMachine {
    let mut state = machine.state().clone();
    let record = state.replications.get_mut(&DB).unwrap();
    let run = record.run.take().expect("a run");
    state.runs.get_mut(&(DB, run)).unwrap().state = RunState::Published;
    server(state)
}

#[test]
fn a_run_is_asked_for_when_it_is_due_and_once() {
    let mut machine = server(state(scheduled("every 1h")));
    tick(&mut machine, second(HOUR - 1));
    assert!(current(&machine).is_none());
    assert_eq!(machine.next_run_at(&machine.state().replications[&DB]), Some(second(HOUR).wall));
    tick(&mut machine, second(HOUR));
    assert_eq!(due(&machine), Some(second(HOUR).wall));
    // Published at once: the same due time does not count again, not for another server either.
    let mut machine = finish(&mut machine);
    tick(&mut machine, second(HOUR));
    tick(&mut machine, second(2 * HOUR - 1));
    assert!(current(&machine).is_none());
    tick(&mut machine, second(2 * HOUR));
    assert_eq!(due(&machine), Some(second(2 * HOUR).wall));
}

#[test]
fn one_run_catches_up_on_a_night() {
    let mut machine = server(state(scheduled("every 1h")));
    tick(&mut machine, second(9 * HOUR + 60));
    assert_eq!(due(&machine), Some(second(9 * HOUR).wall));
    let mut machine = finish(&mut machine);
    tick(&mut machine, second(9 * HOUR + 61));
    assert!(current(&machine).is_none());
}

#[test]
fn a_long_run_takes_its_turn_and_the_next_follows_at_once() {
    let mut machine = server(state(scheduled("every 1h")));
    tick(&mut machine, second(HOUR));
    let first = current(&machine).unwrap().id;
    tick(&mut machine, second(3 * HOUR + 5));
    assert_eq!(current(&machine).unwrap().id, first);
    let mut machine = finish(&mut machine);
    tick(&mut machine, second(3 * HOUR + 6));
    assert_eq!(due(&machine), Some(second(3 * HOUR).wall));
}

#[test]
fn a_pause_is_caught_up_on_when_it_ends() {
    let mut paused = scheduled("every 1h");
    paused.intent = Intent::Paused;
    let mut machine = server(state(paused));
    tick(&mut machine, second(5 * HOUR));
    assert!(current(&machine).is_none());
    assert_eq!(machine.next_run_at(&machine.state().replications[&DB]), None);
    command(&mut machine, second(5 * HOUR + 1), 1, Command::Resume { name: db().name });
    assert_eq!(due(&machine), Some(second(5 * HOUR).wall));
}

#[test]
fn a_clock_that_was_wrong_does_not_keep_a_schedule_still() {
    let mut ahead = scheduled("every 1h");
    ahead.agenda.last_due = Some(second(1000 * HOUR).wall);
    let mut machine = server(state(ahead));
    tick(&mut machine, second(HOUR));
    tick(&mut machine, second(2 * HOUR));
    assert_eq!(due(&machine), Some(second(2 * HOUR).wall));

    // A clock set back by a moment doubles nothing.
    let mut back = scheduled("every 1h");
    back.agenda.last_due = Some(second(HOUR).wall);
    let mut machine = server(state(back));
    tick(&mut machine, at(HOUR * 1000 - 5));
    tick(&mut machine, second(HOUR));
    assert!(current(&machine).is_none());
}

fn command(machine: &mut ServerMachine, now: Now, id: u128, command: Command) -> bool {
    let input = Input::Command { id: CommandId(id), actor: "anna".into(), command: Box::new(command) };
    let output = seen(machine.handle(now, input));
    let answer = output.effects().into_iter().find_map(|effect| match effect {
        Effect::Answer { answer, .. } => Some(answer.is_ok()),
        _ => None,
    });
    answer.expect("an answer")
}

#[test]
fn an_abandoned_run_is_tried_again_ever_later_and_an_aborted_one_is_not() {
    let mut machine = server(state(scheduled("every 24h")));
    connect(&mut machine, "h1", process("h1"), 1, 0);
    tick(&mut machine, second(24 * HOUR));
    let mut now = 24 * HOUR;
    for failures in 1..=3_u32 {
        let run = current(&machine).expect("a run");
        fail(&mut machine, second(now), run.id);
        let record = &machine.state().replications[&DB];
        let retry_at = record.agenda.retry_at.expect("another attempt");
        assert_eq!((record.run, record.agenda.failures), (None, failures));
        assert_eq!(machine.next_run_at(record), Some(retry_at));
        now += 3600;
        tick(&mut machine, second(now));
        assert_eq!(current(&machine).unwrap().trigger, RunTrigger::Retry(failures));
    }
    assert!(command(&mut machine, second(now + 1), 1, Command::Abort { name: db().name }));
    tick(&mut machine, second(now + 4000));
    assert!(current(&machine).is_none());
    assert_eq!(machine.state().replications[&DB].agenda.failures, 0);
}

fn fail(machine: &mut ServerMachine, now: Now, run: RunId) {
    let (kind, reason) = (RunFailureKind::SourceChanged, "it was written".to_owned());
    say_at(machine, now, "h1", 1, AgentMessage::RunFailed { replication: DB, epochs: FIRST, run, kind, reason });
}

fn set(policy: Policy, expected: Option<Policy>) -> Command {
    Command::SetPolicy { name: db().name, change: Box::new(SetPolicy { policy, expected }) }
}

#[test]
fn a_policy_is_changed_by_who_knows_it() {
    let mut machine = server(state(db()));
    let wanted = scheduled("every 1h").policy;
    let stale = Policy { rpo_seconds: Some(9), ..Policy::default() };
    assert!(!command(&mut machine, second(5), 1, set(wanted.clone(), Some(stale))));
    assert!(!command(&mut machine, second(5), 2, set(Policy { rpo_seconds: Some(0), ..wanted.clone() }, None)));
    assert!(command(&mut machine, second(5), 3, set(wanted.clone(), Some(Policy::default()))));
    let record = &machine.state().replications[&DB];
    assert_eq!(record.policy, wanted);
    // It has a recovery point: the first interval passes first.
    assert_eq!(machine.next_run_at(record), Some(second(HOUR + 5).wall));
    tick(&mut machine, at((HOUR + 5) * 1000 - 1));
    assert!(current(&machine).is_none());
    tick(&mut machine, second(HOUR + 5));
    assert!(current(&machine).is_some());
}
