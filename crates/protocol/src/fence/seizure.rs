//! How an agent takes the reservation of a target for its epoch: one command at a time, each decided by the answers so far.
//!
//! It begins when nothing of this host is in flight on the volume, and ends with the reservation read back as its own, or with the reason
//! why not. Until then not a byte is written. An answer that is lost begins it anew: the device is asked what is, and nothing is
//! believed that a decisive command *may* have done.

use tanist_model::id::Epoch;

use super::key::ReservationKey;
use super::{RawKey, Reservation, ReservationAnswer, ReservationCommand, ReservationKind, Taken};
use crate::mutation::{Mutation, Mutations};

/// How often it looks anew before it gives up: others are taking the same reservation, or answers are lost.
const LOOKS: u8 = 8;

/// What comes next.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Step {
    Ask(ReservationCommand),
    /// The reservation is this epoch's, and was read back.
    Held(Taken),
    Refused(Refusal),
}

/// Why the reservation is not taken.
#[derive(Clone, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum Refusal {
    #[error("the reservation belongs to epoch {0}, which is newer")]
    Newer(Epoch),
    #[error(
        "the key {:#018x} is registered on the target by somebody else, and what is not ours is never taken away; \
         find out whose it is, and have it unregistered there", .0.0
    )]
    Foreign(RawKey),
    #[error(
        "the target is reserved in a way of somebody else's (type {0:#x}); find out by whom, and have it released there"
    )]
    ForeignKind(u8),
    #[error(
        "this path is registered with a key that the target does not report; unregister it on this host, or use another path"
    )]
    UnknownRegistration,
    #[error("the reservation could not be settled: {reason}")]
    Unsettled { reason: String },
    #[error("the target cannot be reserved: {reason}")]
    Unsupported { reason: String },
}

/// Where the sequence is: what the answer that is awaited will be to.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Stage {
    Keys,
    /// A look at the holder before anything is changed.
    Before {
        keys: Vec<RawKey>,
    },
    /// Registering; `left` are the keys that this path may be registered with.
    Registering {
        existing: Option<RawKey>,
        left: Vec<RawKey>,
    },
    /// A look at the holder, registered.
    Registered,
    Reserving,
    Preempting {
        victim: RawKey,
    },
    /// Read back as ours: does it last?
    Lasting,
    Ended,
}

/// One agent taking one reservation for one epoch.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Seizure {
    key: ReservationKey,
    stage: Stage,
    looks: u8,
    /// What made it the holder, if it is.
    taken: Option<Taken>,
    /// The key that this path had before.
    replaced: Option<RawKey>,
    mutations: Mutations,
}

impl Seizure {
    /// For this epoch's key.
    #[must_use]
    pub fn new(key: ReservationKey, mutations: Mutations) -> Self {
        Self { key, stage: Stage::Keys, looks: LOOKS, taken: None, replaced: None, mutations }
    }

    /// The first command.
    #[must_use]
    pub fn begin(&self) -> ReservationCommand {
        ReservationCommand::ReadKeys
    }

    /// The next step, after the answer to the last command.
    pub fn answered(&mut self, answer: ReservationAnswer) -> Step {
        use ReservationAnswer as A;
        match (std::mem::replace(&mut self.stage, Stage::Ended), answer) {
            (_, A::Unsupported { reason }) => Step::Refused(Refusal::Unsupported { reason }),
            (stage, A::Unknown { reason }) => self.lost(&stage, &reason),
            (Stage::Keys, A::Keys(keys)) => self.read_keys(keys),
            (Stage::Before { keys }, A::Reservation(held)) => self.look_before(keys, held),
            (Stage::Registering { existing, .. }, A::Done) => {
                self.replaced = existing;
                self.look(Stage::Registered, ReservationCommand::ReadReservation)
            }
            (Stage::Registering { left, .. }, A::Conflict) => self.register_instead_of(left),
            (Stage::Registered, A::Reservation(held)) => self.take(held),
            (Stage::Reserving, A::Done) => self.took(Taken::Free),
            (Stage::Preempting { victim }, A::Done) => match ReservationKey::read(victim, self.key.cluster) {
                Some(victim) => self.took(Taken::Preempted(victim.epoch)),
                None => self.took(Taken::Unclear),
            },
            (Stage::Lasting, A::Persistence(true)) => Step::Held(self.how()),
            (Stage::Lasting, A::Persistence(false)) => Step::Held(Taken::Unclear),
            // Somebody was faster.
            (Stage::Reserving | Stage::Preempting { .. }, A::Conflict) => self.anew("others are taking it as well"),
            (_, answer) => self.anew(&format!("the target answered what was not asked: {answer:?}")),
        }
    }

    fn ask(&mut self, stage: Stage, command: ReservationCommand) -> Step {
        self.stage = stage;
        Step::Ask(command)
    }

    fn refuse(&mut self, refusal: Refusal) -> Step {
        self.stage = Stage::Ended;
        Step::Refused(refusal)
    }

    /// Asks what is; so often, and no more.
    fn look(&mut self, stage: Stage, command: ReservationCommand) -> Step {
        match self.looks.checked_sub(1) {
            Some(left) => {
                self.looks = left;
                self.ask(stage, command)
            }
            None => self.refuse(Refusal::Unsettled { reason: "it kept changing, or answers were lost".to_owned() }),
        }
    }

    fn anew(&mut self, reason: &str) -> Step {
        match self.look(Stage::Keys, ReservationCommand::ReadKeys) {
            Step::Refused(_) => Step::Refused(Refusal::Unsettled { reason: reason.to_owned() }),
            step => step,
        }
    }

    /// A command that may or may not have been carried out: if it has made this epoch the holder, nobody knows what else it has done.
    fn lost(&mut self, stage: &Stage, reason: &str) -> Step {
        if matches!(stage, Stage::Registering { .. } | Stage::Reserving | Stage::Preempting { .. }) {
            self.taken = Some(Taken::Unclear);
        }
        self.anew(reason)
    }

    /// What is not ours is left alone, and what is newer is obeyed.
    fn examine(&self, key: RawKey) -> Result<ReservationKey, Refusal> {
        let Some(known) = ReservationKey::read(key, self.key.cluster) else { return Err(Refusal::Foreign(key)) };
        if known.epoch > self.key.epoch && !self.mutations.breaks(Mutation::BlindPreemption) {
            return Err(Refusal::Newer(known.epoch));
        }
        Ok(known)
    }

    fn read_keys(&mut self, keys: Vec<RawKey>) -> Step {
        let tolerated = self.mutations.breaks(Mutation::ForeignKeyPreempted);
        let refused = keys.iter().find_map(|key| self.examine(*key).err());
        match refused {
            Some(refusal) if !tolerated => self.refuse(refusal),
            _ => self.look(Stage::Before { keys }, ReservationCommand::ReadReservation),
        }
    }

    fn look_before(&mut self, keys: Vec<RawKey>, held: Option<Reservation>) -> Step {
        if let Some(refusal) = held.and_then(|held| self.refuses(held)) {
            return self.refuse(refusal);
        }
        if keys.contains(&self.key.raw()) {
            // An earlier answer was lost; nobody else has this key.
            return self.take(held);
        }
        #[cfg(feature = "mutations")]
        if self.mutations.breaks(Mutation::RegisterAndIgnore) {
            let stage = Stage::Registering { existing: None, left: Vec::new() };
            return self.ask(stage, ReservationCommand::RegisterAndIgnore { key: self.key.raw() });
        }
        self.register(None, keys)
    }

    fn register(&mut self, existing: Option<RawKey>, left: Vec<RawKey>) -> Step {
        let key = self.key.raw();
        self.ask(Stage::Registering { existing, left }, ReservationCommand::Register { existing, key })
    }

    /// This path is registered already, by an earlier process of this host: which of the older keys is it?
    fn register_instead_of(&mut self, mut left: Vec<RawKey>) -> Step {
        match left.pop() {
            Some(existing) => self.register(Some(existing), left),
            None => self.refuse(Refusal::UnknownRegistration),
        }
    }

    fn refuses(&self, held: Reservation) -> Option<Refusal> {
        let tolerated = self.mutations.breaks(Mutation::ForeignKeyPreempted);
        match held.kind {
            ReservationKind::Other(kind) if !tolerated => Some(Refusal::ForeignKind(kind)),
            _ => self.examine(held.holder).err().filter(|_| !tolerated),
        }
    }

    /// Registered: the reservation is read back as ours, or taken from exactly whom the device names.
    fn take(&mut self, held: Option<Reservation>) -> Step {
        let key = self.key.raw();
        let Some(held) = held else {
            return self.ask(Stage::Reserving, ReservationCommand::Reserve { key });
        };
        if held.holder == key && held.kind == ReservationKind::WriteExclusive {
            return self.ask(Stage::Lasting, ReservationCommand::ReadPersistence);
        }
        if let Some(refusal) = self.refuses(held) {
            return self.refuse(refusal);
        }
        let victim = held.holder;
        #[cfg(feature = "mutations")]
        if self.mutations.breaks(Mutation::PreemptWithoutAbort) {
            return self.ask(Stage::Preempting { victim }, ReservationCommand::Preempt { key, victim });
        }
        self.ask(Stage::Preempting { victim }, ReservationCommand::PreemptAndAbort { key, victim })
    }

    /// Carried out; read back before anything is believed.
    fn took(&mut self, taken: Taken) -> Step {
        self.taken.get_or_insert(taken);
        self.look(Stage::Registered, ReservationCommand::ReadReservation)
    }

    fn how(&self) -> Taken {
        let replaced = self.replaced.and_then(|key| ReservationKey::read(key, self.key.cluster));
        match (self.taken, replaced) {
            (Some(taken), _) => taken,
            // It holds without having asked for it: the path held it, and the new key came in the place of the old one.
            (None, Some(old)) => Taken::SamePath(old.epoch),
            (None, None) => Taken::Unclear,
        }
    }
}
