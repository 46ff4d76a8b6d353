//! How storage treats I/O beside doing it: how long that takes, and who hears of a failure.

use crate::process::EngineKey;
use crate::world::World;

impl World {
    /// Slow storage is mostly a little slow; now and then a write hangs for seconds, in a queue that nobody sees.
    pub fn write_latency(&mut self) -> u64 {
        let slow = self.scenario.slow_writes && self.rng.chance(100);
        match slow {
            true if self.rng.chance(300) => self.rng.between(300_000, 5_000_000),
            true => self.rng.between(10_000, 300_000),
            false => self.rng.between(100, 20_000),
        }
    }

    /// A flush fails. It may have taken what others on the host had written; the kernel tells each open file description of a file once
    /// (Linux, `errseq_t`).
    pub fn fail_flush(&mut self, agent: usize, key: EngineKey, volume: usize) {
        let (boot, host) = (self.boot_of(agent), self.agents[agent].host);
        self.disks.flush(volume, boot, false);
        for (other, slot) in self.agents.iter_mut().enumerate().filter(|(_, slot)| slot.host == host) {
            let Some(process) = slot.process.as_mut() else { continue };
            let others = process.engines.iter_mut().filter(|(of, _)| (other, **of) != (agent, key));
            others.filter(|(_, engine)| engine.volume == volume).for_each(|(_, engine)| engine.owes_error = true);
        }
    }
}
