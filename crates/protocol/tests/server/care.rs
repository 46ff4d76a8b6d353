//! What the server sees to between faults: slowness, age, recovery points, the way back.

use tanist_model::event::EventCode;
use tanist_model::id::{AgentName, CommandId, Epoch, Epochs, Incarnation, RunId, SnapshotId};
use tanist_model::policy::{Policy, SourceMode};
use tanist_model::recovery_point::RecoveryPointPlace;
use tanist_model::replication::{Origin, ReplicationRecord, Side, UnprovenEpoch};
use tanist_model::run::{BoundSnapshot, ChainDigest, Checkpoint, RunRecord, RunState, RunTrigger, Verification};
use tanist_model::state::State;
use tanist_model::time::{Now, Timestamp};
use tanist_model::volume::{StorageCapabilities, StorageKind, StorageReport};
use tanist_model::work::RunWork;
use tanist_protocol::message::{
    AgentMessage, FenceReport, Heartbeat, Hello, LateFrames, RoleReport, RoleState, RunProgress, ServerMessage,
};
use tanist_protocol::server::{Command, ConnectionId, Effect, Input, ServerMachine};

use crate::world::{
    DB, FIRST, OTHERS, SIZE, Seen, at, connect_at, connect_with, db, hello, host, name, process, reading, say_at, seen,
    server_at, state, well,
};

pub const RUN: RunId = RunId(9);

/// So many seconds after the beginning.
fn second(seconds: u64) -> Now {
    at(seconds * 1000)
}

pub fn copying() -> RunRecord {
    let (id, uid, mode) = (SnapshotId(9), "s9".into(), SourceMode::Snapshot);
    let snapshot = BoundSnapshot { id, uid, mode, size_bytes: SIZE, application: None };
    RunRecord {
        id: RUN,
        replication: DB,
        state: RunState::Copying,
        trigger: RunTrigger::Operator("anna".into()),
        verify: tanist_model::policy::VerifyMode::Written,
        full: false,
        method: None,
        copy_ordered: false,
        attempt: SnapshotId(9),
        dead_attempts: Vec::new(),
        work: Default::default(),
        snapshot: Some(snapshot),
        checkpoint: Checkpoint { seq: 4096, chain: ChainDigest([0; 32]) },
        checkpoint_epochs: FIRST,
        takeovers: 0,
        repairs: 0,
        mismatches: 0,
        agent: Some(name("h1")),
        requested_at: at(0).wall,
        bound_at: Some(at(0).wall),
        checkpoint_at: Some(at(0).wall),
        finished_at: None,
        verification: None,
        failure: None,
    }
}

fn with_run(record: ReplicationRecord) -> State {
    let mut state = state(ReplicationRecord { run: Some(RUN), target_dirty: Some(RUN), ..record });
    state.runs.insert((DB, RUN), copying());
    state.recovery_points.get_mut(&(DB, RunId(4))).unwrap().place = RecoveryPointPlace::Snapshot("t4".into());
    state
}

pub fn role_of_h1(run: Option<RunId>) -> RoleReport {
    RoleReport {
        replication: DB,
        side: Side::Target,
        epochs: FIRST,
        state: RoleState::Active,
        fence: FenceReport::default(),
        run,
        stream: None,
        progress: None,
        late: Default::default(),
    }
}

/// Both agents are well for one more second; h1 works on the run and gets no further.
fn beat(machine: &mut ServerMachine, now: Now, run: Option<RunId>, took_us: u64) -> Vec<Seen> {
    let role = role_of_h1(run);
    let of = |message: AgentMessage, roles: Vec<RoleReport>| match message {
        AgentMessage::Heartbeat(beat) => AgentMessage::Heartbeat(Heartbeat { roles, ..beat }),
        other => other,
    };
    vec![
        say_at(machine, now, "h2", 2, of(reading(&["h1"], took_us), Vec::new())),
        say_at(machine, now, "h1", 1, of(well(&["h2"]), vec![role])),
        seen(machine.handle(now, Input::Tick)),
    ]
}

/// The machine over these seconds; everything it said.
fn live(machine: &mut ServerMachine, seconds: std::ops::Range<u64>, run: Option<RunId>) -> Vec<Seen> {
    // Beats come often enough for an acting agent.
    let moments = (seconds.start * 2..seconds.end * 2).map(|half| at(half * 500));
    moments.flat_map(|now| beat(machine, now, run, 1)).collect()
}

fn started(state: State) -> ServerMachine {
    started_at(state, at(0))
}

fn started_at(state: State, now: Now) -> ServerMachine {
    let mut machine = server_at(state, now);
    connect_at(&mut machine, now, ("h1", process("h1")), 1, 0);
    connect_at(&mut machine, now, ("h2", process("h2")), 2, 0);
    machine
}

fn events(seen: &[Seen]) -> Vec<EventCode> {
    seen.iter().flat_map(Seen::events).collect()
}

fn messages(seen: &[Seen]) -> Vec<ServerMessage> {
    let effects = seen.iter().flat_map(Seen::effects);
    effects
        .filter_map(|effect| match effect {
            Effect::Send { message, .. } => Some(message.clone()),
            _ => None,
        })
        .collect()
}

/// Who is to act next, or does already: an agent that does not drain is not waited for for long.
fn goes_to(machine: &ServerMachine) -> Option<AgentName> {
    let wanted = machine.state().replications[&DB].handover.clone().and_then(|handover| handover.to);
    wanted.or_else(|| machine.state().takeovers.values().next_back().map(|takeover| takeover.to.clone()))
}

#[test]
fn an_agent_that_is_too_slow_hands_over_once() {
    let mut machine = started(with_run(db()));
    let early = live(&mut machine, 1..25, Some(RUN));
    assert!(!events(&early).contains(&EventCode::GrayFailure));
    let late = live(&mut machine, 25..50, Some(RUN));
    assert_eq!(events(&late).iter().filter(|code| **code == EventCode::GrayFailure).count(), 1);
    assert_eq!(goes_to(&machine), Some(name("h2")));
    assert!(machine.state().agents[&name("h1")].penalty.value_at(second(50).wall) > 0.5);
}

/// While its store or its host holds the server up, nothing is committed, whoever the agents are.
#[test]
fn a_server_that_was_held_up_blames_no_agent() {
    let mut machine = started(with_run(db()));
    live(&mut machine, 1..25, Some(RUN));
    let held_up = live(&mut machine, 28..50, Some(RUN));
    assert!(!events(&held_up).contains(&EventCode::GrayFailure));
    assert!(
        events(&live(&mut machine, 50..70, Some(RUN))).contains(&EventCode::GrayFailure),
        "it is slow all the same"
    );
}

/// The successor is no faster. Two agents that hand a role to and fro would do less than either.
#[test]
fn a_slow_successor_keeps_the_role_for_ten_minutes() {
    let mut machine = started(with_run(db()));
    live(&mut machine, 1..32, Some(RUN));
    say_at(&mut machine, second(32), "h1", 1, AgentMessage::Drained { replication: DB, epochs: FIRST });
    assert_eq!(machine.state().replications[&DB].holder.as_ref().map(|h| h.agent.clone()), Some(name("h2")));
    let epochs = machine.state().replications[&DB].epochs;
    let fence = FenceReport::default();
    say_at(&mut machine, second(32), "h2", 2, AgentMessage::Activated { replication: DB, epochs, fence });
    let slow_h2 = |machine: &mut ServerMachine, seconds: std::ops::Range<u64>| {
        let moments = (seconds.start * 2..seconds.end * 2).map(|half| at(half * 500));
        let said = moments.flat_map(|now| {
            let role = RoleReport { epochs, ..role_of_h1(Some(RUN)) };
            let AgentMessage::Heartbeat(beat) = well(&["h1"]) else { unreachable!("a beat") };
            let acting = AgentMessage::Heartbeat(Heartbeat { roles: vec![role], ..beat });
            let well = say_at(machine, now, "h1", 1, well(&["h2"]));
            [well, say_at(machine, now, "h2", 2, acting), seen(machine.handle(now, Input::Tick))]
        });
        events(&said.collect::<Vec<_>>())
    };
    let gray = |codes: Vec<EventCode>| codes.into_iter().filter(|code| *code == EventCode::GrayFailure).count();
    assert_eq!(gray(slow_h2(&mut machine, 33..90)), 0, "at most one in ten minutes");
}

#[test]
fn slowness_that_the_peers_share_is_not_the_agents() {
    let mut machine = started(with_run(db()));
    // The successor reads the volumes slowly as well.
    let moments = (2..110).map(|half| at(half * 500));
    let said: Vec<Seen> = moments.flat_map(|now| beat(&mut machine, now, Some(RUN), 2_000_000)).collect();
    assert!(!events(&said).contains(&EventCode::GrayFailure));
}

#[test]
fn a_run_that_stands_still_is_opened_anew() {
    let mut alone = with_run(db());
    let record = alone.replications.get_mut(&DB).unwrap();
    record.source = crate::world::side(crate::world::VOLUMES[0], &["h1"]);
    record.target = crate::world::side(crate::world::VOLUMES[1], &["h1"]);
    let mut machine = started(alone);
    let said = live(&mut machine, 1..70, Some(RUN));
    assert_eq!(events(&said).iter().filter(|code| **code == EventCode::RunStalled).count(), 1);
    assert!(messages(&said).iter().any(|m| matches!(m, ServerMessage::CloseRun { run: RUN, .. })));
    // Nobody else could: it is tried again, and said no more.
    let said = live(&mut machine, 70..140, Some(RUN));
    assert!(!events(&said).contains(&EventCode::RunStalled));
    assert!(messages(&said).iter().any(|m| matches!(m, ServerMessage::CloseRun { run: RUN, .. })));
}

#[test]
fn a_missed_rpo_is_said_once_and_its_end_once() {
    let policy = Policy { rpo_seconds: Some(20), ..Policy::default() };
    let mut machine = started(state(ReplicationRecord { policy, ..db() }));
    let said = live(&mut machine, 1..40, None);
    assert_eq!(events(&said).iter().filter(|code| **code == EventCode::RpoMissed).count(), 1);
    // Another server knows that it has been said.
    let mut machine = started_at(machine.state().clone(), second(40));
    assert!(!events(&live(&mut machine, 40..45, None)).contains(&EventCode::RpoMissed));
    let mut younger = machine.state().clone();
    younger.recovery_points.get_mut(&(DB, RunId(4))).unwrap().source_time = second(44).wall;
    let mut machine = server_at(younger, second(45));
    let mut said = vec![connect_at(&mut machine, second(45), ("h1", process("h1")), 1, 0)];
    said.extend(live(&mut machine, 45..48, None));
    assert_eq!(events(&said).iter().filter(|code| **code == EventCode::RpoMet).count(), 1);
}

#[test]
fn work_goes_back_after_a_quarter_of_an_hour_if_that_is_wanted() {
    for (automatic_handback, expected) in [(false, None), (true, Some(name("h2")))] {
        let policy = Policy { automatic_handback, ..Policy::default() };
        let mut back = ReplicationRecord { policy, ..db() };
        // The acting agent is the second of its hierarchy.
        back.source = crate::world::side(crate::world::VOLUMES[0], &["h2", "h1"]);
        back.target = crate::world::side(crate::world::VOLUMES[1], &["h2", "h1"]);
        let mut machine = started(state(back));
        live(&mut machine, 1..890, None);
        assert!(machine.state().replications[&DB].handover.is_none(), "too early");
        live(&mut machine, 890..904, None);
        assert_eq!(goes_to(&machine), expected);
    }
}

/// A state in which run 9 is about to be published over these points, by age in hours.
fn with_points(keep: &str, ages: &[(u64, u64)]) -> State {
    let policy = Policy { retention: keep.parse().unwrap(), ..Policy::default() };
    let mut state = with_run(ReplicationRecord { policy, ..db() });
    let newest = state.recovery_points[&(DB, RunId(4))].clone();
    state.recovery_points.clear();
    for (run, hours) in ages {
        let mut point = newest.clone();
        point.run = RunId(*run);
        point.place = RecoveryPointPlace::Snapshot(format!("t{run}"));
        point.source_time = Timestamp(at(0).wall.0 - i64::try_from(hours * 3_600_000_000).unwrap());
        state.recovery_points.insert((DB, point.run), point);
    }
    state
}

fn publish(machine: &mut ServerMachine) {
    beat(machine, second(1), Some(RUN), 1);
    let checkpoint = Checkpoint { seq: SIZE, chain: ChainDigest([2; 32]) };
    let done = AgentMessage::RunComplete {
        replication: DB,
        epochs: FIRST,
        run: RUN,
        checkpoint,
        verified: true,
        work: Default::default(),
    };
    say_at(machine, second(1), "h1", 1, done);
    assert_eq!(machine.state().replications[&DB].published, Some(RUN));
}

fn expired(machine: &ServerMachine) -> Vec<u64> {
    machine.state().recovery_points.values().filter(|p| p.expired).map(|p| p.run.0).collect()
}

#[test]
fn the_retention_removes_at_publication_and_what_is_gone_is_struck_off_when_the_holder_says_so() {
    let mut machine = started(with_points("last=2", &[(1, 30), (2, 20), (3, 10)]));
    publish(&mut machine);
    assert_eq!(expired(&machine), [1, 2]);
    let said = live(&mut machine, 2..8, None);
    let ordered: Vec<Vec<SnapshotId>> = messages(&said)
        .into_iter()
        .filter_map(|m| match m {
            ServerMessage::Expire { snapshots, keep, .. } => {
                assert_eq!(keep, [SnapshotId(3)]);
                Some(snapshots)
            }
            _ => None,
        })
        .collect();
    assert_eq!(ordered, [vec![SnapshotId(1), SnapshotId(2)]]);
    // One is gone; another one is missing that should be there.
    let gone = AgentMessage::SnapshotsGone {
        replication: DB,
        epochs: FIRST,
        snapshots: vec![SnapshotId(1), SnapshotId(3), SnapshotId(77)],
    };
    let said = say_at(&mut machine, second(8), "h1", 1, gone);
    assert_eq!(said.events(), [EventCode::RecoveryPointGone, EventCode::RecoveryPointLost]);
    let place = |run: u64| machine.state().recovery_points[&(DB, RunId(run))].place.clone();
    assert_eq!((place(1), place(3)), (RecoveryPointPlace::Gone, RecoveryPointPlace::Gone));
    assert_eq!(place(2), RecoveryPointPlace::Snapshot("t2".into()), "not removed yet");
}

#[test]
fn a_pinned_point_stays() {
    let mut machine = started(with_points("last=1", &[(1, 30), (2, 20)]));
    let pin = |machine: &mut ServerMachine, id: u128, run: u64| {
        let command = Box::new(Command::Pin { name: db().name, run: RunId(run), pinned: true });
        let output = machine.handle(second(1), Input::Command { id: CommandId(id), actor: "anna".into(), command });
        let answer = seen(output).effects().into_iter().find_map(|effect| match effect {
            Effect::Answer { answer, .. } => Some(answer.is_ok()),
            _ => None,
        });
        answer.expect("an answer")
    };
    assert!(pin(&mut machine, 1, 1));
    assert!(!pin(&mut machine, 2, 55), "there is no such point");
    publish(&mut machine);
    assert_eq!(expired(&machine), [2]);
    assert!(!pin(&mut machine, 3, 2), "it is being removed");
}

#[test]
fn a_run_waits_for_a_slot_and_one_that_has_begun_does_not() {
    let limits = tanist_protocol::limits::Limits { runs: 0, ..Default::default() };
    let mut waiting = with_run(db());
    let run = waiting.runs.get_mut(&(DB, RUN)).unwrap();
    (run.state, run.snapshot, run.checkpoint) = (RunState::SnapshotPending, None, Checkpoint::START);
    let mut machine = server_at(waiting.clone(), at(0)).with_limits(limits);
    connect_at(&mut machine, at(0), ("h1", process("h1")), 1, 0);
    let said = live(&mut machine, 1..4, None);
    assert!(!messages(&said).iter().any(|m| matches!(m, ServerMessage::OpenRun { .. })));
    assert!(machine.waits_for_slot(&machine.state().replications[&DB]).is_some_and(|why| why.contains("slot")));
    // What has begun goes on.
    let mut machine = server_at(with_run(db()), at(0)).with_limits(limits);
    connect_at(&mut machine, at(0), ("h1", process("h1")), 1, 0);
    assert!(messages(&live(&mut machine, 1..4, None)).iter().any(|m| matches!(m, ServerMessage::OpenRun { .. })));
    let mut machine = started(waiting);
    assert!(messages(&live(&mut machine, 1..4, None)).iter().any(|m| matches!(m, ServerMessage::OpenRun { .. })));
}

/// It might repair what the restore reads.
#[test]
fn a_verification_waits_for_the_restore_that_reads_the_target() {
    let mut verifying = with_run(ReplicationRecord { target_dirty: None, ..db() });
    let run = verifying.runs.get_mut(&(DB, RUN)).unwrap();
    run.verification = Some(Verification { of: RunId(4), repair: true });
    run.state = RunState::Verifying;
    let mut restoring = verifying.clone();
    let origin = Origin { replication: DB, name: db().name, run: RunId(4), chain: ChainDigest([1; 32]) };
    let source = crate::world::side(crate::world::VOLUMES[1], &["h3"]);
    let target = crate::world::side("san-c/vol1", &["h3"]);
    let restore =
        ReplicationRecord { id: OTHERS, origin: Some(origin), source, target, holder: None, run: None, ..db() };
    restoring.replications.insert(OTHERS, ReplicationRecord { unproven: Vec::new(), published: None, ..restore });
    let opened = |state: State| {
        let said = live(&mut started(state), 1..4, None);
        messages(&said).iter().any(|m| matches!(m, ServerMessage::OpenRun { .. }))
    };
    assert!(opened(verifying), "without a restore it begins");
    assert!(!opened(restoring));
}

/// h1 says this of its role with a beat.
fn say_role(machine: &mut ServerMachine, now: Now, role: RoleReport) -> Seen {
    let AgentMessage::Heartbeat(beat) = well(&["h2"]) else { unreachable!("a beat") };
    say_at(machine, now, "h1", 1, AgentMessage::Heartbeat(Heartbeat { roles: vec![role], ..beat }))
}

#[test]
fn late_frames_are_counted_once_whatever_is_said_twice_and_under_its_epoch_alone() {
    let mut machine = started(with_run(db()));
    let late = |refused| LateFrames { refused, why: "the run is over".to_owned() };
    let told = [2, 2, 5].map(|refused| {
        let role = RoleReport { late: late(refused), ..role_of_h1(Some(RUN)) };
        events(&[say_role(&mut machine, second(1), role)]).contains(&EventCode::LateFramesRefused)
    });
    assert_eq!(told, [true, false, true]);
    let (source, target) = (Epoch(0), Epoch(0));
    let foreign = RoleReport { late: late(9), epochs: Epochs { source, target }, ..role_of_h1(Some(RUN)) };
    say_role(&mut machine, second(2), foreign);
    assert_eq!(machine.state().replications[&DB].refused.total, 5);
}

/// What its holder had done by its last beat is in the record when another one goes on, and what that one does comes on top.
#[test]
fn the_work_of_a_run_is_kept_over_a_takeover() {
    let mut machine = started(with_run(db()));
    let done = |scanned_bytes| RunWork { scanned_bytes, ..RunWork::default() };
    let progress = RunProgress { work: done(7000), ..RunProgress::default() };
    say_role(&mut machine, second(1), RoleReport { progress: Some(progress), ..role_of_h1(Some(RUN)) });
    let (agent, connection, reason) = (name("h1"), ConnectionId(1), "reset".to_owned());
    machine.handle(second(1), Input::Disconnected { agent, connection, reason });
    for half in 2..10 {
        say_at(&mut machine, at(half * 500), "h2", 2, reading(&["h3"], 1));
        machine.handle(at(half * 500), Input::Tick);
    }
    let record = machine.state().replications[&DB].clone();
    assert_eq!(record.holder.map(|holder| holder.agent), Some(name("h2")));
    let mut run = machine.state().runs[&(DB, RUN)].clone();
    assert_eq!(run.work.total(), done(7000));
    run.work.note(record.epochs.target, done(3000));
    assert_eq!(run.work.total().again_bytes(9000), 1000);
}

/// h1 acts and its next run waits; a process of h2 that held the lock is gone, and h2 runs again as another.
fn waiting_for_h2(held_kernel_lock: bool) -> State {
    let mut waiting = with_run(ReplicationRecord { target_dirty: None, ..db() });
    let run = waiting.runs.get_mut(&(DB, RUN)).unwrap();
    (run.state, run.snapshot, run.checkpoint) = (RunState::SnapshotPending, None, Checkpoint::START);
    let (_, current) = crate::world::held_by("h2");
    let (epoch, incarnation) = (Epoch(0), Incarnation(77));
    let record = waiting.replications.get_mut(&DB).unwrap();
    record.unproven.insert(0, UnprovenEpoch { epoch, incarnation, held_kernel_lock, ..current });
    waiting
}

/// What was left with a server of NBD is not ended by a new boot of who left it there.
#[test]
fn a_new_boot_proves_an_epoch_quiet_unless_it_outlives_its_host() {
    for outlives_host in [false, true] {
        let mut waiting = waiting_for_h2(false);
        waiting.replications.get_mut(&DB).unwrap().unproven[0].outlives_host = outlives_host;
        let mut machine = started(waiting);
        let hello = Hello { host: host("the next boot"), ..hello("h2", Incarnation(78)) };
        connect_with(&mut machine, at(600), "h2", 5, hello);
        let still = machine.state().replications[&DB].unproven.iter().any(|u| u.epoch == Epoch(0));
        assert_eq!(still, outlives_host);
    }
}

/// The grant writes down what the storage of the target says of itself.
#[test]
fn a_takeover_notes_that_its_epoch_outlives_its_host() {
    for outlives_host in [false, true] {
        let mut machine = started(with_run(db()));
        let capabilities = StorageCapabilities {
            snapshots: false,
            kernel_lock: false,
            reservations: false,
            outlives_host,
            changed_extents: false,
        };
        let target = machine.state().replications[&DB].target.volume.system.clone();
        let storage = vec![StorageReport {
            name: target,
            kind: StorageKind::Nbd,
            location: String::new(),
            identity: String::new(),
            capabilities,
            copy_manager: None,
            error: None,
            pool: None,
        }];
        connect_with(&mut machine, second(1), "h2", 6, Hello { storage, ..hello("h2", process("h2")) });
        let (agent, connection, reason) = (name("h1"), ConnectionId(1), "reset".to_owned());
        machine.handle(second(1), Input::Disconnected { agent, connection, reason });
        for half in 2..10 {
            say_at(&mut machine, at(half * 500), "h2", 6, reading(&["h3"], 1));
            machine.handle(at(half * 500), Input::Tick);
        }
        let record = &machine.state().replications[&DB];
        let own = record.unproven.iter().find(|u| u.epoch == record.epochs.target).unwrap();
        assert_eq!((own.agent.clone(), own.outlives_host), (name("h2"), outlives_host));
    }
}

#[test]
fn the_role_goes_to_the_host_that_can_tell_of_a_dead_process() {
    let mut machine = started(waiting_for_h2(true));
    live(&mut machine, 1..4, None);
    assert_eq!(goes_to(&machine), Some(name("h2")));
    // A lock that it never held proves nothing.
    let mut machine = started(waiting_for_h2(false));
    live(&mut machine, 1..4, None);
    assert_eq!(goes_to(&machine), None);
}

/// An agent whose old process hangs gives no proof. Asked for it again and again, it would keep the role from the one that can wait.
#[test]
fn an_errand_in_vain_is_not_repeated_at_once() {
    let mut machine = started(waiting_for_h2(true));
    live(&mut machine, 1..4, None);
    let mut in_vain = machine.state().clone();
    in_vain.replications.get_mut(&DB).unwrap().handover = None;
    machine.reload(in_vain).unwrap();
    live(&mut machine, 4..200, None);
    assert_eq!(goes_to(&machine), None);
    live(&mut machine, 200..304, None);
    assert_eq!(goes_to(&machine), Some(name("h2")), "what hung may have come to its end");
}

#[test]
fn a_run_that_waits_for_proof_takes_nobodys_slot() {
    let mut both = waiting_for_h2(false);
    let mut other = ReplicationRecord { id: OTHERS, ..db() };
    (other.run, other.name) = (Some(RUN), "other".parse().unwrap());
    both.replications.insert(OTHERS, other);
    let later = RunRecord { replication: OTHERS, requested_at: second(1).wall, ..both.runs[&(DB, RUN)].clone() };
    both.runs.insert((OTHERS, RUN), later);
    let limits = tanist_protocol::limits::Limits { runs: 1, ..Default::default() };
    let machine = server_at(both, at(0)).with_limits(limits);
    assert_eq!(machine.waits_for_slot(&machine.state().replications[&OTHERS]), None);
    assert_eq!(machine.waits_for_slot(&machine.state().replications[&DB]), None, "it waits for something else");
}

/// After a restore of the store the target is doubted; reading it settles that, and repairs nothing: it may be newer than the store.
#[test]
fn a_doubted_target_is_read_again_and_believed_or_left_as_it_is() {
    let mut doubted = with_run(ReplicationRecord { target_dirty: None, ..db() });
    doubted.runs.get_mut(&(DB, RUN)).unwrap().state = RunState::Published;
    let published = RunRecord { id: RunId(4), ..doubted.runs[&(DB, RUN)].clone() };
    doubted.runs.insert((DB, RunId(4)), published);
    doubted.recovery_points.get_mut(&(DB, RunId(4))).unwrap().place = RecoveryPointPlace::Gone;
    let record = doubted.replications.get_mut(&DB).unwrap();
    (record.run, record.target_dirty) = (None, Some(RunId(4)));
    let mut machine = started(doubted);
    let command = Box::new(Command::Verify { name: db().name, repair: true });
    machine.handle(second(1), Input::Command { id: CommandId(1), actor: "anna".into(), command });
    let run = machine.state().current_run(&machine.state().replications[&DB]).expect("a run").clone();
    assert!(run.verification.as_ref().is_some_and(|v| v.of == RunId(4) && !v.repair), "{run:?}");
    let (replication, epochs, verified) = (DB, FIRST, true);
    let (checkpoint, work) = (run.checkpoint, RunWork::default());
    let complete = AgentMessage::RunComplete { replication, epochs, run: run.id, checkpoint, verified, work };
    say_at(&mut machine, second(2), "h1", 1, complete);
    let state = machine.state();
    assert_eq!(state.recovery_points[&(DB, RunId(4))].place, RecoveryPointPlace::Target);
    assert_eq!((state.replications[&DB].target_dirty, state.replications[&DB].run), (None, None));
}
