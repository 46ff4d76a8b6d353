//! From a history that violates a property to a short one: what it does not need is left out (delta debugging; Zeller and Hildebrandt,
//! "Simplifying and isolating failure-inducing input", IEEE TSE 28(2), 2002).

use std::collections::BTreeSet;

use crate::injection::Injection;

/// Leaves out what is not needed: halves first, then smaller pieces, until no single one can go. Each question runs the world once.
///
/// `violates`: whether the property is violated with these alone. It must be with all.
#[must_use]
pub fn shrink(all: &[Injection], violates: impl Fn(&BTreeSet<Injection>) -> bool) -> BTreeSet<Injection> {
    let mut kept: Vec<Injection> = all.to_vec();
    let mut size = kept.len().div_ceil(2);
    while size > 0 {
        let before = kept.len();
        kept = without_pieces(kept, size, &violates);
        let stands = kept.len() == before;
        size = if stands { size / 2 } else { size.min(kept.len()) };
    }
    kept.into_iter().collect()
}

/// Tries once to leave out each piece of this size.
fn without_pieces(
    mut kept: Vec<Injection>,
    size: usize,
    violates: &impl Fn(&BTreeSet<Injection>) -> bool,
) -> Vec<Injection> {
    let mut from = 0;
    while from < kept.len() {
        let to = (from + size).min(kept.len());
        let rest: BTreeSet<Injection> = kept[..from].iter().chain(&kept[to..]).copied().collect();
        if violates(&rest) {
            kept.drain(from..to);
        } else {
            from = to;
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn all() -> Vec<Injection> {
        (1..=40).flat_map(|n| [Injection::Fault(n), Injection::Command(n)]).collect()
    }

    #[test]
    fn what_is_needed_stays_and_nothing_else() {
        let needed = BTreeSet::from([Injection::Fault(3), Injection::Fault(31), Injection::Command(17)]);
        let asked = Cell::new(0);
        let short = shrink(&all(), |with| {
            asked.set(asked.get() + 1);
            needed.is_subset(with)
        });
        assert_eq!(short, needed);
        assert!(asked.get() < 150, "{} runs", asked.get());
    }

    #[test]
    fn one_of_two_ways_to_the_same_end_is_enough() {
        let either = [Injection::Fault(1), Injection::Fault(40)];
        let short = shrink(&all(), |with| either.iter().any(|one| with.contains(one)));
        assert_eq!(short.len(), 1);
    }

    #[test]
    fn a_violation_without_any_fault_needs_none() {
        assert!(shrink(&all(), |_| true).is_empty());
        assert!(shrink(&[], |_| true).is_empty());
    }
}
