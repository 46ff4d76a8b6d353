//! Runs at times of day, as the clocks of a time zone show them.
//!
//! The library reads the expression and finds matching local times. Which real instants these are around a clock change is
//! decided here, because no run may be lost or doubled there (docs/decisions/0012).

use std::fmt;
use std::sync::Arc;

use croner::parser::{CronParser, Seconds, Year};
use jiff::Timestamp;
use jiff::civil::DateTime;
use serde::{Deserialize, Serialize};

use super::stretch::{SECOND, Stretch};
use super::{ScheduleError, TimeZone};
use crate::excerpt::excerpt;

/// The fields in order: their names, and what may stand in them.
const FIELDS: [(&str, &str); 5] = [
    ("minute", "0-59"),
    ("hour", "0-23"),
    ("day of month", "1-31, L for the last, 15W for the working day nearest to the 15th"),
    ("month", "1-12 or JAN-DEC"),
    ("day of week", "0-7 or SUN-SAT (0 and 7 are Sunday), FRI#2 for the second Friday, FRI#L for the last"),
];

/// Longer than any sensible expression: all 60 minutes, one by one, fit.
const LONGEST_FIELD_CHARS: usize = 200;

/// A cron expression and the time zone it is read in.
///
/// Five fields: minute, hour, day of month, month, day of week. Each takes `*`, values, ranges `1-5`, lists `1,15` and steps
/// `*/10` or `8-18/2`; months and days of week also their English names of three letters. If both day fields are
/// restricted, a day that matches either of them matches (as in Vixie's cron).
///
/// When clocks are changed:
/// - A local time that is skipped comes due once, at the moment the clocks are set forward. Several skipped times come due
///   together at that moment, as one.
/// - A local time that is repeated comes due the first time only.
/// - But an expression that names every hour (`*`, `0-23`) counts real hours. A time that is repeated comes due both times,
///   and one that is skipped comes due when it would have come had the clocks been let alone.
///
/// ```
/// use tanist_model::schedule::{Schedule, Cron};
/// use tanist_model::time::Timestamp;
///
/// let cron = Cron::new("30 2 * * *", "Europe/Berlin".parse()?)?;
/// let at = |text: &str| Timestamp::parse(text).unwrap();
/// // In the night to 29 March 2026, Berlin's clocks go from 02:00 to 03:00, which is 01:00 UTC: there is no 02:30.
/// let due = Schedule::Cron(cron).next_after(at("2026-03-28T12:00:00Z"), at("2026-01-01T00:00:00Z"));
/// assert_eq!(due, Some(at("2026-03-29T01:00:00Z")));
/// # Ok::<(), tanist_model::schedule::ScheduleError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked", into = "Unchecked")]
pub struct Cron {
    expression: String,
    time_zone: TimeZone,
    pattern: Arc<croner::Cron>,
    every_hour: bool,
}

/// What is written of it.
#[derive(Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
struct Unchecked {
    expression: String,
    time_zone: TimeZone,
}

#[cfg(feature = "schema")]
impl utoipa::PartialSchema for Cron {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        Unchecked::schema()
    }
}

#[cfg(feature = "schema")]
impl utoipa::ToSchema for Cron {}

impl Cron {
    /// # Errors
    /// [`ScheduleError`]: the number of fields, the field that is wrong and what may stand there, or that no day matches.
    pub fn new(expression: &str, time_zone: TimeZone) -> Result<Self, ScheduleError> {
        let fields: Vec<&str> = expression.split_whitespace().collect();
        if fields.len() != FIELDS.len() {
            return Err(ScheduleError::CronFields(fields.len()));
        }
        check_each(&fields)?;
        let expression = fields.join(" ");
        let never = || ScheduleError::NeverDue(excerpt(&expression));
        let pattern = parse(&expression).ok_or_else(never)?;
        let every_hour = pattern.pattern.hours.values().len() == 24;
        first_from(&pattern, DateTime::constant(2000, 1, 1, 0, 0, 0, 0)).ok_or_else(never)?;
        Ok(Self { expression, time_zone, pattern: Arc::new(pattern), every_hour })
    }

    /// The five fields, one space between them.
    #[must_use]
    pub fn expression(&self) -> &str {
        &self.expression
    }

    #[must_use]
    pub fn time_zone(&self) -> &TimeZone {
        &self.time_zone
    }

    /// The first due time from `from` on, which is a whole second.
    pub(super) fn first_from(&self, from: Timestamp) -> Option<Timestamp> {
        let mut from = from;
        loop {
            let stretch = Stretch::around(self.time_zone.rules(), from);
            let due = [self.skipped(&stretch, from), self.shown(&stretch, from)];
            match due.into_iter().flatten().min() {
                Some(due) => return Some(due),
                None => from = stretch.end?,
            }
        }
    }

    /// The first time of the stretch that its clocks show.
    fn shown(&self, stretch: &Stretch, from: Timestamp) -> Option<Timestamp> {
        let earliest = stretch.offset.to_datetime(from);
        let unseen = if self.every_hour { earliest } else { earliest.max(stretch.would_have_shown()) };
        let due = stretch.offset.to_timestamp(first_from(&self.pattern, unseen)?).ok()?;
        stretch.contains(due).then_some(due)
    }

    /// The first due time that stands for a local time skipped at the start of the stretch.
    fn skipped(&self, stretch: &Stretch, from: Timestamp) -> Option<Timestamp> {
        let gap_start = stretch.would_have_shown();
        let earliest = if self.every_hour { gap_start.max(stretch.before.to_datetime(from)) } else { gap_start };
        if earliest >= stretch.shows() {
            return None;
        }
        let missing = first_from(&self.pattern, earliest).filter(|missing| *missing < stretch.shows())?;
        let due = if self.every_hour { stretch.before.to_timestamp(missing).ok()? } else { stretch.start };
        (due >= from && stretch.contains(due)).then_some(due)
    }
}

/// The first local time from `from` on, a whole second, that the pattern matches.
fn first_from(pattern: &croner::Cron, from: DateTime) -> Option<DateTime> {
    pattern.find_next_occurrence(&from, true).ok()
}

fn parse(expression: &str) -> Option<croner::Cron> {
    let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
    parser.parse(expression).ok()
}

/// Tries each field alone: the library's own errors do not say in which it found something.
fn check_each(fields: &[&str]) -> Result<(), ScheduleError> {
    for (position, ((name, allowed), field)) in FIELDS.into_iter().zip(fields).enumerate() {
        if !is_field(position, field) {
            return Err(ScheduleError::CronField { name, field: excerpt(field), allowed });
        }
    }
    Ok(())
}

fn is_field(position: usize, field: &str) -> bool {
    let alone = FIELDS.iter().enumerate().map(|(place, _)| if place == position { field } else { "*" });
    let is_list = field.len() <= LONGEST_FIELD_CHARS && field.split(',').all(|item| !item.is_empty());
    is_list && parse(&alone.collect::<Vec<_>>().join(" ")).is_some()
}

/// The second after the one that holds `instant`: the earliest that can be later and due.
pub(super) fn second_after(instant: Timestamp) -> Option<Timestamp> {
    Timestamp::new(instant.as_nanosecond().div_euclid(1_000_000_000).try_into().ok()?, 0).ok()?.checked_add(SECOND).ok()
}

impl TryFrom<Unchecked> for Cron {
    type Error = ScheduleError;

    fn try_from(unchecked: Unchecked) -> Result<Self, ScheduleError> {
        Self::new(&unchecked.expression, unchecked.time_zone)
    }
}

impl From<Cron> for Unchecked {
    fn from(cron: Cron) -> Self {
        Self { expression: cron.expression, time_zone: cron.time_zone }
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{} {}", self.expression, self.time_zone))
    }
}

impl fmt::Debug for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
