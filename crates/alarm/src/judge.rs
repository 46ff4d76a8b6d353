//! Which events a sink is told of. An event that ends another one is told of only if that other one was, and is still open: a
//! recovery point that is published every hour is news to nobody.

use serde::{Deserialize, Serialize};
use tanist_model::event::{Event, EventCode};
use tanist_model::id::{AgentName, ClusterId, EventSeq, ReplicationName};
use tanist_model::time::Timestamp;

use crate::config::AlarmConfig;
use crate::notice::{Notice, NoticeKind};

/// Alarms kept as open; beyond it the oldest are forgotten, and their end is not told.
const OPEN_MAX: usize = 1000;

/// An alarm that was told and whose end was not.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Open {
    pub code: EventCode,
    pub replication: Option<ReplicationName>,
    #[serde(default)]
    pub agent: Option<AgentName>,
    pub actor: String,
    pub at: Timestamp,
    /// Zero if it was told before it had a place in the log.
    pub seq: EventSeq,
    /// The identity under which it was told.
    pub id: String,
}

/// The notice that an event makes for a sink, if it makes one.
#[must_use]
pub fn judge(config: &AlarmConfig, cluster: ClusterId, open: &[Open], event: &Event) -> Option<Notice> {
    let notice = |kind, clears: Option<String>| Notice {
        id: Notice::id_of(cluster, event.seq),
        kind,
        clears,
        cluster,
        title: event.code.title().to_owned(),
        event: event.clone(),
    };
    if let Some(ended) = open.iter().find(|open| ends(event, open)).filter(|_| config.cleared) {
        return Some(notice(NoticeKind::Cleared, Some(ended.id.clone())));
    }
    // While the store could not be written, it was told of without a place in the log.
    let told = open.iter().any(|open| open.code == event.code && open.at == event.at && open.seq == EventSeq(0));
    (!told && wanted(config, event)).then(|| notice(NoticeKind::Raised, None))
}

fn wanted(config: &AlarmConfig, event: &Event) -> bool {
    let replication = event.replication.as_ref();
    event.severity >= config.least_severity()
        && (config.codes.is_empty() || config.codes.contains(&event.code))
        && (config.replications.is_empty() || replication.is_none_or(|name| config.replications.contains(name)))
}

fn ends(event: &Event, open: &Open) -> bool {
    event.code.clears().contains(&open.code) && is_about_the_same(event, open)
}

/// A replication, or else an agent, or else the server; of alarms that fail each speaks for itself.
fn is_about_the_same(event: &Event, open: &Open) -> bool {
    let of_an_alarm = matches!(event.code, EventCode::AlarmFailing | EventCode::AlarmDelivered);
    event.replication == open.replication
        && (event.replication.is_some() || event.agent == open.agent)
        && (!of_an_alarm || event.actor == open.actor)
}

/// What is open once an event was told of, or passed.
pub fn note(open: &mut Vec<Open>, event: &Event, told: Option<&Notice>) {
    open.retain(|open| !ends(event, open));
    let raised = told.filter(|notice| notice.kind == NoticeKind::Raised && event.code.has_an_end());
    if let Some(Notice { id, .. }) = raised {
        open.retain(|open| open.code != event.code || !is_about_the_same(event, open));
        let Event { code, replication, agent, actor, at, seq, .. } = event.clone();
        open.push(Open { code, replication, agent, actor, at, seq, id: id.clone() });
        let surplus = open.len().saturating_sub(OPEN_MAX);
        open.drain(..surplus);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notice::tests::event;

    const CLUSTER: ClusterId = ClusterId(1);

    fn config(filters: &str) -> AlarmConfig {
        toml::from_str(&format!("name = 'a'\n{filters}\n[script]\ncommand = ['/x']")).unwrap()
    }

    /// What is told of a series of events, as (seq, kind, what it clears).
    fn told(config: &AlarmConfig, events: &[Event]) -> Vec<(u64, NoticeKind, Option<String>)> {
        let mut open = Vec::new();
        let mut told = Vec::new();
        for event in events {
            let notice = judge(config, CLUSTER, &open, event);
            note(&mut open, event, notice.as_ref());
            told.extend(notice.map(|notice| (event.seq.0, notice.kind, notice.clears)));
        }
        told
    }

    #[test]
    fn filters_add_up() {
        let events = [
            event(1, EventCode::Exhausted, Some("db")),
            event(2, EventCode::RunAbandoned, Some("web")),
            event(3, EventCode::AgentSuspected, Some("db")),
            event(4, EventCode::ReplicationCreated, Some("db")),
            event(5, EventCode::StoreFailing, None),
        ];
        let seqs = |filters: &str| told(&config(filters), &events).into_iter().map(|(seq, ..)| seq).collect::<Vec<_>>();
        assert_eq!(seqs(""), [1, 2, 5]);
        assert_eq!(seqs("severity = 'warning'"), [1, 2, 3, 5]);
        assert_eq!(seqs("replications = ['db']"), [1, 5]);
        assert_eq!(seqs("codes = ['T301']"), [4]);
        assert_eq!(seqs("codes = ['T301', 'T409']\nseverity = 'alarm'"), [1]);
    }

    #[test]
    fn an_end_is_told_once_and_only_of_what_was_told() {
        let events = [
            event(1, EventCode::RunPublished, Some("db")),
            event(2, EventCode::RunAbandoned, Some("db")),
            event(3, EventCode::RunPublished, Some("web")),
            event(4, EventCode::RunPublished, Some("db")),
            event(5, EventCode::RunPublished, Some("db")),
        ];
        let ended =
            [(2, NoticeKind::Raised, None), (4, NoticeKind::Cleared, Some(Notice::id_of(CLUSTER, EventSeq(2))))];
        assert_eq!(told(&config(""), &events), ended);
        assert_eq!(told(&config("cleared = false"), &events).len(), 1);
    }

    #[test]
    fn what_was_told_while_the_store_failed_is_not_told_again_from_the_log() {
        let mut failing = event(0, EventCode::StoreFailing, None);
        failing.at = Timestamp(7);
        let mut open = Vec::new();
        let notice = judge(&config(""), CLUSTER, &open, &failing).unwrap();
        note(&mut open, &failing, Some(&notice));
        let logged = event(7, EventCode::StoreFailing, None);
        assert_eq!(judge(&config(""), CLUSTER, &open, &logged), None);
        let another = event(8, EventCode::StoreFailing, None);
        assert!(judge(&config(""), CLUSTER, &open, &another).is_some());
        let recovered = judge(&config(""), CLUSTER, &open, &event(9, EventCode::StoreRecovered, None)).unwrap();
        assert_eq!((recovered.kind, recovered.clears), (NoticeKind::Cleared, Some(notice.id)));
    }

    #[test]
    fn each_agent_and_each_alarm_has_an_end_of_its_own() {
        let of = |seq, code, agent: &str| Event { agent: agent.parse().ok(), ..event(seq, code, None) };
        let by = |seq, code, actor: &str| Event { actor: actor.to_owned(), ..event(seq, code, None) };
        let events = [
            of(1, EventCode::AgentRelayed, "h1"),
            of(2, EventCode::AgentRelayed, "h2"),
            of(3, EventCode::AgentDirect, "h1"),
            by(4, EventCode::AlarmFailing, "alarm a"),
            by(5, EventCode::AlarmFailing, "alarm b"),
            by(6, EventCode::AlarmDelivered, "alarm b"),
        ];
        let told = told(&config("severity = 'warning'"), &events);
        let cleared: Vec<_> = told.into_iter().filter_map(|(seq, _, clears)| Some((seq, clears?))).collect();
        let id = |seq| Notice::id_of(CLUSTER, EventSeq(seq));
        assert_eq!(cleared, [(3, id(1)), (6, id(5))]);
    }

    #[test]
    fn what_is_open_is_bounded() {
        let mut open = Vec::new();
        for number in 0..2 * OPEN_MAX {
            let event = event(1, EventCode::Exhausted, Some(&format!("r{number}")));
            let notice = judge(&config(""), CLUSTER, &[], &event);
            note(&mut open, &event, notice.as_ref());
        }
        assert_eq!(open.len(), OPEN_MAX);
    }
}
