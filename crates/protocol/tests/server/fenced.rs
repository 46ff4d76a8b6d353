//! A successor that took the target's reservation: what its predecessor holds up from then on, and what it does not.

use std::collections::BTreeMap;

use tanist_model::api::CreateReplication;
use tanist_model::event::EventCode;
use tanist_model::id::{CommandId, Epoch, HostIdentity};
use tanist_model::policy::Policy;
use tanist_model::replication::{FencingTier, Holder, ReplicationRecord, Side, Standing, UnprovenEpoch};
use tanist_model::state::State;
use tanist_model::volume::{StorageCapabilities, StorageKind, StorageReport};
use tanist_protocol::fence::Taken;
use tanist_protocol::message::{AgentMessage, FenceReport, Hello, ServerMessage};
use tanist_protocol::server::{Command, Effect, Input, ServerMachine};

use crate::world::{
    DB, FIRST, Seen, VOLUMES, at, connect_with, db, held_by, hello, host, name, process, say, say_at, seen, server,
    state, volume_report, well,
};

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

/// The one agent that there is sees both volumes; `reservations`: of the target's storage.
fn before_anything(reservations: bool) -> ServerMachine {
    let mut machine = server(State { removed_epoch: Epoch(10), replications: BTreeMap::new(), ..state(db()) });
    let capabilities = StorageCapabilities {
        snapshots: true,
        kernel_lock: true,
        reservations,
        outlives_host: false,
        changed_extents: false,
    };
    let storage = |name: &str| StorageReport {
        name: name.parse().unwrap(),
        kind: StorageKind::Memory,
        location: String::new(),
        identity: name.to_owned(),
        capabilities,
        copy_manager: None,
        error: None,
        pool: None,
    };
    let (storage, volumes) = (["san-a", "san-b"].map(storage).to_vec(), VOLUMES.map(volume_report).to_vec());
    connect_with(&mut machine, at(10), "h1", 1, Hello { storage, volumes, ..hello("h1", process("h1")) });
    machine
}

/// The one agent's answer: it reads both volumes, and there is nobody else.
fn surveyed(asked: &Seen) -> AgentMessage {
    let survey = asked.effects().into_iter().find_map(|effect| match effect {
        Effect::Send { message: ServerMessage::Survey { survey, .. }, .. } => Some(*survey),
        _ => None,
    });
    let AgentMessage::Heartbeat(beat) = well(&[]) else { unreachable!("it is a heartbeat") };
    AgentMessage::Surveyed { survey: survey.expect("a survey"), canaries: beat.canaries, peers: Vec::new() }
}

/// What a removed replication left on the unit would be obeyed by the next one, if that began at the beginning.
#[test]
fn a_new_replication_on_a_unit_begins_above_the_keys_that_may_lie_there() {
    for (reservations, first) in [(true, Epoch(10)), (false, Epoch(0))] {
        let mut machine = before_anything(reservations);
        let create = CreateReplication {
            name: "new".parse().unwrap(),
            source: VOLUMES[0].parse().unwrap(),
            target: VOLUMES[1].parse().unwrap(),
            agents: vec![name("h1")],
            policy: Policy::default(),
            overwrite_target: false,
            once: false,
            restore: None,
        };
        let command = Box::new(Command::Create(create));
        let asked = seen(machine.handle(at(30), Input::Command { id: CommandId(9), actor: "admin".into(), command }));
        say_at(&mut machine, at(40), "h1", 1, surveyed(&asked));
        let created = machine.state().replications.values().next().expect("it was created");
        let granted = created.holder.iter().count();
        assert_eq!(created.epochs.target.0, first.0 + u32::try_from(granted).unwrap());
    }
}
