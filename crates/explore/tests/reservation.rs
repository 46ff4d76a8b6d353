//! Every order of a few takeovers by reservation; and that each rule is missed when it is broken.

use tanist_explore::explore;
use tanist_explore::reservation::Bounds;
use tanist_explore::worlds::{bounded, plain};
use tanist_protocol::mutation::{Mutation, Mutations};

#[test]
fn no_order_of_takeovers_lets_an_earlier_epoch_write() {
    for world in bounded() {
        let explored = explore(world.bounds.clone());
        println!("{}: {} states in {:?}", world.name, explored.states, explored.took);
        assert_eq!(explored.violation, None, "{}", world.name);
        // Where nothing lasts, or a predecessor wrote without, the target waits for proof: that is the point.
        if world.bounds.persists && !world.bounds.mixed && world.bounds.epochs > 2 {
            assert_eq!(explored.unseen, Vec::<String>::new(), "{}", world.name);
        }
    }
}

/// In the smallest world that has what the rule is about.
fn world_of(mutation: Mutation) -> Bounds {
    let small = Bounds { epochs: 2, ..plain() };
    match mutation {
        Mutation::ForeignKeyPreempted | Mutation::RegisterAndIgnore => Bounds { strangers: 1, ..small },
        Mutation::ReserveProves => Bounds { mixed: true, ..small },
        Mutation::UnneededCountsAsFenced => Bounds { hosts: 3, mixed: true, ..plain() },
        _ => small,
    }
}

#[test]
fn each_rule_is_missed_when_it_is_broken() {
    for mutation in Mutation::OF_RESERVATIONS {
        let sound = explore(world_of(*mutation));
        assert_eq!(sound.violation, None, "the world of {mutation:?} is sound");
        let broken = explore(Bounds { broken: Mutations::breaking(*mutation), ..world_of(*mutation) });
        let violation = broken.violation.unwrap_or_else(|| panic!("{mutation:?} is not noticed"));
        println!("{mutation:?}: {}", violation.replace('\n', "; "));
    }
}
