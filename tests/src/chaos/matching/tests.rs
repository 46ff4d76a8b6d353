//! Stories that are true, and the lies that have to be noticed.

use serde_json::json;
use tanist_model::event::Severity;
use tanist_model::id::EventSeq;

use super::*;
use crate::chaos::schedule::{Aim, Way};

const ROUND: [Round; 1] = [Round { from: Timestamp(0), to: seconds(60) }];

const fn seconds(number: i64) -> Timestamp {
    Timestamp(number * 1_000_000)
}

/// A fault of `h1`, which acts for `db1`, from the tenth second on.
fn injected(fault: Fault, lasts: i64) -> Injected {
    Injected {
        number: 1,
        round: 1,
        fault,
        agent: Some("h1".to_owned()),
        acts_for: vec!["db1".to_owned()],
        reads_for: Vec::new(),
        direct: true,
        hinders: true,
        at: seconds(10),
        healed_at: Some(seconds(10 + lasts)),
    }
}

fn kill() -> Injected {
    injected(Fault::Kill { aim: Aim::Acting }, 1)
}

fn takeover(from: &str, epoch: u32, suspected: i64) -> TakeoverRecord {
    let evidence = Evidence::BeatsMissed { silent_ms: 1000 };
    let (at, none) = (seconds(suspected), ());
    let record = json!({
        "replication": format!("{:016x}", 7), "epochs": { "source": epoch, "target": epoch }, "evidence": evidence,
        "from": from, "to": "h2", "suspected_at": at, "verdicts": [], "candidates": [], "committed_at": at,
        "granted_at": at, "activated_at": at, "tier": none, "held_kernel_lock": false, "proven": [], "unproven": [],
        "run": none, "resumed_seq": 0, "reported_seq": none, "first_durable_write_at": at, "copied_again_bytes": none,
    });
    serde_json::from_value(record).expect("a record of a takeover")
}

fn event(seq: u64, code: EventCode, agent: &str, at: i64) -> Event {
    Event {
        seq: EventSeq(seq),
        at: seconds(at),
        code,
        severity: Severity::Info,
        replication: Some("db1".parse().expect("a name")),
        agent: Some(agent.parse().expect("a name")),
        actor: "server".to_owned(),
        message: String::new(),
    }
}

/// Each takeover is told of once, and h1 comes back at the 12th second.
fn records(takeovers: Vec<TakeoverRecord>) -> Records {
    let told = (1..).zip(&takeovers).map(|(seq, t)| event(seq, EventCode::TakeoverCommitted, t.to.as_str(), 11));
    let back = event(99, EventCode::AgentConnected, "h1", 12);
    let events = told.chain([back]).collect();
    Records { takeovers: [("db1".to_owned(), takeovers)].into(), events }
}

#[track_caller]
fn assert_true(log: &[Injected], records: &Records) {
    assert_eq!(untruths(log, &ROUND, records, None), [""; 0]);
}

#[track_caller]
fn assert_found(log: &[Injected], records: &Records, words: &str) {
    let found = untruths(log, &ROUND, records, None);
    assert!(found.iter().any(|text| text.contains(words)), "'{words}' in {found:#?}");
}

#[test]
fn a_killed_acting_agent_has_exactly_one_takeover() {
    assert_true(&[kill()], &records(vec![takeover("h1", 2, 11)]));
    assert_found(&[kill()], &records(Vec::new()), "has 0 takeovers");
    assert_found(&[kill()], &records(vec![takeover("h1", 2, 11), takeover("h1", 3, 13)]), "has 2 takeovers");
}

#[test]
fn no_takeover_lacks_a_fault() {
    assert_found(&[], &records(vec![takeover("h1", 2, 11)]), "no fault explains");
    assert_found(&[kill()], &records(vec![takeover("h1", 2, 11), takeover("h3", 3, 13)]), "no fault explains");
    let before = takeover("h1", 2, 9);
    assert_found(&[kill()], &records(vec![before, takeover("h1", 3, 11)]), "no fault explains");
    let when_all_was_well_again = takeover("h1", 3, 61);
    assert_found(&[kill()], &records(vec![takeover("h1", 2, 11), when_all_was_well_again]), "no fault explains");
}

#[test]
fn a_successor_that_fails_too_is_explained() {
    let mut declined = takeover("h2", 3, 12);
    declined.evidence = Evidence::ActivationTimeout;
    assert_true(&[kill()], &records(vec![takeover("h1", 2, 11), declined]));
}

#[test]
fn a_stop_is_noticed_when_it_lasts() {
    let stop = |lasts| [injected(Fault::Stop { aim: Aim::Acting }, lasts)];
    assert_found(&stop(4), &records(Vec::new()), "has 0 takeovers");
    assert_true(&stop(4), &records(vec![takeover("h1", 2, 11)]));
    let mut nobody_else = records(Vec::new());
    nobody_else.events.push(event(100, EventCode::Exhausted, "h1", 12));
    assert_true(&stop(4), &nobody_else);
    assert_found(&[kill()], &nobody_else, "has 0 takeovers");
    let server = Injected { agent: None, acts_for: Vec::new(), ..injected(Fault::KillServer, 4) };
    let mut no_server = records(Vec::new());
    no_server.events.push(event(100, EventCode::ServerStarted, "h1", 14));
    assert_true(&[stop(4)[0].clone(), server], &no_server);
    assert_true(&stop(1), &records(Vec::new()));
    assert_true(&stop(1), &records(vec![takeover("h1", 2, 11)]));
}

#[test]
fn who_is_cut_off_from_the_server_only_is_relayed_and_not_replaced() {
    let cut = [injected(Fault::Cut { aim: Aim::Acting, from: From::Server, way: Way::Both }, 4)];
    let mut told = records(Vec::new());
    assert_found(&cut, &told, "no event of its own");
    told.events.push(event(100, EventCode::AgentRelayed, "h1", 12));
    assert_true(&cut, &told);
    told.takeovers = records(vec![takeover("h1", 2, 11)]).takeovers;
    assert_found(&cut, &told, "wanted is NoTakeover");
}

#[test]
fn a_reader_that_was_needed_is_missed() {
    let fault = Fault::Stop { aim: Aim::Reader };
    let reader = Injected { acts_for: Vec::new(), reads_for: vec!["db1".to_owned()], ..injected(fault, 4) };
    let mut told = records(Vec::new());
    assert_true(&[Injected { hinders: false, ..reader.clone() }], &told);
    assert_found(std::slice::from_ref(&reader), &told, "no event of its own");
    told.events.push(event(100, EventCode::ReaderSuspected, "h1", 12));
    assert_true(&[reader], &told);
}

#[test]
fn a_disk_that_was_in_the_way_of_a_run_is_told_of() {
    let fails = Fault::Disk { fails: Failure::WriteErrors, delay_ms: 0 };
    let disk = Injected { agent: None, acts_for: Vec::new(), ..injected(fails, 4) };
    let of = |log: &[Injected], told: &Records| untruths(log, &ROUND, told, Some(Faulty::Storage));
    let mut told = records(Vec::new());
    assert_eq!(of(std::slice::from_ref(&disk), &told).len(), 1);
    assert!(of(&[Injected { hinders: false, ..disk.clone() }], &told).is_empty());
    told.events.push(event(100, EventCode::RunRepaired, "h2", 12));
    assert!(of(std::slice::from_ref(&disk), &told).is_empty());
    // It said itself that it cannot go on; one that was silent did not fail because of a disk.
    let mut unfit = takeover("h2", 2, 12);
    unfit.evidence = Evidence::ReportedUnfit { reason: "it cannot read".to_owned() };
    told.takeovers = records(vec![unfit]).takeovers;
    told.events.push(event(101, EventCode::TakeoverCommitted, "h2", 12));
    assert!(of(std::slice::from_ref(&disk), &told).is_empty());
    told.takeovers = records(vec![takeover("h2", 2, 12)]).takeovers;
    assert_eq!(of(&[disk], &told).len(), 1);
}

#[test]
fn one_event_stands_for_one_fault() {
    let server = |number| Injected { number, agent: None, acts_for: Vec::new(), ..injected(Fault::KillServer, 1) };
    let log = [server(1), server(2)];
    let mut told = records(Vec::new());
    told.events.push(event(100, EventCode::ServerStarted, "h1", 12));
    assert_found(&log, &told, "fault 2");
    told.events.push(event(101, EventCode::ServerStarted, "h1", 13));
    assert_true(&log, &told);
}

#[test]
fn a_takeover_is_told_of_once() {
    let mut told = records(vec![takeover("h1", 2, 11)]);
    told.events.push(event(100, EventCode::TakeoverCommitted, "h2", 12));
    assert_found(&[kill()], &told, "1 takeovers are recorded, and 2 are told of");
}
