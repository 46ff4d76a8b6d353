//! Refused connections go into the audit log, but no faster than somebody can read: whoever knocks in a loop must not fill the
//! store.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tanist_model::event::{EventCode, NewEvent};
use tanist_model::id::AgentName;
use tanist_model::time::Monotonic;
use tanist_wire::connect::WireError;
use tanist_wire::tls_failure::TlsFailure;

use crate::clock;
use crate::core::CoreHandle;

/// Time between two events about the same kind of refusal from the same place.
const PACE: Duration = Duration::from_secs(1);
/// Places remembered; when there are more, the old ones are forgotten.
const PLACES: usize = 1024;

type Source = (IpAddr, EventCode, String);

/// Remembers when which refusal was last recorded.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<HashMap<Source, Monotonic>>);

impl Refusals {
    /// A connection did not come about. Refusals are recorded; somebody who merely went away is not.
    pub fn failed(&self, core: &CoreHandle, from: SocketAddr, agent: Option<AgentName>, error: &WireError) {
        match error {
            WireError::TurnedAway { refusal, .. } => {
                let kind = format!("{:?}/{agent:?}", refusal.code);
                self.record(core, from.ip(), EventCode::ConnectionRefused, kind, agent, refusal.message.clone());
            }
            WireError::Tls { failure, .. } if is_refusal(failure) => {
                self.record(
                    core,
                    from.ip(),
                    EventCode::ConnectionRefused,
                    "tls".to_owned(),
                    agent,
                    failure.to_string(),
                );
            }
            _ => tracing::debug!(%from, %error, "no connection came about"),
        }
    }

    /// A join was refused.
    pub fn join(&self, core: &CoreHandle, from: IpAddr, agent: Option<&AgentName>, reason: String) {
        self.record(core, from, EventCode::JoinRefused, format!("{agent:?}: {reason}"), agent.cloned(), reason);
    }

    fn record(
        &self,
        core: &CoreHandle,
        from: IpAddr,
        code: EventCode,
        kind: String,
        agent: Option<AgentName>,
        reason: String,
    ) {
        let now = clock::now();
        if !self.is_due((from, code, kind), now.monotonic) {
            return;
        }
        let message = format!("from {from}: {reason}");
        let actor = agent.as_ref().map_or_else(|| from.to_string(), ToString::to_string);
        core.note(NewEvent { at: now.wall, code, replication: None, agent, actor, message });
    }

    fn is_due(&self, source: Source, now: Monotonic) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if last.len() >= PLACES {
            last.retain(|_, at| now.since(*at) < PACE);
        }
        if last.len() >= PLACES || last.get(&source).is_some_and(|at| now.since(*at) < PACE) {
            return false;
        }
        last.insert(source, now);
        true
    }
}

/// Whether somebody was refused for what it showed. Noise from port scanners and clients that refuse *us* is none of it.
fn is_refusal(failure: &TlsFailure) -> bool {
    use TlsFailure::{Certificate, Expired, ForeignAuthority, Mismatch, NoCommonProtocol, NotYetValid};
    matches!(
        failure,
        ForeignAuthority | Expired { .. } | NotYetValid { .. } | Mismatch(_) | Certificate(_) | NoCommonProtocol
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_refusal_is_recorded_once_a_second() {
        let refusals = Refusals::default();
        let source = |kind: &str| ("192.0.2.1".parse().unwrap(), EventCode::ConnectionRefused, kind.to_owned());
        let at = |seconds: u64| Monotonic(seconds * 1_000_000);
        assert!(refusals.is_due(source("revoked"), at(0)));
        assert!(!refusals.is_due(source("revoked"), Monotonic(999_999)));
        assert!(refusals.is_due(source("role"), at(0)));
        assert!(refusals.is_due(source("revoked"), at(1)));
    }
}
