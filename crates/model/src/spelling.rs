//! The nearest word that is known. Whoever mistypes a key is told the one that he meant.

/// Of the words quoted as `expected`, the one nearest to the first quoted word, as serde puts it: "unknown field `a`, expected one of
/// `b`, `c`". `None` if nothing is near.
///
/// ```
/// let message = "unknown field `sorce`, expected one of `name`, `source`";
/// assert_eq!(tanist_model::spelling::nearest(message), Some("source"));
/// ```
#[must_use]
pub fn nearest(message: &str) -> Option<&str> {
    if !message.starts_with("unknown ") {
        return None;
    }
    let mut quoted = message.split('`').skip(1).step_by(2);
    let typed = quoted.next()?;
    let (distance, word) = quoted.map(|word| (distance(typed, word), word)).min_by_key(|(distance, _)| *distance)?;
    // Beyond a third of its letters it is another word.
    (distance <= 1 + typed.chars().count() / 3).then_some(word)
}

/// Letters to insert, take away or replace (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut above_left = i;
        let mut left = i + 1;
        for (cell, y) in row.iter_mut().skip(1).zip(&b) {
            let above = *cell;
            *cell = (above_left + usize::from(x != *y)).min(left + 1).min(above + 1);
            (above_left, left) = (above, *cell);
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_known_word_is_found_if_one_is_near() {
        assert_eq!(nearest("unknown field `lisen`, expected one of `server`, `listen`"), Some("listen"));
        assert_eq!(nearest("unknown variant `wrtten`, expected `off` or `written`"), Some("written"));
        assert_eq!(nearest("unknown field `colour`, expected one of `name`, `source`"), None);
        assert_eq!(nearest("missing field `name`"), None);
        assert_eq!((distance("abc", "abc"), distance("", "ab"), distance("kitten", "sitting")), (0, 2, 3));
    }
}
