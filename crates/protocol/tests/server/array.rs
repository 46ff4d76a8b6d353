//! Copies that an epoch has ordered the storage to carry out: what proves that they are over, and what does not.

use tanist_model::id::{CommandId, Epoch, HostIdentity};
use tanist_model::replication::{ArrayCopies, Holder, ProofKind, ReplicationRecord, Standing, UnprovenEpoch};
use tanist_protocol::fence::Taken;
use tanist_protocol::message::{AgentMessage, FenceReport, Hello, ServerMessage};
use tanist_protocol::server::{Effect, Input, ServerMachine};

use crate::world::{
    DB, FIRST, Seen, at, connect_with, db, held_by, hello, host, process, say, say_at, seen, server, state, well,
};

fn elsewhere() -> HostIdentity {
    HostIdentity { machine_id: "another machine".into(), ..host("boot") }
}

/// h1 acted under epoch 1, may have ordered copies, and is gone; h2 is to act under epoch 2 on that host.
fn taken_over(on: HostIdentity, reservation: Standing) -> ServerMachine {
    let (holder, first) = held_by("h2");
    let epochs = FIRST.next().unwrap();
    let array_copies = ArrayCopies::Possible;
    let gone = UnprovenEpoch { array_copies, reservation, held_kernel_lock: true, ..held_by("h1").1 };
    let own = UnprovenEpoch { epoch: epochs.target, host: on.clone(), reservation, array_copies, ..first };
    let holder = Some(Holder { activated_at: None, host: on.clone(), ..holder });
    let record = ReplicationRecord { epochs, holder, unproven: vec![gone, own], ..db() };
    let mut machine = server(state(record));
    connect_with(&mut machine, at(10), "h2", 2, Hello { host: on, ..hello("h2", process("h2")) });
    machine
}

fn activate(machine: &mut ServerMachine, fence: FenceReport) -> Seen {
    let epochs = FIRST.next().unwrap();
    let first = say(machine, "h2", 2, AgentMessage::Activated { replication: DB, epochs, fence });
    if question(&first).is_some() { first } else { seen(machine.handle(at(40), Input::Tick)) }
}

/// On the same host: the kernel lock proves the process quiet.
fn locked() -> (ServerMachine, Seen) {
    let mut machine = taken_over(host("boot"), Standing::NotNeeded);
    let identity = machine.state().replications[&DB].target.identity.clone();
    let seen = activate(&mut machine, FenceReport { locked: Some(identity), ..FenceReport::default() });
    (machine, seen)
}

/// On another host: the reservation was taken from it by name.
fn fenced() -> (ServerMachine, Seen) {
    let mut machine = taken_over(elsewhere(), Standing::Needed);
    let reservation = Some(Taken::Preempted(Epoch(1)));
    let seen = activate(&mut machine, FenceReport { reservation, ..FenceReport::default() });
    (machine, seen)
}

fn question(seen: &Seen) -> Option<CommandId> {
    seen.effects().into_iter().find_map(|effect| match effect {
        Effect::Send { message: ServerMessage::AskArray { question, .. }, .. } => Some(*question),
        _ => None,
    })
}

fn answer(machine: &mut ServerMachine, question: CommandId) -> Seen {
    let epochs = FIRST.next().unwrap();
    say_at(machine, at(60), "h2", 2, AgentMessage::ArrayQuiet { replication: DB, epochs, question })
}

fn record(machine: &ServerMachine) -> &ReplicationRecord {
    &machine.state().replications[&DB]
}

fn predecessor(machine: &ServerMachine) -> Option<&UnprovenEpoch> {
    record(machine).unproven.iter().find(|u| u.epoch == Epoch(1))
}

#[test]
fn a_free_lock_proves_the_process_quiet_and_not_what_it_ordered() {
    let (mut machine, seen) = locked();
    let waiting = predecessor(&machine).expect("still awaited");
    assert_eq!(waiting.quiet, Some(ProofKind::KernelLock));
    assert_eq!(record(&machine).unfenced().count(), 1, "the next snapshot waits");
    answer(&mut machine, question(&seen).expect("the storage is asked"));
    assert_eq!(predecessor(&machine), None);
}

#[test]
fn a_fence_does_not_end_what_was_ordered() {
    let (mut machine, seen) = fenced();
    assert_eq!(predecessor(&machine).map(|u| u.reservation), Some(Standing::Fenced));
    assert_eq!(record(&machine).unfenced().count(), 1, "the next snapshot waits");
    answer(&mut machine, question(&seen).expect("the storage is asked"));
    assert_eq!(record(&machine).unfenced().count(), 0);
    assert_eq!(predecessor(&machine).map(|u| u.array_copies), Some(ArrayCopies::Over), "giving up waits for proof");
}

/// An answer to a question that was put before the epoch was shut out says nothing of what it ordered since.
#[test]
fn an_answer_to_no_question_of_now_proves_nothing() {
    for (mut machine, seen) in [locked(), fenced()] {
        let CommandId(asked) = question(&seen).expect("the storage is asked");
        let before = record(&machine).clone();
        answer(&mut machine, CommandId(asked ^ 1));
        assert_eq!(record(&machine), &before);
    }
}

/// Neither proven nor fenced, the epoch may order more at any moment: what the storage says now is no proof.
#[test]
fn nobody_is_asked_while_more_can_be_ordered() {
    let mut machine = taken_over(elsewhere(), Standing::NotNeeded);
    assert_eq!(question(&activate(&mut machine, FenceReport::default())), None);
    assert_eq!(record(&machine).unfenced().count(), 1);
}

#[test]
fn a_question_is_repeated_until_it_is_answered() {
    let (mut machine, first) = locked();
    assert_eq!(question(&seen(machine.handle(at(60), Input::Tick))), None);
    say_at(&mut machine, at(1000), "h2", 2, well(&[]));
    let again = question(&seen(machine.handle(at(1100), Input::Tick)));
    assert!(again.is_some() && again != question(&first), "each question has a number of its own");
}

/// The agent's own word covers what it has ordered: it says `Drained` when all of that is over.
#[test]
fn its_own_word_says_everything() {
    let mut machine = taken_over(elsewhere(), Standing::NotNeeded);
    activate(&mut machine, FenceReport::default());
    connect_with(&mut machine, at(50), "h1", 1, hello("h1", process("h1")));
    say_at(&mut machine, at(60), "h1", 1, AgentMessage::Drained { replication: DB, epochs: FIRST });
    assert_eq!(predecessor(&machine), None);
}
