//! An agent arrives, speaks, leaves: sessions and the dispatch of messages.

use std::collections::BTreeSet;

use tanist_model::agent::{AgentRecord, ShownCertificate};
use tanist_model::change::{Change, Condition};
use tanist_model::event::EventCode;
use tanist_model::id::{AgentName, Epochs, HostIdentity, Incarnation, ReplicationId, Term};
use tanist_model::replication::{ReplicationRecord, Side};

use super::concerns::members;
use super::session::{ConnectionId, Declined, Session};
use super::{Effect, ServerMachine};
use crate::message::{AgentMessage, Heartbeat, Hello, OrderNumber, PeerAddress, RoleState, ServerMessage, Stamp};

impl ServerMachine {
    pub(super) fn handle_hello(
        &mut self,
        agent: &AgentName,
        connection: ConnectionId,
        shown: &ShownCertificate,
        hello: Hello,
    ) {
        if hello.highest_term > self.state.term {
            self.refuse_follower_of_newer(agent, connection, hello.highest_term);
            return;
        }
        if self.sessions.get(agent).is_some_and(|s| s.connection > connection || is_later(s, &hello)) {
            let reason = "the agent has a newer connection".to_owned();
            self.out.perform(Effect::Close { agent: agent.clone(), connection, reason });
            return;
        }
        if let Err(reason) = self.admit(agent, shown) {
            self.refuse(agent, connection, reason);
            return;
        }
        let carried_before = self.sessions.get(agent).and_then(|session| session.through.clone());
        self.welcome(agent, connection, &hello);
        self.note_host(agent, shown, &hello);
        self.note_way(agent, carried_before, hello.through);
        self.note_shown_epochs(agent);
        self.stand_down_stale_roles(agent);
        self.touch_agent(agent);
    }

    /// After a failed commit: what came of an agent's Hello may not have been committed, and then nothing of it was said.
    pub(super) fn settle_sessions(&mut self) {
        let live = self.sessions.iter().filter(|(_, s)| s.is_connected());
        let live: Vec<_> = live.map(|(agent, s)| (agent.clone(), s.host.clone())).collect();
        for (agent, host) in live {
            if let Some(record) = self.state.agents.get(&agent).filter(|r| r.host.as_ref() != Some(&host)) {
                let noted = AgentRecord { host: Some(host.clone()), ..record.clone() };
                self.commit(Condition::Term, vec![Change::PutAgent(noted)], Vec::new());
            }
            self.prove_by_new_boot(&agent, &host);
            self.note_shown_epochs(&agent);
            self.stand_down_stale_roles(&agent);
        }
        self.send_watches();
    }

    fn admit(&self, agent: &AgentName, shown: &ShownCertificate) -> Result<(), String> {
        let record =
            self.state.agents.get(agent).ok_or_else(|| format!("agent {agent} is not known here; join again"))?;
        if record.removed {
            return Err(format!(
                "agent {agent} was removed and its certificate is revoked; join again under a new token"
            ));
        }
        if record.accepts(shown) {
            Ok(())
        } else {
            Err(format!("this certificate of agent {agent} is revoked; a newer one was issued"))
        }
    }

    /// An agent that has obeyed a higher term obeys nothing of this server. It is not believed that another server leads: the
    /// store is asked, with the commit of the refusal, and if it says the same this server ends.
    pub(super) fn refuse_follower_of_newer(&mut self, agent: &AgentName, connection: ConnectionId, obeyed: Term) {
        let reason = format!(
            "agent {agent} has obeyed term {obeyed} and this server is in term {}: another server has led it; if that one is gone, \
             start the agent anew",
            self.state.term
        );
        self.refuse(agent, connection, reason);
    }

    fn refuse(&mut self, agent: &AgentName, connection: ConnectionId, reason: String) {
        let mut event = self.event(EventCode::ConnectionRefused, reason.clone());
        event.agent = Some(agent.clone());
        let message = ServerMessage::Refused { reason: reason.clone() };
        let after = vec![
            Effect::Send { agent: agent.clone(), connection, message },
            Effect::Close { agent: agent.clone(), connection, reason },
        ];
        self.commit(Condition::Term, vec![Change::AppendEvent(event)], after);
    }

    fn welcome(&mut self, agent: &AgentName, connection: ConnectionId, hello: &Hello) {
        let session = Session::new(connection, hello, self.now.monotonic, self.now.wall);
        if let Some(old) = self.sessions.insert(agent.clone(), session) {
            if old.is_connected() && old.connection != connection {
                self.displace(agent, &old, hello);
            }
            if let Some(session) = self.sessions.get_mut(agent) {
                session.carry_over(old);
            }
        }
        self.note_pools(agent);
        self.send(agent, ServerMessage::Welcome { term: self.state.term, cluster: self.cluster, answers_beats: true });
        self.send_watches_around(agent);
    }

    /// A newer connection takes the place of one that stands. Of another process it may be a restart whose end is not seen yet, or a
    /// copy of the agent's directory that runs elsewhere: the one that gives way is told, and comes back later.
    fn displace(&mut self, agent: &AgentName, old: &Session, hello: &Hello) {
        let connection = old.connection;
        if old.incarnation == hello.incarnation {
            let reason = "the agent has a newer connection".to_owned();
            self.out.perform(Effect::Close { agent: agent.clone(), connection, reason });
            return;
        }
        let reason =
            format!("another process introduced itself as agent {agent}; an agent's directory belongs to one process");
        let host = |host: &HostIdentity| format!("machine {} boot {}", host.machine_id, host.boot_id);
        let message = format!("{reason}: one on {}, then one on {}", host(&old.host), host(&hello.host));
        let mut event = self.event(EventCode::AgentContested, message);
        event.agent = Some(agent.clone());
        let refused = ServerMessage::Refused { reason: reason.clone() };
        let after = vec![
            Effect::Send { agent: agent.clone(), connection, message: refused },
            Effect::Close { agent: agent.clone(), connection, reason },
        ];
        self.commit(Condition::Term, vec![Change::AppendEvent(event)], after);
    }

    /// An operator has a network to mend, or has mended it.
    fn note_way(&mut self, agent: &AgentName, before: Option<AgentName>, now: Option<AgentName>) {
        let (code, message) = match (before, now) {
            (before, Some(relay)) if before.as_ref() != Some(&relay) => (
                EventCode::AgentRelayed,
                format!("agent {agent} does not reach the server; {relay} carries its connection"),
            ),
            (Some(relay), None) => (
                EventCode::AgentDirect,
                format!("agent {agent} reaches the server itself again, no longer through {relay}"),
            ),
            _ => return,
        };
        let mut event = self.event(code, message);
        event.agent = Some(agent.clone());
        self.commit(Condition::Term, vec![Change::AppendEvent(event)], Vec::new());
    }

    /// Commits what the store keeps of an agent's host; a new boot id proves the old boot's epochs quiet.
    fn note_host(&mut self, agent: &AgentName, shown: &ShownCertificate, hello: &Hello) {
        let Some(record) = self.state.agents.get(agent) else { return };
        let mut noted = record.clone();
        noted.host = Some(hello.host.clone());
        noted.listen_address.clone_from(&hello.listen_address);
        noted.note_shown(shown);
        let mut event =
            self.event(EventCode::AgentConnected, format!("agent {agent} connected, version {}", hello.version));
        event.agent = Some(agent.clone());
        self.commit(Condition::Term, vec![Change::PutAgent(noted), Change::AppendEvent(event)], Vec::new());
        self.prove_by_new_boot(agent, &hello.host);
    }

    /// Epochs that are not the present ones of their replication stop, whoever believes to hold them.
    fn stand_down_stale_roles(&mut self, agent: &AgentName) {
        let Some(session) = self.sessions.get(agent) else { return };
        let term = self.state.term;
        let incarnation = session.incarnation;
        let mut stale: Vec<_> = session
            .roles
            .values()
            .filter(|role| match role.state {
                RoleState::Quarantined | RoleState::Fenced => false,
                // Ended, and yet waited for: it is to say so once more.
                RoleState::Idle => self.is_awaited(incarnation, role.replication, role.epochs),
                _ => !self.is_current(agent, role.replication, role.epochs),
            })
            .map(|role| Stamp { term, replication: role.replication, epochs: role.epochs, incarnation })
            .collect();
        stale.extend(self.forgotten_epochs(agent, session).map(|(replication, epochs)| Stamp {
            term,
            replication,
            epochs,
            incarnation,
        }));
        let ended = self.stale_readings(agent, session);
        for stamp in stale {
            self.send(agent, ServerMessage::StepDown { stamp });
        }
        for stamp in ended {
            self.send(agent, ServerMessage::EndRead { stamp });
        }
    }

    /// Epochs of this process that are waited for and that it says nothing of: it is at others, or has never heard of them. In
    /// the direct form both sides count alike.
    fn forgotten_epochs<'a>(
        &'a self,
        agent: &'a AgentName,
        session: &'a Session,
    ) -> impl Iterator<Item = (ReplicationId, Epochs)> + 'a {
        self.concerned(agent).flat_map(move |record| {
            let role = session.roles.get(&record.id).map(|role| role.epochs.target);
            let own = record.awaited().filter(move |u| u.incarnation == session.incarnation && Some(u.epoch) != role);
            own.map(|u| (record.id, Epochs { source: u.epoch, target: u.epoch }))
        })
    }

    fn is_awaited(&self, incarnation: Incarnation, replication: ReplicationId, epochs: Epochs) -> bool {
        let record = self.state.replications.get(&replication);
        record.is_some_and(|r| r.awaited().any(|u| u.epoch == epochs.target && u.incarnation == incarnation))
    }

    /// Whether this agent's present process holds these epochs.
    pub(super) fn is_current(&self, agent: &AgentName, replication: ReplicationId, epochs: Epochs) -> bool {
        let Some(record) = self.state.replications.get(&replication) else { return false };
        record.epochs.same_holder(epochs) && self.holder_session(record).is_some_and(|(holder, _)| holder == agent)
    }

    /// The holder and its session, if the very process that was granted the epochs is the one that spoke last.
    pub(super) fn holder_session<'a>(&'a self, record: &'a ReplicationRecord) -> Option<(&'a AgentName, &'a Session)> {
        let holder = record.holder.as_ref()?;
        let session = self.sessions.get(&holder.agent)?;
        (session.incarnation == holder.incarnation).then_some((&holder.agent, session))
    }

    pub(super) fn on_disconnect(&mut self, agent: &AgentName, connection: ConnectionId, reason: String) {
        let at = self.now.monotonic;
        let Some(session) = self.sessions.get_mut(agent).filter(|s| s.connection == connection) else { return };
        if session.ended.is_some() {
            return;
        }
        session.ended = Some((at, reason.clone()));
        let mut event =
            self.event(EventCode::AgentDisconnected, format!("the connection of agent {agent} ended: {reason}"));
        event.agent = Some(agent.clone());
        self.commit(Condition::Term, vec![Change::AppendEvent(event)], Vec::new());
        self.touch_agent(agent);
    }

    pub(super) fn handle_message(&mut self, agent: &AgentName, connection: ConnectionId, message: AgentMessage) {
        let (at, wall, pause) = (self.now.monotonic, self.now.wall, self.timers.fresh_beat(false));
        let Some(session) = self.sessions.get_mut(agent).filter(|s| s.connection == connection && s.is_connected())
        else {
            // Its end was ordered before, and lost with a commit that failed: an agent that is never answered would never dial again.
            let reason = "another connection of the agent has taken its place".to_owned();
            return self.out.perform(Effect::Close { agent: agent.clone(), connection, reason });
        };
        session.note_alive(at, wall, pause);
        match message {
            AgentMessage::Heartbeat(beat) => self.handle_heartbeat(agent, &beat),
            AgentMessage::Inventory { storage, volumes, applications } => {
                session.note_inventory(storage, volumes, applications);
                self.note_pools(agent);
            }
            AgentMessage::Thawed(report) => self.handle_thawed(agent, &report),
            AgentMessage::Surveyed { survey, canaries, peers } => {
                self.handle_surveyed(agent, survey, &canaries, &peers);
            }
            // A second Hello on a connection, and certificates, are the transport's business.
            AgentMessage::Hello(_) | AgentMessage::RenewCertificate { .. } => {}
            other => match self.foreign_replication(agent, &other) {
                Some(record) => {
                    let reason = format!("agent {agent} spoke for replication {}, which is not its", record.name);
                    self.refuse(agent, connection, reason);
                }
                None => self.handle_role_message(agent, other),
            },
        }
    }

    /// The replication that a message is about and that the agent has nothing to do with. That something ended may be said of any:
    /// a restored store can have forgotten who was granted it.
    fn foreign_replication(&self, agent: &AgentName, message: &AgentMessage) -> Option<&ReplicationRecord> {
        let ends = matches!(message, AgentMessage::Drained { .. } | AgentMessage::NewerEpochSeen { .. });
        let record = self.state.replications.get(&message.replication()?)?;
        (!ends && !self.has_to_do_with(agent, record)).then_some(record)
    }

    fn handle_heartbeat(&mut self, agent: &AgentName, beat: &Heartbeat) {
        let at = self.now.monotonic;
        if let Some(session) = self.sessions.get_mut(agent) {
            let changed: Vec<ReplicationId> = session.turned_to(beat).collect();
            session.note_beat(beat, at);
            // The answer to the last order: the next one need not wait.
            for id in changed {
                if let Some(supervision) = self.supervisions.get_mut(&id) {
                    supervision.order_sent = None;
                }
            }
        }
        self.repeat_lost_watch(agent, beat);
        self.stand_down_stale_roles(agent);
        self.note_late_frames(agent, beat);
        for role in beat.roles.iter().filter(|role| role.fence.locked.is_some()) {
            if self.is_current(agent, role.replication, role.epochs)
                && let Some(record) = self.state.replications.get(&role.replication).cloned()
                && record.holder.as_ref().is_some_and(|h| h.activated_at.is_some())
            {
                self.take_proof(&record, &role.fence);
            }
        }
        self.touch_agent(agent);
    }

    fn handle_role_message(&mut self, agent: &AgentName, message: AgentMessage) {
        match message {
            AgentMessage::Unfit { replication, epochs, reason } => {
                self.note_declined(agent, replication, epochs, reason, true);
            }
            AgentMessage::NotEligible { replication, epochs, reason } => {
                self.handle_not_eligible(agent, replication, epochs, reason);
            }
            AgentMessage::GrantRequest { replication, epochs, nonce } => {
                self.handle_grant_request(agent, replication, epochs, nonce);
            }
            AgentMessage::Activated { replication, epochs, fence } => {
                self.handle_activated(agent, replication, epochs, &fence);
            }
            AgentMessage::ProofOfQuiet { replication, epochs, fence } => {
                self.handle_proof_of_quiet(agent, replication, epochs, &fence);
            }
            AgentMessage::ArrayQuiet { replication, epochs, question } => {
                self.handle_array_quiet(agent, replication, epochs, question);
            }
            AgentMessage::Drained { replication, epochs } => self.handle_drained(agent, replication, epochs),
            AgentMessage::NewerEpochSeen { replication, epochs, term } => {
                self.handle_newer_seen(agent, replication, epochs, term);
            }
            AgentMessage::Quarantined { replication, epochs, reason } => {
                self.handle_quarantined(agent, replication, epochs, reason);
            }
            other => self.handle_run_message(agent, other),
        }
    }

    pub(super) fn note_declined(
        &mut self,
        agent: &AgentName,
        replication: ReplicationId,
        epochs: Epochs,
        reason: String,
        while_acting: bool,
    ) {
        let at = self.now.monotonic;
        if let Some(session) =
            self.sessions.get_mut(agent).filter(|_| self.state.replications.contains_key(&replication))
        {
            session.declined.insert((replication, Side::Target), Declined { epochs, reason, at, while_acting });
        }
        self.touched.insert(replication);
    }

    /// Tells every connected agent what to watch: the peers of its hierarchies and its volumes there.
    fn send_watches(&mut self) {
        let agents: Vec<AgentName> =
            self.sessions.iter().filter(|(_, s)| s.is_connected()).map(|(n, _)| n.clone()).collect();
        for agent in agents {
            self.send_watch(&agent);
        }
    }

    /// Tells an agent, and everybody who has a replication in common with it, what to watch: its address may be another.
    fn send_watches_around(&mut self, agent: &AgentName) {
        let mut around: BTreeSet<AgentName> = self.concerned(agent).flat_map(members).collect();
        around.insert(agent.clone());
        self.send_watches_to(around);
    }

    /// Tells those of these agents that are connected what to watch. Never all of them for the sake of one: with thousands of agents
    /// that come at once, each would be told thousands of times.
    pub(super) fn send_watches_to(&mut self, agents: BTreeSet<AgentName>) {
        for agent in agents {
            if self.sessions.get(&agent).is_some_and(Session::is_connected) {
                self.send_watch(&agent);
            }
        }
    }

    fn send_watch(&mut self, agent: &AgentName) {
        self.next_watch += 1;
        let number = OrderNumber { term: self.state.term, number: self.next_watch };
        let watch = self.watch_of(agent, number);
        let at = self.now.monotonic;
        if let Some(session) = self.sessions.get_mut(agent) {
            session.watch_sent = Some((number, at));
        }
        self.send(agent, watch);
    }

    /// An agent that watches by an older assignment has not got the last one.
    fn repeat_lost_watch(&mut self, agent: &AgentName, beat: &Heartbeat) {
        let (now, pause) = (self.now.monotonic, self.timers.resend);
        let sent = self.sessions.get(agent).and_then(|s| s.watch_sent);
        if sent.is_none_or(|(number, at)| number != beat.watching && now.since(at) >= pause) {
            self.send_watch(agent);
        }
    }

    fn watch_of(&self, agent: &AgentName, number: OrderNumber) -> ServerMessage {
        let mut peers = Vec::new();
        let mut volumes = Vec::new();
        for record in self.concerned(agent) {
            let sides = [&record.source, &record.target];
            let stands = sides.iter().filter(|side| side.hierarchy.contains(agent));
            volumes.extend(stands.map(|side| side.volume.clone()));
            if sides.iter().any(|side| side.hierarchy.contains(agent)) {
                let everyone = sides.iter().flat_map(|side| side.hierarchy.iter());
                peers.extend(everyone.filter(|p| *p != agent).cloned());
            }
        }
        volumes.sort();
        volumes.dedup();
        peers.sort();
        peers.dedup();
        let failover = !volumes.is_empty();
        let peers = peers.into_iter().filter_map(|p| self.peer_address(&p)).collect();
        ServerMessage::Watch { number, peers, volumes, failover }
    }

    pub(super) fn peer_address(&self, agent: &AgentName) -> Option<PeerAddress> {
        let live = self.sessions.get(agent).and_then(|s| s.listen_address.clone());
        let address = live.or_else(|| self.state.agents.get(agent)?.listen_address.clone())?;
        Some(PeerAddress { agent: agent.clone(), address })
    }

    pub(super) fn host_of(&self, agent: &AgentName) -> Option<HostIdentity> {
        self.sessions.get(agent).map(|s| s.host.clone())
    }
}

/// Two connections of one process can arrive in the other order: the agent's own count tells which is the later one.
fn is_later(session: &Session, hello: &Hello) -> bool {
    session.is_connected() && session.incarnation == hello.incarnation && session.count > hello.connection
}
