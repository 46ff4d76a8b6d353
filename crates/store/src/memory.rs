//! A store in memory, for tests and the simulator: the same answers as the durable one, and failures on demand.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tanist_model::change::{Change, Group, GroupOutcome, Transaction};
use tanist_model::event::{Event, NewEvent};
use tanist_model::history::Touched;
use tanist_model::id::{EventSeq, Term};
use tanist_model::state::State;

use crate::events::placed;
use crate::{EventQuery, EventRetention, EventWindow, NUMBER_MAX, Store, StoreError};

/// A failure that a test wishes for: every write fails so until it is taken back, reads go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StoreFailure {
    /// No space is left.
    Full,
    /// Another program keeps the store locked.
    Busy,
}

/// A [`State`] and its events behind a lock. Survives nothing but the crash of whoever uses it.
#[derive(Debug, Default)]
pub struct MemoryStore {
    inner: Mutex<Inner>,
    retention: EventRetention,
}

#[derive(Debug, Default)]
struct Inner {
    state: State,
    events: VecDeque<Event>,
    last_event: u64,
    failure: Option<StoreFailure>,
}

impl MemoryStore {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A store that already holds a state.
    #[must_use]
    pub fn with_state(state: State) -> Self {
        Self { inner: Mutex::new(Inner { state, ..Inner::default() }), retention: EventRetention::default() }
    }

    #[must_use]
    pub fn with_retention(retention: EventRetention) -> Self {
        Self { inner: Mutex::default(), retention }
    }

    /// Makes every write fail, or (`None`) succeed again.
    pub fn fail_with(&self, failure: Option<StoreFailure>) {
        self.lock().failure = failure;
    }

    // No code under the lock leaves the state half changed by a panic, so a poisoned lock is taken as it is.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn check_failure(&self, doing: &'static str) -> Result<(), StoreError> {
        let path = PathBuf::from("memory");
        match self.failure {
            None => Ok(()),
            Some(StoreFailure::Full) => Err(StoreError::Full { doing, path }),
            Some(StoreFailure::Busy) => Err(StoreError::Busy { doing, path }),
        }
    }

    /// Refuses before anything is applied what would run out of numbers on the way.
    fn check_numbers(&self, transaction: &Transaction) -> Result<(), StoreError> {
        let changes = transaction.groups.iter().flat_map(|group| &group.changes);
        let new = changes.filter(|change| matches!(change, Change::AppendEvent(_))).count() as u64;
        let last = self.last_event.checked_add(new).filter(|last| *last <= NUMBER_MAX);
        last.map(drop).ok_or(StoreError::Overflow { number: "event number" })
    }

    fn apply_group(&mut self, group: &Group, touched: &mut Touched) -> GroupOutcome {
        if !self.state.allows(&group.condition) {
            return GroupOutcome::Refused;
        }
        for change in &group.changes {
            self.state.apply(change);
            touched.note(change);
            if let Change::AppendEvent(event) = change {
                self.append(event.clone());
            }
        }
        GroupOutcome::Applied
    }

    fn append(&mut self, event: NewEvent) {
        self.last_event += 1;
        self.events.push_back(placed(EventSeq(self.last_event), event));
    }

    fn prune_events(&mut self, retention: EventRetention, before: u64) {
        if retention.is_due(before, self.last_event) {
            let surplus = self.events.len().saturating_sub(retention.kept as usize);
            self.events.drain(..surplus);
        }
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn load(&self) -> Result<State, StoreError> {
        Ok(self.lock().state.clone())
    }

    async fn begin_term(&self) -> Result<Term, StoreError> {
        let mut inner = self.lock();
        inner.check_failure("begin a term")?;
        let next = inner.state.term.next().filter(|term| term.0 <= NUMBER_MAX);
        inner.state.term = next.ok_or(StoreError::Overflow { number: "term" })?;
        Ok(inner.state.term)
    }

    async fn commit(&self, transaction: &Transaction) -> Result<Vec<GroupOutcome>, StoreError> {
        let mut inner = self.lock();
        inner.check_failure("commit")?;
        if inner.state.term != transaction.term {
            return Err(StoreError::Deposed { stored: inner.state.term });
        }
        inner.check_numbers(transaction)?;
        let (mut touched, before) = (Touched::default(), inner.last_event);
        let outcomes = transaction.groups.iter().map(|group| inner.apply_group(group, &mut touched)).collect();
        touched.prune(&mut inner.state);
        inner.prune_events(self.retention, before);
        Ok(outcomes)
    }

    async fn events(&self, query: &EventQuery) -> Result<Vec<Event>, StoreError> {
        let inner = self.lock();
        let matching = inner.events.iter().filter(|event| query.matches(event)).cloned();
        let mut events: Vec<Event> = match query.window {
            EventWindow::First(limit) => matching.take(limit as usize).collect(),
            EventWindow::Latest(limit) => matching.rev().take(limit as usize).collect(),
        };
        events.sort_unstable_by_key(|event| event.seq);
        Ok(events)
    }

    async fn backup(&self, _to: &Path) -> Result<(), StoreError> {
        Err(StoreError::Unsupported { doing: "back up a store in memory" })
    }
}
