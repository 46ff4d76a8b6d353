//! What a server signs of a takeover, and the document that carries it: evidence for somebody who has neither the server nor its log.
//!
//! What is signed is a text, carried in the document as it was signed. Whoever checks it hashes those bytes; nobody has to write the same
//! JSON twice.

use serde::{Deserialize, Serialize};

use super::{Contradiction, TakeoverRecord};
use crate::id::{ClusterId, Epochs, ReplicationName, VolumeAddress};
use crate::replication::ReplicationRecord;
use crate::run::{RunRecord, RunState};
use crate::time::Timestamp;

/// How a takeover ended; nothing is added to its record afterwards but proofs that come late.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// The successor acts, and has written durably if a run was in progress.
    Complete,
    /// The successor acts, and the run that was in progress ended, or had nothing left to write, before its first write.
    WithoutWrite,
    /// The next epoch was committed before.
    Superseded,
}

impl Ending {
    /// How this takeover ended; `None` while it goes on. `run`: the run that was in progress, if it is on record.
    #[must_use]
    pub fn of(takeover: &TakeoverRecord, record: &ReplicationRecord, run: Option<&RunRecord>) -> Option<Self> {
        if takeover.is_complete() {
            return Some(Self::Complete);
        }
        if takeover.epochs.target != record.epochs.target {
            return Some(Self::Superseded);
        }
        let writes =
            |run: &RunRecord| matches!(run.state, RunState::SnapshotPending | RunState::Bound | RunState::Copying);
        let goes_on = record.run == takeover.run && run.is_some_and(writes);
        (takeover.activated_at.is_some() && !goes_on).then_some(Self::WithoutWrite)
    }
}

/// What the server states of one takeover.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct TakeoverStatement {
    /// The installation.
    pub cluster: ClusterId,
    /// By the server's clock.
    pub signed_at: Timestamp,
    pub replication: ReplicationName,
    pub source: VolumeAddress,
    pub source_identity: String,
    pub target: VolumeAddress,
    pub target_identity: String,
    pub size_bytes: u64,
    /// The epochs of the takeover before this one, if its record is still kept.
    pub follows: Option<Epochs>,
    pub ending: Ending,
    pub takeover: TakeoverRecord,
}

impl TakeoverStatement {
    /// Everything in it that cannot all be true; nothing if it is consistent.
    #[must_use]
    pub fn contradictions(&self) -> Vec<Contradiction> {
        let mut found = self.takeover.contradictions(self.size_bytes);
        found.extend(self.follows.and_then(|before| self.takeover.does_not_follow(before)));
        found.extend(
            (self.ending == Ending::Complete && !self.takeover.is_complete()).then_some(Contradiction::NotComplete),
        );
        let without_write = self.ending == Ending::WithoutWrite;
        found.extend((without_write && self.takeover.activated_at.is_none()).then_some(Contradiction::NotActive));
        found
    }
}

/// The document that `tanist replication record` prints.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SignedRecord {
    /// [`SignedRecord::FORMAT`].
    pub format: String,
    /// A [`TakeoverStatement`] as JSON: the very text that was signed.
    pub statement: String,
    /// ECDSA P-256 with SHA-256 (ASN.1) over the format, a zero byte and the statement; lower-case hexadecimal.
    pub signature: String,
    /// The certificate of the authority whose key signed (DER); lower-case hexadecimal.
    pub authority: String,
}

impl SignedRecord {
    /// The only format there is. It is part of what is signed.
    pub const FORMAT: &str = "tanist-takeover-record/1";
}
