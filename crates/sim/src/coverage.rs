//! What happened, counted: a simulator that tests nothing must not look like one that finds nothing.

use tanist_model::change::Change;
use tanist_model::event::EventCode;
use tanist_model::replication::ProofKind;
use tanist_model::takeover::Evidence;
use tanist_protocol::fence::Taken;
use tanist_protocol::message::RunFailureKind;

macro_rules! coverage {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counts over one run or over many.
        #[derive(Clone, PartialEq, Eq, Debug, Default)]
        pub struct Coverage {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Coverage {
            pub fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
            }

            /// Every count with its name.
            #[must_use]
            pub fn counts(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)*]
            }
        }
    };
}

coverage! {
    events, faults, kills, pauses, sleeps, clock_jumps, target_power_losses, target_resets, strangers, host_deaths, server_crashes, failed_commits, deposed, restores, commands, copies, array_copies,
    first_activations, takeovers, handovers, handovers_overdue, drills, drills_passed, drills_failed, restarts_noticed, activation_timeouts, declines,
    /// A successor went on with the same snapshot before its predecessor was proven quiet.
    continued_without_proof,
    proofs_drained, proofs_kernel_lock, proofs_new_boot, proofs_operator,
    publications, published_without_proof, abandoned, repairs, quarantines, exhausted, exhausted_ended, partitions,
    awaiting_proof, deletions, flush_failures, io_failures, mismatches, snapshot_failures, kept_points, expired_points,
    rebooted_for_proof, readers_granted, source_exhausted, frames_refused, streams_broken, relayed, forged, direct_again,
    skipped_by_digests, skipped_by_comparison, left_unread,
    reserved_free, reserved_by_preemption, reserved_on_the_same_path, reserved_unclear, reservations_refused, writes_shut_out,
    /// The target moved on over an epoch that was fenced and not proven quiet.
    moved_on_over_fenced,
}

impl Coverage {
    pub fn note_taken(&mut self, taken: Taken) {
        match taken {
            Taken::Free => self.reserved_free += 1,
            Taken::Preempted(_) => self.reserved_by_preemption += 1,
            Taken::SamePath(_) => self.reserved_on_the_same_path += 1,
            Taken::Unclear => self.reserved_unclear += 1,
        }
    }

    pub fn note_failure(&mut self, kind: RunFailureKind) {
        match kind {
            RunFailureKind::Flush => self.flush_failures += 1,
            RunFailureKind::Io => self.io_failures += 1,
            RunFailureKind::Mismatch | RunFailureKind::FullMismatch => self.mismatches += 1,
            RunFailureKind::Link => self.streams_broken += 1,
            _ => self.snapshot_failures += 1,
        }
    }

    pub fn note_change(&mut self, change: &Change) {
        if let Change::AppendEvent(event) = change {
            self.note_event(event.code);
        }
        if let Change::DeleteReplication(_) = change {
            self.deletions += 1;
        }
    }

    fn note_event(&mut self, code: EventCode) {
        match code {
            EventCode::RunPublished => self.publications += 1,
            EventCode::RunAbandoned | EventCode::RunAborted => self.abandoned += 1,
            EventCode::RunRepaired => self.repairs += 1,
            EventCode::ReplicationQuarantined => self.quarantines += 1,
            EventCode::Exhausted => self.exhausted += 1,
            EventCode::ExhaustedEnded => self.exhausted_ended += 1,
            EventCode::PartitionSuspected => self.partitions += 1,
            EventCode::AgentDirect => self.direct_again += 1,
            EventCode::ReaderGranted => self.readers_granted += 1,
            EventCode::SourceExhausted => self.source_exhausted += 1,
            EventCode::DrillPassed => self.drills_passed += 1,
            EventCode::DrillFailed => self.drills_failed += 1,
            EventCode::AwaitingProof => self.awaiting_proof += 1,
            _ => {}
        }
    }

    pub fn note_evidence(&mut self, evidence: &Evidence) {
        match evidence {
            Evidence::FirstActivation => self.first_activations += 1,
            Evidence::Handover { .. } => self.handovers += 1,
            Evidence::Drill { .. } => self.drills += 1,
            Evidence::HandoverOverdue => self.handovers_overdue += 1,
            _ => self.takeovers += 1,
        }
        match evidence {
            Evidence::Restarted => self.restarts_noticed += 1,
            Evidence::ActivationTimeout => self.activation_timeouts += 1,
            Evidence::Declined { .. } => self.declines += 1,
            _ => {}
        }
    }

    pub fn note_proof(&mut self, proof: ProofKind) {
        match proof {
            ProofKind::Drained => self.proofs_drained += 1,
            ProofKind::KernelLock => self.proofs_kernel_lock += 1,
            ProofKind::NewBoot => self.proofs_new_boot += 1,
            ProofKind::OperatorConfirmed => self.proofs_operator += 1,
        }
    }
}
