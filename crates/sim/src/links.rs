//! The network between the places of the world: who can say something to whom. A way can be cut in one direction only, and by
//! several faults at once; it is open again when the last of them is over.

use std::collections::BTreeMap;

use crate::world::World;

/// A place in the network.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Place {
    Server,
    Agent(usize),
}

/// From where to where.
pub type Direction = (Place, Place);

/// What is cut, and by how many faults.
#[derive(Clone, Debug, Default)]
pub struct Links(BTreeMap<Direction, u32>);

impl Links {
    /// Whether what is said arrives.
    #[must_use]
    pub fn passes(&self, from: Place, to: Place) -> bool {
        from == to || !self.0.contains_key(&(from, to))
    }

    /// Whether a connection can be made.
    #[must_use]
    pub fn joins(&self, one: Place, other: Place) -> bool {
        self.passes(one, other) && self.passes(other, one)
    }

    pub fn cut(&mut self, directions: &[Direction]) {
        directions.iter().for_each(|direction| *self.0.entry(*direction).or_default() += 1);
    }

    pub fn mend(&mut self, directions: &[Direction]) {
        for direction in directions {
            if let Some(cuts) = self.0.get_mut(direction) {
                *cuts = cuts.saturating_sub(1);
            }
        }
        self.0.retain(|_, cuts| *cuts > 0);
    }

    pub fn mend_all(&mut self) {
        self.0.clear();
    }

    #[must_use]
    pub fn are_whole(&self) -> bool {
        self.0.is_empty()
    }
}

/// Both directions between two places.
#[must_use]
pub fn between(one: Place, other: Place) -> Vec<Direction> {
    vec![(one, other), (other, one)]
}

impl World {
    /// Both directions between an agent and all others.
    #[must_use]
    pub fn around(&self, agent: usize) -> Vec<Direction> {
        let others = (0..self.agents.len()).filter(|other| *other != agent);
        others.flat_map(|other| between(Place::Agent(agent), Place::Agent(other))).collect()
    }

    /// A cut between one agent and the server: whole, or in one direction.
    pub fn cut_from_server(&mut self, agent: usize) -> Vec<Direction> {
        let (agent, server) = (Place::Agent(agent), Place::Server);
        match self.rng.below(4) {
            0 => vec![(agent, server)],
            1 => vec![(server, agent)],
            _ => between(agent, server),
        }
    }

    /// A cut among the agents: one pair, or one from all.
    pub fn cut_from_peers(&mut self, agent: usize) -> Vec<Direction> {
        let other = (agent + 1 + self.rng.index(self.agents.len() - 1)) % self.agents.len();
        match self.rng.below(4) {
            0 => vec![(Place::Agent(agent), Place::Agent(other))],
            1 | 2 => between(Place::Agent(agent), Place::Agent(other)),
            _ => self.around(agent),
        }
    }
}
