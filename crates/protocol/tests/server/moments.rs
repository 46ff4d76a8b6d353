//! The server's machine in known states: what it says and commits where an agent lies, leaves, or comes twice. The simulator walks
//! through these moments too, and cannot tell one of them from another; here each has a name.

use tanist_model::api::RefusalCode;
use tanist_model::event::EventCode;
use tanist_model::id::{CommandId, Epoch, Incarnation, Nonce, RunId, Term};
use tanist_model::recovery_point::RecoveryPointPlace;
use tanist_model::replication::{Handover, Holder, Intent, ReplicationRecord, UnprovenEpoch};
use tanist_model::run::RunState;
use tanist_model::takeover::Evidence;
use tanist_protocol::message::{AgentMessage, FenceReport};
use tanist_protocol::server::{Command, ConnectionId, Effect, Input, ServerMachine};
use tanist_protocol::timers::Timers;

use crate::care::{RUN, copying};
use crate::world::{
    DB, FIRST, OTHERS, SIZE, Seen, VOLUMES, at, connect, db, held_by, name, process, say, say_at, seen, server, side,
    state, vouched_dead, well,
};

#[test]
fn an_agent_that_speaks_for_what_is_not_its_own_is_refused_and_recorded() {
    let mut machine = server(state(db()));
    connect(&mut machine, "h3", process("h3"), 3, 0);
    let request = |replication| AgentMessage::GrantRequest { replication, epochs: FIRST, nonce: Nonce(1) };
    let foreign = say(&mut machine, "h3", 3, request(DB));
    assert!(foreign.refuses(3));
    assert_eq!(foreign.events(), [EventCode::ConnectionRefused]);

    // Of one that does not exist any more it may not have heard; and that something ended may be said of any.
    connect(&mut machine, "h3", process("h3"), 4, 0);
    assert!(!say(&mut machine, "h3", 4, request(OTHERS)).closes(4));
    assert!(!say(&mut machine, "h3", 4, AgentMessage::Drained { replication: DB, epochs: FIRST }).closes(4));
    connect(&mut machine, "h2", process("h2"), 2, 0);
    assert!(!say(&mut machine, "h2", 2, request(DB)).closes(2));
}

#[test]
fn who_claims_a_newer_leader_is_refused_and_the_store_is_asked() {
    let mut machine = server(state(db()));
    let claimed = connect(&mut machine, "h1", process("h1"), 1, 99);
    assert!(claimed.refuses(1));
    // Each word waits for a commit, and the store refuses that if another server leads.
    assert!(claimed.0.decisions().iter().filter(|d| !d.after.is_empty()).all(|d| d.group.is_some()));
    assert!(machine.session(&name("h1")).is_none());

    connect(&mut machine, "h1", process("h1"), 2, 3);
    let newer = AgentMessage::NewerEpochSeen { replication: DB, epochs: FIRST, term: Term(u64::MAX) };
    assert!(say(&mut machine, "h1", 2, newer).refuses(2));
}

#[test]
fn two_processes_of_one_agent_are_told_apart() {
    let mut machine = server(state(db()));
    connect(&mut machine, "h2", process("h2"), 1, 0);
    let same = connect(&mut machine, "h2", process("h2"), 2, 0);
    assert!(same.closes(1) && !same.refuses(1), "a process that connects anew is no other one");
    assert!(!same.events().contains(&EventCode::AgentContested));
    let other = connect(&mut machine, "h2", Incarnation(77), 3, 0);
    assert!(other.refuses(2) && !other.closes(3));
    assert!(other.events().contains(&EventCode::AgentContested));
}

/// Asks for it, and lets the time for the peers' answers pass.
fn confirm_dead(machine: &mut ServerMachine, agent: &str, id: u128) -> bool {
    let command = vouched_dead(machine, agent);
    let asked = seen(machine.handle(at(30), Input::Command { id: CommandId(id), actor: "admin".into(), command }));
    // Its beat keeps a living process fresh while the peers look.
    let late = at(30 + u64::try_from(Timers::DEFAULT.survey.as_millis()).unwrap());
    for (agent, connection) in [("h1", 1), ("h2", 2)] {
        let connection = ConnectionId(connection);
        machine.handle(late, Input::Message { agent: name(agent), connection, message: well(&[]) });
    }
    let late = seen(machine.handle(late, Input::Tick));
    let answers = [asked, late];
    let answer = answers.iter().flat_map(Seen::effects).find_map(|effect| match effect {
        Effect::Answer { answer, .. } => Some(answer.is_ok()),
        _ => None,
    });
    answer.expect("an answer")
}

#[test]
fn a_living_process_is_not_confirmed_dead_and_an_earlier_one_of_it_is() {
    let mut machine = server(state(db()));
    connect(&mut machine, "h1", process("h1"), 1, 0);
    connect(&mut machine, "h2", process("h2"), 2, 0);
    assert!(!confirm_dead(&mut machine, "h1", 1), "the holder lives");
    assert_eq!(machine.state().replications[&DB].unproven.len(), 1);

    // A process of h1 is gone, and another one of it holds the next epoch.
    let (holder, unproven) = held_by("h1");
    let mut waits = db();
    waits.epochs = FIRST.next().unwrap();
    waits.holder = Some(Holder { incarnation: Incarnation(77), ..holder });
    waits.unproven.push(UnprovenEpoch { epoch: Epoch(2), incarnation: Incarnation(77), ..unproven });
    let mut machine = server(state(waits));
    connect(&mut machine, "h1", Incarnation(77), 1, 0);
    connect(&mut machine, "h2", process("h2"), 2, 0);
    assert!(confirm_dead(&mut machine, "h1", 2));
    let left: Vec<Epoch> = machine.state().replications[&DB].unproven.iter().map(|u| u.epoch).collect();
    assert_eq!(left, [Epoch(2)], "the living process may still write");
}

/// While its peers are asked, the agent comes back, is granted the next epoch, and dies again.
/// Its commits are refused by their own term; but a mirror of another term would have it speak as that term's leader.
#[test]
fn a_server_that_reads_of_a_later_term_does_not_go_on_in_it() {
    let mut machine = server(state(db()));
    let mut later = machine.state().clone();
    later.term = Term(4);
    let stored = later.term;
    assert_eq!(machine.reload(later).unwrap_err().stored, stored);
    assert_eq!(machine.state().term, Term(3), "it is what it was");
}

#[test]
fn an_operators_word_covers_what_there_was_when_it_was_given() {
    let mut machine = server(state(db()));
    connect(&mut machine, "h2", process("h2"), 2, 0);
    let command = vouched_dead(&machine, "h1");
    machine.handle(at(30), Input::Command { id: CommandId(1), actor: "admin".into(), command });
    let (holder, unproven) = held_by("h1");
    let mut went_on = machine.state().clone();
    let record = went_on.replications.get_mut(&DB).unwrap();
    record.epochs = FIRST.next().unwrap();
    record.holder = Some(Holder { incarnation: Incarnation(77), ..holder });
    record.unproven.push(UnprovenEpoch { epoch: Epoch(2), incarnation: Incarnation(77), ..unproven });
    machine.reload(went_on).unwrap();
    let over = seen(machine.handle(at(30 + 2000), Input::Tick));
    assert!(over.events().contains(&EventCode::AgentConfirmedDead));
    let left: Vec<Epoch> = machine.state().replications[&DB].awaited().map(|u| u.epoch).collect();
    assert!(
        !left.contains(&Epoch(1)) && machine.state().replications[&DB].unproven.iter().any(|u| u.epoch == Epoch(2))
    );
}

/// The operator looked, and before the word is taken the agent comes back, is granted the next epoch, and is lost sight of.
#[test]
fn an_operators_word_that_comes_late_covers_no_process_that_began_since() {
    let before = server(state(db()));
    let late = vouched_dead(&before, "h1");
    let (holder, unproven) = held_by("h1");
    let mut went_on = db();
    went_on.epochs = FIRST.next().unwrap();
    went_on.holder = Some(Holder { incarnation: Incarnation(77), ..holder });
    went_on.unproven.push(UnprovenEpoch { epoch: Epoch(2), incarnation: Incarnation(77), ..unproven });
    let mut machine = server(state(went_on));
    let taken = seen(machine.handle(at(30), Input::Command { id: CommandId(1), actor: "admin".into(), command: late }));
    assert!(taken.events().contains(&EventCode::AgentConfirmedDead));
    let left: Vec<Epoch> = machine.state().replications[&DB].unproven.iter().map(|u| u.epoch).collect();
    assert_eq!(left, [Epoch(2)], "nobody vouched for the process that holds it");
}

/// A server that has just started has heard of nobody yet: that nobody reaches the agent says nothing.
#[test]
fn an_operators_word_is_not_taken_by_a_server_that_was_not_asked() {
    let mut before = state(db());
    before.term = Term(2);
    let said_to_another = vouched_dead(&server(before), "h1");
    let mut machine = server(state(db()));
    let input = Input::Command { id: CommandId(1), actor: "admin".into(), command: said_to_another };
    let answered = seen(machine.handle(at(30), input));
    let refusal = answered.effects().into_iter().find_map(|effect| match effect {
        Effect::Answer { answer, .. } => answer.as_ref().as_ref().err().cloned(),
        _ => None,
    });
    assert_eq!(refusal.map(|r| r.code), Some(RefusalCode::Conflict));
    assert_eq!(machine.state().replications[&DB].unproven.len(), 1);
}

#[test]
fn a_removal_ends_though_its_last_holder_never_acted() {
    let mut doomed = db();
    doomed.intent = Intent::Deleting;
    doomed.published = None;
    doomed.holder.as_mut().unwrap().activated_at = None;
    let mut with_run = state(doomed);
    with_run.recovery_points.clear();
    let mut machine = server(with_run);
    // Nobody can read the target any more; the process that was granted it is gone.
    connect(&mut machine, "h1", Incarnation(77), 1, 0);
    let ended = seen(machine.handle(at(5000), Input::Tick));
    assert!(machine.state().replications.is_empty(), "{:?}", ended.events());
}

#[test]
fn a_holder_that_acted_is_waited_for_before_a_removal_ends() {
    let mut doomed = db();
    doomed.intent = Intent::Deleting;
    let mut machine = server(state(doomed));
    connect(&mut machine, "h1", Incarnation(77), 1, 0);
    machine.handle(at(5000), Input::Tick);
    assert_eq!(machine.state().replications[&DB].unproven.len(), 1, "epoch 1 is not proven quiet");
}

#[test]
fn nothing_on_a_target_is_believed_from_the_first_moment_of_a_restored_store() {
    let mut restored = state(db());
    restored.restoring = true;
    restored.agents.values_mut().for_each(|agent| agent.owes_epochs = true);
    let mut machine = server(restored);
    machine.handle(at(1), Input::Tick);
    let (record, point) = (&machine.state().replications[&DB], &machine.state().recovery_points[&(DB, RunId(4))]);
    assert_eq!((point.place.clone(), record.target_dirty), (RecoveryPointPlace::Gone, Some(RunId(4))));
    assert_eq!(record.epochs, FIRST, "nothing is granted or raised before all have shown theirs");
    assert!(machine.state().restoring);
}

/// An operator is quicker than the first tick of a server whose store was restored.
#[test]
fn nothing_is_commanded_on_what_a_restored_store_believes() {
    let mut restored = state(db());
    restored.restoring = true;
    restored.agents.values_mut().for_each(|agent| agent.owes_epochs = true);
    let mut machine = server(restored);
    let command = Box::new(Command::Verify { name: "db".parse().unwrap(), repair: true });
    machine.handle(at(1), Input::Command { id: CommandId(1), actor: "admin".into(), command });
    assert_eq!(machine.state().recovery_points[&(DB, RunId(4))].place, RecoveryPointPlace::Gone);
    assert_eq!(machine.state().replications[&DB].run, None, "there is no recovery point on the target to verify");
}

/// The commit that gives up the run in progress fails, and the last agent shows its epochs before it is tried again.
#[test]
fn a_restore_does_not_end_before_the_run_in_progress_is_given_up() {
    let mut restored = state(ReplicationRecord { run: Some(RUN), ..db() });
    restored.runs.insert((DB, RUN), copying());
    restored.restoring = true;
    restored.agents.values_mut().for_each(|agent| agent.owes_epochs = agent.name == name("h1"));
    let mut machine = server(restored.clone());
    machine.handle(at(1), Input::Tick);
    machine.reload(restored).unwrap();
    connect(&mut machine, "h1", process("h1"), 1, 0);
    let state = machine.state();
    assert!(!state.restoring, "h1 was the last one");
    assert_eq!((state.replications[&DB].run, state.runs[&(DB, RUN)].state), (None, RunState::Abandoned));
}

/// The server dies between the end of one holder and the grant of the next.
#[test]
fn who_left_and_who_was_wanted_outlive_the_server() {
    let mut leaving = db();
    leaving.source = side(VOLUMES[0], &["h1", "h2", "h3"]);
    leaving.target = side(VOLUMES[1], &["h1", "h2", "h3"]);
    leaving.handover = Some(Handover { to: Some(name("h3")), by: "admin".into(), started_at: at(5).wall });
    let mut first = server(state(leaving));
    connect(&mut first, "h1", process("h1"), 1, 0);
    say(&mut first, "h1", 1, AgentMessage::Drained { replication: DB, epochs: FIRST });
    let left = &first.state().replications[&DB];
    assert!(left.holder.is_none());
    assert_eq!(left.vacancy.as_ref().and_then(|vacancy| vacancy.successor.clone()), Some(name("h3")));

    let mut second = server(first.state().clone());
    let agents = ["h1", "h2", "h3"];
    for (agent, connection) in agents.into_iter().zip(1..) {
        connect(&mut second, agent, process(agent), connection, 0);
    }
    for (agent, connection) in agents.into_iter().zip(1..).skip(2) {
        let peers: Vec<&str> = agents.into_iter().filter(|peer| *peer != agent).collect();
        say(&mut second, agent, connection, well(&peers));
    }
    let takeover = second.state().takeovers.values().next_back().expect("a grant");
    assert_eq!(takeover.evidence, Evidence::Handover { by: "admin".into() });
    assert_eq!((takeover.from.as_ref(), &takeover.to), (Some(&name("h1")), &name("h3")));
}

/// The two came in the other order: what shows the lock first, what was said before the agent had it last.
#[test]
fn a_record_of_a_takeover_tells_of_the_lock_that_proved_its_predecessor_quiet() {
    let mut record = db();
    record.unproven[0].held_kernel_lock = true;
    let mut machine = server(state(record));
    for (agent, peer, connection) in [("h1", "h2", 1), ("h2", "h1", 2)] {
        connect(&mut machine, agent, process(agent), connection, 0);
        say(&mut machine, agent, connection, well(&[peer]));
    }
    let reason = "it was reset".to_owned();
    machine.handle(at(30), Input::Disconnected { agent: name("h1"), connection: ConnectionId(1), reason });
    let mut millis = 30;
    while machine.state().replications[&DB].epochs.target == Epoch(1) && millis < 3000 {
        millis += 50;
        say_at(&mut machine, at(millis), "h2", 2, well(&[]));
        machine.handle(at(millis), Input::Tick);
    }
    let epochs = machine.state().replications[&DB].epochs;
    assert_eq!(epochs.target, Epoch(2), "h2 takes over");
    let locked = FenceReport { locked: Some(VOLUMES[1].to_owned()), ..FenceReport::default() };
    say_at(
        &mut machine,
        at(millis + 10),
        "h2",
        2,
        AgentMessage::ProofOfQuiet { replication: DB, epochs, fence: locked },
    );
    let fence = FenceReport::default();
    say_at(&mut machine, at(millis + 20), "h2", 2, AgentMessage::Activated { replication: DB, epochs, fence });
    let takeover = &machine.state().takeovers[&(DB, 2)];
    assert_eq!(takeover.proven.len(), 1, "{takeover:?}");
    assert!(takeover.held_kernel_lock && takeover.contradictions(SIZE).is_empty(), "{takeover:?}");
}
