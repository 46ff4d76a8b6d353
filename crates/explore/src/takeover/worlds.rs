//! Which worlds of whole takeovers are explored, and why they are as large as they are.
//!
//! Two agents, because there is then a predecessor and a successor, and a survey has somebody to ask; two epochs, because all that is known
//! to go wrong goes wrong between one epoch and the next; two snapshots where a step on to the next one can go wrong; two blocks
//! where a checkpoint in the middle can. Each fault comes once, and at every moment. A second fault of the same kind meets
//! a third epoch, and a third epoch what two have left unproven: that, a third agent and a server that changes meanwhile are in the
//! full form.

use tanist_protocol::mutation::{Mutation, Mutations};

use super::{Bounds, Left, Memory, Sight, Sights, Succeeded};

/// A world with its name.
#[derive(Clone, Debug)]
pub struct TakeoverWorld {
    pub name: &'static str,
    pub bounds: Bounds,
}

const NOTHING_FAILS: Left = Left { runs: 0, crashes: 0, reboots: 0, cuts: 0, servers: 0, pauses: 0, echoes: 0 };

/// Two agents, two epochs, one block, and nothing fails.
#[must_use]
pub fn smallest() -> Bounds {
    Bounds {
        agents: 2,
        blocks: 1,
        epochs: 2,
        left: NOTHING_FAILS,
        succeeded: Succeeded::Either,
        from_the_start: false,
        lock_beside: false,
        cloned_hosts: false,
        stepwise: false,
        reduced: false,
        broken: Mutations::NONE,
        wanted: &[Sight::Published],
        sights: Sights::default(),
        memory: Memory::default(),
    }
}

fn with(left: Left, wanted: &'static [Sight]) -> Bounds {
    Bounds { left, wanted, ..smallest() }
}

/// The worlds that every test run walks through.
#[must_use]
pub fn bounded() -> Vec<TakeoverWorld> {
    use Sight::{BoundAfterProof, Deposed, LateWrite, Proof, Published, PublishedWithoutProof, SteppedDown, Takeover};
    let world = |name, bounds| TakeoverWorld { name, bounds };
    let died = &[Published, Takeover, PublishedWithoutProof, LateWrite, SteppedDown];
    vec![
        world(
            "nothing fails, two snapshots of two blocks",
            Bounds { blocks: 2, from_the_start: true, ..with(Left { runs: 1, ..NOTHING_FAILS }, &[Published]) },
        ),
        world(
            "a process dies, two snapshots of two blocks",
            Bounds { blocks: 2, ..with(Left { runs: 1, crashes: 1, ..NOTHING_FAILS }, died) },
        ),
        world(
            "a host loses power, two snapshots",
            with(Left { runs: 1, reboots: 1, ..NOTHING_FAILS }, &[Takeover, Proof, BoundAfterProof]),
        ),
        world(
            "a server is succeeded, two snapshots",
            with(Left { runs: 1, servers: 1, ..NOTHING_FAILS }, &[Published, Deposed]),
        ),
        world(
            "a connection is cut",
            with(Left { cuts: 1, ..NOTHING_FAILS }, &[Published, Takeover, PublishedWithoutProof, SteppedDown]),
        ),
        world(
            "a process of a lone agent dies, twice",
            Bounds { agents: 1, epochs: 3, ..with(Left { runs: 1, crashes: 2, ..NOTHING_FAILS }, &[Takeover, Proof]) },
        ),
    ]
}

/// What is added before a release.
#[must_use]
pub fn full() -> Vec<TakeoverWorld> {
    use Sight::{Deposed, LateWrite, Published, ServerInTakeover, Takeover};
    let world = |name, bounds| TakeoverWorld { name, bounds };
    let both = Left { crashes: 1, servers: 1, ..NOTHING_FAILS };
    let three = |left, wanted| Bounds { agents: 3, epochs: 3, reduced: true, ..with(left, wanted) };
    vec![
        world(
            "every commit and every word a step: a server is succeeded",
            Bounds { stepwise: true, ..with(Left { servers: 1, ..NOTHING_FAILS }, &[Published, Deposed]) },
        ),
        world(
            "every commit and every word a step: a process dies",
            Bounds { stepwise: true, ..with(Left { crashes: 1, ..NOTHING_FAILS }, &[Published, Takeover, LateWrite]) },
        ),
        world("time passes", with(Left { pauses: 1, ..NOTHING_FAILS }, &[Published, Takeover])),
        world("a process dies, and a server is succeeded", with(both, &[Takeover, ServerInTakeover, Deposed])),
        world(
            "three agents, three epochs, three snapshots: a process dies",
            three(Left { runs: 2, crashes: 1, ..NOTHING_FAILS }, &[Takeover, LateWrite]),
        ),
        world(
            "three agents: a process dies, and a server is succeeded",
            Bounds { epochs: 2, ..three(both, &[Takeover, LateWrite, ServerInTakeover, Deposed]) },
        ),
        world(
            "three agents, three epochs, three snapshots: a process dies, and a server is succeeded",
            three(Left { runs: 2, ..both }, &[Takeover, LateWrite, ServerInTakeover, Deposed]),
        ),
    ]
}

/// The rules that are missed here when they are broken, each with the smallest world that has what it is about.
#[must_use]
pub fn broken() -> Vec<(Mutation, Bounds)> {
    use Mutation as M;
    let nothing = NOTHING_FAILS;
    let of = |left| with(left, &[]);
    let crash = Left { crashes: 1, ..nothing };
    let lone = Bounds { agents: 1, from_the_start: true, ..of(Left { pauses: 1, ..nothing }) };
    let worlds = vec![
        (M::EpochResumed, of(crash)),
        (M::ProofNotAwaited, of(Left { runs: 1, ..crash })),
        (M::ProofClearsAll, of(Left { reboots: 1, ..crash })),
        (M::ActivateWithoutGrant, lone.clone()),
        (M::GrantNotBound, Bounds { left: Left { pauses: 1, echoes: 1, ..nothing }, ..lone }),
        (M::DrainedNotFinal, Bounds { from_the_start: true, ..of(Left { pauses: 1, echoes: 1, ..nothing }) }),
        (M::LockOnAnotherFile, Bounds { agents: 1, lock_beside: true, ..of(crash) }),
        (M::BootIdIgnored, Bounds { cloned_hosts: true, ..of(crash) }),
        (M::SnapshotUsedUnbound, of(nothing)),
        (M::CheckpointBeforeFlush, of(nothing)),
        (M::CheckpointUnderOldEpoch, of(Left { cuts: 1, ..nothing })),
        (M::PersistAfterSend, of(Left { servers: 1, ..nothing })),
        (M::RankIgnored, of(nothing)),
        (M::PeerVerdictAsProof, of(crash)),
        (M::RefusedAsProof, of(crash)),
    ];
    worlds.into_iter().map(|(rule, bounds)| (rule, Bounds { broken: Mutations::breaking(rule), ..bounds })).collect()
}

/// The same rules in the large form of their worlds: three agents, epochs and snapshots, and a server that is succeeded beside the rest. Not
/// beside a process that dies and a host that loses power: a third kind of fault makes that world too large to be searched breadth first.
#[must_use]
pub fn broken_at_large() -> Vec<(Mutation, Bounds)> {
    let large = |bounds: Bounds| {
        let left = Left { runs: 2, servers: u8::from(bounds.left.reboots == 0), ..bounds.left };
        Bounds { agents: 3, epochs: 3, left, reduced: true, ..bounds }
    };
    broken().into_iter().map(|(rule, bounds)| (rule, large(bounds))).collect()
}
