//! An export that is open: over one connection, or over several where the server says that they see each other's writes.
//!
//! A connection that is lost is an error of what was in flight on it. The next request that needs it connects anew, at growing intervals
//! while that fails; what is found there has to be the same export still.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::connection::{Connection, Ticket, Unsent};
use super::error::NbdError;
use super::handshake::{Opened, Server};
use super::ledger::Ledger;
use super::reply::Outcome;
use super::request::{Command, Request};

/// Between two attempts to connect, while they fail: from the first on, twice as long each time, up to the second.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A connection may end in the moment in which it is chosen.
const CHOICES: u32 = 3;

/// What a client is to be for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Use<'a> {
    pub(super) export: &'a str,
    /// The metadata contexts that are wanted.
    pub(super) contexts: &'a [&'a str],
    /// At most, where the server allows several.
    pub(super) connections: usize,
}

/// Dropped, its connections are closed.
#[derive(Debug)]
pub(super) struct Client {
    server: Arc<Server>,
    export: String,
    contexts: Vec<String>,
    /// As it was when it was opened.
    opened: Opened,
    lines: Vec<Mutex<Line>>,
    next: AtomicUsize,
    ledger: Arc<Ledger>,
}

/// The place of one connection.
#[derive(Debug, Default)]
struct Line {
    connection: Option<Arc<Connection>>,
    /// Connections that take nothing new and on which an answer is awaited.
    retired: Vec<Arc<Connection>>,
    failures: u32,
    /// No attempt before then, and why the last one failed.
    waits: Option<(Instant, NbdError)>,
}

impl Client {
    /// Opens an export.
    ///
    /// # Errors
    /// That the server is not reached, has no such export, or cannot be spoken with.
    pub(super) fn open(server: &Arc<Server>, of: Use<'_>) -> Result<Self, NbdError> {
        let ledger = Arc::new(Ledger::default());
        let first = connect(server, of.export, of.contexts, &ledger)?;
        let opened = first.opened.clone();
        let count = if opened.abilities.multi_conn() { of.connections.max(1) } else { 1 };
        let mut lines: Vec<Mutex<Line>> = (1..count).map(|_| Mutex::default()).collect();
        lines.insert(0, Mutex::new(Line { connection: Some(Arc::new(first)), ..Line::default() }));
        Ok(Self {
            server: Arc::clone(server),
            export: of.export.to_owned(),
            contexts: of.contexts.iter().map(ToString::to_string).collect(),
            opened,
            lines,
            next: AtomicUsize::new(0),
            ledger,
        })
    }

    pub(super) fn opened(&self) -> &Opened {
        &self.opened
    }

    /// Why it can never be said that all writes have ended, if so.
    pub(super) fn unresolved(&self) -> Option<String> {
        self.ledger
            .may_write()
            .err()
            .filter(|error| matches!(error, NbdError::Unresolved { .. }))
            .map(|e| e.to_string())
    }

    /// Sends a request on the connection whose turn it is.
    ///
    /// # Errors
    /// That none can be had, or that it was lost; of a write also that an earlier one may still land.
    pub(super) fn submit(&self, request: Request, payload: &[u8]) -> Result<Ticket, NbdError> {
        if request.command.modifies() {
            self.ledger.may_write()?;
        }
        for _ in 0..CHOICES {
            match self.connection()?.submit(request, payload) {
                Ok(ticket) => return Ok(ticket),
                Err(Unsent::Failed(error)) => return Err(error),
                Err(Unsent::Nothing) => {}
            }
        }
        Err(NbdError::Lost("it was lost again and again".to_owned()))
    }

    pub(super) fn run(&self, request: Request, payload: &[u8]) -> Result<Outcome, NbdError> {
        self.submit(request, payload)?.wait()
    }

    /// Asks for the status of blocks, on a connection that has the context: its stretches from the offset on.
    ///
    /// # Errors
    /// As a request's, and that the server has that context no more.
    pub(super) fn status(&self, request: Request, context: &str) -> Result<Vec<super::reply::Stretch>, NbdError> {
        let connection = self.connection()?;
        let gone = || NbdError::Changed("it has lost a metadata context");
        let id = connection.opened.contexts.iter().find(|known| known.name == context).map(|known| known.id);
        let id = id.ok_or_else(gone)?;
        let ticket = connection.submit(request, &[]).map_err(|unsent| match unsent {
            Unsent::Failed(error) => error,
            Unsent::Nothing => NbdError::Lost("it was lost before the request".to_owned()),
        })?;
        ticket.wait()?.status.remove(&id).ok_or_else(gone)
    }

    /// Makes durable what was answered, on every connection on which something was.
    ///
    /// # Errors
    /// As a request's; also if a connection was lost with what was answered on it, or with writes that may still land.
    pub(super) fn flush(&self) -> Result<(), NbdError> {
        self.ledger.may_flush()?;
        let flush = Request { command: Command::Flush, offset: 0, length: 0 };
        let mut tickets = Vec::new();
        for line in &self.lines {
            let connection = lock(line).connection.clone().filter(|connection| connection.take_unflushed());
            let Some(connection) = connection else { continue };
            tickets.push(connection.submit(flush, &[]).map_err(|unsent| match unsent {
                Unsent::Failed(error) => error,
                Unsent::Nothing => NbdError::Unflushed("it was lost before the flush".to_owned()),
            })?);
        }
        tickets.into_iter().try_for_each(|ticket| ticket.wait().map(drop))?;
        self.ledger.may_flush()
    }

    fn connection(&self) -> Result<Arc<Connection>, NbdError> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.lines.len().max(1);
        let line = self.lines.get(turn).ok_or_else(|| NbdError::Lost("there is none".to_owned()))?;
        let mut line = lock(line);
        if let Some(connection) = line.connection.as_ref().filter(|connection| connection.is_usable()) {
            return Ok(Arc::clone(connection));
        }
        line.set_aside();
        if let Some((_, why)) = line.waits.as_ref().filter(|(until, _)| Instant::now() < *until) {
            return Err(why.clone());
        }
        match self.connect_again() {
            Ok(connection) => Ok(line.take(Arc::new(connection))),
            Err(error) => Err(line.note_failure(error)),
        }
    }

    /// The same export, as far as can be told.
    fn connect_again(&self) -> Result<Connection, NbdError> {
        let contexts: Vec<&str> = self.contexts.iter().map(String::as_str).collect();
        let connection = connect(&self.server, &self.export, &contexts, &self.ledger)?;
        let (was, is) = (&self.opened, &connection.opened);
        if was.size_bytes != is.size_bytes {
            return Err(NbdError::Resized { from: was.size_bytes, to: is.size_bytes });
        }
        if was.abilities != is.abilities || was.blocks != is.blocks {
            return Err(NbdError::Changed("its server can do other things with it by now"));
        }
        Ok(connection)
    }
}

fn connect(
    server: &Arc<Server>,
    export: &str,
    contexts: &[&str],
    ledger: &Arc<Ledger>,
) -> Result<Connection, NbdError> {
    let (channel, opened) = server.greet()?.open(export, contexts)?;
    let started = Connection::start(channel, opened, Arc::clone(ledger), server.limit);
    started.map_err(|error| NbdError::Lost(format!("no thread can be had for it: {error}")))
}

fn lock(line: &Mutex<Line>) -> MutexGuard<'_, Line> {
    line.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Line {
    /// What cannot be used is kept as long as an answer may come on it.
    fn set_aside(&mut self) {
        self.retired.retain(|connection| !connection.has_ended());
        self.retired.extend(self.connection.take().filter(|connection| !connection.has_ended()));
    }

    fn take(&mut self, connection: Arc<Connection>) -> Arc<Connection> {
        (self.failures, self.waits) = (0, None);
        self.connection = Some(Arc::clone(&connection));
        connection
    }

    fn note_failure(&mut self, error: NbdError) -> NbdError {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(16)).min(LONGEST_PAUSE);
        self.failures += 1;
        self.waits = Some((Instant::now() + pause, error.clone()));
        error
    }
}
