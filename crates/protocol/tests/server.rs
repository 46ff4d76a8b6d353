//! The server's machine in known states: what it says and commits where an agent lies, leaves, or comes twice. The simulator walks
//! through these moments too, and cannot tell one of them from another; here each has a name.

use std::time::Duration;

use tanist_model::agent::{AgentRecord, AgentSlot, Penalty, ShownCertificate};
use tanist_model::event::EventCode;
use tanist_model::hierarchy::Hierarchy;
use tanist_model::id::{
    AgentName, ClusterId, CommandId, Epoch, Epochs, HostIdentity, Incarnation, Nonce, ReplicationId, ReplicationName,
    RunId, Term,
};
use tanist_model::policy::Policy;
use tanist_model::recovery_point::{RecoveryPoint, RecoveryPointPlace};
use tanist_model::replication::{Handover, Holder, Intent, ReplicationRecord, SideRecord, UnprovenEpoch};
use tanist_model::run::ChainDigest;
use tanist_model::state::State;
use tanist_model::takeover::{Evidence, PeerVerdict};
use tanist_model::time::{Monotonic, Now, Timestamp};
use tanist_model::volume::{VolumeContent, VolumeReport};
use tanist_protocol::driver::Output;
use tanist_protocol::message::{AgentMessage, CanaryReport, Heartbeat, Hello, PeerReport, ServerMessage};
use tanist_protocol::mutation::Mutations;
use tanist_protocol::server::{Command, ConnectionId, Effect, Input, ServerMachine};
use tanist_protocol::timers::Timers;

const DB: ReplicationId = ReplicationId(1);
const OTHERS: ReplicationId = ReplicationId(2);
const SIZE: u64 = 1 << 20;
const VOLUMES: [&str; 2] = ["san-a/vol1", "san-b/vol9"];
const FIRST: Epochs = Epochs { source: Epoch(1), target: Epoch(1) };

fn name(text: &str) -> AgentName {
    AgentName::new(text).unwrap()
}

fn host(boot: &str) -> HostIdentity {
    HostIdentity { machine_id: "machine".into(), boot_id: boot.into() }
}

fn at(millis: u64) -> Now {
    let since = Duration::from_millis(millis);
    Now { monotonic: Monotonic(millis * 1000), wall: Timestamp(1_795_342_800_000_000).plus(since) }
}

fn member(agent: &str, slot: u8) -> AgentRecord {
    AgentRecord {
        name: name(agent),
        slot: AgentSlot(slot),
        certificate_serial: "01".into(),
        previous_serial: None,
        certificate_expires_at: Timestamp(i64::MAX),
        joined_at: at(0).wall,
        removed: false,
        drained: false,
        penalty: Penalty::default(),
        host: Some(host("boot")),
        listen_address: None,
        owes_epochs: false,
    }
}

fn side(volume: &str, agents: &[&str]) -> SideRecord {
    let hierarchy = Hierarchy::new(agents.iter().map(|agent| name(agent)).collect()).unwrap();
    SideRecord { volume: volume.parse().unwrap(), identity: volume.into(), hierarchy }
}

/// The first process of an agent has this incarnation.
fn process(agent: &str) -> Incarnation {
    Incarnation(agent.trim_start_matches('h').parse().unwrap())
}

fn held_by(agent: &str) -> (Holder, UnprovenEpoch) {
    let (incarnation, granted_at) = (process(agent), at(0).wall);
    let (command, activated_at) = (CommandId(1), Some(granted_at));
    let holder = Holder { agent: name(agent), incarnation, host: host("boot"), command, granted_at, activated_at };
    let (epoch, agent, host) = (FIRST.target, name(agent), host("boot"));
    (holder, UnprovenEpoch { epoch, agent, incarnation, host, held_kernel_lock: false, granted_at })
}

/// h1 acts for it, h2 could; its last recovery point is on the target itself.
fn db() -> ReplicationRecord {
    let (holder, unproven) = held_by("h1");
    ReplicationRecord {
        id: DB,
        name: ReplicationName::new("db").unwrap(),
        source: side(VOLUMES[0], &["h1", "h2"]),
        target: side(VOLUMES[1], &["h1", "h2"]),
        policy: Policy::default(),
        intent: Intent::Enabled,
        size_bytes: SIZE,
        created_at: at(0).wall,
        epochs: FIRST,
        holder: Some(holder),
        vacancy: None,
        handover: None,
        reader: None,
        unproven: vec![unproven],
        target_dirty: None,
        run: None,
        published: Some(RunId(4)),
        quarantine: None,
        once: false,
    }
}

fn state(record: ReplicationRecord) -> State {
    let mut state = State { term: Term(3), ..State::default() };
    state.agents = [("h1", 1), ("h2", 2), ("h3", 3)].map(|(agent, slot)| (name(agent), member(agent, slot))).into();
    let point = RecoveryPoint {
        run: RunId(4),
        replication: DB,
        place: RecoveryPointPlace::Target,
        size_bytes: SIZE,
        chain: ChainDigest([1; 32]),
        epochs: FIRST,
        source_time: at(0).wall,
        published_at: at(0).wall,
        fuzzy: false,
        verified: true,
    };
    state.recovery_points.insert((DB, point.run), point);
    state.replications.insert(DB, record);
    state
}

/// A server that begins with this state.
fn server(state: State) -> ServerMachine {
    ServerMachine::new(ClusterId(1), state, Timers::DEFAULT, 7, Mutations::NONE, at(0))
}

fn connect(machine: &mut ServerMachine, agent: &str, incarnation: Incarnation, connection: u64, term: u64) -> Seen {
    let hello = Hello {
        incarnation,
        host: host("boot"),
        version: "test".into(),
        listen_address: Some(format!("{agent}:1")),
        highest_term: Term(term),
        storage: Vec::new(),
        volumes: Vec::new(),
        roles: Vec::new(),
        granted: Vec::new(),
    };
    let certificate = ShownCertificate { serial: "01".into(), expires_at: Timestamp(i64::MAX) };
    let connection = ConnectionId(connection);
    seen(
        machine
            .handle(at(10), Input::Connected { agent: name(agent), connection, certificate, hello: Box::new(hello) }),
    )
}

fn say(machine: &mut ServerMachine, agent: &str, connection: u64, message: AgentMessage) -> Seen {
    let connection = ConnectionId(connection);
    seen(machine.handle(at(20), Input::Message { agent: name(agent), connection, message }))
}

/// It reads both volumes and reaches its peers.
fn well(peers: &[&str]) -> AgentMessage {
    let canary = |volume: &str| CanaryReport {
        address: volume.parse().unwrap(),
        result: Ok(VolumeReport {
            address: volume.parse().unwrap(),
            identity: volume.into(),
            size_bytes: SIZE,
            read_only: false,
            in_use_by: None,
            content: VolumeContent::Blank,
            error: None,
        }),
        took_us: 1,
        age_ms: 0,
    };
    let reached = |peer: &&str| PeerReport {
        peer: name(peer),
        verdict: PeerVerdict::Reached { incarnation: process(peer) },
        took_us: 1,
        age_ms: 0,
    };
    let (canaries, peers) = (VOLUMES.map(canary).into(), peers.iter().map(reached).collect());
    AgentMessage::Heartbeat(Heartbeat { canaries, peers, ..Heartbeat::default() })
}

/// What a machine wants to have committed and done.
struct Seen(Output<Effect>);

fn seen(output: Output<Effect>) -> Seen {
    Seen(output)
}

impl Seen {
    fn events(&self) -> Vec<EventCode> {
        let groups = self.0.decisions().iter().filter_map(|decision| decision.group.as_ref());
        let changes = groups.flat_map(|group| &group.changes);
        changes
            .filter_map(|change| match change {
                tanist_model::change::Change::AppendEvent(event) => Some(event.code),
                _ => None,
            })
            .collect()
    }

    fn effects(&self) -> Vec<&Effect> {
        self.0.decisions().iter().flat_map(|decision| &decision.after).collect()
    }

    fn closes(&self, connection: u64) -> bool {
        self.effects().iter().any(|e| matches!(e, Effect::Close { connection: c, .. } if c.0 == connection))
    }

    fn refuses(&self, connection: u64) -> bool {
        let refused = |e: &&&Effect| matches!(e, Effect::Send { connection: c, message: ServerMessage::Refused { .. }, .. } if c.0 == connection);
        self.effects().iter().any(|e| refused(&e)) && self.closes(connection)
    }
}

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
    let command = Box::new(Command::ConfirmDead { agent: name(agent) });
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
