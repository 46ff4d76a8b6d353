//! Rules that can be switched off, in test builds only, to show that the tests notice.
//!
//! Without the feature `mutations` the answer is a constant `false` and the switches are not in the program.

/// A rule of the protocol that a test build can break.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Mutation {
    /// A restarted process goes on under the epoch of its predecessor.
    EpochResumed,
    /// An advance does not wait for proof of quiet.
    ProofNotAwaited,
    /// An activation is effective without a grant.
    ActivateWithoutGrant,
    /// A grant is accepted whatever epochs it is of, and whatever request it answers.
    GrantNotBound,
    /// Proof of one predecessor clears all.
    ProofClearsAll,
    /// An agent that has drained goes on when asked.
    DrainedNotFinal,
    /// A lock on any file counts as proof.
    LockOnAnotherFile,
    /// The boot id is ignored when a lock is taken as proof.
    BootIdIgnored,
    /// A snapshot is copied before it is bound.
    SnapshotUsedUnbound,
    /// A checkpoint is reported before the flush.
    CheckpointBeforeFlush,
    /// Checkpoints of an old epoch are committed.
    CheckpointUnderOldEpoch,
    /// Messages are sent before what they rest on is durable.
    PersistAfterSend,
    /// Ranks are ignored when a successor is picked.
    RankIgnored,
    /// A damped agent is excluded instead of picked last.
    DampedExcluded,
    /// A peer's verdict counts as proof of quiet.
    PeerVerdictAsProof,
    /// A refused connection counts as proof of quiet.
    RefusedAsProof,
    /// A restored store goes on at once, without raising epochs.
    RestoreWithoutRaise,
    /// A failed flush is simply tried again.
    FailedFlushRetried,
    /// The gate admits frames of an earlier stream or run.
    GateAdmitsOldStream,
    /// A peer's word that it reaches the suspect holds no takeover back.
    PartitionIgnored,
    /// What a relay says in an agent's name is believed.
    RelayNotVerified,
    /// Stored digests are believed of a target that is dirty, or of another recovery point than the target's.
    StoredDigestsOnDirtyTarget,
    /// What may have been written and not be durable is skipped because it was read and found equal.
    WindowSkippedByReadBack,
    /// A checkpoint counts what has been written, wherever it lies.
    SeqCountsBlocks,
    /// The source's snapshot of the last recovery point is removed before the next one is published.
    SourceSnapshotReleasedEarly,
    /// The target moves on without keeping its recovery point, which counts as kept.
    TargetSnapshotSkipped,
    /// A discard takes the place of writing zeros.
    DiscardAsZero,
    /// An epoch counts as quiet although the storage may still carry out copies that it ordered.
    ArrayCopiesIgnored,
    /// A reservation is taken without ending what the device has accepted.
    PreemptWithoutAbort,
    /// A path is registered whatever it is registered with.
    RegisterAndIgnore,
    /// A reservation is taken from whoever has it, a newer epoch too.
    BlindPreemption,
    /// A key of somebody else's is taken away.
    ForeignKeyPreempted,
    /// A path is registered while something of this host is in flight.
    NoLocalDrain,
    /// A volume is given up over an epoch that is fenced and not proven quiet.
    ReleaseWhileUnproven,
    /// A reservation that nobody had proves its predecessors quiet.
    ReserveProves,
    /// An epoch that may write without the reservation counts as fenced because it never had it.
    UnneededCountsAsFenced,
    /// A reader goes on although the holder has asked it to stop.
    StopUnheard,
}

impl Mutation {
    pub const ALL: &'static [Self] = &[
        Self::EpochResumed,
        Self::ProofNotAwaited,
        Self::ActivateWithoutGrant,
        Self::GrantNotBound,
        Self::ProofClearsAll,
        Self::DrainedNotFinal,
        Self::LockOnAnotherFile,
        Self::BootIdIgnored,
        Self::SnapshotUsedUnbound,
        Self::CheckpointBeforeFlush,
        Self::CheckpointUnderOldEpoch,
        Self::PersistAfterSend,
        Self::RankIgnored,
        Self::DampedExcluded,
        Self::PeerVerdictAsProof,
        Self::RefusedAsProof,
        Self::RestoreWithoutRaise,
        Self::FailedFlushRetried,
        Self::GateAdmitsOldStream,
        Self::PartitionIgnored,
        Self::RelayNotVerified,
        Self::StoredDigestsOnDirtyTarget,
        Self::WindowSkippedByReadBack,
        Self::SeqCountsBlocks,
        Self::SourceSnapshotReleasedEarly,
        Self::TargetSnapshotSkipped,
        Self::DiscardAsZero,
        Self::ArrayCopiesIgnored,
    ];

    /// The rules of reservations.
    pub const OF_RESERVATIONS: &'static [Self] = &[
        Self::PreemptWithoutAbort,
        Self::RegisterAndIgnore,
        Self::BlindPreemption,
        Self::ForeignKeyPreempted,
        Self::NoLocalDrain,
        Self::ReleaseWhileUnproven,
        Self::ReserveProves,
        Self::UnneededCountsAsFenced,
    ];

    /// Another rule makes up for each of these: switched off alone it does no harm, and shows that the other one is not idle.
    pub const MADE_UP_FOR: &'static [Self] = &[Self::StopUnheard];
}

/// Which rule is broken, if any.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Mutations {
    #[cfg(feature = "mutations")]
    broken: Option<Mutation>,
}

impl Mutations {
    pub const NONE: Self = Self {
        #[cfg(feature = "mutations")]
        broken: None,
    };

    /// Breaks one rule.
    #[cfg(feature = "mutations")]
    #[must_use]
    pub fn breaking(mutation: Mutation) -> Self {
        Self { broken: Some(mutation) }
    }

    /// The rule named by the environment variable `TANIST_MUTATION` of a test build, for negative controls with real processes.
    ///
    /// # Errors
    /// The name, if no rule is called so: a control that silently breaks nothing would prove nothing.
    #[cfg(feature = "mutations")]
    pub fn from_environment() -> Result<Self, String> {
        match std::env::var("TANIST_MUTATION") {
            Err(_) => Ok(Self::NONE),
            Ok(name) => {
                let mut known = Mutation::ALL.iter().chain(Mutation::MADE_UP_FOR);
                known.find(|m| format!("{m:?}") == name).map(|m| Self::breaking(*m)).ok_or(name)
            }
        }
    }

    /// Whether this rule is switched off.
    #[must_use]
    pub fn breaks(self, mutation: Mutation) -> bool {
        #[cfg(feature = "mutations")]
        return self.broken == Some(mutation);
        #[cfg(not(feature = "mutations"))]
        {
            let _ = mutation;
            false
        }
    }
}
