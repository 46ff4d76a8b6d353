//! What the server makes of volumes that are devices: sectors, bytes in common under two names, and which device a lock lies on.

use tanist_model::api::{CreateReplication, Plan, Refusal};
use tanist_model::hierarchy::Hierarchy;
use tanist_model::id::{AgentName, ClusterId, CommandId, Epoch, Epochs, Incarnation, ReplicationName, Term};
use tanist_model::policy::{Policy, SourceMode};
use tanist_model::replication::{ArrayCopies, Holder, ReplicationRecord, SideRecord, Standing, UnprovenEpoch};
use tanist_model::state::State;
use tanist_model::time::{Monotonic, Now, Timestamp};
use tanist_model::volume::{DeviceReport, VolumeContent, VolumeReport};
use tanist_protocol::message::{AgentMessage, FenceReport, Hello};
use tanist_protocol::mutation::Mutations;
use tanist_protocol::server::{ConnectionId, Input, ServerMachine};
use tanist_protocol::timers::Timers;

use crate::world::{DB, connect_with, db, hello, host, member, name};

const NOW: Now = Now { monotonic: Monotonic(1000), wall: Timestamp(1_795_342_800_000_000) };
const SECOND: Epochs = Epochs { source: Epoch(2), target: Epoch(2) };

fn h1() -> AgentName {
    name("h1")
}

/// A device of 512-byte sectors; its name is its identity.
fn device(name: &str, size_bytes: u64, backed_by: &[&str]) -> VolumeReport {
    VolumeReport {
        address: format!("san-a/{name}").parse().unwrap(),
        identity: name.to_owned(),
        size_bytes,
        read_only: false,
        in_use_by: None,
        content: VolumeContent::Blank,
        error: None,
        device: Some(DeviceReport {
            path: "/dev/sdx".to_owned(),
            logical_sector_bytes: 512,
            physical_sector_bytes: 4096,
            backed_by: backed_by.iter().map(ToString::to_string).collect(),
            unfit_as_target: None,
        }),
    }
}

fn with_sectors(mut volume: VolumeReport, bytes: u32) -> VolumeReport {
    volume.device.as_mut().unwrap().logical_sector_bytes = bytes;
    volume
}

/// A server to which one agent is connected that sees these volumes.
fn server(records: Vec<ReplicationRecord>, volumes: Vec<VolumeReport>) -> ServerMachine {
    let mut state = State { term: Term(3), ..State::default() };
    state.agents = [(h1(), member("h1", 1))].into();
    state.replications = records.into_iter().map(|record| (record.id, record)).collect();
    let mut machine = ServerMachine::new(ClusterId(1), state, Timers::DEFAULT, 7, Mutations::NONE, NOW);
    let hello = Hello { volumes, ..hello("h1", Incarnation(2)) };
    connect_with(&mut machine, NOW, "h1", 1, hello);
    machine
}

fn plan(machine: &ServerMachine, source: &str, target: &str) -> Result<Plan, Refusal> {
    let create = CreateReplication {
        name: ReplicationName::new("attempt").unwrap(),
        source: format!("san-a/{source}").parse().unwrap(),
        target: format!("san-a/{target}").parse().unwrap(),
        agents: vec![h1()],
        policy: Policy { source_mode: SourceMode::Sealed, ..Policy::default() },
        overwrite_target: false,
        once: false,
        restore: None,
    };
    machine.plan(&create)
}

#[track_caller]
fn refuses(machine: &ServerMachine, source: &str, target: &str, cause: &str) {
    let refusal = plan(machine, source, target).expect_err("a refusal");
    let found = refusal.cause.clone().unwrap_or_default();
    assert!(found.contains(cause), "'{cause}' in {refusal:?}");
}

/// A replication from `source` to `target` whose second epoch is held by the agent's present process.
fn record(source: &str, target: &str) -> ReplicationRecord {
    let side = |volume: &str| SideRecord {
        volume: format!("san-a/{volume}").parse().unwrap(),
        identity: volume.to_owned(),
        hierarchy: Hierarchy::new(vec![h1()]).unwrap(),
    };
    let holder = Holder {
        agent: h1(),
        incarnation: Incarnation(2),
        host: host("boot"),
        command: CommandId(1),
        granted_at: NOW.wall,
        activated_at: Some(NOW.wall),
    };
    let unproven = |epoch, incarnation, lock_place: Option<&str>| UnprovenEpoch {
        epoch: Epoch(epoch),
        agent: h1(),
        incarnation: Incarnation(incarnation),
        host: host("boot"),
        held_kernel_lock: lock_place.is_some(),
        lock_place: lock_place.map(ToOwned::to_owned),
        reservation: Standing::NotNeeded,
        array_copies: ArrayCopies::None,
        outlives_host: false,
        quiet: None,
        granted_at: NOW.wall,
    };
    ReplicationRecord {
        source: side(source),
        target: side(target),
        epochs: SECOND,
        holder: Some(holder),
        unproven: vec![unproven(1, 1, Some("8:16#5")), unproven(2, 2, None)],
        published: None,
        ..db()
    }
}

#[test]
fn a_source_that_is_no_multiple_of_the_targets_sector_is_refused() {
    let odd = device("odd", 8192 + 512, &[]);
    let large = with_sectors(device("large", 1 << 20, &[]), 4096);
    let machine = server(Vec::new(), vec![odd, large, device("small", 1 << 20, &[])]);
    refuses(&machine, "odd", "large", "sectors of 4096 bytes, and the source's 8704 bytes are no multiple");
    assert!(plan(&machine, "odd", "small").is_ok());
    assert!(plan(&machine, "small", "large").is_ok());
}

#[test]
fn a_volume_and_what_it_is_made_of_are_no_pair() {
    let mapped = device("mapped", 4096, &["partition", "disk"]);
    let machine = server(Vec::new(), vec![device("disk", 8192, &[]), device("partition", 4096, &["disk"]), mapped]);
    for (source, target) in [("mapped", "disk"), ("partition", "mapped"), ("partition", "disk")] {
        refuses(&machine, source, target, "bytes in common with the source");
    }
}

#[test]
fn what_must_not_be_written_is_refused_with_its_reason() {
    let mut partition = device("partition", 8192, &[]);
    partition.device.as_mut().unwrap().unfit_as_target = Some("it is a partition".to_owned());
    let machine = server(Vec::new(), vec![device("disk", 4096, &[]), partition]);
    refuses(&machine, "disk", "partition", "it is a partition");
    assert!(plan(&machine, "partition", "disk").is_err(), "too small");
}

#[test]
fn another_name_of_a_replications_volume_is_that_volume() {
    let volumes = || {
        let over = |name, below| device(name, 8192, &[below]);
        vec![
            device("a", 4096, &[]),
            device("b", 8192, &[]),
            device("c", 4096, &[]),
            over("on-a", "a"),
            over("on-b", "b"),
        ]
    };
    let machine = server(vec![record("a", "b")], volumes());
    refuses(&machine, "c", "on-b", "target of replication db");
    refuses(&machine, "c", "on-a", "source of replication db");
    refuses(&machine, "on-b", "on-a", "a loop");
    // The replication's own volume lies on the one that is to be written.
    let machine = server(vec![record("on-a", "on-b")], volumes());
    refuses(&machine, "c", "b", "target of replication db");
}

/// The volume is reached as two devices: the lock on one says nothing of what is in flight on the other.
#[test]
fn a_lock_proves_only_who_held_it_on_the_same_device() {
    for (place, quiet) in [("8:16#5", true), ("8:32#6", false), ("8:16#9", false)] {
        let mut machine = server(vec![record("a", "b")], Vec::new());
        let fence = FenceReport { locked: Some("b".to_owned()), lock_place: Some(place.to_owned()), reservation: None };
        let message = AgentMessage::ProofOfQuiet { replication: DB, epochs: SECOND, fence };
        machine.handle(NOW, Input::Message { agent: h1(), connection: ConnectionId(1), message });
        let left: Vec<Epoch> = machine.state().replications[&DB].unproven.iter().map(|u| u.epoch).collect();
        assert_eq!(left == [Epoch(2)], quiet, "{place}: {left:?}");
        assert_eq!(machine.state().replications[&DB].unproven.last().unwrap().lock_place.as_deref(), Some(place));
    }
}
