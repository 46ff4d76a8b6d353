//! One agent: the loop around the product's machine. The same shape as that of a real agent, with nothing below it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tanist_agent::LinkEvent;
use tanist_agent::clock;
use tanist_model::id::Term;
use tanist_protocol::agent::{AgentMachine, Effect, EngineCommand, Input, Role};
use tanist_protocol::driver::{Interpreter, Step};
use tanist_protocol::message::{AgentMessage, ServerMessage};
use tanist_protocol::mutation::Mutations;
use tanist_protocol::timers::Timers;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use crate::engine;
use crate::members::{Ground, Welcome};
use crate::sight::{Sight, Subjects};
use crate::volumes::Volumes;

/// While nothing is due.
const LONG: Duration = Duration::from_hours(1);

/// A look that is over, and whose question it answers.
struct Seen {
    survey: Option<u64>,
    sight: Sight,
}

/// An agent's process.
pub(crate) struct Body {
    number: usize,
    machine: AgentMachine,
    interpreter: Interpreter<Effect>,
    ground: Arc<Ground>,
    volumes: Volumes,
    link: Option<mpsc::Sender<AgentMessage>>,
    watched: Subjects,
    next_look: Option<Instant>,
    last_beat: Instant,
    last_tick: Instant,
    seen: (mpsc::UnboundedSender<Seen>, mpsc::UnboundedReceiver<Seen>),
    /// What the engine has answered.
    answers: VecDeque<Input>,
}

impl Body {
    pub(crate) fn new(number: usize, machine: AgentMachine, volumes: Volumes, ground: Arc<Ground>) -> Self {
        let now = Instant::now();
        Self {
            number,
            machine,
            interpreter: Interpreter::new(Mutations::NONE),
            ground,
            volumes,
            link: None,
            watched: Subjects::default(),
            next_look: None,
            last_beat: now,
            last_tick: now,
            seen: mpsc::unbounded_channel(),
            answers: VecDeque::new(),
        }
    }

    /// Lives until its link is gone. From `vanished` on it does nothing any more, and holds what it has: so a host vanishes.
    pub(crate) async fn live(mut self, mut link: mpsc::Receiver<LinkEvent>, vanished: Arc<Notify>) {
        loop {
            let (look, tick) = (self.look_due(), self.tick_due());
            tokio::select! {
                biased;
                () = vanished.notified() => std::future::pending().await,
                event = link.recv() => match event {
                    Some(event) => self.on_link(event),
                    None => return,
                },
                Some(seen) = self.seen.1.recv() => self.on_seen(seen),
                () = tokio::time::sleep_until(look.min(tick)) => {
                    let now = Instant::now();
                    if now >= look {
                        self.look();
                    }
                    if now >= tick {
                        self.last_tick = now;
                        self.feed(Input::Tick);
                    }
                }
            }
        }
    }

    fn look_due(&self) -> Instant {
        self.next_look.unwrap_or_else(|| Instant::now() + LONG)
    }

    /// A real agent ticks eight times a second, whatever it does. For one of thousands that has nothing to do but to beat it is enough to
    /// tick when a beat is due; the server cannot tell.
    fn tick_due(&self) -> Instant {
        let timers = Timers::DEFAULT;
        let acts = self.machine.roles().values().any(Role::is_acting) || !self.machine.readings().is_empty();
        if acts {
            return self.last_tick + self.machine.tick_interval();
        }
        if self.link.is_none() {
            return self.last_tick + timers.beat_idle;
        }
        let pace = if self.watched.volumes.is_empty() { timers.beat_idle } else { timers.beat_failover };
        (self.last_beat + pace).max(self.last_tick + self.machine.tick_interval())
    }

    fn on_link(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Up { outbox, through, .. } => {
                self.link = Some(outbox);
                let Volumes { storage, volumes } = self.volumes.clone();
                self.feed(Input::Connected { storage, volumes, applications: Vec::new(), through });
            }
            LinkEvent::Message(message) => {
                if let ServerMessage::Welcome { term, .. } = &message {
                    self.tell(*term);
                }
                self.feed(Input::Message(message));
            }
            LinkEvent::Removed => self.feed(Input::Removed),
            LinkEvent::Down => {
                self.link = None;
                self.feed(Input::Disconnected);
            }
        }
    }

    fn tell(&self, term: Term) {
        // Nobody listens when the crowd goes home.
        let _ = self.ground.welcomes.send(Welcome { agent: self.number, term, at: std::time::Instant::now() });
    }

    fn on_seen(&mut self, seen: Seen) {
        let Sight { canaries, peers, .. } = seen.sight;
        match seen.survey {
            None => self.feed(Input::Seen { canaries, peers }),
            Some(survey) => self.say(AgentMessage::Surveyed { survey, canaries, peers }),
        }
    }

    fn look(&mut self) {
        self.next_look = (!self.watched.volumes.is_empty()).then(|| Instant::now() + Timers::DEFAULT.canary);
        let watched = self.watched.clone();
        self.see(None, &watched);
    }

    fn see(&mut self, survey: Option<u64>, subjects: &Subjects) {
        let sight = subjects.look(&self.volumes, &self.ground.roll, Timers::DEFAULT.probe);
        let (takes, done) = (sight.takes, self.seen.0.clone());
        let seen = Seen { survey, sight };
        if takes.is_zero() {
            let _ = done.send(seen);
            return;
        }
        tokio::spawn(async move {
            tokio::time::sleep(takes).await;
            // The agent may have ended meanwhile.
            let _ = done.send(seen);
        });
    }

    fn feed(&mut self, input: Input) {
        self.answers.push_back(input);
        while let Some(input) = self.answers.pop_front() {
            let output = self.machine.handle(clock::now(), input);
            self.interpreter.load(self.machine.highest_term(), output);
            while let Some(step) = self.interpreter.next_step() {
                match step {
                    Step::Perform(effect) => self.perform(effect),
                    // An agent's machine commits nothing.
                    Step::Commit(_) => self.interpreter.commit_failed(),
                }
            }
        }
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Send(message) => self.say(message),
            Effect::Engine { replication, epochs, command } => {
                if matches!(command, EngineCommand::Open { .. }) {
                    self.ground.openings.send_modify(|openings| *openings += 1);
                }
                let event = engine::obey(&command).map(|event| Input::Engine { replication, epochs, event });
                self.answers.extend(event);
            }
            Effect::Reader { replication, epochs, command } => {
                let event = engine::read(&command).map(|event| Input::Reader { replication, epochs, event });
                self.answers.extend(event);
            }
            Effect::Watch { peers, volumes } => {
                self.watched = Subjects { peers, volumes };
                self.look();
            }
            Effect::Look => self.look(),
            Effect::Survey { survey, peers, volumes, .. } => self.see(Some(survey), &Subjects { peers, volumes }),
            // It keeps nothing, quiesces nothing, and does not live for as long as its certificate.
            Effect::Remember { .. }
            | Effect::InstallCertificate { .. }
            | Effect::ForgetMark { .. }
            | Effect::LookForMark { .. }
            | Effect::Refused { .. }
            | Effect::Exit => {}
        }
    }

    fn say(&mut self, message: AgentMessage) {
        if matches!(message, AgentMessage::Heartbeat(_)) {
            self.last_beat = Instant::now();
        }
        // A link that is stuck is dropped, as a real agent does.
        if self.link.as_ref().is_some_and(|link| link.try_send(message).is_err()) {
            self.link = None;
        }
    }
}
