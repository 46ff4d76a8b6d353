//! One connection in its transmission phase: requests of several threads interleave on it, and each gets its own answer by its cookie.
//!
//! Whoever asks sends for himself; one thread receives for all. An answer that does not come in time is an error for him who asked, and
//! no more: the connection takes nothing new, and goes on being heard as long as a write on it is unanswered.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::channel::{Channel, Receiver, Sender};
use super::error::NbdError;
use super::handshake::Opened;
use super::ledger::Ledger;
use super::place::Socket;
use super::reply::{Assembly, Head, Outcome, Progress};
use super::request::{self, Command, Request};

/// How long a goodbye may take.
const GOODBYE: Duration = Duration::from_millis(200);

/// Dropped, it says goodbye and is closed.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) opened: Opened,
    sender: Mutex<Sender>,
    shared: Arc<Shared>,
    cookies: AtomicU64,
    limit: Duration,
}

/// What the receiving thread has as well.
#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    answered: Condvar,
    socket: Socket,
    ledger: Arc<Ledger>,
}

#[derive(Debug, Default)]
struct State {
    pending: BTreeMap<u64, Pending>,
    /// Nothing new is sent on it.
    retired: Option<String>,
    /// Nothing more comes on it.
    ended: Option<NbdError>,
    /// Something was answered that no flush on this connection was asked for since.
    unflushed: bool,
}

/// A request that was sent, or is being sent.
#[derive(Debug)]
struct Pending {
    command: Command,
    stage: Stage,
    /// Whoever asked has been told that it took too long.
    overdue: bool,
}

#[derive(Debug)]
enum Stage {
    Awaited(Box<Assembly>),
    /// The receiving thread has its assembly.
    BeingRead,
    Answered(Result<Outcome, NbdError>),
}

/// A request that was sent and whose answer is to be fetched.
#[derive(Debug)]
pub(super) struct Ticket {
    connection: Arc<Connection>,
    request: Request,
    cookie: u64,
    deadline: Instant,
}

/// Why a request was not sent.
#[derive(Debug)]
pub(super) enum Unsent {
    /// No byte of it: another connection may take it.
    Nothing,
    Failed(NbdError),
}

impl Connection {
    /// Takes over a channel after its handshake.
    ///
    /// # Errors
    /// The operating system's, if no thread can be had.
    pub(super) fn start(
        channel: Channel,
        opened: Opened,
        ledger: Arc<Ledger>,
        limit: Duration,
    ) -> std::io::Result<Self> {
        let (sender, receiver) = channel.open_ended()?;
        let shared = Shared { state: Mutex::default(), answered: Condvar::new(), socket: sender.socket()?, ledger };
        let shared = Arc::new(shared);
        let theirs = Arc::clone(&shared);
        thread::Builder::new().name("nbd-receiver".to_owned()).spawn(move || theirs.receive_all(receiver))?;
        Ok(Self { opened, sender: Mutex::new(sender), shared, cookies: AtomicU64::new(1), limit })
    }

    pub(super) fn is_usable(&self) -> bool {
        let state = self.shared.state();
        state.ended.is_none() && state.retired.is_none()
    }

    /// Whether nothing can come on it any more.
    pub(super) fn has_ended(&self) -> bool {
        self.shared.state().ended.is_some()
    }

    /// Whether something was answered since the last time that this was asked: a flush is due then.
    pub(super) fn take_unflushed(&self) -> bool {
        std::mem::take(&mut self.shared.state().unflushed)
    }

    /// Sends a request with what belongs to it.
    pub(super) fn submit(self: &Arc<Self>, request: Request, payload: &[u8]) -> Result<Ticket, Unsent> {
        let cookie = self.cookies.fetch_add(1, Ordering::Relaxed);
        let mut sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        self.register(cookie, request)?;
        let deadline = Instant::now() + self.limit;
        let sent = sender.send(&request.encode(cookie), deadline).and_then(|()| match payload {
            [] => Ok(()),
            payload => sender.send(payload, deadline),
        });
        match sent {
            Ok(()) => Ok(Ticket { connection: Arc::clone(self), request, cookie, deadline }),
            Err(error) => {
                let failed = self.unsent(request, &error);
                self.shared.end(&failed);
                self.shared.forget(cookie);
                Err(Unsent::Failed(failed))
            }
        }
    }

    /// From here on it counts as sent: any part of it may reach the server.
    fn register(&self, cookie: u64, request: Request) -> Result<(), Unsent> {
        let mut state = self.shared.state();
        if state.ended.is_some() || state.retired.is_some() {
            return Err(Unsent::Nothing);
        }
        let contexts = self.opened.contexts.iter().map(|context| context.id).collect();
        let stage = Stage::Awaited(Box::new(Assembly::new(request, self.opened.structured, contexts)));
        state.pending.insert(cookie, Pending { command: request.command, stage, overdue: false });
        Ok(())
    }

    fn unsent(&self, request: Request, error: &std::io::Error) -> NbdError {
        match error.kind() {
            std::io::ErrorKind::TimedOut => NbdError::TimedOut { what: request.in_words(), limit: self.limit },
            _ => NbdError::of_socket(error),
        }
    }
}

impl Ticket {
    /// The answer, or that it did not come in time.
    pub(super) fn wait(self) -> Result<Outcome, NbdError> {
        let shared = &self.connection.shared;
        let mut state = shared.state();
        loop {
            let Some(pending) = state.pending.get(&self.cookie) else {
                return Err(NbdError::Lost("the request was given up".to_owned()));
            };
            if let Stage::Answered(_) = pending.stage {
                return shared.collect(state, self.cookie);
            }
            let left = self.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(self.give_up(state));
            }
            state = shared.answered.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn give_up(&self, mut state: MutexGuard<'_, State>) -> NbdError {
        let (shared, limit) = (&self.connection.shared, self.connection.limit);
        let late = NbdError::TimedOut { what: self.request.in_words(), limit };
        if let Some(pending) = state.pending.get_mut(&self.cookie) {
            pending.overdue = true;
        }
        if self.request.command.modifies() {
            shared.ledger.note_overdue();
        }
        shared.retire(&mut state, &late.to_string());
        shared.end_if_idle(state);
        late
    }
}

/// Nobody fetches its answer any more.
impl Drop for Ticket {
    fn drop(&mut self) {
        let shared = &self.connection.shared;
        let mut state = shared.state();
        let Some(pending) = state.pending.get_mut(&self.cookie).filter(|pending| !pending.overdue) else { return };
        if matches!(pending.stage, Stage::Answered(_)) {
            state.pending.remove(&self.cookie);
            return shared.end_if_idle(state);
        }
        pending.overdue = true;
        if self.request.command.modifies() {
            shared.ledger.note_overdue();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget(&self, cookie: u64) {
        self.state().pending.remove(&cookie);
    }

    fn collect(&self, mut state: MutexGuard<'_, State>, cookie: u64) -> Result<Outcome, NbdError> {
        let pending = state.pending.remove(&cookie);
        self.end_if_idle(state);
        match pending.map(|pending| pending.stage) {
            Some(Stage::Answered(answer)) => answer,
            _ => Err(NbdError::Lost("the request was given up".to_owned())),
        }
    }

    fn receive_all(&self, mut receiver: Receiver) {
        let why = loop {
            if let Err(error) = self.receive_one(&mut receiver) {
                break error;
            }
        };
        self.end(&why);
    }

    fn receive_one(&self, receiver: &mut Receiver) -> Result<(), NbdError> {
        let head = Head::read(receiver)?;
        let mut assembly = self.take_assembly(head.cookie())?;
        let progress = assembly.take(&head, receiver)?;
        let stage = match progress {
            Progress::More => Stage::Awaited(assembly),
            Progress::Done => Stage::Answered(assembly.finish()),
        };
        self.put_back(head.cookie(), stage);
        Ok(())
    }

    fn take_assembly(&self, cookie: u64) -> Result<Box<Assembly>, NbdError> {
        let unknown = || NbdError::malformed(format!("an answer bears the cookie {cookie:#x}, which no request has"));
        let mut state = self.state();
        let pending = state.pending.get_mut(&cookie).ok_or_else(unknown)?;
        match std::mem::replace(&mut pending.stage, Stage::BeingRead) {
            Stage::Awaited(assembly) => Ok(assembly),
            other => {
                pending.stage = other;
                Err(unknown())
            }
        }
    }

    fn put_back(&self, cookie: u64, stage: Stage) {
        let mut state = self.state();
        let Some(mut pending) = state.pending.remove(&cookie) else { return };
        let Stage::Answered(answer) = &stage else {
            pending.stage = stage;
            state.pending.insert(cookie, pending);
            return;
        };
        if let Some(error) = answer.as_ref().err().filter(|error| !error.spares_connection()) {
            let why = error.to_string();
            self.retire(&mut state, &why);
        }
        self.note_answered(&mut state, &pending);
        if !pending.overdue {
            pending.stage = stage;
            state.pending.insert(cookie, pending);
            self.answered.notify_all();
        }
        self.end_if_idle(state);
    }

    fn note_answered(&self, state: &mut State, pending: &Pending) {
        if !pending.command.modifies() {
            return;
        }
        if pending.overdue {
            self.ledger.note_late_answer();
        }
        let durable = matches!(pending.command, Command::Write { fua: true } | Command::WriteZeroes { fua: true });
        match &state.retired {
            _ if durable => {}
            Some(why) => self.ledger.note_forgotten(why),
            None => state.unflushed = true,
        }
    }

    /// Nothing new on it; what was answered on it can be flushed no more.
    fn retire(&self, state: &mut State, why: &str) {
        if state.retired.is_none() {
            state.retired = Some(why.to_owned());
        }
        if std::mem::take(&mut state.unflushed) {
            self.ledger.note_forgotten(why);
        }
    }

    /// One that takes nothing new ends when nobody waits on it and no write on it is unanswered.
    fn end_if_idle(&self, state: MutexGuard<'_, State>) {
        let Some(why) = state.retired.clone().filter(|_| state.ended.is_none()) else { return };
        if state.pending.values().all(|pending| pending.overdue && !pending.command.modifies()) {
            drop(state);
            self.end(&NbdError::Lost(why));
        }
    }

    /// Nothing more comes: who waits hears why, and what may still be carried out is written down.
    fn end(&self, why: &NbdError) {
        let mut state = self.state();
        if state.ended.is_some() {
            return;
        }
        state.ended = Some(why.clone());
        self.socket.shut();
        let open = |pending: &&Pending| !matches!(pending.stage, Stage::Answered(_)) && pending.command.modifies();
        let in_flight = state.pending.values().filter(open).count() as u64;
        let overdue = state.pending.values().filter(open).filter(|pending| pending.overdue).count() as u64;
        let words = why.to_string();
        self.ledger.note_lost(in_flight, overdue, &words);
        self.retire(&mut state, &words);
        state.pending.retain(|_, pending| !pending.overdue);
        for pending in state.pending.values_mut().filter(|pending| !matches!(pending.stage, Stage::Answered(_))) {
            pending.stage = Stage::Answered(Err(why.clone()));
        }
        drop(state);
        self.answered.notify_all();
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let is_idle = self.shared.state().pending.is_empty() && !self.has_ended();
        if is_idle {
            let sender = self.sender.get_mut().unwrap_or_else(PoisonError::into_inner);
            let deadline = Instant::now() + GOODBYE;
            // Who does not take the goodbye goes without it.
            let _ = sender.send(&request::goodbye(), deadline);
            sender.close(deadline);
        }
        self.shared.end(&NbdError::Lost("this side closed it".to_owned()));
    }
}
