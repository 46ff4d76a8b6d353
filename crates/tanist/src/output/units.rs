//! Quantities as people read them. Bytes are binary; times are UTC, because logs of several hosts are read side by side.

use std::time::Duration;

use tanist_model::time::Timestamp;

const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];

/// `0 B`, `512 MiB`, `1.5 GiB`: three significant digits, no digits that say nothing.
#[must_use]
pub fn bytes(amount: u64) -> String {
    if amount < 1024 {
        return format!("{amount} B");
    }
    let mut value = amount as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let text = if value < 99.95 { format!("{value:.1}") } else { format!("{value:.0}") };
    format!("{} {}", text.trim_end_matches(".0"), UNITS[unit])
}

/// `48 MiB/s`.
#[must_use]
pub fn rate(bytes_per_second: u64) -> String {
    format!("{}/s", bytes(bytes_per_second))
}

/// `120 ms`, `4.2 s`, `3 min 20 s`, `2 h 5 min`, `4 d 1 h`: two steps at most.
#[must_use]
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0 => format!("{} ms", time.as_millis()),
        1..10 => format!("{:.1} s", (time.as_millis() / 100) as f64 / 10.0).replace(".0 s", " s"),
        10..60 => format!("{seconds} s"),
        60..3600 => two(seconds / 60, "min", seconds % 60, "s"),
        3600..86400 => two(seconds / 3600, "h", seconds % 3600 / 60, "min"),
        _ => two(seconds / 86400, "d", seconds % 86400 / 3600, "h"),
    }
}

fn two(big: u64, big_unit: &str, small: u64, small_unit: &str) -> String {
    if small == 0 { format!("{big} {big_unit}") } else { format!("{big} {big_unit} {small} {small_unit}") }
}

/// A duration of whole seconds.
#[must_use]
pub fn seconds(amount: u64) -> String {
    duration(Duration::from_secs(amount))
}

/// A duration of microseconds; short ones keep their digits.
#[must_use]
pub fn micros(amount: u64) -> String {
    if amount < 1000 { format!("{amount} us") } else { duration(Duration::from_micros(amount)) }
}

/// `3 min 20 s ago`. Clocks of two hosts differ by more than a second's fractions; those are not told.
#[must_use]
pub fn ago(then: Timestamp, now: Timestamp) -> String {
    let age = now.since(then);
    if age < Duration::from_secs(1) { "just now".to_owned() } else { format!("{} ago", duration(age)) }
}

/// `2026-11-22 14:03:22Z`.
#[must_use]
pub fn clock(time: Timestamp) -> String {
    let text = time.to_string();
    match text.split_once('T') {
        Some((day, rest)) => format!("{day} {}Z", rest.get(..8).unwrap_or(rest)),
        None => text,
    }
}

/// `2026-11-22 14:03:22.512Z`.
#[must_use]
pub fn clock_ms(time: Timestamp) -> String {
    let text = time.to_string();
    match text.split_once('T') {
        Some((day, rest)) => format!("{day} {}Z", rest.get(..12).unwrap_or(rest)),
        None => text,
    }
}

/// The first eight digits of a long identity: enough to tell two apart.
#[must_use]
pub fn short(id: &impl ToString) -> String {
    id.to_string().chars().take(8).collect()
}

/// A longer word with so many digits is an identity that a storage system gave.
const LONGEST_WORD: usize = 48;
const DIGITS_OF_AN_IDENTITY: usize = 8;

/// A sentence with the identities in it cut down to beginning and end: `6f3a01bc…800.123456789`. Both ends, because the identities of two
/// volumes of one storage system begin alike.
#[must_use]
pub fn with_short_identities(text: &str) -> String {
    text.split(' ').map(short_identity).collect::<Vec<_>>().join(" ")
}

fn short_identity(word: &str) -> String {
    let bare = word.trim_matches(|sign: char| matches!(sign, '(' | ')' | ',' | ';' | ':' | '.' | '"' | '\''));
    let digits = bare.bytes().filter(u8::is_ascii_digit).count();
    let is_path = bare.starts_with('/');
    if bare.len() <= LONGEST_WORD || digits < DIGITS_OF_AN_IDENTITY || !bare.is_ascii() || is_path {
        return word.to_owned();
    }
    let (beginning, end) = (&bare[..8], &bare[bare.len() - 16..]);
    word.replacen(bare, &format!("{beginning}…{end}"), 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_are_cut_and_everything_else_stays() {
        let host = "0123456789abcdef0123456789abcdef/3f0c7a52-8a64-4ad5-9f0e-2b6f1c1d0a77/";
        let text = format!(
            "h1: it sees another volume as target san-b/vol9: {host}77@1795342800.123456789 instead of {host}78@1795342801.000000001; h2: gone"
        );
        let expected = "h1: it sees another volume as target san-b/vol9: 01234567…342800.123456789 instead of 01234567…342801.000000001; h2: gone";
        assert_eq!(with_short_identities(&text), expected);
        for whole in [
            "tanist replication delete a-name-of-sixty-three-letters-that-somebody-has-chosen-for-it",
            "/srv/a/very/long/path/2026-11-22/0123456789/0123456789/file: no such file",
            "since 2026-11-22T14:03:22.512345Z naa.6001405aaaabbbbccccddddeeee0001",
        ] {
            assert_eq!(with_short_identities(whole), whole);
        }
    }

    #[test]
    fn bytes_are_binary_and_short() {
        let table = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (1536, "1.5 KiB"),
            (512 << 20, "512 MiB"),
            ((1 << 30) - 1, "1 GiB"),
            (5 << 39, "2.5 TiB"),
            (u64::MAX, "16384 PiB"),
        ];
        for (amount, text) in table {
            assert_eq!(bytes(amount), text);
        }
    }

    #[test]
    fn durations_have_two_steps_at_most() {
        let table = [
            (0, "0 ms"),
            (999, "999 ms"),
            (1000, "1 s"),
            (4260, "4.2 s"),
            (59_000, "59 s"),
            (60_000, "1 min"),
            (200_000, "3 min 20 s"),
            (7_500_000, "2 h 5 min"),
            (349_200_000, "4 d 1 h"),
        ];
        for (millis, text) in table {
            assert_eq!(duration(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn clocks_are_utc() {
        let time = Timestamp::parse("2026-11-22T14:03:22.512345Z").unwrap();
        assert_eq!(clock(time), "2026-11-22 14:03:22Z");
        assert_eq!(clock_ms(time), "2026-11-22 14:03:22.512Z");
        assert_eq!(ago(time, time.plus(Duration::from_secs(90))), "1 min 30 s ago");
        assert_eq!(ago(time.plus(Duration::from_secs(5)), time), "just now");
    }
}
