//! Views over machines in known states.

mod seats;
mod stuck;

use std::time::Duration;

use tanist_model::agent::{AgentRecord, AgentSlot, Penalty, ShownCertificate};
use tanist_model::api::{Health, ReplicationView};
use tanist_model::hierarchy::Hierarchy;
use tanist_model::id::{
    AgentName, ClusterId, CommandId, Epoch, Epochs, HostIdentity, Incarnation, ReplicationId, ReplicationName, RunId,
    SnapshotId, Term,
};
use tanist_model::policy::{Policy, SourceMode, VerifyMode};
use tanist_model::recovery_point::{RecoveryPoint, RecoveryPointPlace};
use tanist_model::replication::{
    ArrayCopies, FencingTier, Holder, Intent, ProofKind, ReplicationRecord, Side, SideRecord, Standing, UnprovenEpoch,
};
use tanist_model::run::{BoundSnapshot, ChainDigest, Checkpoint, RunRecord, RunState, RunTrigger};
use tanist_model::state::State;
use tanist_model::takeover::{Evidence, TakeoverRecord};
use tanist_model::time::{Monotonic, Now, Timestamp};
use tanist_protocol::message::{
    AgentMessage, CanaryReport, FenceReport, Heartbeat, Hello, PeerReport, RoleReport, RoleState, RunProgress,
};
use tanist_protocol::mutation::Mutations;
use tanist_protocol::server::{ConnectionId, Input, ServerMachine};
use tanist_protocol::timers::Timers;

use super::replication::{replication, verdict};
use super::{agents, gauges, history, status, storage, waiting};
use crate::core::{Moment, Trouble};

const ID: ReplicationId = ReplicationId(1);
const RUN: RunId = RunId(5);
const SIZE: u64 = 1000;
const NOON: Timestamp = Timestamp(1_795_342_800_000_000);

fn name(text: &str) -> AgentName {
    AgentName::new(text).unwrap()
}

fn host() -> HostIdentity {
    HostIdentity { machine_id: "m1".into(), boot_id: "b1".into() }
}

fn at(seconds: u64) -> Now {
    Now { monotonic: Monotonic(seconds * 1_000_000), wall: NOON.plus(Duration::from_secs(seconds)) }
}

fn member(text: &str, slot: u32) -> AgentRecord {
    AgentRecord {
        name: name(text),
        slot: AgentSlot(slot),
        certificate_serial: "01".into(),
        previous_serial: None,
        certificate_expires_at: NOON.plus(Duration::from_hours(24 * 90)),
        joined_at: NOON,
        removed: false,
        drained: false,
        penalty: Penalty::default(),
        host: Some(host()),
        listen_address: None,
        owes_epochs: false,
    }
}

fn side(address: &str) -> SideRecord {
    let hierarchy = Hierarchy::new(vec![name("h1"), name("h2")]).unwrap();
    SideRecord { volume: address.parse().unwrap(), identity: address.into(), hierarchy }
}

/// h1 acts under epoch 1; the last recovery point is ten seconds old.
fn record() -> ReplicationRecord {
    let holder = Holder {
        agent: name("h1"),
        incarnation: Incarnation(1),
        host: host(),
        command: CommandId(1),
        granted_at: NOON,
        activated_at: Some(NOON),
    };
    ReplicationRecord {
        id: ID,
        name: ReplicationName::new("db").unwrap(),
        source: side("san-a/vol1"),
        target: side("san-b/vol9"),
        policy: Policy { source_mode: SourceMode::Sealed, ..Policy::default() },
        intent: Intent::Enabled,
        size_bytes: SIZE,
        created_at: NOON,
        epochs: Epochs { source: Epoch(1), target: Epoch(1) },
        vacancy: None,
        handover: None,
        holder: Some(holder),
        reader: None,
        unproven: vec![unproven(1, "h1")],
        reserved: None,
        target_dirty: None,
        doubtful: Default::default(),
        changes: Default::default(),
        run: None,
        published: Some(RunId(4)),
        quarantine: None,
        once: false,
        agenda: tanist_model::replication::Agenda::default(),
        leave_behind: false,
        rpo_missed: false,
        drills: Default::default(),
        origin: None,
        quiesced: Vec::new(),
        refused: Default::default(),
    }
}

fn unproven(epoch: u32, agent: &str) -> UnprovenEpoch {
    UnprovenEpoch {
        epoch: Epoch(epoch),
        agent: name(agent),
        incarnation: Incarnation(9),
        host: host(),
        held_kernel_lock: true,
        lock_place: None,
        reservation: Standing::NotNeeded,
        array_copies: ArrayCopies::None,
        outlives_host: false,
        quiet: None,
        granted_at: NOON,
    }
}

fn point() -> RecoveryPoint {
    RecoveryPoint {
        run: RunId(4),
        replication: ID,
        place: RecoveryPointPlace::Target,
        size_bytes: SIZE,
        chain: ChainDigest([1; 32]),
        epochs: Epochs::default(),
        source_time: NOON,
        published_at: NOON.plus(Duration::from_secs(1)),
        fuzzy: false,
        verified: true,
        pinned: false,
        assumed_bytes: 0,
        by_changes: false,
        damaged_at: None,
        doubtful_since: None,
        verified_at: None,
        expired: false,
        application: None,
    }
}

fn run(state: RunState) -> RunRecord {
    let (id, uid, mode) = (SnapshotId(1), "s".into(), SourceMode::Sealed);
    let snapshot = BoundSnapshot { id, uid, mode, size_bytes: SIZE, application: None };
    RunRecord {
        id: RUN,
        replication: ID,
        state,
        trigger: RunTrigger::Operator("admin".into()),
        verify: VerifyMode::Written,
        full: false,
        method: None,
        copy_ordered: false,
        attempt: SnapshotId(1),
        dead_attempts: Vec::new(),
        work: Default::default(),
        snapshot: Some(snapshot),
        checkpoint: Checkpoint { seq: 250, chain: ChainDigest([0; 32]) },
        checkpoint_epochs: Epochs::default(),
        takeovers: 0,
        repairs: 0,
        mismatches: 0,
        agent: Some(name("h1")),
        requested_at: NOON,
        bound_at: Some(NOON),
        checkpoint_at: None,
        finished_at: state.is_finished().then_some(NOON),
        verification: None,
        failure: None,
    }
}

fn state(record: ReplicationRecord) -> State {
    let mut state = State { term: Term(3), ..State::default() };
    state.agents = [member("h1", 1), member("h2", 2)].map(|agent| (agent.name.clone(), agent)).into();
    state.recovery_points.insert((ID, RunId(4)), point());
    state.replications.insert(ID, record);
    state
}

/// A machine ten seconds after noon, with both agents connected and well.
fn machine(state: State) -> ServerMachine {
    let mut machine = ServerMachine::new(ClusterId(1), state, Timers::DEFAULT, 7, Mutations::NONE, at(10));
    for (agent, incarnation) in [("h1", 1), ("h2", 2)] {
        let hello = Hello {
            incarnation: Incarnation(incarnation),
            host: host(),
            version: "test".into(),
            io: None,
            listen_address: Some(format!("{agent}:1")),
            highest_term: Term(0),
            storage: Vec::new(),
            volumes: Vec::new(),
            roles: Vec::new(),
            applications: Vec::new(),
            granted: Vec::new(),
            granted_here: Vec::new(),
            through: None,
            connection: 0,
        };
        let connection = ConnectionId(u64::try_from(incarnation).unwrap());
        let (agent, hello) = (name(agent), Box::new(hello));
        let connected = Input::Connected {
            agent: agent.clone(),
            connection,
            certificate: ShownCertificate { serial: "01".into(), expires_at: Timestamp(i64::MAX) },
            hello,
        };
        machine.handle(at(10), connected);
        machine.handle(at(10), Input::Message { agent, connection, message: beat(incarnation) });
    }
    machine
}

fn beat(incarnation: u128) -> AgentMessage {
    use tanist_model::takeover::PeerVerdict;
    use tanist_model::volume::{VolumeContent, VolumeReport};
    let canary = |address: &str| CanaryReport {
        address: address.parse().unwrap(),
        result: Ok(VolumeReport {
            address: address.parse().unwrap(),
            identity: address.into(),
            size_bytes: SIZE,
            read_only: false,
            in_use_by: None,
            content: VolumeContent::Blank,
            error: None,
            device: None,
        }),
        took_us: 1,
        age_ms: 0,
    };
    let other = if incarnation == 1 { "h2" } else { "h1" };
    let verdict = PeerVerdict::Reached { incarnation: Incarnation(3 - incarnation) };
    let role = RoleReport {
        replication: ID,
        side: Side::Target,
        epochs: Epochs { source: Epoch(1), target: Epoch(1) },
        state: RoleState::Active,
        fence: FenceReport::default(),
        run: Some(RUN),
        stream: None,
        late: Default::default(),
        progress: Some(RunProgress {
            passed_bytes: 500,
            rate_bytes_per_second: 50,
            limit: "the source".into(),
            work: Default::default(),
            stages: Vec::new(),
        }),
    };
    AgentMessage::Heartbeat(Heartbeat {
        roles: if incarnation == 1 { vec![role] } else { Vec::new() },
        canaries: vec![canary("san-a/vol1"), canary("san-b/vol9")],
        peers: vec![PeerReport { peer: name(other), verdict, took_us: 1, age_ms: 0 }],
        ..Heartbeat::default()
    })
}

fn health_of(record: ReplicationRecord) -> (Health, String, Option<String>) {
    let machine = machine(state(record));
    let found = verdict(&machine, machine.state().replications.get(&ID).unwrap());
    (found.health, found.summary, found.next)
}

#[test]
fn a_replication_that_is_well_says_of_when_its_data_is() {
    let machine = machine(state(record()));
    let view = replication(&machine, &machine.state().replications[&ID]);
    assert_eq!(view.health, Health::Ok, "{}", view.summary);
    assert_eq!(view.summary, format!("the target equals the source as of {NOON}"));
    assert_eq!((view.lag_seconds, view.acting, view.waits_for, view.next), (Some(10), Some(name("h1")), None, None));
    let roles: Vec<&str> = view.sides[1].agents.iter().map(|agent| agent.role.as_str()).collect();
    assert_eq!(roles, ["acting", "ready"]);
    assert_eq!(view.state, "active");
}

#[test]
fn an_epoch_without_proof_names_what_to_do() {
    let mut waiting = record();
    waiting.epochs = Epochs { source: Epoch(1), target: Epoch(1) };
    waiting.unproven.insert(0, unproven(0, "h2"));
    let mut machine = machine(state(waiting));
    let (agent, connection) = (name("h2"), ConnectionId(2));
    machine.handle(at(10), Input::Disconnected { agent, connection, reason: "reset".into() });
    let view = replication(&machine, &machine.state().replications[&ID]);
    assert_eq!((view.health, view.tier), (Health::Degraded, FencingTier::F3));
    assert_eq!(view.next.as_deref(), Some("tanist agent list"));
    let waits = view.waits_for.unwrap();
    assert!(waits.contains("epoch 0 of agent h2 is not proven quiet; start that host's agent again"), "{waits}");
    assert_eq!(view.awaited.len(), 1);
}

/// h2 is connected as another process than the one whose epoch is not proven quiet.
fn while_h2_is_awaited(held_kernel_lock: bool) -> ReplicationView {
    let mut waiting = record();
    waiting.unproven.insert(0, UnprovenEpoch { held_kernel_lock, ..unproven(0, "h2") });
    let machine = machine(state(waiting));
    replication(&machine, &machine.state().replications[&ID])
}

#[test]
fn an_agent_that_is_back_as_another_process_is_not_to_be_started_again() {
    let view = while_h2_is_awaited(false);
    assert_eq!(view.next.as_deref(), Some("tanist agent confirm-dead h2"));
    let waits = view.waits_for.unwrap();
    assert!(waits.contains("agent h2 is back: its process of then is gone"), "{waits}");
    assert!(waits.ends_with("wait a minute, then: tanist agent confirm-dead h2"), "{waits}");
}

/// Nobody can vouch for what an array does, and nobody is asked to.
#[test]
fn what_the_storage_alone_can_tell_is_asked_of_nobody_else() {
    let mut waiting = record();
    let (array_copies, quiet) = (ArrayCopies::Possible, Some(ProofKind::NewBoot));
    waiting.unproven.insert(0, UnprovenEpoch { array_copies, quiet, ..unproven(0, "h2") });
    let machine = machine(state(waiting));
    let view = replication(&machine, &machine.state().replications[&ID]);
    assert_eq!(view.next.as_deref(), Some("tanist agent list"));
    let waits = view.waits_for.unwrap();
    assert!(waits.starts_with("the storage to end what epoch 0 of agent h2 ordered it to copy"), "{waits}");
}

/// Its lock is free or it is not: to ask an operator to vouch for it would be to ask for the one dangerous command without need.
#[test]
fn what_the_next_run_proves_by_itself_nobody_has_to_vouch_for() {
    let view = while_h2_is_awaited(true);
    assert_eq!(view.next.as_deref(), Some("tanist replication sync db"), "{:?}", view.waits_for);
    let waits = view.waits_for.unwrap();
    assert!(waits.ends_with("its own host can tell: the next run goes there first"), "{waits}");
}

#[test]
fn an_epoch_is_waited_for_since_it_was_replaced_and_a_run_was_asked_for() {
    let since = |run: Option<RunId>| {
        let mut record = ReplicationRecord { run, ..record() };
        record.unproven.insert(0, unproven(0, "h2"));
        let mut state = state(record);
        let asked = RunRecord { requested_at: at(7).wall, ..self::run(RunState::SnapshotPending) };
        state.runs.insert((ID, RUN), asked);
        state.takeovers.insert((ID, 1), takeover(at(4).wall));
        let machine = machine(state);
        waiting::awaited(&machine, &machine.state().replications[&ID])[0].since
    };
    assert_eq!(since(None), at(4).wall, "not since it was granted, at noon");
    assert_eq!(since(Some(RUN)), at(7).wall);
}

/// h1 took over from h2.
fn takeover(committed_at: Timestamp) -> TakeoverRecord {
    TakeoverRecord {
        replication: ID,
        epochs: Epochs { source: Epoch(1), target: Epoch(1) },
        evidence: Evidence::Restarted,
        from: Some(name("h2")),
        to: name("h1"),
        suspected_at: committed_at,
        verdicts: Vec::new(),
        candidates: Vec::new(),
        named: None,
        committed_at,
        granted_at: None,
        activated_at: None,
        tier: None,
        held_kernel_lock: false,
        awaited: Vec::new(),
        proven: Vec::new(),
        unproven: Vec::new(),
        run: None,
        resumed_seq: 0,
        reported_seq: None,
        first_durable_write_at: None,
        copied_again_bytes: None,
    }
}

#[test]
fn a_run_that_is_held_up_stops_a_replication_with_nothing_to_restore() {
    let health = |intent: Intent, dirty: bool, place: RecoveryPointPlace| {
        let target_dirty = dirty.then_some(RUN);
        let mut state = state(ReplicationRecord { intent, run: Some(RUN), target_dirty, ..record() });
        state.runs.insert((ID, RUN), run(RunState::Copying));
        state.recovery_points.insert((ID, RunId(4)), RecoveryPoint { place, ..point() });
        let machine = machine(state);
        let found = verdict(&machine, &machine.state().replications[&ID]);
        assert_eq!(found.summary.contains("NOTHING TO RESTORE"), found.health == Health::Stopped, "{}", found.summary);
        found.health
    };
    let kept = || RecoveryPointPlace::Snapshot("s".into());
    assert_eq!(health(Intent::Paused, true, RecoveryPointPlace::Target), Health::Stopped);
    assert_eq!(health(Intent::Paused, true, kept()), Health::Degraded);
    assert_eq!(health(Intent::Paused, false, RecoveryPointPlace::Target), Health::Degraded);
    assert_eq!(health(Intent::Enabled, true, RecoveryPointPlace::Target), Health::Ok, "it gets on");
}

#[test]
fn a_missed_rpo_asks_for_no_second_run() {
    let mut state = state(ReplicationRecord { policy: rpo(5), run: Some(RUN), ..record() });
    state.runs.insert((ID, RUN), run(RunState::Copying));
    let machine = machine(state);
    let found = verdict(&machine, &machine.state().replications[&ID]);
    assert!(found.summary.starts_with("RPO missed"), "{}", found.summary);
    assert_eq!(found.next.as_deref(), Some("tanist replication show db"));
}

#[test]
fn a_fuzzy_replica_is_not_said_to_equal_its_source() {
    let mut state = state(record());
    state.recovery_points.insert((ID, RunId(4)), RecoveryPoint { fuzzy: true, ..point() });
    let machine = machine(state);
    let found = verdict(&machine, &machine.state().replications[&ID]);
    assert_eq!(found.summary, format!("a fuzzy copy, begun at {NOON}"));
}

#[test]
fn what_an_operator_must_know_is_said_with_the_command_to_type() {
    let cases: [(ReplicationRecord, Health, &str, &str); 5] = [
        (
            ReplicationRecord { quarantine: Some("it differs".into()), ..record() },
            Health::Stopped,
            "quarantined: it differs",
            "tanist replication delete db",
        ),
        (
            ReplicationRecord { intent: Intent::Paused, ..record() },
            Health::Degraded,
            "paused",
            "tanist replication resume db",
        ),
        (
            ReplicationRecord { target_dirty: Some(RUN), ..record() },
            Health::Stopped,
            "equals no recovery point",
            "tanist replication sync db",
        ),
        (
            ReplicationRecord { policy: rpo(5), ..record() },
            Health::Degraded,
            "RPO missed: the last recovery point is 10 s old, 5 s are allowed",
            "tanist replication sync db",
        ),
        (
            ReplicationRecord { published: None, policy: rpo(10), ..record() },
            Health::Ok,
            "no run has been made yet",
            "tanist replication sync db",
        ),
    ];
    for (record, health, summary, next) in cases {
        let found = health_of(record);
        assert_eq!((found.0, found.2.as_deref()), (health, Some(next)), "{}", found.1);
        assert!(found.1.contains(summary), "{}", found.1);
    }
}

fn rpo(seconds: u64) -> Policy {
    Policy { rpo_seconds: Some(seconds), ..record().policy }
}

#[test]
fn show_and_status_agree_on_when_an_rpo_is_missed() {
    // Created ten seconds ago, with a recovery point of that moment and without one.
    for published in [None, Some(RunId(4))] {
        for (allowed, missed) in [(9, true), (10, false)] {
            let machine = machine(state(ReplicationRecord { published, policy: rpo(allowed), ..record() }));
            let view = replication(&machine, &machine.state().replications[&ID]);
            assert_eq!(view.rpo_missed, missed, "{allowed} {published:?}");
            assert_eq!(view.health == Health::Degraded, missed, "{}", view.summary);
        }
    }
}

#[test]
fn a_transfer_that_is_done_and_being_removed_needs_nobody() {
    let mut removing = ReplicationRecord { intent: Intent::Deleting, once: true, policy: rpo(5), ..record() };
    let found = health_of(removing.clone());
    assert_eq!((found.0, found.1.as_str(), found.2), (Health::Ok, "being removed; the data stays", None));

    removing.unproven.insert(0, unproven(0, "h2"));
    let found = health_of(removing);
    assert_eq!(found.0, Health::Degraded);
    assert!(found.1.starts_with("the removal needs proof: epoch 0 of agent h2 is"), "{}", found.1);
}

#[test]
fn an_agent_that_could_not_take_over_is_redundancy_lost() {
    let mut state = state(record());
    state.agents.get_mut(&name("h2")).unwrap().drained = true;
    let machine = machine(state);
    let found = verdict(&machine, &machine.state().replications[&ID]);
    assert_eq!(found.health, Health::Degraded);
    assert!(found.summary.contains("agent h2 could not take over: it is drained"), "{}", found.summary);
    assert_eq!(found.next.as_deref(), Some("tanist agent undrain h2"));
}

#[test]
fn a_run_shows_the_agents_progress_and_the_time_left() {
    let mut state = state(ReplicationRecord { run: Some(RUN), target_dirty: Some(RUN), ..record() });
    state.runs.insert((ID, RUN), run(RunState::Copying));
    let machine = machine(state);
    let view = replication(&machine, &machine.state().replications[&ID]);
    assert_eq!(view.health, Health::Ok, "{}", view.summary);
    let run = view.run.unwrap();
    assert_eq!((run.done_bytes, run.rate_bytes_per_second, run.seconds_left), (500, 50, Some(10)));
    assert_eq!(run.limit.as_deref(), Some("the source"));
    let gauges = gauges::gauges(&machine);
    assert_eq!((gauges.replications[0].durable_bytes, gauges.replications[0].passed_bytes), (Some(250), Some(500)));
    assert_eq!(gauges.connected_agents, 2);
}

#[test]
fn an_abandoned_run_says_why() {
    let mut state = state(record());
    let failed = RunRecord { failure: Some("the source changed".into()), ..run(RunState::Abandoned) };
    state.runs.insert((ID, RUN), failed);
    let machine = machine(state);
    let found = verdict(&machine, &machine.state().replications[&ID]);
    assert_eq!(found.summary, "the last run was abandoned: the source changed");
}

#[test]
fn status_counts_and_lists_only_what_needs_a_human() {
    let mut state = state(ReplicationRecord { intent: Intent::Paused, ..record() });
    let soon = NOON.plus(Duration::from_hours(24 * 9));
    state.agents.get_mut(&name("h2")).unwrap().certificate_expires_at = soon;
    let machine = machine(state);
    let trouble = Trouble { since: NOON, reason: "no space".into() };
    let view = status::status(&Moment { machine: &machine, trouble: Some(&trouble) });
    assert_eq!((view.ok, view.degraded, view.stopped, view.term), (0, 1, 0, Term(3)));
    let subjects: Vec<&str> = view.concerns.iter().map(|concern| concern.subject.as_str()).collect();
    assert_eq!(subjects, ["server", "db", "h2"], "the worst first");
    assert!(view.concerns[2].summary.contains("expires at"));

    let well = self::machine(self::state(record()));
    let view = status::status(&Moment { machine: &well, trouble: None });
    assert_eq!((view.ok, view.concerns), (1, Vec::new()));
}

#[test]
fn status_lists_everything_that_is_wrong_and_counts_it_once() {
    let mut state = state(ReplicationRecord { policy: rpo(5), ..record() });
    state.agents.get_mut(&name("h2")).unwrap().drained = true;
    let machine = machine(state);
    let view = status::status(&Moment { machine: &machine, trouble: None });
    assert_eq!((view.ok, view.degraded, view.stopped), (0, 1, 0));
    let summaries: Vec<&str> = view.concerns.iter().map(|concern| concern.summary.as_str()).collect();
    assert!(
        matches!(summaries.as_slice(), [rpo, agent] if rpo.contains("RPO") && agent.contains("h2")),
        "{summaries:?}"
    );
}

#[test]
fn an_agent_that_is_connected_and_says_nothing_is_silent() {
    let mut machine = machine(state(record()));
    let silent = |machine: &ServerMachine| agents::agents(machine).iter().map(|agent| agent.silent).collect::<Vec<_>>();
    assert_eq!(silent(&machine), [false, false]);
    let (agent, connection) = (name("h1"), ConnectionId(1));
    machine.handle(at(13), Input::Message { agent, connection, message: beat(1) });
    assert_eq!(silent(&machine), [false, true]);
}

#[test]
fn agents_volumes_and_history_are_listed() {
    let machine = machine(state(record()));
    let agents = agents::agents(&machine);
    assert_eq!(agents.iter().map(|agent| agent.connected).collect::<Vec<_>>(), [true, true]);
    assert_eq!((agents[0].acting_for.len(), agents[0].failover_for.len()), (1, 0));
    assert_eq!((agents[1].acting_for.len(), agents[1].failover_for.len()), (0, 1));
    let volumes = storage::volumes(&machine);
    assert_eq!(volumes.len(), 2);
    assert_eq!(volumes[0].agents, [name("h1"), name("h2")]);
    let users = volumes.iter().filter_map(|volume| volume.used_by.as_ref());
    let users: Vec<String> = users.map(|user| format!("{} {}", user.replication, user.side)).collect();
    assert_eq!(users, ["db source", "db target"]);
    let points = history::recovery_points(&machine, &machine.state().replications[&ID]);
    assert_eq!(points.len(), 1);
}
