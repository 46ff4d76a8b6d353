//! A server in a known state, agents that say what a test wants them to, and what the server makes of it.

use std::time::Duration;

use tanist_model::agent::{AgentRecord, AgentSlot, Penalty, ShownCertificate};
use tanist_model::api::ConfirmDead;
use tanist_model::event::EventCode;
use tanist_model::hierarchy::Hierarchy;
use tanist_model::id::{
    AgentName, ClusterId, CommandId, Epoch, Epochs, HostIdentity, Incarnation, ReplicationId, ReplicationName, RunId,
    Term,
};
use tanist_model::policy::Policy;
use tanist_model::recovery_point::{RecoveryPoint, RecoveryPointPlace};
use tanist_model::replication::{
    Agenda, ArrayCopies, Holder, Intent, ReplicationRecord, SideRecord, Standing, UnprovenEpoch,
};
use tanist_model::run::ChainDigest;
use tanist_model::state::State;
use tanist_model::takeover::PeerVerdict;
use tanist_model::time::{Monotonic, Now, Timestamp};
use tanist_model::volume::{VolumeContent, VolumeReport};
use tanist_protocol::driver::Output;
use tanist_protocol::message::{AgentMessage, CanaryReport, Heartbeat, Hello, PeerReport, ServerMessage};
use tanist_protocol::mutation::Mutations;
use tanist_protocol::server::{Command, ConnectionId, Effect, Input, ServerMachine};
use tanist_protocol::timers::Timers;

pub const DB: ReplicationId = ReplicationId(1);
pub const OTHERS: ReplicationId = ReplicationId(2);
pub const SIZE: u64 = 1 << 20;
pub const VOLUMES: [&str; 2] = ["san-a/vol1", "san-b/vol9"];
pub const FIRST: Epochs = Epochs { source: Epoch(1), target: Epoch(1) };

/// The word of an operator who has just looked.
pub fn vouched_dead(machine: &ServerMachine, agent: &str) -> Box<Command> {
    let agent = name(agent);
    let seen = ConfirmDead { term: machine.state().term, processes: machine.unproven_processes(&agent) };
    Box::new(Command::ConfirmDead { agent, seen })
}

pub fn name(text: &str) -> AgentName {
    AgentName::new(text).unwrap()
}

pub fn host(boot: &str) -> HostIdentity {
    HostIdentity { machine_id: "machine".into(), boot_id: boot.into() }
}

pub fn at(millis: u64) -> Now {
    let since = Duration::from_millis(millis);
    Now { monotonic: Monotonic(millis * 1000), wall: Timestamp(1_795_342_800_000_000).plus(since) }
}

pub fn member(agent: &str, slot: u32) -> AgentRecord {
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

pub fn side(volume: &str, agents: &[&str]) -> SideRecord {
    let hierarchy = Hierarchy::new(agents.iter().map(|agent| name(agent)).collect()).unwrap();
    SideRecord { volume: volume.parse().unwrap(), identity: volume.into(), hierarchy }
}

/// The first process of an agent has this incarnation.
pub fn process(agent: &str) -> Incarnation {
    Incarnation(agent.trim_start_matches('h').parse().unwrap())
}

pub fn held_by(agent: &str) -> (Holder, UnprovenEpoch) {
    let (incarnation, granted_at) = (process(agent), at(0).wall);
    let (command, activated_at) = (CommandId(1), Some(granted_at));
    let holder = Holder { agent: name(agent), incarnation, host: host("boot"), command, granted_at, activated_at };
    let (epoch, agent, host) = (FIRST.target, name(agent), host("boot"));
    (
        holder,
        UnprovenEpoch {
            epoch,
            agent,
            incarnation,
            host,
            held_kernel_lock: false,
            lock_place: None,
            reservation: Standing::NotNeeded,
            array_copies: ArrayCopies::None,
            outlives_host: false,
            quiet: None,
            granted_at,
        },
    )
}

/// h1 acts for it, h2 could; its last recovery point is on the target itself.
pub fn db() -> ReplicationRecord {
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
        reserved: None,
        target_dirty: None,
        doubtful: Default::default(),
        changes: Default::default(),
        run: None,
        published: Some(RunId(4)),
        quarantine: None,
        once: false,
        quiesced: Vec::new(),
        refused: Default::default(),
        agenda: Agenda::default(),
        leave_behind: false,
        rpo_missed: false,
        drills: Default::default(),
        origin: None,
    }
}

pub fn state(record: ReplicationRecord) -> State {
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
        application: None,
        pinned: false,
        assumed_bytes: 0,
        by_changes: false,
        damaged_at: None,
        doubtful_since: None,
        verified_at: None,
        expired: false,
    };
    state.recovery_points.insert((DB, point.run), point);
    state.replications.insert(DB, record);
    state
}

/// A server that begins with this state.
pub fn server(state: State) -> ServerMachine {
    server_at(state, at(0))
}

pub fn server_at(state: State, now: Now) -> ServerMachine {
    ServerMachine::new(ClusterId(1), state, Timers::DEFAULT, 7, Mutations::NONE, now)
}

pub fn connect(machine: &mut ServerMachine, agent: &str, incarnation: Incarnation, connection: u64, term: u64) -> Seen {
    connect_at(machine, at(10), (agent, incarnation), connection, term)
}

pub fn connect_at(
    machine: &mut ServerMachine,
    now: Now,
    (agent, incarnation): (&str, Incarnation),
    connection: u64,
    term: u64,
) -> Seen {
    arrive(machine, now, (agent, incarnation), connection, (term, 0, None))
}

/// The connection that the process counts as this one, carried by a peer or not.
pub fn connect_on(
    machine: &mut ServerMachine,
    who: (&str, Incarnation),
    connection: u64,
    count: u64,
    through: Option<&str>,
) -> Seen {
    arrive(machine, at(10), who, connection, (0, count, through))
}

fn arrive(
    machine: &mut ServerMachine,
    now: Now,
    (agent, incarnation): (&str, Incarnation),
    connection: u64,
    (term, count, through): (u64, u64, Option<&str>),
) -> Seen {
    let (highest_term, through) = (Term(term), through.map(name));
    let hello = Hello { highest_term, through, connection: count, ..hello(agent, incarnation) };
    connect_with(machine, now, agent, connection, hello)
}

/// What an agent says that has nothing to say.
pub fn hello(agent: &str, incarnation: Incarnation) -> Hello {
    Hello {
        incarnation,
        host: host("boot"),
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
    }
}

pub fn connect_with(machine: &mut ServerMachine, now: Now, agent: &str, connection: u64, hello: Hello) -> Seen {
    let certificate = ShownCertificate { serial: "01".into(), expires_at: Timestamp(i64::MAX) };
    let connection = ConnectionId(connection);
    seen(machine.handle(now, Input::Connected { agent: name(agent), connection, certificate, hello: Box::new(hello) }))
}

pub fn say(machine: &mut ServerMachine, agent: &str, connection: u64, message: AgentMessage) -> Seen {
    say_at(machine, at(20), agent, connection, message)
}

pub fn say_at(machine: &mut ServerMachine, now: Now, agent: &str, connection: u64, message: AgentMessage) -> Seen {
    let connection = ConnectionId(connection);
    seen(machine.handle(now, Input::Message { agent: name(agent), connection, message }))
}

/// A volume as every agent sees it: its address is its identity too.
pub fn volume_report(volume: &str) -> VolumeReport {
    VolumeReport {
        address: volume.parse().unwrap(),
        identity: volume.into(),
        size_bytes: SIZE,
        read_only: false,
        in_use_by: None,
        content: VolumeContent::Blank,
        error: None,
        device: None,
    }
}

/// It reads both volumes and reaches its peers.
pub fn well(peers: &[&str]) -> AgentMessage {
    reading(peers, 1)
}

/// It reads both volumes in this time, and reaches its peers.
pub fn reading(peers: &[&str], took_us: u64) -> AgentMessage {
    let canary = |volume: &str| CanaryReport {
        address: volume.parse().unwrap(),
        result: Ok(volume_report(volume)),
        took_us,
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
pub struct Seen(pub Output<Effect>);

pub fn seen(output: Output<Effect>) -> Seen {
    Seen(output)
}

impl Seen {
    pub fn events(&self) -> Vec<EventCode> {
        let groups = self.0.decisions().iter().filter_map(|decision| decision.group.as_ref());
        let changes = groups.flat_map(|group| &group.changes);
        changes
            .filter_map(|change| match change {
                tanist_model::change::Change::AppendEvent(event) => Some(event.code),
                _ => None,
            })
            .collect()
    }

    pub fn effects(&self) -> Vec<&Effect> {
        self.0.decisions().iter().flat_map(|decision| &decision.after).collect()
    }

    pub fn closes(&self, connection: u64) -> bool {
        self.effects().iter().any(|e| matches!(e, Effect::Close { connection: c, .. } if c.0 == connection))
    }

    pub fn refuses(&self, connection: u64) -> bool {
        let refused = |e: &&&Effect| matches!(e, Effect::Send { connection: c, message: ServerMessage::Refused { .. }, .. } if c.0 == connection);
        self.effects().iter().any(|e| refused(&e)) && self.closes(connection)
    }
}
