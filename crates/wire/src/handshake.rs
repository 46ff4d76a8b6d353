//! Who is let in. After TLS the dialling side says which versions it speaks and what its clock reads; the other side answers with
//! the version chosen, or with a refusal that says why. TLS itself can only hang up, so every reason that needs words is decided
//! here. The decision is a pure function; what only the store knows (revoked, removed) is the caller's to add.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tanist_model::id::ClusterId;
use tanist_model::time::Timestamp;

use crate::certificate::{Expected, PeerIdentity};
use crate::refusal::{Refusal, apart};

/// A version of the messages on control and peer connections.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Version(pub u16);

/// The version that this build speaks.
pub const VERSION: Version = Version(1);
/// The one before it, still spoken. The first version has none before it.
pub const PREVIOUS_VERSION: Version = Version(if VERSION.0 > 1 { VERSION.0 - 1 } else { 1 });

/// Clocks further apart than this are refused: certificates, schedules and the audit log would contradict each other.
pub const CLOCK_TOLERANCE: Duration = Duration::from_secs(120);

/// The versions that one side speaks, both ends included.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct VersionRange {
    pub oldest: Version,
    pub newest: Version,
}

impl VersionRange {
    /// What this build speaks: N and N-1.
    pub const SUPPORTED: Self = Self { oldest: PREVIOUS_VERSION, newest: VERSION };

    /// The newest version that both speak.
    #[must_use]
    pub fn best_with(self, other: Self) -> Option<Version> {
        let best = self.newest.min(other.newest);
        (best >= self.oldest.max(other.oldest)).then_some(best)
    }

    #[must_use]
    pub fn contains(self, version: Version) -> bool {
        (self.oldest..=self.newest).contains(&version)
    }
}

impl fmt::Display for VersionRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.oldest.0, self.newest.0)
    }
}

/// The first message of a connection, from the side that dialled.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ClientPreamble {
    pub versions: VersionRange,
    /// The sender's clock at the moment of sending.
    pub wall: Timestamp,
    /// The sender's release, for the audit log.
    pub software: String,
}

impl ClientPreamble {
    /// What this build says.
    #[must_use]
    pub fn new(wall: Timestamp) -> Self {
        Self { versions: VersionRange::SUPPORTED, wall, software: env!("CARGO_PKG_VERSION").to_owned() }
    }
}

/// The answer to a [`ClientPreamble`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    Accepted { version: Version },
    Refused(Refusal),
}

/// The rules of one port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Admission {
    pub cluster: ClusterId,
    pub expected: Expected,
    pub versions: VersionRange,
}

impl Admission {
    /// The rules of this build, for agents of this cluster: the server's control protocol and the agents' peer links.
    #[must_use]
    pub fn of_agents(cluster: ClusterId) -> Self {
        Self { cluster, expected: Expected::AnyAgent, versions: VersionRange::SUPPORTED }
    }

    /// Decides over a holder whose certificate TLS has verified; `now` is the reading of our clock when the preamble arrived.
    ///
    /// # Errors
    /// The [`Refusal`] to send. Identity is judged first: a stranger learns nothing of versions and clocks.
    pub fn judge<'a>(
        &self,
        holder: Option<&'a PeerIdentity>,
        preamble: &ClientPreamble,
        now: Timestamp,
    ) -> Result<(&'a PeerIdentity, Version), Refusal> {
        let holder = self.identify(holder)?;
        let version = self.versions.best_with(preamble.versions);
        let version = version.ok_or_else(|| Refusal::unknown_version(preamble.versions, self.versions))?;
        judge_clock(preamble.wall, now)?;
        Ok((holder, version))
    }

    /// Decides over the identity alone: for data streams, on which nothing of ours is said before the data.
    ///
    /// # Errors
    /// The [`Refusal`].
    pub fn identify<'a>(&self, holder: Option<&'a PeerIdentity>) -> Result<&'a PeerIdentity, Refusal> {
        let holder = holder.ok_or_else(Refusal::no_certificate)?;
        self.expected.check(self.cluster, holder).map_err(|mismatch| Refusal::mismatch(&mismatch))?;
        Ok(holder)
    }
}

/// Also for a join, which comes by the API and has no preamble.
///
/// # Errors
/// The [`Refusal`] to send if the clocks are further apart than [`CLOCK_TOLERANCE`].
pub fn judge_clock(theirs: Timestamp, ours: Timestamp) -> Result<(), Refusal> {
    if apart(theirs, ours) > CLOCK_TOLERANCE { Err(Refusal::clock_too_far(theirs, ours)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use tanist_model::id::AgentName;

    use super::*;
    use crate::certificate::Role;
    use crate::refusal::RefusalCode;

    const NOW: Timestamp = Timestamp(1_795_342_800_000_000);

    fn range(oldest: u16, newest: u16) -> VersionRange {
        VersionRange { oldest: Version(oldest), newest: Version(newest) }
    }

    fn holder(cluster: u64, role: Role) -> PeerIdentity {
        let cluster = ClusterId(cluster);
        PeerIdentity { cluster, role, serial_hex: "01".into(), not_before: NOW, not_after: NOW }
    }

    fn h1() -> PeerIdentity {
        holder(7, Role::Agent(AgentName::new("h1").unwrap()))
    }

    fn verdict(holder: Option<&PeerIdentity>, preamble: &ClientPreamble) -> Result<Version, RefusalCode> {
        let admission = Admission::of_agents(ClusterId(7));
        admission.judge(holder, preamble, NOW).map(|(_, version)| version).map_err(|refusal| refusal.code)
    }

    #[test]
    fn neighbouring_versions_work_together() {
        assert_eq!(range(1, 2).best_with(range(2, 3)), Some(Version(2)));
        assert_eq!(range(2, 3).best_with(range(1, 2)), Some(Version(2)));
        assert_eq!(range(3, 4).best_with(range(3, 4)), Some(Version(4)));
        assert_eq!(range(1, 2).best_with(range(3, 4)), None);
        assert_eq!(range(4, 3).best_with(range(3, 4)), None);
    }

    #[test]
    fn an_agent_of_this_cluster_is_let_in() {
        assert_eq!(verdict(Some(&h1()), &ClientPreamble::new(NOW)), Ok(VERSION));
    }

    #[test]
    fn others_are_refused_with_the_reason() {
        let preamble = ClientPreamble::new(NOW);
        let server = holder(7, Role::Server("control".into()));
        let stranger = PeerIdentity { cluster: ClusterId(8), ..h1() };
        assert_eq!(verdict(None, &preamble), Err(RefusalCode::NoCertificate));
        assert_eq!(verdict(Some(&server), &preamble), Err(RefusalCode::WrongRole));
        assert_eq!(verdict(Some(&stranger), &preamble), Err(RefusalCode::WrongCluster));
        let newer = ClientPreamble { versions: range(8, 9), ..preamble };
        assert_eq!(verdict(Some(&h1()), &newer), Err(RefusalCode::UnknownVersion));
    }

    #[test]
    fn a_clock_may_be_two_minutes_off_either_way() {
        let at = |wall| verdict(Some(&h1()), &ClientPreamble::new(wall));
        let (ahead, behind) = (NOW.plus(CLOCK_TOLERANCE), Timestamp(NOW.0 - 120_000_000));
        assert_eq!((at(ahead), at(behind)), (Ok(VERSION), Ok(VERSION)));
        assert_eq!(at(Timestamp(ahead.0 + 1)), Err(RefusalCode::ClockTooFar));
        assert_eq!(at(Timestamp(behind.0 - 1)), Err(RefusalCode::ClockTooFar));
        assert_eq!(at(Timestamp(i64::MIN)), Err(RefusalCode::ClockTooFar));
    }

    #[test]
    fn a_refusal_shows_both_clocks() {
        let there = NOW.plus(Duration::from_secs(300));
        let refusal = Refusal::clock_too_far(there, NOW);
        for part in ["300 s", &there.to_string(), &NOW.to_string()] {
            assert!(refusal.message.contains(part), "{} lacks {part}", refusal.message);
        }
    }

    #[test]
    fn the_words_on_the_wire_are_frozen() {
        let refused = Answer::Refused(Refusal::new(RefusalCode::ClockTooFar, "m", "h"));
        let text = serde_json::to_string(&[Answer::Accepted { version: Version(1) }, refused]).unwrap();
        assert_eq!(
            text,
            r#"[{"accepted":{"version":1}},{"refused":{"code":"clock-too-far","message":"m","hint":"h"}}]"#
        );
        let newer = r#"{"refused":{"code":"not-on-a-sunday","message":"m","hint":"h","since":9}}"#;
        assert!(matches!(
            serde_json::from_str(newer).unwrap(),
            Answer::Refused(Refusal { code: RefusalCode::Other, .. })
        ));
        let preamble =
            r#"{"versions":{"oldest":1,"newest":2},"wall":"2026-11-22T10:00:00Z","software":"0.1.0","new":1}"#;
        assert_eq!(serde_json::from_str::<ClientPreamble>(preamble).unwrap().versions, range(1, 2));
    }
}
