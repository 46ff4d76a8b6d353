//! What the server knows of an agent process from its own words: volatile, gone with the server.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tanist_model::application::ApplicationReport;
use tanist_model::id::{AgentName, Epochs, HostIdentity, Incarnation, ReplicationId, StorageName, VolumeAddress};
use tanist_model::replication::Side;
use tanist_model::time::{Monotonic, Timestamp};
use tanist_model::volume::{StorageReport, VolumeReport};

use crate::message::{CanaryReport, Heartbeat, Hello, OrderNumber, PeerReport, RoleReport};

/// A report of an agent that names more than this is not kept whole: it would be a broken agent, or one that means harm.
const MOST_VOLUMES: usize = 10_000;
/// More than an agent has in its hierarchies, by any measure.
const MOST_PEERS: usize = 255;

/// One connection, numbered by the transport; never reused within a server process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct ConnectionId(pub u64);

/// Something reported, and when it was true by the server's clock.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Seen<T> {
    pub value: T,
    pub at: Monotonic,
}

/// An agent said that it will not or cannot act under these epochs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Declined {
    pub epochs: Epochs,
    pub reason: String,
    pub at: Monotonic,
    /// It was acting and cannot go on, or it never began.
    pub while_acting: bool,
}

/// An agent process as the server sees it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Session {
    pub connection: ConnectionId,
    /// The peer that carries the connection, by the agent's word. For people: nothing is decided by it.
    pub through: Option<AgentName>,
    /// The agent's own count of its connections.
    pub(super) count: u64,
    pub incarnation: Incarnation,
    pub host: HostIdentity,
    /// The epochs it showed when it came: those of its earlier processes too.
    pub granted: Vec<(ReplicationId, Epochs)>,
    /// Those of this very process.
    pub granted_here: Vec<(ReplicationId, Epochs)>,
    pub version: String,
    pub io: Option<String>,
    pub listen_address: Option<String>,
    /// Any message counts as a sign of life.
    pub last_beat: Monotonic,
    /// Since when it is heard without a long pause: what peers found of it before says nothing of it now.
    #[serde(default)]
    pub heard_since: Monotonic,
    /// Wall time of the last sign of life, for records.
    pub last_beat_wall: Timestamp,
    /// Why and when the connection ended, if it did.
    pub ended: Option<(Monotonic, String)>,
    pub leaving: bool,
    /// The last assignment it was sent, and when.
    pub(super) watch_sent: Option<(OrderNumber, Monotonic)>,
    pub storage: Vec<StorageReport>,
    /// Storage systems whose pool was told to be nearly full.
    pub(super) full_pools: BTreeSet<StorageName>,
    pub inventory: BTreeMap<VolumeAddress, VolumeReport>,
    pub applications: Vec<ApplicationReport>,
    pub canaries: BTreeMap<VolumeAddress, Seen<CanaryReport>>,
    pub peers: BTreeMap<AgentName, Seen<PeerReport>>,
    pub roles: BTreeMap<ReplicationId, RoleReport>,
    /// What it reads for holders elsewhere.
    pub readings: BTreeMap<ReplicationId, RoleReport>,
    #[serde(with = "tanist_model::pairs")]
    pub declined: BTreeMap<(ReplicationId, Side), Declined>,
}

impl Session {
    #[must_use]
    pub fn new(connection: ConnectionId, hello: &Hello, at: Monotonic, wall: Timestamp) -> Self {
        Self {
            connection,
            through: hello.through.clone(),
            count: hello.connection,
            incarnation: hello.incarnation,
            host: hello.host.clone(),
            granted: hello.granted.clone(),
            granted_here: hello.granted_here.clone(),
            version: hello.version.clone(),
            io: hello.io.clone(),
            listen_address: hello.listen_address.clone(),
            last_beat: at,
            heard_since: at,
            last_beat_wall: wall,
            ended: None,
            leaving: false,
            watch_sent: None,
            storage: hello.storage.clone(),
            full_pools: BTreeSet::new(),
            inventory: hello.volumes.iter().map(|v| (v.address.clone(), v.clone())).collect(),
            applications: hello.applications.clone(),
            canaries: BTreeMap::new(),
            peers: BTreeMap::new(),
            roles: of_side(&hello.roles, Side::Target),
            readings: of_side(&hello.roles, Side::Source),
            declined: BTreeMap::new(),
        }
    }

    /// The same process on another connection: what it has shown and said before stays true.
    pub(super) fn carry_over(&mut self, old: Self) {
        // The pool is the same, whoever looks at it.
        self.full_pools = old.full_pools;
        if old.incarnation != self.incarnation {
            return;
        }
        (self.canaries, self.peers, self.declined) = (old.canaries, old.peers, old.declined);
        self.leaving = old.leaving;
    }

    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.ended.is_none()
    }

    /// `pause`: so long without a word is a silence.
    pub(super) fn note_alive(&mut self, at: Monotonic, wall: Timestamp, pause: Duration) {
        if at.since(self.last_beat) >= pause {
            self.heard_since = at;
        }
        self.last_beat = at;
        self.last_beat_wall = wall;
    }

    /// The replications for which the beat names another run than the one before.
    pub(super) fn turned_to(&self, beat: &Heartbeat) -> impl Iterator<Item = ReplicationId> {
        let held = beat.roles.iter().filter(|role| role.side == Side::Target);
        let known = |role: &RoleReport| self.roles.get(&role.replication).is_some_and(|before| before.run == role.run);
        held.filter(move |role| !known(role)).map(|role| role.replication)
    }

    pub(super) fn note_beat(&mut self, beat: &Heartbeat, at: Monotonic) {
        self.leaving = beat.leaving;
        self.roles = of_side(&beat.roles, Side::Target);
        self.readings = of_side(&beat.roles, Side::Source);
        self.note_canaries(&beat.canaries, at);
        self.note_peers(&beat.peers, at);
    }

    pub(super) fn note_canaries(&mut self, canaries: &[CanaryReport], at: Monotonic) {
        for canary in canaries {
            if let Ok(report) = &canary.result {
                keep(&mut self.inventory, MOST_VOLUMES, &canary.address, report.clone());
            }
            let seen = Seen { value: canary.clone(), at: back(at, canary.age_ms) };
            keep(&mut self.canaries, MOST_VOLUMES, &canary.address, seen);
        }
    }

    pub(super) fn note_peers(&mut self, peers: &[PeerReport], at: Monotonic) {
        for peer in peers {
            let seen = Seen { value: peer.clone(), at: back(at, peer.age_ms) };
            keep(&mut self.peers, MOST_PEERS, &peer.peer, seen);
        }
    }

    pub(super) fn note_inventory(
        &mut self,
        storage: Vec<StorageReport>,
        volumes: Vec<VolumeReport>,
        applications: Vec<ApplicationReport>,
    ) {
        self.storage = storage;
        self.applications = applications;
        self.inventory = volumes.into_iter().map(|v| (v.address.clone(), v)).collect();
    }
}

fn of_side(reports: &[RoleReport], side: Side) -> BTreeMap<ReplicationId, RoleReport> {
    reports.iter().filter(|r| r.side == side).map(|r| (r.replication, r.clone())).collect()
}

/// The names are the agent's own words: new ones are taken up to a limit.
fn keep<K: Ord + Clone, V>(map: &mut BTreeMap<K, V>, most: usize, key: &K, value: V) {
    if map.len() < most || map.contains_key(key) {
        map.insert(key.clone(), value);
    }
}

fn back(at: Monotonic, age_ms: u64) -> Monotonic {
    Monotonic(at.0.saturating_sub(age_ms.saturating_mul(1000)))
}
