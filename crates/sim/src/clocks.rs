//! The clocks of the world: each host's and the server's own. They run at rates of their own, stand still while their host sleeps,
//! and show a wall time that jumps. Nothing that decides who may write may rest on them.

use std::collections::BTreeMap;

use tanist_model::time::{Monotonic, Now, Timestamp};

use crate::faults::Fault;
use crate::links::Place;
use crate::process::Pid;
use crate::rng::Rng;
use crate::world::World;

const MILLION: u64 = 1_000_000;
/// Cheap crystals are wrong by a ten-thousandth, the clock of a virtual machine that is starved of time by far more.
const WRONG_BY_PPM: u64 = 30_000;
/// Where the wall clocks begin.
const WALL_BEGINS_US: i64 = 1_790_000_000_000_000;
/// A host that has lost its battery shows a time of years ago; mostly it is minutes.
const SHORT_JUMP_US: u64 = 600_000_000;
const LONG_JUMP_US: u64 = 100_000_000_000_000;

/// One clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Clock {
    /// So many of its microseconds are a million of the world's.
    rate: u64,
    /// How long its host has slept; the monotonic clock does not count that.
    slept_us: u64,
    wall_offset_us: i64,
}

impl Clock {
    #[must_use]
    pub fn drawn(rng: &mut Rng) -> Self {
        let rate = rng.between(MILLION - WRONG_BY_PPM, MILLION + WRONG_BY_PPM);
        Self { rate, slept_us: 0, wall_offset_us: signed(rng, SHORT_JUMP_US) }
    }

    /// What it shows at a moment of the world.
    #[must_use]
    pub fn read(&self, now: u64) -> Now {
        let wall = WALL_BEGINS_US + now.cast_signed() + self.wall_offset_us;
        Now { monotonic: Monotonic(self.elapsed(now)), wall: Timestamp(wall) }
    }

    fn elapsed(&self, now: u64) -> u64 {
        now.saturating_sub(self.slept_us) * self.rate / MILLION
    }

    /// The moment of the world in which it will show this.
    #[must_use]
    pub fn moment_of(&self, shown: Monotonic, now: u64) -> u64 {
        let left = shown.0.saturating_sub(self.elapsed(now));
        // Rounded up: who is woken too early asks again, and again.
        now + (left + 1) * MILLION / self.rate + 1
    }

    pub fn sleep(&mut self, for_us: u64) {
        self.slept_us += for_us;
    }

    pub fn jump(&mut self, rng: &mut Rng) {
        let far = if rng.chance(200) { LONG_JUMP_US } else { SHORT_JUMP_US };
        self.wall_offset_us = signed(rng, far);
    }
}

fn signed(rng: &mut Rng, far: u64) -> i64 {
    rng.below(2 * far).cast_signed() - far.cast_signed()
}

/// The clocks of all hosts, and the server's.
#[derive(Clone, Debug)]
pub struct Clocks {
    hosts: Vec<Clock>,
    server: Clock,
    /// Since when a host sleeps.
    asleep: BTreeMap<usize, u64>,
}

impl Clocks {
    #[must_use]
    pub fn drawn(rng: &mut Rng, hosts: usize) -> Self {
        Self {
            hosts: (0..hosts).map(|_| Clock::drawn(rng)).collect(),
            server: Clock::drawn(rng),
            asleep: BTreeMap::new(),
        }
    }

    /// All of them right.
    #[must_use]
    pub fn one(hosts: usize) -> Self {
        let right = Clock { rate: MILLION, slept_us: 0, wall_offset_us: 0 };
        Self { hosts: vec![right; hosts], server: right, asleep: BTreeMap::new() }
    }

    #[must_use]
    pub fn is_asleep(&self, host: usize) -> bool {
        self.asleep.contains_key(&host)
    }

    /// Whether it was awake until now.
    pub fn sleep(&mut self, host: usize, now: u64) -> bool {
        !self.is_asleep(host) && self.asleep.insert(host, now).is_none()
    }

    /// Whether it has slept.
    pub fn wake(&mut self, host: usize, now: u64) -> bool {
        let since = self.asleep.remove(&host);
        since.into_iter().for_each(|since| self.hosts[host].sleep(now - since));
        since.is_some()
    }
}

impl World {
    /// The clock that a place reads: that of its host.
    pub fn clock_of(&mut self, place: Place) -> &mut Clock {
        match place {
            Place::Server => &mut self.clocks.server,
            Place::Agent(agent) => &mut self.clocks.hosts[self.agents[agent].host],
        }
    }

    /// What the clock of a place shows now.
    #[must_use]
    pub fn clock(&self, place: Place) -> Now {
        let clock = match place {
            Place::Server => &self.clocks.server,
            Place::Agent(agent) => &self.clocks.hosts[self.agents[agent].host],
        };
        clock.read(self.now)
    }
}

impl World {
    pub fn clock_jumps(&mut self, agent: usize) {
        let place = if self.rng.chance(400) { Place::Server } else { Place::Agent(agent) };
        let mut rng = Rng::new(self.rng.draw());
        self.clock_of(place).jump(&mut rng);
        self.coverage.clock_jumps += 1;
        self.note("fault", 0, || format!("the wall clock of {place:?} is set"));
    }

    /// Everything on it stops; what it has sent goes on.
    pub fn host_sleeps(&mut self, host: usize) {
        if !self.hosts[host].up || !self.clocks.sleep(host, self.now) {
            return;
        }
        self.coverage.sleeps += 1;
        for pid in self.pids_on(host) {
            self.hold_writes_of(pid);
            self.agents.iter_mut().filter_map(|a| a.process.as_mut()).filter(|p| p.shell.pid == pid).for_each(|p| {
                p.shell.paused = true;
            });
        }
        self.last(Fault::HostSleeps(host), 200_000, 20_000_000, |_| {});
    }

    pub fn host_wakes(&mut self, host: usize) {
        if self.clocks.wake(host, self.now) {
            self.pids_on(host).into_iter().for_each(|pid| self.resume(pid));
        }
    }

    fn pids_on(&self, host: usize) -> Vec<Pid> {
        let here = self.agents.iter().filter(|slot| slot.host == host);
        here.filter_map(|slot| slot.process.as_ref()).map(|process| process.shell.pid).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_found_again() {
        let mut rng = Rng::new(7);
        for _ in 0..1000 {
            let mut clock = Clock::drawn(&mut rng);
            clock.sleep(rng.below(5_000_000));
            let (now, ahead) = (rng.between(10_000_000, 60_000_000), rng.below(20_000_000));
            let due = Monotonic(clock.read(now).monotonic.0 + ahead);
            let moment = clock.moment_of(due, now);
            let shown = clock.read(moment).monotonic.0;
            assert!((due.0..due.0 + 4).contains(&shown), "{clock:?}: {shown} for {due:?}");
        }
    }

    #[test]
    fn it_never_goes_back() {
        let mut rng = Rng::new(8);
        let mut clock = Clock::drawn(&mut rng);
        let shown: Vec<u64> = (0..200).map(|n| clock.read(n * 37_000).monotonic.0).collect();
        assert!(shown.is_sorted());
        clock.jump(&mut rng);
        assert_eq!(clock.read(7_400_000).monotonic.0, Clock { wall_offset_us: 0, ..clock }.read(7_400_000).monotonic.0);
    }
}
