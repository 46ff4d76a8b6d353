//! Volumes as the kernel and the storage see them: writes that land late, caches that a loss of power empties and tears, locks that a
//! descriptor keeps until its last write has landed.

use std::collections::BTreeMap;

use tanist_model::id::{Epochs, ReplicationId, SnapshotId};

use crate::lun::{Lun, Path};
use crate::rng::Rng;

/// A boot of a host: locks and caches do not outlive it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Boot {
    pub host: usize,
    pub number: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct WriteId(pub u64);
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct DescriptorId(pub u64);

/// A write on its way to a target volume.
#[derive(Clone, Debug)]
pub struct Write {
    pub descriptor: DescriptorId,
    pub replication: ReplicationId,
    pub epochs: Epochs,
    pub pid: u64,
    pub job: u64,
    pub uid: String,
    pub block: usize,
    pub content: u64,
    pub boot: Boot,
    /// Held back by a stopped process: it lands only after that one goes on.
    pub held: bool,
    /// A unit that knows reservations has let it in.
    pub accepted: bool,
    /// Its host is gone: no cache holds it back.
    pub host_gone: bool,
    /// The storage carries it out by itself, on this volume: no descriptor, host or path has anything to do with it any more.
    pub by_array: Option<usize>,
}

/// An open file description on a target, with the lock it holds or not.
#[derive(Clone, Debug)]
pub struct Descriptor {
    pub volume: usize,
    pub boot: Boot,
    pub pid: u64,
    pub locked: bool,
    pub closed: bool,
    pub in_flight: usize,
}

/// What a host has written and not flushed.
#[derive(Clone, Copy, Debug)]
struct Cached {
    boot: Boot,
    content: u64,
    /// A failed flush marked the page clean: no later flush writes it.
    falsely_clean: bool,
}

#[derive(Clone, Debug, Default)]
struct Block {
    durable: u64,
    /// At most one a host, the latest last.
    cached: Vec<Cached>,
}

impl Block {
    fn current(&self) -> u64 {
        self.cached.last().map_or(self.durable, |c| c.content)
    }

    /// Power goes while this may be on its way to the medium: nothing of it arrives, or all, or some sectors.
    fn interrupt(&mut self, content: u64, rng: &mut Rng) {
        match rng.below(4) {
            0 => self.durable = content,
            1 if self.durable != content => self.durable = TORN | rng.draw() >> 2,
            _ => {}
        }
    }
}

/// A block of nothing but zeros, which every block of a new target is.
pub const ZEROS: u64 = 0;
/// So many writes of an application make one block of zeros.
const ZEROED_EVERY: u64 = 7;
/// What a block holds of which only some sectors were written is like nothing else.
const TORN: u64 = 1 << 63;

/// A target volume.
#[derive(Clone, Debug)]
pub struct Target {
    blocks: Vec<Block>,
    pub snapshots: BTreeMap<SnapshotId, Vec<u64>>,
}

impl Target {
    #[must_use]
    pub fn new(blocks: usize) -> Self {
        Self { blocks: vec![Block::default(); blocks], snapshots: BTreeMap::new() }
    }

    #[must_use]
    pub fn current(&self) -> Vec<u64> {
        self.blocks.iter().map(Block::current).collect()
    }

    #[must_use]
    pub fn durable(&self) -> Vec<u64> {
        self.blocks.iter().map(|b| b.durable).collect()
    }

    fn land(&mut self, block: usize, content: u64, boot: Boot) {
        let cached = &mut self.blocks[block].cached;
        cached.retain(|c| c.boot != boot);
        cached.push(Cached { boot, content, falsely_clean: false });
    }

    fn flush(&mut self, boot: Boot) {
        for block in &mut self.blocks {
            let Some(place) = block.cached.iter().position(|c| c.boot == boot && !c.falsely_clean) else { continue };
            block.durable = block.cached[place].content;
            // What landed before it, from wherever, is overwritten.
            block.cached.drain(..=place);
        }
    }

    fn fail_flush(&mut self, boot: Boot) {
        for cached in self.blocks.iter_mut().flat_map(|b| &mut b.cached).filter(|c| c.boot == boot) {
            cached.falsely_clean = true;
        }
    }

    /// It goes around every cache.
    fn land_durably(&mut self, block: usize, content: u64) {
        self.blocks[block] = Block { durable: content, cached: Vec::new() };
    }

    /// What these had not flushed is on the medium, or not, or in part.
    fn lose_cache(&mut self, lost: impl Fn(Boot) -> bool, rng: &mut Rng) {
        for block in &mut self.blocks {
            let cached = std::mem::take(&mut block.cached);
            for entry in cached {
                if lost(entry.boot) { block.interrupt(entry.content, rng) } else { block.cached.push(entry) }
            }
        }
    }
}

/// A source volume and its snapshots.
#[derive(Clone, Debug)]
pub struct Source {
    pub blocks: Vec<u64>,
    /// What each block held before its last write.
    before: Vec<u64>,
    /// Raised by every write: what a sealed source is recognised by.
    pub stamp: u64,
    pub snapshots: BTreeMap<SnapshotId, (String, Vec<u64>)>,
}

impl Source {
    #[must_use]
    pub fn new(blocks: usize) -> Self {
        Self { blocks: vec![1; blocks], before: vec![1; blocks], stamp: 1, snapshots: BTreeMap::new() }
    }

    /// `back`: what the block held before is written again, as an application does that undoes something.
    pub fn write(&mut self, block: usize, back: bool) {
        self.stamp += 1;
        let content = match back {
            true => self.before[block],
            false if self.stamp.is_multiple_of(ZEROED_EVERY) => ZEROS,
            false => self.stamp,
        };
        self.before[block] = std::mem::replace(&mut self.blocks[block], content);
    }
}

/// All storage of the world.
#[derive(Debug, Default)]
pub struct Disks {
    pub sources: Vec<Source>,
    pub targets: Vec<Target>,
    pub descriptors: BTreeMap<DescriptorId, Descriptor>,
    pub writes: BTreeMap<WriteId, Write>,
    /// The units of the targets, where these can be reserved.
    pub units: Vec<Lun>,
    pub(crate) next: u64,
}

impl Disks {
    pub fn open(&mut self, volume: usize, boot: Boot, pid: u64) -> DescriptorId {
        self.next += 1;
        let id = DescriptorId(self.next);
        let descriptor = Descriptor { volume, boot, pid, locked: false, closed: false, in_flight: 0 };
        self.descriptors.insert(id, descriptor);
        id
    }

    /// flock, exclusive, without waiting: seen only by descriptors of the same boot.
    pub fn try_lock(&mut self, id: DescriptorId) -> bool {
        let Some((volume, boot)) = self.descriptors.get(&id).map(|d| (d.volume, d.boot)) else { return false };
        let rival =
            |(other, d): (&DescriptorId, &Descriptor)| *other != id && d.volume == volume && d.boot == boot && d.locked;
        if self.descriptors.iter().any(rival) {
            return false;
        }
        self.descriptors.get_mut(&id).is_some_and(|d| {
            d.locked = true;
            true
        })
    }

    /// The descriptor, and with it its lock, lives until its last write has landed.
    pub fn close(&mut self, id: DescriptorId) {
        if let Some(descriptor) = self.descriptors.get_mut(&id) {
            descriptor.closed = true;
        }
        self.reap(id);
    }

    fn reap(&mut self, id: DescriptorId) {
        if self.descriptors.get(&id).is_some_and(|d| d.closed && d.in_flight == 0) {
            self.descriptors.remove(&id);
        }
    }

    pub fn submit(&mut self, write: Write) -> WriteId {
        self.next += 1;
        let id = WriteId(self.next);
        if write.by_array.is_none()
            && let Some(descriptor) = self.descriptors.get_mut(&write.descriptor)
        {
            descriptor.in_flight += 1;
        }
        self.writes.insert(id, write);
        id
    }

    /// A write reaches the volume.
    pub fn land(&mut self, id: WriteId) -> Option<Write> {
        let write = self.writes.remove(&id)?;
        if let Some(volume) = write.by_array {
            self.targets[volume].land_durably(write.block, write.content);
            return Some(write);
        }
        let descriptor = self.descriptors.get_mut(&write.descriptor)?;
        descriptor.in_flight -= 1;
        let target = &mut self.targets[descriptor.volume];
        match write.host_gone {
            true => target.land_durably(write.block, write.content),
            false => target.land(write.block, write.content, write.boot),
        }
        self.reap(write.descriptor);
        Some(write)
    }

    /// A write of zeros leaves what was there.
    pub fn discard_if_zeros(&mut self, id: WriteId) {
        let Some(write) = self.writes.get_mut(&id).filter(|write| write.content == ZEROS) else { return };
        if let Some(descriptor) = self.descriptors.get(&write.descriptor) {
            write.content = self.targets[descriptor.volume].blocks[write.block].current();
        }
    }

    /// Where a write that a unit has not let in yet is on its way to, and from where.
    #[must_use]
    pub fn way_of(&self, id: WriteId) -> Option<(usize, Boot)> {
        let write = self.writes.get(&id).filter(|write| !write.accepted)?;
        let volume = self.descriptors.get(&write.descriptor)?.volume;
        (volume < self.units.len()).then_some((volume, write.boot))
    }

    /// What a unit has let in from a path and not carried out.
    #[must_use]
    pub fn accepted_of(&self, volume: usize, path: Path) -> Vec<WriteId> {
        let of_it = |write: &Write| {
            let to = self.descriptors.get(&write.descriptor).map(|d| d.volume);
            write.accepted && write.by_array.is_none() && write.boot.host == path.host && to == Some(volume)
        };
        self.writes.iter().filter(|(_, write)| of_it(write)).map(|(id, _)| *id).collect()
    }

    /// A write comes to nothing.
    pub fn abandon(&mut self, id: WriteId) -> Option<Write> {
        let write = self.writes.remove(&id)?;
        if write.by_array.is_none() {
            self.end_command(write.descriptor);
        }
        Some(write)
    }

    /// A command that is no write keeps its descriptor open as well.
    pub fn begin_command(&mut self, id: DescriptorId) {
        if let Some(descriptor) = self.descriptors.get_mut(&id) {
            descriptor.in_flight += 1;
        }
    }

    pub fn end_command(&mut self, id: DescriptorId) {
        if let Some(descriptor) = self.descriptors.get_mut(&id) {
            descriptor.in_flight -= 1;
        }
        self.reap(id);
    }

    pub fn flush(&mut self, volume: usize, boot: Boot, succeeds: bool) {
        let target = &mut self.targets[volume];
        if succeeds { target.flush(boot) } else { target.fail_flush(boot) }
    }

    /// All descriptors of a process are closed by the kernel.
    pub fn end_process(&mut self, pid: u64) {
        let ids: Vec<_> = self.descriptors.iter().filter(|(_, d)| d.pid == pid).map(|(id, _)| *id).collect();
        ids.into_iter().for_each(|id| self.close(id));
    }

    /// A host is gone with its caches and locks. Of its writes in flight, some have left it: they are told, and land soon.
    pub fn end_boot(&mut self, boot: Boot, rng: &mut Rng) -> Vec<WriteId> {
        let of_it = |w: &Write| w.boot == boot && w.by_array.is_none();
        let mine: Vec<WriteId> = self.writes.iter().filter(|(_, w)| of_it(w)).map(|(id, _)| *id).collect();
        let units = !self.units.is_empty();
        let left: Vec<Write> = mine
            .into_iter()
            .filter_map(|id| self.writes.remove(&id))
            .filter(|write| (write.accepted || !units) && rng.chance(400))
            .collect();
        for (_, descriptor) in self.descriptors.iter_mut().filter(|(_, d)| d.boot == boot) {
            (descriptor.closed, descriptor.locked, descriptor.in_flight) = (true, false, 0);
        }
        let left = left.into_iter().map(|write| self.submit(Write { host_gone: true, held: false, ..write })).collect();
        self.descriptors.retain(|_, d| d.boot != boot || d.in_flight > 0);
        self.targets.iter_mut().for_each(|target| target.lose_cache(|of| of == boot, rng));
        left
    }

    /// What an earlier boot of this host left under way.
    pub fn left_by(&self, host: usize) -> Vec<WriteId> {
        self.writes.iter().filter(|(_, write)| write.host_gone && write.boot.host == host).map(|(id, _)| *id).collect()
    }

    /// The storage of a target loses power, and what it had not been asked to flush with it. The writes that it ends are told; what a unit
    /// has not let in yet is on its way still.
    pub fn lose_power(&mut self, volume: usize, rng: &mut Rng) -> Vec<Write> {
        let ended = self.end_writes_to(volume);
        let target = &mut self.targets[volume];
        target.lose_cache(|_| true, rng);
        ended.iter().for_each(|write| target.blocks[write.block].interrupt(write.content, rng));
        self.units.iter_mut().skip(volume).take(1).for_each(Lun::lose_power);
        ended
    }

    /// What a target has accepted and not carried out ends.
    pub fn end_writes_to(&mut self, volume: usize) -> Vec<Write> {
        let through = |write: &Write| self.descriptors.get(&write.descriptor).map(|d| d.volume);
        let to = |write: &Write| write.by_array.or_else(|| through(write)) == Some(volume);
        let is_there = |write: &Write| write.accepted || self.units.is_empty();
        let of_it = |write: &Write| to(write) && is_there(write);
        let ids: Vec<WriteId> = self.writes.iter().filter(|(_, write)| of_it(write)).map(|(id, _)| *id).collect();
        ids.into_iter().filter_map(|id| self.abandon(id)).collect()
    }
}
