//! A whole takeover: the machines of the server and of the agents, in every order of their steps, of what they say to each other, of what
//! their engines write, and of a few faults.
//!
//! What is here: `ServerMachine`, `AgentMachine`, the interpreter and the memory store of the product, as they are. Connections that are in
//! order and at any moment over; writes that land at any time; processes that die, hosts that lose power, a server that is
//! succeeded, dead or alive. Peers that answer a probe as the network likes.
//!
//! Time stands still, and passes only in pauses of three seconds, of which there are as many as the bounds say. After one every wait is
//! over; everybody looks at the clock, but for one agent that may sleep through it. No rule of safety has a time in it, and whatever
//! waits can wait for as long as one likes while everything else goes on. What is left out is that one wait ends before another that
//! is over by the same pause, and everything that takes more pauses than there are.
//!
//! What else is left out: reservations (they have [a world of their own](crate::reservation)), the networked form, relayed
//! connections, target snapshots, sealed and live sources, verifications, schedules, handovers, removals, and a restored store.

mod agents;
mod alone;
mod checks;
mod engines;
mod memory;
mod print;
mod servers;
mod shared;
mod sights;
mod start;
mod steps;
mod storage;
mod world;
pub mod worlds;

use stateright::{Model, Property};
use tanist_protocol::mutation::Mutations;

pub use memory::Memory;
pub use sights::{Sight, Sights};
pub use steps::Action;
pub use world::{Left, World};

/// The property that stands for all of them: a state knows which one it violates.
pub const SAFE: &str = "nothing is violated";

/// How large a world is.
#[derive(Clone, Debug)]
pub struct Bounds {
    pub agents: usize,
    /// Blocks of the volume.
    pub blocks: usize,
    /// No epoch after this one is looked at.
    pub epochs: u32,
    /// What may happen beside the first run.
    pub left: Left,
    /// What becomes of a server that is succeeded.
    pub succeeded: Succeeded,
    /// The world begins when the replication has been created, and not when its first epoch acts.
    pub from_the_start: bool,
    /// The kernel's lock lies on a file beside the target.
    pub lock_beside: bool,
    /// The hosts are copies of one image: only their boots tell them apart.
    pub cloned_hosts: bool,
    /// Every commit and every word of a server is a step of its own.
    pub stepwise: bool,
    /// Steps that commute with all others are taken before them: see [`alone`].
    pub reduced: bool,
    pub broken: Mutations,
    /// What has to be seen.
    pub wanted: &'static [Sight],
    pub sights: Sights,
    pub memory: Memory,
}

/// What becomes of a server that is succeeded: each alone is a world that the other has no part in after that step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Succeeded {
    /// It is dead.
    Dead,
    /// It lives, and does not know yet that it is deposed.
    Deposed,
    /// One or the other.
    Either,
}

impl Bounds {
    /// What was wanted and never happened.
    #[must_use]
    pub fn unseen(&self) -> Vec<Sight> {
        self.wanted.iter().copied().filter(|sight| !self.sights.saw(*sight)).collect()
    }
}

impl Model for Bounds {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        self.begin().into_iter().collect()
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if world.violation().is_none() {
            self.tried(world, actions);
        }
    }

    fn next_state(&self, before: &World, action: Action) -> Option<World> {
        self.after(before, action)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![Property::always(SAFE, |_, world: &World| world.violation().is_none())]
    }

    /// The step that leads to an epoch too many is taken, and what it violates is seen; nothing is explored from there.
    fn within_boundary(&self, world: &World) -> bool {
        let inside = world.replication().is_none_or(|record| record.epochs.target.0 <= self.epochs);
        inside || world.violation().is_some()
    }
}
