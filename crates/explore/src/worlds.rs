//! Which worlds are explored, and why they are as large as they are.
//!
//! Two hosts and three epochs are the smallest world in which all that is known to go wrong does: a successor on another host and one on
//! the same, and a proof that is of the last predecessor only. Every fault happens once, since each is an answer or a state that is
//! forgotten, and forgotten twice is forgotten. The full form has three hosts, and all faults in one world.

use tanist_protocol::mutation::Mutations;
use tanist_sim::lun::CommandSet;

use crate::reservation::Bounds;

/// A world with its name.
#[derive(Clone, Debug)]
pub struct World {
    pub name: &'static str,
    pub bounds: Bounds,
}

/// Two hosts, three epochs, and nothing fails but processes.
#[must_use]
pub fn plain() -> Bounds {
    Bounds {
        set: CommandSet::Scsi,
        persists: true,
        hosts: 2,
        epochs: 3,
        writes: 1,
        power_losses: 0,
        lost_answers: 0,
        strangers: 0,
        mixed: false,
        broken: Mutations::NONE,
    }
}

/// A minute on two cores.
#[must_use]
pub fn bounded() -> Vec<World> {
    let faults = || Bounds { power_losses: 1, lost_answers: 1, strangers: 1, ..plain() };
    vec![
        World { name: "processes die", bounds: plain() },
        World { name: "the same in NVMe", bounds: Bounds { set: CommandSet::Nvme, ..plain() } },
        World { name: "two writes at once", bounds: Bounds { writes: 2, ..plain() } },
        World { name: "one host cannot reserve", bounds: Bounds { mixed: true, strangers: 1, ..plain() } },
        World { name: "two epochs, every fault", bounds: Bounds { epochs: 2, ..faults() } },
        World { name: "a reservation is forgotten", bounds: Bounds { persists: false, power_losses: 1, ..plain() } },
    ]
}

/// What is added before a release.
#[must_use]
pub fn full() -> Vec<World> {
    let faults = || Bounds { power_losses: 1, lost_answers: 1, strangers: 1, ..plain() };
    vec![
        World { name: "three hosts", bounds: Bounds { hosts: 3, strangers: 1, ..plain() } },
        World { name: "every fault", bounds: faults() },
        World { name: "every fault in NVMe", bounds: Bounds { set: CommandSet::Nvme, ..faults() } },
        World { name: "every fault, nothing persists", bounds: Bounds { persists: false, ..faults() } },
        World { name: "every fault, one host cannot reserve", bounds: Bounds { mixed: true, ..faults() } },
        World { name: "answers are lost twice", bounds: Bounds { lost_answers: 2, ..plain() } },
    ]
}
