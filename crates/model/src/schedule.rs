//! When runs come due: every so often, or at times of day in a time zone.
//!
//! Due times follow from the schedule alone. They are never counted on from the last run, so a server that was down, was
//! replaced or asks twice finds the same times, and no run is lost or doubled. Pure: the caller hands in the time.

mod backoff;
mod cron;
mod interval;
mod stretch;
mod zone;

#[cfg(test)]
mod clock_changes;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use self::backoff::Backoff;
pub use self::cron::Cron;
pub use self::interval::Interval;
pub use self::zone::{TimeZone, UnknownTimeZone};
use crate::excerpt::excerpt;
use crate::time::Timestamp;

/// Why a text is not a schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// It begins with neither `every` nor `cron`.
    #[error("'{0}' is not a schedule: write `every 15m`, or `cron 0 2 * * * Europe/Berlin` for 02:00 of each day")]
    Kind(String),
    /// The text of an interval cannot be read.
    #[error(
        "'{0}' is not an interval: write whole numbers with w, d, h, m or s, the largest unit first, for example 1h30m"
    )]
    Interval(String),
    /// The interval is too short or too long.
    #[error("an interval of {0} is not possible: give one from 1s to 366d")]
    IntervalLength(String),
    /// The number of fields is not five.
    #[error(
        "a cron expression has five fields (minute, hour, day of month, month, day of week; no seconds), then perhaps a \
         time zone; here are {0} fields"
    )]
    CronFields(usize),
    /// One field cannot be read.
    #[error(
        "'{field}' is not possible for the {name} of a cron expression: use {allowed}, or *, lists, ranges and steps of these"
    )]
    CronField {
        /// Which field.
        name: &'static str,
        /// What stands there.
        field: String,
        /// What may stand there.
        allowed: &'static str,
    },
    /// No day matches.
    #[error("the cron expression '{0}' never comes due: look at its day of month and month, no year has such a day")]
    NeverDue(String),
    /// The time zone is unknown.
    #[error(transparent)]
    TimeZone(#[from] UnknownTimeZone),
}

/// When runs come due.
///
/// Text: `every INTERVAL`, or `cron MINUTE HOUR DAY-OF-MONTH MONTH DAY-OF-WEEK [TIME-ZONE]`; the time zone is UTC if it is left out.
/// [`Interval`] and [`Cron`] say what may be written, and what happens when clocks are changed.
///
/// ```
/// use tanist_model::schedule::Schedule;
///
/// for text in ["every 1h30m", "cron 0 2 * * * Europe/Berlin", "cron */15 8-18 * * MON-FRI America/New_York"] {
///     assert_eq!(text.parse::<Schedule>()?.to_string(), text);
/// }
/// assert_eq!("cron 0 2 1 JAN *".parse::<Schedule>()?.to_string(), "cron 0 2 1 JAN * UTC");
/// # Ok::<(), tanist_model::schedule::ScheduleError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Schedule {
    /// At a fixed distance from each other.
    Interval(Interval),
    /// At times of day.
    Cron(Cron),
}

/// Due times that have passed and were not made: one run catches up on all of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Missed {
    /// The newest of them: the run to make now is this one's, and the next is looked for after it.
    pub due: Timestamp,
    /// How many there are, at least one; counted up to [`Missed::COUNT_LIMIT`].
    pub passed: u32,
}

/// So many of a year's due times show how dense a schedule is: hourly ones are 8,760.
const DUE_TIMES_LOOKED_AT: usize = 9_000;

impl Missed {
    /// A bound on the work of counting. Whoever is this far behind need not know how far exactly.
    pub const COUNT_LIMIT: u32 = 1000;
}

impl Schedule {
    /// The first due time later than `last`; `None` at the end of the calendar.
    ///
    /// `anchor` is the moment the schedule began, the same at every call: an interval counts from it (and it is the first due
    /// time itself), and nothing is due before it.
    ///
    /// ```
    /// # use tanist_model::{schedule::Schedule, time::Timestamp};
    /// let hourly: Schedule = "every 1h".parse()?;
    /// let at = |text: &str| Timestamp::parse(text).unwrap();
    /// let due = hourly.next_after(at("2026-11-22T13:49:00Z"), at("2026-11-01T00:20:00Z"));
    /// assert_eq!(due, Some(at("2026-11-22T14:20:00Z")));
    /// # Ok::<(), tanist_model::schedule::ScheduleError>(())
    /// ```
    #[must_use]
    pub fn next_after(&self, last: Timestamp, anchor: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Interval(interval) => interval.next_after(last, anchor),
            Self::Cron(cron) => {
                let later = last.max(Timestamp(anchor.0.saturating_sub(1)));
                let due = cron.first_from(cron::second_after(zone::instant(later))?)?;
                Some(Timestamp(due.as_microsecond()))
            }
        }
    }

    /// Whether two due times of a year lie closer to each other than this.
    #[must_use]
    pub fn is_denser_than(&self, seconds: u64) -> bool {
        match self {
            Self::Interval(interval) => interval.seconds() < seconds,
            Self::Cron(_) => {
                // A year of 2026, of every day and every change of the clocks; nothing is due more often than each minute of it.
                let (start, end) = (Timestamp(1_767_225_600_000_000), Timestamp(1_798_761_600_000_000));
                let next = |last: &Timestamp| self.next_after(*last, start).filter(|due| *due < end);
                let times: Vec<Timestamp> =
                    std::iter::successors(next(&start), next).take(DUE_TIMES_LOOKED_AT).collect();
                times.windows(2).any(|two| two[1].since(two[0]).as_secs() < seconds)
            }
        }
    }

    /// What came due after `last`, the due time of the latest run, up to and including `now`; `None` if nothing did.
    ///
    /// A server that was down for a night makes one run in the morning, not one for each due time it slept through: they
    /// would all copy the same source.
    ///
    /// ```
    /// # use tanist_model::{schedule::{Missed, Schedule}, time::Timestamp};
    /// let hourly: Schedule = "cron 0 * * * *".parse()?;
    /// let at = |text: &str| Timestamp::parse(text).unwrap();
    /// let anchor = at("2026-01-01T00:00:00Z");
    /// let missed = hourly.missed(at("2026-11-21T22:00:00Z"), anchor, at("2026-11-22T06:30:00Z"));
    /// assert_eq!(missed, Some(Missed { due: at("2026-11-22T06:00:00Z"), passed: 8 }));
    /// # Ok::<(), tanist_model::schedule::ScheduleError>(())
    /// ```
    #[must_use]
    pub fn missed(&self, last: Timestamp, anchor: Timestamp, now: Timestamp) -> Option<Missed> {
        let next = |time: Timestamp| self.next_after(time, anchor).filter(|due| *due <= now);
        let first = next(last)?;
        let counted = std::iter::successors(Some(first), |due| next(*due)).take(Missed::COUNT_LIMIT as usize);
        Some(Missed { due: newest(first, now, next), passed: u32::try_from(counted.count()).unwrap_or(u32::MAX) })
    }
}

/// The newest due time up to `now`, found by halving: there may be a great many. `first` is due; `next` finds the first
/// after a time, up to `now`.
fn newest(first: Timestamp, now: Timestamp, next: impl Fn(Timestamp) -> Option<Timestamp>) -> Timestamp {
    // Always: `due` is due, and nothing is due in (`end`, `now`].
    let (mut due, mut end) = (first, now);
    while due < end {
        let middle = Timestamp(due.0.saturating_add_unsigned(end.0.abs_diff(due.0) / 2));
        match next(middle) {
            Some(later) => due = later,
            None => end = middle,
        }
    }
    due
}

impl FromStr for Schedule {
    type Err = ScheduleError;

    fn from_str(text: &str) -> Result<Self, ScheduleError> {
        let words: Vec<&str> = text.split_whitespace().collect();
        match words.as_slice() {
            ["every", interval @ ..] => interval.concat().parse().map(Self::Interval),
            ["cron", words @ ..] => read_cron(words).map(Self::Cron),
            _ => Err(ScheduleError::Kind(excerpt(text))),
        }
    }
}

/// A last word that names a time zone is one, however many fields stand before it, so that what is missing is not said to be wrong.
fn read_cron(words: &[&str]) -> Result<Cron, ScheduleError> {
    let Some((last, fields)) = words.split_last() else { return Err(ScheduleError::CronFields(0)) };
    match last.parse::<TimeZone>() {
        Ok(zone) => Cron::new(&fields.join(" "), zone),
        Err(unknown) if fields.len() == 5 && is_word(last) => Err(unknown.into()),
        Err(_) => Cron::new(&words.join(" "), TimeZone::UTC),
    }
}

/// Six fields of which the last is no word begin with seconds rather than end with a time zone.
fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interval(interval) => f.pad(&format!("every {interval}")),
            Self::Cron(cron) => f.pad(&format!("cron {cron}")),
        }
    }
}
