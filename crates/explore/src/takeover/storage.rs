//! The volumes: the source's snapshots by version, the target block by block, what is on its way to it, and the kernel's locks.
//!
//! The rules are those of the simulator's volumes: a write lands at any time after it was submitted, also when its process is dead; what
//! has landed lies in the cache of its host until a flush of that host; a descriptor, and with it the kernel lock, lives until its last
//! write has landed; a new boot of a host loses all three.

use std::collections::BTreeMap;

use tanist_model::id::{Epoch, SnapshotId};

/// The content of a block: the version of the source that it was read from, 0 for a blank target.
pub type Version = u8;

/// A boot of an agent's host. Every agent has a host of its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Boot {
    pub agent: usize,
    pub number: u8,
}

/// Who writes: one process of an agent, under one epoch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Writer {
    pub boot: Boot,
    /// Counts the processes of the agent.
    pub process: u8,
    pub epoch: Epoch,
}

/// A write on its way to the target. Two that are alike are one and the same state whichever is named first: they are kept sorted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Write {
    pub by: Writer,
    pub block: usize,
    pub version: Version,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
struct Block {
    durable: Version,
    /// At most one a boot, the latest last.
    cached: Vec<(Boot, Version)>,
}

/// An open description of the target.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Descriptor {
    of: Writer,
    locked: bool,
    closed: bool,
}

/// Source and target.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Storage {
    /// The source is another one at every snapshot: what is the same by chance hides what went wrong.
    pub snapshots: BTreeMap<SnapshotId, Version>,
    made: Version,
    blocks: Vec<Block>,
    pub writes: Vec<Write>,
    descriptors: Vec<Descriptor>,
    /// The lock is on a file beside the target, and free as soon as its process is gone.
    lock_beside: bool,
}

impl Storage {
    #[must_use]
    pub fn new(blocks: usize, lock_beside: bool) -> Self {
        Self {
            snapshots: BTreeMap::new(),
            made: 0,
            blocks: vec![Block::default(); blocks],
            writes: Vec::new(),
            descriptors: Vec::new(),
            lock_beside,
        }
    }

    #[must_use]
    pub fn size(&self) -> usize {
        self.blocks.len()
    }

    /// The snapshot of an attempt; made twice it is the same.
    pub fn snapshot(&mut self, attempt: SnapshotId) -> Version {
        let made = &mut self.made;
        *self.snapshots.entry(attempt).or_insert_with(|| {
            *made += 1;
            *made
        })
    }

    #[must_use]
    pub fn current(&self) -> Vec<Version> {
        self.blocks.iter().map(|block| block.cached.last().map_or(block.durable, |(_, version)| *version)).collect()
    }

    #[must_use]
    pub fn durable(&self) -> Vec<Version> {
        self.blocks.iter().map(|block| block.durable).collect()
    }

    pub fn open(&mut self, writer: Writer) -> bool {
        self.descriptors.push(Descriptor { of: writer, locked: false, closed: false });
        self.try_lock(writer)
    }

    /// Exclusive, without waiting, seen only by descriptors of the same boot.
    pub fn try_lock(&mut self, writer: Writer) -> bool {
        let holds = |d: &Descriptor| d.locked && !(self.lock_beside && d.closed);
        let rival = |d: &Descriptor| d.of != writer && d.of.boot == writer.boot && holds(d);
        if self.descriptors.iter().any(rival) {
            return false;
        }
        self.descriptors.iter_mut().filter(|d| d.of == writer).for_each(|d| d.locked = true);
        true
    }

    /// What the lock lies on.
    #[must_use]
    pub fn lock_name<'a>(&self, target: &'a str) -> &'a str {
        if self.lock_beside { "a file beside it" } else { target }
    }

    pub fn close(&mut self, of: impl Fn(&Writer) -> bool) {
        self.descriptors.iter_mut().filter(|d| of(&d.of)).for_each(|d| d.closed = true);
        self.reap();
    }

    fn reap(&mut self) {
        let writes = &self.writes;
        self.descriptors.retain(|d| !d.closed || writes.iter().any(|write| write.by == d.of));
    }

    #[must_use]
    pub fn in_flight(&self, of: impl Fn(&Writer) -> bool) -> usize {
        self.writes.iter().filter(|write| of(&write.by)).count()
    }

    pub fn submit(&mut self, write: Write) {
        self.writes.push(write);
        self.writes.sort();
    }

    /// A write reaches the volume, by way of its host's cache.
    pub fn land(&mut self, index: usize) -> Option<Write> {
        if index >= self.writes.len() {
            return None;
        }
        let write = self.writes.remove(index);
        if let Some(block) = self.blocks.get_mut(write.block) {
            block.cached.retain(|(boot, _)| *boot != write.by.boot);
            block.cached.push((write.by.boot, write.version));
        }
        self.reap();
        Some(write)
    }

    pub fn flush(&mut self, boot: Boot) {
        for block in &mut self.blocks {
            let Some(place) = block.cached.iter().position(|(of, _)| *of == boot) else { continue };
            block.durable = block.cached[place].1;
            // What landed before it, from wherever, is overwritten.
            block.cached.drain(..=place);
        }
    }

    /// Power is gone.
    pub fn end_boot(&mut self, boot: Boot) {
        self.writes.retain(|write| write.by.boot != boot);
        self.descriptors.retain(|d| d.of.boot != boot);
        self.blocks.iter_mut().for_each(|block| block.cached.retain(|(of, _)| *of != boot));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITER: Writer = Writer { boot: Boot { agent: 0, number: 0 }, process: 1, epoch: Epoch(1) };
    const SUCCESSOR: Writer = Writer { process: 2, epoch: Epoch(2), ..WRITER };

    #[test]
    fn a_lock_outlives_its_process_by_what_is_in_flight() {
        let mut storage = Storage::new(1, false);
        assert!(storage.open(WRITER));
        storage.submit(Write { by: WRITER, block: 0, version: 1 });
        storage.close(|of| *of == WRITER);
        assert!(!storage.open(SUCCESSOR));
        storage.land(0);
        assert!(storage.try_lock(SUCCESSOR));
    }

    #[test]
    fn a_new_boot_loses_what_was_not_flushed() {
        let mut storage = Storage::new(1, false);
        storage.open(WRITER);
        storage.submit(Write { by: WRITER, block: 0, version: 1 });
        storage.land(0);
        storage.flush(WRITER.boot);
        storage.submit(Write { by: WRITER, block: 0, version: 2 });
        storage.land(0);
        assert_eq!((storage.current(), storage.durable()), (vec![2], vec![1]));
        storage.end_boot(WRITER.boot);
        assert_eq!(storage.current(), [1]);
    }
}
