//! Negative controls: with one rule broken, the simulator must notice, or it would notice nothing.

use std::hash::BuildHasher;

use tanist_model::policy::SourceMode;
use tanist_protocol::message::RoleState;
use tanist_protocol::mutation::Mutation;
use tanist_sim::pairs::{AgentState, MachineState};
use tanist_sim::scenario::Transport;
use tanist_sim::{Report, Run, run, run_cut, run_where_it_matters};

/// A mutation has to be noticed from each of so many starting seeds, drawn anew every time: no seed was chosen because it finds it.
const STARTS: usize = 5;
/// And within so many seeds from there.
const LIMIT: u64 = 20_000;

/// Where the searches begin; `MUTATION_START=N` repeats one of them.
fn starts() -> Vec<u64> {
    if let Ok(given) = std::env::var("MUTATION_START") {
        return vec![given.parse().expect("MUTATION_START must be a seed")];
    }
    let chance = std::collections::hash_map::RandomState::new();
    (0..STARTS).map(|nth| chance.hash_one(nth) >> 16).collect()
}

/// Searches seeds until the broken rule is noticed by a property that this rule serves.
fn caught(mutation: Mutation, properties: &[&str]) {
    caught_by(mutation, properties, |seed| run(seed, Some(mutation), false));
}

fn caught_by(mutation: Mutation, properties: &[&str], run: impl Fn(u64) -> Report) {
    for start in starts() {
        let serves = |report: &Report| report.property().is_some_and(|property| properties.contains(&property));
        let found = (0..LIMIT).map(|n| (n, run(start + n))).find(|(_, report)| serves(report));
        let Some((n, report)) = found else {
            panic!("{mutation:?} is not noticed in {LIMIT} seeds: MUTATION_START={start}");
        };
        println!("{mutation:?}: noticed after {} seeds from {start}: {}", n + 1, report.violation.unwrap_or_default());
    }
}

macro_rules! controls {
    ($($name:ident: $mutation:ident by $($property:literal)|+;)*) => {
        $(#[test] fn $name() { caught(Mutation::$mutation, &[$($property),+]); })*
    };
}

controls! {
    a_restarted_process_resumes_its_epoch: EpochResumed by "S2" | "S1" | "S7";
    an_advance_does_not_wait_for_proof: ProofNotAwaited by "S6";
    an_activation_works_without_a_grant: ActivateWithoutGrant by "S7";
    proof_of_one_clears_all: ProofClearsAll by "S1";
    drained_is_not_final: DrainedNotFinal by "S1";
    the_boot_id_is_ignored: BootIdIgnored by "S1";
    a_snapshot_is_used_before_it_is_bound: SnapshotUsedUnbound by "S1";
    a_checkpoint_comes_before_its_flush: CheckpointBeforeFlush by "S5";
    a_checkpoint_counts_under_an_old_epoch: CheckpointUnderOldEpoch by "S3";
    words_come_before_the_commit: PersistAfterSend by "S5";
    ranks_are_ignored: RankIgnored by "S9";
    the_damped_are_excluded: DampedExcluded by "S9";
    a_peers_verdict_is_proof: PeerVerdictAsProof by "S1";
    a_refused_connection_is_proof: RefusedAsProof by "S1";
    a_restore_raises_no_epochs: RestoreWithoutRaise by "S2";
    a_frame_of_an_old_run_is_admitted: GateAdmitsOldStream by "S1";
    a_window_is_skipped_by_read_back: WindowSkippedByReadBack by "S5" | "S4";
    a_checkpoint_counts_blocks: SeqCountsBlocks by "S5";
    a_snapshot_is_released_early: SourceSnapshotReleasedEarly by "S4";
    a_target_snapshot_is_skipped: TargetSnapshotSkipped by "S4";
    a_discard_counts_as_zeros: DiscardAsZero by "S4" | "S5";
    a_relay_is_believed: RelayNotVerified by "S1";
    a_failed_flush_is_retried: FailedFlushRetried by "S5" | "S4";
}

/// A grant has to be late by as much as it takes to give up its epoch and to come to the same process with the next one.
#[test]
fn a_grant_is_taken_for_any_epoch() {
    let mutation = Mutation::GrantNotBound;
    caught_by(mutation, &["S7"], |seed| {
        run_where_it_matters(seed, mutation, |mut scenario| {
            scenario.transport = Transport::Chaotic;
            scenario.ambush = vec![MachineState::Agent(AgentState::In(RoleState::AwaitGrant))];
            scenario
        })
    });
}

/// Only where a storage locks a file beside the volume, and processes of one boot follow each other, can that lock be taken for the
/// volume's.
#[test]
fn a_lock_on_another_file_is_proof() {
    let mutation = Mutation::LockOnAnotherFile;
    caught_by(mutation, &["S1"], |seed| {
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
    caught_by(mutation, &["S4", "S5"], |seed| {
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
    caught_by(mutation, &["L3"], |seed| run_cut(seed, Some(mutation), false));
}

/// What is left is little, and violates the same property by itself.
#[test]
fn a_violation_is_shortened_to_what_it_needs() {
    let of = |seed| Run { broken: Some(Mutation::EpochResumed), ..Run::of(seed) };
    let (run, whole) =
        (0..LIMIT).map(|seed| (of(seed), of(seed).report())).find(|(_, r)| r.violation.is_some()).unwrap();
    let only = run.shortened().expect("it violates something");
    assert!(only.len() * 3 <= whole.injections.len(), "{only:?} of {:?}", whole.injections);
    let short = Run { only: Some(only), ..run }.report();
    assert_eq!(short.property(), whole.property());
}
