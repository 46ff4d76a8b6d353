//! A successor that took the target's reservation: what its predecessor holds up from then on, and what it does not.

use tanist_model::event::EventCode;
use tanist_model::id::{CommandId, Epoch, HostIdentity};
use tanist_model::replication::{FencingTier, Holder, ReplicationRecord, Side, Standing, UnprovenEpoch};
use tanist_protocol::fence::Taken;
use tanist_protocol::message::{AgentMessage, FenceReport, Hello, ServerMessage};
use tanist_protocol::server::{Command, Effect, Input, ServerMachine};

use crate::world::{DB, FIRST, at, connect_with, db, held_by, hello, host, name, process, say, seen, server, state};

fn elsewhere() -> HostIdentity {
    HostIdentity { machine_id: "another machine".into(), ..host("boot") }
}

/// h1 acted under epoch 1 on one host and is gone; h2 is to act under epoch 2 on another. Both may write with the reservation only.
fn taken_over() -> ServerMachine {
    let (holder, first) = held_by("h2");
    let epochs = FIRST.next().unwrap();
    let gone = UnprovenEpoch { reservation: Standing::Needed, ..held_by("h1").1 };
    let own = UnprovenEpoch { epoch: epochs.target, host: elsewhere(), reservation: Standing::Needed, ..first };
    let holder = Some(Holder { activated_at: None, host: elsewhere(), ..holder });
    let record = ReplicationRecord { epochs, holder, unproven: vec![gone, own], ..db() };
    let mut machine = server(state(record));
    let hello = Hello { host: elsewhere(), ..hello("h2", process("h2")) };
    connect_with(&mut machine, at(10), "h2", 2, hello);
    machine
}

fn activated(reservation: Option<Taken>) -> ServerMachine {
    let mut machine = taken_over();
    let fence = FenceReport { reservation, ..FenceReport::default() };
    let epochs = FIRST.next().unwrap();
    say(&mut machine, "h2", 2, AgentMessage::Activated { replication: DB, epochs, fence });
    machine
}

fn tier(machine: &ServerMachine) -> FencingTier {
    machine.tier_in_force(&machine.state().replications[&DB])
}

#[test]
fn a_predecessor_from_whom_the_reservation_was_taken_holds_up_no_snapshot() {
    let machine = activated(Some(Taken::Preempted(Epoch(1))));
    assert_eq!(tier(&machine), FencingTier::F1);
    assert_eq!(machine.state().replications[&DB].unfenced().count(), 0);
}

#[test]
fn a_reservation_that_nobody_had_fences_nobody() {
    for reservation in [Taken::Free, Taken::Unclear] {
        assert_eq!(tier(&activated(Some(reservation))), FencingTier::F3, "{reservation:?}");
    }
}

/// What it wrote it may have written without one: nobody counts it as kept out later.
#[test]
fn who_acts_without_the_reservation_that_was_asked_for_is_believed_to_need_none() {
    let machine = activated(None);
    let own = machine.state().replications[&DB].unproven.iter().find(|u| u.epoch == Epoch(2)).cloned();
    assert_eq!(own.map(|u| u.reservation), Some(Standing::NotNeeded));
    assert_eq!(tier(&machine), FencingTier::F3);
}

#[test]
fn a_volume_is_not_given_up_over_an_epoch_that_is_only_fenced() {
    let mut machine = activated(Some(Taken::Preempted(Epoch(1))));
    let command = Box::new(Command::Delete { name: "db".parse().unwrap(), leave_behind: false });
    let told = seen(machine.handle(at(30), Input::Command { id: CommandId(9), actor: "admin".into(), command }));
    let later = seen(machine.handle(at(1000), Input::Tick));
    let all = [told, later];
    assert!(all.iter().any(|seen| seen.events().contains(&EventCode::DeleteWaitsForProof)));
    let drains = |effect: &&Effect| matches!(effect, Effect::Send { message: ServerMessage::Drain { .. }, .. });
    assert_eq!(all.iter().flat_map(|seen| seen.effects()).filter(drains).count(), 0);
}

/// The reservation outlives the epoch that took it, and lets in nobody who cannot take it over.
#[test]
fn who_cannot_reserve_is_passed_over_once_a_target_is_reserved() {
    let why = |machine: &ServerMachine| {
        machine.why_ineligible_for(&machine.state().replications[&DB], &name("h2"), Side::Target).unwrap_or_default()
    };
    let reserved = activated(Some(Taken::Preempted(Epoch(1))));
    assert!(why(&reserved).contains("cannot take reservations"), "{}", why(&reserved));
    assert!(why(&reserved).contains("epoch 2"), "{}", why(&reserved));
    assert!(!why(&activated(None)).contains("reservations"));
}
