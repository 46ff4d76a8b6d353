//! Which run has which method, and what its window covers.

use proptest::prelude::*;
use tanist_model::id::{Epoch, Epochs, ReplicationId, RunId, SnapshotId};
use tanist_model::recovery_point::RecoveryPointPlace;
use tanist_model::replication::ChangesTrust;
use tanist_model::run::{BoundSnapshot, ChainDigest, Checkpoint};
use tanist_model::time::Timestamp;

use super::*;

const SIZE: u64 = 4 << 30;

fn record(published: Option<u64>, dirty: Option<u64>) -> ReplicationRecord {
    let (published, dirty) = (published.map(RunId), dirty.map(RunId));
    let json = serde_json::json!({
        "id": ReplicationId(1), "name": "r1",
        "source": {"volume": "san-a/v1", "identity": "a", "hierarchy": ["h1"]},
        "target": {"volume": "san-b/v1", "identity": "b", "hierarchy": ["h1"]},
        "policy": {}, "intent": "enabled", "size_bytes": SIZE, "created_at": Timestamp(0), "epochs": Epochs::default(),
        "holder": null, "reader": null, "vacancy": null, "handover": null, "unproven": [], "target_dirty": dirty, "run": null,
        "published": published, "quarantine": null, "once": false
    });
    serde_json::from_value(json).unwrap()
}

fn run(id: u64, method: Option<RunMethod>, seq: u64, copy_ordered: bool) -> RunRecord {
    let checkpoint = Checkpoint { seq, ..Checkpoint::START };
    let json = serde_json::json!({
        "id": RunId(id), "replication": ReplicationId(1), "state": "copying", "trigger": {"operator": "me"},
        "attempt": "0000000000000001", "snapshot": null, "checkpoint": checkpoint, "checkpoint_epochs": Epochs::default(),
        "takeovers": 0, "repairs": 0, "agent": null, "requested_at": Timestamp(0), "bound_at": null, "checkpoint_at": null,
        "finished_at": null, "failure": null, "method": method, "copy_ordered": copy_ordered
    });
    serde_json::from_value(json).unwrap()
}

fn point(of: u64) -> RecoveryPoint {
    RecoveryPoint {
        run: RunId(of),
        replication: ReplicationId(1),
        place: RecoveryPointPlace::Target,
        size_bytes: SIZE,
        chain: ChainDigest([7; 32]),
        epochs: Epochs { source: Epoch(1), target: Epoch(1) },
        source_time: Timestamp(0),
        published_at: Timestamp(0),
        fuzzy: false,
        verified: true,
        pinned: false,
        expired: false,
        application: None,
        assumed_bytes: 0,
        by_changes: false,
        damaged_at: None,
        doubtful_since: None,
        verified_at: None,
    }
}

#[test]
fn the_first_run_and_one_that_is_asked_to_write_everything() {
    let next = run(2, None, 0, false);
    assert_eq!(decide(&record(None, None), &next, None, None), RunMethod::Full);
    let asked = RunRecord { full: true, ..next };
    assert_eq!(decide(&record(Some(1), None), &asked, Some((&point(1), None)), None), RunMethod::Full);
}

#[test]
fn stored_digests_only_of_the_clean_target_s_current_point() {
    let next = run(3, None, 0, false);
    let delta = RunMethod::Delta { base: RunId(1), chain: ChainDigest([7; 32]), snapshot: None };
    assert_eq!(decide(&record(Some(1), None), &next, Some((&point(1), None)), None), delta);
    let mut unwanted = record(Some(1), None);
    unwanted.policy.stored_digests = false;
    assert_eq!(decide(&unwanted, &next, Some((&point(1), None)), None), RunMethod::Compare);
    // The target does not hold it any more, or holds what nobody knows.
    assert_eq!(decide(&record(Some(1), None), &next, None, None), RunMethod::Compare);
    let abandoned = run(2, Some(delta), 0, true);
    assert_eq!(
        decide(&record(Some(1), Some(2)), &next, Some((&point(1), Some(SnapshotId(4)))), Some(&abandoned)),
        RunMethod::Compare
    );
    let mut doubtful = record(Some(1), None);
    doubtful.doubtful.insert(ByteRange::new(0, 1));
    assert_eq!(decide(&doubtful, &next, Some((&point(1), None)), None), RunMethod::Compare);
    // Dirtied by a server that noted no doubt.
    let old = run(2, None, 0, true);
    assert_eq!(decide(&record(Some(1), Some(2)), &next, None, Some(&old)), RunMethod::Full);
    assert_eq!(decide(&record(Some(1), Some(2)), &next, None, None), RunMethod::Full);
}

/// A run that was bound to this snapshot, made in this way.
fn bound(id: u64, snapshot: u64, mode: SourceMode) -> RunRecord {
    let (id_of, uid) = (SnapshotId(snapshot), format!("s{snapshot}"));
    let snapshot = BoundSnapshot { id: id_of, uid, mode, size_bytes: SIZE, application: None };
    RunRecord { snapshot: Some(snapshot), ..run(id, None, 0, false) }
}

#[test]
fn the_storage_is_asked_what_changed_since_the_very_snapshot_of_the_point_on_the_target() {
    use SourceMode::{Live, RecoveryPoint, Sealed, Snapshot};
    let record = record(Some(1), None);
    for (of_base, of_run, asked) in [
        (Snapshot, Snapshot, true),
        (Sealed, Sealed, true),
        (Live, Snapshot, false),
        (Snapshot, Live, false),
        (RecoveryPoint, RecoveryPoint, false),
    ] {
        let since = changes_since(&record, &bound(3, 30, of_run), &bound(1, 10, of_base));
        assert_eq!(since, asked.then_some(SnapshotId(10)), "{of_base:?}, {of_run:?}");
    }
    let since = Some(SnapshotId(10));
    let method = decide(&record, &bound(3, 30, Snapshot), Some((&point(1), since)), None);
    assert_eq!(method, RunMethod::Delta { base: RunId(1), chain: ChainDigest([7; 32]), snapshot: since });
    assert!(method.asks_for_changes());
}

#[test]
fn who_left_out_a_change_is_not_asked_until_everything_was_written_anew_and_nobody_for_ever() {
    let (base, next) = (bound(1, 10, SourceMode::Snapshot), bound(3, 30, SourceMode::Snapshot));
    let asks = |changes| {
        let record = ReplicationRecord { changes, ..record(Some(1), None) };
        changes_since(&record, &next, &base).is_some()
    };
    let delta = |snapshot| RunMethod::Delta { base: RunId(1), chain: ChainDigest([7; 32]), snapshot };
    let liar = ChangesTrust { disbelieved_at: Some(Timestamp(1)), in_a_row: 0 };
    assert!(!asks(liar) && !asks(liar.after(delta(None))) && !asks(liar.after(RunMethod::Compare)));
    assert!(asks(liar.after(RunMethod::Full)));
    let asked = delta(Some(SnapshotId(10)));
    let runs = (0..100).try_fold(ChangesTrust::default(), |changes, run| {
        if asks(changes) { Ok(changes.after(asked)) } else { Err((run, changes)) }
    });
    let (run, tired) = runs.unwrap_err();
    assert_eq!(run, ChangesTrust::MOST_IN_A_ROW);
    assert!(asks(tired.after(delta(None))), "one whole reading is enough");
}

proptest! {
    /// Whatever an attempt may have written past its checkpoint is in the window.
    #[test]
    fn the_window_covers_what_may_be_written(block in 0..=4096u64, ahead in 0..=STALL_WINDOW_BYTES, compares in any::<bool>()) {
        let method = if compares { RunMethod::Compare } else { RunMethod::Full };
        let seq = block << 20;
        let attempt = run(2, Some(method), seq, true);
        let window = window_of(&record(Some(1), None), &attempt);
        let written_up_to = if compares { (seq + ahead).min(SIZE) } else { SIZE };
        prop_assert!(window.map_or(seq, |w| w.end) >= written_up_to);
        prop_assert!(window.is_none_or(|w| w.start == seq && w.end <= SIZE));
        prop_assert_eq!(window_of(&record(Some(1), None), &RunRecord { copy_ordered: false, ..attempt }), None);
    }
}
