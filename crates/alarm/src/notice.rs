//! What a sink is told, as a program reads it and as a person does. Its identity is that of the event: whoever gets it twice sees
//! that it is the same.

use serde::{Deserialize, Serialize};
use tanist_model::event::Event;
use tanist_model::id::{ClusterId, EventSeq};

/// Why something is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoticeKind {
    /// Something happened.
    Raised,
    /// What was told of earlier is over.
    Cleared,
    /// An operator tries whether this alarm works.
    Test,
}

/// One thing told: the body of a webhook, and what a script reads.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Notice {
    /// The same for the same event, however often it is delivered.
    pub id: String,
    pub kind: NoticeKind,
    /// The identity of the notice that this one ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clears: Option<String>,
    pub cluster: ClusterId,
    /// What the code of the event means.
    pub title: String,
    pub event: Event,
}

impl Notice {
    /// The identity of an event among all installations.
    #[must_use]
    pub fn id_of(cluster: ClusterId, seq: EventSeq) -> String {
        format!("{cluster}-{seq}")
    }

    /// One line.
    #[must_use]
    pub fn subject(&self) -> String {
        let about = self.event.replication.as_ref().map_or_else(String::new, |name| format!(" {name}:"));
        let kind = match self.kind {
            NoticeKind::Raised => "",
            NoticeKind::Cleared => " cleared:",
            NoticeKind::Test => " test:",
        };
        format!("[tanist]{kind}{about} {} ({})", self.title, self.event.code)
    }

    /// A few lines for a person.
    #[must_use]
    pub fn text(&self) -> String {
        let Event { at, code, replication, agent, actor, message, .. } = &self.event;
        let line =
            |what: &str, value: Option<&str>| value.map(|value| format!("{what}: {value}\n")).unwrap_or_default();
        format!(
            "{message}\n\n{}{}when: {at}\nby: {actor}\nevent: {code}, {}\n{}installation: {}\n\n\
             What to do: tanist explain {code}\n",
            line("replication", replication.as_ref().map(|name| name.as_str())),
            line("agent", agent.as_ref().map(|name| name.as_str())),
            self.id,
            line("ends", self.clears.as_deref()),
            self.cluster,
        )
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use tanist_model::event::EventCode;
    use tanist_model::time::Timestamp;

    pub(crate) fn event(seq: u64, code: EventCode, replication: Option<&str>) -> Event {
        Event {
            seq: EventSeq(seq),
            at: Timestamp(i64::try_from(seq).unwrap()),
            code,
            severity: code.severity(),
            replication: replication.map(|name| name.parse().unwrap()),
            agent: None,
            actor: "server".to_owned(),
            message: "no agent is left".to_owned(),
        }
    }

    #[test]
    fn a_person_sees_what_where_when_and_what_to_do() {
        let event = event(5, EventCode::Exhausted, Some("db"));
        let id = Notice::id_of(ClusterId(10), event.seq);
        let title = event.code.title().to_owned();
        let notice = Notice { id, kind: NoticeKind::Raised, clears: None, cluster: ClusterId(10), title, event };
        assert_eq!(notice.subject(), "[tanist] db: no agent of the hierarchy is eligible (T409)");
        let text = notice.text();
        for part in ["no agent is left\n", "replication: db\n", "000000000000000a-5", "tanist explain T409"] {
            assert!(text.contains(part), "{text}");
        }
        assert!(!text.contains("agent: "));
        let cleared = Notice { kind: NoticeKind::Cleared, clears: Some("x-4".into()), ..notice };
        assert!(cleared.subject().starts_with("[tanist] cleared: db:") && cleared.text().contains("ends: x-4\n"));
    }
}
