//! Numbers of things in sentences, so that no message speaks of "1 epochs".

/// `1 agent`, `2 agents`: for nouns that take an s.
#[must_use]
pub fn count(number: u64, noun: &str) -> String {
    format!("{number} {}", inflect(number, noun))
}

/// `agent`, `agents`: the noun alone, where the number stands elsewhere.
#[must_use]
pub fn inflect(number: u64, noun: &str) -> String {
    if number == 1 { noun.to_owned() } else { format!("{noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thing_is_not_spoken_of_as_several() {
        assert_eq!([0, 1, 2].map(|number| count(number, "epoch")), ["0 epochs", "1 epoch", "2 epochs"]);
        assert_eq!([1, 3].map(|number| inflect(number, "agent")), ["agent", "agents"]);
    }
}
