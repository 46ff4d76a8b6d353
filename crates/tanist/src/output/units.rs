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

#[cfg(test)]
mod tests {
    use super::*;

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
