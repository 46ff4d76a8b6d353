//! Reservations in the simulated world: an engine takes one before it writes, the unit refuses or ends what others send, and commands go
//! their way when their process is gone.

use tanist_protocol::agent::EngineEvent;
use tanist_protocol::fence::key::ReservationKey;
use tanist_protocol::fence::seizure::{Seizure, Step};
use tanist_protocol::fence::{RawKey, ReservationAnswer, ReservationCommand, Taken};
use tanist_protocol::message::RunFailureKind;

use crate::disk::{Boot, DescriptorId, WriteId};
use crate::engine::EngineEventKind;
use crate::faults::Fault;
use crate::lun::Path;
use crate::process::{EngineKey, Pid};
use crate::world::{Event, World};

/// How often an answer is lost, and how often its command comes late instead of never.
const LOST_PER_MILLE: u64 = 20;
const LATE_PER_MILLE: u64 = 500;

/// The key of somebody who has nothing to do with us, and where he is.
const STRANGER: RawKey = RawKey(0xfe0c_e5c5_0000_0001);
const STRANGERS_PATH: Path = Path { host: usize::MAX, port: 0 };

/// A command on its way to a unit. The descriptor stays open with it, whatever becomes of its process.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    pub pid: Pid,
    pub key: EngineKey,
    pub volume: usize,
    pub descriptor: DescriptorId,
    pub boot: Boot,
    pub command: ReservationCommand,
    /// Nobody waits for the answer any more.
    pub orphaned: bool,
}

pub fn path_of(boot: Boot) -> Path {
    Path { host: boot.host, port: 0 }
}

impl World {
    /// The volumes are open: nothing is said before the reservation is held, and nothing is asked while something of this host may be in
    /// flight, which its lock would show.
    pub fn seize(&mut self, agent: usize, key: EngineKey, reserve: ReservationKey, locked: bool) {
        if !locked {
            let reason = "earlier I/O of this host on the target has not ended".to_owned();
            return self.give_up_opening(agent, key, reason);
        }
        let seizure = Seizure::new(reserve, self.mutations);
        let command = seizure.begin();
        let Some(engine) = self.engine_mut(agent, key) else { return };
        engine.seizure = Some(seizure);
        self.ask_unit(agent, key, command);
    }

    fn give_up_opening(&mut self, agent: usize, key: EngineKey, reason: String) {
        let engine = self.agents[agent].process.as_mut().and_then(|process| process.engines.remove(&key));
        if let Some(descriptor) = engine.and_then(|engine| engine.descriptor) {
            self.disks.close(descriptor);
        }
        self.coverage.reservations_refused += 1;
        self.report(agent, key, EngineEvent::OpenFailed { reason });
    }

    fn ask_unit(&mut self, agent: usize, key: EngineKey, command: ReservationCommand) {
        let (pid, boot) = (self.pid_of(agent), self.boot_of(agent));
        let Some(engine) = self.engine_mut(agent, key) else { return };
        let (volume, Some(descriptor)) = (engine.volume, engine.descriptor) else { return };
        self.disks.begin_command(descriptor);
        let sent = Sent { pid, key, volume, descriptor, boot, command, orphaned: false };
        let wait = self.rng.between(50, 3000);
        self.at(self.now + wait, Event::Reserving(sent));
    }

    /// A command reaches the unit, whether or not its process still lives.
    pub fn reserving(&mut self, sent: Sent) {
        if self.boot_is_over(sent.boot) {
            return;
        }
        let lost = !sent.orphaned && self.rng.chance(LOST_PER_MILLE);
        if lost && self.rng.chance(LATE_PER_MILLE) {
            let late = self.now + self.rng.between(1000, 3_000_000);
            self.at(late, Event::Reserving(Sent { orphaned: true, ..sent }));
            return self.answer(sent, ReservationAnswer::Unknown { reason: "no answer".to_owned() });
        }
        let answer = self.execute(sent);
        self.disks.end_command(sent.descriptor);
        match () {
            () if sent.orphaned => {}
            () if lost => self.answer(sent, ReservationAnswer::Unknown { reason: "the answer is lost".to_owned() }),
            () => self.answer(sent, answer),
        }
    }

    fn boot_is_over(&self, boot: Boot) -> bool {
        let host = &self.hosts[boot.host];
        host.boot != boot.number || !host.up
    }

    fn execute(&mut self, sent: Sent) -> ReservationAnswer {
        let Some(unit) = self.disks.units.get_mut(sent.volume) else {
            return ReservationAnswer::Unsupported { reason: "it knows no reservations".to_owned() };
        };
        let stranger = unit.is_registered(STRANGER);
        let executed = unit.execute(path_of(sent.boot), sent.command);
        self.checker.stranger_stays(stranger, unit.is_registered(STRANGER));
        self.note("reserve", sent.pid, || format!("{}: {:?} -> {:?}", sent.key.1, sent.command, executed.answer));
        for path in executed.aborted {
            for id in self.disks.accepted_of(sent.volume, path) {
                self.write_ends_in_vain(id);
            }
        }
        executed.answer
    }

    /// A host of somebody else's finds the unit, and takes it for its own.
    pub fn stranger_comes(&mut self) {
        let volume = self.rng.index(self.disks.units.len());
        let unit = &mut self.disks.units[volume];
        unit.execute(STRANGERS_PATH, ReservationCommand::RegisterAndIgnore { key: STRANGER });
        if self.rng.chance(500) {
            unit.execute(STRANGERS_PATH, ReservationCommand::Reserve { key: STRANGER });
        }
        self.coverage.strangers += 1;
        self.last(Fault::ForeignKey(volume), 200_000, 6_000_000, |_| {});
    }

    pub fn stranger_goes(&mut self, volume: usize) {
        self.disks.units[volume].execute(STRANGERS_PATH, ReservationCommand::Unregister { key: STRANGER });
    }

    fn answer(&mut self, sent: Sent, answer: ReservationAnswer) {
        let Sent { pid, key, .. } = sent;
        self.at(self.now + 20, Event::Engine { pid, key, generation: 0, kind: EngineEventKind::Answered(answer) });
    }

    pub fn unit_answers(&mut self, agent: usize, key: EngineKey, answer: ReservationAnswer) {
        let Some(engine) = self.engine_mut(agent, key) else { return };
        let Some(mut seizure) = engine.seizure.take() else { return };
        if engine.closing.is_some() {
            engine.opened = true;
            return self.pump(agent, key);
        }
        match seizure.answered(answer) {
            Step::Ask(command) => {
                engine.seizure = Some(seizure);
                self.ask_unit(agent, key, command);
            }
            Step::Held(taken) => self.seized(agent, key, taken),
            Step::Refused(refusal) => self.give_up_opening(agent, key, refusal.to_string()),
        }
    }

    fn seized(&mut self, agent: usize, key: EngineKey, taken: Taken) {
        let Some(engine) = self.engine_mut(agent, key) else { return };
        engine.opened = true;
        let volume = engine.volume;
        self.coverage.note_taken(taken);
        let fence = self.fence(volume, true, Some(taken));
        self.report(agent, key, EngineEvent::Opened { fence });
    }

    /// A write arrives at a unit that knows reservations: it is let in, or refused for good.
    pub fn write_arrives(&mut self, id: WriteId) {
        let Some((volume, boot)) = self.disks.way_of(id) else { return };
        if !self.disks.units[volume].admits(path_of(boot)) {
            return self.write_ends_in_vain(id);
        }
        if let Some(write) = self.disks.writes.get_mut(&id) {
            write.accepted = true;
        }
        let lands = self.now + self.write_latency();
        self.at(lands, Event::WriteLands(id));
    }

    /// Refused with RESERVATION CONFLICT, or aborted: whoever hears of it has been shut out.
    fn write_ends_in_vain(&mut self, id: WriteId) {
        let Some(write) = self.disks.abandon(id) else { return };
        self.coverage.writes_shut_out += 1;
        self.note("shut out", write.block as u64, || format!("block {} of {} is refused", write.block, write.epochs));
        let (pid, key, generation) = (write.pid, (write.replication, write.epochs), write.job);
        let kind = EngineEventKind::ShutOut(write.block);
        self.at(self.now + 20, Event::Engine { pid, key, generation, kind });
    }

    /// Told of it, it cannot go on.
    pub fn shut_out(&mut self, agent: usize, key: EngineKey, generation: u64, block: usize) {
        let Some(engine) = self.engine_mut(agent, key) else { return };
        if let Some(job) = engine.job.as_mut().filter(|job| job.id == generation) {
            job.in_flight.remove(&block);
            job.failed = Some(RunFailureKind::Io);
        }
        let reason = "another agent has reserved the target".to_owned();
        self.report(agent, key, EngineEvent::Unfit { reason });
        self.pump(agent, key);
    }
}
