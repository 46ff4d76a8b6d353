//! The way to the server: direct, or through a peer that carries the connection.
//!
//! A connection can look alive and carry nothing, in one direction or in both. So the server answers beats, and an agent that has
//! no answer for a while tries the direct way and its peers, takes the first that stands, and goes on trying the direct one. A
//! carried connection is the agent's own mutual TLS from end to end: a relay can delay and never forge, and nothing here is
//! about safety.
//!
//! Pure, like the machine beside it: the agent's link and the simulator carry out what it wants.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tanist_model::id::AgentName;
use tanist_model::time::Monotonic;

use crate::message::{OrderNumber, PeerAddress, ServerMessage};
use crate::random::IdSource;
use crate::timers::Timers;

/// Pause after the first attempt that failed; doubled up to the limit of the way.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_RELAY_PAUSE: Duration = Duration::from_secs(2);
/// Pause after a refusal that only an operator can end.
const HOPELESS_PAUSE: Duration = Duration::from_secs(10);
/// Pause after the server has ended a connection with a refusal: two processes that claim to be one agent must not take turns at
/// once.
const REFUSED_PAUSE: Duration = Duration::from_secs(5);
/// A server that has not welcomed the agent after this time has lost its Hello; one whose store is slow may take a while.
const UNWELCOMED: Duration = Duration::from_secs(5);
/// Beats without an answer that are remembered; the oldest tells for how long nothing was heard.
const UNANSWERED: usize = 64;

/// How a connection reaches the server.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Way {
    Direct,
    /// This peer carries it.
    Through(AgentName),
}

impl Way {
    #[must_use]
    pub fn relay(&self) -> Option<&AgentName> {
        match self {
            Self::Direct => None,
            Self::Through(relay) => Some(relay),
        }
    }
}

/// An attempt to reach the server, and then the connection that it led to; numbered by this process, the later the higher.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Attempt(pub u64);

/// Why an attempt led to nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DialFailure {
    /// The host of the server answered, and nothing listens there.
    Refused,
    /// No answer, or one that may be better next time.
    Silent,
    /// The server does not want this agent.
    Unwanted,
}

/// How a connection that stood ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    Lost,
    /// The server said that it does not want it.
    Refused,
}

/// What the shell is to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WayStep {
    /// Reach the server this way, and say how that went.
    Dial { attempt: Attempt, way: Way, address: Option<String> },
    /// Give the attempt up, or close what it led to.
    Drop(Attempt),
    /// What this attempt led to is the connection from now on; what there was before gives way once the server has spoken on it.
    Take { attempt: Attempt, way: Way },
}

/// The attempts on one way.
#[derive(Clone, Debug)]
struct Dialling {
    under_way: Option<Attempt>,
    /// When the last attempt began.
    began: Monotonic,
    due: Monotonic,
    failures: u32,
}

impl Dialling {
    fn due_at(due: Monotonic) -> Self {
        Self { under_way: None, began: due, due, failures: 0 }
    }

    fn pause(&mut self, longest: Duration) -> Duration {
        let pause = FIRST_PAUSE * (1 << self.failures.min(10));
        self.failures += 1;
        pause.min(longest)
    }
}

/// The connection in use.
#[derive(Clone, Debug)]
struct Present {
    attempt: Attempt,
    way: Way,
    since: Monotonic,
    /// Whether the server on it answers beats, once it has said so.
    answers: Option<bool>,
    unanswered: VecDeque<(u64, Monotonic)>,
}

impl Present {
    /// Until when the server has to say something; without a word that it answers beats, its silence about them means nothing.
    fn silence_over(&self, unheard: Duration) -> Option<Monotonic> {
        match self.answers {
            None => Some(self.since.plus(UNWELCOMED)),
            Some(true) => self.unanswered.front().map(|(_, since)| since.plus(unheard)),
            Some(false) => None,
        }
    }
}

/// Finds and keeps the way to the server.
#[derive(Debug)]
pub struct WayFinder {
    timers: Timers,
    now: Monotonic,
    next_attempt: u64,
    assigned: OrderNumber,
    /// The peers of this agent, as assigned last; remembered while there is no server.
    peers: Vec<PeerAddress>,
    direct: Dialling,
    relays: BTreeMap<AgentName, Dialling>,
    present: Option<Present>,
    /// Another way is looked for.
    searching: bool,
    /// The host of the server refuses since then.
    refused_since: Option<Monotonic>,
    /// How long the direct way stood before it was left, while it is not known for what.
    direct_stood: Option<Duration>,
    /// How often in a row the direct way did not hold.
    losses: u32,
    /// The certificate is another: the next connection shows it.
    renewing: bool,
    steps: Vec<WayStep>,
    spread: Option<IdSource>,
}

impl WayFinder {
    /// `acquaintances`: the peers of an earlier process of this agent. They are asked only once the direct way has had its time, so
    /// that no start takes the way round.
    #[must_use]
    pub fn new(timers: Timers, now: Monotonic, acquaintances: Vec<PeerAddress>) -> Self {
        let due = |place| Dialling::due_at(now.plus(timers.direct_attempt + timers.relay_stagger * place));
        let relays = (1..).zip(&acquaintances).map(|(place, peer)| (peer.agent.clone(), due(place))).collect();
        Self {
            timers,
            now,
            next_attempt: 1,
            assigned: OrderNumber::default(),
            peers: acquaintances,
            direct: Dialling::due_at(now),
            relays,
            present: None,
            searching: true,
            refused_since: None,
            direct_stood: None,
            losses: 0,
            renewing: false,
            steps: Vec::new(),
            spread: None,
        }
    }

    /// The same, with pauses before the next attempt drawn from the half to the whole of what they would be: thousands of agents that lost
    /// one server in one moment must not all be back in another.
    #[must_use]
    pub fn spread_by(self, entropy: u128) -> Self {
        Self { spread: Some(IdSource::new(entropy)), ..self }
    }

    fn spread(&mut self, pause: Duration) -> Duration {
        self.spread.as_mut().map_or(pause, |source| source.part_of(pause))
    }

    /// The way in use.
    #[must_use]
    pub fn way(&self) -> Option<&Way> {
        self.present.as_ref().map(|present| &present.way)
    }

    /// The connection in use.
    #[must_use]
    pub fn connection(&self) -> Option<Attempt> {
        self.present.as_ref().map(|present| present.attempt)
    }

    /// Time has passed: what is due now. Also the first step of all.
    pub fn tick(&mut self, now: Monotonic) -> Vec<WayStep> {
        self.now = now;
        self.proceed()
    }

    /// The next moment at which something may be due; `None` while nothing is waited for.
    #[must_use]
    pub fn deadline(&self) -> Option<Monotonic> {
        let present = self.present.as_ref().filter(|_| !self.searching);
        let silence = present.and_then(|present| present.silence_over(self.timers.unheard));
        let waiting = |dialling: &Dialling| dialling.under_way.is_none().then_some(dialling.due);
        let direct = waiting(&self.direct).filter(|_| self.wants_direct());
        let renewing = |relay: &AgentName| self.renewing && self.way().and_then(Way::relay) == Some(relay);
        let relays = self.relays.iter().filter(|(relay, _)| self.searching || renewing(relay));
        let relays = relays.filter_map(|(_, dialling)| waiting(dialling)).min();
        let relays = relays.map(|due| self.refusal_over().map_or(due, |over| due.max(over)));
        [silence, direct, relays, self.hanging_since()].into_iter().flatten().min()
    }

    /// An attempt has led to a connection on which the server has accepted this agent.
    pub fn established(&mut self, now: Monotonic, attempt: Attempt) -> Vec<WayStep> {
        self.now = now;
        let Some(way) = self.end_attempt(attempt) else {
            self.steps.push(WayStep::Drop(attempt));
            return self.proceed();
        };
        let back = way == Way::Direct && self.is_relayed();
        if self.present.is_none() || self.searching || self.renewing || back {
            self.take(attempt, way);
        } else {
            self.steps.push(WayStep::Drop(attempt));
        }
        self.proceed()
    }

    /// An attempt has led to nothing.
    pub fn failed(&mut self, now: Monotonic, attempt: Attempt, failure: DialFailure) -> Vec<WayStep> {
        self.now = now;
        match self.end_attempt(attempt) {
            Some(Way::Direct) => self.direct_failed(failure),
            Some(Way::Through(relay)) => {
                if let Some(dialling) = self.relays.get_mut(&relay) {
                    let pause = dialling.pause(LONGEST_RELAY_PAUSE).max(LONGEST_PAUSE);
                    dialling.due = now.plus(pause);
                }
                self.heed(failure);
            }
            None => {}
        }
        self.proceed()
    }

    fn direct_failed(&mut self, failure: DialFailure) {
        let pause = if self.present.is_some() && !self.searching {
            self.direct_pause()
        } else {
            self.direct.pause(LONGEST_PAUSE)
        };
        self.direct.due = self.now.plus(self.spread(pause));
        self.refused_since = (failure == DialFailure::Refused).then(|| self.refused_since.unwrap_or(self.now));
        self.heed(failure);
    }

    /// Whoever carried the word: the server does not want this agent on any way.
    fn heed(&mut self, failure: DialFailure) {
        if failure == DialFailure::Unwanted {
            self.pause_all(HOPELESS_PAUSE);
        }
    }

    /// The connection in use is over. The end of any other is of no interest.
    pub fn ended(&mut self, now: Monotonic, connection: Attempt, how: Ended) -> Vec<WayStep> {
        self.now = now;
        if self.connection() == Some(connection) {
            // A connection that ends at once must not be dialled again at once, for ever.
            let pause = self.spread(FIRST_PAUSE);
            self.search(pause);
            self.leave_present();
            if how == Ended::Refused {
                self.pause_all(REFUSED_PAUSE);
            }
        }
        self.proceed()
    }

    /// A beat went out on the connection in use.
    pub fn beat_said(&mut self, now: Monotonic, number: u64) -> Vec<WayStep> {
        self.now = now;
        if let Some(present) = self.present.as_mut().filter(|p| p.unanswered.len() < UNANSWERED) {
            present.unanswered.push_back((number, now));
        }
        self.proceed()
    }

    /// The server has said something on the connection in use.
    pub fn heard(&mut self, now: Monotonic, message: &ServerMessage) -> Vec<WayStep> {
        self.now = now;
        match message {
            ServerMessage::Welcome { answers_beats, .. } => {
                if let Some(present) = &mut self.present {
                    present.answers = Some(*answers_beats);
                }
                self.end_search_if_heard();
            }
            ServerMessage::Heard { number } => self.note_heard(*number),
            ServerMessage::Watch { number, peers, .. } => self.note_peers(*number, peers),
            _ => {}
        }
        self.proceed()
    }

    /// The certificate is another: a connection that shows it takes the place of the present one.
    pub fn renew(&mut self, now: Monotonic) -> Vec<WayStep> {
        self.now = now;
        self.renewing = self.present.is_some();
        let way = self.way().cloned();
        if let Some(dialling) = way.and_then(|way| self.dialling(&way)) {
            dialling.due = now;
        }
        self.proceed()
    }

    fn note_heard(&mut self, number: u64) {
        let Some(present) = &mut self.present else { return };
        present.unanswered.retain(|(said, _)| *said > number);
        self.end_search_if_heard();
    }

    fn end_search_if_heard(&mut self) {
        if self.present.is_some() && !self.is_unheard() && self.searching {
            self.end_search();
        }
    }

    fn note_peers(&mut self, number: OrderNumber, peers: &[PeerAddress]) {
        if number < self.assigned {
            return;
        }
        self.assigned = number;
        self.peers = peers.to_vec();
        let gone: Vec<AgentName> =
            self.relays.keys().filter(|relay| !peers.iter().any(|p| p.agent == **relay)).cloned().collect();
        for relay in gone {
            let dialling = self.relays.remove(&relay);
            self.steps.extend(dialling.and_then(|d| d.under_way).map(WayStep::Drop));
        }
        for peer in peers {
            self.relays.entry(peer.agent.clone()).or_insert_with(|| Dialling::due_at(self.now));
        }
    }

    fn is_relayed(&self) -> bool {
        self.way().is_some_and(|way| *way != Way::Direct)
    }

    fn is_unheard(&self) -> bool {
        let over = self.present.as_ref().and_then(|present| present.silence_over(self.timers.unheard));
        over.is_some_and(|over| self.now >= over)
    }

    fn wants_direct(&self) -> bool {
        self.searching || self.is_relayed() || self.renewing && self.way() == Some(&Way::Direct)
    }

    /// Looks for another way: the direct one at once, then one peer after the other, the one that has just failed last.
    fn search(&mut self, pause: Duration) {
        if std::mem::replace(&mut self.searching, true) {
            return;
        }
        self.refused_since = None;
        let failed = self.way().and_then(Way::relay).cloned();
        if self.direct.under_way.is_none() {
            self.direct = Dialling::due_at(self.now.plus(pause));
        }
        let mut order: Vec<AgentName> = self.peers.iter().map(|peer| peer.agent.clone()).collect();
        order.sort_by_key(|peer| Some(peer) == failed.as_ref());
        for (place, relay) in (1..).zip(order) {
            let due = self.now.plus(self.timers.relay_stagger * place);
            self.relays.insert(relay, Dialling::due_at(due));
        }
    }

    fn end_search(&mut self) {
        self.searching = false;
        self.refused_since = None;
        let direct_goes_on = self.is_relayed();
        let idle = self.relays.values_mut().filter_map(|dialling| dialling.under_way.take());
        self.steps.extend(idle.map(WayStep::Drop));
        if !direct_goes_on {
            self.steps.extend(self.direct.under_way.take().map(WayStep::Drop));
        }
    }

    fn take(&mut self, attempt: Attempt, way: Way) {
        self.leave_present();
        if let Some(stood) = self.direct_stood.take().filter(|_| way != Way::Direct) {
            self.losses = if stood >= self.timers.direct_holds { 0 } else { self.losses.saturating_add(1) };
        }
        self.steps.push(WayStep::Take { attempt, way: way.clone() });
        self.present = Some(Present { attempt, way, since: self.now, answers: None, unanswered: VecDeque::new() });
        self.renewing = false;
        self.end_search();
        self.direct.failures = 0;
        self.direct.due = self.now.plus(self.direct_pause());
    }

    fn leave_present(&mut self) {
        if let Some(before) = self.present.take().filter(|before| before.way == Way::Direct) {
            self.direct_stood = Some(self.now.since(before.since));
        }
    }

    fn direct_pause(&self) -> Duration {
        let pause = self.timers.direct_retry * (1 << self.losses.min(10));
        pause.min(self.timers.direct_retry_longest)
    }

    /// Until when peers are not asked because the server's host refuses.
    fn refusal_over(&self) -> Option<Monotonic> {
        self.refused_since.map(|since| since.plus(self.timers.relay_after_refusal))
    }

    /// An attempt on the direct way that began while that was cut waits for its kernel to try again, longer each time: a fresh one
    /// finds the way open sooner. Nothing hurries it while there is no other connection.
    fn hanging_since(&self) -> Option<Monotonic> {
        let hangs = self.is_relayed() && !self.searching && self.direct.under_way.is_some();
        hangs.then(|| self.direct.began.plus(self.timers.direct_attempt))
    }

    fn proceed(&mut self) -> Vec<WayStep> {
        if self.hanging_since().is_some_and(|over| self.now >= over) {
            self.steps.extend(self.direct.under_way.take().map(WayStep::Drop));
            self.direct.due = self.now.plus(self.direct_pause());
        }
        if self.is_unheard() {
            self.search(Duration::ZERO);
        }
        if self.wants_direct() {
            self.dial_if_due(Way::Direct);
        }
        let held_back = self.refusal_over().is_some_and(|over| self.now < over);
        if self.searching && !held_back {
            let relays: Vec<AgentName> = self.relays.keys().cloned().collect();
            relays.into_iter().for_each(|relay| self.dial_if_due(Way::Through(relay)));
        } else if self.renewing
            && let Some(relay @ Way::Through(_)) = self.way().cloned()
        {
            self.dial_if_due(relay);
        }
        std::mem::take(&mut self.steps)
    }

    fn dial_if_due(&mut self, way: Way) {
        let now = self.now;
        let address = match way.relay() {
            None => None,
            Some(relay) => match self.peers.iter().find(|peer| peer.agent == *relay) {
                Some(peer) => Some(peer.address.clone()),
                None => return,
            },
        };
        let attempt = Attempt(self.next_attempt);
        let Some(dialling) = self.dialling(&way).filter(|d| d.under_way.is_none() && now >= d.due) else { return };
        dialling.under_way = Some(attempt);
        dialling.began = now;
        self.next_attempt += 1;
        self.steps.push(WayStep::Dial { attempt, way, address });
    }

    fn dialling(&mut self, way: &Way) -> Option<&mut Dialling> {
        match way {
            Way::Direct => Some(&mut self.direct),
            Way::Through(relay) => self.relays.get_mut(relay),
        }
    }

    /// Forgets that an attempt is under way; which way it took.
    fn end_attempt(&mut self, attempt: Attempt) -> Option<Way> {
        if self.direct.under_way == Some(attempt) {
            self.direct.under_way = None;
            return Some(Way::Direct);
        }
        let (relay, dialling) = self.relays.iter_mut().find(|(_, d)| d.under_way == Some(attempt))?;
        dialling.under_way = None;
        Some(Way::Through(relay.clone()))
    }

    fn pause_all(&mut self, pause: Duration) {
        let due = self.now.plus(pause);
        self.direct.due = due;
        self.relays.values_mut().for_each(|dialling| dialling.due = due);
    }
}

#[cfg(test)]
mod tests;
