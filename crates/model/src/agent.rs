//! An agent, as the store keeps it.

use serde::{Deserialize, Serialize};

use crate::id::{AgentName, HostIdentity};
use crate::time::Timestamp;

/// The agent's number. Assigned by the server, never reused; its lowest bits go into reservation keys.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(transparent)]
pub struct AgentSlot(pub u32);

/// A penalty for failures that halves with time; a damped agent is picked after all others and never excluded.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Penalty {
    /// The value at `at`, in failures.
    pub value: f64,
    pub at: Timestamp,
}

impl Penalty {
    /// Time in which a penalty halves, in seconds.
    pub const HALF_LIFE_SECONDS: f64 = 600.0;
    /// From this value on an agent is damped.
    pub const DAMPED_FROM: f64 = 2.0;

    #[must_use]
    pub fn value_at(&self, now: Timestamp) -> f64 {
        self.value * (-now.since(self.at).as_secs_f64() / Self::HALF_LIFE_SECONDS).exp2()
    }

    #[must_use]
    pub fn is_damped(&self, now: Timestamp) -> bool {
        self.value_at(now) >= Self::DAMPED_FROM
    }

    /// The penalty after one more failure.
    #[must_use]
    pub fn with_failure(&self, now: Timestamp) -> Self {
        Self { value: self.value_at(now) + 1.0, at: now }
    }
}

/// One agent, as stored.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct AgentRecord {
    pub name: AgentName,
    pub slot: AgentSlot,
    /// Serial number of the certificate in force, hexadecimal. Any other certificate of this name is revoked.
    pub certificate_serial: String,
    /// The certificate before the last renewal; accepted until the agent has shown the new one.
    pub previous_serial: Option<String>,
    pub certificate_expires_at: Timestamp,
    pub joined_at: Timestamp,
    /// Removed agents stay on record: their epochs may still be unproven.
    pub removed: bool,
    /// Under maintenance: holds no role and gets none until undrained.
    pub drained: bool,
    pub penalty: Penalty,
    /// The host it was last seen on; a new boot id there proves the old boot quiet.
    pub host: Option<HostIdentity>,
    /// Where its peers reach it, as it says.
    pub listen_address: Option<String>,
    /// After a restore of the store: it has not yet shown its highest epochs.
    pub owes_epochs: bool,
}

/// A certificate as it was shown on a connection; the transport has verified that the cluster's authority issued it and that it is
/// in force.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ShownCertificate {
    pub serial: String,
    pub expires_at: Timestamp,
}

impl AgentRecord {
    /// Whether the agent may connect with this certificate.
    ///
    /// A restored store does not know of renewals since its backup: until the agent has shown its epochs, one that outlives the one
    /// on record is that renewal.
    #[must_use]
    pub fn accepts(&self, shown: &ShownCertificate) -> bool {
        let known = shown.serial == self.certificate_serial || self.previous_serial.as_ref() == Some(&shown.serial);
        known || self.renewed_since_backup(shown)
    }

    /// The record once the agent has shown this certificate: the one before it counts no more.
    pub fn note_shown(&mut self, shown: &ShownCertificate) {
        if self.renewed_since_backup(shown) {
            self.certificate_serial.clone_from(&shown.serial);
            self.certificate_expires_at = shown.expires_at;
        }
        if shown.serial == self.certificate_serial {
            self.previous_serial = None;
        }
    }

    fn renewed_since_backup(&self, shown: &ShownCertificate) -> bool {
        self.owes_epochs && shown.expires_at > self.certificate_expires_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Timestamp;
    use std::time::Duration;

    fn record(owes_epochs: bool) -> AgentRecord {
        AgentRecord {
            name: AgentName::new("h1").unwrap(),
            slot: AgentSlot(1),
            certificate_serial: "02".into(),
            previous_serial: Some("01".into()),
            certificate_expires_at: Timestamp(200),
            joined_at: Timestamp(0),
            removed: false,
            drained: false,
            penalty: Penalty::default(),
            host: None,
            listen_address: None,
            owes_epochs,
        }
    }

    fn shown(serial: &str, expires: i64) -> ShownCertificate {
        ShownCertificate { serial: serial.into(), expires_at: Timestamp(expires) }
    }

    #[test]
    fn only_the_certificate_in_force_and_the_one_before_it_are_accepted() {
        let mut record = record(false);
        assert!(record.accepts(&shown("02", 200)) && record.accepts(&shown("01", 100)));
        assert!(!record.accepts(&shown("03", 300)));
        record.note_shown(&shown("02", 200));
        assert!(!record.accepts(&shown("01", 100)));
    }

    #[test]
    fn a_restored_store_takes_a_renewal_that_it_has_forgotten_and_nothing_older() {
        let mut record = record(true);
        assert!(record.accepts(&shown("03", 300)) && !record.accepts(&shown("00", 50)));
        record.note_shown(&shown("03", 300));
        assert_eq!((record.certificate_serial.as_str(), record.certificate_expires_at), ("03", Timestamp(300)));
        record.owes_epochs = false;
        assert!(!record.accepts(&shown("02", 200)), "the one before the renewal is revoked");
    }

    #[test]
    fn a_penalty_halves_in_ten_minutes() {
        let start = Timestamp(0);
        let twice = Penalty::default().with_failure(start).with_failure(start);
        assert!(twice.is_damped(start));
        let later = start.plus(Duration::from_secs(600));
        assert!((twice.value_at(later) - 1.0).abs() < 1e-9);
        assert!(!twice.is_damped(later));
    }
}
