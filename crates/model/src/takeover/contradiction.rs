//! What a sceptic asks of the record of a takeover: whether all of it can be true at once.
//!
//! The rules are those of the protocol, written down a second time over the record alone. The simulator asks them of every takeover it
//! sees, so a record that is refused here was not made by tanist as it is.

use std::collections::BTreeSet;

use super::{Candidate, TakeoverRecord};
use crate::id::{AgentName, Epoch, Epochs};
use crate::replication::{FencingTier, ProofKind};
use crate::run::STALL_WINDOW_BYTES;
use crate::time::Timestamp;

/// Two things in a record that cannot both be true.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Contradiction {
    #[error("epochs {epochs} do not come after {before}, which were granted earlier")]
    EpochsDoNotGrow { before: Epochs, epochs: Epochs },
    #[error("epoch {0} is called earlier and is not")]
    NotEarlier(Epoch),
    #[error("{0} acts and was no candidate")]
    NotACandidate(AgentName),
    #[error("{agent} acts although it was passed over: {reason}")]
    PassedOver { agent: AgentName, reason: String },
    #[error("{chosen} acts, and {first} comes before it: undamped before damped, then by rank")]
    NotFirst { chosen: AgentName, first: AgentName },
    #[error("{chosen} acts, and {named} was named and eligible")]
    NotNamed { chosen: AgentName, named: AgentName },
    #[error("the candidates are not in the order of their ranks, each agent once")]
    CandidatesDisordered,
    #[error("{later} comes before {earlier}")]
    OutOfOrder { earlier: &'static str, later: &'static str },
    #[error("tier {0:?} is claimed, and {1}")]
    Tier(FencingTier, &'static str),
    #[error("it became active and claims no tier")]
    NoTier,
    #[error("epoch {0} was awaited, and is neither proven quiet nor told as unproven")]
    Unaccounted(Epoch),
    #[error("epoch {0} is told as proven or unproven, and was not awaited")]
    NotAwaited(Epoch),
    #[error("epoch {0} is told twice")]
    ToldTwice(Epoch),
    #[error("epoch {0} is called proven by the kernel lock, and the successor did not hold it")]
    LockNotHeld(Epoch),
    #[error("the run was taken up at byte {resumed}, past byte {most}")]
    ResumedTooFar { resumed: u64, most: u64 },
    #[error(
        "{told} bytes are told as copied again, and {most} is the most that a writer can be ahead of its checkpoint there"
    )]
    TooMuchCopiedAgain { told: u64, most: u64 },
    #[error("it wrote durably and no run was in progress, or does not say what was copied again")]
    WriteWithoutRun,
    #[error("it is called complete and is not")]
    NotComplete,
    #[error("the successor is told to act and never became active")]
    NotActive,
}

impl TakeoverRecord {
    /// The successor acts, and has written durably if a run was in progress.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.activated_at.is_some() && (self.run.is_none() || self.first_durable_write_at.is_some())
    }

    /// Everything in it that cannot all be true, for a volume of this size; nothing if it is consistent.
    #[must_use]
    pub fn contradictions(&self, size_bytes: u64) -> Vec<Contradiction> {
        let mut found = Vec::new();
        found.extend(self.choice());
        found.extend(self.order_of_moments());
        found.extend(self.tier_and_proof());
        found.extend(self.accounts());
        found.extend(self.work(size_bytes));
        found
    }

    pub(super) fn does_not_follow(&self, before: Epochs) -> Option<Contradiction> {
        let grows = self.epochs.target > before.target && self.epochs.source >= before.source;
        (!grows).then_some(Contradiction::EpochsDoNotGrow { before, epochs: self.epochs })
    }

    /// Whoever was named if it is eligible, else the first of (not damped, rank).
    fn choice(&self) -> Option<Contradiction> {
        let ordered = self.candidates.windows(2).all(|pair| pair[0].rank < pair[1].rank);
        let agents: BTreeSet<&AgentName> = self.candidates.iter().map(|c| &c.agent).collect();
        if !ordered || agents.len() != self.candidates.len() {
            return Some(Contradiction::CandidatesDisordered);
        }
        let chosen = self.to.clone();
        let Some(candidate) = self.candidates.iter().find(|c| c.agent == chosen) else {
            return Some(Contradiction::NotACandidate(chosen));
        };
        if let Some(reason) = candidate.passed_over.clone() {
            return Some(Contradiction::PassedOver { agent: chosen, reason });
        }
        let eligible = |c: &&Candidate| c.passed_over.is_none();
        let named = self.candidates.iter().filter(eligible).find(|c| Some(&c.agent) == self.named.as_ref());
        if let Some(named) = named.map(|c| c.agent.clone()) {
            return (named != chosen).then_some(Contradiction::NotNamed { chosen, named });
        }
        let first = self.candidates.iter().filter(eligible).min_by_key(|c| (c.damped, c.rank))?.agent.clone();
        (first != chosen).then_some(Contradiction::NotFirst { chosen, first })
    }

    /// Suspected, committed, granted, active, durable. The moment of a grant is lost with a server that dies just then.
    fn order_of_moments(&self) -> Option<Contradiction> {
        let moments: [(&'static str, Option<Timestamp>); 5] = [
            ("the first suspicion", Some(self.suspected_at)),
            ("the commit", Some(self.committed_at)),
            ("the grant", self.granted_at),
            ("the activation", self.activated_at),
            ("the first durable write", self.first_durable_write_at),
        ];
        let known: Vec<_> = moments.into_iter().filter_map(|(what, at)| Some((what, at?))).collect();
        if self.activated_at.is_none() && self.first_durable_write_at.is_some() {
            return Some(Contradiction::NotActive);
        }
        let turned = known.windows(2).find(|pair| pair[1].1 < pair[0].1)?;
        Some(Contradiction::OutOfOrder { earlier: turned[0].0, later: turned[1].0 })
    }

    /// The tier follows from what was left unproven at the activation.
    fn tier_and_proof(&self) -> Option<Contradiction> {
        match (self.tier, self.activated_at, self.unproven.is_empty()) {
            (None, Some(_), _) => Some(Contradiction::NoTier),
            (Some(tier), None, _) => Some(Contradiction::Tier(tier, "the successor never became active")),
            (Some(FencingTier::F2), _, false) => {
                Some(Contradiction::Tier(FencingTier::F2, "not every earlier epoch was proven quiet"))
            }
            (Some(FencingTier::F3), _, true) => {
                Some(Contradiction::Tier(FencingTier::F3, "every earlier epoch was proven quiet"))
            }
            _ => None,
        }
    }

    /// Every epoch that was awaited is accounted for once, and no other; its own may have been proven quiet later.
    fn accounts(&self) -> Vec<Contradiction> {
        let own = self.epochs.target;
        let awaited: BTreeSet<Epoch> = self.awaited.iter().copied().collect();
        let proven: BTreeSet<Epoch> = self.proven.iter().map(|p| p.epoch).collect();
        let unproven: BTreeSet<Epoch> = self.unproven.iter().copied().collect();
        let mut found = Vec::new();
        let told_proven: Vec<Epoch> = self.proven.iter().map(|p| p.epoch).collect();
        let lists = [&told_proven, &self.unproven, &self.awaited];
        found.extend(lists.into_iter().filter_map(|list| told_twice(list)).map(Contradiction::ToldTwice));
        found.extend(awaited.iter().filter(|e| **e >= own).map(|e| Contradiction::NotEarlier(*e)));
        let accounted = |e: &&Epoch| proven.contains(e) || unproven.contains(e);
        found.extend(awaited.iter().filter(|e| !accounted(e)).map(|e| Contradiction::Unaccounted(*e)));
        let told = proven.union(&unproven).filter(|e| !awaited.contains(e));
        found.extend(told.filter(|e| **e != own || unproven.contains(e)).map(|e| Contradiction::NotAwaited(*e)));
        let by_lock = self.proven.iter().filter(|p| p.proof == ProofKind::KernelLock);
        let at_activation = by_lock.filter(|p| !unproven.contains(&p.epoch) && !self.held_kernel_lock);
        found.extend(at_activation.map(|p| Contradiction::LockNotHeld(p.epoch)));
        found
    }

    /// Where the run was taken up, and how much of it is copied again.
    fn work(&self, size_bytes: u64) -> Option<Contradiction> {
        let most = self.reported_seq.unwrap_or(size_bytes).min(size_bytes);
        if self.resumed_seq > most {
            return Some(Contradiction::ResumedTooFar { resumed: self.resumed_seq, most });
        }
        let wrote = self.first_durable_write_at.is_some();
        if wrote != self.copied_again_bytes.is_some() || wrote && self.run.is_none() {
            return Some(Contradiction::WriteWithoutRun);
        }
        let told = self.copied_again_bytes.unwrap_or_default();
        let most = STALL_WINDOW_BYTES.min(size_bytes - self.resumed_seq);
        (told > most).then_some(Contradiction::TooMuchCopiedAgain { told, most })
    }
}

fn told_twice(epochs: &[Epoch]) -> Option<Epoch> {
    let mut seen = BTreeSet::new();
    epochs.iter().copied().find(|epoch| !seen.insert(*epoch))
}

#[cfg(test)]
mod tests;
