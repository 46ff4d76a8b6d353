//! Records to fill a store with, and a random source that names its seed.

#![allow(dead_code, reason = "each test file uses its part")]

#[path = "../../../../tests/src/wait.rs"]
pub mod wait;

use tanist_model::agent::{AgentRecord, AgentSlot, Penalty};
use tanist_model::change::{Change, CommandResult, Condition, Group, Transaction};
use tanist_model::enrolment::{Credential, JoinToken, SecretHash};
use tanist_model::event::{EventCode, NewEvent};
use tanist_model::hierarchy::Hierarchy;
use tanist_model::id::{
    AgentName, CommandId, Epoch, Epochs, HostIdentity, Incarnation, ReplicationId, ReplicationName, RunId, SnapshotId,
    Term,
};
use tanist_model::policy::Policy;
use tanist_model::recovery_point::{RecoveryPoint, RecoveryPointPlace};
use tanist_model::replication::{Holder, Intent, ReplicationRecord, SideRecord};
use tanist_model::run::{ChainDigest, Checkpoint, RunRecord, RunState, RunTrigger};
use tanist_model::takeover::{Evidence, TakeoverRecord};
use tanist_model::time::Timestamp;

pub fn epochs(number: u32) -> Epochs {
    Epochs { source: Epoch(number), target: Epoch(number) }
}

pub fn agent_name(text: &str) -> AgentName {
    AgentName::new(text).unwrap()
}

pub fn replication_name(text: &str) -> ReplicationName {
    ReplicationName::new(text).unwrap()
}

pub fn agent(name: &str, penalty: f64) -> AgentRecord {
    AgentRecord {
        name: agent_name(name),
        slot: AgentSlot(1),
        certificate_serial: "0a".into(),
        previous_serial: None,
        certificate_expires_at: Timestamp(9),
        joined_at: Timestamp(1),
        removed: false,
        drained: false,
        penalty: Penalty { value: penalty, at: Timestamp(3) },
        host: Some(host()),
        listen_address: Some("h1:7000".into()),
        owes_epochs: false,
    }
}

fn host() -> HostIdentity {
    HostIdentity { machine_id: "m".into(), boot_id: "b".into() }
}

fn side(volume: &str) -> SideRecord {
    let hierarchy = Hierarchy::new(vec![agent_name("h1"), agent_name("h2")]).unwrap();
    SideRecord { volume: volume.parse().unwrap(), identity: volume.into(), hierarchy }
}

pub fn replication(id: u64, name: &str, epoch: u32, incarnation: Option<u128>) -> ReplicationRecord {
    let holder = |incarnation| Holder {
        agent: agent_name("h1"),
        incarnation: Incarnation(incarnation),
        host: host(),
        command: CommandId(7),
        granted_at: Timestamp(5),
        activated_at: None,
    };
    ReplicationRecord {
        id: ReplicationId(id),
        name: replication_name(name),
        source: side("san-a/vol1"),
        target: side("san-b/vol1"),
        policy: Policy::default(),
        intent: Intent::Enabled,
        size_bytes: 1 << 30,
        created_at: Timestamp(2),
        epochs: epochs(epoch),
        reader: None,
        vacancy: None,
        handover: None,
        holder: incarnation.map(holder),
        unproven: Vec::new(),
        reserved: None,
        target_dirty: None,
        doubtful: Default::default(),
        changes: Default::default(),
        run: None,
        published: None,
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

/// From its stored form, in which a record may lack what was added to it later.
pub fn run(replication: u64, id: u64, state: RunState, at: i64) -> RunRecord {
    let body = serde_json::json!({
        "id": RunId(id),
        "replication": ReplicationId(replication),
        "state": state,
        "trigger": RunTrigger::Operator("ann".into()),
        "attempt": SnapshotId(id),
        "checkpoint": Checkpoint::START,
        "checkpoint_epochs": epochs(1),
        "takeovers": 0,
        "repairs": 0,
        "agent": "h1",
        "requested_at": Timestamp(at),
        "finished_at": state.is_finished().then_some(Timestamp(at + 1)),
    });
    serde_json::from_value(body).unwrap()
}

pub fn recovery_point(replication: u64, run: u64, gone: bool, at: i64) -> RecoveryPoint {
    RecoveryPoint {
        run: RunId(run),
        replication: ReplicationId(replication),
        place: if gone { RecoveryPointPlace::Gone } else { RecoveryPointPlace::Snapshot("s".into()) },
        size_bytes: 1 << 30,
        chain: ChainDigest([7; 32]),
        epochs: epochs(1),
        source_time: Timestamp(at),
        published_at: Timestamp(at),
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

pub fn takeover(replication: u64, epoch: u32) -> TakeoverRecord {
    TakeoverRecord {
        replication: ReplicationId(replication),
        epochs: epochs(epoch),
        evidence: Evidence::Restarted,
        from: Some(agent_name("h1")),
        to: agent_name("h2"),
        suspected_at: Timestamp(1),
        verdicts: Vec::new(),
        candidates: Vec::new(),
        named: None,
        committed_at: Timestamp(2),
        granted_at: None,
        activated_at: None,
        tier: None,
        held_kernel_lock: true,
        awaited: vec![Epoch(epoch)],
        proven: Vec::new(),
        unproven: vec![Epoch(epoch)],
        run: None,
        resumed_seq: 4096,
        reported_seq: None,
        first_durable_write_at: None,
        copied_again_bytes: None,
    }
}

pub fn command(id: u128, at: i64, body: &str) -> CommandResult {
    CommandResult { id: CommandId(id), at: Timestamp(at), body: serde_json::json!({ "answer": body }) }
}

pub fn token(hash: &str) -> JoinToken {
    JoinToken {
        hash: SecretHash(hash.into()),
        agent: agent_name("h1"),
        created_at: Timestamp(1),
        expires_at: Timestamp(2),
        used_at: None,
        created_by: "ann".into(),
    }
}

pub fn credential(hash: &str, revoked: bool) -> Credential {
    Credential { hash: SecretHash(hash.into()), operator: "ann".into(), created_at: Timestamp(1), revoked }
}

pub fn event(message: &str, replication: Option<&str>, agent: Option<&str>) -> Change {
    Change::AppendEvent(NewEvent {
        at: Timestamp(4),
        code: EventCode::Exhausted,
        replication: replication.map(|name| (ReplicationId(1), replication_name(name))),
        agent: agent.map(agent_name),
        actor: "server".into(),
        message: message.into(),
    })
}

pub fn put_replication(record: ReplicationRecord) -> Change {
    Change::PutReplication(Box::new(record))
}

/// One group under the term alone.
pub fn plain(term: Term, changes: Vec<Change>) -> Transaction {
    conditional(term, vec![(Condition::Term, changes)])
}

pub fn conditional(term: Term, groups: Vec<(Condition, Vec<Change>)>) -> Transaction {
    let groups = groups.into_iter().map(|(condition, changes)| Group { condition, changes }).collect();
    Transaction { term, groups }
}

pub fn current(id: u64, epoch: u32, incarnation: Option<u128>) -> Condition {
    Condition::Current {
        replication: ReplicationId(id),
        epochs: epochs(epoch),
        incarnation: incarnation.map(Incarnation),
    }
}

/// SplitMix64: small, and the same on every machine.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `0..bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}
