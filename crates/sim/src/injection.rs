//! What is done to a world from outside, numbered: faults, and what the operator commands.
//!
//! Each injection has chance of its own, from the seed and its number. One that is left out leaves the others what they were, as far as
//! the world they meet allows; without that nothing could be left out of a history to see whether it matters.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use crate::rng::Rng;
use crate::world::World;

/// More of them, and nothing else would happen.
const AMBUSHES: u32 = 8;

/// One of the things that are done to a world; numbered from 1 in the order of their times.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Injection {
    Fault(u32),
    /// A fault that waited for a machine to be in a certain state.
    Ambush(u32),
    Command(u32),
}

impl Injection {
    fn chance(self, seed: u64) -> Rng {
        let (kind, number) = match self {
            Self::Fault(number) => (0x66, number),
            Self::Ambush(number) => (0x61, number),
            Self::Command(number) => (0x6f, number),
        };
        Rng::new(seed.rotate_left(17) ^ (kind << 32) ^ u64::from(number))
    }
}

impl fmt::Display for Injection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fault(number) => write!(f, "f{number}"),
            Self::Ambush(number) => write!(f, "a{number}"),
            Self::Command(number) => write!(f, "o{number}"),
        }
    }
}

impl FromStr for Injection {
    type Err = String;

    /// # Errors
    /// The text is neither `fN` or `aN`, a fault, nor `oN`, an operator's command.
    fn from_str(text: &str) -> Result<Self, String> {
        let refused = || format!("'{text}' is no injection: fN and aN are faults, oN what the operator does");
        let number = |digits: &str| digits.parse().map_err(|_| refused());
        match text.split_at_checked(1).ok_or_else(refused)? {
            ("f", digits) => Ok(Self::Fault(number(digits)?)),
            ("a", digits) => Ok(Self::Ambush(number(digits)?)),
            ("o", digits) => Ok(Self::Command(number(digits)?)),
            _ => Err(refused()),
        }
    }
}

/// Which injections a run makes: all, or only these.
pub type Selection = Option<BTreeSet<Injection>>;

/// The injections of a world so far.
#[derive(Debug, Default)]
pub struct Injections {
    selection: Selection,
    faults: u32,
    ambushes: u32,
    commands: u32,
    made: Vec<Injection>,
}

impl Injections {
    #[must_use]
    pub fn of(selection: Selection) -> Self {
        Self { selection, ..Self::default() }
    }

    pub fn next_fault(&mut self) -> Injection {
        self.faults += 1;
        Injection::Fault(self.faults)
    }

    /// `None` when this world has had enough of them.
    pub fn next_ambush(&mut self) -> Option<Injection> {
        self.ambushes += 1;
        (self.ambushes <= AMBUSHES).then_some(Injection::Ambush(self.ambushes))
    }

    pub fn next_command(&mut self) -> Injection {
        self.commands += 1;
        Injection::Command(self.commands)
    }

    /// Those that were made, in their order.
    #[must_use]
    pub fn made(&self) -> &[Injection] {
        &self.made
    }
}

impl World {
    /// Makes an injection with its own chance, unless it is left out.
    pub fn inject(&mut self, injection: Injection, make: impl FnOnce(&mut Self)) {
        if self.injections.selection.as_ref().is_some_and(|only| !only.contains(&injection)) {
            return;
        }
        self.injections.made.push(injection);
        self.note("inject", 0, || injection.to_string());
        let own = injection.chance(self.seed);
        let of_world = std::mem::replace(&mut self.rng, own);
        make(self);
        self.rng = of_world;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_injection_is_written_as_it_is_read() {
        for injection in [Injection::Fault(7), Injection::Ambush(1), Injection::Command(12)] {
            assert_eq!(injection.to_string().parse(), Ok(injection));
        }
        for wrong in ["", "f", "x3", "f-1", "7", "ü2"] {
            assert!(wrong.parse::<Injection>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn each_has_chance_of_its_own() {
        let draws: BTreeSet<u64> = (1..50)
            .flat_map(|n| [Injection::Fault(n), Injection::Command(n)])
            .flat_map(|injection| [injection.chance(1).draw(), injection.chance(2).draw()])
            .collect();
        assert_eq!(draws.len(), 196);
    }
}
