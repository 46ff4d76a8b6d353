//! Negative controls: with one rule broken, the simulator must notice, or it would notice nothing.
//!
//! Not here: `GrantNotBound`. A grant carries epochs and incarnation, both are compared before its nonce is looked at, and a
//! process asks for the grant of one epoch under one nonce only; so no grant exists that this switch would let in. The nonce is a
//! second lock on the same door.

use tanist_model::policy::SourceMode;
use tanist_protocol::mutation::Mutation;
use tanist_sim::{Report, run, run_cut, run_where_it_matters};

/// Searches seeds until the broken rule is noticed by a property that this rule serves.
fn caught(mutation: Mutation, limit: u64, properties: &[&str]) {
    caught_by(mutation, limit, properties, |seed| run(seed, Some(mutation), false));
}

fn caught_by(mutation: Mutation, limit: u64, properties: &[&str], run: impl Fn(u64) -> Report) {
    for seed in 0..limit {
        let Some(violation) = run(seed).violation else { continue };
        if properties.iter().any(|p| violation.starts_with(p)) {
            println!("{mutation:?} is caught after {} seeds: {violation}", seed + 1);
            return;
        }
    }
    panic!("{mutation:?} is not noticed in {limit} seeds");
}

macro_rules! controls {
    ($($name:ident: $mutation:ident within $limit:literal by $($property:literal)|+;)*) => {
        $(#[test] fn $name() { caught(Mutation::$mutation, $limit, &[$($property),+]); })*
    };
}

controls! {
    a_restarted_process_resumes_its_epoch: EpochResumed within 300 by "S2" | "S1" | "S7";
    an_advance_does_not_wait_for_proof: ProofNotAwaited within 100 by "S6";
    an_activation_works_without_a_grant: ActivateWithoutGrant within 200 by "S7";
    proof_of_one_clears_all: ProofClearsAll within 5000 by "S1";
    drained_is_not_final: DrainedNotFinal within 2000 by "S1";
    the_boot_id_is_ignored: BootIdIgnored within 5000 by "S1";
    a_snapshot_is_used_before_it_is_bound: SnapshotUsedUnbound within 20 by "S1";
    a_checkpoint_comes_before_its_flush: CheckpointBeforeFlush within 20 by "S5";
    a_checkpoint_counts_under_an_old_epoch: CheckpointUnderOldEpoch within 5000 by "S3";
    words_come_before_the_commit: PersistAfterSend within 20 by "S5";
    ranks_are_ignored: RankIgnored within 20 by "S9";
    the_damped_are_excluded: DampedExcluded within 300 by "S9";
    a_peers_verdict_is_proof: PeerVerdictAsProof within 1000 by "S1";
    a_refused_connection_is_proof: RefusedAsProof within 5000 by "S1";
    a_restore_raises_no_epochs: RestoreWithoutRaise within 2000 by "S2";
    a_frame_of_an_old_run_is_admitted: GateAdmitsOldStream within 2000 by "S1";
    a_window_is_skipped_by_read_back: WindowSkippedByReadBack within 20000 by "S5" | "S4";
    a_failed_flush_is_retried: FailedFlushRetried within 1000 by "S5" | "S4";
}

/// Only where a storage locks a file beside the volume, and processes of one boot follow each other, can that lock be taken for the
/// volume's.
#[test]
fn a_lock_on_another_file_is_proof() {
    let mutation = Mutation::LockOnAnotherFile;
    caught_by(mutation, 5000, &["S1"], |seed| {
        run_where_it_matters(seed, mutation, |mut scenario| {
            (scenario.lock_beside, scenario.kernel_lock) = (true, true);
            scenario.hosts.fill(0);
            scenario
        })
    });
}

/// It takes a run that was given up after one that was published, and another one after both.
#[test]
fn stored_digests_on_a_dirty_target() {
    let mutation = Mutation::StoredDigestsOnDirtyTarget;
    caught_by(mutation, 5000, &["S4", "S5"], |seed| {
        run_where_it_matters(seed, mutation, |mut scenario| {
            (scenario.source_mode, scenario.operator_pause_us) = (SourceMode::Snapshot, 300_000);
            scenario
        })
    });
}

/// Where nothing fails but the network, and a peer could carry whoever is cut off.
#[test]
fn a_peers_word_holds_no_takeover_back() {
    let mutation = Mutation::PartitionIgnored;
    caught_by(mutation, 50, &["L3"], |seed| run_cut(seed, Some(mutation), false));
}
