//! How storage treats I/O beside doing it: how long that takes, and who hears of a failure.

use tanist_protocol::mutation::Mutation;

use crate::disk::{Write, WriteId};
use crate::engine::EngineEventKind;
use crate::process::EngineKey;
use crate::rng::Rng;
use crate::world::{Event, World};

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

    /// The mutation: zeros are not written, and what was there may stay (SBC-4, 4.7.3: after an unmap without LBPRZ a read gives anything).
    pub fn discard_instead(&mut self, id: WriteId) {
        if self.broken == Some(Mutation::DiscardAsZero) {
            self.disks.discard_if_zeros(id);
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

impl World {
    /// Who has it open hears of it: what was in flight fails, and so does the next flush.
    pub fn target_loses_power(&mut self) {
        let volume = self.rng.index(self.disks.targets.len());
        let mut rng = Rng::new(self.rng.draw());
        let ended = self.disks.lose_power(volume, &mut rng);
        self.coverage.target_power_losses += 1;
        self.note("fault", volume as u64, || {
            format!("target {volume} loses power with {} writes in flight", ended.len())
        });
        ended.iter().for_each(|write| self.write_fails(write));
        for process in self.agents.iter_mut().filter_map(|slot| slot.process.as_mut()) {
            let open = process.engines.values_mut().filter(|engine| engine.volume == volume);
            open.for_each(|engine| engine.owes_error = true);
        }
        self.checker.check_promises(&self.disks);
    }

    /// As by LOGICAL UNIT RESET (SAM-6, 6.3.4): what was accepted fails, and reservations stand.
    pub fn target_is_reset(&mut self) {
        let volume = self.rng.index(self.disks.targets.len());
        let ended = self.disks.end_writes_to(volume);
        self.coverage.target_resets += 1;
        self.note("fault", volume as u64, || format!("target {volume} is reset with {} writes in flight", ended.len()));
        ended.iter().for_each(|write| self.write_fails(write));
    }

    fn write_fails(&mut self, write: &Write) {
        let (pid, key, generation) = (write.pid, (write.replication, write.epochs), write.job);
        self.at(self.now + 20, Event::Engine { pid, key, generation, kind: EngineEventKind::Failed(write.block) });
    }
}
