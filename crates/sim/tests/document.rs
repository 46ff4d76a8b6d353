//! `docs/correctness.md` says what is promised and checked; here it is held to the code.

use tanist_model::replication::FencingTier;
use tanist_protocol::invariants::Property;
use tanist_protocol::mutation::Mutation;

const PAGE: &str = include_str!("../../../docs/correctness.md");

#[test]
fn the_page_gives_the_promise_in_the_words_of_the_product() {
    for tier in [FencingTier::F1, FencingTier::F2, FencingTier::F3] {
        let line = format!("- **{tier:?}.** {}", tier.promise());
        assert!(PAGE.lines().any(|l| l == line), "the page does not say: {line}");
    }
}

#[test]
fn the_page_names_every_property_and_nothing_else() {
    let named: Vec<&str> = PAGE.lines().filter_map(|line| line.strip_prefix("| ")?.split(' ').next()).collect();
    let named: Vec<&str> = named.into_iter().filter(|word| word.starts_with(['S', 'L'])).collect();
    let checked: Vec<String> = Property::ALL.iter().map(|property| format!("{property:?}")).collect();
    assert_eq!(named, checked);
}

#[test]
fn the_page_names_every_rule_that_is_switched_off() {
    for mutation in Mutation::ALL.iter().chain(Mutation::OF_RESERVATIONS).chain(Mutation::MADE_UP_FOR) {
        assert!(PAGE.contains(&format!("`{mutation:?}`")), "{mutation:?}");
    }
}
