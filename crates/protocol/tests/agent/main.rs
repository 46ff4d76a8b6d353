//! The agent's machine without its shell: what it answers the server while its engines are at work.

use std::time::Duration;

use tanist_model::byte_range::ByteRanges;
use tanist_model::id::{
    ClusterId, CommandId, Epoch, Epochs, HostIdentity, Incarnation, Nonce, ReplicationId, RunId, SnapshotId, Term,
    VolumeAddress,
};
use tanist_model::policy::{SourceMode, VerifyMode};
use tanist_model::run::{BoundSnapshot, Checkpoint, RunMethod};
use tanist_model::time::{Monotonic, Now, Timestamp};
use tanist_model::volume::{VolumeContent, VolumeReport};
use tanist_protocol::agent::{AgentIdentity, AgentMachine, Effect, EngineCommand, EngineEvent, Input};
use tanist_protocol::message::{
    AgentMessage, Assignment, CanaryReport, CopyOrder, FenceReport, OrderNumber, RunFailureKind, RunOrder,
    ServerMessage, SourceAccess, Stamp,
};
use tanist_protocol::mutation::Mutations;
use tanist_protocol::timers::Timers;

const DB: ReplicationId = ReplicationId(1);
const RUN: RunId = RunId(9);
const OWN: Incarnation = Incarnation(7);
const NOW: Now = Now { monotonic: Monotonic(1_000_000), wall: Timestamp(1_795_342_800_000_000) };

fn epochs(source: u32, target: u32) -> Epochs {
    Epochs { source: Epoch(source), target: Epoch(target) }
}

fn stamp(epochs: Epochs) -> Stamp {
    Stamp { term: Term(1), replication: DB, epochs, incarnation: OWN }
}

fn connected() -> AgentMachine {
    let identity = AgentIdentity {
        name: "h2".parse().unwrap(),
        incarnation: OWN,
        host: HostIdentity { machine_id: "machine".into(), boot_id: "boot".into() },
        version: "test".into(),
        io: None,
        listen_address: None,
        granted: Vec::new(),
        granted_here: Vec::new(),
    };
    let mut machine = AgentMachine::new(identity, Timers::DEFAULT, 7, Mutations::NONE, NOW);
    let (storage, volumes, applications) = (Vec::new(), Vec::new(), Vec::new());
    machine.handle(NOW, Input::Connected { storage, volumes, applications, through: None });
    hear(&mut machine, ServerMessage::Welcome { term: Term(1), cluster: ClusterId(1), answers_beats: true });
    machine
}

fn effects(machine: &mut AgentMachine, input: Input) -> Vec<Effect> {
    effects_at(machine, 0, input)
}

fn effects_at(machine: &mut AgentMachine, after_ms: u64, input: Input) -> Vec<Effect> {
    let monotonic = NOW.monotonic.plus(Duration::from_millis(after_ms));
    let output = machine.handle(Now { monotonic, ..NOW }, input);
    output.decisions().iter().flat_map(|decision| decision.after.clone()).collect()
}

fn hear(machine: &mut AgentMachine, message: ServerMessage) -> Vec<Effect> {
    effects(machine, Input::Message(message))
}

fn engine(machine: &mut AgentMachine, epochs: Epochs, event: EngineEvent) -> Vec<Effect> {
    effects(machine, Input::Engine { replication: DB, epochs, event })
}

fn nonce(effects: &[Effect]) -> Nonce {
    let asked = effects.iter().find_map(|effect| match effect {
        Effect::Send(AgentMessage::GrantRequest { nonce, .. }) => Some(*nonce),
        _ => None,
    });
    asked.expect("a request for a grant")
}

/// Every epoch whose end the agent tells.
fn drained(effects: &[Effect]) -> Vec<Epochs> {
    let told = effects.iter().filter_map(|effect| match effect {
        Effect::Send(AgentMessage::Drained { epochs, .. }) => Some(*epochs),
        _ => None,
    });
    told.collect()
}

fn closes(effects: &[Effect], of: Epochs) -> bool {
    let closed =
        |e: &Effect| matches!(e, Effect::Engine { epochs, command: EngineCommand::Close { .. }, .. } if *epochs == of);
    effects.iter().any(closed)
}

/// It acts under these epochs, with an open engine.
fn activate(machine: &mut AgentMachine, epochs: Epochs) {
    let asked = hear(
        machine,
        ServerMessage::Activate { stamp: stamp(epochs), command: CommandId(u128::from(epochs.target.0)) },
    );
    let assignment = Box::new(Assignment {
        name: "db".parse().unwrap(),
        source: "san-a/vol1".parse().unwrap(),
        source_identity: "s".into(),
        target: "san-b/vol9".parse().unwrap(),
        target_identity: "t".into(),
        size_bytes: 1 << 20,
        lock_may_be_held: false,
        reserve: None,
        array_copies: false,
    });
    hear(machine, ServerMessage::Grant { stamp: stamp(epochs), nonce: nonce(&asked), assignment });
    engine(machine, epochs, EngineEvent::Opened { fence: FenceReport::default() });
}

fn order(machine: &mut AgentMachine, number: u64, order: RunOrder) -> Vec<Effect> {
    let number = OrderNumber { term: Term(1), number };
    hear(machine, ServerMessage::OpenRun { stamp: stamp(epochs(1, 1)), number, order: Box::new(order) })
}

fn copy_from_stream() -> RunOrder {
    let (id, uid, mode) = (SnapshotId(9), "s9".into(), SourceMode::Snapshot);
    let copy = CopyOrder {
        run: RUN,
        snapshot: BoundSnapshot { id, uid, mode, size_bytes: 1 << 20, application: None },
        from: Checkpoint::START,
        committed: 0,
        verify: VerifyMode::Written,
        bandwidth_bytes_per_second: None,
        method: RunMethod::Full,
        unconditional: ByteRanges::default(),
    };
    let source = SourceAccess::Remote { reader: "h1".parse().unwrap(), epochs: epochs(1, 1) };
    RunOrder::Copy { copy: Box::new(copy), source }
}

/// The order to stand ready comes twice, and the order to copy before the second answer. The engine copies; a machine that took itself
/// for idle would let it begin once more over its own writes.
#[test]
fn a_second_word_of_readiness_does_not_end_a_copy() {
    let mut machine = connected();
    activate(&mut machine, epochs(1, 1));
    let kept = || EngineEvent::Kept { run: RUN, uid: None };
    order(&mut machine, 1, RunOrder::Keep { run: RUN, keep: None });
    engine(&mut machine, epochs(1, 1), kept());
    order(&mut machine, 2, RunOrder::Keep { run: RUN, keep: None });
    let copies = |effects: &[Effect]| {
        effects.iter().any(|e| matches!(e, Effect::Engine { command: EngineCommand::Copy { .. }, .. }))
    };
    assert!(copies(&order(&mut machine, 3, copy_from_stream())));
    assert!(engine(&mut machine, epochs(1, 1), kept()).is_empty(), "it is answered already");
    assert!(!copies(&order(&mut machine, 4, copy_from_stream())), "it copies");
}

/// A server whose store was restored knows the epoch of the target that it waits for, and not under which epoch of the source it was
/// granted. Until the engine has closed, the answer to it is silence: the word that an epoch has ended is final.
#[test]
fn an_engine_that_is_still_open_is_not_told_as_ended_under_another_source_epoch() {
    let mut machine = connected();
    activate(&mut machine, epochs(5, 4));
    let given_way = hear(&mut machine, ServerMessage::Activate { stamp: stamp(epochs(7, 6)), command: CommandId(6) });
    assert!(closes(&given_way, epochs(5, 4)));
    let asked = hear(&mut machine, ServerMessage::StepDown { stamp: stamp(epochs(4, 4)) });
    assert_eq!(drained(&asked), [], "its writes may still land");
    let closed = engine(&mut machine, epochs(5, 4), EngineEvent::Closed);
    assert_eq!(drained(&closed), [epochs(5, 4)]);
    let again = hear(&mut machine, ServerMessage::StepDown { stamp: stamp(epochs(4, 4)) });
    assert_eq!(drained(&again), [epochs(4, 4)], "nothing is open any more");
}

/// What a look at the target shows, so long after the beginning.
fn see(machine: &mut AgentMachine, after_ms: u64, well: bool) -> Vec<Effect> {
    let address: VolumeAddress = "san-b/vol9".parse().unwrap();
    let report = VolumeReport {
        address: address.clone(),
        identity: "t".into(),
        size_bytes: 1 << 20,
        read_only: false,
        in_use_by: None,
        content: VolumeContent::Blank,
        error: None,
        device: None,
    };
    let result = if well { Ok(report) } else { Err("input/output error".to_owned()) };
    let canaries = vec![CanaryReport { address, result, took_us: 1, age_ms: 0 }];
    effects_at(machine, after_ms, Input::Seen { canaries, peers: Vec::new() })
}

fn is_unfit(effects: &[Effect]) -> bool {
    effects.iter().any(|e| matches!(e, Effect::Send(AgentMessage::Unfit { .. })))
}

/// One that failed is looked at again as soon as that decides, and not only when it is time.
#[test]
fn a_read_that_fails_again_half_a_second_later_is_of_a_lost_path() {
    let mut machine = connected();
    activate(&mut machine, epochs(1, 1));
    assert!(!is_unfit(&see(&mut machine, 1000, false)));
    assert!(!is_unfit(&see(&mut machine, 1100, false)), "two looks in a moment are one");
    assert!(!effects_at(&mut machine, 1400, Input::Tick).contains(&Effect::Look));
    assert!(effects_at(&mut machine, 1500, Input::Tick).contains(&Effect::Look));
    assert!(!effects_at(&mut machine, 1510, Input::Tick).contains(&Effect::Look), "once");
    assert!(is_unfit(&see(&mut machine, 1520, false)));
}

#[test]
fn a_read_that_did_well_between_two_that_failed_is_of_no_lost_path() {
    let mut machine = connected();
    activate(&mut machine, epochs(1, 1));
    for (at, well) in [(1000, false), (1300, true), (1600, false), (2000, false)] {
        assert!(!is_unfit(&see(&mut machine, at, well)), "at {at}");
    }
}

#[test]
fn a_run_that_failed_at_the_storage_is_followed_by_a_look() {
    for (kind, looked) in [(RunFailureKind::Io, true), (RunFailureKind::Flush, true), (RunFailureKind::Mismatch, false)]
    {
        let mut machine = connected();
        activate(&mut machine, epochs(1, 1));
        order(&mut machine, 1, copy_from_stream());
        let failed = EngineEvent::RunFailed { run: RUN, kind, reason: "input/output error".into() };
        assert_eq!(engine(&mut machine, epochs(1, 1), failed).contains(&Effect::Look), looked, "{kind:?}");
    }
}
