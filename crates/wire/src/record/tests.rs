//! A record is genuine to the last byte, or it is refused.

use std::time::Duration;

use tanist_model::id::{AgentName, Epoch, Epochs, ReplicationId, RunId};
use tanist_model::replication::{FencingTier, ProofKind};
use tanist_model::takeover::{Candidate, Ending, Evidence, ProvenEpoch, TakeoverRecord};

use super::*;
use crate::ca::AUTHORITY_LIFETIME;

const NOW: Timestamp = Timestamp(1_795_342_800_123_456);
const CLUSTER: ClusterId = ClusterId(7);

fn authority() -> CertificateAuthority {
    CertificateAuthority::create(CLUSTER, NOW).unwrap()
}

fn trusted(authority: &CertificateAuthority) -> Trusted {
    Trusted::Authority(authority.anchor().clone())
}

fn agent(name: &str) -> AgentName {
    AgentName::new(name).unwrap()
}

fn takeover() -> TakeoverRecord {
    let rank = tanist_model::hierarchy::Rank;
    TakeoverRecord {
        replication: ReplicationId(1),
        epochs: Epochs { source: Epoch(2), target: Epoch(2) },
        evidence: Evidence::ConnectionEnded { reason: "a \"reset\", and a line\n of it".into() },
        from: Some(agent("h1")),
        to: agent("h2"),
        suspected_at: NOW,
        verdicts: Vec::new(),
        candidates: vec![Candidate { agent: agent("h2"), rank: rank(1), damped: false, passed_over: None }],
        named: None,
        committed_at: NOW,
        granted_at: Some(NOW),
        activated_at: Some(NOW),
        tier: Some(FencingTier::F2),
        held_kernel_lock: true,
        awaited: vec![Epoch(1)],
        proven: vec![ProvenEpoch { epoch: Epoch(1), agent: agent("h1"), proof: ProofKind::KernelLock, at: NOW }],
        unproven: Vec::new(),
        run: Some(RunId(3)),
        resumed_seq: 4096,
        reported_seq: None,
        first_durable_write_at: Some(NOW),
        copied_again_bytes: Some(4096),
    }
}

fn statement() -> TakeoverStatement {
    TakeoverStatement {
        cluster: CLUSTER,
        signed_at: NOW,
        replication: "db".parse().unwrap(),
        source: "a/x".parse().unwrap(),
        source_identity: "x".to_owned(),
        target: "b/y".parse().unwrap(),
        target_identity: "y".to_owned(),
        size_bytes: 1 << 20,
        follows: None,
        ending: Ending::Complete,
        takeover: takeover(),
    }
}

fn document(authority: &CertificateAuthority) -> Vec<u8> {
    write(&seal(authority, &statement()).unwrap()).unwrap()
}

/// What [`seal`] would make of a text that no server writes.
fn sealed_text(authority: &CertificateAuthority, text: &str) -> Vec<u8> {
    let signature = authority.sign(&signed_part(SignedRecord::FORMAT, text)).unwrap();
    let record = SignedRecord {
        format: SignedRecord::FORMAT.to_owned(),
        statement: text.to_owned(),
        signature: hex::encode(signature),
        authority: hex::encode(authority.anchor().der()),
    };
    write(&record).unwrap()
}

#[test]
fn a_record_says_what_was_sealed_to_whoever_trusts_its_authority() {
    let authority = authority();
    let document = document(&authority);
    for trusted in [trusted(&authority), Trusted::Hash(authority.ca_hash())] {
        let opened = open(&document, &trusted).unwrap();
        assert_eq!((opened.statement, &opened.authority), (statement(), authority.anchor()));
    }
    assert!(open(document.strip_suffix(b"\n").unwrap(), &trusted(&authority)).is_ok(), "as the API sends it");
    assert_eq!(statement().contradictions(), []);
}

/// Every bit of every byte, every byte left out, every byte twice.
#[test]
fn a_record_with_any_byte_altered_is_refused() {
    let authority = authority();
    let trusted = trusted(&authority);
    let genuine = document(&authority);
    for position in 0..genuine.len() {
        for bit in 0..8 {
            let mut altered = genuine.clone();
            altered[position] ^= 1 << bit;
            assert!(open(&altered, &trusted).is_err(), "byte {position}, bit {bit}");
        }
        let mut shorter = genuine.clone();
        let removed = shorter.remove(position);
        // The line break at the end may be missing; two equal bytes cannot be told apart.
        if position + 1 < genuine.len() {
            assert!(open(&shorter, &trusted).is_err(), "byte {position} ({removed}) left out");
        }
        let mut longer = genuine.clone();
        longer.insert(position, genuine[position]);
        assert!(open(&longer, &trusted).is_err(), "byte {position} twice");
    }
    for length in 0..genuine.len() - 1 {
        assert!(open(&genuine[..length], &trusted).is_err(), "cut off at {length}");
    }
}

#[test]
fn the_same_said_in_another_way_is_refused() {
    let authority = authority();
    let sealed = seal(&authority, &statement()).unwrap();
    let refused = |document: &[u8]| open(document, &trusted(&authority)).unwrap_err();
    let pretty = serde_json::to_vec_pretty(&sealed).unwrap();
    assert!(matches!(refused(&pretty), RecordError::Rewritten));
    let upper = SignedRecord { signature: sealed.signature.to_uppercase(), ..sealed.clone() };
    assert!(matches!(refused(&write(&upper).unwrap()), RecordError::Rewritten));
    let newer = SignedRecord { format: "tanist-takeover-record/2".to_owned(), ..sealed.clone() };
    assert!(matches!(refused(&write(&newer).unwrap()), RecordError::Format(_)));
    let mut more = serde_json::to_value(&sealed).unwrap();
    more["comment"] = "x".into();
    assert!(matches!(refused(more.to_string().as_bytes()), RecordError::Garbled(_)));
    assert!(matches!(refused(&vec![b' '; RECORD_LIMIT + 1]), RecordError::TooLong(_)));
}

#[test]
fn a_record_of_another_installation_is_refused_whoever_it_claims_to_be() {
    let (ours, theirs) = (authority(), CertificateAuthority::create(ClusterId(8), NOW).unwrap());
    let genuine = sealed_text(&theirs, &serde_json::to_string(&statement()).unwrap());
    let refused = open(&genuine, &trusted(&ours)).unwrap_err();
    assert!(matches!(refused, RecordError::Foreign { cluster: ClusterId(8), .. }), "{refused}");
    assert!(refused.hint().contains("--authority"), "{}", refused.hint());

    // Their signature under our certificate.
    let mut forged: SignedRecord = serde_json::from_slice(&genuine).unwrap();
    forged.authority = hex::encode(ours.anchor().der());
    assert!(matches!(open(&write(&forged).unwrap(), &trusted(&ours)), Err(RecordError::Signature)));
    assert!(matches!(open(&genuine, &trusted(&theirs)), Err(RecordError::Cluster { stated: CLUSTER, .. })));
}

#[test]
fn what_is_signed_and_not_understood_is_refused() {
    let authority = authority();
    let open_text = |value: &Value| open(&sealed_text(&authority, &value.to_string()), &trusted(&authority));
    let mut text = serde_json::to_value(statement()).unwrap();
    assert!(open_text(&text).is_ok());
    text["takeover"]["keys_read_back"] = Value::Array(Vec::new());
    let refused = open_text(&text).unwrap_err();
    assert!(matches!(&refused, RecordError::SaysMore(path) if path == ".takeover.keys_read_back"), "{refused}");
    assert!(matches!(open_text(&Value::Null), Err(RecordError::Statement(_))));
}

#[test]
fn a_record_is_signed_while_its_authority_is_in_force_and_stays_valid_afterwards() {
    let authority = authority();
    let at = |signed_at| seal(&authority, &TakeoverStatement { signed_at, ..statement() });
    let day = Duration::from_hours(24);
    assert!(at(NOW.plus(AUTHORITY_LIFETIME - day)).is_ok());
    for outside in [NOW.plus(AUTHORITY_LIFETIME + day), Timestamp(NOW.0 - 86_400_000_000)] {
        assert!(matches!(at(outside), Err(RecordError::NotInForce { .. })));
    }
}

/// The key also signs grants: neither can be taken for the other.
#[test]
fn a_signature_for_another_purpose_is_none_for_a_record() {
    let authority = authority();
    let mut sealed = seal(&authority, &statement()).unwrap();
    sealed.signature = hex::encode(authority.sign(sealed.statement.as_bytes()).unwrap());
    assert!(matches!(open(&write(&sealed).unwrap(), &trusted(&authority)), Err(RecordError::Signature)));
}
