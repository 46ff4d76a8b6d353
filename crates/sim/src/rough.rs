//! A rough network: every message takes up to 200 ms, and some packets are lost. The connections are TCP, so what is lost comes later,
//! and everything behind it on the same connection with it.

use tanist_model::takeover::PeerVerdict;
use tanist_protocol::message::PeerReport;

use crate::world::World;

const JITTER_US: u64 = 200_000;
/// The first time until TCP sends again; each further loss doubles it.
const RETRANSMISSION_US: u64 = 200_000;
const MOST_DOUBLINGS: u32 = 8;

impl World {
    pub fn rough_latency(&mut self, lost_per_mille: u64) -> u64 {
        let mut took = self.rng.between(100, JITTER_US);
        for doublings in 0..MOST_DOUBLINGS {
            if !self.rng.chance(lost_per_mille) {
                break;
            }
            took += RETRANSMISSION_US << doublings;
        }
        took
    }

    /// A ping whose way there and back takes longer than it is waited for has reached nobody.
    pub fn roughen(&mut self, peers: &mut [PeerReport], lost_per_mille: u64) {
        let waits = u64::try_from(self.timers.probe.as_micros()).unwrap_or(u64::MAX);
        for peer in peers {
            let took = self.rough_latency(lost_per_mille) + self.rough_latency(lost_per_mille);
            if took > waits {
                peer.verdict = PeerVerdict::Unreachable;
            }
        }
    }
}
