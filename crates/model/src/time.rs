//! Time as data. The shells read clocks; decisions get the reading as an argument.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::excerpt::excerpt;

/// Wall-clock time in microseconds since the Unix epoch. For records and people; no decision of safety depends on it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(value_type = String))]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The time from `earlier` to `self`, zero if the clock went back.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }

    /// # Errors
    /// The parser's message if the text is not an RFC 3339 time.
    pub fn parse(text: &str) -> Result<Self, String> {
        text.parse::<jiff::Timestamp>().map(|t| Self(t.as_microsecond())).map_err(|e| excerpt(&e.to_string()))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(time) => f.pad(&format!("{time:.6}")),
            Err(_) => write!(f, "@{}us", self.0),
        }
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// A reading of a monotonic clock in microseconds. Comparable only within one process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug, Serialize, Deserialize)]
pub struct Monotonic(pub u64);

impl Monotonic {
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)))
    }
}

/// Both clocks, read together at the moment an input is handled.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Now {
    pub monotonic: Monotonic,
    pub wall: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_survive_json() {
        let time = Timestamp(1_795_342_800_123_456);
        let text = serde_json::to_string(&time).unwrap();
        assert!(text.ends_with(".123456Z\""), "{text}");
        assert_eq!(serde_json::from_str::<Timestamp>(&text).unwrap(), time);
    }
}
