//! Takeovers of one target by reservation: several epochs on a few hosts, one unit, and everything that is on its way to it.
//!
//! What is here: [`Seizure`], [`conclude`] and the unit of the simulator, as they are. A server that grants epochs whenever it likes (its
//! detector is believed to be always wrong), moves the target on when every earlier epoch is proven quiet or fenced, and gives it up when
//! every one is proven. Processes that die at any step, writes and commands that arrive at any time and in any order, answers that are
//! lost, a stranger who registers, the unit's loss of power.
//!
//! What is left out: data (a write is known by its epoch; S1 asks no more), several paths a host (a path is what is fenced, so two
//! paths are two hosts that do not know of each other's locks, which is weaker), clocks (there is no rule with time in it), the way of
//! messages (a grant is acted upon at any later step, a report is read at any later step or never).

use stateright::{Model, Property};
use tanist_model::agent::AgentSlot;
use tanist_model::id::{ClusterId, Epoch, HostIdentity};
use tanist_protocol::fence::key::{ClusterTag, ReservationKey, SlotTag};
use tanist_protocol::fence::seizure::{Seizure, Step};
use tanist_protocol::fence::standing::{Fenceable, conclude};
use tanist_protocol::fence::{RawKey, ReservationAnswer, ReservationCommand, Taken};
use tanist_protocol::invariants::{self as properties, Verdict, Violation};
use tanist_protocol::mutation::{Mutation, Mutations};
use tanist_sim::lun::{CommandSet, Lun, Path};

/// The property that stands for all of them: a state knows which one it violates.
pub const SAFE: &str = "nothing is violated";

/// A key that another product might use.
const STRANGER: RawKey = RawKey(0xfe0c_e5c5_0000_0001);

/// How large a world is.
#[derive(Clone, Debug)]
pub struct Bounds {
    pub set: CommandSet,
    /// The unit keeps its reservations when it loses power.
    pub persists: bool,
    pub hosts: usize,
    pub epochs: u32,
    /// Writes that an epoch may have on their way at once.
    pub writes: usize,
    /// How often power is lost, an answer is lost, a stranger registers.
    pub power_losses: u8,
    pub lost_answers: u8,
    pub strangers: u8,
    /// The first host cannot reserve: its agent acts without, as long as nobody has.
    pub mixed: bool,
    pub broken: Mutations,
}

/// What a process is doing.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Doing {
    /// It waits until nothing of its host is in flight.
    Draining,
    /// Its command is on the way.
    Asking {
        seizure: Seizure,
        command: ReservationCommand,
    },
    /// The answer is on the way.
    Answered {
        seizure: Seizure,
        answer: ReservationAnswer,
    },
    Active {
        taken: Taken,
    },
    /// It gave up, or was refused a write, and has closed the volume; or it died.
    Over,
}

/// A process that acts, or acted, under one epoch.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Process {
    host: usize,
    doing: Doing,
}

/// What is on its way to the unit.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
struct Flight {
    epoch: u32,
    host: usize,
    what: Cargo,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
enum Cargo {
    /// In an adapter's queue, or on the wire.
    Write,
    /// The unit has let it in: no reservation stops it any more.
    Accepted,
    /// A command of a process that does not wait for it any more.
    Orphan(OrphanCommand),
}

/// A command in an order of its own kind: flights are kept sorted, so that the same flights are the same state.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct OrphanCommand(ReservationCommand);

impl PartialOrd for OrphanCommand {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for OrphanCommand {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        format!("{self:?}").cmp(&format!("{other:?}"))
    }
}

/// An epoch in the server's set.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Unproven {
    epoch: Epoch,
    host: HostIdentity,
    needs_reservation: bool,
    /// It said that it holds the lock of its host.
    held_lock: bool,
    fenced: bool,
}

impl Fenceable for Unproven {
    fn epoch(&self) -> Epoch {
        self.epoch
    }

    fn host(&self) -> &HostIdentity {
        &self.host
    }

    fn needs_reservation(&self) -> bool {
        self.needs_reservation
    }

    fn is_fenced(&self) -> bool {
        self.fenced
    }

    fn set_fenced(&mut self, fenced: bool) {
        self.fenced = fenced;
    }
}

/// One state of the world.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct World {
    lun: Lun,
    /// By epoch, the first one being 1.
    processes: Vec<Process>,
    flights: Vec<Flight>,
    unproven: Vec<Unproven>,
    /// The current epoch has reported that its fence stands.
    reported: bool,
    /// Under which epoch the target last moved on.
    moved_on: u32,
    released: bool,
    power_losses: u8,
    lost_answers: u8,
    strangers: u8,
    violation: Option<Violation>,
}

/// One thing that can happen.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Action {
    Grant {
        host: usize,
    },
    /// Nothing of its host is in flight: it begins.
    Begin {
        epoch: u32,
    },
    /// The unit carries the command out.
    Execute {
        epoch: u32,
    },
    /// The process reads the answer.
    Answer {
        epoch: u32,
    },
    /// No answer comes: the command has been carried out, or will be later, or never is.
    LoseAnswer {
        epoch: u32,
    },
    LoseCommand {
        epoch: u32,
        for_good: bool,
    },
    Submit {
        epoch: u32,
    },
    /// What is on its way gets there.
    Arrive {
        flight: usize,
    },
    Land {
        flight: usize,
    },
    Die {
        epoch: u32,
    },
    Report,
    MoveOn,
    Release,
    LosePower,
    StrangerRegisters {
        host: usize,
    },
}

fn host_identity(host: usize) -> HostIdentity {
    HostIdentity { machine_id: format!("m{host}"), boot_id: String::new() }
}

fn key(epoch: u32, host: usize) -> ReservationKey {
    let slot = SlotTag::of(AgentSlot(u32::try_from(host).unwrap_or(u32::MAX)));
    ReservationKey { cluster: ClusterTag::of(ClusterId(1)), slot, epoch: Epoch(epoch) }
}

fn path(host: usize) -> Path {
    Path { host, port: 0 }
}

impl World {
    /// What went wrong on the way to this state.
    #[must_use]
    pub fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }

    fn process(&mut self, epoch: u32) -> Option<&mut Process> {
        self.processes.get_mut(usize::try_from(epoch).ok()?.checked_sub(1)?)
    }

    fn current(&self) -> u32 {
        u32::try_from(self.processes.len()).unwrap_or(u32::MAX)
    }

    fn epochs(&self) -> impl Iterator<Item = (u32, &Process)> {
        (1..).zip(&self.processes)
    }

    fn fly(&mut self, flight: Flight) {
        self.flights.push(flight);
        self.flights.sort();
    }

    /// The kernel's lock on the volume's descriptor: no other process of the host has it open, and none has anything in flight.
    fn drained(&self, epoch: u32, host: usize, broken: Mutations) -> bool {
        let open = self
            .epochs()
            .any(|(other, p)| other != epoch && p.host == host && !matches!(p.doing, Doing::Over | Doing::Draining));
        let flying = self.flights.iter().any(|flight| flight.host == host);
        !open && (!flying || broken.breaks(Mutation::NoLocalDrain))
    }

    fn check(&mut self, verdict: Verdict) {
        if let Err(violation) = verdict {
            self.violation.get_or_insert(violation);
        }
    }

    /// A write reaches the volume.
    fn land(&mut self, epoch: u32) {
        self.check(properties::given_up_is_left_alone(Epoch(epoch), self.released));
        let over = epoch < self.moved_on;
        self.check(properties::quiet_epoch_is_quiet(Epoch(epoch), over, "it writes after the target has moved on"));
    }

    fn execute(&mut self, host: usize, command: ReservationCommand) -> ReservationAnswer {
        let stranger = self.lun.is_registered(STRANGER);
        let executed = self.lun.execute(path(host), command);
        self.flights.retain(|f| f.what != Cargo::Accepted || !executed.aborted.contains(&path(f.host)));
        self.check(properties::stranger_stays(stranger, self.lun.is_registered(STRANGER)));
        executed.answer
    }

    /// The current holder's report reaches the server.
    fn report(&mut self, taken: Taken, broken: Mutations) {
        let (current, host) = (self.current(), self.processes.last().map_or(0, |p| p.host));
        self.reported = true;
        // It holds the lock of its host, which proves those quiet who had it before.
        self.unproven.retain(|u| u.epoch.0 == current || !u.held_lock || u.host != host_identity(host));
        self.unproven.iter_mut().filter(|u| u.epoch.0 == current).for_each(|u| u.held_lock = true);
        conclude(&mut self.unproven, Epoch(current), &host_identity(host), taken, broken);
    }

    fn step(&mut self, epoch: u32, mut seizure: Seizure, answer: ReservationAnswer) {
        let doing = match seizure.answered(answer) {
            Step::Ask(command) => Doing::Asking { seizure, command },
            Step::Held(taken) => Doing::Active { taken },
            Step::Refused(_) => Doing::Over,
        };
        if let Some(process) = self.process(epoch) {
            process.doing = doing;
        }
    }

    /// The server gives the volume up: its last holder ends its registration.
    fn release(&mut self) {
        self.released = true;
        let current = self.current();
        let Some(host) = self.processes.last().map(|process| process.host) else { return };
        self.execute(host, ReservationCommand::Unregister { key: key(current, host).raw() });
        self.end(current);
    }

    fn end(&mut self, epoch: u32) {
        let Some(process) = self.process(epoch) else { return };
        let (host, doing) = (process.host, std::mem::replace(&mut process.doing, Doing::Over));
        // What it had sent goes its way without it.
        if let Doing::Asking { command, .. } = doing {
            self.fly(Flight { epoch, host, what: Cargo::Orphan(OrphanCommand(command)) });
        }
    }
}

impl Bounds {
    fn is_allowed(&self, world: &World, action: Action) -> bool {
        let doing = |epoch: u32| world.processes.get(epoch as usize - 1).map(|p| &p.doing);
        let submitted = |epoch| world.flights.iter().filter(|f| f.epoch == epoch).count();
        let last = world.processes.last();
        let others = || world.unproven.iter().filter(|u| u.epoch.0 != world.current());
        match action {
            Action::Grant { .. } => world.current() < self.epochs && !world.released,
            Action::Begin { epoch } => world
                .processes
                .get(epoch as usize - 1)
                .is_some_and(|p| p.doing == Doing::Draining && world.drained(epoch, p.host, self.broken)),
            Action::Execute { epoch } => matches!(doing(epoch), Some(Doing::Asking { .. })),
            Action::Answer { epoch } => matches!(doing(epoch), Some(Doing::Answered { .. })),
            Action::LoseAnswer { epoch } => {
                world.lost_answers < self.lost_answers && matches!(doing(epoch), Some(Doing::Answered { .. }))
            }
            Action::LoseCommand { epoch, .. } => {
                world.lost_answers < self.lost_answers && matches!(doing(epoch), Some(Doing::Asking { .. }))
            }
            Action::Submit { epoch } => {
                matches!(doing(epoch), Some(Doing::Active { .. })) && submitted(epoch) < self.writes && !world.released
            }
            Action::Arrive { flight } => world.flights.get(flight).is_some_and(|f| f.what != Cargo::Accepted),
            Action::Land { flight } => world.flights.get(flight).is_some_and(|f| f.what == Cargo::Accepted),
            Action::Die { epoch } => doing(epoch).is_some_and(|d| *d != Doing::Over),
            Action::Report => !world.reported && last.is_some_and(|p| matches!(p.doing, Doing::Active { .. })),
            Action::MoveOn => {
                world.reported && !world.released && world.moved_on < world.current() && others().all(|u| u.fenced)
            }
            Action::Release => {
                let fenced_suffices = self.broken.breaks(Mutation::ReleaseWhileUnproven);
                let active = last.is_some_and(|p| matches!(p.doing, Doing::Active { .. }));
                let idle = submitted(world.current()) == 0;
                let clear = others().all(|u| fenced_suffices && u.fenced);
                world.reported && !world.released && active && idle && clear
            }
            Action::LosePower => world.power_losses < self.power_losses,
            Action::StrangerRegisters { host } => {
                world.strangers < self.strangers && world.lun.key_of(path(host)).is_none()
            }
        }
    }

    fn acts_without(&self, host: usize) -> bool {
        self.mixed && host == 0
    }

    fn begin(&self, world: &mut World, epoch: u32) {
        let broken = self.broken;
        let Some(process) = world.process(epoch) else { return };
        let host = process.host;
        if self.acts_without(host) {
            process.doing = Doing::Active { taken: Taken::Unclear };
            return;
        }
        let seizure = Seizure::new(key(epoch, host), broken);
        let command = seizure.begin();
        process.doing = Doing::Asking { seizure, command };
        let in_flight = world.flights.iter().filter(|f| f.host == host && f.epoch != epoch).count();
        world.check(properties::registers_after_drain(Epoch(epoch), in_flight));
    }

    fn arrive(world: &mut World, at: usize) {
        let flight = world.flights.remove(at);
        match flight.what {
            Cargo::Orphan(OrphanCommand(command)) => drop(world.execute(flight.host, command)),
            Cargo::Write if world.lun.admits(path(flight.host)) => {
                world.fly(Flight { what: Cargo::Accepted, ..flight });
            }
            // RESERVATION CONFLICT: whoever hears it has been shut out.
            _ => world.end(flight.epoch),
        }
    }
}

impl Model for Bounds {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World {
            lun: Lun::new(self.set, self.persists),
            processes: Vec::new(),
            flights: Vec::new(),
            unproven: Vec::new(),
            reported: false,
            moved_on: 0,
            released: false,
            power_losses: 0,
            lost_answers: 0,
            strangers: 0,
            violation: None,
        }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if world.violation.is_some() {
            return;
        }
        let hosts = || 0..self.hosts;
        let flights = || 0..world.flights.len();
        let of_epoch = (1..=world.current()).flat_map(|epoch| {
            [
                Action::Begin { epoch },
                Action::Execute { epoch },
                Action::Answer { epoch },
                Action::LoseAnswer { epoch },
                Action::LoseCommand { epoch, for_good: false },
                Action::LoseCommand { epoch, for_good: true },
                Action::Submit { epoch },
                Action::Die { epoch },
            ]
        });
        let all = hosts()
            .map(|host| Action::Grant { host })
            .chain(of_epoch)
            .chain(flights().flat_map(|flight| [Action::Arrive { flight }, Action::Land { flight }]))
            .chain([Action::Report, Action::MoveOn, Action::Release, Action::LosePower])
            .chain(hosts().map(|host| Action::StrangerRegisters { host }));
        actions.extend(all.filter(|action| self.is_allowed(world, *action)));
    }

    fn next_state(&self, before: &World, action: Action) -> Option<World> {
        let mut world = before.clone();
        match action {
            Action::Grant { host } => {
                world.processes.push(Process { host, doing: Doing::Draining });
                world.reported = false;
                let epoch = Epoch(world.current());
                let needs_reservation = !self.acts_without(host);
                let host = host_identity(host);
                world.unproven.push(Unproven { epoch, host, needs_reservation, held_lock: false, fenced: false });
            }
            Action::Begin { epoch } => self.begin(&mut world, epoch),
            Action::Execute { epoch } => {
                let process = world.process(epoch)?;
                let (host, Doing::Asking { seizure, command }) = (process.host, process.doing.clone()) else {
                    return None;
                };
                let answer = world.execute(host, command);
                world.process(epoch)?.doing = Doing::Answered { seizure, answer };
            }
            Action::Answer { epoch } => {
                let Doing::Answered { seizure, answer } = world.process(epoch)?.doing.clone() else { return None };
                world.step(epoch, seizure, answer);
            }
            Action::LoseAnswer { epoch } => {
                world.lost_answers += 1;
                let Doing::Answered { seizure, .. } = world.process(epoch)?.doing.clone() else { return None };
                world.step(epoch, seizure, ReservationAnswer::Unknown { reason: String::new() });
            }
            Action::LoseCommand { epoch, for_good } => {
                world.lost_answers += 1;
                let process = world.process(epoch)?;
                let (host, Doing::Asking { seizure, command }) = (process.host, process.doing.clone()) else {
                    return None;
                };
                if !for_good {
                    world.fly(Flight { epoch, host, what: Cargo::Orphan(OrphanCommand(command)) });
                }
                world.step(epoch, seizure, ReservationAnswer::Unknown { reason: String::new() });
            }
            Action::Submit { epoch } => {
                let host = world.process(epoch)?.host;
                world.fly(Flight { epoch, host, what: Cargo::Write });
            }
            Action::Arrive { flight } => Self::arrive(&mut world, flight),
            Action::Land { flight } => {
                let flight = world.flights.remove(flight);
                world.land(flight.epoch);
            }
            Action::Die { epoch } => world.end(epoch),
            Action::Report => {
                let Doing::Active { taken } = world.processes.last()?.doing else { return None };
                world.report(taken, self.broken);
            }
            Action::MoveOn => world.moved_on = world.current(),
            Action::Release => world.release(),
            Action::LosePower => {
                world.power_losses += 1;
                world.lun.lose_power();
                world.flights.retain(|flight| flight.what != Cargo::Accepted);
            }
            Action::StrangerRegisters { host } => {
                world.strangers += 1;
                let register = ReservationCommand::Register { existing: None, key: STRANGER };
                let _ = world.lun.execute(path(host), register);
            }
        }
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(SAFE, |_, world: &World| world.violation.is_none()),
            Property::sometimes("a target moves on over a fenced epoch", |_, world: &World| {
                world.unproven.iter().any(|u| u.fenced) && world.moved_on > 1
            }),
            Property::sometimes("a third epoch takes over from the second", |_, world: &World| {
                world.processes.last().is_some_and(|p| p.doing == Doing::Active { taken: Taken::Preempted(Epoch(2)) })
            }),
            Property::sometimes("a volume is given up", |_, world: &World| world.released),
        ]
    }
}
