//! Every time limit of the protocol, in one place. They set the pace, never what is safe.

use serde::{Deserialize, Serialize};

use std::time::Duration;

/// The time limits, with the product's defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timers {
    /// Beat of an agent that acts.
    pub beat_acting: Duration,
    /// Beat of a failover agent of a replication.
    pub beat_failover: Duration,
    /// Beat of an agent without a role.
    pub beat_idle: Duration,
    /// Beats an acting agent may miss before it is suspected.
    pub missed_beats: u32,
    /// How long peers have to answer a probe; no answer in this time is the verdict "unreachable".
    pub probe: Duration,
    /// While a peer reaches a suspect that the server does not reach: how often the probe is repeated.
    pub partition_recheck: Duration,
    /// From the commit of a grant to the answer of the successor.
    pub activation: Duration,
    /// After this time an unanswered message is sent again.
    pub resend: Duration,
    /// A planned handover becomes a takeover after this.
    pub handover: Duration,
    /// Between two handovers for the proof of the same epoch.
    pub errand_pause: Duration,
    /// How long a restarted server waits for the acting agents it knows before it suspects them.
    pub readoption: Duration,
    /// A server that has committed nothing for so long asks the store whether it still leads.
    pub leadership: Duration,
    /// How long an agent that declined, or ended its role by itself, is passed over.
    pub decline: Duration,
    /// How often a failover agent reads its volumes and pings its peers.
    pub canary: Duration,
    /// A read that fails when an earlier one failed so long ago, and none between them did well, is of a lost path.
    pub lost_path: Duration,
    /// A canary read or a ping older than this shows nothing any more.
    pub canary_age: Duration,
    /// How long agents have to answer a survey that an operator's command waits for.
    pub survey: Duration,
    /// Between two attempts of a run that failed at the storage.
    pub run_retry: Duration,
    /// How often the removal of expired recovery points is ordered again.
    pub expiry: Duration,
    /// How often the target's storage is asked whether the recovery points are there.
    pub recount: Duration,
    /// A run that was slow for so long is handed to another agent.
    pub gray: Duration,
    /// Between two handovers for slowness.
    pub gray_pause: Duration,
    /// A run in which nothing moved for so long stands still.
    pub stall: Duration,
    /// How long the agent of the smallest rank has to be well before work goes back to it by itself.
    pub handback: Duration,
    /// How long an agent tries to finish its earlier I/O on a volume before it declines to act.
    pub local_drain: Duration,
    /// How often an agent without the kernel lock tries to get it.
    pub lock_retry: Duration,
    /// A beat without an answer for so long makes an agent look for another way to the server.
    pub unheard: Duration,
    /// Between the first attempts of an agent to reach the server through one peer and through the next.
    pub relay_stagger: Duration,
    /// A server's host that refuses the connection is reached: for so long its server may be starting, and no peer is asked.
    pub relay_after_refusal: Duration,
    /// How often an agent that is relayed tries the direct way; doubled each time that the direct way did not hold.
    pub direct_retry: Duration,
    pub direct_retry_longest: Duration,
    /// An attempt on the direct way that takes longer is given up, if the agent is relayed.
    pub direct_attempt: Duration,
    /// For so long a reader's pings of the holder fail, while both reach the server, before another agent reads in its place.
    pub reader_cut_off: Duration,
    /// The direct way holds when it has stood for so long.
    pub direct_holds: Duration,
}

impl Timers {
    pub const DEFAULT: Self = Self {
        beat_acting: Duration::from_millis(250),
        beat_failover: Duration::from_secs(1),
        beat_idle: Duration::from_secs(5),
        missed_beats: 4,
        probe: Duration::from_millis(300),
        partition_recheck: Duration::from_secs(1),
        activation: Duration::from_secs(2),
        resend: Duration::from_millis(500),
        handover: Duration::from_secs(5),
        errand_pause: Duration::from_secs(300),
        readoption: Duration::from_secs(3),
        leadership: Duration::from_secs(1),
        decline: Duration::from_secs(5),
        canary: Duration::from_secs(1),
        lost_path: Duration::from_millis(500),
        canary_age: Duration::from_secs(5),
        survey: Duration::from_secs(2),
        run_retry: Duration::from_secs(1),
        expiry: Duration::from_secs(5),
        recount: Duration::from_secs(3600),
        gray: Duration::from_secs(30),
        gray_pause: Duration::from_secs(600),
        stall: Duration::from_secs(60),
        handback: Duration::from_secs(900),
        local_drain: Duration::from_secs(2),
        lock_retry: Duration::from_millis(500),
        unheard: Duration::from_secs(1),
        relay_stagger: Duration::from_millis(150),
        relay_after_refusal: Duration::from_secs(3),
        direct_retry: Duration::from_secs(1),
        direct_retry_longest: Duration::from_secs(30),
        direct_attempt: Duration::from_secs(2),
        reader_cut_off: Duration::from_secs(3),
        direct_holds: Duration::from_secs(60),
    };

    /// Silence of an acting agent that makes it suspected.
    #[must_use]
    pub fn suspicion(&self) -> Duration {
        self.beat_acting * self.missed_beats
    }

    /// A little longer than peers wait for the suspect, so that their word of silence arrives in time.
    #[must_use]
    pub fn probe_answer(&self) -> Duration {
        self.probe * 6 / 5
    }

    /// A beat older than this does not make an agent eligible: two missed beats of its own pace, at least.
    #[must_use]
    pub fn fresh_beat(&self, has_role: bool) -> Duration {
        if has_role { self.beat_failover * 5 / 2 } else { self.beat_idle * 5 / 2 }
    }
}

impl Default for Timers {
    fn default() -> Self {
        Self::DEFAULT
    }
}
