//! Follows the log of events for one alarm. The log is the queue: a courier holds a page of it and a bookmark, whatever waits. What is
//! due is tried until it is delivered, in order, with growing waits; the bookmark moves after that.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tanist_alarm::bookmark::{self, Bookmark};
use tanist_alarm::judge::{judge, note};
use tanist_alarm::{DeliveryError, Notice};
use tanist_model::event::{Event, EventCode, NewEvent};
use tanist_model::id::{ClusterId, EventSeq};
use tanist_model::schedule::Backoff;
use tanist_protocol::server::Input;
use tanist_store::{EventQuery, Store};
use tanist_wire::file::FileError;
use tokio::time::timeout;

use super::post::Post;
use crate::clock;
use crate::core::{CoreHandle, Trouble};

/// Events looked at together.
const PAGE: u32 = 100;
/// Events passed without a delivery before the bookmark is written all the same.
const PASSED_MAX: u64 = 1000;
/// Between two looks at whether the store can be written, and after a failed look into the log.
const LOOK: Duration = Duration::from_secs(2);
/// Failures in a row before somebody is told that the alarm itself fails.
const FAILURES_TOLD: u32 = 3;
const BACKOFF: Backoff = Backoff { first: Duration::from_secs(1), cap: Duration::from_secs(300) };

/// The way from the log to one sink.
#[derive(Debug)]
pub struct Courier {
    cluster: ClusterId,
    post: Arc<Post>,
    core: CoreHandle,
    store: Arc<dyn Store>,
    file: PathBuf,
    bookmark: Option<Bookmark>,
    /// Where the bookmark stands on the disk.
    saved: EventSeq,
}

impl Courier {
    pub fn new(
        cluster: ClusterId,
        post: Arc<Post>,
        folder: &Path,
        core: CoreHandle,
        store: Arc<dyn Store>,
    ) -> Result<Self, FileError> {
        let file = bookmark::file_of(folder, post.name());
        let bookmark = Bookmark::load(&file)?;
        let saved = bookmark.as_ref().map_or(EventSeq(0), |bookmark| bookmark.seq);
        post.seen().failing_since = bookmark.as_ref().and_then(|bookmark| bookmark.failing_since);
        Ok(Self { cluster, post, core, store, file, bookmark, saved })
    }

    /// Runs until the server ends, or the task is dropped.
    pub async fn run(mut self) {
        let mut bookmark = self.begin().await;
        let mut news = self.core.events();
        loop {
            news.mark_unchanged();
            self.tell_of_trouble(&mut bookmark).await;
            match self.store.events(&EventQuery::after(bookmark.seq, PAGE)).await {
                Ok(events) if !events.is_empty() => {
                    for event in &events {
                        self.follow(&mut bookmark, event).await;
                    }
                }
                Ok(_) => {
                    if let Ok(Err(_)) = timeout(LOOK, news.changed()).await {
                        return;
                    }
                }
                Err(error) => {
                    tracing::warn!(alarm = %self.post.name(), %error, "the log of events cannot be read for an alarm");
                    tokio::time::sleep(LOOK).await;
                }
            }
        }
    }

    /// The bookmark of before; a new alarm begins at the end of the log, and not with what happened years ago.
    async fn begin(&mut self) -> Bookmark {
        if let Some(bookmark) = self.bookmark.take() {
            return bookmark;
        }
        let seq = loop {
            match self.store.events(&EventQuery::latest(1)).await {
                Ok(events) => break events.last().map_or(EventSeq(0), |event| event.seq),
                Err(_) => tokio::time::sleep(LOOK).await,
            }
        };
        let bookmark = Bookmark { seq, ..Bookmark::default() };
        self.save(&bookmark);
        bookmark
    }

    async fn follow(&mut self, bookmark: &mut Bookmark, event: &Event) {
        let notice = judge(self.post.sink().config(), self.cluster, &bookmark.open, event);
        if let Some(notice) = &notice {
            self.deliver(bookmark, notice).await;
        }
        note(&mut bookmark.open, event, notice.as_ref());
        bookmark.seq = event.seq;
        if notice.is_some() || bookmark.seq.0.saturating_sub(self.saved.0) >= PASSED_MAX {
            self.save(bookmark);
        }
    }

    /// While the store cannot be written, the log does not say so. It will, with the same time, and is not told again then.
    async fn tell_of_trouble(&mut self, bookmark: &mut Bookmark) {
        let trouble = self.core.query(|moment| moment.trouble.cloned()).await.ok().flatten();
        let Some(event) = trouble.map(in_the_log) else { return };
        if bookmark.open.iter().any(|open| open.code == event.code && open.at == event.at) {
            return;
        }
        let Some(mut notice) = judge(self.post.sink().config(), self.cluster, &bookmark.open, &event) else { return };
        notice.id = format!("{}-store-{}", self.cluster, event.at.0);
        self.deliver(bookmark, &notice).await;
        note(&mut bookmark.open, &event, Some(&notice));
        self.save(bookmark);
    }

    /// Tries until it succeeds.
    async fn deliver(&mut self, bookmark: &mut Bookmark, notice: &Notice) {
        let key = u64::try_from(notice.event.at.0).unwrap_or_default();
        for failures in 1.. {
            match self.post.sink().deliver(notice).await {
                Ok(()) => return self.succeeded(bookmark).await,
                Err(error) => self.failed(bookmark, notice, failures, &error).await,
            }
            tokio::time::sleep(BACKOFF.retry_after(failures, key)).await;
        }
    }

    async fn succeeded(&self, bookmark: &mut Bookmark) {
        let failed_since = bookmark.failing_since.take();
        {
            let mut seen = self.post.seen();
            seen.delivered += 1;
            (seen.delivered_at, seen.failing_since, seen.waiting_since, seen.reason) =
                (Some(clock::wall()), None, None, None);
        }
        if let Some(since) = failed_since {
            let message = format!("alarm {} is delivered again; it was not since {since}", self.post.name());
            self.record(EventCode::AlarmDelivered, message).await;
        }
    }

    async fn failed(&mut self, bookmark: &mut Bookmark, notice: &Notice, failures: u32, error: &DeliveryError) {
        let (name, reason) = (self.post.name().clone(), error.to_string());
        tracing::warn!(alarm = %name, event = notice.id, failures, reason, "an alarm was not delivered; it is tried again");
        let newly = failures >= FAILURES_TOLD && bookmark.failing_since.is_none();
        if newly {
            bookmark.failing_since = Some(clock::wall());
        }
        {
            let mut seen = self.post.seen();
            seen.failed += 1;
            (seen.failing_since, seen.waiting_since) = (bookmark.failing_since, Some(notice.event.at));
            seen.reason = Some(reason.clone());
        }
        if newly {
            self.record(EventCode::AlarmFailing, format!("alarm {name} cannot be delivered: {reason}")).await;
            self.save(bookmark);
        }
    }

    async fn record(&self, code: EventCode, message: String) {
        let (at, actor) = (clock::wall(), format!("alarm {}", self.post.name()));
        self.core.input(Input::Note(NewEvent { at, code, replication: None, agent: None, actor, message })).await;
    }

    /// A bookmark that is not written leads to a repetition and to no loss.
    fn save(&mut self, bookmark: &Bookmark) {
        match bookmark.save(&self.file) {
            Ok(()) => self.saved = bookmark.seq,
            Err(error) => tracing::warn!(alarm = %self.post.name(), %error, "an alarm's bookmark cannot be written"),
        }
    }
}

/// What the log will say of it.
fn in_the_log(trouble: Trouble) -> Event {
    let code = EventCode::StoreFailing;
    Event {
        seq: EventSeq(0),
        at: trouble.since,
        code,
        severity: code.severity(),
        replication: None,
        agent: None,
        actor: "server".to_owned(),
        message: trouble.reason,
    }
}
