//! Storage that copies by itself: an order is carried out whatever becomes of the process, the host and the path that gave it.

use tanist_model::id::CommandId;
use tanist_protocol::agent::EngineEvent;

use crate::disk::Write;
use crate::engine::EngineEventKind;
use crate::process::EngineKey;
use crate::reserving::path_of;
use crate::world::{Event, World};

/// How many blocks are copied by an order, where that is possible.
const ORDERED_PER_MILLE: u64 = 400;

impl World {
    /// Source and target lie behind one copy manager, what is copied stays as it is, and the target takes orders from this host.
    pub fn may_be_ordered(&mut self, agent: usize, key: EngineKey, write: &Write) -> bool {
        let Some(engine) = self.engine_mut(agent, key) else { return false };
        let immutable = engine.job.as_ref().is_some_and(|job| job.gate.is_none() && job.snapshot.mode.is_immutable());
        let (orders, volume) = (engine.orders_copies && immutable, engine.volume);
        let admitted = self.disks.units.get(volume).is_none_or(|unit| unit.admits(path_of(write.boot)));
        orders && admitted && self.rng.chance(ORDERED_PER_MILLE)
    }

    pub fn order_copy(&mut self, agent: usize, key: EngineKey, write: Write) {
        let job = write.job;
        self.note("order", write.block as u64, || format!("h{} {} has block {} copied", agent + 1, key.1, write.block));
        self.coverage.array_copies += 1;
        self.checker.write_is_submitted(&write);
        let id = self.disks.submit(write);
        // A busy array takes its time.
        let longest = if self.rng.chance(200) { 4_000_000 } else { 200_000 };
        let lands = self.now + self.rng.between(5_000, longest);
        self.at(lands, Event::WriteLands(id));
        let wait = self.rng.between(50, 10_000);
        self.after(agent, key, job, wait, EngineEventKind::Pump);
    }

    pub fn ask_array(&mut self, agent: usize, key: EngineKey, question: CommandId) {
        let wait = self.rng.between(500, 20_000);
        self.after(agent, key, 0, wait, EngineEventKind::AskArray(question));
    }

    /// It says which copies are going on; the engine asks until none is left that another epoch has ordered.
    pub fn array_answers(&mut self, agent: usize, key: EngineKey, question: CommandId) {
        let Some(engine) = self.engine_mut(agent, key).filter(|engine| engine.closing.is_none()) else { return };
        let volume = engine.volume;
        let others = |write: &Write| write.by_array == Some(volume) && (write.replication, write.epochs) != key;
        if self.disks.writes.values().any(others) {
            return self.after(agent, key, 0, 100_000, EngineEventKind::AskArray(question));
        }
        self.report(agent, key, EngineEvent::ArrayQuiet { question });
    }
}
