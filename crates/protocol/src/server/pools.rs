//! Pools that fill up: told when they become nearly full and when they have room again, once for each agent that sees them.

use tanist_model::change::{Change, Condition};
use tanist_model::event::{EventCode, NewEvent};
use tanist_model::id::AgentName;
use tanist_model::volume::{PoolUse, StorageReport};

use super::ServerMachine;

impl ServerMachine {
    /// What an agent reports of its storage is new.
    pub(super) fn note_pools(&mut self, agent: &AgentName) {
        let Some(session) = self.sessions.get_mut(agent) else { return };
        let mut news = Vec::new();
        for report in &session.storage {
            let Some(used) = &report.pool else { continue };
            let told = session.full_pools.contains(&report.name);
            if used.is_nearly_full() && !told {
                session.full_pools.insert(report.name.clone());
                news.push((EventCode::PoolNearlyFull, nearly_full(report, used)));
            } else if told && used.has_room() {
                session.full_pools.remove(&report.name);
                news.push((EventCode::PoolHasRoom, has_room(report, used)));
            }
        }
        let event = |(code, message)| NewEvent { agent: Some(agent.clone()), ..self.event(code, message) };
        let changes: Vec<Change> = news.into_iter().map(|news| Change::AppendEvent(event(news))).collect();
        if !changes.is_empty() {
            self.commit(Condition::Term, changes, Vec::new());
        }
    }
}

fn nearly_full(report: &StorageReport, used: &PoolUse) -> String {
    let (name, pool, how) = (&report.name, &used.pool, used.in_words());
    if used.is_full() {
        return format!("thin pool {pool} of {name} is full: {how}; no snapshot is made there, and no run begins");
    }
    let limit = PoolUse::FULL_PERCENT;
    format!("thin pool {pool} of {name} is nearly full: {how}; from {limit} % on no snapshot is made there")
}

fn has_room(report: &StorageReport, used: &PoolUse) -> String {
    format!("thin pool {} of {} has room again: {}", used.pool, report.name, used.in_words())
}
