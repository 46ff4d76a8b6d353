//! Alarms at work: one courier for each configured alarm follows the log of events and delivers what its alarm is to be told of. A
//! courier waits for its sink and for nobody else, and nobody waits for a courier: the loop that decides does not know of them.

mod courier;
mod post;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tanist_alarm::{AlarmConfig, Notice, NoticeKind, Sink};
use tanist_model::api::{AlarmView, Concern, Health, Refusal, RefusalCode};
use tanist_model::event::{Event, EventCode};
use tanist_model::id::{AlarmName, ClusterId, CommandId, EventSeq};
use tanist_store::Store;
use tanist_wire::file::{FileError, create_private_folder};
use tokio::task::JoinSet;

use crate::clock;
use crate::core::CoreHandle;
use courier::Courier;
use post::Post;

/// The longest that an operator waits for a test, whatever the alarm's own limit.
const TEST_LIMIT: Duration = Duration::from_secs(60);

/// The alarms of a server. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Alarms {
    cluster: ClusterId,
    posts: Arc<[Arc<Post>]>,
}

impl Alarms {
    pub fn new(cluster: ClusterId, configured: &[AlarmConfig]) -> Self {
        let post = |config: &AlarmConfig| Arc::new(Post::new(Sink::new(config.clone())));
        Self { cluster, posts: configured.iter().map(post).collect() }
    }

    /// Sets the couriers going; each keeps its bookmark in `folder`.
    ///
    /// # Errors
    /// [`FileError`] if the folder cannot be made or a bookmark cannot be read.
    pub fn start(
        &self,
        tasks: &mut JoinSet<()>,
        folder: &Path,
        core: &CoreHandle,
        store: &Arc<dyn Store>,
    ) -> Result<(), FileError> {
        if !self.posts.is_empty() {
            create_private_folder(folder)?;
        }
        for post in self.posts.iter() {
            let (post, core, store) = (Arc::clone(post), core.clone(), Arc::clone(store));
            tasks.spawn(Courier::new(self.cluster, post, folder, core, store)?.run());
        }
        Ok(())
    }

    #[must_use]
    pub fn views(&self) -> Vec<AlarmView> {
        self.posts.iter().map(|post| post.view()).collect()
    }

    /// The alarms that cannot be delivered.
    #[must_use]
    pub fn concerns(&self) -> Vec<Concern> {
        self.views().iter().filter_map(concern).collect()
    }

    /// Delivers a test by `operator` now, beside whatever waits.
    ///
    /// # Errors
    /// A [`Refusal`] if there is no such alarm, or it was not delivered.
    pub async fn test(&self, name: &AlarmName, command: CommandId, operator: &str) -> Result<String, Refusal> {
        let Some(post) = self.posts.iter().find(|post| post.name() == name) else {
            return Err(Refusal::new(RefusalCode::NotFound, format!("no alarm is called {name}"))
                .hint("tanist server alarm list; alarms are configured in server.toml, read at the server's start"));
        };
        let notice = test_notice(self.cluster, command, operator);
        match tokio::time::timeout(TEST_LIMIT, post.sink().deliver(&notice)).await {
            Ok(Ok(())) => Ok(format!("alarm {name} was delivered by {}", post.sink().way())),
            Ok(Err(error)) => Err(not_delivered(name, error.to_string())),
            Err(_) => Err(not_delivered(name, format!("it did not end within {} s", TEST_LIMIT.as_secs()))),
        }
    }
}

fn not_delivered(name: &AlarmName, cause: String) -> Refusal {
    Refusal::new(RefusalCode::Unavailable, format!("alarm {name} was not delivered"))
        .cause(cause)
        .hint("what failed is named above; see `tanist explain T107`")
}

fn test_notice(cluster: ClusterId, command: CommandId, operator: &str) -> Notice {
    let code = EventCode::AlarmTested;
    let event = Event {
        seq: EventSeq(0),
        at: clock::wall(),
        code,
        severity: code.severity(),
        replication: None,
        agent: None,
        actor: operator.to_owned(),
        message: format!("this is a test by {operator}; nothing has happened"),
    };
    let (kind, title) = (NoticeKind::Test, code.title().to_owned());
    Notice { id: format!("{cluster}-test-{command}"), kind, clears: None, cluster, title, event }
}

fn concern(alarm: &AlarmView) -> Option<Concern> {
    let since = alarm.failing_since?;
    let reason = alarm.reason.as_deref().unwrap_or("not tried since the server started");
    Some(Concern {
        subject: format!("alarm {}", alarm.name),
        health: Health::Degraded,
        summary: format!("cannot be delivered since {since}: {reason}"),
        next: Some(format!("tanist server alarm test {}", alarm.name)),
    })
}
