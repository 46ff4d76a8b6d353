//! A part of a state that many states have in common: kept once, and known by its fingerprint.
//!
//! Its print is taken once, when the part changes, and stands for the part from then on. Two parts that differ and have the same print
//! would pass for one: with 64 bits and the two and a half million states of the largest world that is as likely as one in six million.

use std::fmt::{self, Debug};
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use tanist_model::id::VolumeAddress;
use tanist_model::state::State;
use tanist_protocol::agent::AgentMachine;
use tanist_protocol::message::{AgentMessage, PeerAddress, ServerMessage};
use tanist_protocol::server::ServerMachine;

use super::checks::Ledger;
use super::print::{Print, print_of, print_of_debug};
use super::world::Turn;

/// A value, shared by the states that have it.
pub struct Shared<T>(Arc<Part<T>>);

/// The print is kept with the value: whoever takes it first takes it for all.
#[derive(Debug)]
struct Part<T> {
    value: T,
    print: OnceLock<Print>,
}

impl<T: Clone> Clone for Part<T> {
    fn clone(&self) -> Self {
        Self { value: self.value.clone(), print: OnceLock::new() }
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Shared<T> {
    pub fn new(value: T) -> Self {
        Self(Arc::new(Part { value, print: OnceLock::new() }))
    }
}

impl<T: Clone> Shared<T> {
    /// Changes it for this state alone.
    pub fn change<R>(&mut self, change: impl FnOnce(&mut T) -> R) -> R {
        let part = Arc::make_mut(&mut self.0);
        part.print = OnceLock::new();
        change(&mut part.value)
    }
}

impl<T: Printed> Shared<T> {
    /// What the part decides follows from it.
    pub fn print(&self) -> u64 {
        self.prints().whole
    }

    fn prints(&self) -> Print {
        *self.0.print.get_or_init(|| self.0.value.print())
    }
}

/// What has a print.
pub trait Printed {
    fn print(&self) -> Print;
}

macro_rules! written_down {
    ($($type:ty),* $(,)?) => {
        $(impl Printed for $type {
            fn print(&self) -> Print {
                print_of(self)
            }
        })*
    };
}

written_down! { ServerMachine, AgentMachine, State, ServerMessage, AgentMessage, (Vec<PeerAddress>, Vec<VolumeAddress>) }

macro_rules! of_debug {
    ($($type:ty),* $(,)?) => {
        $(impl Printed for $type {
            fn print(&self) -> Print {
                print_of_debug(self)
            }
        })*
    };
}

of_debug! { Ledger, Turn }

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.value
    }
}

impl<T: Printed> PartialEq for Shared<T> {
    fn eq(&self, other: &Self) -> bool {
        self.prints().view == other.prints().view
    }
}

impl<T: Printed> Eq for Shared<T> {}

impl<T: Printed> Hash for Shared<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.prints().view.hash(state);
    }
}

impl<T: Debug> Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.value.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Watch = (Vec<PeerAddress>, Vec<VolumeAddress>);

    #[test]
    fn a_change_is_of_one_state_alone_and_shows_in_the_print() {
        let first: Shared<Watch> = Shared::new((Vec::new(), Vec::new()));
        let mut second = first.clone();
        assert_eq!(first, second);
        second.change(|(_, volumes)| volumes.extend(crate::takeover::world::volume("a")));
        assert_ne!(first, second);
        assert_eq!(*first, (Vec::new(), Vec::new()));
        second.change(|(_, volumes)| volumes.pop());
        assert_eq!(first, second);
    }
}
