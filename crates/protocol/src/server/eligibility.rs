//! Who could act: shown by fresh beats, reads and round trips, never assumed.

use tanist_model::hierarchy::Rank;
use tanist_model::id::AgentName;
use tanist_model::replication::{ReplicationRecord, Side, SideRecord};
use tanist_model::takeover::{Candidate, PeerVerdict};
use tanist_model::volume::VolumeReport;

use super::ServerMachine;
use super::session::Session;
use crate::message::RoleState;
use crate::mutation::Mutation;

impl ServerMachine {
    /// The agents of a replication by rank, each with the reason it is passed over, if there is one.
    ///
    /// For the target's side: the holder writes. Whether it reads the source itself is settled when it has work.
    #[must_use]
    pub fn candidates(&self, replication: &ReplicationRecord) -> Vec<Candidate> {
        self.candidates_of(replication, Side::Target)
    }

    /// The agents of one side by rank, each with the reason it is passed over, if there is one.
    #[must_use]
    pub fn candidates_of(&self, replication: &ReplicationRecord, side: Side) -> Vec<Candidate> {
        let order = replication.side(side).hierarchy.iter().enumerate();
        order
            .map(|(position, agent)| Candidate {
                agent: agent.clone(),
                rank: Rank(u8::try_from(position + 1).unwrap_or(u8::MAX)),
                damped: self.is_damped(agent),
                passed_over: self.why_ineligible_for(replication, agent, side),
            })
            .collect()
    }

    /// The first of (not damped, rank) among the eligible.
    #[must_use]
    pub fn pick(&self, candidates: &[Candidate]) -> Option<AgentName> {
        let eligible = candidates.iter().filter(|c| c.passed_over.is_none());
        if self.mutations.breaks(Mutation::RankIgnored) {
            return eligible.max_by_key(|c| c.rank).map(|c| c.agent.clone());
        }
        if self.mutations.breaks(Mutation::DampedExcluded) {
            return eligible.filter(|c| !c.damped).min_by_key(|c| c.rank).map(|c| c.agent.clone());
        }
        eligible.min_by_key(|c| (c.damped, c.rank)).map(|c| c.agent.clone())
    }

    #[must_use]
    pub fn is_damped(&self, agent: &AgentName) -> bool {
        self.state.agents.get(agent).is_some_and(|a| a.penalty.is_damped(self.now.wall))
    }

    /// Why an agent can act for no side of a replication now; `None` if it can.
    #[must_use]
    pub fn why_ineligible(&self, replication: &ReplicationRecord, agent: &AgentName) -> Option<String> {
        let stands =
            [Side::Target, Side::Source].into_iter().filter(|s| replication.side(*s).hierarchy.contains(agent));
        let mut reasons = stands.map(|side| self.why_ineligible_for(replication, agent, side));
        let first = reasons.next()?;
        if first.is_none() || reasons.any(|r| r.is_none()) { None } else { first }
    }

    /// Why an agent cannot act for one side of a replication now; `None` if it can.
    #[must_use]
    pub fn why_ineligible_for(&self, replication: &ReplicationRecord, agent: &AgentName, side: Side) -> Option<String> {
        let session = match self.live_session(agent) {
            Ok(session) => session,
            Err(reason) => return Some(reason),
        };
        self.why_declined(replication, session, side)
            .or_else(|| self.why_shut_out(replication, agent).filter(|_| side == Side::Target))
            .or_else(|| self.why_unreadable(session, side, replication.side(side)))
            .or_else(|| self.why_not_quiescing(replication, session).filter(|_| side == Side::Source))
            .or_else(|| self.why_isolated(replication, agent, session))
    }

    /// The session of an agent that may hold roles and is fresh, or why not.
    fn live_session(&self, agent: &AgentName) -> Result<&Session, String> {
        let record = self.state.agents.get(agent).ok_or("it has not joined")?;
        if record.removed {
            return Err("it was removed".to_owned());
        }
        if record.drained {
            return Err("it is drained for maintenance".to_owned());
        }
        if record.owes_epochs {
            return Err("it has not shown its epochs since the restore of the store".to_owned());
        }
        let session = self.sessions.get(agent).ok_or("it is not connected")?;
        if let Some((_, reason)) = &session.ended {
            return Err(format!("it is not connected: {reason}"));
        }
        if session.leaving {
            return Err("it is being stopped".to_owned());
        }
        let silent = self.now.monotonic.since(session.last_beat);
        // The silence that makes an acting agent suspected makes it nobody's successor, least of all its own.
        let limit = if acts(session) { self.timers.suspicion() } else { self.timers.fresh_beat(true) };
        if silent >= limit {
            return Err(format!("it has been silent for {} ms", silent.as_millis()));
        }
        Ok(session)
    }

    fn why_declined(&self, replication: &ReplicationRecord, session: &Session, side: Side) -> Option<String> {
        let declined = session.declined.get(&(replication.id, side))?;
        // Whatever the epoch is by now: agents that decline one after the other must not keep the next one from its turn.
        let still = self.now.monotonic.since(declined.at) < self.timers.decline;
        still.then(|| format!("it declined: {}", declined.reason))
    }

    fn why_unreadable(&self, session: &Session, side: Side, record: &SideRecord) -> Option<String> {
        let (volume, identity) = (&record.volume, &record.identity);
        let Some(seen) = session.canaries.get(volume) else {
            return Some(format!("it has not read the {side} {volume} yet"));
        };
        let report = match &seen.value.result {
            Ok(report) => report,
            Err(reason) => return Some(format!("it cannot read the {side} {volume}: {reason}")),
        };
        if report.identity != *identity {
            return Some(format!(
                "it sees another volume as {side} {volume}: {} instead of {identity}",
                report.identity
            ));
        }
        let age = self.now.monotonic.since(seen.at);
        (age > self.timers.canary_age)
            .then(|| format!("its last read of the {side} {volume} is {} ms old", age.as_millis()))
    }

    /// The target takes no write but its holder's, and this agent cannot become that.
    fn why_shut_out(&self, replication: &ReplicationRecord, agent: &AgentName) -> Option<String> {
        let reserved = replication.reserved.filter(|_| !self.can_reserve(replication, agent))?;
        Some(format!("its storage cannot take reservations, and the target is reserved for epoch {reserved}"))
    }

    /// Peers that are themselves in touch with the server must be reached: an agent cut off from them is half dead.
    fn why_isolated(&self, replication: &ReplicationRecord, agent: &AgentName, session: &Session) -> Option<String> {
        let others = replication.target.hierarchy.iter().chain(replication.source.hierarchy.iter());
        let mut others = others.filter(|other| *other != agent);
        others.by_ref().filter(|other| self.beats_at_once(other)).find_map(|other| {
            let Some(seen) = session.peers.get(other) else {
                return Some(format!("it has not reached its peer {other} yet"));
            };
            let reached = matches!(seen.value.verdict, PeerVerdict::Reached { .. });
            if !reached && self.sessions.get(other).is_some_and(|peer| seen.at < peer.heard_since) {
                // It was not to be reached, and is back: the next ping tells.
                return None;
            }
            if !reached {
                return Some(format!("it does not reach its peer {other}"));
            }
            let age = self.now.monotonic.since(seen.at);
            (age > self.timers.canary_age)
                .then(|| format!("its last ping of its peer {other} is {} ms old", age.as_millis()))
        })
    }

    fn beats_at_once(&self, agent: &AgentName) -> bool {
        // Of one that acts, less silence tells more: who does not reach a dead one is not cut off.
        let limit = |s: &Session| if acts(s) { self.timers.suspicion() } else { self.timers.beat_failover * 3 / 2 };
        let silent = |s: &Session| self.now.monotonic.since(s.last_beat);
        self.sessions.get(agent).is_some_and(|s| s.is_connected() && silent(s) < limit(s))
    }

    /// What an agent sees at the target's address, if that is another volume and no agent sees the right one: then what was published
    /// on the target itself is not there.
    #[must_use]
    pub fn replaced_target(&self, record: &ReplicationRecord) -> Option<&str> {
        self.replaced(record, Side::Target)
    }

    /// What an agent sees at a side's address, if that is another volume and no agent sees the right one.
    #[must_use]
    pub fn replaced(&self, record: &ReplicationRecord, side: Side) -> Option<&str> {
        let identity = &record.side(side).identity;
        let (right, other): (Vec<_>, Vec<_>) = self.seen(record, side).partition(|report| report.identity == *identity);
        other.first().filter(|_| right.is_empty()).map(|report| report.identity.as_str())
    }

    /// How large an agent sees the volume of a side, by the latest look at the right one.
    #[must_use]
    pub fn size_now(&self, record: &ReplicationRecord, side: Side) -> Option<u64> {
        let identity = &record.side(side).identity;
        self.seen(record, side).find(|report| report.identity == *identity).map(|report| report.size_bytes)
    }

    /// What the agents of a side see at its address, the latest look first.
    fn seen(&self, record: &ReplicationRecord, side: Side) -> impl Iterator<Item = &VolumeReport> {
        let side = record.side(side);
        let agents = side.hierarchy.iter().filter_map(|agent| self.sessions.get(agent));
        let mut looks: Vec<_> = agents.filter_map(|session| session.canaries.get(&side.volume)).collect();
        looks.sort_by_key(|look| std::cmp::Reverse(look.at));
        looks.into_iter().filter_map(|look| look.value.result.as_ref().ok())
    }
}

/// An agent that acts or reads beats fast.
fn acts(session: &Session) -> bool {
    session.roles.values().any(|role| role.state == RoleState::Active) || !session.readings.is_empty()
}

/// Why each agent is passed over, those with the same reason together: "h1, h2: it is not connected; h3: ...".
#[must_use]
pub fn passed_over_in_words(candidates: &[Candidate]) -> String {
    let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
    for candidate in candidates {
        let Some(reason) = candidate.passed_over.as_deref() else { continue };
        match groups.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, agents)) => agents.push(candidate.agent.as_str()),
            None => groups.push((reason, vec![candidate.agent.as_str()])),
        }
    }
    let lines: Vec<String> = groups.iter().map(|(reason, agents)| format!("{}: {reason}", agents.join(", "))).collect();
    lines.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_with_one_reason_are_told_together() {
        let candidate = |name: &str, reason: Option<&str>| Candidate {
            agent: name.parse().unwrap(),
            rank: Rank(1),
            damped: false,
            passed_over: reason.map(ToOwned::to_owned),
        };
        let list = [candidate("h1", Some("gone")), candidate("h2", None), candidate("h3", Some("gone"))];
        assert_eq!(passed_over_in_words(&list), "h1, h3: gone");
        assert_eq!(passed_over_in_words(&list[1..2]), "");
    }
}
