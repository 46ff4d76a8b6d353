//! Sample bodies, as a server sends them, for the tests of rendering and of the JSON schema.

use std::time::Duration;

use tanist_model::api::{
    AgentView, AwaitedProof, CheckCell, CheckRow, Concern, Done, DrillsView, EventPage, Health, Ineligibility, Plan,
    RankedAgent, RecoveryPointView, ReplicationView, RunView, SideView, StatusView, StorageAgentView, StorageView,
    TokenCreated, VolumeUse, VolumeView, WhoAmI, WhyView,
};
use tanist_model::drill::{DrillPolicy, DrillResult, Milestone};
use tanist_model::event::{Event, EventCode};
use tanist_model::hierarchy::Rank;
use tanist_model::id::{
    AgentName, ClusterId, CommandId, Epoch, Epochs, EventSeq, HostIdentity, Incarnation, ReplicationId,
    ReplicationName, RunId, StorageName, Term, VolumeAddress,
};
use tanist_model::policy::{Policy, SourceMode, StreamCount, VerifyMode};
use tanist_model::recovery_point::RecoveryPointPlace;
use tanist_model::replication::{FencingTier, Intent, ProofKind, Side};
use tanist_model::run::{ChainDigest, RunState};
use tanist_model::stage::{Stage, StageUse};
use tanist_model::takeover::{
    Candidate, Ending, Evidence, PeerVerdict, ProbeVerdict, ProvenEpoch, TakeoverRecord, TakeoverStatement,
};
use tanist_model::time::Timestamp;
use tanist_model::volume::{
    DeviceReport, StorageCapabilities, StorageKind, StorageReport, VolumeContent, VolumeReport,
};
use tanist_model::work::RunWork;
use tanist_wire::ca::CertificateAuthority;
use tanist_wire::record::Opened;

use super::Style;
use super::record::VerifiedRecord;

const MIB: u64 = 1 << 20;

pub fn style() -> Style {
    Style { colour: false, now: at(60_000) }
}

/// So many milliseconds after 14:03 of a day in November.
fn at(millis: u64) -> Timestamp {
    Timestamp(1_795_356_180_000_000).plus(Duration::from_millis(millis))
}

fn agent(name: &str) -> AgentName {
    AgentName::new(name).unwrap()
}

pub fn name() -> ReplicationName {
    ReplicationName::new("db").unwrap()
}

fn volume(text: &str) -> VolumeAddress {
    text.parse().unwrap()
}

fn policy() -> Policy {
    Policy {
        source_mode: SourceMode::Sealed,
        verify: VerifyMode::Written,
        rpo_seconds: Some(900),
        bandwidth_bytes_per_second: Some(100 * MIB),
        schedule: "every 10m".parse().ok(),
        verify_schedule: None,
        retention: "last=3,daily=7".parse().unwrap(),
        automatic_handback: false,
        streams: StreamCount::default(),
        stored_digests: true,
        application: None,
        drill: DrillPolicy::default(),
    }
}

/// It was proven three days ago.
fn drills() -> DrillsView {
    let good = DrillResult {
        epoch: Epoch(2),
        at: Timestamp(style().now.0 - 3 * 86_400_000_000),
        by: "schedule".into(),
        to: agent("h2"),
        until: Milestone::FirstDurableWrite,
        took_ms: Some(410),
        fault: None,
    };
    let next_at = Some(Timestamp(style().now.0 + 4 * 86_400_000_000));
    DrillsView { last_good: Some(good.clone()), results: vec![good], next_at, waits_for: None, overdue: false }
}

fn side(side: Side, address: &str) -> SideView {
    let ranked = |rank, name, role: &str, eligible| RankedAgent {
        rank: Rank(rank),
        agent: agent(name),
        role: role.into(),
        eligible,
    };
    SideView {
        side,
        volume: volume(address),
        epoch: Epoch(3),
        acting: Some(agent("h2")),
        agents: vec![
            ranked(1, "h1", "passed over: not connected", false),
            ranked(2, "h2", "acting", true),
            ranked(3, "h3", "ready", true),
        ],
    }
}

/// A limit was set, and everything behind it waits.
fn stages() -> Vec<StageUse> {
    let of = |stage, [worked_permille, input_permille, output_permille]: [u16; 3], queue_limit_bytes| StageUse {
        stage,
        worked_permille,
        input_permille,
        output_permille,
        queued_bytes: queue_limit_bytes / 16,
        queue_limit_bytes,
    };
    vec![
        of(Stage::Bandwidth, [930, 0, 0], 0),
        of(Stage::Source, [60, 930, 0], 0),
        of(Stage::Encode, [24, 976, 0], 8 * MIB),
        of(Stage::Compare, [71, 929, 0], 8 * MIB),
        of(Stage::Target, [8, 992, 0], 8 * MIB),
        of(Stage::Commit, [55, 945, 0], 256 * MIB),
    ]
}

pub fn run() -> RunView {
    RunView {
        id: RunId(0x3f2a_9c01_0000_0001),
        state: RunState::Copying,
        agent: Some(agent("h2")),
        done_bytes: 312 * MIB,
        size_bytes: 512 * MIB,
        rate_bytes_per_second: 48 * MIB,
        seconds_left: Some(4),
        limit: Some("bandwidth".into()),
        stages: stages(),
        method: Some("delta".into()),
        snapshot: None,
        work: RunWork {
            scanned_bytes: 328 * MIB,
            same_bytes: 325 * MIB,
            assumed_bytes: 317 * MIB,
            unread_bytes: 0,
            compared_bytes: 8 * MIB,
            written_bytes: 2 * MIB,
            zeroed_bytes: MIB,
            sent_bytes: 0,
        },
        copied_again_bytes: 16 * MIB,
        takeovers: 1,
        repairs: 0,
        requested_at: at(48_000),
        finished_at: None,
        failure: None,
        waiting: None,
    }
}

pub fn recovery_point() -> RecoveryPointView {
    RecoveryPointView {
        run: RunId(0x11aa_0000_0000_0002),
        place: RecoveryPointPlace::Target,
        size_bytes: 512 * MIB,
        digest: ChainDigest([0xab; 32]),
        source_time: at(0),
        published_at: at(8_000),
        fuzzy: false,
        verified: true,
        assumed_bytes: 0,
        by_changes: false,
        damaged_at: None,
        doubtful_since: None,
        verified_at: None,
        pinned: false,
        expired: false,
        application: None,
    }
}

pub fn takeover() -> TakeoverRecord {
    let candidate = |rank, name, passed_over: Option<&str>| Candidate {
        agent: agent(name),
        rank: Rank(rank),
        damped: false,
        passed_over: passed_over.map(str::to_owned),
    };
    TakeoverRecord {
        replication: ReplicationId(1),
        epochs: Epochs { source: Epoch(3), target: Epoch(3) },
        evidence: Evidence::ConnectionEnded { reason: "connection reset".into() },
        from: Some(agent("h1")),
        to: agent("h2"),
        suspected_at: at(50_000),
        verdicts: vec![ProbeVerdict { peer: agent("h3"), verdict: PeerVerdict::Refused, at: at(50_003) }],
        candidates: vec![candidate(1, "h1", Some("not connected")), candidate(2, "h2", None), candidate(3, "h3", None)],
        named: None,
        committed_at: at(50_009),
        granted_at: Some(at(50_012)),
        activated_at: Some(at(50_031)),
        tier: Some(FencingTier::F2),
        held_kernel_lock: true,
        awaited: vec![Epoch(2)],
        proven: vec![ProvenEpoch { epoch: Epoch(2), agent: agent("h1"), proof: ProofKind::KernelLock, at: at(50_030) }],
        unproven: vec![],
        run: Some(RunId(0x3f2a_9c01_0000_0001)),
        resumed_seq: 128 * MIB,
        reported_seq: Some(136 * MIB),
        first_durable_write_at: Some(at(50_180)),
        copied_again_bytes: Some(16 * MIB),
    }
}

pub fn verified_record() -> VerifiedRecord {
    let cluster = ClusterId(0xa1);
    let statement = TakeoverStatement {
        cluster,
        signed_at: at(55_000),
        replication: name(),
        source: volume("san-a/vol1"),
        source_identity: "dev 8:1 inode 11".into(),
        target: volume("san-b/vol9"),
        target_identity: "dev 8:1 inode 12".into(),
        size_bytes: 512 * MIB,
        follows: Some(Epochs { source: Epoch(2), target: Epoch(2) }),
        ending: Ending::Complete,
        takeover: takeover(),
    };
    let authority = CertificateAuthority::create(cluster, at(0)).unwrap();
    let verified = VerifiedRecord::of(Opened { statement, authority: authority.anchor().clone() });
    // Each authority has another key.
    VerifiedRecord { authority: "ab".repeat(32), ..verified }
}

/// A run goes on after a takeover, and the target's storage makes no snapshots.
pub fn replication() -> ReplicationView {
    ReplicationView {
        name: name(),
        health: Health::Degraded,
        summary: "a run is in progress and the next one will wait for proof of quiet".into(),
        intent: Intent::Enabled,
        removal: None,
        once: false,
        state: "active".into(),
        size_bytes: 512 * MIB,
        policy: policy(),
        form: "direct".into(),
        tier: FencingTier::F3,
        promise: FencingTier::F3.promise().into(),
        epochs: Epochs { source: Epoch(3), target: Epoch(3) },
        acting: Some(agent("h2")),
        sides: vec![side(Side::Source, "san-a/vol1"), side(Side::Target, "san-b/vol9")],
        lag_seconds: Some(60),
        rpo_missed: false,
        last_recovery_point: Some(RecoveryPointView { place: RecoveryPointPlace::Gone, ..recovery_point() }),
        restorable_point: None,
        next_run_at: None,
        target_dirty: true,
        changes_disbelieved_at: None,
        run: Some(run()),
        last_run: Some(RunView {
            id: RunId(0x11aa_0000_0000_0002),
            state: RunState::Published,
            done_bytes: 512 * MIB,
            takeovers: 0,
            method: Some("full".into()),
            snapshot: None,
            work: RunWork {
                scanned_bytes: 512 * MIB,
                same_bytes: 0,
                assumed_bytes: 0,
                unread_bytes: 0,
                compared_bytes: 0,
                written_bytes: 500 * MIB,
                zeroed_bytes: 12 * MIB,
                sent_bytes: 501 * MIB,
            },
            copied_again_bytes: 0,
            limit: None,
            stages: Vec::new(),
            requested_at: at(0),
            finished_at: Some(at(8_000)),
            ..run()
        }),
        waits_for: Some("proof that h1 is quiet, before the next snapshot is applied".into()),
        awaited: vec![AwaitedProof {
            epoch: Epoch(2),
            agent: agent("h1"),
            host: HostIdentity { machine_id: "m1".into(), boot_id: "5c0ffee5-0000".into() },
            since: at(50_009),
        }],
        last_takeover: Some(takeover()),
        refused_frames: 2,
        drills: drills(),
        quiesced: Vec::new(),
        next: Some("tanist agent confirm-dead h1    # only if its host is off".into()),
    }
}

/// h3 reads the source for h2; on each side somebody stands by who could not do the other's work.
pub fn networked_replication() -> ReplicationView {
    let ranked = |rank, name, role: &str, eligible| RankedAgent {
        rank: Rank(rank),
        agent: agent(name),
        role: role.into(),
        eligible,
    };
    let source = vec![
        ranked(1, "h1", "passed over: it cannot read the source san-a/vol1: input/output error", false),
        ranked(2, "h3", "reader", true),
    ];
    let target = vec![ranked(1, "h2", "holder", true), ranked(2, "h4", "ready", true)];
    ReplicationView {
        form: "networked".into(),
        epochs: Epochs { source: Epoch(5), target: Epoch(3) },
        sides: vec![
            SideView { epoch: Epoch(5), acting: Some(agent("h3")), agents: source, ..side(Side::Source, "san-a/vol1") },
            SideView { agents: target, ..side(Side::Target, "san-b/vol9") },
        ],
        ..quiet_replication()
    }
}

/// Nothing to do: the last run is published and nobody waits.
pub fn quiet_replication() -> ReplicationView {
    ReplicationView {
        health: Health::Ok,
        summary: "the target equals the source as of 1 min ago".into(),
        tier: FencingTier::F2,
        promise: FencingTier::F2.promise().into(),
        last_recovery_point: Some(recovery_point()),
        restorable_point: Some(recovery_point()),
        target_dirty: false,
        changes_disbelieved_at: None,
        run: None,
        waits_for: None,
        awaited: vec![],
        last_takeover: None,
        quiesced: Vec::new(),
        refused_frames: 0,
        next: None,
        ..replication()
    }
}

pub fn plan() -> Plan {
    let cell = |to: &str, age_ms: Option<u64>, reason: Option<&str>| CheckCell {
        to: to.into(),
        ok: reason.is_none(),
        age_ms,
        took_us: reason.is_none().then_some(430),
        reason: reason.map(str::to_owned),
    };
    let row = |rank, name, cells, unable: Option<&str>| CheckRow {
        agent: agent(name),
        rank: Rank(rank),
        cells,
        ineligible: None,
        ineligible_for: unable
            .map(|why| Ineligibility { side: Side::Target, reason: why.into() })
            .into_iter()
            .collect(),
    };
    Plan {
        name: name(),
        source: volume("san-a/vol1"),
        target: volume("san-b/vol9"),
        size_bytes: 512 * MIB,
        target_size_bytes: 1024 * MIB,
        policy: policy(),
        form: "direct".into(),
        tier: FencingTier::F3,
        promise: FencingTier::F3.promise().into(),
        source_hierarchy: vec![agent("h1"), agent("h2")],
        target_hierarchy: vec![agent("h1"), agent("h2")],
        overwrites: "an ext4 file system".into(),
        remarks: vec!["while a run lasts there is no recovery point: san-b makes no snapshots".into()],
        matrix: vec![
            row(
                1,
                "h1",
                vec![
                    cell("server", Some(120), None),
                    cell("h2", Some(900), None),
                    cell("source", Some(4_000), None),
                    cell("target", Some(4_000), None),
                ],
                None,
            ),
            row(
                2,
                "h2",
                vec![
                    cell("server", Some(80), None),
                    cell("h1", Some(700), None),
                    cell("source", Some(3_000), None),
                    cell("target", None, Some("no such directory: /srv/san-b")),
                ],
                Some("it does not reach the target"),
            ),
        ],
    }
}

/// h1 reads for h2, and h2 cannot read.
pub fn networked_plan() -> Plan {
    let mut plan = Plan { form: "networked".into(), ..plan() };
    (plan.source_hierarchy, plan.target_hierarchy) = (vec![agent("h1")], vec![agent("h2")]);
    plan.matrix[0].cells.retain(|cell| cell.to != "target");
    plan.matrix[1].cells.retain(|cell| cell.to != "source");
    plan
}

pub fn agents() -> Vec<AgentView> {
    let base = AgentView {
        name: agent("h1"),
        connected: true,
        incarnation: Some(Incarnation(0xabc)),
        last_beat_age_ms: Some(180),
        silent: false,
        through: None,
        address: Some("10.0.0.11:7421".into()),
        drained: false,
        removed: false,
        damped: false,
        penalty: 0.0,
        acting_for: vec![name()],
        reading_for: vec![],
        failover_for: vec![],
        certificate_expires_at: at(60_000).plus(Duration::from_secs(89 * 86_400)),
        version: Some("0.1.0".into()),
        io: Some("io_uring".into()),
        unproven: vec![Incarnation(0xabc)],
    };
    let away = AgentView {
        name: agent("h2"),
        connected: false,
        last_beat_age_ms: None,
        address: None,
        damped: true,
        penalty: 2.4,
        acting_for: vec![],
        failover_for: vec![name()],
        unproven: vec![],
        ..base.clone()
    };
    vec![base, away]
}

pub fn storage() -> Vec<StorageView> {
    let report = StorageReport {
        name: StorageName::new("san-a").unwrap(),
        kind: StorageKind::Image,
        location: "/srv/san-a".into(),
        identity: "fs-1".into(),
        capabilities: StorageCapabilities {
            snapshots: false,
            kernel_lock: true,
            reservations: false,
            outlives_host: false,
            changed_extents: false,
        },
        error: None,
        copy_manager: None,
        pool: None,
    };
    vec![StorageView { name: report.name.clone(), agents: vec![StorageAgentView { agent: agent("h1"), report }] }]
}

pub fn volumes() -> Vec<VolumeView> {
    let report = VolumeReport {
        address: volume("san-a/vol1"),
        identity: "fs-1:77".into(),
        size_bytes: 512 * MIB,
        read_only: false,
        in_use_by: None,
        content: VolumeContent::Signature("ext4".into()),
        error: None,
        device: None,
    };
    let busy = VolumeReport {
        address: volume("san-b/vol9"),
        in_use_by: Some("mounted on /mnt".into()),
        content: VolumeContent::Blank,
        ..report.clone()
    };
    let disk = VolumeReport {
        address: volume("san-c/naa.6001405aaaabbbb-part1"),
        identity: "naa.6001405aaaabbbb-part1".into(),
        content: VolumeContent::Data,
        device: Some(DeviceReport {
            path: "/dev/sdb1".into(),
            logical_sector_bytes: 512,
            physical_sector_bytes: 4096,
            backed_by: vec!["naa.6001405aaaabbbb".into()],
            unfit_as_target: Some("it is partition 1 of a disk; a target is a whole device or a logical volume".into()),
        }),
        ..report.clone()
    };
    vec![
        VolumeView {
            report,
            agents: vec![agent("h1"), agent("h2")],
            used_by: Some(VolumeUse { replication: name(), side: Side::Source }),
        },
        VolumeView { report: busy, agents: vec![agent("h1")], used_by: None },
        VolumeView { report: disk, agents: vec![agent("h1")], used_by: None },
    ]
}

pub fn status() -> StatusView {
    StatusView {
        term: Term(4),
        ok: 3,
        degraded: 1,
        stopped: 0,
        concerns: vec![Concern {
            subject: "db".into(),
            health: Health::Degraded,
            summary: "the next snapshot waits for proof that h1 is quiet".into(),
            next: Some("tanist replication show db".into()),
        }],
    }
}

pub fn events() -> EventPage {
    let event = |seq, code: EventCode, agent: Option<&str>, actor: &str, message: &str| Event {
        seq: EventSeq(seq),
        at: at(50_000 + seq),
        code,
        severity: code.severity(),
        replication: Some(name()),
        agent: agent.map(|name| AgentName::new(name).unwrap()),
        actor: actor.into(),
        message: message.into(),
    };
    EventPage {
        events: vec![
            event(41, EventCode::TakeoverCommitted, Some("h2"), "server", "h2 takes over from h1, epoch 3"),
            event(42, EventCode::AgentConfirmedDead, Some("h1"), "admin", "h1 was confirmed dead"),
        ],
        last: EventSeq(42),
    }
}

pub fn why() -> WhyView {
    WhyView { name: name(), takeovers: vec![takeover()], readers: readers() }
}

fn readers() -> Vec<Event> {
    let event = |seq, code: EventCode, name, message: &str| Event {
        seq: EventSeq(seq),
        at: at(30_000 + seq),
        code,
        severity: code.severity(),
        replication: None,
        agent: Some(agent(name)),
        actor: "server".into(),
        message: message.into(),
    };
    vec![
        event(17, EventCode::ReaderSuspected, "h1", "agent reading the source, h1 is suspected: its connection ended"),
        event(29, EventCode::ReaderGranted, "h3", "agent h3 reads the source in place of h1 under epoch 5/3"),
    ]
}

pub fn done() -> Done {
    Done {
        command: CommandId(7),
        message: "a run of db was requested".into(),
        run: Some(RunId(0x3f2a_9c01_0000_0001)),
        epoch: None,
        next: Some("tanist replication show db".into()),
    }
}

pub fn token() -> TokenCreated {
    TokenCreated {
        agent: agent("h1"),
        token: "tjt_abc".into(),
        expires_at: at(960_000),
        ca_hash: "ab".repeat(32),
        address: "10.0.0.5:7420".into(),
    }
}

pub fn whoami() -> WhoAmI {
    WhoAmI { operator: "admin".into(), cluster: "00000000000000c1".into(), version: "0.1.0".into() }
}
