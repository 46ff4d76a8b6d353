//! What is known of an alarm's deliveries, for whoever looks.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tanist_alarm::Sink;
use tanist_model::api::AlarmView;
use tanist_model::id::AlarmName;
use tanist_model::time::Timestamp;

/// A sink and how it gets on.
#[derive(Debug)]
pub struct Post {
    sink: Sink,
    seen: Mutex<Seen>,
}

/// How the deliveries went in this process.
#[derive(Debug, Default)]
pub struct Seen {
    pub failing_since: Option<Timestamp>,
    pub reason: Option<String>,
    pub waiting_since: Option<Timestamp>,
    pub delivered_at: Option<Timestamp>,
    pub delivered: u64,
    pub failed: u64,
}

impl Post {
    pub fn new(sink: Sink) -> Self {
        Self { sink, seen: Mutex::default() }
    }

    pub fn sink(&self) -> &Sink {
        &self.sink
    }

    pub fn name(&self) -> &AlarmName {
        &self.sink.config().name
    }

    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn view(&self) -> AlarmView {
        let seen = self.seen();
        AlarmView {
            name: self.name().clone(),
            way: self.sink.way().to_owned(),
            failing_since: seen.failing_since,
            reason: seen.reason.clone(),
            waiting_since: seen.waiting_since,
            delivered_at: seen.delivered_at,
            delivered: seen.delivered,
            failed_attempts: seen.failed,
        }
    }
}
