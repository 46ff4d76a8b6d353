//! What a seed decides before anything happens: how many hosts, what the storage can do, which faults are in the air.

use tanist_model::policy::SourceMode;
use tanist_model::run::STALL_WINDOW_BYTES;

use crate::lun::{CommandSet, Lun};
use crate::pairs::{DRAINING, MachineState};
use crate::rng::Rng;

/// How many blocks a writer may be ahead of its last committed checkpoint: the stall window.
pub const WINDOW_BLOCKS: usize = 4;

/// One block of a volume, in bytes, as the gate lets it in: such that a window is as many bytes as the protocol believes.
pub const BLOCK_BYTES: u64 = STALL_WINDOW_BYTES / WINDOW_BLOCKS as u64;

/// How messages travel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transport {
    /// In order; a connection that loses anything is lost as a whole.
    Ordered,
    /// Each message by itself: lost, late, twice, out of order.
    Chaotic,
}

/// The world that a seed makes.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub agents: usize,
    /// The host of each agent.
    pub hosts: Vec<usize>,
    /// The storage that each agent reaches: source, target.
    pub reach: Vec<(bool, bool)>,
    /// The hosts are clones of one image: one machine id, and only their boot ids differ.
    pub cloned_hosts: bool,
    pub replications: usize,
    pub blocks: usize,
    pub source_mode: SourceMode,
    pub kernel_lock: bool,
    /// The storage locks a file beside the volume instead of the volume's own descriptor.
    pub lock_beside: bool,
    pub target_snapshots: bool,
    /// The targets are units that can be reserved, in this language.
    pub reserving: Option<CommandSet>,
    /// Which agents can reserve them.
    pub can_reserve: Vec<bool>,
    /// Reservations stand through a loss of power of the storage.
    pub units_persist: bool,
    /// Sources and targets are behind one copy manager, which copies on an order and goes on by itself.
    pub array: bool,
    pub transport: Transport,
    /// How many faults there are.
    pub faults: u32,
    /// Mean time between two operator commands, in microseconds.
    pub operator_pause_us: u64,
    /// When the faults stop and everything heals.
    pub faults_end_us: u64,
    /// The states in which faults lie in wait for a machine.
    pub ambush: Vec<MachineState>,
    pub restores: bool,
    pub rival_servers: bool,
    /// Who carries others says things in their names.
    pub lying_relays: bool,
    pub slow_writes: bool,
    /// How often a volume takes seconds to be closed.
    pub stuck_closes_per_mille: u64,
    /// Nothing fails but the network around one agent at a time, and some peer always reaches it and the server.
    pub cuts_only: bool,
    /// All clocks show the same.
    pub one_clock: bool,
    /// Messages take up to 200 ms, and so many packets of a thousand are lost.
    pub rough_network: Option<u64>,
}

impl Scenario {
    /// The scenario of a seed.
    #[must_use]
    pub fn of(rng: &mut Rng) -> Self {
        let ambush = if rng.chance(500) { MachineState::fleeting(rng) } else { Vec::new() };
        let (hosts, reach) = if rng.chance(350) { networked(rng) } else { direct(rng) };
        // From chance of its own: a world without reservations is what it was before there were any.
        let reserving = reserving(&mut rng.clone());
        let units = reserving.is_some();
        let mut mixed = rng.clone();
        let can_reserve = hosts.iter().map(|_| mixed.chance(850)).collect();
        let array = mixed.chance(350);
        Self {
            agents: hosts.len(),
            hosts,
            reach,
            cloned_hosts: rng.chance(250),
            replications: 1 + usize::from(rng.chance(250)),
            blocks: 6 + rng.index(12),
            source_mode: [SourceMode::Snapshot, SourceMode::Snapshot, SourceMode::Sealed, SourceMode::Live]
                [rng.index(4)],
            kernel_lock: rng.chance(700) || units,
            lock_beside: rng.chance(150) && !units,
            reserving,
            can_reserve,
            units_persist: rng.clone().chance(700),
            target_snapshots: rng.chance(500),
            array,
            transport: if rng.chance(250) { Transport::Chaotic } else { Transport::Ordered },
            faults: 20 + u32::try_from(rng.below(25)).unwrap_or_default(),
            operator_pause_us: rng.between(300_000, 2_500_000),
            faults_end_us: rng.between(12_000_000, 40_000_000),
            // Where I/O never hangs, nobody waits for it.
            slow_writes: rng.chance(300) || ambush.contains(&DRAINING),
            restores: rng.chance(if ambush.contains(&DRAINING) { 500 } else { 150 }),
            ambush,
            stuck_closes_per_mille: 15,
            lying_relays: rng.clone().chance(300),
            rival_servers: rng.chance(250),
            cuts_only: false,
            one_clock: false,
            rough_network: None,
        }
    }

    /// The units of the targets.
    #[must_use]
    pub fn units(&self) -> Vec<Lun> {
        self.reserving.iter().flat_map(|set| vec![Lun::new(*set, self.units_persist); self.replications]).collect()
    }

    /// Whether some agent reaches only one of the two storage systems.
    #[must_use]
    pub fn is_networked(&self) -> bool {
        self.reach.iter().any(|reach| *reach != (true, true))
    }

    /// The same world without faults and without an operator who interferes.
    #[must_use]
    pub fn calm(mut self) -> Self {
        (self.faults, self.transport, self.restores) = (0, Transport::Ordered, false);
        (self.rival_servers, self.ambush, self.faults_end_us) = (false, Vec::new(), 60_000_000);
        self
    }

    /// A world without an operator who interferes, in which only the network is cut.
    #[must_use]
    pub fn cut(self) -> Self {
        Self { faults: 20, cuts_only: true, ..self.calm() }
    }
}

fn reserving(rng: &mut Rng) -> Option<CommandSet> {
    rng.draw();
    let set = if rng.chance(500) { CommandSet::Scsi } else { CommandSet::Nvme };
    rng.chance(350).then_some(set)
}

/// Every agent reaches both storage systems.
fn direct(rng: &mut Rng) -> (Vec<usize>, Vec<(bool, bool)>) {
    let hosts = match rng.below(4) {
        0 => vec![0, 0, 0],
        1 => vec![0, 0, 1],
        _ => vec![0, 1, 2],
    };
    (hosts, vec![(true, true); 3])
}

/// Two agents on each side; sometimes one of them reaches both.
fn networked(rng: &mut Rng) -> (Vec<usize>, Vec<(bool, bool)>) {
    let hosts = if rng.chance(300) { vec![0, 0, 1, 1] } else { vec![0, 1, 2, 3] };
    let mut reach = vec![(true, false), (true, false), (false, true), (false, true)];
    if rng.chance(400) {
        reach[rng.index(4)] = (true, true);
    }
    (hosts, reach)
}
