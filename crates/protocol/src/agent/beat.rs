//! Beats: one for all roles of an agent, at the pace of its busiest one, with what it has lately seen.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tanist_model::application::ApplicationReport;
use tanist_model::id::{AgentName, VolumeAddress};
use tanist_model::time::Monotonic;
use tanist_model::volume::{StorageReport, VolumeReport};

use super::AgentMachine;
use crate::message::{AgentMessage, CanaryReport, Heartbeat, Hello, OrderNumber, PeerReport, RoleReport};

/// When the next beat is due, and what it carries.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Beat {
    last: Option<Monotonic>,
    number: u64,
    failover: bool,
    watching: OrderNumber,
    canaries: BTreeMap<VolumeAddress, (CanaryReport, Monotonic)>,
    peers: BTreeMap<AgentName, (PeerReport, Monotonic)>,
}

impl Beat {
    /// The next beat is due now: something changed that the server waits for.
    pub(super) fn hurry(&mut self) {
        self.last = None;
    }

    pub(super) fn is_hurried(&self) -> bool {
        self.last.is_none()
    }

    /// Takes a new assignment; `false` if it is older than the present one.
    pub(super) fn watch(&mut self, number: OrderNumber, failover: bool) -> bool {
        let newer = number >= self.watching;
        if newer {
            self.watching = number;
            self.failover = failover;
            self.canaries.clear();
            self.peers.clear();
        }
        newer
    }

    pub(super) fn note(&mut self, canaries: Vec<CanaryReport>, peers: Vec<PeerReport>, at: Monotonic) {
        let news = canaries.iter().any(|c| !self.canaries.contains_key(&c.address))
            || peers.iter().any(|p| !self.peers.contains_key(&p.peer));
        for canary in canaries {
            self.canaries.insert(canary.address.clone(), (canary, at));
        }
        for peer in peers {
            self.peers.insert(peer.peer.clone(), (peer, at));
        }
        if news {
            self.hurry();
        }
    }
}

impl AgentMachine {
    pub(super) fn on_connected(
        &mut self,
        storage: Vec<StorageReport>,
        volumes: Vec<VolumeReport>,
        applications: Vec<ApplicationReport>,
        through: Option<AgentName>,
    ) {
        self.connected = true;
        self.connections += 1;
        let hello = Hello {
            incarnation: self.identity.incarnation,
            host: self.identity.host.clone(),
            version: self.identity.version.clone(),
            io: self.identity.io.clone(),
            listen_address: self.identity.listen_address.clone(),
            highest_term: self.highest_term,
            storage,
            volumes,
            roles: self.role_reports(),
            applications,
            granted: self.identity.granted.clone(),
            granted_here: self.identity.granted_here.clone(),
            through,
            connection: self.connections,
        };
        self.send(AgentMessage::Hello(Box::new(hello)));
        self.beat.hurry();
    }

    fn role_reports(&self) -> Vec<RoleReport> {
        let held = self.roles.iter().map(|(id, role)| role.report(*id));
        let read = self.readings.iter().map(|(id, reading)| reading.report(*id));
        held.chain(read).collect()
    }

    /// The pace of the busiest role.
    fn pace(&self) -> std::time::Duration {
        if self.roles.values().any(super::Role::is_acting) || !self.readings.is_empty() {
            self.timers.beat_acting
        } else if self.beat.failover {
            self.timers.beat_failover
        } else {
            self.timers.beat_idle
        }
    }

    pub(super) fn beat_if_due(&mut self) {
        let now = self.now.monotonic;
        // Ticks come at half the fastest pace; a beat that would be late at the next tick is sent at this one.
        let slack = self.tick_interval() / 2;
        if self.beat.last.is_some_and(|last| now.since(last) + slack < self.pace()) {
            return;
        }
        self.beat.last = Some(now);
        self.beat.number += 1;
        let age_ms = |at: Monotonic| u64::try_from(now.since(at).as_millis()).unwrap_or(u64::MAX);
        let canaries =
            self.beat.canaries.values().map(|(c, at)| CanaryReport { age_ms: c.age_ms + age_ms(*at), ..c.clone() });
        let peers = self.beat.peers.values().map(|(p, at)| PeerReport { age_ms: p.age_ms + age_ms(*at), ..p.clone() });
        let heartbeat = Heartbeat {
            roles: self.role_reports(),
            canaries: canaries.collect(),
            peers: peers.collect(),
            watching: self.beat.watching,
            number: self.beat.number,
            leaving: self.leaving.is_some(),
        };
        self.send(AgentMessage::Heartbeat(heartbeat));
    }
}
