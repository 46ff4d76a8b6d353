//! What an agent is to watch, and what it sees when it looks.

use std::time::Duration;

use tanist_model::id::VolumeAddress;
use tanist_model::takeover::PeerVerdict;
use tanist_protocol::message::{CanaryReport, PeerAddress, PeerReport};

use crate::roll::Roll;
use crate::volumes::Volumes;

/// How long a ping is said to have taken.
const PING_US: u64 = 200;

/// Volumes to read and peers to ping.
#[derive(Clone, Debug, Default)]
pub(crate) struct Subjects {
    pub(crate) peers: Vec<PeerAddress>,
    pub(crate) volumes: Vec<VolumeAddress>,
}

/// What a look gave, and how long it has to take.
#[derive(Debug)]
pub(crate) struct Sight {
    pub(crate) canaries: Vec<CanaryReport>,
    pub(crate) peers: Vec<PeerReport>,
    pub(crate) takes: Duration,
}

impl Subjects {
    /// `patience`: for so long a peer that does not answer is waited for.
    pub(crate) fn look(&self, volumes: &Volumes, roll: &Roll, patience: Duration) -> Sight {
        let peers: Vec<PeerReport> = self.peers.iter().map(|peer| ping(peer, roll)).collect();
        let silent = peers.iter().any(|peer| peer.verdict == PeerVerdict::Unreachable);
        Sight {
            canaries: self.volumes.iter().map(|address| volumes.read(address)).collect(),
            peers,
            takes: if silent { patience } else { Duration::ZERO },
        }
    }
}

fn ping(peer: &PeerAddress, roll: &Roll) -> PeerReport {
    PeerReport { peer: peer.agent.clone(), verdict: roll.ping(&peer.agent), took_us: PING_US, age_ms: 0 }
}
