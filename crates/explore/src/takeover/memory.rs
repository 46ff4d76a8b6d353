//! What was decided once is not decided again.
//!
//! A machine is a function of what it is and what it hears, and the store one of what it holds and what is committed. In all orders
//! of a few steps the same machine hears the same again and again: most of a search is spent on decisions that were made before. Kept
//! are the latest ones, by the prints of everything that they depend on; so a search stays within its memory, and finds the same without it.

use std::collections::HashMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use super::agents::Decided;
use super::servers::{Committed, Handled};

/// Two threads seldom meet at one of these.
const SHARDS: u64 = 64;

/// Of each kind, over all shards, in each of two generations. What a server is takes some ten kilobytes.
const SERVERS: usize = 20_000;
const AGENTS: usize = 60_000;
const COMMITS: usize = 20_000;

/// The prints of what a decision depends on.
pub type Key = (u64, u64);

/// A print of several prints.
#[must_use]
pub fn print_of_all(parts: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    parts.hash(&mut hasher);
    hasher.finish()
}

/// Decisions of one kind.
#[derive(Debug)]
pub struct Decisions<V> {
    shards: Vec<Mutex<Generations<V>>>,
    most: usize,
}

/// When the young are as many as are kept, they become the old, and the old are forgotten.
#[derive(Debug)]
struct Generations<V> {
    young: HashMap<Key, Arc<V>>,
    old: HashMap<Key, Arc<V>>,
}

impl<V> Decisions<V> {
    fn new(kept: usize) -> Self {
        let empty = || Mutex::new(Generations { young: HashMap::new(), old: HashMap::new() });
        Self { shards: (0..SHARDS).map(|_| empty()).collect(), most: kept / SHARDS as usize }
    }

    /// What was decided before, or is now.
    pub fn recall(&self, key: Key, decide: impl FnOnce() -> Option<V>) -> Option<Arc<V>> {
        if self.most == 0 {
            return decide().map(Arc::new);
        }
        let shard = &self.shards[usize::try_from(key.1 % SHARDS).unwrap_or_default()];
        let with = || shard.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = with().find(key, self.most) {
            return Some(known);
        }
        // Not under the lock: the other thread goes on, and at worst decides the same.
        let decided = Arc::new(decide()?);
        with().keep(key, decided.clone(), self.most);
        Some(decided)
    }
}

impl<V> Generations<V> {
    fn find(&mut self, key: Key, most: usize) -> Option<Arc<V>> {
        if let Some(known) = self.young.get(&key) {
            return Some(known.clone());
        }
        let known = self.old.remove(&key)?;
        self.keep(key, known.clone(), most);
        Some(known)
    }

    fn keep(&mut self, key: Key, value: Arc<V>, most: usize) {
        if self.young.len() >= most {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }
}

struct All {
    servers: Decisions<Handled>,
    agents: Decisions<Decided>,
    commits: Decisions<Committed>,
}

/// The decisions of every kind.
#[derive(Clone)]
pub struct Memory(Arc<All>);

impl Memory {
    /// Decides everything anew.
    #[must_use]
    pub fn of_nothing() -> Self {
        Self::of([0; 3])
    }

    fn of([servers, agents, commits]: [usize; 3]) -> Self {
        let (servers, agents) = (Decisions::new(servers), Decisions::new(agents));
        Self(Arc::new(All { servers, agents, commits: Decisions::new(commits) }))
    }

    pub fn servers(&self) -> &Decisions<Handled> {
        &self.0.servers
    }

    pub fn agents(&self) -> &Decisions<Decided> {
        &self.0.agents
    }

    pub fn commits(&self) -> &Decisions<Committed> {
        &self.0.commits
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::of([SERVERS, AGENTS, COMMITS])
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Memory")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_decided_is_not_decided_again_while_it_is_kept() {
        let decisions = Decisions::new(SHARDS as usize * 2);
        let decide = |key: u64, value: u64| decisions.recall((0, key * SHARDS), || Some(value)).map(|v| *v);
        assert_eq!(decide(1, 10), Some(10));
        assert_eq!(decide(1, 11), Some(10));
        // Two are young, two old; what is asked for is young again.
        [2, 3].into_iter().for_each(|key| assert_eq!(decide(key, key), Some(key)));
        assert_eq!(decide(1, 12), Some(10));
        [4, 5, 6, 7].into_iter().for_each(|key| assert_eq!(decide(key, key), Some(key)));
        assert_eq!(decide(1, 13), Some(13));
    }

    #[test]
    fn no_decision_is_none_to_keep() {
        let decisions = Decisions::new(SHARDS as usize);
        assert!(decisions.recall((1, 1), || None::<u8>).is_none());
        assert_eq!(decisions.recall((1, 1), || Some(2)).as_deref(), Some(&2));
    }
}
