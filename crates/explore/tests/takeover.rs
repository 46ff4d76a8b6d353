//! Every order of a whole takeover, by the machines of the product; and that each rule is missed when it is broken.

use std::time::Duration;

use tanist_explore::takeover::worlds::{bounded, broken, smallest};
use tanist_explore::takeover::{Bounds, Sights};
use tanist_explore::{Search, explore, explore_within};
use tanist_protocol::mutation::Mutations;

#[test]
fn no_order_of_a_takeover_violates_anything() {
    for world in bounded() {
        let explored = explore(world.bounds);
        println!("{}: {} states in {:?}", world.name, explored.states, explored.took);
        assert_eq!(explored.violation, None, "{}", world.name);
        assert_eq!(explored.unseen, Vec::<String>::new(), "{}", world.name);
    }
}

#[test]
fn each_rule_is_missed_when_it_is_broken() {
    for (rule, bounds) in broken() {
        let violation = explore(bounds).violation.unwrap_or_else(|| panic!("{rule:?} is not noticed"));
        println!("{rule:?}: {}", violation.replace('\n', "; "));
    }
}

/// The steps that are taken as one hide nothing: with each by itself, the same is published, and the same rule is missed.
#[test]
fn a_step_is_as_large_as_it_can_be_and_no_larger() {
    let one_by_one = Bounds { stepwise: true, ..smallest() };
    let explored = explore(one_by_one.clone());
    assert_eq!(explored.violation, None);
    assert_eq!(explored.unseen, Vec::<String>::new());
    for (rule, bounds) in broken().into_iter().filter(|(_, bounds)| bounds.left == one_by_one.left) {
        let each = Bounds { broken: Mutations::breaking(rule), sights: Sights::default(), ..one_by_one.clone() };
        let found =
            |explored: tanist_explore::Explored| explored.violation.map(|v| v.lines().next().map(str::to_owned));
        assert_eq!(found(explore(bounds)), found(explore(each)), "{rule:?}");
    }
}

/// In whatever order they are looked at, the states are the same; and what was not looked at is not called seen.
#[test]
fn the_order_of_a_search_makes_no_difference() {
    for world in bounded().into_iter().take(1) {
        let broad = explore(world.bounds.clone());
        let deep = explore_within(world.bounds.clone(), Search::Depth, Duration::from_secs(3600));
        assert!(broad.closed && deep.closed);
        assert_eq!(broad.states, deep.states);
        assert!(!explore_within(world.bounds, Search::Depth, Duration::ZERO).closed);
    }
}
