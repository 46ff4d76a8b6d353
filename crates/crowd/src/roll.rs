//! Who lives: what a peer that pings would find. All agents of a crowd are in one process, so they look it up.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tanist_model::id::{AgentName, Incarnation};
use tanist_model::takeover::PeerVerdict;

/// How an agent is lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Loss {
    /// Its process dies: the kernel ends its connection, and its host says that nobody listens.
    Crash,
    /// Its host vanishes: the connection stands and is silent, and nobody answers for it.
    Silence,
}

/// What became of the process that was last started under a name.
#[derive(Clone, Copy, Debug)]
struct Presence {
    incarnation: Incarnation,
    lost: Option<Loss>,
}

#[derive(Debug, Default)]
pub(crate) struct Roll(Mutex<HashMap<AgentName, Presence>>);

impl Roll {
    pub(crate) fn enter(&self, agent: AgentName, incarnation: Incarnation) {
        self.lock().insert(agent, Presence { incarnation, lost: None });
    }

    pub(crate) fn lose(&self, agent: &AgentName, loss: Loss) {
        if let Some(presence) = self.lock().get_mut(agent) {
            presence.lost = Some(loss);
        }
    }

    pub(crate) fn ping(&self, agent: &AgentName) -> PeerVerdict {
        match self.lock().get(agent) {
            Some(Presence { incarnation, lost: None }) => PeerVerdict::Reached { incarnation: *incarnation },
            Some(Presence { lost: Some(Loss::Silence), .. }) => PeerVerdict::Unreachable,
            Some(Presence { lost: Some(Loss::Crash), .. }) | None => PeerVerdict::Refused,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<AgentName, Presence>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ping_finds_what_became_of_the_process() {
        let (roll, name) = (Roll::default(), AgentName::new("h1").unwrap());
        assert_eq!(roll.ping(&name), PeerVerdict::Refused);
        roll.enter(name.clone(), Incarnation(7));
        assert_eq!(roll.ping(&name), PeerVerdict::Reached { incarnation: Incarnation(7) });
        roll.lose(&name, Loss::Silence);
        assert_eq!(roll.ping(&name), PeerVerdict::Unreachable);
        roll.lose(&name, Loss::Crash);
        assert_eq!(roll.ping(&name), PeerVerdict::Refused);
    }
}
