//! Time zones by the names of the IANA database.
//!
//! The database is the copy that is compiled in, never the host's: a decision reads no file, and servers with different
//! `tzdata` packages decide alike.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use jiff::tz::TimeZoneDatabase;
use serde::{Deserialize, Serialize};

use crate::excerpt::excerpt;
use crate::time::Timestamp;

static DATABASE: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// A text that names no time zone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is not a time zone: use a name of the IANA database, for example Europe/Berlin, America/New_York or UTC"
)]
pub struct UnknownTimeZone(String);

/// A time zone: which time of day people read at an instant. Text and JSON are its IANA name.
///
/// ```
/// use tanist_model::schedule::TimeZone;
///
/// assert_eq!("europe/berlin".parse::<TimeZone>()?.to_string(), "Europe/Berlin");
/// assert_eq!(TimeZone::default().to_string(), "UTC");
/// assert!("Berlin".parse::<TimeZone>().is_err());
/// # Ok::<(), tanist_model::schedule::UnknownTimeZone>(())
/// ```
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TimeZone(jiff::tz::TimeZone);

#[cfg(feature = "schema")]
impl utoipa::PartialSchema for TimeZone {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        String::schema()
    }
}

#[cfg(feature = "schema")]
impl utoipa::ToSchema for TimeZone {}

impl TimeZone {
    pub const UTC: Self = Self(jiff::tz::TimeZone::UTC);

    /// The IANA name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.iana_name().unwrap_or("UTC")
    }

    pub(super) fn rules(&self) -> &jiff::tz::TimeZone {
        &self.0
    }

    /// What the clocks of this zone show.
    pub(crate) fn zoned(&self, time: Timestamp) -> jiff::Zoned {
        instant(time).to_zoned(self.0.clone())
    }
}

/// Times outside the calendar (beyond the years -9999 to 9999) are taken for its ends: no number may cause a panic.
pub(super) fn instant(time: Timestamp) -> jiff::Timestamp {
    let end = if time.0 < 0 { jiff::Timestamp::MIN } else { jiff::Timestamp::MAX };
    jiff::Timestamp::from_microsecond(time.0).unwrap_or(end)
}

impl Default for TimeZone {
    fn default() -> Self {
        Self::UTC
    }
}

impl FromStr for TimeZone {
    type Err = UnknownTimeZone;

    fn from_str(text: &str) -> Result<Self, UnknownTimeZone> {
        let found = DATABASE.get(text).ok().filter(|zone| !zone.is_unknown());
        found.map(Self).ok_or_else(|| UnknownTimeZone(excerpt(text)))
    }
}

impl TryFrom<String> for TimeZone {
    type Error = UnknownTimeZone;

    fn try_from(text: String) -> Result<Self, UnknownTimeZone> {
        text.parse()
    }
}

impl From<TimeZone> for String {
    fn from(zone: TimeZone) -> Self {
        zone.name().to_owned()
    }
}

impl fmt::Display for TimeZone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Debug for TimeZone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_text_and_json() {
        for name in
            ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Argentina/Buenos_Aires"]
        {
            let zone: TimeZone = name.parse().unwrap();
            assert_eq!(zone.to_string(), name);
            let json = serde_json::to_string(&zone).unwrap();
            assert_eq!(serde_json::from_str::<TimeZone>(&json).unwrap(), zone);
        }
    }

    #[test]
    fn what_is_no_zone_is_refused_with_an_example() {
        for bad in ["", "Berlin", "Etc/Unknown", "+02:00", "../UTC", "Europe/Berlin ", "local"] {
            let refused = bad.parse::<TimeZone>().unwrap_err().to_string();
            assert!(refused.contains("Europe/Berlin, America/New_York"), "{bad}: {refused}");
        }
        assert!(serde_json::from_str::<TimeZone>("\"nowhere\"").is_err());
    }

    #[test]
    fn times_outside_the_calendar_are_its_ends() {
        for (time, end) in [(i64::MAX, jiff::Timestamp::MAX), (i64::MIN, jiff::Timestamp::MIN)] {
            assert_eq!(instant(Timestamp(time)), end);
        }
    }
}
