//! Planned changes: handover, draining a host, an agent that stops.

use tanist_model::change::Change;
use tanist_model::event::EventCode;
use tanist_model::id::AgentName;
use tanist_model::replication::{Handover, Holder, ReplicationRecord};
use tanist_model::run::RunState;
use tanist_model::takeover::{Candidate, Evidence, Vacancy};

use super::ServerMachine;
use crate::message::{OrderNumber, Release, ServerMessage};

impl ServerMachine {
    /// The holder should not act any more although it is well.
    pub(super) fn wants_away(&self, record: &ReplicationRecord, holder: &Holder) -> bool {
        let drained = self.state.agents.get(&holder.agent).is_some_and(|a| a.drained);
        let outside = !record.target.hierarchy.contains(&holder.agent);
        drained || outside || self.is_leaving(&holder.agent)
    }

    fn is_leaving(&self, agent: &AgentName) -> bool {
        self.sessions.get(agent).is_some_and(|s| s.leaving)
    }

    /// Starts the handover as soon as somebody can take it. An agent that stops is drained whether or not there is one.
    pub(super) fn begin_moving_away(&mut self, record: &ReplicationRecord, holder: &Holder) {
        let stops = self.is_leaving(&holder.agent);
        if self.successor_of(record, holder).is_none() && !stops {
            self.drive_run(record, holder);
            return;
        }
        let by = if stops { "the agent's stop" } else { "maintenance" };
        self.begin_handover(record, holder, None, by.to_owned());
    }

    /// Work goes back by itself, if the operator wants that: between two runs, to an agent of a smaller rank that has been well for
    /// long enough and was not damped meanwhile. True if that has begun.
    pub(super) fn goes_back(&mut self, record: &ReplicationRecord, holder: &Holder) -> bool {
        let between = self.state.current_run(record).is_none_or(|run| run.state == RunState::SnapshotPending);
        if !record.policy.automatic_handback {
            return false;
        }
        let candidates = self.candidates(record);
        let able = |c: &&Candidate| c.passed_over.is_none() && !c.damped;
        let before = candidates.iter().take_while(|c| c.agent != holder.agent);
        let better = before.into_iter().find(able).map(|c| c.agent.clone());
        let (now, enough) = (self.now.monotonic, self.timers.handback);
        let supervision = self.supervision_mut(record.id);
        let Some(agent) = better else {
            supervision.better = None;
            return false;
        };
        let since = match &supervision.better {
            Some((known, since)) if *known == agent => *since,
            _ => {
                supervision.better = Some((agent.clone(), now));
                now
            }
        };
        if !between || now.since(since) < enough {
            return false;
        }
        self.begin_handover(record, holder, Some(agent), "automatic handback".to_owned());
        true
    }

    /// Who would act if the holder did not.
    pub(super) fn successor_of(&self, record: &ReplicationRecord, holder: &Holder) -> Option<AgentName> {
        let candidates: Vec<_> = self.candidates(record).into_iter().filter(|c| c.agent != holder.agent).collect();
        self.pick(&candidates)
    }

    /// Nobody else can act at this moment, and who handed over could: the role goes back to it only when that lasts for as long as a
    /// handover may take.
    pub(super) fn awaits_successor(&mut self, record: &ReplicationRecord, left: &Vacancy) -> bool {
        if !matches!(left.evidence, Evidence::Handover { .. }) {
            return false;
        }
        let eligible = |c: &&Candidate| c.passed_over.is_none();
        let candidates = self.candidates(record);
        let nobody_else = candidates.iter().filter(eligible).all(|c| self.handed_over(record, &c.agent));
        let (now, limit) = (self.now.monotonic, self.timers.handover);
        let since = *self.supervision_mut(record.id).handover_since.get_or_insert(now);
        nobody_else && candidates.iter().any(|c| eligible(&c)) && now.since(since) < limit
    }

    pub(super) fn begin_handover(
        &mut self,
        record: &ReplicationRecord,
        holder: &Holder,
        to: Option<AgentName>,
        by: String,
    ) {
        // Named now: once the holder has drained, it is as eligible as any.
        let to = to.or_else(|| self.successor_of(record, holder));
        let message = format!("agent {} hands over, wanted by {by}", holder.agent);
        let event = self.event_of(record, Some(&holder.agent), EventCode::HandoverStarted, message);
        let handover = Some(Handover { to, by, started_at: self.now.wall });
        let next = ReplicationRecord { handover, ..record.clone() };
        self.commit_current(record, vec![event, Change::PutReplication(Box::new(next))], Vec::new());
        let now = self.now.monotonic;
        self.supervision_mut(record.id).handover_since = Some(now);
        self.send_drain(record, holder, None);
    }

    pub(super) fn drive_handover(&mut self, record: &ReplicationRecord, holder: &Holder, handover: &Handover) {
        let (now, limit) = (self.now.monotonic, self.timers.handover);
        let since = *self.supervision_mut(record.id).handover_since.get_or_insert(now);
        if now.since(since) < limit {
            self.send_drain(record, holder, None);
            return;
        }
        if self.successor_of(record, holder).is_none() && !self.is_leaving(&holder.agent) {
            let next = ReplicationRecord { handover: None, ..record.clone() };
            self.commit_current(record, vec![Change::PutReplication(Box::new(next))], Vec::new());
            return;
        }
        let message = format!("agent {} did not drain in time; its epoch is superseded", holder.agent);
        let event = self.event_of(record, Some(&holder.agent), EventCode::HandoverOverdue, message);
        self.commit_current(record, vec![event], Vec::new());
        self.take_over(record, Evidence::HandoverOverdue, handover.started_at, Vec::new(), handover.to.as_ref());
    }

    pub(super) fn send_drain(&mut self, record: &ReplicationRecord, holder: &Holder, release: Option<Release>) {
        let Some(number) = self.next_order(record) else { return };
        let stamp = self.stamp(record, holder);
        self.send(&holder.agent, ServerMessage::Drain { stamp, number, release });
    }

    /// The number of the next order to a replication's holder; `None` while the last one is too young to be repeated.
    pub(super) fn next_order(&mut self, record: &ReplicationRecord) -> Option<OrderNumber> {
        let (now, resend, term) = (self.now.monotonic, self.timers.resend, self.state.term);
        let supervision = self.supervision_mut(record.id);
        if supervision.order_sent.is_some_and(|sent| now.since(sent) < resend) {
            return None;
        }
        supervision.order_sent = Some(now);
        supervision.order_number += 1;
        Some(OrderNumber { term, number: supervision.order_number })
    }

    /// The epochs that are waited for, in words: "epoch 4 of h2 is".
    #[must_use]
    pub fn awaited_in_words(&self, record: &ReplicationRecord) -> String {
        let list: Vec<String> = record.awaited().map(|u| format!("epoch {} of {}", u.epoch, u.agent)).collect();
        format!("{} {}", list.join(", "), if list.len() == 1 { "is" } else { "are" })
    }
}
