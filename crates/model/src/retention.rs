//! Which recovery points are kept, and which may be removed.
//!
//! Grandfather, father, son: the newest points, and one for each of the latest hours, days, weeks and months that have any. What to
//! remove follows from the points that exist and the policy alone, never from the time it is asked: a replication that has
//! stood still for a year loses none of its points.

use std::collections::BTreeSet;
use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::excerpt::excerpt;
use crate::id::RunId;
use crate::schedule::TimeZone;
use crate::time::Timestamp;

#[cfg(test)]
mod tests;

/// Why a text is not a retention policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RetentionError {
    /// A part is not `WORD=NUMBER`.
    #[error(
        "'{0}' is not part of a retention: write last, hourly, daily, weekly and monthly, for example last=3,daily=7,weekly=4"
    )]
    Part(String),
    /// The number of a part cannot be read.
    #[error("'{0}' has no usable number: write how many recovery points to keep, from 0 to 4294967295")]
    Number(String),
    /// One word twice.
    #[error("'{0}' is given twice: name each of last, hourly, daily, weekly and monthly once")]
    Twice(String),
    /// `last=0`.
    #[error("last=0 would keep no recovery point at all: the newest is always kept, so last is at least 1")]
    None,
}

/// How many recovery points are kept. A point stays as long as one of the rules keeps it.
///
/// Text: `last=3,daily=7,weekly=4`; what is left out is zero, and `last` is one.
///
/// ```
/// use tanist_model::retention::Retention;
///
/// let retention: Retention = "daily=7,last=3".parse()?;
/// assert_eq!((retention.keep_last.get(), retention.daily, retention.monthly), (3, 7, 0));
/// assert_eq!(retention.to_string(), "last=3,daily=7");
/// assert_eq!(Retention::default().to_string(), "last=1");
/// # Ok::<(), tanist_model::retention::RetentionError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Retention {
    /// The newest points, whatever their times. At least one: the newest is never removed.
    #[cfg_attr(feature = "schema", schema(value_type = u32, minimum = 1))]
    pub keep_last: NonZeroU32,
    /// The newest point of each of so many latest hours that have one.
    pub hourly: u32,
    /// Of each of so many calendar days.
    pub daily: u32,
    /// Of each of so many weeks, Monday to Sunday.
    pub weekly: u32,
    /// Of each of so many calendar months.
    pub monthly: u32,
}

impl Default for Retention {
    fn default() -> Self {
        Self { keep_last: NonZeroU32::MIN, hourly: 0, daily: 0, weekly: 0, monthly: 0 }
    }
}

/// What retention has to know of a recovery point.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeptPoint {
    pub run: RunId,
    /// When the source looked like this.
    pub source_time: Timestamp,
    /// Kept by an operator's word until the operator takes it back.
    pub pinned: bool,
    /// The target's present content: the base of the next run.
    pub is_current: bool,
}

/// The recovery points that may be removed, the oldest first.
///
/// Never the current one, a pinned one, or the newest. Hours, days, weeks and months are those of `zone`; they are counted from the newest
/// that has a point, and those without one do not count. Pinned and current points take part in the count like any other.
///
/// ```
/// use tanist_model::id::RunId;
/// use tanist_model::retention::{KeptPoint, expired};
/// use tanist_model::schedule::TimeZone;
/// use tanist_model::time::Timestamp;
///
/// let point = |run, time| KeptPoint {
///     run: RunId(run), source_time: Timestamp::parse(time).unwrap(), pinned: false, is_current: false,
/// };
/// let points = [
///     point(1, "2026-11-20T20:00:00Z"), // the newest of the 20th
///     point(2, "2026-11-22T08:00:00Z"),
///     point(3, "2026-11-22T20:00:00Z"), // the newest of the 22nd, and of all
/// ];
/// assert_eq!(expired(&points, &"last=1,daily=2".parse()?, &TimeZone::UTC), [RunId(2)]);
/// # Ok::<(), tanist_model::retention::RetentionError>(())
/// ```
#[must_use]
pub fn expired(points: &[KeptPoint], policy: &Retention, zone: &TimeZone) -> Vec<RunId> {
    let mut newest_first: Vec<&KeptPoint> = points.iter().collect();
    newest_first.sort_by_key(|point| std::cmp::Reverse((point.source_time, point.run)));
    let mut rules = rules(policy);
    let mut expired = Vec::new();
    for point in newest_first {
        let local = zone.zoned(point.source_time);
        // Every rule has to see every point, so no short cut.
        let keeping = rules.iter_mut().map(|rule| rule.keeps(point.run, &local)).filter(|keeps| *keeps).count();
        if keeping == 0 && !point.pinned && !point.is_current {
            expired.push(point.run);
        }
    }
    expired.reverse();
    expired
}

/// The part of time that a point stands for, by numbers that are its own: a year and the number of a week in it, for example.
type Bucket = [i64; 3];

/// Keeps the first point it sees of each of so many buckets.
struct Rule {
    bucket: fn(RunId, &jiff::Zoned) -> Bucket,
    keep: u32,
    seen: BTreeSet<Bucket>,
}

impl Rule {
    fn keeps(&mut self, run: RunId, local: &jiff::Zoned) -> bool {
        let is_full = self.seen.len() >= usize::try_from(self.keep).unwrap_or(usize::MAX);
        !is_full && self.seen.insert((self.bucket)(run, local))
    }
}

fn rules(policy: &Retention) -> [Rule; 5] {
    let rule = |bucket, keep| Rule { bucket, keep, seen: BTreeSet::new() };
    [
        rule(itself, policy.keep_last.get()),
        rule(hour, policy.hourly),
        rule(day, policy.daily),
        rule(week, policy.weekly),
        rule(month, policy.monthly),
    ]
}

fn itself(run: RunId, _: &jiff::Zoned) -> Bucket {
    [i64::from_ne_bytes(run.0.to_ne_bytes()), 0, 0]
}

/// The offset tells the two hours apart that bear the same name when clocks are set back.
fn hour(run: RunId, local: &jiff::Zoned) -> Bucket {
    let [year, day, _] = day(run, local);
    [year, day * 24 + i64::from(local.hour()), i64::from(local.offset().seconds())]
}

fn day(_: RunId, local: &jiff::Zoned) -> Bucket {
    [i64::from(local.year()), i64::from(local.day_of_year()), 0]
}

fn week(_: RunId, local: &jiff::Zoned) -> Bucket {
    let week = local.date().iso_week_date();
    [i64::from(week.year()), i64::from(week.week()), 0]
}

fn month(_: RunId, local: &jiff::Zoned) -> Bucket {
    [i64::from(local.year()), i64::from(local.month()), 0]
}

impl FromStr for Retention {
    type Err = RetentionError;

    fn from_str(text: &str) -> Result<Self, RetentionError> {
        let mut retention = Self::default();
        let mut given = BTreeSet::new();
        for part in text.split(',').map(str::trim) {
            let (word, number) = part.split_once('=').ok_or_else(|| RetentionError::Part(excerpt(part)))?;
            if !given.insert(word) {
                return Err(RetentionError::Twice(excerpt(word)));
            }
            let number = number.parse().map_err(|_| RetentionError::Number(excerpt(part)));
            retention.set(word, number, part)?;
        }
        Ok(retention)
    }
}

impl Retention {
    /// The word is looked at before the number: whoever wrote `yearly=x` should hear of the word.
    fn set(&mut self, word: &str, number: Result<u32, RetentionError>, part: &str) -> Result<(), RetentionError> {
        match word {
            "last" => self.keep_last = NonZeroU32::new(number?).ok_or(RetentionError::None)?,
            "hourly" => self.hourly = number?,
            "daily" => self.daily = number?,
            "weekly" => self.weekly = number?,
            "monthly" => self.monthly = number?,
            _ => return Err(RetentionError::Part(excerpt(part))),
        }
        Ok(())
    }
}

impl fmt::Display for Retention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let buckets =
            [("hourly", self.hourly), ("daily", self.daily), ("weekly", self.weekly), ("monthly", self.monthly)];
        let mut text = format!("last={}", self.keep_last);
        for (word, number) in buckets.into_iter().filter(|(_, number)| *number > 0) {
            text.push_str(&format!(",{word}={number}"));
        }
        f.pad(&text)
    }
}
