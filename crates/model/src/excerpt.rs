//! As much of a foreign text as belongs into a sentence.
//!
//! An error that repeats what it refuses repeats what somebody else chose: a name of a megabyte, a line break that makes one entry of a
//! log look like two. It goes on to logs, answers and terminals, so it is cut and calmed where it is made.

/// Characters of a foreign text that a sentence repeats.
const LONGEST_CHARS: usize = 240;

/// The text on one line and without control characters; of a long one, the beginning.
///
/// ```
/// use tanist_model::excerpt::excerpt;
///
/// assert_eq!(excerpt("san-a/vol1"), "san-a/vol1");
/// assert_eq!(excerpt("one\ntwo"), "one two");
/// assert!(excerpt(&"x".repeat(1 << 20)).ends_with("x..."));
/// ```
#[must_use]
pub fn excerpt(text: &str) -> String {
    let mut characters = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut beginning: String = characters.by_ref().take(LONGEST_CHARS).collect();
    if characters.next().is_some() {
        beginning.push_str("...");
    }
    beginning
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_is_repeated_whole_and_what_does_not_shows_it() {
        let fits = "ü".repeat(LONGEST_CHARS);
        assert_eq!(excerpt(&fits), fits);
        assert_eq!(excerpt(&format!("{fits}ü")), format!("{fits}..."));
        assert_eq!(excerpt("a\u{1b}[31m\r\nb"), "a [31m  b");
    }
}
