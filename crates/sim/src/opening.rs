//! How an engine opens its target: the descriptor, the kernel lock on it, and the reservation where it is asked for.

use tanist_protocol::agent::EngineEvent;
use tanist_protocol::fence::Taken;
use tanist_protocol::fence::key::ReservationKey;
use tanist_protocol::message::FenceReport;

use crate::disk::DescriptorId;
use crate::engine::{Engine, EngineEventKind};
use crate::process::EngineKey;
use crate::world::World;

impl World {
    pub fn open_engine(&mut self, agent: usize, key: EngineKey, volume: usize, reserve: Option<ReservationKey>) {
        let Some(process) = self.agents[agent].process.as_mut() else { return };
        self.checker.engine_opens(process, key);
        process.engines.insert(key, Engine::new(volume, reserve));
        let wait = self.rng.between(200, 5000);
        self.after(agent, key, 0, wait, EngineEventKind::Opened);
    }

    pub fn opened(&mut self, agent: usize, key: EngineKey) {
        if self.agents[agent].path_lost {
            if let Some(process) = self.agents[agent].process.as_mut() {
                process.engines.remove(&key);
            }
            let event = EngineEvent::OpenFailed { reason: "the path is lost".to_owned() };
            return self.report(agent, key, event);
        }
        let (pid, boot) = (self.pid_of(agent), self.boot_of(agent));
        let Some(volume) = self.engine_mut(agent, key).map(|e| e.volume) else { return };
        let descriptor = self.disks.open(volume, boot, pid);
        let locked = self.lock(descriptor);
        let fence = self.fence(volume, locked, None);
        let Some(engine) = self.engine_mut(agent, key) else { return };
        (engine.descriptor, engine.locked) = (Some(descriptor), locked);
        if let Some(reserve) = engine.reserve.filter(|_| engine.closing.is_none()) {
            return self.seize(agent, key, reserve, locked);
        }
        engine.opened = true;
        if engine.closing.is_some() {
            return self.pump(agent, key);
        }
        self.report(agent, key, EngineEvent::Opened { fence });
    }

    /// A lock on a file beside the volume is free as soon as the process is gone, whatever is still in flight.
    fn lock(&mut self, descriptor: DescriptorId) -> bool {
        if self.scenario.lock_beside {
            let Some(mine) = self.disks.descriptors.get(&descriptor).cloned() else { return false };
            let rival = self.disks.descriptors.iter().any(|(id, d)| {
                *id != descriptor && d.volume == mine.volume && d.boot == mine.boot && d.locked && !d.closed
            });
            if let Some(d) = self.disks.descriptors.get_mut(&descriptor) {
                d.locked = !rival;
            }
            return !rival;
        }
        self.scenario.kernel_lock && self.disks.try_lock(descriptor)
    }

    pub fn fence(&self, volume: usize, locked: bool, reservation: Option<Taken>) -> FenceReport {
        let what = if self.scenario.lock_beside { "a file beside it".to_owned() } else { format!("san-b/vol{volume}") };
        FenceReport { locked: locked.then_some(what), lock_place: None, reservation }
    }

    pub fn try_lock(&mut self, agent: usize, key: EngineKey) {
        let Some(engine) = self.engine_mut(agent, key).filter(|e| !e.locked) else { return };
        let (Some(descriptor), volume) = (engine.descriptor, engine.volume) else { return };
        if self.lock(descriptor) {
            if let Some(engine) = self.engine_mut(agent, key) {
                engine.locked = true;
            }
            let fence = self.fence(volume, true, None);
            self.report(agent, key, EngineEvent::Locked { fence });
        }
    }
}
