//! One lie at a time, in a record that is true: each is named.

use super::*;
use crate::hierarchy::Rank;
use crate::id::{ClusterId, ReplicationId, RunId};
use crate::takeover::{Ending, Evidence, ProvenEpoch, TakeoverStatement};

const SIZE: u64 = 1 << 30;

fn agent(name: &str) -> AgentName {
    AgentName::new(name).unwrap()
}

fn candidate(rank: u8, name: &str, damped: bool, passed_over: Option<&str>) -> Candidate {
    Candidate { agent: agent(name), rank: Rank(rank), damped, passed_over: passed_over.map(str::to_owned) }
}

fn proven(epoch: u32, proof: ProofKind) -> ProvenEpoch {
    ProvenEpoch { epoch: Epoch(epoch), agent: agent("h1"), proof, at: Timestamp(40) }
}

/// h1 died; h2 is damped, so h3 comes first. Epoch 3 was proven by the lock, epoch 2 not yet.
fn record() -> TakeoverRecord {
    TakeoverRecord {
        replication: ReplicationId(1),
        epochs: Epochs { source: Epoch(4), target: Epoch(4) },
        evidence: Evidence::Restarted,
        from: Some(agent("h1")),
        to: agent("h3"),
        suspected_at: Timestamp(10),
        verdicts: Vec::new(),
        candidates: vec![
            candidate(1, "h1", false, Some("it is not connected")),
            candidate(2, "h2", true, None),
            candidate(3, "h3", false, None),
        ],
        named: None,
        committed_at: Timestamp(20),
        granted_at: Some(Timestamp(30)),
        activated_at: Some(Timestamp(40)),
        tier: Some(FencingTier::F3),
        held_kernel_lock: true,
        awaited: vec![Epoch(2), Epoch(3)],
        proven: vec![proven(3, ProofKind::KernelLock)],
        unproven: vec![Epoch(2)],
        run: Some(RunId(1)),
        resumed_seq: 4096,
        reported_seq: Some(8192),
        first_durable_write_at: Some(Timestamp(50)),
        copied_again_bytes: Some(STALL_WINDOW_BYTES),
    }
}

fn statement(takeover: TakeoverRecord) -> TakeoverStatement {
    TakeoverStatement {
        cluster: ClusterId(1),
        signed_at: Timestamp(60),
        replication: "db".parse().unwrap(),
        source: "a/x".parse().unwrap(),
        source_identity: "x".to_owned(),
        target: "b/y".parse().unwrap(),
        target_identity: "y".to_owned(),
        size_bytes: SIZE,
        follows: Some(Epochs { source: Epoch(4), target: Epoch(3) }),
        ending: Ending::Complete,
        takeover,
    }
}

/// What is found in a record after this change.
fn found(lie: impl FnOnce(&mut TakeoverRecord)) -> Vec<Contradiction> {
    let mut record = record();
    lie(&mut record);
    record.contradictions(SIZE)
}

#[test]
fn a_true_record_has_no_contradiction() {
    assert_eq!(statement(record()).contradictions(), []);
}

#[test]
fn who_acts_is_the_first_of_those_eligible_or_who_was_named() {
    let (h1, h2, h3) = (agent("h1"), agent("h2"), agent("h3"));
    let damped = found(|r| r.candidates[1].damped = false);
    assert_eq!(damped, [Contradiction::NotFirst { chosen: h3.clone(), first: h2.clone() }]);
    assert_eq!(found(|r| r.to = agent("h2")), [Contradiction::NotFirst { chosen: h2.clone(), first: h3.clone() }]);
    assert!(matches!(found(|r| r.to = agent("h1"))[..], [Contradiction::PassedOver { .. }]));
    assert_eq!(found(|r| r.to = agent("h9")), [Contradiction::NotACandidate(agent("h9"))]);
    assert_eq!(found(|r| r.candidates.swap(0, 1)), [Contradiction::CandidatesDisordered]);
    assert_eq!(found(|r| r.candidates[1].agent = agent("h3")), [Contradiction::CandidatesDisordered]);

    let named = found(|r| (r.named, r.to) = (Some(agent("h2")), agent("h2")));
    assert_eq!(named, [], "who was named goes before the order of ranks");
    assert_eq!(found(|r| r.named = Some(h1)), [], "unless it is not eligible");
    assert_eq!(found(|r| r.named = Some(agent("h2"))), [Contradiction::NotNamed { chosen: h3, named: h2 }]);
}

#[test]
fn commit_grant_activation_and_first_write_follow_each_other() {
    let lies: [fn(&mut TakeoverRecord); 4] = [
        |r| r.committed_at = Timestamp(9),
        |r| r.granted_at = Some(Timestamp(19)),
        |r| r.activated_at = Some(Timestamp(29)),
        |r| r.first_durable_write_at = Some(Timestamp(39)),
    ];
    for (number, lie) in lies.into_iter().enumerate() {
        assert!(matches!(found(lie)[..], [Contradiction::OutOfOrder { .. }]), "lie {number}");
    }
    assert_eq!(found(|r| r.granted_at = None), [], "a server that dies takes the moment of its grant with it");
    let lost = found(|r| (r.granted_at, r.committed_at) = (None, Timestamp(41)));
    assert!(matches!(lost[..], [Contradiction::OutOfOrder { .. }]), "{lost:?}");
    assert!(found(|r| (r.activated_at, r.tier) = (None, None)).contains(&Contradiction::NotActive));
}

#[test]
fn the_tier_is_that_of_the_proof() {
    assert!(matches!(found(|r| r.tier = Some(FencingTier::F2))[..], [Contradiction::Tier(FencingTier::F2, _)]));
    assert_eq!(found(|r| r.tier = None), [Contradiction::NoTier]);
    let all_proven = |r: &mut TakeoverRecord| {
        r.unproven.clear();
        r.proven.push(proven(2, ProofKind::NewBoot));
    };
    assert!(matches!(found(all_proven)[..], [Contradiction::Tier(FencingTier::F3, _)]));
    assert_eq!(
        found(|r| {
            all_proven(r);
            r.tier = Some(FencingTier::F2);
        }),
        []
    );
}

#[test]
fn every_awaited_epoch_is_accounted_for_once() {
    assert_eq!(found(|r| r.proven.clear()), [Contradiction::Unaccounted(Epoch(3))]);
    assert_eq!(found(|r| r.awaited.truncate(1)), [Contradiction::NotAwaited(Epoch(3))]);
    assert_eq!(found(|r| r.proven.push(proven(1, ProofKind::Drained))), [Contradiction::NotAwaited(Epoch(1))]);
    assert_eq!(found(|r| r.proven.push(proven(3, ProofKind::Drained))), [Contradiction::ToldTwice(Epoch(3))]);
    assert_eq!(found(|r| r.held_kernel_lock = false), [Contradiction::LockNotHeld(Epoch(3))]);
    assert_eq!(found(|r| r.proven.push(proven(2, ProofKind::KernelLock))), [], "a proof may come late");
    assert_eq!(found(|r| r.proven.push(proven(4, ProofKind::Drained))), [], "its own epoch ends as well");
    assert!(found(|r| r.awaited.push(Epoch(4))).contains(&Contradiction::NotEarlier(Epoch(4))));
}

#[test]
fn no_more_is_resumed_or_copied_again_than_can_be() {
    assert!(matches!(found(|r| r.resumed_seq = 8193)[..], [Contradiction::ResumedTooFar { most: 8192, .. }]));
    assert_eq!(found(|r| (r.resumed_seq, r.reported_seq) = (8193, None)), []);
    let beyond = |r: &mut TakeoverRecord| (r.resumed_seq, r.reported_seq) = (SIZE + 1, None);
    assert!(matches!(found(beyond)[..], [Contradiction::ResumedTooFar { most: SIZE, .. }]));
    let more = found(|r| r.copied_again_bytes = Some(STALL_WINDOW_BYTES + 1));
    assert!(matches!(more[..], [Contradiction::TooMuchCopiedAgain { most: STALL_WINDOW_BYTES, .. }]));
    let rest = found(|r| (r.resumed_seq, r.reported_seq) = (SIZE - 1, None));
    assert!(matches!(rest[..], [Contradiction::TooMuchCopiedAgain { most: 1, .. }]));
    assert_eq!(found(|r| r.run = None), [Contradiction::WriteWithoutRun]);
    assert_eq!(found(|r| r.copied_again_bytes = None), [Contradiction::WriteWithoutRun]);
}

#[test]
fn epochs_grow_and_the_ending_is_what_it_is_called() {
    let follows = |source, target| {
        let follows = Some(Epochs { source: Epoch(source), target: Epoch(target) });
        TakeoverStatement { follows, ..statement(record()) }.contradictions()
    };
    for (source, target) in [(4, 4), (5, 3), (4, 9)] {
        assert!(matches!(follows(source, target)[..], [Contradiction::EpochsDoNotGrow { .. }]));
    }
    assert_eq!(follows(1, 1), []);
    let unfinished = TakeoverRecord { first_durable_write_at: None, copied_again_bytes: None, ..record() };
    assert_eq!(statement(unfinished.clone()).contradictions(), [Contradiction::NotComplete]);
    let ending = Ending::WithoutWrite;
    assert_eq!(TakeoverStatement { ending, ..statement(unfinished) }.contradictions(), []);
}
