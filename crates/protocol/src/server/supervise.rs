//! Detection: evidence decides how fast the server acts, never what is safe.
//!
//! [`ServerMachine::supervise`] compares what a replication needs with what is, and takes the next step. It is called after
//! every input that may matter and on every tick, so it must be cheap and do nothing when nothing is to be done.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tanist_model::event::EventCode;
use tanist_model::id::{AgentName, Epoch, Incarnation, ReplicationId, RunId};
use tanist_model::quantity::count;
use tanist_model::replication::{Holder, Intent, ReplicationRecord, Side};
use tanist_model::takeover::{Evidence, PeerVerdict, ProbeVerdict};
use tanist_model::time::{Monotonic, Timestamp};

use super::ServerMachine;
use super::application::is_thawed_or_told;
use super::array::ArrayQuestion;
use super::pace::Pace;
use super::session::Declined;
use super::watchdog::Watched;
use crate::mutation::Mutation;

/// The states of the server's machine, per replication.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Phase {
    /// Nobody acts, and nobody is needed.
    Stable,
    /// There is evidence against the acting agent, and no peer to ask, or a peer reaches it.
    Suspect,
    /// Peers have been asked.
    Probing,
    /// A grant is committed; the successor has not answered yet.
    Granted,
    /// The holder acts.
    Active,
    /// The holder acts, and the next snapshot waits for proof of quiet.
    AwaitProof,
    /// The holder has been told to drain.
    HandingOver,
    /// Nobody is eligible.
    Exhausted,
}

impl Phase {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Stable => "stable",
            Self::Suspect => "suspect",
            Self::Probing => "probing",
            Self::Granted => "granted",
            Self::Active => "active",
            Self::AwaitProof => "await-proof",
            Self::HandingOver => "handing-over",
            Self::Exhausted => "exhausted",
        }
    }
}

/// Evidence against the acting agent, and what peers say of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Suspicion {
    pub evidence: Evidence,
    pub suspected_at: Timestamp,
    pub(super) survey: u64,
    pub(super) asked: Vec<AgentName>,
    pub(super) deadline: Monotonic,
    pub verdicts: Vec<ProbeVerdict>,
    pub(super) partition_noted: bool,
}

/// What this server process knows of a replication beyond its record.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Supervision {
    /// Of the holder (the target's side) and of the reader (the source's).
    pub(super) suspicions: BTreeMap<Side, Suspicion>,
    /// Since when this process waits for a handover.
    pub(super) handover_since: Option<Monotonic>,
    pub(super) exhausted: bool,
    pub(super) proof_announced: bool,
    pub(super) delete_announced: bool,
    /// The holder was told to remove what tanist made; when it has drained, that is done.
    pub(super) release_ordered: bool,
    /// Nobody could be told to remove what was made at the source.
    pub(super) source_left: bool,
    /// A reader has removed what was made at the source.
    pub(super) source_released: bool,
    pub(super) granted_at: Option<Monotonic>,
    pub(super) activate_sent: Option<Monotonic>,
    pub(super) order_sent: Option<Monotonic>,
    pub(super) order_number: u64,
    pub(super) run_retry_at: Option<Monotonic>,
    pub(super) read_order_sent: Option<Monotonic>,
    /// The run for which the holder of the networked form has kept the last recovery point, and its place.
    pub(super) kept: Option<(RunId, Option<String>)>,
    pub(super) source_exhausted: bool,
    /// Since when the reader does not reach the holder.
    pub(super) reader_cut_off: Option<Monotonic>,
    /// The run that was let start.
    pub(super) admitted: Option<RunId>,
    pub(super) pace: Pace,
    pub(super) watched: Watched,
    /// The newest epoch for whose proof the role went to its agent, and when.
    pub(super) gone_for: Option<(Epoch, Monotonic)>,
    /// An agent of a smaller rank than the holder's that could act, and since when.
    pub(super) better: Option<(AgentName, Monotonic)>,
    pub(super) points_ordered: Option<Monotonic>,
    /// Under which epoch, and when, the holder last said which recovery points are there.
    pub(super) points_counted: Option<(Epoch, Monotonic)>,
    /// The schedule was looked at: until then nothing comes due. Reckoning it anew at every tick would cost more than all the rest.
    pub(super) nothing_due_until: Option<Timestamp>,
    pub(super) no_verification_until: Option<Timestamp>,
    pub(super) no_drill_until: Option<Timestamp>,
    /// From when on a takeover that was proven at the first time is an old one.
    pub(super) drill_overdue_from: Option<(Timestamp, Option<Timestamp>)>,
    /// What the holder was last asked to ask the storage.
    pub(super) array_asked: Option<ArrayQuestion>,
    /// When agents were last asked what became of an application that they had quiesced.
    pub(super) thaw_asked: Option<Monotonic>,
}

impl Suspicion {
    /// A peer reaches the suspect and the server does not, or there is no peer to ask: nothing is decided soon.
    #[must_use]
    pub fn lasts(&self) -> bool {
        self.asked.is_empty() || self.partition_noted
    }
}

impl Supervision {
    /// Evidence against the holder.
    #[must_use]
    pub fn suspicion(&self) -> Option<&Suspicion> {
        self.suspicions.get(&Side::Target)
    }

    /// Evidence against the agent that reads the source.
    #[must_use]
    pub fn reader_suspicion(&self) -> Option<&Suspicion> {
        self.suspicions.get(&Side::Source)
    }

    /// Nobody was found to read the source when it was needed last.
    #[must_use]
    pub fn source_exhausted(&self) -> bool {
        self.source_exhausted
    }

    /// Begins anew with an epoch, or when what was decided may not have been committed. What outlasts epochs stays: how fast the
    /// runs usually are, and what was tried so lately that it must not be tried again.
    pub(super) fn reset(&mut self) {
        let Self { order_number, watched, gone_for, mut pace, .. } = std::mem::take(self);
        pace.rest();
        *self = Self { order_number, watched, gone_for, pace, ..Self::default() };
    }
}

/// How a process stands that acts for a side.
pub(super) enum Standing {
    Well,
    /// Not known yet: a restarted server waits for it.
    Awaited,
    Suspect(Evidence),
    Gone(Evidence),
}

impl ServerMachine {
    /// The phase of a replication, for `show` and metrics.
    #[must_use]
    pub fn phase(&self, record: &ReplicationRecord) -> Phase {
        let supervision = self.supervisions.get(&record.id);
        if supervision.is_some_and(|s| s.exhausted) {
            return Phase::Exhausted;
        }
        let Some(holder) = &record.holder else { return Phase::Stable };
        match supervision.and_then(Supervision::suspicion) {
            Some(suspicion) if suspicion.lasts() => return Phase::Suspect,
            Some(_) => return Phase::Probing,
            None => {}
        }
        if record.handover.is_some() {
            return Phase::HandingOver;
        }
        if holder.activated_at.is_none() {
            return Phase::Granted;
        }
        if self.waits_for_proof(record) { Phase::AwaitProof } else { Phase::Active }
    }

    pub(super) fn supervise(&mut self, id: ReplicationId) {
        self.watch_quiescences(id);
        let Some(record) = self.state.replications.get(&id).cloned() else {
            self.supervisions.remove(&id);
            return;
        };
        if self.state.restoring || record.quarantine.is_some() && record.intent != Intent::Deleting {
            return;
        }
        let decided = self.out.decisions().len();
        self.request_due_run(&record);
        let Some(record) = self.renewed(record, decided) else { return };
        if self.request_due_verification(&record) {
            return self.supervise(id);
        }
        let decided = self.out.decisions().len();
        self.watch_rpo(&record);
        let Some(record) = self.renewed(record, decided) else { return };
        if self.watch_drills(&record) {
            return self.supervise(id);
        }
        match &record.holder {
            None => self.supervise_vacancy(&record),
            Some(holder) => match self.standing(&record, holder) {
                Standing::Awaited => {}
                Standing::Well => {
                    self.supervision_mut(record.id).exhausted = false;
                    self.clear_suspicion(&record, Side::Target, &holder.agent);
                    self.drive_holder(&record, holder);
                }
                Standing::Suspect(evidence) => {
                    let suspect = (&holder.agent, holder.incarnation);
                    if let Some(s) = self.investigate(&record, Side::Target, suspect, evidence) {
                        self.take_over(&record, s.evidence, s.suspected_at, s.verdicts, None);
                    }
                }
                Standing::Gone(_) if record.intent == Intent::Deleting && holder.activated_at.is_none() => {
                    self.vacate(&record);
                }
                Standing::Gone(evidence) => self.replace(&record, evidence),
            },
        }
    }

    /// A record as it is by now, after `decided` decisions of this step: most steps decide nothing, and every replication is looked at
    /// twenty times a second.
    fn renewed(&self, record: ReplicationRecord, decided: usize) -> Option<ReplicationRecord> {
        if self.out.decisions().len() == decided {
            return Some(record);
        }
        self.state.replications.get(&record.id).cloned()
    }

    fn supervise_vacancy(&mut self, record: &ReplicationRecord) {
        let is_over = record.unproven.is_empty() && is_thawed_or_told(record);
        if record.intent == Intent::Deleting && is_over && self.is_released(record) {
            self.finish_delete(record);
            return;
        }
        let wall = self.now.wall;
        match record.vacancy.clone() {
            None => self.take_over(record, Evidence::FirstActivation, wall, Vec::new(), None),
            Some(left) if self.awaits_successor(record, &left) => {}
            Some(left) => self.take_over(record, left.evidence, left.since, Vec::new(), left.successor.as_ref()),
        }
    }

    fn standing(&self, record: &ReplicationRecord, holder: &Holder) -> Standing {
        let key = (record.id, Side::Target);
        let same = |d: &Declined| d.epochs.same_holder(record.epochs);
        match self.standing_of(&holder.agent, holder.incarnation, key, same) {
            Standing::Well | Standing::Suspect(Evidence::BeatsMissed { .. }) if holder.activated_at.is_none() => {
                self.standing_granted(record)
            }
            standing => standing,
        }
    }

    /// How the very process stands that was granted a side. `same`: a refusal is of the epochs in force.
    pub(super) fn standing_of(
        &self,
        agent: &AgentName,
        incarnation: Incarnation,
        key: (ReplicationId, Side),
        same: impl Fn(&Declined) -> bool,
    ) -> Standing {
        if self.state.agents.get(agent).is_none_or(|a| a.removed) {
            return Standing::Gone(Evidence::Removed);
        }
        let Some(session) = self.sessions.get(agent) else { return self.standing_unseen() };
        if session.incarnation != incarnation {
            return match &session.ended {
                None => Standing::Gone(Evidence::Restarted),
                Some((_, reason)) => Standing::Suspect(Evidence::ConnectionEnded { reason: reason.clone() }),
            };
        }
        if let Some(declined) = session.declined.get(&key).filter(|d| same(d)) {
            let reason = declined.reason.clone();
            return Standing::Gone(if declined.while_acting {
                Evidence::ReportedUnfit { reason }
            } else {
                Evidence::Declined { reason }
            });
        }
        if let Some((_, reason)) = &session.ended {
            return Standing::Suspect(Evidence::ConnectionEnded { reason: reason.clone() });
        }
        let silent = self.now.monotonic.since(session.last_beat);
        if silent >= self.timers.suspicion() {
            let silent_ms = u64::try_from(silent.as_millis()).unwrap_or(u64::MAX);
            return Standing::Suspect(Evidence::BeatsMissed { silent_ms });
        }
        Standing::Well
    }

    fn standing_unseen(&self) -> Standing {
        if self.now.monotonic.since(self.started) < self.timers.readoption {
            return Standing::Awaited;
        }
        let reason = "it has not come back since the server started".to_owned();
        Standing::Suspect(Evidence::ConnectionEnded { reason })
    }

    fn standing_granted(&self, record: &ReplicationRecord) -> Standing {
        let since = self.supervisions.get(&record.id).and_then(|s| s.granted_at).unwrap_or(self.started);
        if self.now.monotonic.since(since) >= self.timers.activation {
            Standing::Gone(Evidence::ActivationTimeout)
        } else {
            Standing::Well
        }
    }

    pub(super) fn clear_suspicion(&mut self, record: &ReplicationRecord, side: Side, agent: &AgentName) {
        let Some(suspicion) = self.supervision_mut(record.id).suspicions.remove(&side) else { return };
        let after = self.now.wall.since(suspicion.suspected_at).as_millis();
        let message = format!("agent {agent} is well again after {after} ms; no takeover");
        let event = self.event_of(record, Some(agent), EventCode::SuspicionCleared, message);
        self.commit_current(record, vec![event], Vec::new());
    }

    /// Asks the peers; what they say, once it means that the process is to be replaced.
    pub(super) fn investigate(
        &mut self,
        record: &ReplicationRecord,
        side: Side,
        (agent, incarnation): (&AgentName, Incarnation),
        evidence: Evidence,
    ) -> Option<Suspicion> {
        let now = self.now.monotonic;
        let Some(suspicion) = self.supervisions.get(&record.id).and_then(|s| s.suspicions.get(&side)).cloned() else {
            self.suspect(record, side, agent, evidence);
            return None;
        };
        let its_own = |v: &ProbeVerdict| v.verdict == PeerVerdict::Reached { incarnation };
        if suspicion.verdicts.iter().any(its_own) && !self.mutations.breaks(Mutation::PartitionIgnored) {
            self.hold_for_partition(record, side, agent, &suspicion);
            return None;
        }
        let says_gone = |v: &ProbeVerdict| !matches!(v.verdict, PeerVerdict::Unreachable);
        let all_answered = !suspicion.asked.is_empty() && suspicion.verdicts.len() >= suspicion.asked.len();
        let is_gone = suspicion.verdicts.iter().any(says_gone) || all_answered || now >= suspicion.deadline;
        is_gone.then_some(suspicion)
    }

    fn suspect(&mut self, record: &ReplicationRecord, side: Side, agent: &AgentName, evidence: Evidence) {
        let (survey, asked) = self.probe(record, side, agent);
        let silence = match &evidence {
            Evidence::BeatsMissed { silent_ms } => format!("it has been silent for {silent_ms} ms"),
            Evidence::ConnectionEnded { reason } => format!("its connection ended: {reason}"),
            other => format!("{other:?}"),
        };
        let code = match side {
            Side::Target => EventCode::AgentSuspected,
            Side::Source => EventCode::ReaderSuspected,
        };
        let message =
            format!("{} {agent} is suspected: {silence}; {} asked", role_of(side), count(asked.len() as u64, "peer"));
        let event = self.event_of(record, Some(agent), code, message);
        let suspicion = Suspicion {
            evidence,
            suspected_at: self.now.wall,
            survey,
            asked,
            deadline: self.now.monotonic.plus(self.timers.probe_answer()),
            verdicts: Vec::new(),
            partition_noted: false,
        };
        self.supervision_mut(record.id).suspicions.insert(side, suspicion);
        self.commit_current(record, vec![event], Vec::new());
    }

    /// A peer reaches the acting agent and the server does not: it goes on acting, and the probe is repeated.
    fn hold_for_partition(&mut self, record: &ReplicationRecord, side: Side, agent: &AgentName, suspicion: &Suspicion) {
        if !suspicion.partition_noted {
            let message = format!("a peer reaches {} {agent}, the server does not; no takeover", role_of(side));
            let event = self.event_of(record, Some(agent), EventCode::PartitionSuspected, message);
            self.commit_current(record, vec![event], Vec::new());
        }
        let (now, recheck, answer) = (self.now.monotonic, self.timers.partition_recheck, self.timers.probe_answer());
        let due = now >= suspicion.deadline.plus(recheck);
        let again = if due { Some(self.probe(record, side, agent)) } else { None };
        let Some(kept) = self.supervision_mut(record.id).suspicions.get_mut(&side) else { return };
        kept.partition_noted = true;
        if let Some((survey, asked)) = again {
            (kept.survey, kept.asked, kept.deadline) = (survey, asked, now.plus(answer));
            kept.verdicts.clear();
        }
    }

    /// The evidence needs no confirmation.
    fn replace(&mut self, record: &ReplicationRecord, evidence: Evidence) {
        let suspicion = self.supervisions.get(&record.id).and_then(Supervision::suspicion).cloned();
        let (since, verdicts) = suspicion.map_or((self.now.wall, Vec::new()), |s| (s.suspected_at, s.verdicts));
        self.take_over(record, evidence, since, verdicts, None);
    }

    /// The holder is well: see to its activation, a handover, a removal, a run.
    fn drive_holder(&mut self, record: &ReplicationRecord, holder: &Holder) {
        if holder.activated_at.is_none() {
            return self.resend_activate(record, holder);
        }
        self.ask_array(record, holder);
        if let Some(handover) = &record.handover {
            self.drive_handover(record, holder, handover);
        } else if self.wants_away(record, holder) {
            self.begin_moving_away(record, holder);
        } else if self.goes_for_proof(record, holder) {
            // The role moves.
        } else if record.intent == Intent::Deleting {
            self.drive_delete(record, holder);
        } else {
            self.drive_points(record, holder);
            if !self.goes_back_after_drill(record, holder) && !self.goes_back(record, holder) {
                self.drive_run(record, holder);
            }
        }
    }
}

fn role_of(side: Side) -> &'static str {
    match side {
        Side::Target => "acting agent",
        Side::Source => "agent reading the source,",
    }
}
