//! What makes the worlds of takeovers smaller hides nothing: explored with it and without, the same is committed, written and remembered,
//! in every combination of the three that there is; the same is seen; and the same rules are missed when they are broken.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use stateright::Model;
use tanist_explore::explore;
use tanist_explore::takeover::worlds::{broken, smallest};
use tanist_explore::takeover::{Bounds, Left, Memory, Sight, Sights, World};

fn hash_of(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// What a walk through a world came by.
#[derive(PartialEq, Debug)]
struct Walk {
    /// The store, the storage and what the properties go by: all that a property can be about.
    visible: HashSet<u64>,
    sights: Vec<bool>,
}

/// Walks through a world; two states are one if they are known by the same. Gives the number of states too.
fn walk(bounds: &Bounds, known_by: impl Fn(&World) -> u64) -> (Walk, usize) {
    let bounds = Bounds { sights: Sights::default(), ..bounds.clone() };
    let (mut seen, mut visible) = (HashSet::new(), HashSet::new());
    let mut waiting = bounds.init_states();
    let mut actions = Vec::new();
    while let Some(world) = waiting.pop() {
        if !seen.insert(known_by(&world)) {
            continue;
        }
        assert!(world.violation().is_none(), "{:?}", world.violation());
        visible.insert(hash_of((&world.store, &world.storage, &world.ledger)));
        bounds.actions(&world, &mut actions);
        let next = actions.drain(..).filter_map(|action| bounds.next_state(&world, action));
        waiting.extend(next.filter(|next| bounds.within_boundary(next)));
    }
    // What is put first rests on it.
    assert!(!bounds.sights.saw(Sight::EndedOnTheLiving), "{:?}", bounds.left);
    let sights = Sight::ALL.iter().map(|sight| bounds.sights.saw(*sight)).collect();
    (Walk { visible, sights }, seen.len())
}

fn with(left: Left) -> Bounds {
    Bounds { left, ..smallest() }
}

/// Worlds in which every step that is put first occurs.
fn worlds() -> Vec<Bounds> {
    let nothing = Left::default();
    vec![
        with(Left { runs: 1, crashes: 1, ..nothing }),
        with(Left { runs: 1, servers: 1, ..nothing }),
        with(Left { crashes: 1, servers: 1, ..nothing }),
        Bounds { agents: 3, ..with(Left { crashes: 1, ..nothing }) },
        Bounds { agents: 3, epochs: 3, ..with(Left { runs: 1, servers: 1, ..nothing }) },
        Bounds { agents: 1, epochs: 3, ..with(Left { crashes: 2, ..nothing }) },
    ]
}

#[test]
fn steps_that_are_put_first_hide_nothing() {
    for bounds in worlds() {
        let (every_order, all) = walk(&bounds, |world| hash_of(world));
        let (reduced, fewer) = walk(&Bounds { reduced: true, ..bounds.clone() }, |world| hash_of(world));
        println!("{:?}: {all} states, and {fewer} of them; {} are visible", bounds.left, reduced.visible.len());
        assert!(fewer < all, "nothing is put first in {:?}", bounds.left);
        assert_eq!(every_order, reduced, "{:?}", bounds.left);
    }
}

/// Known by all that is said of it, with nothing remembered, a state has no other future than known by its print.
#[test]
fn what_is_left_out_of_a_print_leads_nowhere_else() {
    let nothing = Left::default();
    for left in [Left { runs: 1, crashes: 1, ..nothing }, Left { runs: 1, servers: 1, ..nothing }] {
        let bounds = with(left);
        let (printed, fewer) = walk(&bounds, |world| hash_of(world));
        let forgetful = Bounds { memory: Memory::of_nothing(), ..bounds };
        let (whole, all) = walk(&forgetful, |world| hash_of(format!("{world:?}")));
        println!("{left:?}: {all} states, and {fewer} by their prints");
        assert!(fewer < all);
        assert_eq!(whole, printed, "{left:?}");
    }
}

#[test]
fn each_rule_is_missed_where_steps_are_put_first() {
    for (rule, bounds) in broken() {
        let violation = explore(Bounds { reduced: true, ..bounds }).violation;
        let violation = violation.unwrap_or_else(|| panic!("{rule:?} is not noticed"));
        println!("{rule:?}: {}", violation.replace('\n', "; "));
    }
}
