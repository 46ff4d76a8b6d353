//! What happened, in an order that never changes: the audit log. Every event has a stable code with a page of its own.

use serde::{Deserialize, Serialize};

use crate::excerpt::excerpt;
use crate::id::{AgentName, EventSeq, ReplicationId, ReplicationName};
use crate::time::Timestamp;

/// How much an event asks of a human.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    Info,
    Warning,
    Alarm,
}

macro_rules! event_codes {
    ($($variant:ident $code:literal $severity:ident $title:literal;)*) => {
        /// The stable code of an event. `tanist explain CODE` prints its page from `docs/operations/events/`.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
        #[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
        pub enum EventCode {
            $(#[doc = $title] #[serde(rename = $code)] $variant,)*
        }

        impl EventCode {
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            #[must_use]
            pub fn code(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }

            #[must_use]
            pub fn severity(self) -> Severity {
                match self { $(Self::$variant => Severity::$severity,)* }
            }

            #[must_use]
            pub fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)* }
            }
        }
    };
}

event_codes! {
    // 1xx: the server
    ServerStarted "T101" Info "the server started a new term";
    StoreRestored "T102" Warning "the store was restored from a backup";
    StoreRestoreComplete "T103" Info "every known agent has shown its epochs since the restore";
    StoreFailing "T104" Alarm "the store cannot be written; no grants are given";
    StoreRecovered "T105" Info "the store can be written again";
    BackupMade "T106" Info "a backup of the store was made";
    AlarmFailing "T107" Alarm "alarms cannot be delivered";
    AlarmDelivered "T108" Info "alarms are delivered again";
    AlarmTested "T109" Info "an alarm was tested";
    StoreRolledBack "T110" Alarm "the store is older than it was, and nobody said so";
    // 2xx: agents and identities
    TokenCreated "T201" Info "a join token was created";
    AgentJoined "T202" Info "an agent joined";
    JoinRefused "T203" Warning "a join was refused";
    ConnectionRefused "T204" Warning "a connection was refused";
    CertificateRenewed "T205" Info "an agent's certificate was renewed";
    AgentRemoved "T206" Warning "an agent was removed and its certificate revoked";
    AgentDrained "T207" Info "an agent is being drained for maintenance";
    AgentUndrained "T208" Info "an agent is available again after maintenance";
    AgentConnected "T209" Info "an agent connected";
    AgentDisconnected "T210" Warning "an agent's connection ended";
    AgentConfirmedDead "T211" Warning "an operator confirmed an agent dead";
    OperatorLoggedIn "T212" Info "an operator's credential was used from a new place";
    AgentContested "T213" Warning "two processes claim to be one agent";
    AgentRelayed "T214" Warning "a peer carries an agent's connection to the server";
    AgentDirect "T215" Info "an agent reaches the server itself again";
    PoolNearlyFull "T216" Alarm "a thin pool is nearly full";
    PoolHasRoom "T217" Info "a thin pool has room again";
    // 3xx: replications
    ReplicationCreated "T301" Info "a replication was created";
    ReplicationDeleted "T302" Info "a replication was removed";
    ReplicationPaused "T303" Info "a replication was paused";
    ReplicationResumed "T304" Info "a replication was resumed";
    HierarchyChanged "T305" Info "a hierarchy was changed";
    DeleteWaitsForProof "T306" Warning "a removal waits for proof of quiet";
    PolicyChanged "T307" Info "a policy was changed";
    RemovalCommanded "T308" Info "the removal of a replication was commanded";
    SnapshotsLeftBehind "T309" Warning "a replication was removed, and what tanist made stays at the storage";
    // 4xx: takeovers
    AgentSuspected "T401" Warning "the acting agent is suspected";
    SuspicionCleared "T402" Info "a suspicion was cleared: the acting agent is well";
    TakeoverCommitted "T403" Warning "a takeover was committed";
    TakeoverComplete "T404" Info "a takeover is complete: the successor acts";
    FirstDurableWrite "T405" Info "the successor's first durable write";
    HandoverStarted "T406" Info "a handover was started";
    HandoverComplete "T407" Info "a handover is complete";
    HandoverOverdue "T408" Warning "a handover took too long and became a takeover";
    Exhausted "T409" Alarm "no agent of the hierarchy is eligible";
    ExhaustedEnded "T410" Info "an agent of the hierarchy is eligible again";
    AwaitingProof "T411" Warning "the next snapshot waits for proof of quiet";
    ProvenQuiet "T412" Info "an epoch was proven quiet";
    AgentNotEligible "T413" Warning "an agent declined to act";
    AgentStoodDown "T414" Info "a superseded agent stood down";
    AgentQuarantined "T415" Alarm "an agent broke the protocol and is quarantined";
    EpochBurnt "T416" Warning "an epoch was granted to a process that is gone";
    Activated "T417" Info "an agent acts for the replication";
    PartitionSuspected "T418" Warning "the server cannot reach the acting agent, but a peer can";
    ReaderGranted "T419" Info "another agent reads the source";
    ReaderSuspected "T420" Warning "the agent that reads the source is suspected";
    SourceExhausted "T421" Alarm "no agent can read the source";
    GrayFailure "T422" Warning "the acting agent is too slow, and hands over";
    LateFramesRefused "T423" Warning "frames of an agent that was replaced came late and were refused";
    DrillStarted "T424" Info "a drill was begun: a takeover on purpose";
    DrillPassed "T425" Info "a drill was passed";
    DrillFailed "T426" Alarm "a drill took too long, or its successor failed";
    DrillPostponed "T427" Info "a drill that is due waits for a better moment";
    DrillOverdue "T428" Alarm "no takeover was proven for twice the schedule of drills";
    // 5xx: runs
    RunRequested "T501" Info "a run was requested";
    SnapshotBound "T502" Info "a source snapshot was bound to a run";
    RunPublished "T503" Info "a recovery point was published";
    RunAbandoned "T504" Alarm "a run was abandoned";
    RunResumed "T505" Info "a run goes on from its checkpoint";
    RunRepaired "T506" Warning "a run goes on after a failure at the storage";
    SourceChanged "T507" Alarm "the source changed where it must not";
    ReplicationQuarantined "T508" Alarm "a replication is quarantined: nothing is published";
    RecoveryPointGone "T509" Info "a recovery point is no longer held";
    RecoveryPointPinned "T510" Info "a recovery point was pinned or unpinned";
    RecoveryPointLost "T511" Alarm "a recovery point is missing at the storage";
    RunStalled "T512" Alarm "a run stands still";
    RpoMissed "T513" Alarm "the last recovery point is older than the RPO allows";
    RpoMet "T514" Info "the last recovery point is young enough again";
    VerificationPassed "T515" Info "the target was read again and holds what was published";
    VerificationFailed "T516" Alarm "the target does not hold any more what was published";
    RunAborted "T517" Info "an operator gave a run up";
    TargetChanged "T518" Alarm "the target changed where it must not";
    RecoveryPointDamaged "T519" Alarm "a recovery point was read and is not what was published";
    ChangesUntold "T520" Alarm "the storage of a source did not name all that changed";
    // 6xx: host applications
    QuiesceFailed "T601" Warning "a host application could not be quiesced";
    ApplicationThawed "T602" Info "a host application was thawed";
    ThawedByGuard "T603" Warning "a host application was thawed without its agent's word";
    MayBeQuiesced "T604" Alarm "a host application may still be quiesced";
}

impl EventCode {
    /// What is over once this has happened to the same replication (or agent, or the server): an alarm of one of these codes is cleared.
    #[must_use]
    pub fn clears(self) -> &'static [Self] {
        match self {
            Self::StoreRecovered => &[Self::StoreFailing],
            Self::StoreRestoreComplete => &[Self::StoreRestored, Self::StoreRolledBack],
            Self::AlarmDelivered => &[Self::AlarmFailing],
            Self::SuspicionCleared => &[Self::AgentSuspected, Self::PartitionSuspected],
            Self::TakeoverComplete => &[Self::AgentSuspected, Self::PartitionSuspected, Self::TakeoverCommitted],
            Self::ExhaustedEnded => &[Self::Exhausted],
            Self::ReaderGranted => &[Self::SourceExhausted, Self::ReaderSuspected],
            Self::ProvenQuiet => &[Self::AwaitingProof],
            Self::AgentDirect => &[Self::AgentRelayed],
            Self::PoolHasRoom => &[Self::PoolNearlyFull],
            Self::DrillPassed => &[Self::DrillFailed, Self::DrillOverdue],
            // Under the new policy it is said anew if it is so.
            Self::PolicyChanged => &[Self::DrillOverdue],
            Self::RpoMet => &[Self::RpoMissed],
            // Its successor is watched anew.
            Self::RunAbandoned | Self::RunAborted => &[Self::RunStalled],
            Self::RunPublished => &[
                Self::RunAbandoned,
                Self::SourceChanged,
                Self::TargetChanged,
                Self::RunRepaired,
                Self::RunStalled,
                Self::VerificationFailed,
                Self::StoreRolledBack,
            ],
            Self::ReplicationDeleted => &[
                Self::DeleteWaitsForProof,
                Self::Exhausted,
                Self::SourceExhausted,
                Self::RunAbandoned,
                Self::SourceChanged,
                Self::TargetChanged,
                Self::RunStalled,
                Self::RpoMissed,
                Self::DrillFailed,
                Self::DrillOverdue,
                Self::ReplicationQuarantined,
            ],
            _ => &[],
        }
    }

    /// True if some event clears this one.
    #[must_use]
    pub fn has_an_end(self) -> bool {
        Self::ALL.iter().any(|code| code.clears().contains(&self))
    }
}

impl std::fmt::Display for EventCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.code())
    }
}

impl std::str::FromStr for EventCode {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .iter()
            .copied()
            .find(|c| c.code().eq_ignore_ascii_case(text))
            .ok_or_else(|| format!("'{}' is not an event code; `tanist explain` lists them", excerpt(text)))
    }
}

/// What happened, before it has a place in the log.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct NewEvent {
    pub at: Timestamp,
    pub code: EventCode,
    pub replication: Option<(ReplicationId, ReplicationName)>,
    pub agent: Option<AgentName>,
    /// Who caused it: `server`, an agent, or an operator's name.
    pub actor: String,
    /// What happened, in one sentence.
    pub message: String,
}

/// One line of the audit log.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Event {
    pub seq: EventSeq,
    pub at: Timestamp,
    pub code: EventCode,
    pub severity: Severity,
    pub replication: Option<ReplicationName>,
    pub agent: Option<AgentName>,
    pub actor: String,
    pub message: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_parse() {
        for (i, code) in EventCode::ALL.iter().enumerate() {
            assert_eq!(code.code().parse::<EventCode>().unwrap(), *code);
            assert!(EventCode::ALL[..i].iter().all(|other| other.code() < code.code()), "{code} is out of order");
        }
    }
}
