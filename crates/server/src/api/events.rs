//! `/events`: the audit log, read on from a position, or its end.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use tanist_model::api::{EventPage, Refusal, RefusalCode};
use tanist_model::event::Event;
use tanist_model::id::{EventSeq, ReplicationName};
use tanist_store::{EventQuery, EventWindow, StoreError};
use tokio::time::{Instant, timeout_at};

use super::Api;
use super::extract::Asked;
use super::operator::Operator;
use super::refusal::{Refused, Reply};

/// Events in an answer: unless told otherwise, and at most.
const USUAL: u32 = 100;
const MOST: u32 = 1000;
/// The longest wait for a first event.
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// Which events are wanted.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Wanted {
    /// Only events after this position.
    #[serde(default)]
    after: EventSeq,
    /// The newest so many, instead of the oldest after a position.
    latest: Option<u32>,
    /// At most so many; 100 unless told otherwise, and never more than 1000.
    limit: Option<u32>,
    replication: Option<ReplicationName>,
    /// If there are none yet: how long to wait for one, seconds; at most 60.
    #[serde(default)]
    wait_seconds: u64,
}

impl Wanted {
    fn query(&self) -> EventQuery {
        let limit = self.limit.unwrap_or(USUAL).min(MOST);
        let window = self.latest.map_or(EventWindow::First(limit), |latest| EventWindow::Latest(latest.min(MOST)));
        EventQuery { after: self.after, replication: self.replication.clone(), agent: None, window }
    }

    #[cfg(feature = "decoders")]
    pub(super) fn is_bounded(&self) -> bool {
        let (EventWindow::First(events) | EventWindow::Latest(events)) = self.query().window;
        events <= MOST && self.wait() <= LONGEST_WAIT
    }

    fn wait(&self) -> Duration {
        Duration::from_secs(self.wait_seconds).min(LONGEST_WAIT)
    }
}

/// What happened, in order. With `wait_seconds` the answer waits for a first event.
#[utoipa::path(get, path = "/events", tag = "events", params(Wanted),
    responses((status = 200, body = EventPage), (status = "default", description = "refused", body = Refusal)))]
pub async fn events(State(api): State<Api>, _: Operator, Asked(wanted): Asked<Wanted>) -> Reply<EventPage> {
    let query = wanted.query();
    let deadline = Instant::now() + wanted.wait();
    let mut news = api.core.events();
    loop {
        news.mark_unchanged();
        let events = api.store.events(&query).await.map_err(unreadable)?;
        let may_wait = events.is_empty() && Instant::now() < deadline;
        // No news until the deadline, or no loop any more: the empty page is the answer.
        if !may_wait || !matches!(timeout_at(deadline, news.changed()).await, Ok(Ok(()))) {
            return Ok(Json(page(events, wanted.after)));
        }
    }
}

fn page(events: Vec<Event>, after: EventSeq) -> EventPage {
    let last = events.last().map_or(after, |event| event.seq);
    EventPage { events, last }
}

/// The log is there and cannot be read now.
pub fn unreadable(error: StoreError) -> Refused {
    Refused(Refusal::new(RefusalCode::Unavailable, "the events cannot be read").cause(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_bounded() {
        let wanted = Wanted { limit: Some(u32::MAX), wait_seconds: u64::MAX, ..Wanted::default() };
        assert_eq!(wanted.query().window, EventWindow::First(MOST));
        assert_eq!(wanted.wait(), LONGEST_WAIT);
        let wanted = Wanted { latest: Some(u32::MAX), ..Wanted::default() };
        assert_eq!(wanted.query().window, EventWindow::Latest(MOST));
    }
}
