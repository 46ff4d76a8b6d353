//! Runs at a fixed distance, whatever clocks on walls do.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::ScheduleError;
use crate::excerpt::excerpt;
use crate::time::Timestamp;

/// Seconds of a unit, largest first.
const UNITS: [(char, u64); 5] = [('w', 604_800), ('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];

/// A leap year of 24-hour days: what is rarer than that is no interval, but a date.
const LONGEST_SECONDS: u64 = 366 * 86_400;

/// A distance in time, from one second to 366 days. Its days have 24 hours: what is to stay at a time of day needs `cron`.
///
/// Text: whole numbers with `w`, `d`, `h`, `m`, `s`, each unit once and the largest first.
///
/// ```
/// use tanist_model::schedule::Interval;
///
/// assert_eq!("1h30m".parse::<Interval>()?.seconds(), 5400);
/// assert_eq!("90m".parse::<Interval>()?.to_string(), "1h30m");
/// # Ok::<(), tanist_model::schedule::ScheduleError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(try_from = "Unchecked")]
pub struct Interval {
    seconds: u64,
}

#[derive(Deserialize)]
struct Unchecked {
    seconds: u64,
}

impl Interval {
    /// # Errors
    /// [`ScheduleError::IntervalLength`] unless it is 1 second to 366 days.
    pub fn from_seconds(seconds: u64) -> Result<Self, ScheduleError> {
        let fits = (1..=LONGEST_SECONDS).contains(&seconds);
        if fits { Ok(Self { seconds }) } else { Err(ScheduleError::IntervalLength(format!("{seconds}s"))) }
    }

    #[must_use]
    pub fn seconds(self) -> u64 {
        self.seconds
    }

    /// The first of `anchor`, `anchor + seconds`, `anchor + 2 * seconds`, ... that is later than `last`; `None` at the end of time.
    pub(super) fn next_after(self, last: Timestamp, anchor: Timestamp) -> Option<Timestamp> {
        let step_us = i128::from(self.seconds) * 1_000_000;
        let passed_us = i128::from(last.0) - i128::from(anchor.0);
        let steps = if passed_us < 0 { 0 } else { passed_us / step_us + 1 };
        i64::try_from(i128::from(anchor.0) + steps * step_us).ok().map(Timestamp)
    }
}

impl TryFrom<Unchecked> for Interval {
    type Error = ScheduleError;

    fn try_from(unchecked: Unchecked) -> Result<Self, ScheduleError> {
        Self::from_seconds(unchecked.seconds)
    }
}

impl FromStr for Interval {
    type Err = ScheduleError;

    fn from_str(text: &str) -> Result<Self, ScheduleError> {
        let bad = || ScheduleError::Interval(excerpt(text));
        let (mut rest, mut seconds) = (text, 0_u64);
        for (unit, unit_seconds) in UNITS {
            let Some((number, after)) = rest.split_once(unit) else { continue };
            let number = whole(number).ok_or_else(bad)?;
            let length = number.checked_mul(unit_seconds).and_then(|length| seconds.checked_add(length));
            seconds = length.ok_or_else(|| ScheduleError::IntervalLength(excerpt(text)))?;
            rest = after;
        }
        if text.is_empty() || !rest.is_empty() {
            return Err(bad());
        }
        Self::from_seconds(seconds).map_err(|_| ScheduleError::IntervalLength(excerpt(text)))
    }
}

/// Digits only: the standard parser would take a sign.
fn whole(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.seconds;
        let mut text = String::new();
        for (unit, unit_seconds) in UNITS {
            if rest >= unit_seconds {
                text.push_str(&format!("{}{unit}", rest / unit_seconds));
                rest %= unit_seconds;
            }
        }
        f.pad(&text)
    }
}

impl fmt::Debug for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts_are_read_as_people_write_them() {
        for (text, seconds) in
            [("1s", 1), ("15m", 900), ("1h30m", 5400), ("1w", 604_800), ("1d12h", 129_600), ("90m", 5400)]
        {
            assert_eq!(text.parse::<Interval>().unwrap().seconds(), seconds, "{text}");
        }
    }

    #[test]
    fn what_is_no_interval_is_refused_with_an_example() {
        for bad in ["", "15", "m", "1.5h", "30m1h", "1h1h", "+1h", "-1h", "1h 30m", "1y", "15min", "1M"] {
            let refused = bad.parse::<Interval>().unwrap_err();
            assert_eq!(refused, ScheduleError::Interval(bad.to_owned()));
            assert!(refused.to_string().contains("for example 1h30m"));
        }
    }

    #[test]
    fn intervals_have_a_shortest_and_a_longest() {
        for bad in ["0s", "367d", "99999999999999999w"] {
            assert_eq!(bad.parse::<Interval>().unwrap_err(), ScheduleError::IntervalLength(bad.to_owned()));
        }
        assert_eq!("366d".parse::<Interval>().unwrap().seconds(), LONGEST_SECONDS);
    }

    #[test]
    fn there_is_an_end_of_time() {
        let interval = Interval::from_seconds(1).unwrap();
        assert_eq!(interval.next_after(Timestamp(i64::MAX), Timestamp(0)), None);
        assert_eq!(interval.next_after(Timestamp(i64::MAX), Timestamp(i64::MIN)), None);
        assert_eq!(interval.next_after(Timestamp(i64::MIN), Timestamp(i64::MAX)), Some(Timestamp(i64::MAX)));
    }

    proptest! {
        #[test]
        fn text_is_read_back(seconds in 1..=LONGEST_SECONDS) {
            let interval = Interval::from_seconds(seconds).unwrap();
            prop_assert_eq!(interval.to_string().parse::<Interval>().unwrap(), interval);
        }

        #[test]
        fn due_times_are_the_multiples_after_the_anchor(
            seconds in 1..=LONGEST_SECONDS, last in -1_i64 << 50..1 << 50, anchor in -1_i64 << 50..1 << 50,
        ) {
            let step_us = i64::try_from(seconds).unwrap() * 1_000_000;
            let due = Interval::from_seconds(seconds).unwrap().next_after(Timestamp(last), Timestamp(anchor)).unwrap().0;
            prop_assert_eq!((due - anchor).rem_euclid(step_us), 0);
            prop_assert!(due > last && due >= anchor);
            prop_assert!(due == anchor || due - step_us <= last, "{} skips one", due);
        }
    }
}
