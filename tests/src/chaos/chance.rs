//! Schedules drawn from a seed: the same seed, the same schedule. Most faults aim at the agent that acts, because it is replaced; some at
//! others, some at the server, some at several at once or at a takeover that has just begun.

use super::schedule::{
    Aim, Failure, Fault, Faulty, Form, From, Hosts, Lasts, Moment, Planned, RuleOff, Schedule, Shape, Source, Volumes,
    Way,
};
use crate::random::Random;

/// How a schedule is drawn.
#[derive(Clone, Copy, Debug)]
pub struct Draw {
    pub seed: u64,
    pub faults: usize,
    /// A stop lasts up to a minute; where that is too long, so long at most.
    pub longest_stop_ms: u64,
}

impl Draw {
    #[must_use]
    pub fn new(seed: u64, faults: usize) -> Self {
        Self { seed, faults, longest_stop_ms: 60_000 }
    }

    /// A schedule for a cluster that the seed chooses too.
    #[must_use]
    pub fn schedule(self) -> Schedule {
        let shapes = shapes();
        let mut random = Random::new(self.seed ^ 0x0063_6861_6f73);
        let chosen = random.between(0, shapes.len() as u64);
        let shape = shapes.into_iter().nth(usize::try_from(chosen).unwrap_or(0));
        self.schedule_of(shape.unwrap_or_else(|| shape_of(Hosts::One, Form::Direct, 3)))
    }

    /// A schedule for this cluster.
    #[must_use]
    pub fn schedule_of(self, cluster: Shape) -> Schedule {
        let mut random = Random::new(self.seed);
        let mut faults = Vec::new();
        while faults.len() < self.faults {
            let more = self.round(&cluster, &mut random);
            faults.extend(more);
        }
        faults.truncate(self.faults);
        Schedule { about: String::new(), seed: self.seed, cluster, faults }
    }

    /// The faults between two moments in which all is well: one, or a few that meet.
    fn round(self, shape: &Shape, random: &mut Random) -> Vec<Planned> {
        let progress = Moment::ProgressPercent(u8::try_from(random.between(2, 85)).unwrap_or(2));
        let first = self.planned(progress, self.fault(shape, random), random);
        let mut faults = vec![first];
        let more = match random.between(0, 10) {
            0..6 => 0,
            6..9 => 1,
            _ => 2,
        };
        for _ in 0..more {
            // From the same moment to the middle of the takeover that the first fault began.
            let pause = *pick(random, &[0, 5, 30, 150, 600, 1500]);
            let when = Moment::AfterMs(random.between(0, pause + 1));
            faults.push(self.planned(when, provable(&faults, self.fault(shape, random)), random));
        }
        faults
    }

    fn planned(self, when: Moment, fault: Fault, random: &mut Random) -> Planned {
        let ms = match fault {
            Fault::Kill { .. } => random.between(0, 2500),
            Fault::KillServer => random.between(0, 1500),
            Fault::Stop { .. } | Fault::Supplant { .. } => self.stop_ms(random),
            Fault::StopServer => random.between(100, 4000),
            Fault::Flap { .. } => random.between(50, 700),
            Fault::Disk { .. } => random.between(500, 4500),
            Fault::Cut { .. } | Fault::Isolate { .. } => *pick(random, &[200, 800, 1500, 3500, 5000]),
            Fault::Degrade { .. } => random.between(1000, 5000),
        };
        Planned { when, fault, lasts: Lasts::Ms(ms) }
    }

    /// Mostly about as long as what makes an agent suspected, seldom very long.
    fn stop_ms(self, random: &mut Random) -> u64 {
        let ms = match random.between(0, 24) {
            0..8 => random.between(100, 1000),
            8..23 => random.between(1000, 6000),
            _ => random.between(6000, 60_000),
        };
        ms.min(self.longest_stop_ms)
    }

    fn fault(self, shape: &Shape, random: &mut Random) -> Fault {
        let kinds: &[Kind] = match (shape.hosts, shape.faulty) {
            // Nobody proves an agent quiet that died over a file system in user space.
            (_, Some(Faulty::Storage)) if shape.volumes == Volumes::Image => {
                &[Kind::Disk, Kind::Disk, Kind::Disk, Kind::Stop, Kind::KillServer]
            }
            (_, Some(_)) => &[Kind::Disk, Kind::Disk, Kind::Disk, Kind::Kill, Kind::Stop, Kind::KillServer],
            (Hosts::Network, None) => &[
                Kind::Kill,
                Kind::Kill,
                Kind::Stop,
                Kind::Cut,
                Kind::Cut,
                Kind::Isolate,
                Kind::Flap,
                Kind::Degrade,
                Kind::KillServer,
                Kind::StopServer,
            ],
            _ => &[Kind::Kill, Kind::Kill, Kind::Kill, Kind::Stop, Kind::Stop, Kind::KillServer, Kind::StopServer],
        };
        let kind = *pick(random, kinds);
        let aim = aim(shape, random);
        match kind {
            Kind::Kill => Fault::Kill { aim },
            Kind::Stop => Fault::Stop { aim },
            Kind::Isolate => Fault::Isolate { aim },
            Kind::Flap => Fault::Flap { aim, times: u8::try_from(random.between(2, 6)).unwrap_or(2) },
            Kind::KillServer => Fault::KillServer,
            Kind::StopServer => Fault::StopServer,
            Kind::Cut => Fault::Cut {
                aim,
                from: *pick(random, &[From::Server, From::Server, From::Peers]),
                way: *pick(random, &[Way::Both, Way::Out, Way::In]),
            },
            Kind::Degrade => degraded(aim, random),
            Kind::Disk => failing(shape, random),
        }
    }
}

/// Who succeeds an agent that lives and still has the lock acts without one: if it is killed then, nobody can prove it quiet but an
/// operator, and here is none.
fn provable(before: &[Planned], fault: Fault) -> Fault {
    let lives = |planned: &Planned| planned.fault.aim().is_some() && !matches!(planned.fault, Fault::Kill { .. });
    match fault {
        Fault::Kill { .. } if before.iter().any(lives) => Fault::KillServer,
        _ => fault,
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Kill,
    Stop,
    Cut,
    Isolate,
    Flap,
    Degrade,
    KillServer,
    StopServer,
    Disk,
}

fn degraded(aim: Aim, random: &mut Random) -> Fault {
    let (delay_ms, jitter_ms) = *pick(random, &[(20, 10), (100, 100), (300, 200), (0, 0)]);
    let losses: &[u16] = if delay_ms == 0 { &[10, 50, 200] } else { &[0, 10, 50] };
    let loss_per_mille = *pick(random, losses);
    Fault::Degrade { aim, delay_ms, jitter_ms, loss_per_mille }
}

fn failing(shape: &Shape, random: &mut Random) -> Fault {
    let of_storage = [Failure::ReadErrors, Failure::WriteErrors, Failure::Full, Failure::Slow, Failure::FailedSync];
    let of_store = [Failure::Full, Failure::Slow, Failure::WriteErrors];
    let fails = match shape.faulty {
        Some(Faulty::Store) => *pick(random, &of_store),
        _ => *pick(random, &of_storage),
    };
    let delay_ms = if fails == Failure::Slow { random.between(20, 1500) } else { 0 };
    Fault::Disk { fails, delay_ms }
}

fn aim(shape: &Shape, random: &mut Random) -> Aim {
    match (random.between(0, 10), shape.form) {
        (0..2, _) => Aim::Standby,
        (2..5, Form::Networked) => Aim::Reader,
        _ => Aim::Acting,
    }
}

fn pick<'a, T>(random: &mut Random, from: &'a [T]) -> &'a T {
    let at = random.between(0, from.len() as u64);
    &from[usize::try_from(at).unwrap_or(0)]
}

fn shape_of(hosts: Hosts, form: Form, agents: u8) -> Shape {
    Shape {
        agents,
        hosts,
        form,
        volumes: Volumes::Image,
        source: Source::Sealed,
        faulty: None,
        replications: 1,
        size_mib: 32,
        limit_mib_per_second: Some(16),
        without: None::<RuleOff>,
    }
}

/// The clusters that are struck. Together they have every kind of fault.
#[must_use]
pub fn shapes() -> Vec<Shape> {
    vec![
        shape_of(Hosts::Network, Form::Direct, 3),
        shape_of(Hosts::Network, Form::Networked, 4),
        Shape { replications: 2, ..shape_of(Hosts::One, Form::Direct, 3) },
        Shape { volumes: Volumes::Loop, ..shape_of(Hosts::Own, Form::Direct, 3) },
        Shape { faulty: Some(Faulty::Storage), volumes: Volumes::Loop, ..shape_of(Hosts::One, Form::Direct, 3) },
        Shape { faulty: Some(Faulty::Storage), ..shape_of(Hosts::One, Form::Networked, 4) },
        Shape { faulty: Some(Faulty::Store), ..shape_of(Hosts::Own, Form::Hybrid, 3) },
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_same_seed_is_the_same_schedule_and_every_schedule_can_be_played() {
        let mut kinds = BTreeSet::new();
        for seed in 0..60 {
            let schedule = Draw::new(seed, 25).schedule();
            assert_eq!(schedule, Draw::new(seed, 25).schedule());
            assert_eq!(schedule.faults.len(), 25);
            assert_eq!(Schedule::parse(&schedule.to_json()), Ok(schedule.clone()), "seed {seed}");
            kinds.extend(schedule.faults.iter().map(|planned| planned.fault.name()));
        }
        assert_eq!(kinds.len(), 13, "{kinds:?}");
        assert_ne!(Draw::new(1, 25).schedule().faults, Draw::new(2, 25).schedule().faults);
    }

    #[test]
    fn no_stop_is_longer_than_wanted() {
        for seed in 0..40 {
            let draw = Draw { longest_stop_ms: 2000, ..Draw::new(seed, 40) };
            let stops =
                draw.schedule().faults.into_iter().filter(|planned| matches!(planned.fault, Fault::Stop { .. }));
            assert!(stops.clone().all(|planned| matches!(planned.lasts, Lasts::Ms(100..=2000))), "seed {seed}");
        }
    }
}
